// Squared error of the first channels (src/ops/mse.rs): x [B,..,C], out [B,..,D], D >= C.
#include "prelude.cuh"

// The sum over each image. One block per image of n elements of x.
KERNEL(mse_forward)(const master* x, const master* out, master* sums, Index n, Index channels,
                    Index depth) {
  const Index first = blockIdx.x * n;
  master sum = 0;
  FOR_BLOCK(i, n) {
    const Index at = first + i;
    const master d = out[at / channels * depth + at % channels] - x[at];
    sum += d * d;
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}
EXPORT(mse_forward)

// dout = 2 scale (out - x), 0 in the other channels. One thread per element of out.
KERNEL(mse_backward)(const master* x, const master* out, double scale, master* dout, Index n,
                     Index channels, Index depth) {
  FOR_EACH(i, n) {
    const Index pixel = i / depth, c = i % depth;
    const master twice = (master)(2 * scale);
    dout[i] = c < channels ? twice * (out[i] - x[pixel * channels + c]) : master(0);
  }
}
EXPORT(mse_backward)
