// Memory layouts of convolutions: weights with channels last, and unfolded windows for matrix products.
#include "common.cuh"

// Weights [out, a, b] → [out, b, a], converted: channels last for cuDNN and matrix products, and back for gradients.
template <class From, class To>
__device__ void transpose_kernel(const From *from, To *to, u32 out, u32 a, u32 b) {
  u32 total = out * a * b;
  for (u32 at = blockIdx.x * blockDim.x + threadIdx.x; at < total; at += gridDim.x * blockDim.x) {
    u32 of_a = at % a, of_b = at / a % b, of_out = at / (a * b);
    to[at] = narrow<To>(wide(from[(of_out * a + of_a) * b + of_b]));
  }
}
#define TRANSPOSE(name, From, To)                                                                           \
  extern "C" __global__ void transpose_##name(const From *from, To *to, u32 out, u32 a, u32 b) {            \
    transpose_kernel<From, To>(from, to, out, a, b);                                                        \
  }
TRANSPOSE(f32_f32, float, float)
TRANSPOSE(f32_bf16, float, bf16)
TRANSPOSE(bf16_f32, bf16, float)
TRANSPOSE(bf16_bf16, bf16, bf16)

// Sizes of a convolution of one group of channels over some images.
struct Shape {
  u32 images, channels, first_channel, group_channels, height, width, out_height, out_width, kernel_height,
      kernel_width, stride, padding;
};

// Windows of a group's channels: xs [images, height, width, channels] → columns [images·out_height·out_width,
// kernel_height·kernel_width·group_channels], with 0 outside of the image.
template <class T, int N>
__device__ void unfold_kernel(const T *xs, T *columns, Shape s) {
  u32 packs = s.group_channels / N, window = s.kernel_height * s.kernel_width;
  size_t total = (size_t)s.images * s.out_height * s.out_width * window * packs;
  size_t step = (size_t)gridDim.x * blockDim.x;
  for (size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x; at < total; at += step) {
    u32 channel = (u32)(at % packs) * N;
    size_t rest = at / packs;
    u32 tap = (u32)(rest % window), row = (u32)(rest / window);
    u32 column = row % s.out_width, line = row / s.out_width % s.out_height, image = row / (s.out_width * s.out_height);
    u32 y = line * s.stride + tap / s.kernel_width - s.padding, x = column * s.stride + tap % s.kernel_width - s.padding;
    Pack<T, N> value;
    if (y < s.height && x < s.width)
      value = load<T, N>(xs + (((size_t)image * s.height + y) * s.width + x) * s.channels + s.first_channel + channel);
    else
      for (int i = 0; i < N; i++) value.values[i] = narrow<T>(0);
    store<T, N>(columns + rest * s.group_channels + channel, value);
  }
}
#define UNFOLD(T) (const T *xs, T *columns, Shape s)
ENTRY_POINTS(unfold, UNFOLD, (xs, columns, s))

// Adjoint of `unfold`: each input's sum over the windows that contain it, in a fixed order; written to a group's
// channels of xs.
template <class T, int N>
__device__ void fold_kernel(const T *columns, T *xs, Shape s) {
  u32 packs = s.group_channels / N, window = s.kernel_height * s.kernel_width;
  size_t total = (size_t)s.images * s.height * s.width * packs, step = (size_t)gridDim.x * blockDim.x;
  for (size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x; at < total; at += step) {
    u32 channel = (u32)(at % packs) * N, place = (u32)(at / packs);
    u32 x = place % s.width, y = place / s.width % s.height, image = place / (s.width * s.height);
    float sum[N] = {};
#pragma unroll 1  // Unrolled, it spills registers.
    for (u32 ky = 0; ky < s.kernel_height; ky++) {
      u32 top = y + s.padding - ky, line = top / s.stride;
      if (y + s.padding < ky || top % s.stride || line >= s.out_height) continue;
#pragma unroll 1
      for (u32 kx = 0; kx < s.kernel_width; kx++) {
        u32 left = x + s.padding - kx, column = left / s.stride;
        if (x + s.padding < kx || left % s.stride || column >= s.out_width) continue;
        size_t row = ((size_t)image * s.out_height + line) * s.out_width + column;
        const T *from = columns + (row * window + ky * s.kernel_width + kx) * s.group_channels + channel;
        Pack<T, N> value = load<T, N>(from);
        for (int i = 0; i < N; i++) sum[i] += wide(value.values[i]);
      }
    }
    Pack<T, N> value;
    for (int i = 0; i < N; i++) value.values[i] = narrow<T>(sum[i]);
    store<T, N>(xs + (size_t)place * s.channels + s.first_channel + channel, value);
  }
}
#define FOLD(T) (const T *columns, T *xs, Shape s)
ENTRY_POINTS(fold, FOLD, (columns, xs, s))
