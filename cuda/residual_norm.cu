// Residual sum followed by layer normalisation (src/ops/residual_norm.rs). `gamma` and `keep` may be
// null: 1.
#include "layer_norm.cuh"

// s_out = s + keep gamma branch, y = LN(s_out). One block per row.
KERNEL(residual_norm_forward)(const master* s, const elem* branch, const master* gamma,
                              const master* keep, const master* weight, const master* bias,
                              master* s_out, elem* y, master* mean, master* rstd, Index cols,
                              Index rows_per_sample, double eps) {
  const Index r = blockIdx.x, at = r * cols;
  const master k = keep ? keep[r / rows_per_sample] : master(1);
  // Each thread reads back only what it wrote itself.
  FOR_BLOCK(c, cols) {
    s_out[at + c] = s[at + c] + k * (gamma ? gamma[c] : master(1)) * wide(branch[at + c]);
  }
  const Moments m = row_moments(s_out + at, cols, eps);
  normalise_row(s_out + at, m, weight, bias, y + at, cols);
  if (threadIdx.x == 0) {
    mean[r] = m.mean;
    rstd[r] = m.rstd;
  }
}
EXPORT(residual_norm_forward)

// ds += LN backward (dy), dbranch = keep gamma ds. One block per row.
KERNEL(residual_norm_backward)(const master* s_out, const master* mean, const master* rstd,
                               const master* gamma, const master* keep, const master* weight,
                               const elem* dy, master* ds, elem* dbranch, Index cols,
                               Index rows_per_sample) {
  const Index r = blockIdx.x, at = r * cols;
  const master k = keep ? keep[r / rows_per_sample] : master(1);
  normalise_row_backward(s_out + at, {mean[r], rstd[r]}, weight, dy + at, cols,
                         [&](Index c, master d) {
                           const master sum = ds[at + c] + d;
                           ds[at + c] = sum;
                           put(&dbranch[at + c], (gamma ? gamma[c] : master(1)) * (k * sum));
                         });
}
EXPORT(residual_norm_backward)

// Sums of dy xhat, of dy and, with gamma, of keep branch ds within pieces of `step` rows: partials
// [pieces, 3 cols]. ds is the whole gradient already. One thread per column, one row of blocks per
// piece.
KERNEL(residual_norm_param_sums)(const master* s_out, const master* mean, const master* rstd,
                                 const elem* branch, const master* gamma, const master* keep,
                                 const master* ds, const elem* dy, master* partials, Index rows,
                                 Index cols, Index step, Index rows_per_sample) {
  const Index c = (Index)blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= cols) return;
  const Index first = blockIdx.y * step, last = min(first + step, rows);
  master dweight = 0, dbias = 0, dgamma = 0;
  for (Index r = first; r < last; ++r) {
    const Index at = r * cols + c;
    const master d = wide(dy[at]);
    dweight += d * (s_out[at] - mean[r]) * rstd[r];
    dbias += d;
    if (gamma) dgamma += wide(branch[at]) * ((keep ? keep[r / rows_per_sample] : master(1)) * ds[at]);
  }
  master* sums = partials + blockIdx.y * 3 * cols;
  sums[c] = dweight;
  sums[cols + c] = dbias;
  sums[2 * cols + c] = dgamma;
}
EXPORT(residual_norm_param_sums)
