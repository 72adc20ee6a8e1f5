// Gumbel-softmax (src/ops/gumbel_softmax.rs). One block per row of k codes.
#include "philox.cuh"

// y = softmax((logits + noise) / tau), z = y or one-hot. The noise is `given`, or drawn where
// `draw`, or 0. `inverse` is 1 / tau.
KERNEL(gumbel_softmax_forward)(const master* logits, const master* given, Index draw, Index purpose,
                               Index seed, Index step, double inverse, Index straight_through,
                               elem* z, master* y, Index k) {
  const Index at = blockIdx.x * k;
  master largest = -INFINITY;
  FOR_BLOCK(i, k) {
    master t = logits[at + i];
    if (given) t += given[at + i];
    if (draw) {
      t += gumbel(philox_word(at + i, (unsigned)purpose, (unsigned)step, (unsigned)(step >> 32),
                              (unsigned)seed, (unsigned)(seed >> 32)));
    }
    y[at + i] = t;
    largest = t > largest ? t : largest;
  }
  largest = block_max(largest);
  master sum = 0;
  FOR_BLOCK(i, k) {
    y[at + i] = exp((y[at + i] - largest) * (master)inverse);
    sum += y[at + i];
  }
  const master scale = master(1) / block_sum(sum);
  FOR_BLOCK(i, k) y[at + i] *= scale;
  if (straight_through) {
    const Best best = block_best(k, [&](Index i) { return y[at + i]; });
    FOR_BLOCK(i, k) put(&z[at + i], master(i == best.place));
  } else {
    FOR_BLOCK(i, k) put(&z[at + i], y[at + i]);
  }
}
EXPORT(gumbel_softmax_forward)

// dlogits = y (dz - <y, dz>) / tau
KERNEL(gumbel_softmax_backward)(const master* y, const elem* dz, double inverse, master* dlogits,
                                Index k) {
  const Index at = blockIdx.x * k;
  master sum = 0;
  FOR_BLOCK(i, k) sum += y[at + i] * wide(dz[at + i]);
  const master mean = block_sum(sum);
  FOR_BLOCK(i, k) dlogits[at + i] = (master)inverse * y[at + i] * (wide(dz[at + i]) - mean);
}
EXPORT(gumbel_softmax_backward)

// Where the largest element of the row is, the lowest place on ties.
KERNEL(argmax)(const master* x, unsigned* places, Index k) {
  const master* row = x + blockIdx.x * k;
  const Best best = block_best(k, [&](Index i) { return row[i]; });
  if (threadIdx.x == 0) places[blockIdx.x] = (unsigned)best.place;
}
EXPORT(argmax)

// The noise alone, as forward draws it: what the tests compare with the CPU. One thread per element.
KERNEL(gumbel_noise)(master* noise, Index n, Index purpose, Index seed, Index step) {
  FOR_EACH(i, n) {
    noise[i] = gumbel(philox_word(i, (unsigned)purpose, (unsigned)step, (unsigned)(step >> 32),
                                  (unsigned)seed, (unsigned)(seed >> 32)));
  }
}
EXPORT(gumbel_noise)
