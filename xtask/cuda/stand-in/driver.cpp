// Devices, contexts, memory pools and what a driver says about them.
#include "standin.h"
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>

namespace standin {

static thread_local CUcontext context;
constexpr uintptr_t FIRST_CONTEXT = 0x1000;
constexpr uintptr_t FIRST_POOL = 0x2000;

static CUcontext context_of(int device) { return (CUcontext)(FIRST_CONTEXT + device); }
static bool exists(int device) { return device >= 0 && device < settings().devices; }

int current_device() { return context ? (int)((uintptr_t)context - FIRST_CONTEXT) : -1; }

CUresult usable(const char *function, CUstream stream) {
  int device = current_device();
  if (device < 0) {
    complain("%s without a context on this thread", function);
    return CUDA_ERROR_INVALID_CONTEXT;
  }
  if (!owns_stream(device, stream)) {
    complain("%s with a stream that device %d does not have", function, device);
    return CUDA_ERROR_INVALID_HANDLE;
  }
  return CUDA_SUCCESS;
}

// An A100's answers; 0 for what nobody asks.
static int attribute(CUdevice_attribute which) {
  switch (which) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
      return 8;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y:
      return 1024;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z:
      return 64;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X:
      return 0x7fffffff;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z:
      return 65535;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
      return 108;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR:
      return 2048;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE:
      return 32;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK:
      return 48 << 10;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
      return cuda_cpu::SHARED;
    case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
    case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT:
    case CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS:
      return 1;
    default:
      return 0;
  }
}

// Every device has one pool, whose memory is the device's.
struct Pool {
  cuuint64_t threshold = 0;
};
static Pool pools[MOST_DEVICES];

static CUmemoryPool pool_of(int device) { return (CUmemoryPool)(FIRST_POOL + device); }
static int device_of_pool(CUmemoryPool pool) { return (int)((uintptr_t)pool - FIRST_POOL); }

static CUresult give_pool(const char *function, CUmemoryPool *pool, CUdevice device) {
  note(function);
  if (!exists(device)) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  *pool = pool_of(device);
  return CUDA_SUCCESS;
}

}  // namespace standin

using namespace standin;

extern "C" {

CUresult cuInit(unsigned) {
  note("cuInit");
  return CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int *version) {
  *version = 13000;
  return CUDA_SUCCESS;
}

static const char *error_name(CUresult error) {
  switch (error) {
    case CUDA_SUCCESS:
      return "CUDA_SUCCESS";
    case CUDA_ERROR_INVALID_VALUE:
      return "CUDA_ERROR_INVALID_VALUE";
    case CUDA_ERROR_OUT_OF_MEMORY:
      return "CUDA_ERROR_OUT_OF_MEMORY";
    case CUDA_ERROR_INVALID_DEVICE:
      return "CUDA_ERROR_INVALID_DEVICE";
    case CUDA_ERROR_INVALID_IMAGE:
      return "CUDA_ERROR_INVALID_IMAGE";
    case CUDA_ERROR_INVALID_CONTEXT:
      return "CUDA_ERROR_INVALID_CONTEXT";
    case CUDA_ERROR_INVALID_PTX:
      return "CUDA_ERROR_INVALID_PTX";
    case CUDA_ERROR_INVALID_HANDLE:
      return "CUDA_ERROR_INVALID_HANDLE";
    case CUDA_ERROR_NOT_FOUND:
      return "CUDA_ERROR_NOT_FOUND";
    case CUDA_ERROR_NOT_READY:
      return "CUDA_ERROR_NOT_READY";
    case CUDA_ERROR_NOT_SUPPORTED:
      return "CUDA_ERROR_NOT_SUPPORTED";
    default:
      return "an error of the stand-in for CUDA";
  }
}

CUresult cuGetErrorName(CUresult error, const char **name) {
  *name = error_name(error);
  return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult error, const char **text) { return cuGetErrorName(error, text); }

CUresult cuDeviceGetCount(int *count) {
  *count = settings().devices;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  note("cuDeviceGet", "%d", ordinal);
  if (!exists(ordinal)) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  *device = ordinal;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int size, CUdevice) {
  snprintf(name, size, "stand-in on the CPU");
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device) {
  memset(uuid, 0, sizeof *uuid);
  uuid->bytes[0] = (char)(device + 1);
  return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice) {
  *bytes = settings().memory;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute which, CUdevice device) {
  note("cuDeviceGetAttribute", "%d", (int)which);
  *value = attribute(which);
  return exists(device) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *result, CUdevice device) {
  note("cuDevicePrimaryCtxRetain", "%d", device);
  if (!exists(device)) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  *result = context_of(device);
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice) {
  note("cuDevicePrimaryCtxRelease_v2");
  return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *result) {
  *result = context;
  return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext wanted) {
  note("cuCtxSetCurrent");
  context = wanted;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device) {
  *device = current_device();
  return usable(__func__);
}

CUresult cuCtxSetFlags(unsigned) { return usable(__func__); }

CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) {
  *least = 0;
  *greatest = 0;
  return usable(__func__);
}

CUresult cuCtxSynchronize() {
  note("cuCtxSynchronize");
  if (CUresult refused = usable(__func__)) {
    return refused;
  }
  finish_device(current_device());
  return CUDA_SUCCESS;
}

CUresult cuDeviceCanAccessPeer(int *can, CUdevice device, CUdevice peer) {
  *can = device != peer;
  return CUDA_SUCCESS;
}

CUresult cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc *access, size_t count) {
  note("cuMemPoolSetAccess");
  for (size_t i = 0; i < count; i++) {
    bool is_peer = access[i].location.type == CU_MEM_LOCATION_TYPE_DEVICE && exists(access[i].location.id);
    if (!exists(device_of_pool(pool)) || !is_peer || access[i].location.id == device_of_pool(pool)) {
      complain("cuMemPoolSetAccess for a device that is no other one");
      return CUDA_ERROR_INVALID_VALUE;
    }
  }
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice device) { return give_pool(__func__, pool, device); }

CUresult cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice device) { return give_pool(__func__, pool, device); }

CUresult cuDeviceSetMemPool(CUdevice device, CUmemoryPool pool) {
  return pool == pool_of(device) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemPoolTrimTo(CUmemoryPool, size_t) {
  note("cuMemPoolTrimTo");
  return CUDA_SUCCESS;
}

CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute which, void *value) {
  note("cuMemPoolSetAttribute", "%d", (int)which);
  int device = device_of_pool(pool);
  if (!exists(device)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  switch (which) {
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
      pools[device].threshold = *(cuuint64_t *)value;
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
      reset_peak_memory(device);
      return *(cuuint64_t *)value == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute which, void *value) {
  note("cuMemPoolGetAttribute", "%d", (int)which);
  int device = device_of_pool(pool);
  if (!exists(device)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  switch (which) {
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
      *(cuuint64_t *)value = pools[device].threshold;
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
    case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
      *(cuuint64_t *)value = used_memory(device);
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
      *(cuuint64_t *)value = peak_memory(device);
      return CUDA_SUCCESS;
    default:
      *(int *)value = 1;
      return CUDA_SUCCESS;
  }
}

}
