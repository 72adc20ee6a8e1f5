// Log-sum-exp of one row by one block, for the two KL ops.
#pragma once
#include "prelude.cuh"

DEV master row_lse(const master* x, Index n) {
  master largest = -INFINITY;
  FOR_BLOCK(i, n) largest = x[i] > largest ? x[i] : largest;
  largest = block_max(largest);
  master sum = 0;
  FOR_BLOCK(i, n) sum += exp(x[i] - largest);
  return largest + log(block_sum(sum));
}
