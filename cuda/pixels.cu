// Bytes of images to numbers by table (src/ops/pixels.rs). One thread per pixel of three channels.
#include "prelude.cuh"

template <class T>
DEV void look_up(const unsigned char* x, const master* table, T* y, Index n) {
  FOR_EACH(i, n) {
    for (int c = 0; c < 3; ++c) put(&y[3 * i + c], table[256 * c + x[3 * i + c]]);
  }
}

KERNEL(pixels)(const unsigned char* x, const master* table, master* y, Index n) {
  look_up(x, table, y, n);
}
EXPORT(pixels)

KERNEL(pixels_elem)(const unsigned char* x, const master* table, elem* y, Index n) {
  look_up(x, table, y, n);
}
EXPORT(pixels_elem)
