// AdamW over the arena and the running average (src/ops/adamw.rs), one launch each. `copy` is the
// weights in elem precision, or null where that is the same.
#include "prelude.cuh"

#if defined(BEIT_BF16)
#define PUT_COPY(copy, i, x) put(&copy[i], x)
#else
#define PUT_COPY(copy, i, x) (void)copy
#endif

// Segment s ends before ends[s] and has factors[2 s] = 1 - lr decay, factors[2 s + 1] = lr / (1 -
// beta1^t). The clip factor follows from `norm` (null: 1); where it is not finite, nothing changes. One
// thread per number.
KERNEL(adamw_update)(master* w, elem* copy, const master* g, master* m, master* v,
                     const master* norm, double max_norm, const double* ends, const double* factors,
                     double beta1, double beta2, double root2, double eps, Index n) {
  if (norm && !(fabs(*norm) < master(INFINITY))) return;
  const double ratio = norm ? max_norm / ((double)*norm + 1e-6) : 1.0;
  const master clip = (master)(ratio < 1.0 ? ratio : 1.0);
  FOR_EACH(i, n) {
    int s = 0;
    while ((double)i >= ends[s]) ++s;
    const master keep = (master)factors[2 * s], step_size = (master)factors[2 * s + 1];
    const master grad = g[i] * clip;
    const master first = (master)beta1 * m[i] + (master)(1 - beta1) * grad;
    const master second = (master)beta2 * v[i] + (master)(1 - beta2) * grad * grad;
    const master next = w[i] * keep - step_size * first / (sqrt(second) / (master)root2 + (master)eps);
    m[i] = first;
    v[i] = second;
    w[i] = next;
    PUT_COPY(copy, i, next);
  }
}
EXPORT(adamw_update)

// average = decay average + (1 - decay) w. One thread per number.
KERNEL(ema_update)(master* average, elem* copy, const master* w, double decay, Index n) {
  FOR_EACH(i, n) {
    const master next = (master)decay * average[i] + (master)(1 - decay) * w[i];
    average[i] = next;
    PUT_COPY(copy, i, next);
  }
}
EXPORT(ema_update)
