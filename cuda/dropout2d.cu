// Dropout of whole channels (src/ops/dropout2d.rs). One thread per element.
#include "prelude.cuh"

KERNEL(dropout2d)(const elem* x, const master* keep, elem* y, Index n, Index pixels,
                  Index channels) {
  FOR_EACH(i, n) {
    const Index c = i % channels, image = i / channels / pixels;
    put(&y[i], wide(x[i]) * keep[image * channels + c]);
  }
}
EXPORT(dropout2d)
