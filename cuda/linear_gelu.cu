// What follows the product of a linear layer with GELU (src/ops/linear_gelu.rs). Its backward is
// gelu_backward and that of the linear layer.
#include "gelu.cuh"

// a = x W^T becomes a + bias, y = gelu(a). One thread per element.
KERNEL(linear_gelu_forward)(elem* a, const master* bias, elem* y, Index n, Index cols) {
  FOR_EACH(i, n) {
    put(&a[i], wide(a[i]) + bias[i % cols]);
    // Of the a that backward will see.
    put(&y[i], gelu(wide(a[i])));
  }
}
EXPORT(linear_gelu_forward)
