// KL divergence of the mean of the rows' softmax from uniform (src/ops/kl_aggregate.rs).
#include "softmax.cuh"

// One block per row.
KERNEL(kl_aggregate_lse)(const master* logits, master* lse, Index k) {
  const master x = row_lse(logits + blockIdx.x * k, k);
  if (threadIdx.x == 0) lse[blockIdx.x] = x;
}
EXPORT(kl_aggregate_lse)

// Sums of q = exp(x - lse) within pieces of `step` rows: partials [pieces, k]. One thread per code,
// one row of blocks per piece.
KERNEL(kl_aggregate_sums)(const master* logits, const master* lse, master* partials, Index rows,
                          Index k, Index step) {
  const Index c = (Index)blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= k) return;
  const Index first = blockIdx.y * step, last = min(first + step, rows);
  master sum = 0;
  for (Index r = first; r < last; ++r) sum += exp(logits[r * k + c] - lse[r]);
  partials[blockIdx.y * k + c] = sum;
}
EXPORT(kl_aggregate_sums)

// ln (K m); what stands here for a weight of 0 is multiplied by 0.
DEV master log_ratio(master m, Index k) { return m > 0 ? log((master)k * m) : master(0); }

// mean holds sums and becomes m; KL = sum of m ln (K m). One block.
KERNEL(kl_aggregate_forward)(master* mean, master* kl, Index rows, Index k) {
  master sum = 0;
  FOR_BLOCK(i, k) {
    const master m = mean[i] * (master)(1.0 / (double)rows);
    mean[i] = m;
    sum += m * log_ratio(m, k);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) *kl = sum;
}
EXPORT(kl_aggregate_forward)

// scale q (ln (K m) - sum of q ln (K m)). One block per row.
KERNEL(kl_aggregate_backward)(const master* logits, const master* mean, master* dlogits,
                              double scale, Index k) {
  const master* x = logits + blockIdx.x * k;
  const master lse = row_lse(x, k);
  master sum = 0;
  FOR_BLOCK(i, k) sum += exp(x[i] - lse) * log_ratio(mean[i], k);
  const master average = block_sum(sum);
  FOR_BLOCK(i, k) {
    const master q = exp(x[i] - lse);
    dlogits[blockIdx.x * k + i] = (master)scale * q * (log_ratio(mean[i], k) - average);
  }
}
EXPORT(kl_aggregate_backward)
