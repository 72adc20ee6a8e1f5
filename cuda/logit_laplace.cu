// Likelihood of pixels under the logit-Laplace distribution (src/ops/logit_laplace.rs): x [B,..,3],
// out [B,..,6]. `low` and `high` bound ln b.
#include "prelude.cuh"

struct Term {
  master x, delta, s;
  bool inside;
};
// Sub-pixel i, counted over all images.
DEV Term term(const master* x, const master* out, Index i, double low, double high) {
  const Index pixel = i / 3, c = i % 3;
  const master s = out[6 * pixel + 3 + c];
  const bool under = s < (master)low, over = s > (master)high;
  const master delta = log(x[i]) - log(1 - x[i]) - out[6 * pixel + c];
  return {x[i], delta, under ? (master)low : over ? (master)high : s, !under && !over};
}

// The sum over each image. One block per image of n sub-pixels.
KERNEL(logit_laplace_forward)(const master* x, const master* out, master* sums, Index n, double low,
                              double high) {
  const Index first = blockIdx.x * n;
  master sum = 0;
  FOR_BLOCK(i, n) {
    const Term t = term(x, out, first + i, low, high);
    sum += master(0.69314718055994530942) + t.s + log(t.x) + log(1 - t.x) +
           fabs(t.delta) * exp(-t.s);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}
EXPORT(logit_laplace_forward)

// One thread per sub-pixel.
KERNEL(logit_laplace_backward)(const master* x, const master* out, double scale, master* dout,
                               master* dx, Index n, double low, double high) {
  FOR_EACH(i, n) {
    const Term t = term(x, out, i, low, high);
    const Index mu = 6 * (i / 3) + i % 3;
    const master inverse_b = exp(-t.s);
    // sign(delta) / b
    const master slope = t.delta > 0 ? inverse_b : t.delta < 0 ? -inverse_b : master(0);
    dout[mu] = -(master)scale * slope;
    dout[mu + 3] = t.inside ? (master)scale * (1 - fabs(t.delta) * inverse_b) : master(0);
    const master rest = 1 - t.x;
    dx[i] = (master)scale * (1 / t.x - 1 / rest + slope / (t.x * rest));
  }
}
EXPORT(logit_laplace_backward)
