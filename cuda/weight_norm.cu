// Weight normalisation (src/ops/weight_norm.rs): w = g v / |v| per row of d numbers. One block per row.
#include "rows.cuh"

KERNEL(weight_norm_forward)(const master* v, const master* g, master* w, Index d) {
  const Index first = blockIdx.x * d;
  const master factor = (g ? g[blockIdx.x] : master(1)) / sqrt(row_dot(v + first, v + first, d));
  FOR_BLOCK(i, d) w[first + i] = factor * v[first + i];
}
EXPORT(weight_norm_forward)

// dv += g (dw - vhat <vhat, dw>) / |v|, dg += <vhat, dw>
KERNEL(weight_norm_backward)(const master* v, const master* g, const master* dw, master* dv,
                             master* dg, Index d) {
  const Index first = blockIdx.x * d;
  const master inverse = 1 / sqrt(row_dot(v + first, v + first, d));
  const master dot = inverse * row_dot(v + first, dw + first, d);
  const master factor = (g ? g[blockIdx.x] : master(1)) * inverse;
  FOR_BLOCK(i, d) dv[first + i] += factor * (dw[first + i] - dot * inverse * v[first + i]);
  if (dg && threadIdx.x == 0) dg[blockIdx.x] += dot;
}
EXPORT(weight_norm_backward)
