// Convolution (src/ops/conv2d.rs) as products with the matrix X of what lies under the kernel at each
// pixel, [pixels, kernel kernel channels]. cuBLAS multiplies; here X is written out, a chunk of
// pixels at a time.
#include "prelude.cuh"

// X for `n` elements from pixel `first` on. One thread per element.
KERNEL(conv2d_columns)(const elem* x, elem* columns, Index n, Index first, Index height, Index width,
                       Index channels, Index kernel, Index relu) {
  const Index taps = kernel * kernel * channels, pad = kernel / 2;
  FOR_EACH(i, n) {
    const Index pixel = first + i / taps, tap = i % taps / channels, c = i % channels;
    const Index row = pixel / width % height + tap / kernel - pad;
    const Index col = pixel % width + tap % kernel - pad;
    const bool inside = row >= 0 && row < height && col >= 0 && col < width;
    const Index image = pixel / (width * height);
    master v = inside ? wide(x[((image * height + row) * width + col) * channels + c]) : master(0);
    put(&columns[i], relu && v < 0 ? master(0) : v);  // NaN stays
  }
}
EXPORT(conv2d_columns)

// W [O,taps,I] with its taps reversed and its channels swapped: [I,taps,O]. One thread per element.
KERNEL(conv2d_flip)(const elem* weight, elem* flipped, Index n, Index taps, Index input,
                    Index output) {
  FOR_EACH(i, n) {
    const Index o = i % output, tap = i / output % taps, c = i / output / taps;
    flipped[i] = weight[(o * taps + taps - 1 - tap) * input + c];
  }
}
EXPORT(conv2d_flip)
