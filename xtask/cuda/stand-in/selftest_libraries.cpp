// Cases of the stand-in's test of itself: products, convolutions and communication.
#include <cublas_v2.h>
#include <cudnn.h>
#include <nccl.h>
#include <functional>
#include <thread>
#include "selftest.h"

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

namespace {

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

}  // namespace

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
