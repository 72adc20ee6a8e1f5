// Euclidean norm of an arena (src/ops/global_norm.rs).
#include "prelude.cuh"

// The sum of squares of each piece of `step` numbers, widened. One block per piece.
KERNEL(global_norm_pieces)(const master* g, double* pieces, Index n, Index step) {
  const Index first = blockIdx.x * step, count = min(step, n - first);
  master sum = 0;
  FOR_BLOCK(i, count) sum += g[first + i] * g[first + i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) pieces[blockIdx.x] = (double)sum;
}
EXPORT(global_norm_pieces)

// The root of their sum. One block.
KERNEL(global_norm)(const double* pieces, master* norm, Index count) {
  double sum = 0;
  FOR_BLOCK(i, count) sum += pieces[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *norm = (master)sqrt(sum);
}
EXPORT(global_norm)
