// Pools over rows of channels (channels-last), f32 or bf16.
#include "common.cuh"

// Maximum of each window and its index in the H × W plane. The first of equal values wins, and NaN wins over numbers.
template <class T, int N>
__device__ void max_pool_kernel(const T *xs, T *ys, u32 *winners, u32 batch, u32 channels, u32 height, u32 width,
                                u32 out_height, u32 out_width, u32 kernel, u32 stride, u32 padding) {
  u32 packs = channels / N, count = batch * out_height * out_width;
  size_t total = (size_t)count * packs, step = (size_t)gridDim.x * blockDim.x;
  for (size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x; at < total; at += step) {
    u32 row = (u32)(at / packs), channel = (u32)(at % packs) * N;
    u32 column = row % out_width, line = row / out_width % out_height, image = row / (out_width * out_height);
    float best[N];
    u32 winner[N];
    bool first = true;
    for (u32 ky = 0; ky < kernel; ky++)
      for (u32 kx = 0; kx < kernel; kx++) {
        u32 y = line * stride + ky - padding, x = column * stride + kx - padding;
        if (y >= height || x >= width) continue;  // Negative positions wrap around.
        u32 place = y * width + x;
        Pack<T, N> pack = load<T, N>(xs + ((size_t)image * height * width + place) * channels + channel);
        for (int i = 0; i < N; i++) {
          float value = wide(pack.values[i]);
          if (first || value > best[i] || (value != value && best[i] == best[i])) best[i] = value, winner[i] = place;
        }
        first = false;
      }
    Pack<T, N> y;
    for (int i = 0; i < N; i++) y.values[i] = narrow<T>(best[i]);
    size_t to = (size_t)row * channels + channel;
    store<T, N>(ys + to, y);
    for (int i = 0; i < N; i++) winners[to + i] = winner[i];
  }
}
#define MAX_POOL(T)                                                                                              \
  (const T *xs, T *ys, u32 *winners, u32 batch, u32 channels, u32 height, u32 width, u32 out_height, u32 out_width, \
   u32 kernel, u32 stride, u32 padding)
ENTRY_POINTS(max_pool, MAX_POOL,
             (xs, ys, winners, batch, channels, height, width, out_height, out_width, kernel, stride, padding))

// Gradient of each input, the sum over the windows that it has won, in a fixed order.
template <class T, int N>
__device__ void max_pool_backward_kernel(const T *dys, const u32 *winners, T *dxs, u32 batch, u32 channels, u32 height,
                                         u32 width, u32 out_height, u32 out_width, u32 kernel, u32 stride,
                                         u32 padding) {
  u32 packs = channels / N, count = batch * height * width;
  size_t total = (size_t)count * packs, step = (size_t)gridDim.x * blockDim.x;
  for (size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x; at < total; at += step) {
    u32 row = (u32)(at / packs), channel = (u32)(at % packs) * N;
    u32 x = row % width, y = row / width % height, image = row / (width * height), place = y * width + x;
    float sum[N] = {};
    // Windows whose first line or column is within `kernel` of this one.
    u32 first_line = y + padding < kernel ? 0 : (y + padding - kernel) / stride + 1;
    u32 first_column = x + padding < kernel ? 0 : (x + padding - kernel) / stride + 1;
    for (u32 line = first_line; line < out_height && line * stride <= y + padding; line++)
      for (u32 column = first_column; column < out_width && column * stride <= x + padding; column++) {
        size_t from = (((size_t)image * out_height + line) * out_width + column) * channels + channel;
        Pack<T, N> dy = load<T, N>(dys + from);
        for (int i = 0; i < N; i++)
          if (winners[from + i] == place) sum[i] += wide(dy.values[i]);
      }
    Pack<T, N> dx;
    for (int i = 0; i < N; i++) dx.values[i] = narrow<T>(sum[i]);
    store<T, N>(dxs + (size_t)row * channels + channel, dx);
  }
}
#define MAX_POOL_BACKWARD(T)                                                                                \
  (const T *dys, const u32 *winners, T *dxs, u32 batch, u32 channels, u32 height, u32 width, u32 out_height, \
   u32 out_width, u32 kernel, u32 stride, u32 padding)
ENTRY_POINTS(max_pool_backward, MAX_POOL_BACKWARD,
             (dys, winners, dxs, batch, channels, height, width, out_height, out_width, kernel, stride, padding))

// Mean over the H × W plane: xs [batch, area, channels] → ys [batch, channels].
template <class T, int N>
__device__ void average_pool_kernel(const T *xs, T *ys, u32 batch, u32 area, u32 channels) {
  Tile<N> tile;
  if (tile.channel >= channels) return;
  for (u32 image = tile.row; image < batch; image += tile.step) {
    float sum[N] = {};
    for (u32 place = 0; place < area; place++) {
      Pack<T, N> x = load<T, N>(xs + ((size_t)image * area + place) * channels + tile.channel);
      for (int i = 0; i < N; i++) sum[i] += wide(x.values[i]);
    }
    Pack<T, N> y;
    for (int i = 0; i < N; i++) y.values[i] = narrow<T>(sum[i] / area);
    store<T, N>(ys + (size_t)image * channels + tile.channel, y);
  }
}
#define AVERAGE_POOL(T) (const T *xs, T *ys, u32 batch, u32 area, u32 channels)
ENTRY_POINTS(average_pool, AVERAGE_POOL, (xs, ys, batch, area, channels))

// Gradient of the mean's input: dys [batch, channels] → dxs [batch, area, channels].
template <class T, int N>
__device__ void average_pool_backward_kernel(const T *dys, T *dxs, u32 batch, u32 area, u32 channels) {
  Tile<N> tile;
  if (tile.channel >= channels) return;
  for (u32 row = tile.row; row < batch * area; row += tile.step) {
    Pack<T, N> dy = load<T, N>(dys + (size_t)(row / area) * channels + tile.channel), dx;
    for (int i = 0; i < N; i++) dx.values[i] = narrow<T>(wide(dy.values[i]) / area);
    store<T, N>(dxs + (size_t)row * channels + tile.channel, dx);
  }
}
#define AVERAGE_POOL_BACKWARD(T) (const T *dys, T *dxs, u32 batch, u32 area, u32 channels)
ENTRY_POINTS(average_pool_backward, AVERAGE_POOL_BACKWARD, (dys, dxs, batch, area, channels))
