// CUDA C++ for g++: what a .cu file needs to run on the CPU in the stand-in for CUDA. It is included before the file.
#pragma once
#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>
// The toolkit's types in their forms for the host.
#include <cuda_runtime_api.h>
#include <vector_functions.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda/std/limits>
#include "kernel.h"

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __forceinline__
#undef __noinline__
#undef __launch_bounds__
#define __global__
#define __device__
#define __host__
// A block runs on one thread of the system, so its shared memory is that thread's.
#define __shared__ thread_local
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __CUDA_ARCH__ 800
#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0
#define CUDART_INF_F INFINITY
#define CUDART_NAN_F NAN

#define threadIdx (cuda_cpu::now->thread)
#define blockIdx (cuda_cpu::now->block)
#define blockDim (cuda_cpu::now->block_dim)
#define gridDim (cuda_cpu::now->grid_dim)
#define warpSize 32

using std::isfinite;
using std::isinf;
using std::isnan;
using std::signbit;

// ---------------------------------------------------------------- barriers, shuffles and votes
inline void __syncthreads(int line = __builtin_LINE()) { cuda_cpu::block_barrier(line); }
inline void __syncwarp(unsigned mask = ~0u) { cuda_cpu::warp_barrier(mask); }
inline void __threadfence() {}
inline void __threadfence_block() {}

inline int __syncthreads_count(int mine, int line = __builtin_LINE()) { return cuda_cpu::block_count(mine, line); }
inline int __syncthreads_or(int mine, int line = __builtin_LINE()) { return cuda_cpu::block_count(mine, line) > 0; }
inline int __syncthreads_and(int mine, int line = __builtin_LINE()) { return !cuda_cpu::block_count(!mine, line); }

inline unsigned __ballot_sync(unsigned mask, int mine) { return cuda_cpu::vote(mask, mine); }
inline int __any_sync(unsigned mask, int mine) { return cuda_cpu::vote(mask, mine) != 0; }
inline int __all_sync(unsigned mask, int mine) { return cuda_cpu::vote(mask, !mine) == 0; }

template <class T>
T cuda_cpu_shuffle(unsigned mask, T mine, unsigned from) {
  T theirs;
  cuda_cpu::exchange(&mine, &theirs, sizeof(T), mask, from);
  return theirs;
}

template <class T>
T __shfl_sync(unsigned mask, T mine, int source, int width = 32) {
  unsigned lane = cuda_cpu::lane();
  return cuda_cpu_shuffle(mask, mine, lane / width * width + (unsigned)source % width);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T mine, int other, int width = 32) {
  unsigned lane = cuda_cpu::lane();
  unsigned from = lane ^ other;
  return cuda_cpu_shuffle(mask, mine, from / width > lane / width ? lane : from);
}

template <class T>
T __shfl_down_sync(unsigned mask, T mine, unsigned distance, int width = 32) {
  unsigned lane = cuda_cpu::lane();
  return cuda_cpu_shuffle(mask, mine, lane % width + distance < (unsigned)width ? lane + distance : lane);
}

template <class T>
T __shfl_up_sync(unsigned mask, T mine, unsigned distance, int width = 32) {
  unsigned lane = cuda_cpu::lane();
  return cuda_cpu_shuffle(mask, mine, lane % width >= distance ? lane - distance : lane);
}

// ---------------------------------------------------------------- atomics
template <size_t size> struct CudaCpuBits;
template <> struct CudaCpuBits<1> { using type = uint8_t; };
template <> struct CudaCpuBits<2> { using type = uint16_t; };
template <> struct CudaCpuBits<4> { using type = uint32_t; };
template <> struct CudaCpuBits<8> { using type = uint64_t; };

template <class To, class From>
To cuda_cpu_bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy((void *)&to, (const void *)&from, sizeof to);
  return to;
}

template <class T, class F>
T cuda_cpu_atomic(T *place, F next) {
  using Bits = typename CudaCpuBits<sizeof(T)>::type;
  Bits *bits = (Bits *)place;
  Bits old = __atomic_load_n(bits, __ATOMIC_RELAXED);
  Bits made;
  do {
    made = cuda_cpu_bits<Bits>(next(cuda_cpu_bits<T>(old)));
  } while (!__atomic_compare_exchange_n(bits, &old, made, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return cuda_cpu_bits<T>(old);
}

template <class T> using CudaCpuSame = std::common_type_t<T>;
template <class T> T atomicAdd(T *p, CudaCpuSame<T> v) {
  return cuda_cpu_atomic(p, [=](T old) { return (T)(old + v); });
}
template <class T> T atomicSub(T *p, CudaCpuSame<T> v) {
  return cuda_cpu_atomic(p, [=](T old) { return (T)(old - v); });
}
template <class T> T atomicMax(T *p, CudaCpuSame<T> v) {
  return cuda_cpu_atomic(p, [=](T old) { return old > v ? old : v; });
}
template <class T> T atomicMin(T *p, CudaCpuSame<T> v) {
  return cuda_cpu_atomic(p, [=](T old) { return old < v ? old : v; });
}
template <class T> T atomicOr(T *p, CudaCpuSame<T> v) {
  return cuda_cpu_atomic(p, [=](T old) { return (T)(old | v); });
}
template <class T> T atomicExch(T *p, CudaCpuSame<T> v) {
  return cuda_cpu_atomic(p, [=](T) { return v; });
}
template <class T> T atomicCAS(T *p, CudaCpuSame<T> expected, CudaCpuSame<T> v) {
  return cuda_cpu_atomic(p, [=](T old) { return old == expected ? v : old; });
}

// ---------------------------------------------------------------- memory, bits and arithmetic
template <class T> T __ldg(const T *p) { return *p; }
template <class T> T __ldcs(const T *p) { return *p; }
template <class T> T __ldcg(const T *p) { return *p; }
template <class T> void __stcs(T *p, T v) { *p = v; }
template <class T> void __stcg(T *p, T v) { *p = v; }

inline float __uint_as_float(unsigned v) { return cuda_cpu_bits<float>(v); }
inline unsigned __float_as_uint(float v) { return cuda_cpu_bits<unsigned>(v); }
inline float __int_as_float(int v) { return cuda_cpu_bits<float>(v); }
inline int __float_as_int(float v) { return cuda_cpu_bits<int>(v); }
inline double __longlong_as_double(long long v) { return cuda_cpu_bits<double>(v); }
inline long long __double_as_longlong(double v) { return cuda_cpu_bits<long long>(v); }
inline int __float2int_rn(float v) { return (int)lrintf(v); }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __clz(int v) { return v ? __builtin_clz(v) : 32; }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return 1.0f / sqrtf(x); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float normcdff(float x) { return 0.5f * erfcf(-x * 0.70710678118654752f); }
inline double normcdf(double x) { return 0.5 * erfc(-x * 0.70710678118654752); }

template <class A, class B>
constexpr auto min(A a, B b) -> std::common_type_t<A, B> {
  using T = std::common_type_t<A, B>;
  return (T)a < (T)b ? (T)a : (T)b;
}

template <class A, class B>
constexpr auto max(A a, B b) -> std::common_type_t<A, B> {
  using T = std::common_type_t<A, B>;
  return (T)a > (T)b ? (T)a : (T)b;
}

// Functions of 16-bit numbers that the toolkit has for devices only.
#define CUDA_CPU_HALF(name, function)                                                             \
  inline __half name(__half a) { return __float2half(function(__half2float(a))); }                \
  inline __nv_bfloat16 name(__nv_bfloat16 a) { return __float2bfloat16(function(__bfloat162float(a))); }
CUDA_CPU_HALF(hsqrt, sqrtf)
CUDA_CPU_HALF(hrsqrt, rsqrtf)
CUDA_CPU_HALF(hcos, cosf)
CUDA_CPU_HALF(hsin, sinf)
CUDA_CPU_HALF(hexp, expf)
CUDA_CPU_HALF(hlog, logf)
CUDA_CPU_HALF(hfloor, floorf)
CUDA_CPU_HALF(hceil, ceilf)
CUDA_CPU_HALF(hrint, rintf)
CUDA_CPU_HALF(htanh, tanhf)
