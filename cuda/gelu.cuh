// The exact GELU and its slope (src/ops/gelu.rs), for gelu.cu and linear_gelu.cu.
#pragma once
#include "prelude.cuh"

// x Phi(x), Phi(x) = (1 + erf(x / sqrt 2)) / 2
DEV master gelu(master x) {
  return x * master(0.5) * (master(1) + erf(x * master(0.70710678118654752440)));
}

// Phi(x) + x phi(x), phi(x) = exp(-x^2 / 2) / sqrt(2 pi)
DEV master gelu_slope(master x) {
  const master cdf = master(0.5) * (master(1) + erf(x * master(0.70710678118654752440)));
  return cdf + x * master(0.39894228040143267794) * exp(master(-0.5) * x * x);
}
