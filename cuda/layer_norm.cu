// Layer normalisation over the last axis (src/ops/layer_norm.rs).
#include "layer_norm.cuh"

// One block per row.
KERNEL(layer_norm_forward)(const master* x, const master* weight, const master* bias, elem* y,
                           master* mean, master* rstd, Index cols, double eps) {
  const Index r = blockIdx.x;
  x += r * cols;
  const Moments m = row_moments(x, cols, eps);
  normalise_row(x, m, weight, bias, y + r * cols, cols);
  if (threadIdx.x == 0) {
    mean[r] = m.mean;
    rstd[r] = m.rstd;
  }
}
EXPORT(layer_norm_forward)

// One block per row.
KERNEL(layer_norm_backward)(const master* x, const master* mean, const master* rstd,
                            const master* weight, const elem* dy, master* dx, Index cols) {
  const Index r = blockIdx.x;
  dx += r * cols;
  normalise_row_backward(x + r * cols, {mean[r], rstd[r]}, weight, dy + r * cols, cols,
                         [&](Index c, master d) { dx[c] = d; });
}
EXPORT(layer_norm_backward)

// Sums of dy xhat and of dy within pieces of `step` rows: partials [pieces, 2 cols]. One thread per
// column, one row of blocks per piece.
KERNEL(layer_norm_param_sums)(const master* x, const master* mean, const master* rstd,
                              const elem* dy, master* partials, Index rows, Index cols,
                              Index step) {
  const Index c = (Index)blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= cols) return;
  const Index first = blockIdx.y * step, last = min(first + step, rows);
  master dweight = 0, dbias = 0;
  for (Index r = first; r < last; ++r) {
    const master d = wide(dy[r * cols + c]);
    dweight += d * (x[r * cols + c] - mean[r]) * rstd[r];
    dbias += d;
  }
  partials[blockIdx.y * 2 * cols + c] = dweight;
  partials[(blockIdx.y * 2 + 1) * cols + c] = dbias;
}
EXPORT(layer_norm_param_sums)
