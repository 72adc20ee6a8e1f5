// Layer normalisation of one row by one block (src/ops/layer_norm.rs), for layer_norm.cu and
// residual_norm.cu.
#pragma once
#include "prelude.cuh"

struct Moments {
  master mean, rstd;
};

// Mean and 1/sqrt(variance + eps) of the row, in two passes: E[x^2] - mean^2 would cancel.
DEV Moments row_moments(const master* x, Index cols, double eps) {
  master sum = 0;
  FOR_BLOCK(c, cols) sum += x[c];
  const master mean = block_sum(sum) / cols;
  master squares = 0;
  FOR_BLOCK(c, cols) squares += (x[c] - mean) * (x[c] - mean);
  const master variance = block_sum(squares) / cols;
  return {mean, master(1) / sqrt(variance + (master)eps)};
}

// y = (x - mean) rstd weight + bias
DEV void normalise_row(const master* x, Moments m, const master* weight, const master* bias, elem* y,
                       Index cols) {
  FOR_BLOCK(c, cols) put(&y[c], (x[c] - m.mean) * m.rstd * weight[c] + bias[c]);
}

// rstd (h - mean(h) - xhat mean(h xhat)) with h = dy weight, handed to `take` with its column.
template <class Take>
DEV void normalise_row_backward(const master* x, Moments m, const master* weight, const elem* dy,
                                Index cols, Take take) {
  master sum_h = 0, sum_hx = 0;
  FOR_BLOCK(c, cols) {
    const master h = wide(dy[c]) * weight[c];
    sum_h += h;
    sum_hx += h * (x[c] - m.mean);
  }
  const master mean_h = block_sum(sum_h) / cols;
  const master mean_hx = block_sum(sum_hx) * m.rstd / cols;
  FOR_BLOCK(c, cols) {
    const master xhat = (x[c] - m.mean) * m.rstd;
    take(c, m.rstd * (wide(dy[c]) * weight[c] - mean_h - xhat * mean_hx));
  }
}
