// Views from 8-bit originals: one block makes one view, in the arithmetic of the CPU's image operations, bit for bit.
//
// `__fmul_rn` and its like keep the compiler from contracting a product and a sum, which the CPU rounds separately.
#include "common.cuh"

// A view, as views.rs lays it out. `tables` and the places in operations count words.
struct View {
  unsigned long long pixels, scratch;
  u32 stride, first_row, rows, column_slots, row_slots, tables, operations, reserved;
};

// Kind and up to five values of an operation, in the order of views.rs.
enum {
  HORIZONTAL_FLIP, VERTICAL_FLIP, BRIGHTNESS, CONTRAST, SATURATION, HUE, GRAYSCALE, SOLARIZE, POSTERIZE, BLUR, FILL
};
struct Operation {
  u32 kind, values[5];
  __device__ float factor() const { return __uint_as_float(values[0]); }
};

struct Pixel {
  int r, g, b;
};

__device__ __forceinline__ Pixel load_pixel(const u8 *at) { return {at[0], at[1], at[2]}; }
__device__ __forceinline__ void store_pixel(u8 *at, Pixel pixel) {
  at[0] = (u8)pixel.r, at[1] = (u8)pixel.g, at[2] = (u8)pixel.b;
}

__device__ __forceinline__ int truncated(float value) { return (int)fminf(fmaxf(value, 0.0f), 255.0f); }
__device__ __forceinline__ int truncated(double value) { return (int)fmin(fmax(value, 0.0), 255.0); }

__device__ __forceinline__ int luminance(Pixel p) { return (19595 * p.r + 38470 * p.g + 7471 * p.b + 32768) >> 16; }

// a + factor·(b − a), truncated.
__device__ __forceinline__ int blend(int a, int b, float factor) {
  if (factor == 0.0f) return a;
  if (factor == 1.0f) return b;
  return truncated(__fadd_rn((float)a, __fmul_rn(factor, (float)(b - a))));
}

__device__ Pixel saturated(Pixel p, float factor) {
  float gray = (float)luminance(p);
  if (factor == 1.0f) return p;
  auto channel = [&](int value) { return truncated(__fadd_rn(gray, __fmul_rn(factor, __fsub_rn((float)value, gray)))); };
  return {channel(p.r), channel(p.g), channel(p.b)};
}

// Shift of the hue by `steps` of 255 through HSV in bytes.
__device__ Pixel hue_shifted(Pixel in, int steps) {
  int r = in.r, g = in.g, b = in.b, highest = max(r, max(g, b)), lowest = min(r, min(g, b));
  if (highest == lowest) return in;
  float range = (float)(highest - lowest), other = __fdiv_rn((float)(highest - (r + g + b - highest - lowest)), range);
  bool rising = r == highest ? g <= b : g == highest ? b <= r : r <= g;
  float base = (r == highest ? -1.0f : g == highest ? 1.0f : 3.0f) + (rising ? 0.0f : 2.0f);
  float sixths = __fadd_rn(base, rising ? other : -other);
  double circle = __dadd_rn(__dmul_rn((double)sixths, 1.0 / 6.0), 1.0);
  if (circle >= 1.0) circle -= 1.0;
  int hue = truncated(__dmul_rn((double)(float)circle, 255.0));
  int saturation = truncated(__dmul_rn((double)__fdiv_rn(range, (float)highest), 255.0));

  int in_sixths = ((hue + steps) & 255) * 6, sector = in_sixths / 255;
  float f = (float)__dmul_rn((double)(in_sixths - 255 * sector), 1.0 / 255.0);
  float fs = (float)__dmul_rn((double)saturation, 1.0 / 255.0);
  auto scaled = [&](double share) {
    return truncated(__dadd_rn(__dmul_rn((double)highest, __dsub_rn(1.0, share)), 0.5));
  };
  int p = scaled((double)fs);
  bool odd = sector & 1;
  int slope = scaled(odd ? (double)__fmul_rn(fs, f) : __dmul_rn((double)fs, __dsub_rn(1.0, (double)f)));
  int first = odd ? slope : highest, second = odd ? highest : slope;
  switch (sector % 6 / 2) {
    case 0: return {first, second, p};
    case 1: return {p, first, second};
    default: return {second, p, first};
  }
}

// First input pixel and number of weights of an output pixel.
struct Bounds {
  u32 low, count;
};

const int PRECISION = 22;

__device__ __forceinline__ u8 rounded(int sum) {
  return (u8)min(max((sum + (1 << (PRECISION - 1))) >> PRECISION, 0), 255);
}

// The rows of the part that the second pass reads, resampled to the view's width.
__device__ void resample_rows(const u8 *part, const View &view, const Bounds *bounds, const int *weights, u32 width,
                              u8 *lines) {
  for (u32 at = threadIdx.x; at < view.rows * width; at += blockDim.x) {
    u32 x = at % width;
    const u8 *from = part + (size_t)(view.first_row + at / width) * view.stride + bounds[x].low * 3;
    u8 *to = lines + (size_t)at * 3;
    if (view.column_slots == 0) {
      store_pixel(to, load_pixel(from));
      continue;
    }
    int sums[3] = {0, 0, 0};
    for (u32 k = 0; k < bounds[x].count; k++)
      for (int c = 0; c < 3; c++) sums[c] += from[k * 3 + c] * weights[x * view.column_slots + k];
    for (int c = 0; c < 3; c++) to[c] = rounded(sums[c]);
  }
}

// Those rows, resampled to the view's height.
__device__ void resample_columns(const u8 *lines, const View &view, const Bounds *bounds, const int *weights,
                                 u32 height, u32 row, u8 *out) {
  for (u32 at = threadIdx.x; at < height * row; at += blockDim.x) {
    u32 y = at / row;
    const u8 *from = lines + (size_t)(bounds[y].low - view.first_row) * row + at % row;
    int sum = 0;
    for (u32 k = 0; k < bounds[y].count && view.row_slots; k++)
      sum += from[(size_t)k * row] * weights[y * view.row_slots + k];
    out[at] = view.row_slots ? rounded(sum) : *from;
  }
}

// Exchanges pixels: of columns with their mirror images, or of rows.
__device__ void flip(u8 *out, u32 height, u32 width, bool columns) {
  u32 w = columns ? width / 2 : width, h = columns ? height : height / 2;
  for (u32 at = threadIdx.x; at < w * h; at += blockDim.x) {
    u32 x = at % w, y = at / w;
    u8 *one = out + (size_t)(y * width + x) * 3;
    u8 *other = out + (size_t)(columns ? y * width + width - 1 - x : (height - 1 - y) * width + x) * 3;
    Pixel pixel = load_pixel(one);
    store_pixel(one, load_pixel(other));
    store_pixel(other, pixel);
  }
}

// Index reflected at the outermost pixels as often as needed.
__device__ __forceinline__ int reflect(int index, int length) {
  int period = max(2 * (length - 1), 1);
  index = ((index % period) + period) % period;
  return min(index, period - index);
}

// Gaussian blur: rows into `lines`, then columns.
__device__ void blur(u8 *out, float *lines, int height, int width, const float *weights, int count) {
  int half = count / 2, row = width * 3;
  for (int at = threadIdx.x; at < height * row; at += blockDim.x) {
    int x = at % row / 3;
    const u8 *from = out + (size_t)(at / row) * row + at % 3;
    float sum = 0;
    for (int k = 0; k < count; k++)
      sum = __fadd_rn(sum, __fmul_rn(weights[k], (float)from[reflect(x + k - half, width) * 3]));
    lines[at] = sum;
  }
  __syncthreads();
  for (int at = threadIdx.x; at < height * row; at += blockDim.x) {
    int y = at / row;
    float sum = 0;
    for (int k = 0; k < count; k++)
      sum = __fadd_rn(sum, __fmul_rn(weights[k], lines[(size_t)reflect(y + k - half, height) * row + at % row]));
    out[at] = (u8)truncated(rintf(sum));
  }
}

template <class F>
__device__ __forceinline__ void each_pixel(u8 *out, u32 pixels, F change) {
  for (u32 at = threadIdx.x; at < pixels; at += blockDim.x)
    store_pixel(out + (size_t)at * 3, change(load_pixel(out + (size_t)at * 3)));
}

template <class F>
__device__ __forceinline__ void each_value(u8 *out, u32 pixels, F change) {
  each_pixel(out, pixels, [&](Pixel p) { return Pixel{change(p.r), change(p.g), change(p.b)}; });
}

__device__ int mean_luminance(const u8 *out, u32 pixels) {
  unsigned long long sum = 0;
  for (u32 at = threadIdx.x; at < pixels; at += blockDim.x) sum += luminance(load_pixel(out + (size_t)at * 3));
  sum = block_sum(sum);
  return truncated(__dadd_rn(__ddiv_rn((double)sum, (double)pixels), 0.5));
}

__device__ void fill(u8 *out, u32 width, const u32 *values) {
  u32 top = values[0], left = values[1], h = values[2], w = values[3], color = values[4];
  Pixel pixel = {(int)(color & 255), (int)(color >> 8 & 255), (int)(color >> 16 & 255)};
  for (u32 at = threadIdx.x; at < h * w; at += blockDim.x)
    store_pixel(out + (size_t)((top + at / w) * width + left + at % w) * 3, pixel);
}

__device__ void apply(const Operation &op, const u32 *words, u8 *out, float *scratch, u32 height, u32 width) {
  u32 pixels = height * width, value = op.values[0];
  float factor = op.factor();
  switch (op.kind) {
    case HORIZONTAL_FLIP: return flip(out, height, width, true);
    case VERTICAL_FLIP: return flip(out, height, width, false);
    case BRIGHTNESS: return each_value(out, pixels, [=](int v) { return blend(0, v, factor); });
    case CONTRAST: {
      int mean = mean_luminance(out, pixels);
      return each_value(out, pixels, [=](int v) { return blend(mean, v, factor); });
    }
    case SATURATION: return each_pixel(out, pixels, [=](Pixel p) { return saturated(p, factor); });
    case HUE: return each_pixel(out, pixels, [=](Pixel p) { return hue_shifted(p, (int)value); });
    case GRAYSCALE:
      return each_pixel(out, pixels, [](Pixel p) {
        int gray = luminance(p);
        return Pixel{gray, gray, gray};
      });
    case SOLARIZE: return each_value(out, pixels, [=](int v) { return v < (int)value ? v : 255 - v; });
    case POSTERIZE: return each_value(out, pixels, [=](int v) { return v & (int)value; });
    case BLUR: return blur(out, scratch, height, width, (const float *)(words + value), op.values[1]);
    case FILL: return fill(out, width, op.values);
  }
}

// Views [blocks, height, width, 3] of the originals. Tables of a view: bounds of its columns and rows, weights of both,
// operations.
extern "C" __global__ void __launch_bounds__(1024)
    make_views(const u8 *originals, const View *views, const u32 *words, u8 *scratch, u8 *out, u32 height, u32 width) {
  View view = views[blockIdx.x];
  const Bounds *columns = (const Bounds *)(words + view.tables), *rows = columns + width;
  const int *column_weights = (const int *)(rows + height), *row_weights = column_weights + width * view.column_slots;
  const Operation *operations = (const Operation *)(row_weights + height * view.row_slots);
  u8 *lines = scratch + view.scratch;
  out += (size_t)blockIdx.x * height * width * 3;
  resample_rows(originals + view.pixels, view, columns, column_weights, width, lines);
  __syncthreads();
  resample_columns(lines, view, rows, row_weights, height, width * 3, out);
  for (u32 k = 0; k < view.operations; k++) {
    __syncthreads();
    apply(operations[k], words, out, (float *)lines, height, width);
  }
}
