// The token sequence (src/ops/tokens.rs): s [B,N,C] from e [B,Np,C], N = Np + 1. `mask` [B,Np] and
// `pos` [N,C] may be null.
#include "prelude.cuh"

// One thread per element of s.
KERNEL(tokens_forward)(const master* e, const unsigned* mask, const master* cls,
                       const master* mask_token, const master* pos, master* s, Index n, Index tokens,
                       Index cols) {
  FOR_EACH(i, n) {
    const Index c = i % cols, t = i / cols % tokens, b = i / cols / tokens;
    const Index patch = b * (tokens - 1) + t - 1;
    const master x = t == 0                  ? cls[c]
                     : mask && mask[patch] ? mask_token[c]
                                           : e[patch * cols + c];
    s[i] = pos ? x + pos[t * cols + c] : x;
  }
}
EXPORT(tokens_forward)

// de, 0 where masked. One thread per element of de.
KERNEL(tokens_backward)(const unsigned* mask, const master* ds, master* de, Index n, Index tokens,
                        Index cols) {
  FOR_EACH(i, n) {
    const Index c = i % cols, patch = i / cols;
    const Index b = patch / (tokens - 1), t = patch % (tokens - 1) + 1;
    de[i] = mask && mask[patch] ? master(0) : ds[(b * tokens + t) * cols + c];
  }
}
EXPORT(tokens_backward)

// sums[t,c] += the sum over samples of ds, for the first `count` elements of a sample: positions
// (all tokens) or the class token (the first). One thread per element.
KERNEL(tokens_backward_positions)(const master* ds, master* sums, Index count, Index batch,
                                  Index sample) {
  FOR_EACH(i, count) {
    master sum = 0;
    for (Index b = 0; b < batch; ++b) sum += ds[b * sample + i];
    sums[i] += sum;
  }
}
EXPORT(tokens_backward_positions)

// Sums over masked patches of ds within pieces of `step` patches: partials [pieces, cols]. One thread
// per column, one row of blocks per piece.
KERNEL(tokens_backward_mask)(const unsigned* mask, const master* ds, master* partials, Index patches,
                             Index tokens, Index cols, Index step) {
  const Index c = (Index)blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= cols) return;
  const Index first = blockIdx.y * step, last = min(first + step, patches);
  master sum = 0;
  for (Index patch = first; patch < last; ++patch) {
    const Index row = patch / (tokens - 1) * tokens + patch % (tokens - 1) + 1;
    if (mask[patch]) sum += ds[row * cols + c];
  }
  partials[blockIdx.y * cols + c] = sum;
}
EXPORT(tokens_backward_mask)
