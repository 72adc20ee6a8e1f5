// Rows of d numbers and their lengths, by one block each, for unit_rows and weight_norm.
#pragma once
#include "prelude.cuh"

// The sum of x y over a row, for all threads.
DEV master row_dot(const master* x, const master* y, Index d) {
  master sum = 0;
  FOR_BLOCK(i, d) sum += x[i] * y[i];
  return block_sum(sum);
}
