// Passes that several ops share: a row repeated, sums of columns, partial sums added.
#include "prelude.cuh"

// y[r] = scale * row, one thread per element.
KERNEL(fill_rows)(elem* y, const master* row, double scale, Index n, Index cols) {
  FOR_EACH(i, n) put(&y[i], (master)scale * row[i % cols]);
}
EXPORT(fill_rows)
KERNEL(fill_rows_master)(master* y, const master* row, double scale, Index n, Index cols) {
  FOR_EACH(i, n) y[i] = (master)scale * row[i % cols];
}
EXPORT(fill_rows_master)

// y[r] += scale * row, one thread per element.
KERNEL(add_rows)(master* y, const master* row, double scale, Index n, Index cols) {
  FOR_EACH(i, n) y[i] += (master)scale * row[i % cols];
}
EXPORT(add_rows)

// Sums of the columns of x [rows, cols] within pieces of `step` rows: partials [pieces, cols]. One
// thread per column, one row of blocks per piece.
template <class T>
DEV void sum_columns(const T* x, master* partials, Index rows, Index cols, Index step) {
  const Index c = (Index)blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= cols) return;
  const Index first = blockIdx.y * step, last = min(first + step, rows);
  master sum = 0;
  for (Index r = first; r < last; ++r) sum += wide(x[r * cols + c]);
  partials[blockIdx.y * cols + c] = sum;
}
KERNEL(column_sums)(const elem* x, master* partials, Index rows, Index cols, Index step) {
  sum_columns(x, partials, rows, cols, step);
}
EXPORT(column_sums)
KERNEL(column_sums_master)(const master* x, master* partials, Index rows, Index cols, Index step) {
  sum_columns(x, partials, rows, cols, step);
}
EXPORT(column_sums_master)

// out[i] += the pieces' sums, in the order of the pieces, which lie `stride` apart. One thread per
// number.
KERNEL(add_partials)(const master* partials, master* out, Index n, Index pieces, Index stride) {
  FOR_EACH(i, n) {
    master sum = 0;
    for (Index p = 0; p < pieces; ++p) sum += partials[p * stride + i];
    out[i] += sum;
  }
}
EXPORT(add_partials)
