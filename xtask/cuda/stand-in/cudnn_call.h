// A call of cuDNN's convolutions, with copies of its descriptors.
#pragma once
#include <cudnn.h>
#include "standin.h"

namespace standin {

// Sizes and distances of [N, C, H, W], of a filter [K, C, R, S].
struct Tensor {
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  long size[4] = {};
  long stride[4] = {};
  cudnnTensorFormat_t format = CUDNN_TENSOR_NCHW;  // as a filter was described

  size_t elements() const {
    size_t last = 0;
    for (int i = 0; i < 4; i++) {
      last += (size[i] - 1) * stride[i];
    }
    return last + 1;
  }
  bool has_channels_last() const { return stride[1] == 1; }
};

// What a cudnnHandle_t points to.
struct Handle {
  CUstream stream = nullptr;
};

struct Convolution {
  int pad[2], stride[2], dilation[2];
  int groups;
  cudnnMathType_t math;
  cudnnDataType_t compute;
};

// One call: its operands, of which one is written.
struct Call {
  enum Direction { FORWARD, DATA, FILTER } direction;
  Tensor x, w, y;
  Convolution convolution;
  const void *x_at, *w_at, *y_at;
  void *workspace;
  size_t given;
  int algorithm;
  double alpha, beta;
  CUstream stream;
};

// Every direction has algorithm 1, which wants a workspace that grows with the filter, and 0, which wants none.
constexpr int WITH_WORKSPACE = 1;
constexpr int WITHOUT_WORKSPACE = 0;
static_assert(CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM == WITH_WORKSPACE, "the numbers of algorithms");
static_assert(CUDNN_CONVOLUTION_BWD_DATA_ALGO_1 == WITH_WORKSPACE, "the numbers of algorithms");
static_assert(CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1 == WITH_WORKSPACE, "the numbers of algorithms");

size_t workspace_size(int algorithm, const Tensor &w);
// Describes a tensor or a filter in memory without gaps.
cudnnStatus_t lay_out(Tensor *tensor, cudnnTensorFormat_t format, cudnnDataType_t type, long n, long c, long h,
                      long w);
// Refuses descriptors that do not fit together.
cudnnStatus_t check(const char *function, const Tensor &x, const Tensor &w, const Tensor &y, const Convolution &c);
// Runs a call when its stream gets there.
cudnnStatus_t start(const Call &call);
// Overwrites a tensor, as the search for an algorithm does with its output.
void spoil(CUstream stream, const Tensor &tensor, void *at);

}  // namespace standin
