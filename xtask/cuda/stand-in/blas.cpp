// cuBLAS: products of matrices, with sums in f64 of short sums in the type of the numbers.
#include <cublas_v2.h>
#include <algorithm>
#include "numbers.h"

namespace {

using namespace standin;

struct Blas {
  CUstream stream = nullptr;
};

struct Operand {
  const void *start;
  cudaDataType type;
  int leading;      // distance of columns
  long long batch;  // distance of matrices
  bool transposed;
};

struct Product {
  int rows, columns, inner;
  Operand a, b;
  void *c;
  cudaDataType type;
  int leading;
  long long batch;
  int count;
  double alpha, beta;
};

constexpr int PANEL = 128;  // length of sums in the type of the numbers
constexpr int GROUP = 8;    // columns at once, which share the loads of `a`

// One matrix as `T`, `major` runs of `minor` numbers each; `across` if a run lies across columns.
template <class T>
std::vector<T> packed(const Operand &from, int batch, int major, int minor, bool across) {
  std::vector<T> to((size_t)major * minor);
  with_type(from.type, [&](auto *typed) {
    using Number = std::remove_reference_t<decltype(*typed)>;
    const Number *start = (const Number *)from.start + batch * from.batch;
    #pragma omp parallel for if (to.size() > 100000)
    for (int i = 0; i < major; i++) {
      for (int j = 0; j < minor; j++) {
        size_t at = across ? (size_t)j * from.leading + i : (size_t)i * from.leading + j;
        to[(size_t)i * minor + j] = number<T>(start[at]);
      }
    }
  });
  return to;
}

template <class T>
void add_panel(const Product &p, const T *a, const T *b, int first, int end, T *part) {
  for (int k = first; k < end; k++) {
    const T factor = b[k];
    const T *row = a + (size_t)k * p.rows;
    for (int i = 0; i < p.rows; i++) {
      part[i] += factor * row[i];
    }
  }
}

// Sums of the columns `first` … `end` - 1 of op(A)·op(B).
template <class T>
std::vector<double> sums(const Product &p, const T *a, const T *b, int first, int end) {
  std::vector<double> all((size_t)(end - first) * p.rows, 0.0);
  std::vector<T> part(p.rows);
  for (int k = 0; k < p.inner; k += PANEL) {
    for (int j = first; j < end; j++) {
      std::fill(part.begin(), part.end(), T(0));
      add_panel(p, a, b + (size_t)j * p.inner, k, std::min(p.inner, k + PANEL), part.data());
      double *total = &all[(size_t)(j - first) * p.rows];
      for (int i = 0; i < p.rows; i++) {
        total[i] += part[i];
      }
    }
  }
  return all;
}

// Without beta, C is not read, so that it may be unwritten.
void write(const Product &p, int batch, int first, const std::vector<double> &sums) {
  with_type(p.type, [&](auto *typed) {
    using Number = std::remove_reference_t<decltype(*typed)>;
    Number *start = (Number *)p.c + batch * p.batch;
    for (size_t at = 0; at < sums.size(); at++) {
      Number &to = start[(first + at / p.rows) * p.leading + at % p.rows];
      double old = p.beta == 0 ? 0 : p.beta * number<double>(to);
      to = number<Number>(p.alpha * sums[at] + old);
    }
  });
}

template <class T>
void multiply(const Product &p) {
  for (int batch = 0; batch < p.count; batch++) {
    std::vector<T> a = packed<T>(p.a, batch, p.inner, p.rows, p.a.transposed);
    std::vector<T> b = packed<T>(p.b, batch, p.columns, p.inner, p.b.transposed);
    #pragma omp parallel for schedule(dynamic) if ((double)p.rows * p.columns * p.inner > 20000)
    for (int first = 0; first < p.columns; first += GROUP) {
      int end = std::min(p.columns, first + GROUP);
      write(p, batch, first, sums(p, a.data(), b.data(), first, end));
    }
  }
}

const char *kind(cudaDataType type) {
  switch (type) {
    case CUDA_R_64F:
      return "flops:gemm f64";
    case CUDA_R_32F:
      return "flops:gemm f32";
    case CUDA_R_16BF:
      return "flops:gemm bf16";
    default:
      return "flops:gemm f16";
  }
}

bool is_known(cudaDataType type) {
  return type == CUDA_R_32F || type == CUDA_R_64F || type == CUDA_R_16F || type == CUDA_R_16BF;
}

// Whether the distances of columns are as BLAS demands.
bool fits(const Product &p) {
  int a = p.a.transposed ? p.inner : p.rows;
  int b = p.b.transposed ? p.columns : p.inner;
  bool sizes = p.rows >= 0 && p.columns >= 0 && p.inner >= 0 && p.count >= 0;
  return sizes && p.a.leading >= std::max(1, a) && p.b.leading >= std::max(1, b) && p.leading >= std::max(1, p.rows);
}

// Whether the last element of a matrix of each operand is device memory.
bool is_in_memory(const void *start, cudaDataType type, long long batch, int count, int leading, int runs, int run) {
  if (!runs || !run || !count) {
    return true;
  }
  size_t elements = (count - 1) * batch + (size_t)(runs - 1) * leading + run;
  return is_live(start, elements * width(type));
}

bool is_live(const Product &p) {
  int across = p.a.transposed ? p.rows : p.inner;
  int along = p.a.transposed ? p.inner : p.rows;
  int b_across = p.b.transposed ? p.inner : p.columns;
  int b_along = p.b.transposed ? p.columns : p.inner;
  return is_in_memory(p.a.start, p.a.type, p.a.batch, p.count, p.a.leading, across, along) &&
         is_in_memory(p.b.start, p.b.type, p.b.batch, p.count, p.b.leading, b_across, b_along) &&
         is_in_memory(p.c, p.type, p.batch, p.count, p.leading, p.columns, p.rows);
}

cublasStatus_t start(cublasHandle_t handle, const Product &p) {
  if (!is_known(p.a.type) || p.a.type != p.b.type || !is_known(p.type)) {
    complain("a product of numbers of types %d and %d is not supported", (int)p.a.type, (int)p.b.type);
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  if (!fits(p) || !is_live(p)) {
    complain("a product of %dx%d and %dx%d: its distances or its memory do not fit", p.rows, p.inner, p.inner,
             p.columns);
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  add_to(kind(p.a.type), 2.0 * p.rows * p.columns * p.inner * p.count);
  if (settings().null) {
    return CUBLAS_STATUS_SUCCESS;
  }
  enqueue(((Blas *)handle)->stream, [p] {
    if (!is_live(p)) {
      fail("a product's memory was freed before its stream got there");
    }
    if (p.a.type == CUDA_R_64F) {
      multiply<double>(p);
    } else {
      multiply<float>(p);
    }
  });
  return CUBLAS_STATUS_SUCCESS;
}

// Scale factors have the type that sums are made in.
double factor(const void *at, cublasComputeType_t compute) {
  switch (compute) {
    case CUBLAS_COMPUTE_64F:
    case CUBLAS_COMPUTE_64F_PEDANTIC:
      return *(const double *)at;
    case CUBLAS_COMPUTE_16F:
    case CUBLAS_COMPUTE_16F_PEDANTIC:
      return __half2float(*(const __half *)at);
    default:
      return *(const float *)at;
  }
}

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t *handle) {
  note("cublasCreate_v2");
  *handle = (cublasHandle_t) new Blas;
  return usable(__func__) ? CUBLAS_STATUS_NOT_INITIALIZED : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  delete (Blas *)handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  note("cublasSetStream_v2");
  ((Blas *)handle)->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t mode) {
  note("cublasSetMathMode", "%d", (int)mode);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t, void *workspace, size_t bytes) {
  note("cublasSetWorkspace_v2", "%zu bytes", bytes);
  return !bytes || is_live(workspace, bytes) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m,
                                          int n, int k, const void *alpha, const void *a, cudaDataType at, int lda,
                                          long long sa, const void *b, cudaDataType bt, int ldb, long long sb,
                                          const void *beta, void *c, cudaDataType ct, int ldc, long long sc,
                                          int count, cublasComputeType_t compute, cublasGemmAlgo_t) {
  note("cublasGemmStridedBatchedEx", "%dx%dx%d of %d, type %d", m, n, k, count, (int)at);
  Operand left{a, at, lda, sa, ta != CUBLAS_OP_N};
  Operand right{b, bt, ldb, sb, tb != CUBLAS_OP_N};
  double scale = factor(alpha, compute);
  return start(handle, {m, n, k, left, right, c, ct, ldc, sc, count, scale, factor(beta, compute)});
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
                            const void *alpha, const void *a, cudaDataType at, int lda, const void *b,
                            cudaDataType bt, int ldb, const void *beta, void *c, cudaDataType ct, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t algorithm) {
  note("cublasGemmEx");
  return cublasGemmStridedBatchedEx(handle, ta, tb, m, n, k, alpha, a, at, lda, 0, b, bt, ldb, 0, beta, c, ct, ldc, 0,
                                    1, compute, algorithm);
}

cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m,
                                         int n, int k, const float *alpha, const float *a, int lda, long long sa,
                                         const float *b, int ldb, long long sb, const float *beta, float *c, int ldc,
                                         long long sc, int count) {
  note("cublasSgemmStridedBatched");
  return cublasGemmStridedBatchedEx(handle, ta, tb, m, n, k, alpha, a, CUDA_R_32F, lda, sa, b, CUDA_R_32F, ldb, sb,
                                    beta, c, CUDA_R_32F, ldc, sc, count, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
}

cublasStatus_t cublasDgemmStridedBatched(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m,
                                         int n, int k, const double *alpha, const double *a, int lda, long long sa,
                                         const double *b, int ldb, long long sb, const double *beta, double *c,
                                         int ldc, long long sc, int count) {
  note("cublasDgemmStridedBatched");
  return cublasGemmStridedBatchedEx(handle, ta, tb, m, n, k, alpha, a, CUDA_R_64F, lda, sa, b, CUDA_R_64F, ldb, sb,
                                    beta, c, CUDA_R_64F, ldc, sc, count, CUBLAS_COMPUTE_64F, CUBLAS_GEMM_DEFAULT);
}

}
