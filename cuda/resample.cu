// A parameter seen through a matrix (src/ops/resample.rs): y [to,cols] = map [to,from] x [from,cols].
#include "prelude.cuh"

// One thread per element of y.
KERNEL(resample_forward)(const master* map, const master* x, master* y, Index n, Index from,
                         Index cols) {
  FOR_EACH(i, n) {
    const Index r = i / cols, c = i % cols;
    master sum = 0;
    for (Index k = 0; k < from; ++k) sum += map[r * from + k] * x[k * cols + c];
    y[i] = sum;
  }
}
EXPORT(resample_forward)

// dx += map^T dy. One thread per element of dx.
KERNEL(resample_backward)(const master* map, const master* dy, master* dx, Index n, Index to,
                          Index from, Index cols) {
  FOR_EACH(i, n) {
    const Index k = i / cols, c = i % cols;
    master sum = 0;
    for (Index r = 0; r < to; ++r) sum += map[r * from + k] * dy[r * cols + c];
    dx[i] += sum;
  }
}
EXPORT(resample_backward)
