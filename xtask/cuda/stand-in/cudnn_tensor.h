// Numbers of cuDNN's tensors.
#pragma once
#include <type_traits>
#include "convolution.h"
#include "cudnn_call.h"
#include "numbers.h"

namespace standin {

inline cudaDataType type_of(cudnnDataType_t type) {
  switch (type) {
    case CUDNN_DATA_DOUBLE:
      return CUDA_R_64F;
    case CUDNN_DATA_HALF:
      return CUDA_R_16F;
    case CUDNN_DATA_BFLOAT16:
      return CUDA_R_16BF;
    default:
      return CUDA_R_32F;
  }
}

// Sizes of a convolution of tensors that fit together.
Geometry geometry(const Tensor &x, const Tensor &w, const Tensor &y, const Convolution &c);

inline bool is_live(const Tensor &tensor, const void *at) {
  return is_live(at, tensor.elements() * width(type_of(tensor.type)));
}

// Numbers of a tensor as `T`, in the order of `axes`, the last one innermost.
template <class T>
std::vector<T> packed(const Tensor &tensor, const void *at, const int (&axes)[4]) {
  std::vector<T> to;
  to.reserve(tensor.size[0] * tensor.size[1] * tensor.size[2] * tensor.size[3]);
  with_type(type_of(tensor.type), [&](auto *typed) {
    auto *from = (decltype(typed))at;
    const long *size = tensor.size;
    const long *stride = tensor.stride;
    for (long a = 0; a < size[axes[0]]; a++) {
      for (long b = 0; b < size[axes[1]]; b++) {
        for (long c = 0; c < size[axes[2]]; c++) {
          for (long d = 0; d < size[axes[3]]; d++) {
            long place = a * stride[axes[0]] + b * stride[axes[1]] + c * stride[axes[2]] + d * stride[axes[3]];
            to.push_back(number<T>(from[place]));
          }
        }
      }
    }
  });
  return to;
}

constexpr int CHANNELS_LAST[4] = {0, 2, 3, 1};
constexpr int FILTERS_LAST[4] = {2, 3, 1, 0};

// Writes alpha·sums + beta·old; without beta, nothing is read. Sums are in the order of channels last.
inline void write(const Tensor &tensor, void *at, const std::vector<double> &sums, double alpha, double beta) {
  with_type(type_of(tensor.type), [&](auto *typed) {
    using Number = std::remove_reference_t<decltype(*typed)>;
    auto *to = (Number *)at;
    const long *size = tensor.size;
    const long *stride = tensor.stride;
    size_t next = 0;
    for (long n = 0; n < size[0]; n++) {
      for (long h = 0; h < size[2]; h++) {
        for (long w = 0; w < size[3]; w++) {
          for (long c = 0; c < size[1]; c++) {
            Number &place = to[n * stride[0] + c * stride[1] + h * stride[2] + w * stride[3]];
            double old = beta == 0 ? 0 : beta * number<double>(place);
            place = number<Number>(alpha * sums[next++] + old);
          }
        }
      }
    }
  });
}

}  // namespace standin
