// The stand-in's test of itself. Each case runs as it should be and with a planted mistake, which has to be found:
// selftest PTX CASE right|wrong. It ends with 0 if nothing was found.
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include "selftest.h"

extern "C" void standin_counts_reset();
extern "C" long standin_count(const char *name);

namespace {

// ---------------------------------------------------------------- streams
// One stream reads what another one writes; the mistake is not to wait.
void wait_between_streams() {
  CUstream writer = new_stream();
  CUstream reader = new_stream();
  CUdeviceptr x = up(Numbers(1000, 2), writer);
  CUdeviceptr y = room(1000, writer);
  CUdeviceptr z = room(1000, reader);
  CUevent event;
  MUST(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
  launch("scale", 4, 256, 0, writer, 1000u, 3.0f, x, y);
  MUST(cuEventRecord(event, writer));
  if (!wrong) {
    MUST(cuStreamWaitEvent(reader, event, 0));
  }
  launch("scale", 4, 256, 0, reader, 1000u, 5.0f, y, z);
  compare(down(z, 1000, reader), Numbers(1000, 30));
}

// A pinned buffer is filled again; the mistake is to do so before its copy has ended.
void reuse_pinned_buffer() {
  CUstream stream = new_stream();
  float *buffer;
  MUST(cuMemHostAlloc((void **)&buffer, 4000, 0));
  std::fill(buffer, buffer + 1000, 7.0f);
  CUdeviceptr x = room(1000, stream);
  MUST(cuMemcpyHtoDAsync(x, buffer, 4000, stream));
  if (!wrong) {
    MUST(cuStreamSynchronize(stream));
  }
  std::fill(buffer, buffer + 1000, 8.0f);
  compare(down(x, 1000, stream), Numbers(1000, 7));
}

// A result is read from pinned memory; the mistake is to do so before its copy has ended.
void read_pinned_result() {
  CUstream stream = new_stream();
  float *buffer;
  MUST(cuMemHostAlloc((void **)&buffer, 4000, 0));
  std::fill(buffer, buffer + 1000, 0.0f);
  CUdeviceptr x = up(Numbers(1000, 7), stream);
  MUST(cuMemcpyDtoHAsync(buffer, x, 4000, stream));
  if (!wrong) {
    MUST(cuStreamSynchronize(stream));
  }
  compare(Numbers(buffer, buffer + 1000), Numbers(1000, 7));
}

// ---------------------------------------------------------------- memory
void read_past_the_end() {
  CUstream stream = new_stream();
  CUdeviceptr x = up(Numbers(1000, 1), stream);
  CUdeviceptr y = room(2000, stream);
  launch("scale", 4, 256, 0, stream, wrong ? 1001u : 1000u, 2.0f, x, y);
  compare(down(y, 1000, stream), Numbers(1000, 2));
}

void read_before_write() {
  CUstream stream = new_stream();
  CUdeviceptr x = room(1000, stream);
  if (!wrong) {
    MUST(cuMemsetD8Async(x, 0, 4000, stream));
  }
  compare(down(x, 1000, stream), Numbers(1000, 0));
}

void use_freed_memory() {
  CUstream stream = new_stream();
  CUdeviceptr x = up(Numbers(1000, 1), stream);
  CUdeviceptr y = room(1000, stream);
  if (wrong) {
    MUST(cuMemFreeAsync(x, stream));
  }
  launch("scale", 4, 256, 0, stream, 1000u, 2.0f, x, y);
  compare(down(y, 1000, stream), Numbers(1000, 2));
}

void pass_memory_of_the_host() {
  CUstream stream = new_stream();
  Numbers host(1000, 1);
  CUdeviceptr x = up(host, stream);
  CUdeviceptr y = room(1000, stream);
  launch("scale", 4, 256, 0, stream, 1000u, 2.0f, wrong ? (CUdeviceptr)host.data() : x, y);
}

void pass_memory_of_another_device() {
  use_device(1);
  CUdeviceptr other = up(Numbers(1000, 1), nullptr);
  use_device(0);
  CUdeviceptr mine = up(Numbers(1000, 1), nullptr);
  CUdeviceptr y = room(1000, nullptr);
  launch("scale", 4, 256, 0, nullptr, 1000u, 2.0f, wrong ? other : mine, y);
}

void exceed_the_memory() {
  CUdeviceptr at;
  size_t free, total;
  MUST(cuMemAllocAsync(&at, 0, nullptr));
  MUST(cuMemFreeAsync(at, nullptr));
  MUST(cuMemAlloc(&at, wrong ? (size_t)2 << 30 : (size_t)1 << 29));
  MUST(cuMemGetInfo(&free, &total));
  must(free != (size_t)1 << 29 || total != (size_t)1 << 30, "the account of memory");
}

// ---------------------------------------------------------------- kernels
void miss_a_barrier() {
  CUdeviceptr x = up(Numbers(256, 3), nullptr);
  CUdeviceptr y = room(256, nullptr);
  launch(wrong ? "differences_without_barrier" : "differences", 1, 256, 0, nullptr, x, y);
  compare(down(y, 256, nullptr), Numbers(256, 0));
}

void wait_at_two_barriers() {
  CUdeviceptr y = room(64, nullptr);
  launch("two_barriers", 1, 64, 0, nullptr, wrong ? 5u : 0u, y);
}

void exceed_the_block() {
  CUdeviceptr y = room(2048, nullptr);
  launch("small_blocks", 1, wrong ? 2048 : 64, 0, nullptr, y);
}

void exceed_the_launch_bounds() {
  CUdeviceptr y = room(2048, nullptr);
  launch("small_blocks", 1, wrong ? 128 : 64, 0, nullptr, y);
}

void exceed_the_grid() {
  CUdeviceptr y = room(64, nullptr);
  void *places[] = {&y};
  MUST(cuLaunchKernel(kernel("small_blocks"), 1, wrong ? 70000 : 2, 1, 64, 1, 1, 0, nullptr, places, nullptr));
}

void exceed_the_shared_memory() {
  CUdeviceptr x = up(Numbers(256, 3), nullptr);
  CUdeviceptr y = room(1, nullptr);
  launch("sum", 1, 256, wrong ? 16 : 32, nullptr, x, y);
  compare(down(y, 1, nullptr), Numbers(1, 768));
}

void change_the_parameters() {
  size_t at = ptx.find(".f32", ptx.find(".entry scale"));
  ptx.replace(at, 4, wrong ? ".f64" : ".f32");
  kernel("scale");
}

void count() {
  CUdeviceptr x = up(Numbers(1000, 1), nullptr);
  standin_counts_reset();
  for (int i = 0; i < (wrong ? 4 : 3); i++) {
    launch("scale", 4, 256, 0, nullptr, 1000u, 1.0f, x, x);
  }
  down(x, 1000, nullptr);
  bool kernels = standin_count("cuLaunchKernel") == 3 && standin_count("kernels:scale") == 3;
  must(!kernels || standin_count("bytes:down") != 4000, "the counts");
}

void time_a_stream() {
  CUevent start, end;
  float milliseconds = -1;
  MUST(cuEventCreate(&start, wrong ? CU_EVENT_DISABLE_TIMING : 0));
  MUST(cuEventCreate(&end, 0));
  MUST(cuEventRecord(start, nullptr));
  MUST(cuEventRecord(end, nullptr));
  MUST(cuEventSynchronize(end));
  MUST(cuEventElapsedTime(&milliseconds, start, end));
  must(milliseconds < 0, "the time");
}

const std::map<std::string, std::function<void()>> CASES = {
    {"wait", wait_between_streams},
    {"pinned-source", reuse_pinned_buffer},
    {"pinned-result", read_pinned_result},
    {"past-the-end", read_past_the_end},
    {"unwritten", read_before_write},
    {"freed", use_freed_memory},
    {"host", pass_memory_of_the_host},
    {"device", pass_memory_of_another_device},
    {"memory", exceed_the_memory},
    {"missing-barrier", miss_a_barrier},
    {"two-barriers", wait_at_two_barriers},
    {"block", exceed_the_block},
    {"launch-bounds", exceed_the_launch_bounds},
    {"grid", exceed_the_grid},
    {"shared", exceed_the_shared_memory},
    {"parameters", change_the_parameters},
    {"counts", count},
    {"times", time_a_stream},
    {"product", multiply},
    {"channels-last", [] { convolve(true); }},
    {"channels-first", [] { convolve(false); }},
    {"workspace", give_too_little_workspace},
    {"ranks", communicate},
    {"abort", abort_a_rank},
};

}  // namespace

int main(int count, char **arguments) {
  auto test = count == 4 ? CASES.find(arguments[2]) : CASES.end();
  if (test == CASES.end()) {
    printf("usage: selftest PTX CASE right|wrong\n");
    return 2;
  }
  std::ifstream file(arguments[1]);
  ptx.assign(std::istreambuf_iterator<char>(file), {});
  wrong = !strcmp(arguments[3], "wrong");
  use_device(0);
  test->second();
  return 0;
}
