// Types and helpers that all kernels share.
#pragma once
#include <cuda_bf16.h>

typedef unsigned char u8;
typedef unsigned int u32;
typedef __nv_bfloat16 bf16;

// N consecutive values, loaded and stored at once.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T values[N];
};

template <class T, int N>
__device__ __forceinline__ Pack<T, N> load(const T *from) {
  return *reinterpret_cast<const Pack<T, N> *>(from);
}

template <class T, int N>
__device__ __forceinline__ void store(T *to, const Pack<T, N> &pack) {
  *reinterpret_cast<Pack<T, N> *>(to) = pack;
}

__device__ __forceinline__ float wide(float value) { return value; }
__device__ __forceinline__ float wide(bf16 value) { return __bfloat162float(value); }

template <class T>
__device__ __forceinline__ T narrow(float value);
template <>
__device__ __forceinline__ float narrow<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ bf16 narrow<bf16>(float value) {
  return __float2bfloat16(value);
}

// The rows and the first channel of a thread. Blocks are (channels / N, rows); a grid covers all channels and strides
// over the rows.
template <int N>
struct Tile {
  u32 channel, row, step;
  __device__ Tile()
      : channel((blockIdx.x * blockDim.x + threadIdx.x) * N),
        row(blockIdx.y * blockDim.y + threadIdx.y),
        step(gridDim.y * blockDim.y) {}
};

// Sum over the threads of a block of at most 1024, in an order that depends on the block's size alone; valid in all
// threads.
template <class T>
__device__ T block_sum(T value) {
  __shared__ T values[1024];
  u32 at = threadIdx.y * blockDim.x + threadIdx.x, count = blockDim.x * blockDim.y;
  __syncthreads();
  values[at] = value;
  __syncthreads();
  for (u32 half = count / 2; half; half /= 2) {
    if (at < half) values[at] += values[at + half];
    __syncthreads();
  }
  return values[0];
}

// Maximum over the threads of a block of at most 1024; valid in all threads.
__device__ inline float block_max(float value) {
  __shared__ float values[1024];
  u32 at = threadIdx.x, count = blockDim.x;
  __syncthreads();
  values[at] = value;
  __syncthreads();
  for (u32 half = count / 2; half; half /= 2) {
    if (at < half) values[at] = fmaxf(values[at], values[at + half]);
    __syncthreads();
  }
  return values[0];
}

// Entry points of a kernel for f32 and bf16, value by value and in packs of 16 bytes (suffix `_wide`).
#define ENTRY_POINTS(name, parameters_of, arguments)                                      \
  extern "C" __global__ void __launch_bounds__(256) name##_f32 parameters_of(float) {     \
    name##_kernel<float, 1> arguments;                                                    \
  }                                                                                       \
  extern "C" __global__ void __launch_bounds__(256) name##_f32_wide parameters_of(float) { \
    name##_kernel<float, 4> arguments;                                                    \
  }                                                                                       \
  extern "C" __global__ void __launch_bounds__(256) name##_bf16 parameters_of(bf16) {     \
    name##_kernel<bf16, 1> arguments;                                                     \
  }                                                                                       \
  extern "C" __global__ void __launch_bounds__(256) name##_bf16_wide parameters_of(bf16) { \
    name##_kernel<bf16, 8> arguments;                                                     \
  }
