// The driver's functions that allocate, free, copy and fill memory.
#include "standin.h"
#include <cstring>

using namespace standin;

namespace {

CUresult must_be_live(const char *function, CUdeviceptr at, size_t bytes) {
  if (!bytes || is_live((const void *)at, bytes)) {
    return CUDA_SUCCESS;
  }
  complain("%s: %zu bytes at %p are not within one live allocation", function, bytes, (void *)at);
  return CUDA_ERROR_INVALID_VALUE;
}

CUresult may_copy(const char *function, CUstream stream, CUdeviceptr at, size_t bytes) {
  CUresult refused = usable(function, stream);
  return refused ? refused : must_be_live(function, at, bytes);
}

// Copies and fills when the stream gets there; memory that is no longer live then is a mistake of the program.
void later(const char *function, CUstream stream, CUdeviceptr at, size_t bytes, Work work) {
  enqueue(stream, [=] {
    if (must_be_live(function, at, bytes)) {
      fail("%s: the memory was freed before its stream got there", function);
    }
    if (!settings().null) {
      work();
    }
  });
}

CUresult new_memory(const char *function, CUdeviceptr *at, size_t bytes, CUstream stream) {
  note(function, "%zu bytes", bytes);
  if (CUresult refused = usable(function, stream)) {
    return refused;
  }
  *at = 0;
  return bytes ? allocate(current_device(), bytes, at) : CUDA_SUCCESS;
}

// The device writes into the host's memory now, or for pinned memory when the stream gets there.
void copy_down(CUstream stream, void *host, CUdeviceptr device, size_t bytes) {
  if (is_pinned(host)) {
    later("cuMemcpyDtoHAsync_v2", stream, device, bytes, [=] { memcpy(host, (void *)device, bytes); });
    return;
  }
  finish(stream);
  if (settings().null) {
    memset(host, 0, bytes);
  } else {
    memcpy(host, (void *)device, bytes);
  }
}

}  // namespace

extern "C" {

CUresult cuMemGetInfo_v2(size_t *available, size_t *total) {
  note("cuMemGetInfo_v2");
  if (CUresult refused = usable(__func__)) {
    return refused;
  }
  *total = settings().memory;
  *available = *total - used_memory(current_device());
  return CUDA_SUCCESS;
}

// Refuses to allocate nothing, where the functions for streams give a null pointer.
CUresult cuMemAlloc_v2(CUdeviceptr *at, size_t bytes) {
  CUresult result = new_memory(__func__, at, bytes, nullptr);
  return bytes ? result : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemAllocAsync(CUdeviceptr *at, size_t bytes, CUstream stream) {
  return new_memory(__func__, at, bytes, stream);
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr *at, size_t bytes, CUmemoryPool, CUstream stream) {
  return new_memory(__func__, at, bytes, stream);
}

CUresult cuMemFreeAsync(CUdeviceptr at, CUstream stream) {
  note("cuMemFreeAsync");
  if (CUresult refused = may_copy(__func__, stream, at, at ? 1 : 0)) {
    return refused;
  }
  enqueue(stream, [at] { release(at); });
  return CUDA_SUCCESS;
}

CUresult cuMemFree_v2(CUdeviceptr at) {
  note("cuMemFree_v2");
  if (CUresult refused = usable(__func__)) {
    return refused;
  }
  finish_device(current_device());
  return release(at);
}

CUresult cuMemHostAlloc(void **at, size_t bytes, unsigned flags) {
  note("cuMemHostAlloc", "%zu bytes, flags %u", bytes, flags);
  if (CUresult refused = usable(__func__)) {
    return refused;
  }
  *at = bytes ? allocate_pinned(bytes) : nullptr;
  return *at ? CUDA_SUCCESS : bytes ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemFreeHost(void *at) {
  note("cuMemFreeHost");
  if (CUresult refused = usable(__func__)) {
    return refused;
  }
  finish_device(current_device());
  if (!release_pinned(at)) {
    complain("cuMemFreeHost of %p, which is no pinned memory", at);
    return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

// Pageable memory is read during the call, pinned memory when the stream gets there.
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr device, const void *host, size_t bytes, CUstream stream) {
  note("cuMemcpyHtoDAsync_v2", "%zu bytes", bytes);
  if (CUresult refused = may_copy(__func__, stream, device, bytes)) {
    return refused;
  }
  add_to("bytes:up", bytes);
  if (is_pinned(host) || !settings().lazy) {
    later(__func__, stream, device, bytes, [=] { memcpy((void *)device, host, bytes); });
    return CUDA_SUCCESS;
  }
  auto staged = std::make_shared<std::vector<char>>((const char *)host, (const char *)host + bytes);
  later(__func__, stream, device, bytes, [=] { memcpy((void *)device, staged->data(), bytes); });
  return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr device, const void *host, size_t bytes) {
  note("cuMemcpyHtoD_v2", "%zu bytes", bytes);
  if (CUresult refused = may_copy(__func__, nullptr, device, bytes)) {
    return refused;
  }
  add_to("bytes:up", bytes);
  later(__func__, nullptr, device, bytes, [=] { memcpy((void *)device, host, bytes); });
  return CUDA_SUCCESS;
}

CUresult cuMemcpyDtoHAsync_v2(void *host, CUdeviceptr device, size_t bytes, CUstream stream) {
  note("cuMemcpyDtoHAsync_v2", "%zu bytes", bytes);
  if (CUresult refused = may_copy(__func__, stream, device, bytes)) {
    return refused;
  }
  add_to("bytes:down", bytes);
  copy_down(stream, host, device, bytes);
  return CUDA_SUCCESS;
}

CUresult cuMemcpyDtoH_v2(void *host, CUdeviceptr device, size_t bytes) {
  note("cuMemcpyDtoH_v2", "%zu bytes", bytes);
  if (CUresult refused = may_copy(__func__, nullptr, device, bytes)) {
    return refused;
  }
  add_to("bytes:down", bytes);
  copy_down(nullptr, host, device, bytes);
  return CUDA_SUCCESS;
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  note("cuMemcpyDtoDAsync_v2", "%zu bytes", bytes);
  if (CUresult refused = may_copy(__func__, stream, to, bytes)) {
    return refused;
  }
  if (CUresult refused = must_be_live(__func__, from, bytes)) {
    return refused;
  }
  add_to("bytes:device", bytes);
  later(__func__, stream, to, bytes, [=] { memmove((void *)to, (void *)from, bytes); });
  return CUDA_SUCCESS;
}

CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  return cuMemcpyDtoDAsync_v2(to, from, bytes, nullptr);
}

CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext, CUdeviceptr from, CUcontext, size_t bytes, CUstream stream) {
  note("cuMemcpyPeerAsync", "%zu bytes", bytes);
  return cuMemcpyDtoDAsync_v2(to, from, bytes, stream);
}

CUresult cuMemsetD8Async(CUdeviceptr at, unsigned char value, size_t bytes, CUstream stream) {
  note("cuMemsetD8Async", "%zu bytes", bytes);
  if (CUresult refused = may_copy(__func__, stream, at, bytes)) {
    return refused;
  }
  add_to("bytes:memset", bytes);
  later(__func__, stream, at, bytes, [=] { memset((void *)at, value, bytes); });
  return CUDA_SUCCESS;
}

CUresult cuMemsetD8_v2(CUdeviceptr at, unsigned char value, size_t bytes) {
  return cuMemsetD8Async(at, value, bytes, nullptr);
}

}
