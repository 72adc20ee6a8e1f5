// Images to flattened patches and back (src/ops/patch_embed.rs); the product between is cuBLAS'.
#include "prelude.cuh"

// Element i of the flattened patches [B Gh Gw, side side channels] is this element of the image.
DEV Index pixel_of(Index i, Index columns, Index side, Index channels) {
  const Index run = side * channels, v = i % run, u = i / run % side;
  const Index patch = i / run / side, p = patch % columns, band = patch / columns;
  return ((band * side + u) * columns + p) * run + v;
}

// One thread per element; `columns` is Gw.
KERNEL(patch_embed_gather)(const elem* x, elem* flat, Index n, Index columns, Index side,
                           Index channels) {
  FOR_EACH(i, n) flat[i] = x[pixel_of(i, columns, side, channels)];
}
EXPORT(patch_embed_gather)
KERNEL(patch_embed_scatter)(const elem* flat, elem* x, Index n, Index columns, Index side,
                            Index channels) {
  FOR_EACH(i, n) x[pixel_of(i, columns, side, channels)] = flat[i];
}
EXPORT(patch_embed_scatter)
