// Rows of unit length (src/ops/unit_rows.rs). One block per row of d numbers.
#include "rows.cuh"

KERNEL(unit_rows_forward)(const master* x, master* y, Index d, double eps) {
  const Index first = blockIdx.x * d;
  const master length = sqrt(row_dot(x + first, x + first, d));
  const master inverse = 1 / (length > (master)eps ? length : (master)eps);
  FOR_BLOCK(i, d) y[first + i] = inverse * x[first + i];
}
EXPORT(unit_rows_forward)

// dx = (dy - xhat <xhat, dy>) / |x|; where |x| is below eps, it is a constant.
KERNEL(unit_rows_backward)(const master* x, const master* dy, master* dx, Index d, double eps) {
  const Index first = blockIdx.x * d;
  const master length = sqrt(row_dot(x + first, x + first, d));
  const bool own = length > (master)eps;
  const master inverse = 1 / (own ? length : (master)eps);
  const master dot = row_dot(x + first, dy + first, d);
  const master along = own ? dot * inverse * inverse : master(0);
  FOR_BLOCK(i, d) dx[first + i] = inverse * (dy[first + i] - along * x[first + i]);
}
EXPORT(unit_rows_backward)
