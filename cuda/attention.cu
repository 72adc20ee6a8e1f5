// Self-attention on packed qkv (src/ops/attention.rs), in its plain form: one block per row of
// scores, which stay in shared memory. It is the judge of the tensor-core form in
// attention_mma.cu, and what runs at f64, at f32 and at head sizes that form does not have.
// Shapes: qkv [B,N,3,H,D], bias [H,N,N] or null, out and dout [B,N,H,D], lse and delta [B,H,N].
#include "prelude.cuh"

struct Sizes {
  Index tokens, heads, head;
  // Row i of part p (0 q, 1 k, 2 v) of head h of sample b in qkv.
  METHOD Index row(Index b, Index i, Index p, Index h) const {
    return (((b * tokens + i) * 3 + p) * heads + h) * head;
  }
  // Row i of head h of sample b in [B,N,H,D].
  METHOD Index out(Index b, Index i, Index h) const { return ((b * tokens + i) * heads + h) * head; }
};

// The row of scores that this block owns: query i of head h of sample b.
struct Place {
  Index b, h, i;
};
DEV Place place_of(Index block, const Sizes& n) {
  return {block / (n.heads * n.tokens), block / n.tokens % n.heads, block % n.tokens};
}

DEV master dot(const elem* x, const elem* y, Index n) {
  master sum = 0;
  for (Index d = 0; d < n; ++d) sum += wide(x[d]) * wide(y[d]);
  return sum;
}

// S_ij = q_i k_j / sqrt D + bias_ij
DEV master score(const elem* qkv, const master* bias, const Sizes& n, Place p, Index j,
                 master scale) {
  const master s = scale * dot(qkv + n.row(p.b, p.i, 0, p.h), qkv + n.row(p.b, j, 1, p.h), n.head);
  return bias ? s + bias[(p.h * n.tokens + p.i) * n.tokens + j] : s;
}

struct RowSoftmax {
  master largest, sum;
};
// exp(S_ij - max) for all j into `s`; returns the maximum and the sum. Ends with a barrier.
DEV RowSoftmax softmax_row(const elem* qkv, const master* bias, const Sizes& n, Place p, master scale,
                         master* s) {
  master largest = -INFINITY;
  FOR_BLOCK(j, n.tokens) {
    s[j] = score(qkv, bias, n, p, j, scale);
    largest = s[j] > largest ? s[j] : largest;
  }
  largest = block_max(largest);
  master sum = 0;
  FOR_BLOCK(j, n.tokens) {
    s[j] = exp(s[j] - largest);
    sum += s[j];
  }
  sum = block_sum(sum);
  __syncthreads();
  return {largest, sum};
}

// out_i = sum over j of P_ij v_j, lse_i = ln sum over j of exp S_ij. One block per row.
KERNEL(attention_forward)(const elem* qkv, const master* bias, elem* out, master* lse, Index tokens,
                          Index heads, Index head, double scale) {
  DYNAMIC_SHARED(master, s);  // [N]
  const Sizes n = {tokens, heads, head};
  const Place p = place_of(blockIdx.x, n);
  const RowSoftmax row = softmax_row(qkv, bias, n, p, scale, s);
  FOR_BLOCK(d, head) {
    master sum = 0;
    for (Index j = 0; j < tokens; ++j) sum += s[j] * wide(qkv[n.row(p.b, j, 2, p.h) + d]);
    put(&out[n.out(p.b, p.i, p.h) + d], sum / row.sum);
  }
  if (threadIdx.x == 0) lse[blockIdx.x] = row.largest + log(row.sum);
}
EXPORT(attention_forward)

// P_ij for all j. One block per row.
KERNEL(attention_probs)(const elem* qkv, const master* bias, master* probs, Index tokens,
                        Index heads, Index head, double scale) {
  DYNAMIC_SHARED(master, s);  // [N]
  const Sizes n = {tokens, heads, head};
  const RowSoftmax row = softmax_row(qkv, bias, n, place_of(blockIdx.x, n), scale, s);
  FOR_BLOCK(j, tokens) probs[blockIdx.x * tokens + j] = s[j] / row.sum;
}
EXPORT(attention_probs)

// delta_i = dout_i . out_i, the sum over j of P_ij dP_ij. One thread per row.
KERNEL(attention_delta)(const elem* out, const elem* dout, master* delta, Index rows, Index tokens,
                        Index heads, Index head) {
  const Sizes n = {tokens, heads, head};
  FOR_EACH(i, rows) {
    const Place p = place_of(i, n);
    const Index at = n.out(p.b, p.i, p.h);
    delta[i] = dot(out + at, dout + at, head);
  }
}
EXPORT(attention_delta)

// dS_ij = P_ij (dout_i . v_j - delta_i); P_ij in `prob`.
DEV master score_gradient(const elem* qkv, const master* bias, const master* lse, const elem* dout,
                          const master* delta, const Sizes& n, Place p, Index j, master scale,
                          master* prob) {
  const Index row = (p.b * n.heads + p.h) * n.tokens + p.i;
  *prob = exp(score(qkv, bias, n, p, j, scale) - lse[row]);
  const elem* v = qkv + n.row(p.b, j, 2, p.h);
  return *prob * (dot(dout + n.out(p.b, p.i, p.h), v, n.head) - delta[row]);
}

// dq_i = sum over j of dS_ij k_j / sqrt D. One block per row i.
KERNEL(attention_backward_q)(const elem* qkv, const master* bias, const master* lse,
                             const elem* dout, const master* delta, elem* dqkv, Index tokens,
                             Index heads, Index head, double scale) {
  DYNAMIC_SHARED(master, ds);  // [N]
  const Sizes n = {tokens, heads, head};
  const Place p = place_of(blockIdx.x, n);
  FOR_BLOCK(j, tokens) {
    master prob;
    ds[j] = score_gradient(qkv, bias, lse, dout, delta, n, p, j, scale, &prob);
  }
  __syncthreads();
  FOR_BLOCK(d, head) {
    master sum = 0;
    for (Index j = 0; j < tokens; ++j) sum += ds[j] * wide(qkv[n.row(p.b, j, 1, p.h) + d]);
    put(&dqkv[n.row(p.b, p.i, 0, p.h) + d], (master)scale * sum);
  }
}
EXPORT(attention_backward_q)

// dk_j = sum over i of dS_ij q_i / sqrt D, dv_j = sum over i of P_ij dout_i. One block per row j.
KERNEL(attention_backward_kv)(const elem* qkv, const master* bias, const master* lse,
                              const elem* dout, const master* delta, elem* dqkv, Index tokens,
                              Index heads, Index head, double scale) {
  DYNAMIC_SHARED(master, prob);  // [N], then dS [N]
  master* ds = prob + tokens;
  const Sizes n = {tokens, heads, head};
  const Place key = place_of(blockIdx.x, n);
  FOR_BLOCK(i, tokens) {
    const Place p = {key.b, key.h, i};
    ds[i] = score_gradient(qkv, bias, lse, dout, delta, n, p, key.i, scale, &prob[i]);
  }
  __syncthreads();
  FOR_BLOCK(d, head) {
    master dk = 0, dv = 0;
    for (Index i = 0; i < tokens; ++i) {
      dk += ds[i] * wide(qkv[n.row(key.b, i, 0, key.h) + d]);
      dv += prob[i] * wide(dout[n.out(key.b, i, key.h) + d]);
    }
    put(&dqkv[n.row(key.b, key.i, 1, key.h) + d], (master)scale * dk);
    put(&dqkv[n.row(key.b, key.i, 2, key.h) + d], dv);
  }
}
EXPORT(attention_backward_kv)

// dbias_ij += sum over samples of dS_ij, in the order of the samples. One thread per (h,i,j).
KERNEL(attention_backward_bias)(const elem* qkv, const master* bias, const master* lse,
                                const elem* dout, const master* delta, master* dbias, Index batch,
                                Index tokens, Index heads, Index head, double scale) {
  const Sizes n = {tokens, heads, head};
  FOR_EACH(at, heads * tokens * tokens) {
    const Index h = at / (tokens * tokens), i = at / tokens % tokens, j = at % tokens;
    master sum = 0, prob;
    for (Index b = 0; b < batch; ++b) {
      sum += score_gradient(qkv, bias, lse, dout, delta, n, {b, h, i}, j, scale, &prob);
    }
    dbias[at] += sum;
  }
}
EXPORT(attention_backward_bias)
