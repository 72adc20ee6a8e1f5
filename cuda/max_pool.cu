// 2x2 max pooling (src/ops/max_pool.rs): x [B,H,W,C] -> y [B,h,w,C], h = H/2, w = W/2.
#include "prelude.cuh"

// One thread per element of y; ties take the first place.
KERNEL(max_pool_forward)(const master* x, master* y, unsigned* choice, Index n, Index height,
                         Index width, Index channels) {
  const Index h = height / 2, w = width / 2;
  FOR_EACH(i, n) {
    const Index c = i % channels, j = i / channels % w, row = i / channels / w;
    const Index top = ((row / h * height + row % h * 2) * width + 2 * j) * channels + c;
    master best = x[top];
    unsigned place = 0;
    for (unsigned p = 1; p < 4; ++p) {
      const master value = x[top + ((p / 2) * width + p % 2) * channels];
      if (value > best) {
        best = value;
        place = p;
      }
    }
    y[i] = best;
    choice[i] = place;
  }
}
EXPORT(max_pool_forward)

// dx is dy at the chosen place and 0 elsewhere, an odd last row or column included. One thread per
// element of dx.
KERNEL(max_pool_backward)(const unsigned* choice, const master* dy, master* dx, Index n,
                          Index height, Index width, Index channels) {
  const Index h = height / 2, w = width / 2;
  FOR_EACH(i, n) {
    const Index c = i % channels, j = i / channels % width, row = i / channels / width;
    const Index b = row / height, r = row % height;
    const bool pooled = r / 2 < h && j / 2 < w;
    const Index from = ((b * h + r / 2) * w + j / 2) * channels + c;
    dx[i] = pooled && choice[from] == (r % 2) * 2 + j % 2 ? dy[from] : master(0);
  }
}
EXPORT(max_pool_backward)
