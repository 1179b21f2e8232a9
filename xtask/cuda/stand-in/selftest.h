// What the cases of the stand-in's test of itself share.
#pragma once
#include <cuda.h>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

inline std::string ptx;
inline bool wrong;  // whether the mistake is planted

[[noreturn]] inline void found(const std::string &what) {
  printf("found: %s\n", what.c_str());
  fflush(stdout);
  _Exit(1);
}

inline void must(int result, const char *what) {
  if (result) {
    found(std::string(what) + " returned " + std::to_string(result));
  }
}
#define MUST(call) must((int)(call), #call)

inline void use_device(int ordinal) {
  CUcontext context;
  MUST(cuInit(0));
  MUST(cuDevicePrimaryCtxRetain(&context, ordinal));
  MUST(cuCtxSetCurrent(context));
}

inline CUstream new_stream() {
  CUstream stream;
  MUST(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  return stream;
}

inline CUfunction kernel(const char *name) {
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

inline Numbers waves(size_t count, float step) {
  Numbers numbers(count);
  for (size_t i = 0; i < count; i++) {
    numbers[i] = sinf(step * i + step);
  }
  return numbers;
}

inline CUdeviceptr room(size_t count, CUstream stream) {
  CUdeviceptr at;
  MUST(cuMemAllocAsync(&at, count * sizeof(float), stream));
  return at;
}

inline CUdeviceptr up(const Numbers &numbers, CUstream stream) {
  CUdeviceptr at = room(numbers.size(), stream);
  MUST(cuMemcpyHtoDAsync(at, numbers.data(), numbers.size() * sizeof(float), stream));
  return at;
}

inline Numbers down(CUdeviceptr at, size_t count, CUstream stream) {
  Numbers numbers(count);
  MUST(cuMemcpyDtoHAsync(numbers.data(), at, count * sizeof(float), stream));
  MUST(cuStreamSynchronize(stream));
  return numbers;
}

inline void compare(const Numbers &got, const Numbers &expected, float tolerance = 1e-5f) {
  for (size_t i = 0; i < expected.size(); i++) {
    if (!(fabsf(got[i] - expected[i]) <= tolerance)) {
      found("number " + std::to_string(i) + " is " + std::to_string(got[i]) + " instead of " +
            std::to_string(expected[i]));
    }
  }
}

// Cases of selftest_libraries.cpp.
void multiply();
void convolve(bool last);
void give_too_little_workspace();
void communicate();
void abort_a_rank();
