// GELU in its exact form (src/ops/gelu.rs). One thread per element.
#include "gelu.cuh"

KERNEL(gelu_forward)(const elem* x, elem* y, Index n) {
  FOR_EACH(i, n) put(&y[i], gelu(wide(x[i])));
}
EXPORT(gelu_forward)

// dx in place of dy.
KERNEL(gelu_backward)(const elem* x, elem* dy, Index n) {
  FOR_EACH(i, n) put(&dy[i], wide(dy[i]) * gelu_slope(wide(x[i])));
}
EXPORT(gelu_backward)
