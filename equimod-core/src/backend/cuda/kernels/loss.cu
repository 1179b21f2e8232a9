// Cross-entropy over the rows of a similarity matrix, with positives and excluded columns by rule.
#include "common.cuh"

// Rule for positives and excluded columns, as in `RowTargets`.
enum { SAME_ROW = 0, OTHER_HALF = 1, OTHER_HALF_WITHOUT_SIBLINGS = 2 };
struct Targets {
  u32 first, local, offset, positives, decoupled;
};

// Positive of a row and up to four columns that it excludes from its sum.
struct Columns {
  u32 positive, excluded[4];
  __device__ Columns(const Targets &t, u32 matrix_row) {
    u32 row = t.first + matrix_row, half = t.local / 2, quarter = t.local / 4, none = 0xffffffffu;
    u32 partner = t.positives == SAME_ROW ? row : (row + half) % t.local;
    positive = t.offset + partner;
    excluded[0] = t.positives == SAME_ROW ? none : t.offset + row;
    excluded[1] = excluded[2] = none;
    if (t.positives == OTHER_HALF_WITHOUT_SIBLINGS) {
      excluded[1] = t.offset + (row % half < quarter ? row + quarter : row - quarter);
      excluded[2] = t.offset + (partner % half < quarter ? partner + quarter : partner - quarter);
    }
    excluded[3] = t.decoupled ? positive : none;
  }
  __device__ bool counts(u32 column) const {
    return column != excluded[0] && column != excluded[1] && column != excluded[2] && column != excluded[3];
  }
};

// Loss log Σ_j exp s_j − s_p of each row, and the gradient softmax(s) − onehot(p) in place of the similarities. One
// block for each row; if all columns are excluded, the loss is −s_p.
extern "C" __global__ void __launch_bounds__(256)
    cross_entropy(float *similarities, float *losses, u32 columns, Targets targets) {
  float *row = similarities + (size_t)blockIdx.x * columns;
  Columns of_row(targets, blockIdx.x);
  float positive = row[of_row.positive], highest = -INFINITY;
  bool is_nan = false;
  for (u32 column = threadIdx.x; column < columns; column += blockDim.x)
    if (of_row.counts(column)) {
      highest = fmaxf(highest, row[column]);
      is_nan |= row[column] != row[column];
    }
  highest = block_max(highest);
  float sum = 0;
  for (u32 column = threadIdx.x; column < columns; column += blockDim.x)
    if (of_row.counts(column)) sum += expf(row[column] - highest);
  if (is_nan) sum = NAN;
  sum = (float)block_sum<double>((double)sum);
  bool compared = highest != -INFINITY || sum != sum;
  for (u32 column = threadIdx.x; column < columns; column += blockDim.x) {
    float weight = of_row.counts(column) && compared ? expf(row[column] - highest) / sum : 0;
    row[column] = weight - (column == of_row.positive ? 1 : 0);
  }
  if (threadIdx.x == 0) losses[blockIdx.x] = (compared ? logf(sum) + highest : 0) - positive;
}
