// Samples of Gaussian latents and their KL (src/ops/gaussian.rs): moments [..,2d], the means and then the
// logarithms of the variances, which `low` and `high` bound.
#include "philox.cuh"

struct Latent {
  master mu, lambda, deviation;
  bool inside;
};
// Channel i of a row of moments.
DEV Latent latent(const master* row, Index i, Index d, double low, double high) {
  const master given = row[d + i];
  const bool under = given < (master)low, over = given > (master)high;
  const master lambda = under ? (master)low : over ? (master)high : given;
  return {row[i], lambda, exp(master(0.5) * lambda), !under && !over};
}
// The noise of element i: `given`, or drawn where `draw`, or 0.
DEV master noise(const master* given, Index draw, Index i, Index purpose, Index seed, Index step) {
  if (given) return given[i];
  if (!draw) return 0;
  return normal(i, (unsigned)purpose, (unsigned)step, (unsigned)(step >> 32), (unsigned)seed,
                (unsigned)(seed >> 32));
}

// z = mu + deviation noise, and the KL of each row. One block per row.
KERNEL(gaussian_forward)(const master* moments, const master* given, Index draw, Index purpose,
                         Index seed, Index step, elem* z, master* kl, Index d, double low,
                         double high) {
  const master* row = moments + blockIdx.x * 2 * d;
  const Index at = blockIdx.x * d;
  master sum = 0;
  FOR_BLOCK(i, d) {
    const Latent l = latent(row, i, d, low, high);
    put(&z[at + i], l.mu + l.deviation * noise(given, draw, at + i, purpose, seed, step));
    sum += l.mu * l.mu + l.deviation * l.deviation - 1 - l.lambda;
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) kl[blockIdx.x] = master(0.5) * sum;
}
EXPORT(gaussian_forward)

// One thread per element of z, of which there are n.
KERNEL(gaussian_backward)(const master* moments, const master* given, Index draw, Index purpose,
                          Index seed, Index step, const elem* dz, double weight, master* dmoments,
                          Index d, Index n, double low, double high) {
  FOR_EACH(i, n) {
    const Index at = i / d * 2 * d, c = i % d;
    const Latent l = latent(moments + at, c, d, low, high);
    const master g = wide(dz[i]), half = master(0.5);
    const master e = noise(given, draw, i, purpose, seed, step);
    dmoments[at + c] = g + (master)weight * l.mu;
    const master slope =
        half * (g * e * l.deviation + (master)weight * (l.deviation * l.deviation - 1));
    dmoments[at + d + c] = l.inside ? slope : master(0);
  }
}
EXPORT(gaussian_backward)

// The noise alone, as forward draws it: what the tests compare with the CPU. One thread per element.
KERNEL(gaussian_noise)(master* noise, Index n, Index purpose, Index seed, Index step) {
  FOR_EACH(i, n) {
    noise[i] = normal(i, (unsigned)purpose, (unsigned)step, (unsigned)(step >> 32), (unsigned)seed,
                      (unsigned)(seed >> 32));
  }
}
EXPORT(gaussian_noise)
