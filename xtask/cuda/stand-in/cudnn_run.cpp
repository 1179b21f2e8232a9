// Computes cuDNN's graphs, one operation after the other, in f32; tensors between operations are rounded to their type.
#include <cstring>
#include "cudnn_graph.h"
#include "cudnn_tensor.h"
#include "standin.h"

namespace standin {

using Name = cudnnBackendAttributeName_t;
using Numbers = std::vector<float>;

// A tensor of a graph with its address, if it is in memory.
struct Place {
  int64_t id;
  Tensor tensor;
  void *at;
};

// An operation: its kind or pointwise mode, the convolution, and its tensors in the order of `names`.
struct Step {
  cudnnBackendDescriptorType_t kind;
  int mode = 0;
  Convolution convolution = {};
  std::vector<Place> inputs, outputs;
};

struct Names {
  std::vector<Name> inputs, outputs;
};

static Names names_of(const Descriptor &operation) {
  switch (operation.kind) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
      return {{CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W},
              {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y}};
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
      return {{CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W},
              {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX}};
    case CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR:
      return {{CUDNN_ATTR_OPERATION_GENSTATS_XDESC},
              {CUDNN_ATTR_OPERATION_GENSTATS_SUMDESC, CUDNN_ATTR_OPERATION_GENSTATS_SQSUMDESC}};
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
      if (operation.has(CUDNN_ATTR_OPERATION_POINTWISE_DXDESC)) {
        return {{CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_ATTR_OPERATION_POINTWISE_DYDESC},
                {CUDNN_ATTR_OPERATION_POINTWISE_DXDESC}};
      }
      if (operation.has(CUDNN_ATTR_OPERATION_POINTWISE_BDESC)) {
        return {{CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_ATTR_OPERATION_POINTWISE_BDESC},
                {CUDNN_ATTR_OPERATION_POINTWISE_YDESC}};
      }
      return {{CUDNN_ATTR_OPERATION_POINTWISE_XDESC}, {CUDNN_ATTR_OPERATION_POINTWISE_YDESC}};
    default:
      fail("operations of kind %d are not supported", (int)operation.kind);
  }
}

static Step step_of(const Descriptor &operation, const std::map<int64_t, void *> &addresses) {
  Step step{operation.kind};
  auto place = [&](Name name) {
    const Descriptor &tensor = operation.at(name);
    auto found = addresses.find(id_of(tensor));
    void *at = found == addresses.end() || is_virtual(tensor) ? nullptr : found->second;
    if (!is_virtual(tensor) && (!at || !is_live(tensor_of(tensor), at))) {
      fail("cudnnBackendExecute: tensor %ld has no live device memory of its size", (long)id_of(tensor));
    }
    if ((size_t)at % tensor.get<int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT)) {
      fail("cudnnBackendExecute: tensor %ld is not aligned as described", (long)id_of(tensor));
    }
    return Place{id_of(tensor), tensor_of(tensor), at};
  };
  Names names = names_of(operation);
  for (Name name : names.inputs) {
    step.inputs.push_back(place(name));
  }
  for (Name name : names.outputs) {
    step.outputs.push_back(place(name));
  }
  if (operation.kind == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR) {
    step.mode = operation.at(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR)
                    .get<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE);
  }
  for (Name name :
       {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC}) {
    if (operation.has(name)) {
      step.convolution = convolution_of(operation.at(name));
    }
  }
  return step;
}

// The numbers of all tensors so far, with channels last.
using Values = std::map<int64_t, Numbers>;

static const Numbers &value(const Place &place, Values &values) {
  auto found = values.find(place.id);
  if (found == values.end()) {
    if (!place.at) {
      fail("cudnnBackendExecute: tensor %ld is read before it is computed", (long)place.id);
    }
    found = values.emplace(place.id, packed<float>(place.tensor, place.at, CHANNELS_LAST)).first;
  }
  return found->second;
}

// Keeps the numbers of a tensor, rounded to its type, in memory too if it has any.
static void keep(const Place &place, const std::vector<double> &numbers, Values &values) {
  Numbers rounded(numbers.size());
  with_type(type_of(place.tensor.type), [&](auto *typed) {
    using Number = std::remove_reference_t<decltype(*typed)>;
    for (size_t i = 0; i < numbers.size(); i++) {
      rounded[i] = number<float>(number<Number>(numbers[i]));
    }
  });
  values[place.id] = rounded;
  if (place.at) {
    write(place.tensor, place.at, numbers, 1, 0);
  }
}

static double pointwise(int mode, double a, double b) {
  switch (mode) {
    case CUDNN_POINTWISE_MUL:
      return a * b;
    case CUDNN_POINTWISE_ADD:
      return a + b;
    case CUDNN_POINTWISE_RELU_FWD:
      return a > 0 ? a : 0;
    case CUDNN_POINTWISE_RELU_BWD:
      return a > 0 ? b : 0;
    default:
      fail("pointwise operations of mode %d are not supported", mode);
  }
}

static void run(const Step &step, Values &values) {
  const Place &to = step.outputs[0];
  long channels = to.tensor.size[1];
  std::vector<double> result(to.tensor.size[0] * channels * to.tensor.size[2] * to.tensor.size[3], 0.0);
  const Numbers &x = value(step.inputs[0], values);
  switch (step.kind) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR: {
      const Place &w = step.inputs[1];
      Geometry g = geometry(step.inputs[0].tensor, w.tensor, to.tensor, step.convolution);
      forward(g, x, packed<float>(w.tensor, w.at, FILTERS_LAST), result);
      break;
    }
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR: {
      const Place &w = step.inputs[1];
      Geometry g = geometry(to.tensor, w.tensor, step.inputs[0].tensor, step.convolution);
      backward_data(g, x, packed<float>(w.tensor, w.at, CHANNELS_LAST), result);
      break;
    }
    case CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR: {
      std::vector<double> squares(result);
      for (size_t i = 0; i < x.size(); i++) {
        result[i % channels] += x[i];
        squares[i % channels] += (double)x[i] * x[i];
      }
      keep(step.outputs[1], squares, values);
      break;
    }
    default: {
      const Numbers *b = step.inputs.size() > 1 ? &value(step.inputs[1], values) : nullptr;
      for (size_t i = 0; i < x.size(); i++) {
        result[i] = pointwise(step.mode, x[i], b ? (*b)[b->size() == x.size() ? i : i % channels] : 0);
      }
    }
  }
  keep(to, result, values);
}

cudnnStatus_t run_graph(const Descriptor &graph, const std::map<int64_t, void *> &addresses, CUstream stream) {
  note("cudnnBackendExecute");
  std::vector<Step> steps;
  for (int64_t i = 0; i < graph.count(CUDNN_ATTR_OPERATIONGRAPH_OPS); i++) {
    steps.push_back(step_of(graph.at(CUDNN_ATTR_OPERATIONGRAPH_OPS, i), addresses));
    const Step &step = steps.back();
    const Tensor &first = step.inputs[0].tensor, &to = step.outputs[0].tensor;
    if (step.kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR) {
      add_to("flops:cudnnConvolutionForward", geometry(first, step.inputs[1].tensor, to, step.convolution).flops());
    } else if (step.kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR) {
      add_to("flops:cudnnConvolutionBackwardData",
             geometry(to, step.inputs[1].tensor, first, step.convolution).flops());
    }
  }
  if (settings().null) {
    return CUDNN_STATUS_SUCCESS;
  }
  enqueue(stream, [steps] {
    Values values;
    for (const Step &step : steps) {
      for (const std::vector<Place> *places : {&step.inputs, &step.outputs}) {
        for (const Place &place : *places) {
          if (place.at && !is_live(place.tensor, place.at)) {
            fail("cudnnBackendExecute: its memory was freed before its stream got there");
          }
        }
      }
      run(step, values);
    }
  });
  return CUDNN_STATUS_SUCCESS;
}

}  // namespace standin
