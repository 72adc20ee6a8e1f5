// ReLU (src/ops/relu.rs). One thread per element.
#include "prelude.cuh"

KERNEL(relu_forward)(const elem* x, elem* y, Index n) {
  FOR_EACH(i, n) {
    const master v = wide(x[i]);
    put(&y[i], v < 0 ? master(0) : v);  // NaN stays
  }
}
EXPORT(relu_forward)

// dx = dy where x > 0, else 0.
KERNEL(relu_backward)(const elem* x, const elem* dy, elem* dx, Index n) {
  FOR_EACH(i, n) put(&dx[i], wide(x[i]) > 0 ? wide(dy[i]) : master(0));
}
EXPORT(relu_backward)
