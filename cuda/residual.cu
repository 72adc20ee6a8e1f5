// Residual sum with layer scale and drop path (src/ops/residual.rs). `gamma` and `keep` may be
// null: 1.
#include "prelude.cuh"

// s += keep gamma branch. One thread per element; a sample has `sample` of them.
KERNEL(residual_forward)(master* s, const elem* branch, const master* gamma, const master* keep,
                         Index n, Index cols, Index sample) {
  FOR_EACH(i, n) {
    const master k = keep ? keep[i / sample] : master(1);
    const master g = gamma ? gamma[i % cols] : master(1);
    s[i] += k * g * wide(branch[i]);
  }
}
EXPORT(residual_forward)

// dbranch = keep gamma ds, and with gamma the sums of keep branch ds within pieces of `step` rows:
// partials [pieces, cols]. One thread per column, one row of blocks per piece.
KERNEL(residual_backward)(const elem* branch, const master* gamma, const master* keep,
                          const master* ds, elem* dbranch, master* partials, Index rows, Index cols,
                          Index step, Index rows_per_sample) {
  const Index c = (Index)blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= cols) return;
  const Index first = blockIdx.y * step, last = min(first + step, rows);
  const master g = gamma ? gamma[c] : master(1);
  master dgamma = 0;
  for (Index r = first; r < last; ++r) {
    const master scaled = (keep ? keep[r / rows_per_sample] : master(1)) * ds[r * cols + c];
    put(&dbranch[r * cols + c], g * scaled);
    if (gamma) dgamma += wide(branch[r * cols + c]) * scaled;
  }
  if (gamma) partials[blockIdx.y * cols + c] = dgamma;
}
EXPORT(residual_backward)
