// Descriptors of cuDNN's graph interface.
#pragma once
#include <map>
#include <vector>
#include "cudnn_call.h"

namespace standin {

struct Attribute {
  cudnnBackendAttributeType_t type;
  int64_t count;
  std::vector<char> bytes;
};

struct Descriptor {
  cudnnBackendDescriptorType_t kind;
  bool finalized = false;
  std::map<cudnnBackendAttributeName_t, Attribute> attributes;

  bool has(cudnnBackendAttributeName_t name) const { return attributes.count(name); }
  int64_t count(cudnnBackendAttributeName_t name) const { return has(name) ? attributes.at(name).count : 0; }
  template <class T>
  T get(cudnnBackendAttributeName_t name, int64_t index = 0) const {
    return ((const T *)attributes.at(name).bytes.data())[index];
  }
  const Descriptor &at(cudnnBackendAttributeName_t name, int64_t index = 0) const {
    return *get<const Descriptor *>(name, index);
  }
};

// A tensor's name in its graph.
int64_t id_of(const Descriptor &tensor);
bool is_virtual(const Descriptor &tensor);
Tensor tensor_of(const Descriptor &tensor);
Convolution convolution_of(const Descriptor &window);

// ---------------------------------------------------------------- cudnn_run.cpp
// Runs a graph with the addresses of its tensors when the stream gets there.
cudnnStatus_t run_graph(const Descriptor &graph, const std::map<int64_t, void *> &addresses, CUstream stream);

}  // namespace standin
