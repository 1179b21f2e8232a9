// cuDNN's convolutions: descriptors, algorithms, and the three directions. It refuses what cuDNN is known to refuse.
#include <cudnn.h>
#include <cstring>
#include "convolution.h"
#include "numbers.h"

namespace {

using namespace standin;

struct Handle {
  CUstream stream = nullptr;
};

// Sizes and distances of [N, C, H, W], of a filter [K, C, R, S].
struct Tensor {
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  long size[4] = {};
  long stride[4] = {};

  size_t elements() const {
    size_t last = 0;
    for (int i = 0; i < 4; i++) {
      last += (size[i] - 1) * stride[i];
    }
    return last + 1;
  }
  // Whether channels lie next to each other; both forms do if one of them has one size only.
  bool is_nhwc() const { return stride[1] == 1; }
  bool is_nchw() const { return stride[3] == 1 && (size[1] == 1 || stride[1] >= size[3]); }
};

struct Convolution {
  int pad[2], stride[2], dilation[2];
  int groups;
  cudnnMathType_t math;
  cudnnDataType_t compute;
};

cudaDataType type_of(cudnnDataType_t type) {
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

bool is_known(cudnnDataType_t type) {
  return type == CUDNN_DATA_FLOAT || type == CUDNN_DATA_DOUBLE || type == CUDNN_DATA_HALF ||
         type == CUDNN_DATA_BFLOAT16;
}

cudnnStatus_t lay_out(Tensor *tensor, cudnnTensorFormat_t format, cudnnDataType_t type, long n, long c, long h,
                      long w) {
  if (!is_known(type) || (format != CUDNN_TENSOR_NCHW && format != CUDNN_TENSOR_NHWC)) {
    return CUDNN_STATUS_NOT_SUPPORTED;
  }
  if (n <= 0 || c <= 0 || h <= 0 || w <= 0) {
    complain("a descriptor of a tensor of %ldx%ldx%ldx%ld", n, c, h, w);
    return CUDNN_STATUS_BAD_PARAM;
  }
  bool last = format == CUDNN_TENSOR_NHWC;
  *tensor = {type, {n, c, h, w}, {c * h * w, last ? 1 : h * w, last ? w * c : w, last ? c : 1}};
  return CUDNN_STATUS_SUCCESS;
}

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

const char *name(Call::Direction direction) {
  static const char *names[] = {"cudnnConvolutionForward", "cudnnConvolutionBackwardData",
                                "cudnnConvolutionBackwardFilter"};
  return names[direction];
}

Geometry geometry(const Tensor &x, const Tensor &w, const Tensor &y, const Convolution &c) {
  auto whole = [](long value) { return (int)value; };
  return {whole(x.size[0]),
          whole(x.size[1]),
          whole(y.size[1]),
          c.groups,
          whole(x.size[2]),
          whole(x.size[3]),
          whole(y.size[2]),
          whole(y.size[3]),
          {whole(w.size[2]), whole(w.size[3])},
          {c.pad[0], c.pad[1]},
          {c.stride[0], c.stride[1]},
          {c.dilation[0], c.dilation[1]}};
}

long output_size(const Tensor &x, const Tensor &w, const Convolution &c, int axis) {
  long extent = c.dilation[axis] * (w.size[2 + axis] - 1) + 1;
  long room = x.size[2 + axis] + 2 * c.pad[axis] - extent;
  return room < 0 ? 0 : room / c.stride[axis] + 1;
}

// Why cuDNN does not take the descriptors together; null if it does.
const char *refusal(const Tensor &x, const Tensor &w, const Tensor &y, const Convolution &c) {
  bool sizes = y.size[0] == x.size[0] && y.size[1] == w.size[0] && x.size[1] == w.size[1] * c.groups;
  bool places = y.size[2] == output_size(x, w, c, 0) && y.size[3] == output_size(x, w, c, 1);
  if (!sizes || !places || w.size[0] % c.groups) {
    return "shapes do not fit";
  }
  if (x.type != w.type || x.type != y.type) {
    return "types differ";
  }
  bool double_sums = c.compute == CUDNN_DATA_DOUBLE;
  bool half_sums = c.compute == CUDNN_DATA_HALF && x.type == CUDNN_DATA_HALF;
  if (double_sums != (x.type == CUDNN_DATA_DOUBLE) || (!double_sums && !half_sums && c.compute != CUDNN_DATA_FLOAT)) {
    return "the type of sums does not fit that of the numbers";
  }
  bool last = x.is_nhwc() && w.is_nhwc() && y.is_nhwc();
  bool first = x.is_nchw() && w.is_nchw() && y.is_nchw();
  return last || first ? nullptr : "operands are laid out differently";
}

cudnnStatus_t check(const char *function, const Tensor &x, const Tensor &w, const Tensor &y, const Convolution &c) {
  const char *why = refusal(x, w, y, c);
  if (!why) {
    return CUDNN_STATUS_SUCCESS;
  }
  complain("%s: %s: %ldx%ldx%ldx%ld by %ldx%ldx%ldx%ld to %ldx%ldx%ldx%ld, %d groups", function, why, x.size[0],
           x.size[1], x.size[2], x.size[3], w.size[0], w.size[1], w.size[2], w.size[3], y.size[0], y.size[1],
           y.size[2], y.size[3], c.groups);
  return CUDNN_STATUS_BAD_PARAM;
}

// Every direction has algorithm 1, which wants a workspace that grows with the filter, and 0, which wants none.
constexpr int WITH_WORKSPACE = 1;
constexpr int WITHOUT_WORKSPACE = 0;
static_assert(CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM == WITH_WORKSPACE, "the numbers of algorithms");
static_assert(CUDNN_CONVOLUTION_BWD_DATA_ALGO_1 == WITH_WORKSPACE, "the numbers of algorithms");
static_assert(CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1 == WITH_WORKSPACE, "the numbers of algorithms");

size_t workspace_size(int algorithm, const Tensor &w) {
  return algorithm == WITHOUT_WORKSPACE ? 0 : 4096 + w.elements() * sizeof(float);
}

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
void write(const Tensor &tensor, void *at, const std::vector<double> &sums, double alpha, double beta) {
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

template <class T>
void compute(const Call &call) {
  Geometry g = geometry(call.x, call.w, call.y, call.convolution);
  const Tensor &to = call.direction == Call::FORWARD ? call.y : call.direction == Call::DATA ? call.x : call.w;
  const void *at = call.direction == Call::FORWARD ? call.y_at : call.direction == Call::DATA ? call.x_at : call.w_at;
  std::vector<double> sums(to.size[0] * to.size[1] * to.size[2] * to.size[3], 0.0);
  if (call.direction == Call::FORWARD) {
    auto x = packed<T>(call.x, call.x_at, CHANNELS_LAST);
    forward(g, x, packed<T>(call.w, call.w_at, FILTERS_LAST), sums);
  } else if (call.direction == Call::DATA) {
    auto dy = packed<T>(call.y, call.y_at, CHANNELS_LAST);
    backward_data(g, dy, packed<T>(call.w, call.w_at, CHANNELS_LAST), sums);
  } else {
    auto x = packed<T>(call.x, call.x_at, CHANNELS_LAST);
    backward_filter(g, x, packed<T>(call.y, call.y_at, CHANNELS_LAST), sums);
  }
  write(to, (void *)at, sums, call.alpha, call.beta);
}

bool is_live(const Tensor &tensor, const void *at) {
  return standin::is_live(at, tensor.elements() * width(type_of(tensor.type)));
}

bool is_live(const Call &call, size_t workspace) {
  return is_live(call.x, call.x_at) && is_live(call.w, call.w_at) && is_live(call.y, call.y_at) &&
         (!workspace || standin::is_live(call.workspace, workspace));
}

cudnnStatus_t start(const Call &call) {
  const char *function = name(call.direction);
  note(function, "%ldx%ldx%ldx%ld, type %d", call.x.size[0], call.x.size[1], call.x.size[2], call.x.size[3],
       (int)call.x.type);
  if (cudnnStatus_t refused = check(function, call.x, call.w, call.y, call.convolution)) {
    return refused;
  }
  if (call.algorithm != WITH_WORKSPACE && call.algorithm != WITHOUT_WORKSPACE) {
    complain("%s: algorithm %d is not supported", function, call.algorithm);
    return CUDNN_STATUS_NOT_SUPPORTED;
  }
  size_t needed = workspace_size(call.algorithm, call.w);
  if (call.given < needed || !is_live(call, needed)) {
    complain("%s: the workspace has %zu bytes and needs %zu, or an operand is not live device memory", function,
             call.given, needed);
    return CUDNN_STATUS_BAD_PARAM;
  }
  Geometry g = geometry(call.x, call.w, call.y, call.convolution);
  add_to(std::string("flops:") + function, g.flops());
  if (settings().null) {
    return CUDNN_STATUS_SUCCESS;
  }
  enqueue(call.stream, [call, needed, function] {
    if (!is_live(call, needed)) {
      fail("%s: its memory was freed before its stream got there", function);
    }
    if (needed) {
      memset(call.workspace, 0xff, needed);
    }
    call.x.type == CUDNN_DATA_DOUBLE ? compute<double>(call) : compute<float>(call);
  });
  return CUDNN_STATUS_SUCCESS;
}

double factor(const void *at, const Tensor &x) { return scale(at, x.type == CUDNN_DATA_DOUBLE); }

// The search for an algorithm overwrites its output and its workspace.
void spoil(cudnnHandle_t handle, const Tensor &tensor, void *at) {
  size_t bytes = tensor.elements() * width(type_of(tensor.type));
  enqueue(((Handle *)handle)->stream, [=] { memset(at, 0xff, settings().null ? 0 : bytes); });
}

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
    *(Tensor *)descriptor = {type, {n, c, h, w}, {sn, sc, sh, sw}};
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
  spoil(handle, tensor(y), y_at);
  return give_algorithms(__func__, Call::FORWARD, tensor(x), tensor(w), tensor(y), convolution(c), wanted, given,
                         results);
}

cudnnStatus_t cudnnFindConvolutionBackwardDataAlgorithmEx(
    cudnnHandle_t handle, const cudnnFilterDescriptor_t w, const void *, const cudnnTensorDescriptor_t y,
    const void *, const cudnnConvolutionDescriptor_t c, const cudnnTensorDescriptor_t x, void *x_at,
    const int wanted, int *given, cudnnConvolutionBwdDataAlgoPerf_t *results, void *, size_t) {
  spoil(handle, tensor(x), x_at);
  return give_algorithms(__func__, Call::DATA, tensor(x), tensor(w), tensor(y), convolution(c), wanted, given,
                         results);
}

cudnnStatus_t cudnnFindConvolutionBackwardFilterAlgorithmEx(
    cudnnHandle_t handle, const cudnnTensorDescriptor_t x, const void *, const cudnnTensorDescriptor_t y,
    const void *, const cudnnConvolutionDescriptor_t c, const cudnnFilterDescriptor_t w, void *w_at,
    const int wanted, int *given, cudnnConvolutionBwdFilterAlgoPerf_t *results, void *, size_t) {
  spoil(handle, tensor(w), w_at);
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
