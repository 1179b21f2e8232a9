// Conversion of 8-bit pixels to normalized tensors.
#include "common.cuh"

struct Channels {
  float mean[3], std[3];
};

// (pixel/255 − mean)/std of pixels [count, 3], channels last, rounded as by separate operations.
template <class T>
__device__ void normalize_kernel(const u8 *pixels, T *values, u32 count, Channels channels) {
  for (u32 at = blockIdx.x * blockDim.x + threadIdx.x; at < count; at += gridDim.x * blockDim.x)
    for (int c = 0; c < 3; c++) {
      size_t place = (size_t)at * 3 + c;
      float share = __fdiv_rn((float)pixels[place], 255.0f);
      values[place] = narrow<T>(__fdiv_rn(__fsub_rn(share, channels.mean[c]), channels.std[c]));
    }
}
extern "C" __global__ void normalize_f32(const u8 *pixels, float *values, u32 count, Channels channels) {
  normalize_kernel(pixels, values, count, channels);
}
extern "C" __global__ void normalize_bf16(const u8 *pixels, bf16 *values, u32 count, Channels channels) {
  normalize_kernel(pixels, values, count, channels);
}
