// Checks and computes calls of cuDNN's convolutions.
#include "cudnn_call.h"
#include <cstring>
#include "cudnn_tensor.h"

namespace standin {

static bool is_known(cudnnDataType_t type) {
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
  *tensor = {type, {n, c, h, w}, {c * h * w, last ? 1 : h * w, last ? w * c : w, last ? c : 1}, format};
  return CUDNN_STATUS_SUCCESS;
}

static const char *name(Call::Direction direction) {
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

static long output_size(const Tensor &x, const Tensor &w, const Convolution &c, int axis) {
  long extent = c.dilation[axis] * (w.size[2 + axis] - 1) + 1;
  long room = x.size[2 + axis] + 2 * c.pad[axis] - extent;
  return room < 0 ? 0 : room / c.stride[axis] + 1;
}

// Why cuDNN does not take the descriptors together; null if it does.
static const char *refusal(const Tensor &x, const Tensor &w, const Tensor &y, const Convolution &c) {
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
  bool last = x.has_channels_last() && y.has_channels_last();
  return last || w.format == CUDNN_TENSOR_NCHW ? nullptr : "only the filter has its channels last";
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

size_t workspace_size(int algorithm, const Tensor &w) {
  return algorithm == WITHOUT_WORKSPACE ? 0 : 4096 + w.elements() * sizeof(float);
}

template <class T>
static void compute(const Call &call) {
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

static bool is_live(const Call &call, size_t workspace) {
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

void spoil(CUstream stream, const Tensor &tensor, void *at) {
  size_t bytes = tensor.elements() * width(type_of(tensor.type));
  enqueue(stream, [=] { memset(at, 0xff, settings().null ? 0 : bytes); });
}

}  // namespace standin
