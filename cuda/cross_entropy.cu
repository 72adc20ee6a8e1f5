// Cross-entropy of rows (src/ops/cross_entropy.rs). The target is `labels` [R] or, where that is
// null, `soft` [R,V]. `ignore` is the label of rows that take no part, -1 for none. A label beyond
// the classes is a fault.
#include "prelude.cuh"

struct RowTarget {
  bool ignored;
  Index label;  // -1: soft
};
DEV RowTarget row_target(const unsigned* labels, Index r, Index classes, Index ignore,
                         unsigned long long* fault) {
  if (!labels) return {false, -1};
  const Index label = labels[r];
  if (label == ignore) return {true, 0};
  if (label >= classes) {
    if (threadIdx.x == 0) report_fault(fault, FAULT_LABEL, r, (unsigned)label);
    return {true, 0};
  }
  return {false, label};
}

// Sums over a row: exp(x - max), t, t x (1 and x at the label for a hard target).
struct RowSums {
  master exps, target, product;
};
DEV RowSums row_sums(const elem* x, const master* t, Index label, Index classes, master largest) {
  master exps = 0, target = 0, product = 0;
  FOR_BLOCK(v, classes) {
    exps += exp(wide(x[v]) - largest);
    if (label < 0) {
      target += t[v];
      product += t[v] * wide(x[v]);
    }
  }
  exps = block_sum(exps);
  if (label >= 0) return {exps, 1, wide(x[label])};
  target = block_sum(target);
  return {exps, target, block_sum(product)};
}

// The loss and the largest logit's place of every row. One block per row.
KERNEL(cross_entropy_forward)(const elem* logits, const unsigned* labels, const master* soft,
                              Index ignore, master* losses, unsigned* argmax, Index classes,
                              unsigned long long* fault) {
  const Index r = blockIdx.x;
  const elem* x = logits + r * classes;
  const RowTarget to = row_target(labels, r, classes, ignore, fault);
  const Best best = block_best(classes, [&](Index v) { return wide(x[v]); });
  const RowSums sums = row_sums(x, soft + r * classes, to.label, classes, best.value);
  if (threadIdx.x == 0) {
    const master lse = best.value + log(sums.exps);
    losses[r] = to.ignored ? master(0) : sums.target * lse - sums.product;
    argmax[r] = (unsigned)best.place;
  }
}
EXPORT(cross_entropy_forward)

// The same, and the logits become scale (T p - t). One block per row.
KERNEL(cross_entropy_backward)(elem* logits, const unsigned* labels, const master* soft,
                               Index ignore, double scale, master* losses, unsigned* argmax,
                               Index classes, unsigned long long* fault) {
  const Index r = blockIdx.x;
  elem* x = logits + r * classes;
  const master* t = soft + r * classes;
  const RowTarget to = row_target(labels, r, classes, ignore, fault);
  const Best best = block_best(classes, [&](Index v) { return wide(x[v]); });
  const RowSums sums = row_sums(x, t, to.label, classes, best.value);
  if (threadIdx.x == 0) {
    const master lse = best.value + log(sums.exps);
    losses[r] = to.ignored ? master(0) : sums.target * lse - sums.product;
    argmax[r] = (unsigned)best.place;
  }
  __syncthreads();  // every thread has read the logit at the label
  const master factor = (master)scale * sums.target / sums.exps;
  FOR_BLOCK(v, classes) {
    const master hit = to.label < 0 ? t[v] : master(v == to.label);
    const master dx = factor * exp(wide(x[v]) - best.value) - (master)scale * hit;
    put(&x[v], to.ignored ? master(0) : dx);
  }
}
EXPORT(cross_entropy_backward)
