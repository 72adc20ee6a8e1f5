// Nearest-neighbour upsampling by 2 (src/ops/upsample.rs): x [B,H,W,C] -> y [B,2H,2W,C].
#include "prelude.cuh"

// One thread per element of y; `width` is W.
KERNEL(upsample_forward)(const master* x, master* y, Index n, Index width, Index channels) {
  FOR_EACH(i, n) {
    const Index c = i % channels, j = i / channels % (2 * width), row = i / channels / (2 * width);
    y[i] = x[(row / 2 * width + j / 2) * channels + c];
  }
}
EXPORT(upsample_forward)

// One thread per element of dx; `width` is that of dx.
KERNEL(upsample_backward)(const master* dy, master* dx, Index n, Index width, Index channels) {
  FOR_EACH(i, n) {
    const Index c = i % channels, j = i / channels % width, row = i / channels / width;
    const Index upper = (2 * row * 2 * width + 2 * j) * channels + c;
    const Index lower = upper + 2 * width * channels;
    dx[i] = (dy[upper] + dy[upper + channels]) + (dy[lower] + dy[lower + channels]);
  }
}
EXPORT(upsample_backward)
