// Launches of kernels, and the limits that a card sets them.
#include <algorithm>
#include <cstdint>
#include "modules.h"

namespace {

// The device whose kernel's arguments are checked.
thread_local int launch_device = -1;

}  // namespace

namespace cuda_cpu {

void check_pointer(const char *kernel, int index, const void *pointer) {
  if (!pointer) {
    return;
  }
  int device = standin::device_of(pointer);
  if (device >= 0 && device != launch_device) {
    standin::fail("argument %d of kernel %s, %p, is memory of device %d, but the kernel runs on device %d", index,
                  kernel, pointer, device, launch_device);
  }
  if (!standin::points_into_live(pointer)) {
    const char *what = device < 0 ? "is memory of the host" : "does not point into live device memory";
    standin::fail("argument %d of kernel %s, %p, %s", index, kernel, pointer, what);
  }
}

}  // namespace cuda_cpu

namespace standin {

// Why no card takes the launch; null if one does.
static const char *refusal(const Function &function, dim3 grid, dim3 block, unsigned shared) {
  uint64_t threads = (uint64_t)block.x * block.y * block.z;
  if (!grid.x || !grid.y || !grid.z || !threads) {
    return "nothing to run";
  }
  if (grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) {
    return "more blocks than a grid can have";
  }
  if (threads > 1024 || block.z > 64) {
    return "more threads than a block can have";
  }
  if (threads > function.most_threads) {
    return "more threads than its __launch_bounds__";
  }
  return shared > function.most_shared ? "more shared memory than a block can have" : nullptr;
}

// Values of arguments, read at the call as a driver reads them.
static std::shared_ptr<std::vector<char>> copy_values(const cuda_cpu::Kernel &kernel, void **values) {
  auto bytes = std::make_shared<std::vector<char>>(16 * kernel.count);
  for (int i = 0; i < kernel.count; i++) {
    size_t start = (bytes->size() + 15) / 16 * 16;
    size_t slot = i * sizeof(size_t);
    bytes->resize(start + kernel.sizes[i]);
    std::copy((char *)values[i], (char *)values[i] + kernel.sizes[i], bytes->begin() + start);
    std::copy((char *)&start, (char *)(&start + 1), bytes->begin() + slot);
  }
  return bytes;
}

static std::vector<void *> places(std::vector<char> &bytes, int count) {
  std::vector<void *> values(count);
  for (int i = 0; i < count; i++) {
    values[i] = bytes.data() + ((size_t *)bytes.data())[i];
  }
  return values;
}

static void check(const cuda_cpu::Kernel &kernel, int device, void **values) {
  launch_device = device;
  kernel.check(kernel.name, values);
}

static CUresult launch(const Function &function, dim3 grid, dim3 block, unsigned shared, CUstream stream,
                       void **values) {
  const cuda_cpu::Kernel &kernel = *function.kernel;
  if (const char *why = refusal(function, grid, block, shared)) {
    complain("kernel %s is launched with %s: grid (%u,%u,%u), block (%u,%u,%u), %u bytes of shared memory",
             kernel.name, why, grid.x, grid.y, grid.z, block.x, block.y, block.z, shared);
    return CUDA_ERROR_INVALID_VALUE;
  }
  add_to(std::string("kernels:") + kernel.name, 1);
  int device = current_device();
  check(kernel, device, values);
  if (settings().null) {
    return CUDA_SUCCESS;
  }
  Launch made{&kernel, function.unit, grid, block, shared};
  auto bytes = copy_values(kernel, values);
  enqueue(stream, [made, bytes, device] {
    std::vector<void *> values = places(*bytes, made.kernel->count);
    check(*made.kernel, device, values.data());
    run(made, values.data());
  });
  return CUDA_SUCCESS;
}

// Blocks that fit into a multiprocessor at once, by its threads, its shared memory and its limit of blocks.
static int resident_blocks(int threads, size_t shared) {
  int warps = std::max(1, (threads + 31) / 32);
  int by_shared = shared ? (int)(cuda_cpu::SHARED / shared) : 32;
  return std::min({64 / warps, by_shared, 32});
}

}  // namespace standin

using namespace standin;

extern "C" {

CUresult cuLaunchKernel(CUfunction handle, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                        unsigned bz, unsigned shared, CUstream stream, void **values, void **) {
  auto *function = (Function *)handle;
  note("cuLaunchKernel", "%s (%u,%u,%u)×(%u,%u,%u)", function->kernel->name, gx, gy, gz, bx, by, bz);
  if (CUresult refused = usable(__func__, stream)) {
    return refused;
  }
  return launch(*function, dim3(gx, gy, gz), dim3(bx, by, bz), shared, stream, values);
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **values, void **extra) {
  if (config->numAttrs) {
    complain("cuLaunchKernelEx with attributes is not supported");
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  return cuLaunchKernel(function, config->gridDimX, config->gridDimY, config->gridDimZ, config->blockDimX,
                        config->blockDimY, config->blockDimZ, config->sharedMemBytes, config->hStream, values, extra);
}

CUresult cuFuncSetAttribute(CUfunction handle, CUfunction_attribute which, int value) {
  note("cuFuncSetAttribute", "%d = %d", (int)which, value);
  auto *function = (Function *)handle;
  if (which == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
    if (value < 0 || value > (int)cuda_cpu::SHARED) {
      complain("kernel %s asks for %d bytes of shared memory, more than %zu", function->kernel->name, value,
               cuda_cpu::SHARED);
      return CUDA_ERROR_INVALID_VALUE;
    }
    function->most_shared = value;
  }
  return CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute which, CUfunction handle) {
  auto *function = (Function *)handle;
  switch (which) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
      *value = function->most_threads;
      break;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      *value = function->most_shared;
      break;
    case CU_FUNC_ATTRIBUTE_NUM_REGS:
      *value = 32;
      break;
    case CU_FUNC_ATTRIBUTE_PTX_VERSION:
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
      *value = 80;
      break;
    default:
      *value = 0;
  }
  return CUDA_SUCCESS;
}

CUresult cuFuncSetCacheConfig(CUfunction, CUfunc_cache) { return CUDA_SUCCESS; }

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction, int threads, size_t shared) {
  *blocks = resident_blocks(threads, shared);
  return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, CUfunction, int threads, size_t shared,
                                                              unsigned) {
  *blocks = resident_blocks(threads, shared);
  return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxPotentialBlockSize(int *grid, int *block, CUfunction handle, CUoccupancyB2DSize, size_t shared,
                                          int limit) {
  int most = ((Function *)handle)->most_threads;
  *block = limit > 0 ? std::min(limit, most) : most;
  *grid = 108 * resident_blocks(*block, shared);
  return CUDA_SUCCESS;
}

}
