// Rows picked by number (src/ops/gather_rows.rs). A number beyond the rows is a fault and reads
// nothing.
#include "prelude.cuh"

// One thread per element of y.
KERNEL(gather_rows_forward)(const elem* x, const unsigned* rows, elem* y, Index n, Index cols,
                            Index count, unsigned long long* fault) {
  FOR_EACH(i, n) {
    const Index m = i / cols, row = rows[m];
    if (row < count) {
      y[i] = x[row * cols + i % cols];
    } else {
      report_fault(fault, FAULT_ROW, count, (unsigned)row);
    }
  }
}
EXPORT(gather_rows_forward)

// dx[rows[m]] = the sum of dy over all m that picked the row, in their order; dx is 0 before. One
// block per m: the first that picked a row writes it.
KERNEL(gather_rows_backward)(const unsigned* rows, const elem* dy, elem* dx, Index picked, Index cols,
                             Index count, unsigned long long* fault) {
  const Index m = blockIdx.x, row = rows[m];
  if (row >= count) {
    if (threadIdx.x == 0) report_fault(fault, FAULT_ROW, count, (unsigned)row);
    return;
  }
  int before = 0, after = 0;
  FOR_BLOCK(i, picked) {
    if (rows[i] == row) (i < m ? before : after) += i != m;
  }
  before = block_sum(before);
  after = block_sum(after);
  if (before > 0) return;
  FOR_BLOCK(c, cols) {
    master sum = wide(dy[m * cols + c]);
    for (Index i = m + 1; after > 0 && i < picked; ++i) {
      if (rows[i] == row) sum += wide(dy[i * cols + c]);
    }
    put(&dx[row * cols + c], sum);
  }
}
EXPORT(gather_rows_backward)

// y[m] = x[places[m]] of `count` ids. One thread per m.
KERNEL(gather_ids)(const unsigned* x, const unsigned* places, unsigned* y, Index n, Index count,
                   unsigned long long* fault) {
  FOR_EACH(m, n) {
    if (places[m] < count) {
      y[m] = x[places[m]];
    } else {
      report_fault(fault, FAULT_ROW, count, places[m]);
    }
  }
}
EXPORT(gather_ids)
