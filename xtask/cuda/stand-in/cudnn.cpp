// cuDNN's convolutions: descriptors, algorithms and the three directions. It refuses what cuDNN is known to refuse.
#include <cudnn.h>
#include "cudnn_call.h"
#include "numbers.h"

namespace {

using namespace standin;

cudnnStatus_t give_workspace(int algorithm, const Tensor &x, const Tensor &w, const Tensor &y, const Convolution &c,
                             size_t *size) {
  note("cudnnGetConvolutionWorkspaceSize");
  if (algorithm != WITH_WORKSPACE && algorithm != WITHOUT_WORKSPACE) {
    return CUDNN_STATUS_NOT_SUPPORTED;
  }
  *size = workspace_size(algorithm, w);
  return check("the size of a workspace", x, w, y, c);
}

// The algorithms, the fastest first; those without a workspace are not deterministic, except forward.
template <class Result>
cudnnStatus_t give_algorithms(const char *function, Call::Direction direction, const Tensor &x, const Tensor &w,
                              const Tensor &y, const Convolution &c, int wanted, int *given, Result *results) {
  note(function);
  *given = 0;
  if (wanted <= 0 || check(function, x, w, y, c)) {
    return CUDNN_STATUS_BAD_PARAM;
  }
  for (int algorithm : {WITH_WORKSPACE, WITHOUT_WORKSPACE}) {
    if (*given < wanted) {
      Result &result = results[(*given)++];
      result = Result{};
      result.algo = (decltype(result.algo))algorithm;
      result.status = CUDNN_STATUS_SUCCESS;
      result.time = 1.0f + *given;
      result.memory = workspace_size(algorithm, w);
      bool exact = direction == Call::FORWARD || algorithm == WITH_WORKSPACE;
      result.determinism = exact ? CUDNN_DETERMINISTIC : CUDNN_NON_DETERMINISTIC;
      result.mathType = c.math;
    }
  }
  return CUDNN_STATUS_SUCCESS;
}

double factor(const void *at, const Tensor &x) { return scale(at, x.type == CUDNN_DATA_DOUBLE); }

const Tensor &tensor(const void *descriptor) { return *(const Tensor *)descriptor; }
const Convolution &convolution(const void *descriptor) { return *(const Convolution *)descriptor; }

}  // namespace

extern "C" {

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle) {
  note("cudnnCreate");
  *handle = (cudnnHandle_t) new Handle;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
  delete (Handle *)handle;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  note("cudnnSetStream");
  ((Handle *)handle)->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}

const char *cudnnGetErrorString(cudnnStatus_t) { return "an error of the stand-in for cuDNN"; }
size_t cudnnGetVersion() { return 91900; }

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t *descriptor) {
  *descriptor = (cudnnTensorDescriptor_t) new Tensor;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t descriptor) {
  delete (Tensor *)descriptor;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t descriptor, cudnnTensorFormat_t format,
                                         cudnnDataType_t type, int n, int c, int h, int w) {
  return lay_out((Tensor *)descriptor, format, type, n, c, h, w);
}

cudnnStatus_t cudnnSetTensor4dDescriptorEx(cudnnTensorDescriptor_t descriptor, cudnnDataType_t type, int n, int c,
                                           int h, int w, int sn, int sc, int sh, int sw) {
  cudnnStatus_t status = lay_out((Tensor *)descriptor, CUDNN_TENSOR_NCHW, type, n, c, h, w);
  if (!status) {
    *(Tensor *)descriptor = {type, {n, c, h, w}, {sn, sc, sh, sw}, CUDNN_TENSOR_NCHW};
  }
  return status;
}

cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t *descriptor) {
  *descriptor = (cudnnFilterDescriptor_t) new Tensor;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t descriptor) {
  delete (Tensor *)descriptor;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t descriptor, cudnnDataType_t type,
                                         cudnnTensorFormat_t format, int k, int c, int h, int w) {
  return lay_out((Tensor *)descriptor, format, type, k, c, h, w);
}

cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t *descriptor) {
  *descriptor = (cudnnConvolutionDescriptor_t) new Convolution{};
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t descriptor) {
  delete (Convolution *)descriptor;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t descriptor, int pad_h, int pad_w,
                                              int stride_h, int stride_w, int dilation_h, int dilation_w,
                                              cudnnConvolutionMode_t mode, cudnnDataType_t compute) {
  if (mode != CUDNN_CROSS_CORRELATION) {
    complain("convolutions of mode %d are not supported", (int)mode);
    return CUDNN_STATUS_NOT_SUPPORTED;
  }
  if (pad_h < 0 || pad_w < 0 || stride_h <= 0 || stride_w <= 0 || dilation_h <= 0 || dilation_w <= 0) {
    complain("a convolution with a negative padding, or a stride or a dilation below 1");
    return CUDNN_STATUS_BAD_PARAM;
  }
  *(Convolution *)descriptor = {{pad_h, pad_w},           {stride_h, stride_w}, {dilation_h, dilation_w}, 1,
                                CUDNN_DEFAULT_MATH, compute};
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t descriptor, cudnnMathType_t math) {
  ((Convolution *)descriptor)->math = math;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t descriptor, int groups) {
  ((Convolution *)descriptor)->groups = groups;
  return groups > 0 ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
}

cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t, const cudnnTensorDescriptor_t x,
                                                     const cudnnFilterDescriptor_t w,
                                                     const cudnnConvolutionDescriptor_t c,
                                                     const cudnnTensorDescriptor_t y, const int wanted, int *given,
                                                     cudnnConvolutionFwdAlgoPerf_t *results) {
  return give_algorithms(__func__, Call::FORWARD, tensor(x), tensor(w), tensor(y), convolution(c), wanted, given,
                         results);
}

cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(cudnnHandle_t, const cudnnFilterDescriptor_t w,
                                                          const cudnnTensorDescriptor_t y,
                                                          const cudnnConvolutionDescriptor_t c,
                                                          const cudnnTensorDescriptor_t x, const int wanted,
                                                          int *given, cudnnConvolutionBwdDataAlgoPerf_t *results) {
  return give_algorithms(__func__, Call::DATA, tensor(x), tensor(w), tensor(y), convolution(c), wanted, given,
                         results);
}

cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(cudnnHandle_t, const cudnnTensorDescriptor_t x,
                                                            const cudnnTensorDescriptor_t y,
                                                            const cudnnConvolutionDescriptor_t c,
                                                            const cudnnFilterDescriptor_t w, const int wanted,
                                                            int *given,
                                                            cudnnConvolutionBwdFilterAlgoPerf_t *results) {
  return give_algorithms(__func__, Call::FILTER, tensor(x), tensor(w), tensor(y), convolution(c), wanted, given,
                         results);
}

cudnnStatus_t cudnnFindConvolutionForwardAlgorithmEx(
    cudnnHandle_t handle, const cudnnTensorDescriptor_t x, const void *, const cudnnFilterDescriptor_t w,
    const void *, const cudnnConvolutionDescriptor_t c, const cudnnTensorDescriptor_t y, void *y_at,
    const int wanted, int *given, cudnnConvolutionFwdAlgoPerf_t *results, void *, size_t) {
  spoil(((Handle *)handle)->stream, tensor(y), y_at);
  return give_algorithms(__func__, Call::FORWARD, tensor(x), tensor(w), tensor(y), convolution(c), wanted, given,
                         results);
}

cudnnStatus_t cudnnFindConvolutionBackwardDataAlgorithmEx(
    cudnnHandle_t handle, const cudnnFilterDescriptor_t w, const void *, const cudnnTensorDescriptor_t y,
    const void *, const cudnnConvolutionDescriptor_t c, const cudnnTensorDescriptor_t x, void *x_at,
    const int wanted, int *given, cudnnConvolutionBwdDataAlgoPerf_t *results, void *, size_t) {
  spoil(((Handle *)handle)->stream, tensor(x), x_at);
  return give_algorithms(__func__, Call::DATA, tensor(x), tensor(w), tensor(y), convolution(c), wanted, given,
                         results);
}

cudnnStatus_t cudnnFindConvolutionBackwardFilterAlgorithmEx(
    cudnnHandle_t handle, const cudnnTensorDescriptor_t x, const void *, const cudnnTensorDescriptor_t y,
    const void *, const cudnnConvolutionDescriptor_t c, const cudnnFilterDescriptor_t w, void *w_at,
    const int wanted, int *given, cudnnConvolutionBwdFilterAlgoPerf_t *results, void *, size_t) {
  spoil(((Handle *)handle)->stream, tensor(w), w_at);
  return give_algorithms(__func__, Call::FILTER, tensor(x), tensor(w), tensor(y), convolution(c), wanted, given,
                         results);
}

cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t, const cudnnTensorDescriptor_t x,
                                                      const cudnnFilterDescriptor_t w,
                                                      const cudnnConvolutionDescriptor_t c,
                                                      const cudnnTensorDescriptor_t y,
                                                      cudnnConvolutionFwdAlgo_t algorithm, size_t *size) {
  return give_workspace(algorithm, tensor(x), tensor(w), tensor(y), convolution(c), size);
}

cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(cudnnHandle_t, const cudnnFilterDescriptor_t w,
                                                           const cudnnTensorDescriptor_t y,
                                                           const cudnnConvolutionDescriptor_t c,
                                                           const cudnnTensorDescriptor_t x,
                                                           cudnnConvolutionBwdDataAlgo_t algorithm, size_t *size) {
  return give_workspace(algorithm, tensor(x), tensor(w), tensor(y), convolution(c), size);
}

cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(cudnnHandle_t, const cudnnTensorDescriptor_t x,
                                                             const cudnnTensorDescriptor_t y,
                                                             const cudnnConvolutionDescriptor_t c,
                                                             const cudnnFilterDescriptor_t w,
                                                             cudnnConvolutionBwdFilterAlgo_t algorithm,
                                                             size_t *size) {
  return give_workspace(algorithm, tensor(x), tensor(w), tensor(y), convolution(c), size);
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t handle, const void *alpha, const cudnnTensorDescriptor_t x,
                                      const void *x_at, const cudnnFilterDescriptor_t w, const void *w_at,
                                      const cudnnConvolutionDescriptor_t c, cudnnConvolutionFwdAlgo_t algorithm,
                                      void *workspace, size_t size, const void *beta,
                                      const cudnnTensorDescriptor_t y, void *y_at) {
  return start({Call::FORWARD, tensor(x), tensor(w), tensor(y), convolution(c), x_at, w_at, y_at, workspace, size,
                algorithm, factor(alpha, tensor(x)), factor(beta, tensor(x)), ((Handle *)handle)->stream});
}

cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t handle, const void *alpha, const cudnnFilterDescriptor_t w,
                                           const void *w_at, const cudnnTensorDescriptor_t y, const void *y_at,
                                           const cudnnConvolutionDescriptor_t c,
                                           cudnnConvolutionBwdDataAlgo_t algorithm, void *workspace, size_t size,
                                           const void *beta, const cudnnTensorDescriptor_t x, void *x_at) {
  return start({Call::DATA, tensor(x), tensor(w), tensor(y), convolution(c), x_at, w_at, y_at, workspace, size,
                algorithm, factor(alpha, tensor(x)), factor(beta, tensor(x)), ((Handle *)handle)->stream});
}

cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t handle, const void *alpha,
                                             const cudnnTensorDescriptor_t x, const void *x_at,
                                             const cudnnTensorDescriptor_t y, const void *y_at,
                                             const cudnnConvolutionDescriptor_t c,
                                             cudnnConvolutionBwdFilterAlgo_t algorithm, void *workspace, size_t size,
                                             const void *beta, const cudnnFilterDescriptor_t w, void *w_at) {
  return start({Call::FILTER, tensor(x), tensor(w), tensor(y), convolution(c), x_at, w_at, y_at, workspace, size,
                algorithm, factor(alpha, tensor(x)), factor(beta, tensor(x)), ((Handle *)handle)->stream});
}

}
