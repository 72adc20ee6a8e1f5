// Channels to pixels (src/ops/pixel_shuffle.rs): x [B,H,W,4 outputs] and y [B,2H,2W,outputs]; `width` is
// that of y. One thread per number.
#include "prelude.cuh"

// Where number i of y lies in x: channel (2u + v) outputs + o of the pixel above (2i + u, 2j + v).
DEV Index shuffled_from(Index i, Index width, Index outputs) {
  const Index o = i % outputs, col = i / outputs % width, line = i / outputs / width;
  const Index pixel = line / 2 * (width / 2) + col / 2;
  return (pixel * 4 + line % 2 * 2 + col % 2) * outputs + o;
}

KERNEL(pixel_shuffle_forward)(const elem* x, const master* bias, elem* y, Index n, Index width,
                              Index outputs) {
  FOR_EACH(i, n) put(&y[i], wide(x[shuffled_from(i, width, outputs)]) + bias[i % outputs]);
}
EXPORT(pixel_shuffle_forward)

KERNEL(pixel_shuffle_backward)(const elem* dy, elem* dx, Index n, Index width, Index outputs) {
  FOR_EACH(i, n) dx[shuffled_from(i, width, outputs)] = dy[i];
}
EXPORT(pixel_shuffle_backward)
