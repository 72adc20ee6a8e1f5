// Batch normalisation of channels (src/ops/batch_norm.rs): x [rows, cols].
#include "prelude.cuh"

// Sums of (x - mean)^2 within pieces of `step` rows: partials [pieces, cols]. One thread per column, one
// row of blocks per piece.
KERNEL(batch_norm_squares)(const elem* x, const master* mean, master* partials, Index rows,
                           Index cols, Index step) {
  const Index c = (Index)blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= cols) return;
  const Index first = blockIdx.y * step, last = min(first + step, rows);
  const master middle = mean[c];
  master sum = 0;
  for (Index r = first; r < last; ++r) {
    const master d = wide(x[r * cols + c]) - middle;
    sum += d * d;
  }
  partials[blockIdx.y * cols + c] = sum;
}
EXPORT(batch_norm_squares)

// The pieces' sums [pieces, cols] over the number of rows. One thread per column.
KERNEL(batch_norm_average)(const master* partials, master* out, Index cols, Index pieces,
                           Index rows) {
  FOR_EACH(c, cols) {
    master sum = 0;
    for (Index p = 0; p < pieces; ++p) sum += partials[p * cols + c];
    out[c] = sum / (master)rows;
  }
}
EXPORT(batch_norm_average)

DEV master reciprocal_deviation(master var, double eps) { return master(1) / sqrt(var + (master)eps); }

// One thread per element.
KERNEL(batch_norm_forward)(const elem* x, const master* mean, const master* var,
                           const master* weight, const master* bias, elem* y, Index n, Index cols,
                           double eps) {
  FOR_EACH(i, n) {
    const Index c = i % cols;
    const master xhat = (wide(x[i]) - mean[c]) * reciprocal_deviation(var[c], eps);
    put(&y[i], xhat * weight[c] + bias[c]);
  }
}
EXPORT(batch_norm_forward)

// Sums of dy xhat and of dy within pieces of `step` rows: partials [pieces, 2 cols]. One thread per
// column, one row of blocks per piece.
KERNEL(batch_norm_sums)(const elem* x, const master* mean, const master* var, const elem* dy,
                        master* partials, Index rows, Index cols, Index step, double eps) {
  const Index c = (Index)blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= cols) return;
  const Index first = blockIdx.y * step, last = min(first + step, rows);
  const master middle = mean[c], rstd = reciprocal_deviation(var[c], eps);
  master dots = 0, sum = 0;
  for (Index r = first; r < last; ++r) {
    const master d = wide(dy[r * cols + c]);
    dots += d * (wide(x[r * cols + c]) - middle) * rstd;
    sum += d;
  }
  partials[blockIdx.y * 2 * cols + c] = dots;
  partials[(blockIdx.y * 2 + 1) * cols + c] = sum;
}
EXPORT(batch_norm_sums)

// weight rstd (dy - share sum(dy) - xhat share sum(dy xhat)); `share` is 1/N, or 0 where the statistics
// do not depend on x. One thread per element.
KERNEL(batch_norm_backward)(const elem* x, const master* mean, const master* var,
                            const master* sums, const elem* dy, const master* weight, elem* dx,
                            Index n, Index cols, double share, double eps) {
  FOR_EACH(i, n) {
    const Index c = i % cols;
    const master rstd = reciprocal_deviation(var[c], eps);
    const master xhat = (wide(x[i]) - mean[c]) * rstd;
    const master mean_dot = (master)share * sums[c], mean_dy = (master)share * sums[cols + c];
    put(&dx[i], weight[c] * rstd * (wide(dy[i]) - mean_dy - xhat * mean_dot));
  }
}
EXPORT(batch_norm_backward)

DEV void follow(master* running, master statistic, double momentum) {
  if (isfinite(statistic)) {
    *running = (master)(1 - momentum) * *running + (master)momentum * statistic;
  }
}

// The running statistics after a batch, and the count of batches. One thread per column.
KERNEL(batch_norm_follow)(const master* mean, const master* var, master* running_mean,
                          master* running_var, master* count, Index cols, double momentum,
                          double factor) {
  FOR_EACH(c, cols) {
    follow(&running_mean[c], mean[c], momentum);
    follow(&running_var[c], (master)factor * var[c], momentum);
    if (c == 0) count[0] += 1;
  }
}
EXPORT(batch_norm_follow)
