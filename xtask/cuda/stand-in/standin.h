// What the parts of the stand-in share.
#pragma once
#include <cuda.h>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>
#include "kernel.h"

namespace standin {

constexpr int MOST_DEVICES = 8;

// The environment variables STANDIN_…, read once.
struct Settings {
  bool lazy;             // LAZY: streams run only when somebody waits for them
  bool guard;            // GUARD: every allocation ends at a page that nobody may touch
  bool null;             // NULL: calls are counted, but neither kernels nor copies run
  bool log;              // LOG: every call is printed
  const char *counts;    // COUNTS: the file for the counts at exit
  const char *order;     // ORDER: the order of threads and blocks, "reverse" or a seed
  size_t memory;         // MEMORY_GIB: the memory of each device, in bytes
  int devices;           // DEVICES: their number
};
const Settings &settings();

// ---------------------------------------------------------------- counts.cpp
// Counts a call, and prints it if asked.
void note(const char *function, const char *format = "", ...) __attribute__((format(printf, 2, 3)));
// Adds to a count such as "bytes:up" or "flops:gemm f32".
void add_to(const std::string &count, double amount);
void set_peak(size_t used);
// Prints one sentence about a mistake of the program.
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
// The same, and stops the process.
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

// ---------------------------------------------------------------- memory.cpp
CUresult allocate(int device, size_t bytes, CUdeviceptr *at);
CUresult release(CUdeviceptr at);
// Whether all bytes are one live allocation's.
bool is_live(const void *at, size_t bytes);
// Whether the address is in a live allocation or just behind it.
bool points_into_live(const void *at);
// The device that an address belongs to, -1 for the host's.
int device_of(const void *at);
size_t used_memory(int device);
size_t peak_memory(int device);
void reset_peak_memory(int device);
void *allocate_pinned(size_t bytes);
bool release_pinned(void *at);
bool is_pinned(const void *at);

// ---------------------------------------------------------------- driver.cpp
// The device whose context is current on this thread, -1 without one.
int current_device();
// Refuses calls without a context, or with another device's stream.
CUresult usable(const char *function, CUstream stream = nullptr);

// ---------------------------------------------------------------- streams.cpp
using Work = std::function<void()>;
// Runs `work` when the stream gets to it.
void enqueue(CUstream stream, Work work);
// Runs all that was given to the stream, or to every stream of a device.
void finish(CUstream stream);
void finish_device(int device);
// Waits for the streams that wait for the legacy stream.
void finish_blocking(int device);
bool owns_stream(int device, CUstream stream);

// ---------------------------------------------------------------- executor.cpp
struct Unit {
  std::map<std::string, cuda_cpu::Kernel> kernels;
  std::vector<char *(*)()> shared;
};
struct Launch {
  const cuda_cpu::Kernel *kernel;
  const Unit *unit;
  dim3 grid, block;
  unsigned shared;
};
void run(const Launch &launch, void **values);
// The compiled .cu files, by name.
std::map<std::string, Unit> &units();

}  // namespace standin

namespace cuda_cpu {

// The kernel that runs on this thread of the system.
extern thread_local const Kernel *running __attribute__((tls_model("initial-exec")));
// ---------------------------------------------------------------- faults.cpp
// Makes this thread report kernels that touch what they may not.
void watch_faults();

}  // namespace cuda_cpu
