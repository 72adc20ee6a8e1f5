// A plane through a separable banded map (src/ops/resize.rs): channels from `x_at` on of x [B,h,w,x_stride] to
// channels from `y_at` on of y [B,height,width,y_stride].
#include "prelude.cuh"

// Places of the n numbers of a call: pixel and channel.
DEV Index place_of(Index i, Index channels, Index stride, Index at) {
  return i / channels * stride + at + i % channels;
}

// The identity. One thread per number.
KERNEL(resize_copy)(const elem* x, elem* y, Index n, Index channels, Index x_stride, Index x_at,
                    Index y_stride, Index y_at) {
  FOR_EACH(i, n) y[place_of(i, channels, y_stride, y_at)] = x[place_of(i, channels, x_stride, x_at)];
}
EXPORT(resize_copy)

// A row of the map begins at places[2 row] and has places[2 row + 1] weights, in lines of `taps`. One thread
// per number of y.
KERNEL(resize)(const elem* x, elem* y, Index n, Index channels, Index x_stride, Index x_at,
               Index y_stride, Index y_at, Index h, Index w, Index height, Index width,
               const unsigned* row_places, const master* row_weights, Index row_taps,
               const unsigned* col_places, const master* col_weights, Index col_taps, Index add) {
  FOR_EACH(i, n) {
    const Index pixel = i / channels, col = pixel % width, row = pixel / width % height;
    const Index image = pixel / width / height;
    const Index top = row_places[2 * row], rows = row_places[2 * row + 1];
    const Index left = col_places[2 * col], cols = col_places[2 * col + 1];
    const elem* from = x + ((image * h + top) * w + left) * x_stride + x_at + i % channels;
    master sum = 0;
    for (Index u = 0; u < rows; ++u) {
      const master p = row_weights[row * row_taps + u];
      for (Index v = 0; v < cols; ++v) {
        sum += p * col_weights[col * col_taps + v] * wide(from[(u * w + v) * x_stride]);
      }
    }
    elem* to = &y[place_of(i, channels, y_stride, y_at)];
    put(to, add ? wide(*to) + sum : sum);
  }
}
EXPORT(resize)
