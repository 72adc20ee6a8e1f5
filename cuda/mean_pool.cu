// Mean over the patch tokens (src/ops/mean_pool.rs): s [B,N,C] -> y [B,C], token 0 left out.
#include "prelude.cuh"

// One thread per element of y.
KERNEL(mean_pool_forward)(const master* s, master* y, Index n, Index tokens, Index cols) {
  FOR_EACH(i, n) {
    const Index b = i / cols, c = i % cols;
    master sum = 0;
    for (Index t = 1; t < tokens; ++t) sum += s[(b * tokens + t) * cols + c];
    y[i] = sum / (tokens - 1);
  }
}
EXPORT(mean_pool_forward)

// One thread per element of ds.
KERNEL(mean_pool_backward)(const master* dy, master* ds, Index n, Index tokens, Index cols) {
  FOR_EACH(i, n) {
    const Index c = i % cols, t = i / cols % tokens, b = i / cols / tokens;
    ds[i] = t == 0 ? master(0) : dy[b * cols + c] / (tokens - 1);
  }
}
EXPORT(mean_pool_backward)
