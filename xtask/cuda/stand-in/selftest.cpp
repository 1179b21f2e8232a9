// The stand-in's test of itself. Each case runs as it should be and with a planted mistake, which has to be found:
// selftest PTX CASE right|wrong. It ends with 0 if nothing was found.
#include <cublas_v2.h>
#include <cuda.h>
#include <cudnn.h>
#include <nccl.h>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

extern "C" void standin_counts_reset();
extern "C" long standin_count(const char *name);

namespace {

std::string ptx;
bool wrong;  // whether the mistake is planted

[[noreturn]] void found(const std::string &what) {
  printf("found: %s\n", what.c_str());
  fflush(stdout);
  _Exit(1);
}

void must(int result, const char *what) {
  if (result) {
    found(std::string(what) + " returned " + std::to_string(result));
  }
}
#define MUST(call) must((int)(call), #call)

void use_device(int ordinal) {
  CUcontext context;
  MUST(cuInit(0));
  MUST(cuDevicePrimaryCtxRetain(&context, ordinal));
  MUST(cuCtxSetCurrent(context));
}

CUstream new_stream() {
  CUstream stream;
  MUST(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  return stream;
}

CUfunction kernel(const char *name) {
  CUmodule module;
  CUfunction function;
  MUST(cuModuleLoadData(&module, ptx.c_str()));
  MUST(cuModuleGetFunction(&function, module, name));
  return function;
}

template <class... A>
void launch(const char *name, unsigned blocks, unsigned threads, unsigned shared, CUstream stream, A... values) {
  void *places[] = {&values...};
  MUST(cuLaunchKernel(kernel(name), blocks, 1, 1, threads, 1, 1, shared, stream, places, nullptr));
}

using Numbers = std::vector<float>;

Numbers waves(size_t count, float step) {
  Numbers numbers(count);
  for (size_t i = 0; i < count; i++) {
    numbers[i] = sinf(step * i + step);
  }
  return numbers;
}

CUdeviceptr room(size_t count, CUstream stream) {
  CUdeviceptr at;
  MUST(cuMemAllocAsync(&at, count * sizeof(float), stream));
  return at;
}

CUdeviceptr up(const Numbers &numbers, CUstream stream) {
  CUdeviceptr at = room(numbers.size(), stream);
  MUST(cuMemcpyHtoDAsync(at, numbers.data(), numbers.size() * sizeof(float), stream));
  return at;
}

Numbers down(CUdeviceptr at, size_t count, CUstream stream) {
  Numbers numbers(count);
  MUST(cuMemcpyDtoHAsync(numbers.data(), at, count * sizeof(float), stream));
  MUST(cuStreamSynchronize(stream));
  return numbers;
}

void compare(const Numbers &got, const Numbers &expected, float tolerance = 1e-5f) {
  for (size_t i = 0; i < expected.size(); i++) {
    if (!(fabsf(got[i] - expected[i]) <= tolerance)) {
      found("number " + std::to_string(i) + " is " + std::to_string(got[i]) + " instead of " +
            std::to_string(expected[i]));
    }
  }
}

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

// ---------------------------------------------------------------- libraries
// Row-major products of 37×53 and 53×29, transposed as asked, as cuBLAS sees them.
void multiply() {
  int rows = 37, inner = 53, columns = 29;
  Numbers a = waves(rows * inner, 0.3f), b = waves(inner * columns, 0.7f), expected(rows * columns);
  for (int i = 0; i < rows * columns; i++) {
    for (int k = 0; k < inner; k++) {
      expected[i] += 2 * a[i / columns * inner + k] * b[wrong ? k : k * columns + i % columns];
    }
  }
  cublasHandle_t handle;
  float alpha = 2, beta = 0;
  CUdeviceptr x = up(a, nullptr), w = up(b, nullptr), y = room(rows * columns, nullptr);
  MUST(cublasCreate(&handle));
  MUST(cublasGemmEx(handle, CUBLAS_OP_N, CUBLAS_OP_N, columns, rows, inner, &alpha, (void *)w, CUDA_R_32F, columns,
                    (void *)x, CUDA_R_32F, inner, &beta, (void *)y, CUDA_R_32F, columns, CUBLAS_COMPUTE_32F,
                    CUBLAS_GEMM_DEFAULT));
  compare(down(y, rows * columns, nullptr), expected, 1e-4f);
}

// A convolution of 2 pictures of 6 channels with a stride, a dilation and 2 groups.
struct Problem {
  int n = 2, c = 6, h = 9, w = 8, k = 4, r = 3, s = 2, groups = 2, pad[2] = {1, 2}, stride[2] = {2, 1}, dilation = 2;
  int oh = (9 + 2 - 5) / 2 + 1, ow = (8 + 4 - 3) / 1 + 1;
  cudnnHandle_t handle;
  cudnnTensorDescriptor_t xd, yd;
  cudnnFilterDescriptor_t wd;
  cudnnConvolutionDescriptor_t cd;
  bool last;  // channels last
  float one = 1, half = 0.5f;

  explicit Problem(bool last) : last(last) {
    cudnnTensorFormat_t format = last ? CUDNN_TENSOR_NHWC : CUDNN_TENSOR_NCHW;
    MUST(cudnnCreate(&handle));
    MUST(cudnnCreateTensorDescriptor(&xd));
    MUST(cudnnCreateTensorDescriptor(&yd));
    MUST(cudnnCreateFilterDescriptor(&wd));
    MUST(cudnnCreateConvolutionDescriptor(&cd));
    MUST(cudnnSetTensor4dDescriptor(xd, format, CUDNN_DATA_FLOAT, n, c, h, w));
    MUST(cudnnSetTensor4dDescriptor(yd, format, CUDNN_DATA_FLOAT, n, k, oh, ow));
    MUST(cudnnSetFilter4dDescriptor(wd, CUDNN_DATA_FLOAT, format, k, c / groups, r, s));
    MUST(cudnnSetConvolution2dDescriptor(cd, pad[0], pad[1], stride[0], stride[1], dilation, dilation,
                                         CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT));
    MUST(cudnnSetConvolutionGroupCount(cd, groups));
  }

  size_t x_size() const { return n * c * h * w; }
  size_t y_size() const { return n * k * oh * ow; }
  size_t w_size() const { return k * (c / groups) * r * s; }

  size_t place(int a, int b, int i, int j, int channels, int height, int width) const {
    return last ? ((size_t)(a * height + i) * width + j) * channels + b
                : ((size_t)(a * channels + b) * height + i) * width + j;
  }

  // Calls `f` with the places in x, w and y of every product of the definition.
  void each(std::function<void(size_t, size_t, size_t)> f) const {
    int per = c / groups;
    for (size_t at = 0; at < y_size() * w_size() / k; at++) {
      size_t rest = at;
      int index[7], sizes[7] = {s, r, per, ow, oh, k, n};
      for (int i = 0; i < 7; i++) {
        index[i] = rest % sizes[i];
        rest /= sizes[i];
      }
      int row = index[4] * stride[0] - pad[0] + index[1] * dilation;
      int column = index[3] * stride[1] - pad[1] + index[0] * dilation;
      if (row < 0 || row >= h || column < 0 || column >= w) {
        continue;
      }
      int channel = index[5] / (k / groups) * per + index[2];
      f(place(index[6], channel, row, column, c, h, w), place(index[5], index[2], index[1], index[0], per, r, s),
        place(index[6], index[5], index[4], index[3], k, oh, ow));
    }
  }
};

size_t workspace(const Problem &p, CUdeviceptr *at) {
  size_t size;
  MUST(cudnnGetConvolutionForwardWorkspaceSize(p.handle, p.xd, p.wd, p.cd, p.yd,
                                               CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, &size));
  *at = room(size / 4, nullptr);
  return size;
}

void convolve(bool last) {
  Problem p(last);
  CUdeviceptr space;
  size_t size = workspace(p, &space);
  Numbers x = waves(p.x_size(), 0.37f), w = waves(p.w_size(), 0.61f), y = waves(p.y_size(), 0.23f);
  CUdeviceptr dx = up(x, nullptr), dw = up(w, nullptr), dy = up(y, nullptr);
  Numbers forward(y), data(x), filter(w);
  for (Numbers *numbers : {&forward, &data, &filter}) {
    for (float &number : *numbers) {
      number *= p.half;
    }
  }
  p.each([&](size_t i, size_t j, size_t o) {
    forward[o] += (wrong ? x[j] : x[i]) * w[j];
    data[i] += y[o] * w[j];
    filter[j] += y[o] * x[i];
  });
  MUST(cudnnConvolutionForward(p.handle, &p.one, p.xd, (void *)dx, p.wd, (void *)dw, p.cd,
                               CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, (void *)space, size, &p.half, p.yd,
                               (void *)dy));
  compare(down(dy, p.y_size(), nullptr), forward, 1e-4f);
  dy = up(y, nullptr);
  MUST(cudnnConvolutionBackwardData(p.handle, &p.one, p.wd, (void *)dw, p.yd, (void *)dy, p.cd,
                                    CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, (void *)space, size, &p.half, p.xd,
                                    (void *)dx));
  compare(down(dx, p.x_size(), nullptr), data, 1e-4f);
  dx = up(x, nullptr);
  MUST(cudnnConvolutionBackwardFilter(p.handle, &p.one, p.xd, (void *)dx, p.yd, (void *)dy, p.cd,
                                      CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0, nullptr, 0, &p.half, p.wd, (void *)dw));
  compare(down(dw, p.w_size(), nullptr), filter, 1e-4f);
}

void give_too_little_workspace() {
  Problem p(true);
  CUdeviceptr space, x = room(p.x_size(), nullptr), w = room(p.w_size(), nullptr), y = room(p.y_size(), nullptr);
  size_t size = workspace(p, &space);
  MUST(cudnnConvolutionForward(p.handle, &p.one, p.xd, (void *)x, p.wd, (void *)w, p.cd,
                               CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, (void *)space, size - wrong, &p.half,
                               p.yd, (void *)y));
}

// Two ranks of one process, one device each. The mistake: their counts of numbers differ.
void communicate() {
  ncclUniqueId id;
  size_t count = 300000;
  MUST(ncclGetUniqueId(&id));
  auto rank = [&](int rank) {
    use_device(rank);
    CUstream stream = new_stream();
    ncclComm_t comm;
    MUST(ncclCommInitRank(&comm, 2, id, rank));
    CUdeviceptr x = up(Numbers(count, 1.5f + rank), stream), y = room(2 * count, stream);
    size_t mine = wrong && rank ? count - 1 : count;
    MUST(ncclGroupStart());
    MUST(ncclAllGather((void *)x, (void *)y, mine, ncclFloat32, comm, stream));
    MUST(ncclAllReduce((void *)x, (void *)x, mine, ncclFloat32, ncclSum, comm, stream));
    MUST(ncclGroupEnd());
    Numbers all(count, 1.5f);
    all.resize(2 * count, 2.5f);
    compare(down(x, count, stream), Numbers(count, 4));
    compare(down(y, 2 * count, stream), all);
    MUST(ncclAllReduce((void *)x, (void *)x, count, ncclFloat32, ncclMax, comm, stream));
    MUST(ncclCommDestroy(comm));
  };
  std::thread other(rank, 1);
  rank(0);
  other.join();
}

// A rank gives up, and the other one does not wait for ever.
void abort_a_rank() {
  ncclUniqueId id;
  MUST(ncclGetUniqueId(&id));
  std::thread other([&] {
    use_device(0);
    ncclComm_t comm;
    MUST(ncclCommInitRank(&comm, 2, id, 1));
    if (wrong) {
      MUST(ncclCommAbort(comm));
      return;
    }
    CUdeviceptr x = up(Numbers(10, 1), nullptr);
    MUST(ncclAllReduce((void *)x, (void *)x, 10, ncclFloat32, ncclMin, comm, nullptr));
  });
  ncclComm_t comm;
  MUST(ncclCommInitRank(&comm, 2, id, 0));
  CUdeviceptr x = up(Numbers(10, 2), nullptr);
  MUST(ncclAllReduce((void *)x, (void *)x, 10, ncclFloat32, ncclMin, comm, nullptr));
  other.join();
  compare(down(x, 10, nullptr), Numbers(10, 1));
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
