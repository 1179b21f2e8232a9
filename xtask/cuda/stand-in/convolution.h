// Convolutions of packed numbers: pictures as [N, H, W, C], so that inner loops run over channels.
// Sums of one row of channels are made in the type of the numbers, and added in f64.
#pragma once
#include <algorithm>
#include <vector>

namespace standin {

struct Geometry {
  int pictures, inputs, outputs, groups;
  int height, width;
  int out_height, out_width;
  int filter[2], pad[2], stride[2], dilation[2];

  int group_inputs() const { return inputs / groups; }
  int group_outputs() const { return outputs / groups; }
  size_t filter_size() const { return (size_t)filter[0] * filter[1] * group_inputs(); }
  // The input's row or column under place `at` of the filter, for the output's row or column `out`.
  int under(int axis, int out, int at) const { return out * stride[axis] - pad[axis] + at * dilation[axis]; }
  double flops() const { return 2.0 * pictures * out_height * out_width * outputs * filter_size(); }
};

template <class T>
inline void add_scaled(T *__restrict to, const T *__restrict from, T factor, int count) {
  for (int i = 0; i < count; i++) {
    to[i] += factor * from[i];
  }
}

template <class T>
inline void add_all(double *__restrict to, T *__restrict from, int count) {
  for (int i = 0; i < count; i++) {
    to[i] += from[i];
    from[i] = 0;
  }
}

// One row of outputs; `w` is [filter, filter, C / groups, K].
template <class T>
void forward_row(const Geometry &g, const T *x, const T *w, int out_row, double *y) {
  int inputs = g.group_inputs();
  int outputs = g.group_outputs();
  std::vector<T> part(g.outputs, T(0));
  for (int r = 0; r < g.filter[0]; r++) {
    int row = g.under(0, out_row, r);
    for (int s = 0; s < g.filter[1] && row >= 0 && row < g.height; s++) {
      const T *weights = w + (size_t)(r * g.filter[1] + s) * inputs * g.outputs;
      for (int out = 0; out < g.out_width; out++) {
        int column = g.under(1, out, s);
        if (column < 0 || column >= g.width) {
          continue;
        }
        const T *pixel = x + ((size_t)row * g.width + column) * g.inputs;
        for (int c = 0; c < g.inputs; c++) {
          int first = c / inputs * outputs;
          add_scaled(&part[first], weights + (size_t)(c % inputs) * g.outputs + first, pixel[c], outputs);
        }
        add_all(y + (size_t)out * g.outputs, part.data(), g.outputs);
      }
    }
  }
}

template <class T>
void forward(const Geometry &g, const std::vector<T> &x, const std::vector<T> &w, std::vector<double> &y) {
  size_t picture = (size_t)g.height * g.width * g.inputs;
  size_t row = (size_t)g.out_width * g.outputs;
  #pragma omp parallel for schedule(dynamic)
  for (int i = 0; i < g.pictures * g.out_height; i++) {
    forward_row(g, x.data() + i / g.out_height * picture, w.data(), i % g.out_height, y.data() + i * row);
  }
}

// One row of the input's gradient; `w` is [K, filter, filter, C / groups].
template <class T>
void backward_data_row(const Geometry &g, const T *dy, const T *w, int row, double *dx) {
  int inputs = g.group_inputs();
  std::vector<T> part(g.inputs, T(0));
  for (int r = 0; r < g.filter[0]; r++) {
    int scaled = row + g.pad[0] - r * g.dilation[0];
    int out_row = scaled / g.stride[0];
    bool inside = scaled >= 0 && scaled % g.stride[0] == 0 && out_row < g.out_height;
    for (int s = 0; s < g.filter[1] && inside; s++) {
      for (int out = 0; out < g.out_width; out++) {
        int column = g.under(1, out, s);
        if (column < 0 || column >= g.width) {
          continue;
        }
        const T *pixel = dy + ((size_t)out_row * g.out_width + out) * g.outputs;
        for (int k = 0; k < g.outputs; k++) {
          const T *weights = w + k * g.filter_size() + (size_t)(r * g.filter[1] + s) * inputs;
          add_scaled(&part[k / g.group_outputs() * inputs], weights, pixel[k], inputs);
        }
        add_all(dx + (size_t)column * g.inputs, part.data(), g.inputs);
      }
    }
  }
}

template <class T>
void backward_data(const Geometry &g, const std::vector<T> &dy, const std::vector<T> &w, std::vector<double> &dx) {
  size_t picture = (size_t)g.out_height * g.out_width * g.outputs;
  size_t row = (size_t)g.width * g.inputs;
  #pragma omp parallel for schedule(dynamic)
  for (int i = 0; i < g.pictures * g.height; i++) {
    backward_data_row(g, dy.data() + i / g.height * picture, w.data(), i % g.height, dx.data() + i * row);
  }
}

// What one output's row adds to the gradient of the filter of channel `k`, [filter, filter, C / groups].
template <class T>
void backward_filter_row(const Geometry &g, const T *x, const T *dy, int out_row, int k, T *part) {
  int inputs = g.group_inputs();
  int first = k / g.group_outputs() * inputs;
  for (int r = 0; r < g.filter[0]; r++) {
    int row = g.under(0, out_row, r);
    for (int s = 0; s < g.filter[1] && row >= 0 && row < g.height; s++) {
      T *to = part + (size_t)(r * g.filter[1] + s) * inputs;
      for (int out = 0; out < g.out_width; out++) {
        int column = g.under(1, out, s);
        if (column >= 0 && column < g.width) {
          const T *pixel = x + ((size_t)row * g.width + column) * g.inputs + first;
          add_scaled(to, pixel, dy[(size_t)out * g.outputs + k], inputs);
        }
      }
    }
  }
}

template <class T>
void backward_filter(const Geometry &g, const std::vector<T> &x, const std::vector<T> &dy, std::vector<double> &dw) {
  size_t picture = (size_t)g.height * g.width * g.inputs;
  size_t row = (size_t)g.out_width * g.outputs;
  #pragma omp parallel for schedule(dynamic)
  for (int k = 0; k < g.outputs; k++) {
    std::vector<T> part(g.filter_size(), T(0));
    for (int i = 0; i < g.pictures * g.out_height; i++) {
      const T *from = x.data() + i / g.out_height * picture;
      backward_filter_row(g, from, dy.data() + i * row, i % g.out_height, k, part.data());
      add_all(&dw[k * g.filter_size()], part.data(), (int)g.filter_size());
    }
  }
}

}  // namespace standin
