// Numbers of the types that device libraries take.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <library_types.h>
#include <cstddef>
#include <cstdint>
#include <vector>
#include "standin.h"

namespace standin {

inline size_t width(cudaDataType type) {
  switch (type) {
    case CUDA_R_8I:
    case CUDA_R_8U:
      return 1;
    case CUDA_R_16F:
    case CUDA_R_16BF:
      return 2;
    case CUDA_R_64F:
    case CUDA_R_64I:
    case CUDA_R_64U:
      return 8;
    default:
      return 4;
  }
}

// Calls `f` with a null pointer of the C++ type.
template <class F>
auto with_type(cudaDataType type, F f) {
  switch (type) {
    case CUDA_R_8I:
      return f((int8_t *)nullptr);
    case CUDA_R_8U:
      return f((uint8_t *)nullptr);
    case CUDA_R_16F:
      return f((__half *)nullptr);
    case CUDA_R_16BF:
      return f((__nv_bfloat16 *)nullptr);
    case CUDA_R_32F:
      return f((float *)nullptr);
    case CUDA_R_64F:
      return f((double *)nullptr);
    case CUDA_R_32I:
      return f((int32_t *)nullptr);
    case CUDA_R_32U:
      return f((uint32_t *)nullptr);
    case CUDA_R_64I:
      return f((int64_t *)nullptr);
    case CUDA_R_64U:
      return f((uint64_t *)nullptr);
    default:
      fail("numbers of type %d are not supported", (int)type);
  }
}

template <class To, class From>
To number(From from) {
  return (To)from;
}
template <> inline float number<float, __half>(__half from) { return __half2float(from); }
template <> inline double number<double, __half>(__half from) { return __half2float(from); }
template <> inline __half number<__half, float>(float from) { return __float2half(from); }
template <> inline __half number<__half, double>(double from) { return __double2half(from); }
template <> inline float number<float, __nv_bfloat16>(__nv_bfloat16 from) { return __bfloat162float(from); }
template <> inline double number<double, __nv_bfloat16>(__nv_bfloat16 from) { return __bfloat162float(from); }
template <> inline __nv_bfloat16 number<__nv_bfloat16, float>(float from) { return __float2bfloat16(from); }
template <> inline __nv_bfloat16 number<__nv_bfloat16, double>(double from) { return __double2bfloat16(from); }

// The scale factors of a library call.
inline double scale(const void *at, bool is_double) { return is_double ? *(const double *)at : *(const float *)at; }

}  // namespace standin
