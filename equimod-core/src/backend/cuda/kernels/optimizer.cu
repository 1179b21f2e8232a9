// Norms, optimizer steps and moving averages of many tensors at once, f32. The second dimension of a grid is the tensor.
#include "common.cuh"

#define TENSORS 48

// A list of tensors, passed by value.
struct List {
  float *values[TENSORS];
};
struct ConstList {
  const float *values[TENSORS];
};
struct Lengths {
  u32 values[TENSORS];
};
struct Factors {
  float values[TENSORS];
};

#define EACH(at, length) \
  for (u32 at = blockIdx.x * blockDim.x + threadIdx.x; at < length; at += gridDim.x * blockDim.x)

// Partial sums of Σ (v + factor·w)² of each tensor, partials [tensors, gridDim.x]; only Σ v² without factors.
extern "C" __global__ void __launch_bounds__(256)
    squares(ConstList v, ConstList w, Factors factors, Lengths lengths, u32 with_factors, double *partials) {
  u32 tensor = blockIdx.y, length = lengths.values[tensor];
  const float *of_v = v.values[tensor], *of_w = w.values[tensor];
  float factor = factors.values[tensor], sum = 0;
  EACH(at, length) {
    float value = with_factors ? of_v[at] + factor * of_w[at] : of_v[at];
    sum += value * value;
  }
  double total = block_sum<double>((double)sum);
  if (threadIdx.x == 0) partials[(size_t)tensor * gridDim.x + blockIdx.x] = total;
}

// Sums over the last dimension of partials [gridDim.x, count]: sums [gridDim.x].
extern "C" __global__ void __launch_bounds__(256) squares_finish(const double *partials, double *sums, u32 count) {
  double sum = 0;
  for (u32 at = threadIdx.x; at < count; at += blockDim.x) sum += partials[(size_t)blockIdx.x * count + at];
  sum = block_sum<double>(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// `result = factor·value` of each tensor.
extern "C" __global__ void __launch_bounds__(256)
    scale(ConstList values, List results, Lengths lengths, const float *factor) {
  u32 tensor = blockIdx.y, length = lengths.values[tensor];
  const float *from = values.values[tensor];
  float *to = results.values[tensor], by = *factor;
  EACH(at, length) to[at] = by * from[at];
}

// A momentum step: `d = inner·(g + decay·w)`; `buffer = momentum·buffer + d`; `w −= outer·buffer`, or with Nesterov
// momentum `w −= outer·(d + momentum·buffer)`.
struct Momentum {
  float momentum, inner, outer;
  u32 nesterov;
};

// LARS: `inner` is multiplied by `(1 − adaptation) + adaptation·η‖w‖/‖g‖`, or by 1 where a norm is 0.
struct Trust {
  float coefficient, adaptation;
  u32 by_product;
  __device__ float operator()(double w_square, double g_square) const {
    float w = (float)sqrt(w_square), g = (float)sqrt(g_square);
    bool positive = by_product ? w * g > 0 : w > 0 && g > 0;
    float ratio = positive ? coefficient * w / g : 1;
    return (1 - adaptation) + adaptation * ratio;
  }
};

// `norms` are ‖w‖² and ‖g + decay·w‖² of each tensor, [2, gridDim.y], or null for plain momentum. Nothing is changed if
// `open` is given and 0.
extern "C" __global__ void __launch_bounds__(256)
    momentum_steps(List weights, List buffers, ConstList gradients, Factors decays, Lengths lengths, Momentum rule,
                   Trust trust, const double *norms, const u8 *open) {
  if (open && !*open) return;
  u32 tensor = blockIdx.y, length = lengths.values[tensor];
  float inner = rule.inner, decay = decays.values[tensor];
  if (norms) inner *= trust(norms[tensor], norms[gridDim.y + tensor]);
  float *weight = weights.values[tensor], *buffer = buffers.values[tensor];
  const float *gradient = gradients.values[tensor];
  EACH(at, length) {
    float d = inner * (gradient[at] + decay * weight[at]), m = rule.momentum * buffer[at] + d;
    buffer[at] = m;
    weight[at] -= rule.outer * (rule.nesterov ? d + rule.momentum * m : m);
  }
}

// An AdamW step: `m = β1·m + (1 − β1)·g`; `v = β2·v + (1 − β2)·g²`; `w = kept·w − rate·m/(√v / root + ε)`.
struct Adam {
  float beta1, beta2, epsilon, rate, root;
};

// `moments` hold m and v of each value side by side; `kept` is a factor of each tensor.
extern "C" __global__ void __launch_bounds__(256)
    adamw_steps(List weights, List moments, ConstList gradients, Factors kept, Lengths lengths, Adam rule,
                const u8 *open) {
  if (open && !*open) return;
  u32 tensor = blockIdx.y, length = lengths.values[tensor];
  float *weight = weights.values[tensor], *both = moments.values[tensor];
  const float *gradient = gradients.values[tensor];
  EACH(at, length) {
    float g = gradient[at], m = rule.beta1 * both[2 * at] + (1 - rule.beta1) * g;
    float v = rule.beta2 * both[2 * at + 1] + (1 - rule.beta2) * (g * g);
    both[2 * at] = m;
    both[2 * at + 1] = v;
    weight[at] = kept.values[tensor] * weight[at] - rule.rate * m / (sqrtf(v) / rule.root + rule.epsilon);
  }
}

// `target = kept·target + (1 − kept)·source` of each tensor, unless `open` is given and 0.
extern "C" __global__ void __launch_bounds__(256)
    move_towards(List targets, ConstList sources, Lengths lengths, float kept, float moved, const u8 *open) {
  if (open && !*open) return;
  u32 tensor = blockIdx.y, length = lengths.values[tensor];
  float *target = targets.values[tensor];
  const float *source = sources.values[tensor];
  EACH(at, length) target[at] = kept * target[at] + moved * source[at];
}
