// Relative-position bias (src/ops/rel_pos_bias.rs): bias [H,N,N] from table [R,H].
#include "prelude.cuh"

// One thread per element of bias; `pairs` is N N.
KERNEL(rel_pos_bias_forward)(const master* table, const unsigned* index, master* bias, Index heads,
                             Index pairs) {
  FOR_EACH(i, heads * pairs) bias[i] = table[index[i % pairs] * heads + i / pairs];
}
EXPORT(rel_pos_bias_forward)

// dtable[r,h] += the sum over the pairs that read row r, in their order. One thread per entry.
KERNEL(rel_pos_bias_backward)(const unsigned* starts, const unsigned* entries, const master* dbias,
                              master* dtable, Index rows, Index heads, Index pairs) {
  FOR_EACH(i, rows * heads) {
    const Index r = i / heads, h = i % heads;
    master sum = 0;
    for (Index e = starts[r]; e < starts[r + 1]; ++e) sum += dbias[h * pairs + entries[e]];
    dtable[i] += sum;
  }
}
EXPORT(rel_pos_bias_backward)
