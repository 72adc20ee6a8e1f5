// Targets and centre of DINO (src/ops/self_distillation.rs): t [B,G,K], targets [B,R,K].
#include "prelude.cuh"

// q = softmax((t - c) / temperature) and its entropy. One block per row of k outputs.
KERNEL(teacher_distributions)(const master* t, const master* center, double inverse, master* q,
                              master* entropies, Index k) {
  const master* x = t + blockIdx.x * k;
  master* out = q + blockIdx.x * k;
  const master factor = (master)inverse;
  master largest = -INFINITY;
  FOR_BLOCK(i, k) {
    const master z = (x[i] - center[i]) * factor;
    largest = z > largest ? z : largest;
  }
  largest = block_max(largest);
  master sum = 0;
  FOR_BLOCK(i, k) sum += exp((x[i] - center[i]) * factor - largest);
  sum = block_sum(sum);
  master entropy = 0;
  FOR_BLOCK(i, k) {
    const master p = exp((x[i] - center[i]) * factor - largest) / sum;
    out[i] = p;
    entropy -= p > 0 ? p * log(p) : master(0);
  }
  entropy = block_sum(entropy);
  if (threadIdx.x == 0) entropies[blockIdx.x] = entropy;
}
EXPORT(teacher_distributions)

// The sum of the other views' q. One thread per target [B,count,k] of the views from `first` on.
KERNEL(teacher_targets)(const master* q, master* targets, Index n, Index views, Index first,
                        Index count, Index k) {
  FOR_EACH(i, n) {
    const Index at = i % k, image = i / k / count, own = first + i / k % count;
    master sum = 0;
    for (Index view = 0; view < views; view++) {
      sum += view == own ? master(0) : q[(image * views + view) * k + at];
    }
    targets[i] = sum;
  }
}
EXPORT(teacher_targets)

// keep c + share sum of t, where that is finite. One thread per output.
KERNEL(follow_center)(const master* center, const master* t, master* moved, Index rows, Index k,
                      double keep, double share) {
  FOR_EACH(i, k) {
    master sum = 0;
    for (Index row = 0; row < rows; row++) sum += t[row * k + i];
    const master next = (master)keep * center[i] + (master)share * sum;
    moved[i] = isfinite(next) ? next : center[i];
  }
}
EXPORT(follow_center)
