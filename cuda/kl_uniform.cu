// KL divergence of each row's softmax from uniform (src/ops/kl_uniform.rs). One block per row.
#include "softmax.cuh"

// sum of q ln q, with ln q = x - lse
DEV master negative_entropy(const master* x, master lse, Index k) {
  master sum = 0;
  FOR_BLOCK(i, k) sum += exp(x[i] - lse) * (x[i] - lse);
  return block_sum(sum);
}

KERNEL(kl_uniform_forward)(const master* logits, master* kl, Index k) {
  const master* x = logits + blockIdx.x * k;
  const master sum = negative_entropy(x, row_lse(x, k), k);
  if (threadIdx.x == 0) kl[blockIdx.x] = sum + log((master)k);
}
EXPORT(kl_uniform_forward)

// scale q (ln q - sum of q ln q)
KERNEL(kl_uniform_backward)(const master* logits, master* dlogits, double scale, Index k) {
  const master* x = logits + blockIdx.x * k;
  const master lse = row_lse(x, k), mean = negative_entropy(x, lse, k);
  FOR_BLOCK(i, k) {
    dlogits[blockIdx.x * k + i] = (master)scale * exp(x[i] - lse) * (x[i] - lse - mean);
  }
}
EXPORT(kl_uniform_backward)
