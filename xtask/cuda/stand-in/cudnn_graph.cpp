// cuDNN's graph interface: descriptors with attributes, heuristics, plans. Its engines fuse a convolution in bf16 with
// the operations around it, for channels in multiples of 8.
#include "cudnn_graph.h"
#include <cstring>
#include "standin.h"

namespace standin {

using Name = cudnnBackendAttributeName_t;
using Kind = cudnnBackendDescriptorType_t;
using Type = cudnnBackendAttributeType_t;

// Attributes of one type and count that a descriptor has to have.
struct Required {
  Kind kind;
  Type type;
  int64_t count;  // 0 for any
  std::vector<Name> names;
};

static const Required REQUIRED[] = {
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_TYPE_DATA_TYPE, 1, {CUDNN_ATTR_TENSOR_DATA_TYPE}},
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_TYPE_INT64, 4,
     {CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_ATTR_TENSOR_STRIDES}},
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_TYPE_INT64, 1,
     {CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT}},
    {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_TYPE_DATA_TYPE, 1, {CUDNN_ATTR_CONVOLUTION_COMP_TYPE}},
    {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_TYPE_CONVOLUTION_MODE, 1, {CUDNN_ATTR_CONVOLUTION_CONV_MODE}},
    {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_TYPE_INT64, 1, {CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS}},
    {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_TYPE_INT64, 2,
     {CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES,
      CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS}},
    {CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_TYPE_POINTWISE_MODE, 1, {CUDNN_ATTR_POINTWISE_MODE}},
    {CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_TYPE_DATA_TYPE, 1, {CUDNN_ATTR_POINTWISE_MATH_PREC}},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
     {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y}},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
     {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY}},
    {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
     {CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_XDESC}},
    {CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR, CUDNN_TYPE_GENSTATS_MODE, 1, {CUDNN_ATTR_OPERATION_GENSTATS_MODE}},
    {CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR, CUDNN_TYPE_DATA_TYPE, 1,
     {CUDNN_ATTR_OPERATION_GENSTATS_MATH_PREC}},
    {CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
     {CUDNN_ATTR_OPERATION_GENSTATS_XDESC, CUDNN_ATTR_OPERATION_GENSTATS_SUMDESC,
      CUDNN_ATTR_OPERATION_GENSTATS_SQSUMDESC}},
    {CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, CUDNN_TYPE_HANDLE, 1, {CUDNN_ATTR_OPERATIONGRAPH_HANDLE}},
    {CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, {CUDNN_ATTR_OPERATIONGRAPH_OPS}},
    {CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, {CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH}},
    {CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_TYPE_HEUR_MODE, 1, {CUDNN_ATTR_ENGINEHEUR_MODE}},
    {CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, CUDNN_TYPE_HANDLE, 1, {CUDNN_ATTR_EXECUTION_PLAN_HANDLE}},
    {CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
     {CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG}},
    {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_TYPE_INT64, 0, {CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS}},
    {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_TYPE_VOID_PTR, 0, {CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS}},
    {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_TYPE_VOID_PTR, 1, {CUDNN_ATTR_VARIANT_PACK_WORKSPACE}},
};

// Bytes of a value, 0 for a type that nobody sets here.
static size_t width_of(Type type) {
  switch (type) {
    case CUDNN_TYPE_BOOLEAN:
    case CUDNN_TYPE_CHAR:
      return 1;
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
      return 8;
    default:
      return 4;
  }
}

int64_t id_of(const Descriptor &tensor) { return tensor.get<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID); }

bool is_virtual(const Descriptor &tensor) {
  return tensor.has(CUDNN_ATTR_TENSOR_IS_VIRTUAL) && tensor.get<bool>(CUDNN_ATTR_TENSOR_IS_VIRTUAL);
}

Tensor tensor_of(const Descriptor &descriptor) {
  Tensor tensor;
  tensor.type = descriptor.get<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE);
  for (int i = 0; i < 4; i++) {
    tensor.size[i] = descriptor.get<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS, i);
    tensor.stride[i] = descriptor.get<int64_t>(CUDNN_ATTR_TENSOR_STRIDES, i);
  }
  tensor.format = CUDNN_TENSOR_NHWC;
  return tensor;
}

Convolution convolution_of(const Descriptor &window) {
  auto pair = [&](Name name, int i) { return (int)window.get<int64_t>(name, i); };
  Convolution c;
  for (int i = 0; i < 2; i++) {
    c.pad[i] = pair(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, i);
    c.stride[i] = pair(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, i);
    c.dilation[i] = pair(CUDNN_ATTR_CONVOLUTION_DILATIONS, i);
  }
  c.groups = 1;
  c.math = CUDNN_TENSOR_OP_MATH;
  c.compute = window.get<cudnnDataType_t>(CUDNN_ATTR_CONVOLUTION_COMP_TYPE);
  return c;
}

static cudnnStatus_t refuse(const Descriptor &descriptor, const char *why) {
  complain("cudnnBackendFinalize of a descriptor of kind %d: %s", (int)descriptor.kind, why);
  return CUDNN_STATUS_BAD_PARAM;
}

// Why an attribute is not as a kind requires it; null if it is.
static const char *fault(const Descriptor &descriptor, const Required &required, Name name) {
  auto found = descriptor.attributes.find(name);
  if (found == descriptor.attributes.end()) {
    return "an attribute is missing";
  }
  const Attribute &attribute = found->second;
  bool fits = attribute.type == required.type && (!required.count || attribute.count == required.count);
  return fits ? nullptr : "an attribute has another type or count";
}

// Checks the attributes that a kind has to have, and that descriptors among them are final.
static cudnnStatus_t check(const Descriptor &descriptor) {
  for (const Required &required : REQUIRED) {
    for (Name name : required.names) {
      const char *why = required.kind == descriptor.kind ? fault(descriptor, required, name) : nullptr;
      if (why) {
        return refuse(descriptor, why);
      }
    }
  }
  for (const auto &[name, attribute] : descriptor.attributes) {
    for (int64_t i = 0; attribute.type == CUDNN_TYPE_BACKEND_DESCRIPTOR && i < attribute.count; i++) {
      if (!descriptor.at(name, i).finalized) {
        return refuse(descriptor, "a descriptor among its attributes is not final");
      }
    }
  }
  return CUDNN_STATUS_SUCCESS;
}

// Whether the engines take a tensor: its channels, and f32 only between operations or of channels alone.
static bool is_taken_tensor(const Descriptor &descriptor) {
  Tensor tensor = tensor_of(descriptor);
  bool of_channels = tensor.size[0] * tensor.size[2] * tensor.size[3] == 1;
  bool fits = tensor.type != CUDNN_DATA_FLOAT || of_channels || is_virtual(descriptor);
  return fits && tensor.size[1] % 8 == 0;
}

// Whether the engines take a graph; like cuDNN's, they take few.
static bool is_taken(const Descriptor &graph) {
  for (int64_t i = 0; i < graph.count(CUDNN_ATTR_OPERATIONGRAPH_OPS); i++) {
    const Descriptor &operation = graph.at(CUDNN_ATTR_OPERATIONGRAPH_OPS, i);
    for (const auto &[name, attribute] : operation.attributes) {
      bool is_tensor = attribute.type == CUDNN_TYPE_BACKEND_DESCRIPTOR &&
                       operation.at(name).kind == CUDNN_BACKEND_TENSOR_DESCRIPTOR;
      if (is_tensor && !is_taken_tensor(operation.at(name))) {
        return false;
      }
    }
  }
  return true;
}

// The first engine is faster but does not give the same bits every time.
constexpr int64_t ENGINES = 2;
constexpr size_t WORKSPACE = 4096;

static void put(Descriptor &descriptor, Name name, Type type, const void *value) {
  const char *from = (const char *)value;
  descriptor.attributes[name] = {type, 1, std::vector<char>(from, from + width_of(type))};
}

// Fills descriptors of configurations with the engines of a graph.
static int64_t give_configurations(const Descriptor &heuristics, int64_t wanted, Descriptor **configurations) {
  const Descriptor *graph = &heuristics.at(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
  if (!is_taken(*graph)) {
    return 0;
  }
  for (int64_t engine = 0; engine < ENGINES && engine < wanted; engine++) {
    Descriptor &configuration = *configurations[engine];
    put(configuration, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, &graph);
    put(configuration, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, &engine);
    configuration.finalized = true;
  }
  return ENGINES;
}

static cudnnStatus_t give(const Descriptor &descriptor, Name name, int64_t wanted, int64_t *given, void *at) {
  switch (name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS:
      *given = give_configurations(descriptor, wanted, (Descriptor **)at);
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINECFG_ENGINE:
      *given = 1;
      (*(Descriptor **)at)->attributes = descriptor.attributes;
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE:
      *given = descriptor.get<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX) == 0 ? 2 : 1;
      for (int64_t i = 0; i < *given && i < wanted; i++) {
        ((int *)at)[i] = i ? CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC : CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
      }
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
      *given = 1;
      *(int64_t *)at = WORKSPACE;
      return CUDNN_STATUS_SUCCESS;
    default:
      complain("cudnnBackendGetAttribute: attribute %d is not supported", (int)name);
      return CUDNN_STATUS_NOT_SUPPORTED;
  }
}

// The addresses in a variant pack, by the tensors' names.
static std::map<int64_t, void *> addresses_of(const Descriptor &pack) {
  std::map<int64_t, void *> addresses;
  for (int64_t i = 0; i < pack.count(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS); i++) {
    addresses[pack.get<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, i)] =
        pack.get<void *>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, i);
  }
  return addresses;
}

}  // namespace standin

using namespace standin;

extern "C" {

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t kind, cudnnBackendDescriptor_t *descriptor) {
  *descriptor = new Descriptor{kind, false, {}};
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  delete (Descriptor *)descriptor;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t at, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void *values) {
  Descriptor &descriptor = *(Descriptor *)at;
  if (descriptor.finalized) {
    return refuse(descriptor, "an attribute is set after the end");
  }
  const char *from = (const char *)values;
  descriptor.attributes[name] = {type, count, std::vector<char>(from, from + count * width_of(type))};
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t at, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t, int64_t wanted, int64_t *given, void *values) {
  return give(*(Descriptor *)at, name, wanted, given, values);
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t at) {
  Descriptor &descriptor = *(Descriptor *)at;
  cudnnStatus_t status = check(descriptor);
  descriptor.finalized = !status;
  return status;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan_at,
                                  cudnnBackendDescriptor_t pack_at) {
  const Descriptor &plan = *(Descriptor *)plan_at, &pack = *(Descriptor *)pack_at;
  void *workspace = pack.get<void *>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
  if (!plan.finalized || !pack.finalized || !is_live(workspace, WORKSPACE)) {
    complain("cudnnBackendExecute: a descriptor is not final, or the workspace is not live device memory");
    return CUDNN_STATUS_BAD_PARAM;
  }
  const Descriptor &configuration = plan.at(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
  const Descriptor &graph = configuration.at(CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
  return run_graph(graph, addresses_of(pack), ((Handle *)handle)->stream);
}

}
