// Between the stream and its branches (src/ops/convert.rs). One thread per element.
#include "prelude.cuh"

KERNEL(to_elem)(const master* x, elem* y, double scale, Index n) {
  FOR_EACH(i, n) put(&y[i], (master)scale * x[i]);
}
EXPORT(to_elem)

KERNEL(accumulate)(master* acc, const elem* x, Index n) {
  FOR_EACH(i, n) acc[i] += wide(x[i]);
}
EXPORT(accumulate)

KERNEL(add)(master* acc, const master* x, Index n) {
  FOR_EACH(i, n) acc[i] += x[i];
}
EXPORT(add)
