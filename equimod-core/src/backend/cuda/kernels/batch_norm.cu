// Batch norm over rows of channels (channels-last), f32 or bf16. Values of each channel are f32; sums over the batch f64.
#include "common.cuh"

// Sum over the block's rows of threads, for N channels of each column of threads; valid in the first row. A block has
// 256 threads and a power of two of rows.
template <int N>
__device__ void sum_rows(float (&sums)[N], float (*shared)[N]) {
  u32 at = threadIdx.y * blockDim.x + threadIdx.x;
  __syncthreads();
  for (int i = 0; i < N; i++) shared[at][i] = sums[i];
  for (u32 half = blockDim.y / 2; half; half /= 2) {
    __syncthreads();
    if (threadIdx.y < half)
      for (int i = 0; i < N; i++) shared[at][i] += shared[at + half * blockDim.x][i];
  }
  __syncthreads();
  for (int i = 0; i < N; i++) sums[i] = shared[threadIdx.x][i];
}

// Rows of a group: each of gridDim.y groups has `chunk` consecutive rows, the last ones fewer or none.
struct Rows {
  u32 start, end;
  __device__ Rows(u32 rows, u32 chunk) : start(min(blockIdx.y * chunk, rows)), end(min(start + chunk, rows)) {}
};

// Σ(x − p) and Σ(x − p)² of each channel over a group of rows, with p the group's first value, so that the sums do not
// cancel where the mean is large. partials [groups, 3, channels]: p, Σ(x − p), Σ(x − p)².
template <class T, int N>
__device__ void bn_sums_kernel(const T *xs, float *partials, u32 rows, u32 channels, u32 chunk) {
  __shared__ float shared[256][N];
  u32 channel = Tile<N>().channel;
  Rows of_group(rows, chunk);
  float pivot[N], sum[N] = {}, square[N] = {};
  for (int i = 0; i < N; i++) pivot[i] = 0;
  if (channel < channels && of_group.start < of_group.end) {
    Pack<T, N> first = load<T, N>(xs + (size_t)of_group.start * channels + channel);
    for (int i = 0; i < N; i++) pivot[i] = wide(first.values[i]);
#pragma unroll 4
    for (u32 row = of_group.start + threadIdx.y; row < of_group.end; row += blockDim.y) {
      Pack<T, N> x = load<T, N>(xs + (size_t)row * channels + channel);
      for (int i = 0; i < N; i++) {
        float d = wide(x.values[i]) - pivot[i];
        sum[i] += d;
        square[i] += d * d;
      }
    }
  }
  sum_rows<N>(sum, shared);
  sum_rows<N>(square, shared);
  if (threadIdx.y || channel >= channels) return;
  float *out = partials + (size_t)blockIdx.y * 3 * channels + channel;
  for (int i = 0; i < N; i++) {
    out[i] = pivot[i];
    out[channels + i] = sum[i];
    out[2 * channels + i] = square[i];
  }
}
#define SUMS(T) (const T *xs, float *partials, u32 rows, u32 channels, u32 chunk)
ENTRY_POINTS(bn_sums, SUMS, (xs, partials, rows, channels, chunk))

// Σx and Σx² of each channel, sums [2, channels], from the partial sums of all groups. Blocks are (32, 8).
extern "C" __global__ void __launch_bounds__(256)
    bn_sums_finish(const float *partials, double *sums, u32 rows, u32 channels, u32 chunk, u32 groups) {
  __shared__ double shared[2][8][32];
  u32 channel = blockIdx.x * 32 + threadIdx.x;
  double sum = 0, square = 0;
  if (channel < channels)
    for (u32 group = threadIdx.y; group < groups; group += 8) {
      const float *of_group = partials + (size_t)group * 3 * channels + channel;
      u32 start = min(group * chunk, rows);
      double count = min(chunk, rows - start), p = of_group[0], s = of_group[channels], q = of_group[2 * channels];
      sum += s + count * p;
      square += q + p * (2 * s + count * p);
    }
  shared[0][threadIdx.y][threadIdx.x] = sum;
  shared[1][threadIdx.y][threadIdx.x] = square;
  __syncthreads();
  if (threadIdx.y >= 2 || channel >= channels) return;
  double total = 0;
  for (int i = 0; i < 8; i++) total += shared[threadIdx.y][i][threadIdx.x];
  sums[(size_t)threadIdx.y * channels + channel] = total;
}

// relu?(x·scale + shift + residual?); `ys` may be `xs`.
template <class T, int N>
__device__ void bn_apply_kernel(const T *xs, const float *scale, const float *shift, const T *residual, T *ys, u32 rows,
                                u32 channels, u32 relu) {
  Tile<N> tile;
  if (tile.channel >= channels) return;
  Pack<float, N> a, b;
  for (int i = 0; i < N; i++) a.values[i] = scale[tile.channel + i], b.values[i] = shift[tile.channel + i];
  for (u32 row = tile.row; row < rows; row += tile.step) {
    size_t at = (size_t)row * channels + tile.channel;
    Pack<T, N> x = load<T, N>(xs + at), more, y;
    if (residual) more = load<T, N>(residual + at);
    for (int i = 0; i < N; i++) {
      float value = wide(x.values[i]) * a.values[i] + b.values[i];
      if (residual) value += wide(more.values[i]);
      // NaN stays NaN, as in PyTorch.
      y.values[i] = narrow<T>(relu && value <= 0 ? 0 : value);
    }
    store<T, N>(ys + at, y);
  }
}
#define APPLY(T) \
  (const T *xs, const float *scale, const float *shift, const T *residual, T *ys, u32 rows, u32 channels, u32 relu)
ENTRY_POINTS(bn_apply, APPLY, (xs, scale, shift, residual, ys, rows, channels, relu))

// A gradient where the activation relu(x·scale + shift) is above 0, else 0; the gradient itself without activation.
template <int N>
struct Mask {
  float scale[N], shift[N];
  bool on;
  __device__ Mask(const float *scales, const float *shifts, u32 channel) : on(scales) {
    for (int i = 0; i < N; i++) scale[i] = on ? scales[channel + i] : 0, shift[i] = on ? shifts[channel + i] : 0;
  }
  __device__ float operator()(int i, float dy, float x) const {
    return on && !(x * scale[i] + shift[i] > 0) ? 0 : dy;
  }
};

// Σdy' and Σdy'·x̂ of each channel over a group of rows, with x̂ = (x − mean)·inverse_std; partials [groups, 2, channels].
template <class T, int N>
__device__ void bn_backward_sums_kernel(const T *dys, const T *xs, const float *mean, const float *inverse_std,
                                        const float *scale, const float *shift, float *partials, u32 rows, u32 channels,
                                        u32 chunk) {
  __shared__ float shared[256][N];
  u32 channel = Tile<N>().channel;
  Rows of_group(rows, chunk);
  float sum[N] = {}, product[N] = {};
  if (channel < channels) {
    Mask<N> mask(scale, shift, channel);
    float m[N], inverse[N];
    for (int i = 0; i < N; i++) m[i] = mean[channel + i], inverse[i] = inverse_std[channel + i];
#pragma unroll 2
    for (u32 row = of_group.start + threadIdx.y; row < of_group.end; row += blockDim.y) {
      size_t at = (size_t)row * channels + channel;
      Pack<T, N> dy = load<T, N>(dys + at), x = load<T, N>(xs + at);
      for (int i = 0; i < N; i++) {
        float value = wide(x.values[i]), d = mask(i, wide(dy.values[i]), value);
        sum[i] += d;
        product[i] += d * ((value - m[i]) * inverse[i]);
      }
    }
  }
  sum_rows<N>(sum, shared);
  sum_rows<N>(product, shared);
  if (threadIdx.y || channel >= channels) return;
  float *out = partials + (size_t)blockIdx.y * 2 * channels + channel;
  for (int i = 0; i < N; i++) out[i] = sum[i], out[channels + i] = product[i];
}
#define BACKWARD_SUMS(T)                                                                                            \
  (const T *dys, const T *xs, const float *mean, const float *inverse_std, const float *scale, const float *shift, \
   float *partials, u32 rows, u32 channels, u32 chunk)
ENTRY_POINTS(bn_backward_sums, BACKWARD_SUMS,
             (dys, xs, mean, inverse_std, scale, shift, partials, rows, channels, chunk))

// Sums over groups: partials [groups, values] → sums [values]. Blocks are (32, 8).
extern "C" __global__ void __launch_bounds__(256)
    bn_backward_sums_finish(const float *partials, double *sums, u32 values, u32 groups) {
  __shared__ double shared[8][32];
  u32 value = blockIdx.x * 32 + threadIdx.x;
  double sum = 0;
  if (value < values)
    for (u32 group = threadIdx.y; group < groups; group += 8) sum += partials[(size_t)group * values + value];
  shared[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y || value >= values) return;
  double total = 0;
  for (int i = 0; i < 8; i++) total += shared[i][threadIdx.x];
  sums[value] = total;
}

// scale·dy' + slope·x + offset; `dxs` may be `xs` or `dys`.
template <class T, int N>
__device__ void bn_backward_kernel(const T *dys, const T *xs, const float *scale, const float *slope,
                                   const float *offset, const float *mask_scale, const float *mask_shift, T *dxs,
                                   u32 rows, u32 channels) {
  Tile<N> tile;
  if (tile.channel >= channels) return;
  Mask<N> mask(mask_scale, mask_shift, tile.channel);
  float a[N], b[N], c[N];
  for (int i = 0; i < N; i++)
    a[i] = scale[tile.channel + i], b[i] = slope[tile.channel + i], c[i] = offset[tile.channel + i];
  for (u32 row = tile.row; row < rows; row += tile.step) {
    size_t at = (size_t)row * channels + tile.channel;
    Pack<T, N> dy = load<T, N>(dys + at), x = load<T, N>(xs + at), dx;
    for (int i = 0; i < N; i++) {
      float value = wide(x.values[i]);
      dx.values[i] = narrow<T>(a[i] * mask(i, wide(dy.values[i]), value) + (b[i] * value + c[i]));
    }
    store<T, N>(dxs + at, dx);
  }
}
#define BACKWARD(T)                                                                                          \
  (const T *dys, const T *xs, const float *scale, const float *slope, const float *offset,                  \
   const float *mask_scale, const float *mask_shift, T *dxs, u32 rows, u32 channels)
ENTRY_POINTS(bn_backward, BACKWARD, (dys, xs, scale, slope, offset, mask_scale, mask_shift, dxs, rows, channels))

// Statistics of a batch from sums [2, channels] of `count` values per channel, and the update of the running ones if
// they are given: running = (1 − momentum)·running + momentum·batch, with the unbiased variance.
extern "C" __global__ void bn_statistics(const double *sums, float *mean, float *inverse_std, float *running_mean,
                                         float *running_variance, double count, double epsilon, double momentum,
                                         u32 channels) {
  u32 channel = blockIdx.x * blockDim.x + threadIdx.x;
  if (channel >= channels) return;
  double m = sums[channel] / count, v = sums[channels + channel] / count - m * m;
  // NaN stays NaN.
  if (v < 0) v = 0;
  mean[channel] = (float)m;
  inverse_std[channel] = (float)(1 / sqrt(v + epsilon));
  if (!running_mean) return;
  running_mean[channel] = (float)(running_mean[channel] * (1 - momentum) + m * momentum);
  double unbiased = v * (count / (count - 1));
  running_variance[channel] = (float)(running_variance[channel] * (1 - momentum) + unbiased * momentum);
}

// Scale σ⁻¹·weight and shift bias − mean·scale; weight and bias may be absent.
extern "C" __global__ void bn_affine(const float *mean, const float *inverse_std, const float *weight,
                                     const float *bias, float *scale, float *shift, u32 channels) {
  u32 channel = blockIdx.x * blockDim.x + threadIdx.x;
  if (channel >= channels) return;
  float a = inverse_std[channel] * (weight ? weight[channel] : 1);
  scale[channel] = a;
  shift[channel] = (bias ? bias[channel] : 0) - mean[channel] * a;
}

// Coefficients [3, channels] of the input's gradient scale·dy + slope·x + offset, from the sums Σdy and Σdy·x̂
// [2, channels] of `count` values; without sums for statistics that do not depend on the batch.
extern "C" __global__ void bn_coefficients(const double *sums, const float *mean, const float *inverse_std,
                                           const float *weight, float *coefficients, double count, u32 channels) {
  u32 channel = blockIdx.x * blockDim.x + threadIdx.x;
  if (channel >= channels) return;
  double inverse = inverse_std[channel], scale = inverse * (weight ? weight[channel] : 1);
  double mean_dy = sums ? sums[channel] / count : 0, mean_dy_xhat = sums ? sums[channels + channel] / count : 0;
  double slope = -(scale * inverse * mean_dy_xhat);
  coefficients[channel] = (float)scale;
  coefficients[channels + channel] = (float)slope;
  coefficients[2 * channels + channel] = (float)(-scale * mean_dy - slope * mean[channel]);
}

// Gradient of a ReLU's input with output y: dy·[y > 0] with the gradient of another path added before (order 1) or after
// (order 2) the mask. `dxs` may be `dys` or `more`.
template <class T, int N>
__device__ void relu_backward_kernel(const T *dys, const T *more, const T *ys, T *dxs, size_t count, u32 order) {
  size_t stride = (size_t)gridDim.x * blockDim.x * N;
  for (size_t at = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * N; at < count; at += stride) {
    Pack<T, N> dy = load<T, N>(dys + at), y = load<T, N>(ys + at), other, dx;
    if (order) other = load<T, N>(more + at);
    for (int i = 0; i < N; i++) {
      float value = wide(dy.values[i]);
      if (order == 1) value += wide(other.values[i]);
      if (!(wide(y.values[i]) > 0)) value = 0;
      if (order == 2) value += wide(other.values[i]);
      dx.values[i] = narrow<T>(value);
    }
    store<T, N>(dxs + at, dx);
  }
}
#define RELU_BACKWARD(T) (const T *dys, const T *more, const T *ys, T *dxs, size_t count, u32 order)
ENTRY_POINTS(relu_backward, RELU_BACKWARD, (dys, more, ys, dxs, count, order))
