// Self-attention on tensor cores (src/ops/attention.rs), bf16 operands and f32 sums. attention.cu has
// the plain form, which judges this one. Shapes as there; head sizes are multiples of 8, and D here is
// the next of 32, 64, 96, 128, filled up with zeros.
//
// A block takes one head of one sample. Rows of one kind (keys in the forward pass and for dq,
// queries for dk and dv) lie in shared memory, all of them where they fit, else a stage at a time;
// each warp takes 16 rows of the other kind and meets them 16 or 32 at a time. Nobody adds to what
// another warp writes. Scores exist in registers only; for the gradient of the bias alone dS is
// written out in bf16, and summed over the samples in their order.
#include "prelude.cuh"

#if defined(BEIT_BF16)

#define LOG2_E 1.44269504088896340736f
#define LN_2 0.69314718055994530942f

// Numbers of a row in shared memory: 8 more than D, so that the rows of a tile lie in other banks.
template <int D>
DEV constexpr int pitch() {
  return D + 8;
}

// a[16,16] of a row-major tile.
DEV void load_a(unsigned (&a)[4], const elem* tile, int pitch, int row, int col) {
  const int lane = threadIdx.x % 32;
  ldsm_x4(a, tile + (row + lane % 16) * pitch + col + lane / 16 * 8);
}
// Two b[16,8] from rows n and columns k of a tile: b is its transpose. b[0..2] is the first.
DEV void load_b(unsigned (&b)[4], const elem* tile, int pitch, int n, int k) {
  const int lane = threadIdx.x % 32, matrix = lane / 8;
  ldsm_x4(b, tile + (n + matrix / 2 * 8 + lane % 8) * pitch + k + matrix % 2 * 8);
}
// Two b[16,8] from rows k and columns n of a tile.
DEV void load_b_plain(unsigned (&b)[4], const elem* tile, int pitch, int k, int n) {
  const int lane = threadIdx.x % 32, matrix = lane / 8;
  ldsm_x4_t(b, tile + (k + matrix % 2 * 8 + lane % 8) * pitch + n + matrix / 2 * 8);
}
DEV void mma_pair(float (&d0)[4], float (&d1)[4], const unsigned (&a)[4], const unsigned (&b)[4]) {
  mma_16816(d0, a, {b[0], b[1]});
  mma_16816(d1, a, {b[2], b[3]});
}

// Rows `first` .. `first + rows` of one part of one head, copied by the threads `me` of `all`; rows
// beyond `tokens` and columns beyond `head` become 0. `source` maps a row to its first number.
template <int D, class Source>
DEV void copy_rows(elem* tile, Source source, int first, int rows, int tokens, int head, int me,
                   int all) {
  const int chunks = D / 8;
  for (int i = me; i < rows * chunks; i += all) {
    const int r = i / chunks, c = i % chunks * 8;
    const bool valid = first + r < tokens && c < head;
    const elem* from = source(valid ? first + r : 0) + (valid ? c : 0);
    cp_async16_zfill(tile + r * pitch<D>() + c, from, valid);
  }
}

// What a block works on.
struct Head {
  Index b, h, tokens, heads, head;
  const elem* qkv;
  METHOD const elem* row(int part, Index i) const {
    return qkv + (((b * tokens + i) * 3 + part) * heads + h) * head;
  }
  METHOD Index out(Index i) const { return ((b * tokens + i) * heads + h) * head; }
};
DEV Head head_of_block(const elem* qkv, Index tokens, Index heads, Index head) {
  return {(Index)blockIdx.x / heads, (Index)blockIdx.x % heads, tokens, heads, head, qkv};
}

// x[16, 16 n] = a[16,D] tile[16 n rows, D]^T from row `first` of the tile on.
template <int D, int N>
DEV void product(float (&x)[2 * N][4], const elem* a, const elem* tile, int first) {
  for (int n = 0; n < 2 * N; ++n) {
    for (int e = 0; e < 4; ++e) x[n][e] = 0;
  }
#pragma unroll
  for (int k = 0; k < D; k += 16) {
    unsigned fa[4];
    load_a(fa, a, pitch<D>(), 0, k);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      unsigned fb[4];
      load_b(fb, tile, pitch<D>(), first + 16 * n, k);
      mma_pair(x[2 * n], x[2 * n + 1], fa, fb);
    }
  }
}

// sums[16,D] += x[16, 16 n] tile[16 n rows, D] from row `first` of the tile on; x rounded to bf16.
template <int D, int N>
DEV void accumulate_product(float (&sums)[D / 8][4], const float (&x)[2 * N][4], const elem* tile,
                            int first) {
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const unsigned a[4] = {pack_bf16(x[2 * n][0], x[2 * n][1]), pack_bf16(x[2 * n][2], x[2 * n][3]),
                           pack_bf16(x[2 * n + 1][0], x[2 * n + 1][1]),
                           pack_bf16(x[2 * n + 1][2], x[2 * n + 1][3])};
#pragma unroll
    for (int d = 0; d < D; d += 16) {
      unsigned b[4];
      load_b_plain(b, tile, pitch<D>(), first + 16 * n, d);
      mma_pair(sums[d / 8], sums[d / 8 + 1], a, b);
    }
  }
}

// Writes a warp's rows [16,D]: element e of column tile n is row lane / 4 + e / 2 * 8, column 8 n +
// lane % 4 * 2 + e % 2. `target` maps a row to its first number.
template <int D, class Target>
DEV void store_rows(const float (&x)[D / 8][4], const float (&factor)[2], Target target, int first,
                    int tokens, int head) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = first + lane / 4 + half * 8;
    if (r >= tokens) continue;
    elem* row = target(r);
#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
      const int c = 8 * n + lane % 4 * 2;
      if (c < head) {
        *reinterpret_cast<unsigned*>(row + c) =
            pack_bf16(x[n][2 * half] * factor[half], x[n][2 * half + 1] * factor[half]);
      }
    }
  }
}

// The rounds of a block: in each, warp w has the 16 rows from 16 (round * warps + w) on. Rows in
// stages lie in `stage` rows of shared memory and are loaded once where all fit.
#define FOR_ROUNDS(round, rows)                                                            \
  const int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;      \
  const int tiles = ((int)(rows) + 15) / 16;                                               \
  for (int round = blockIdx.y; round * warps < tiles; round += gridDim.y)

// out and lse. Shared: keys and values of a stage, queries of each warp.
template <int D>
DEV void forward(const elem* qkv, const float* bias, elem* out, float* lse, Index tokens,
                 Index heads, Index head, double scale, Index stage) {
  DYNAMIC_SHARED(elem, keys);
  elem* values = keys + stage * pitch<D>();
  elem* queries = values + stage * pitch<D>() + threadIdx.x / 32 * 16 * pitch<D>();
  const Head at = head_of_block(qkv, tokens, heads, head);
  const int n = (int)tokens;
  bool first_load = true;
  FOR_ROUNDS(round, tokens) {
    const int first = 16 * (round * warps + warp);
    copy_rows<D>(queries, [&](Index i) { return at.row(0, i); }, first, 16, n, (int)head, lane, 32);
    cp_async_commit();
    float sums[D / 8][4] = {}, largest[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};
    for (int from = 0; from < n; from += (int)stage) {
      if (first_load || stage < tokens) {
        __syncthreads();  // the last stage is done with
        copy_rows<D>(keys, [&](Index i) { return at.row(1, i); }, from, (int)stage, n, (int)head,
                     threadIdx.x, blockDim.x);
        copy_rows<D>(values, [&](Index i) { return at.row(2, i); }, from, (int)stage, n, (int)head,
                     threadIdx.x, blockDim.x);
        cp_async_commit();
      }
      cp_async_wait<0>();
      __syncthreads();
      first_load = false;
      for (int key = 0; key < (int)stage && from + key < n && first < n; key += 32) {
        float s[4][4];
        product<D, 2>(s, queries, keys, key);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int i = min(first + lane / 4 + half * 8, n - 1);
          float highest = largest[half];
#pragma unroll
          for (int t = 0; t < 4; ++t) {
#pragma unroll
            for (int e = 2 * half; e < 2 * half + 2; ++e) {
              const int j = from + key + 8 * t + lane % 4 * 2 + e % 2;
              float x = (float)scale * s[t][e];
              if (bias && j < n) x += bias[(at.h * tokens + i) * tokens + j];
              s[t][e] = j < n ? x * LOG2_E : -INFINITY;
              highest = s[t][e] > highest ? s[t][e] : highest;
            }
          }
          // The four lanes of a row.
          for (int o = 1; o < 4; o *= 2) {
            const float other = __shfl_xor_sync(0xffffffffu, highest, o);
            highest = other > highest ? other : highest;
          }
          const float shrink = exp2f(largest[half] - highest);
          largest[half] = highest;
          total[half] *= shrink;
#pragma unroll
          for (int d = 0; d < D / 8; ++d) {
            sums[d][2 * half] *= shrink;
            sums[d][2 * half + 1] *= shrink;
          }
#pragma unroll
          for (int t = 0; t < 4; ++t) {
#pragma unroll
            for (int e = 2 * half; e < 2 * half + 2; ++e) {
              s[t][e] = exp2f(s[t][e] - highest);
              total[half] += s[t][e];
            }
          }
        }
        accumulate_product<D, 2>(sums, s, values, key);
      }
    }
    float inverse[2];
    for (int half = 0; half < 2; ++half) {
      for (int o = 1; o < 4; o *= 2) total[half] += __shfl_xor_sync(0xffffffffu, total[half], o);
      inverse[half] = 1 / total[half];
      const int i = first + lane / 4 + half * 8;
      if (lane % 4 == 0 && i < n) {
        lse[(Index)blockIdx.x * tokens + i] = largest[half] * LN_2 + logf(total[half]);
      }
    }
    store_rows<D>(sums, inverse, [&](Index i) { return out + at.out(i); }, first, n, (int)head);
    __syncwarp();  // the queries may be overwritten
  }
}

// dq and, where `ds` is not null, dS [B,H,N,stride]. Shared: keys and values of a stage, queries and
// dout of each warp.
template <int D>
DEV void backward_q(const elem* qkv, const float* bias, const float* lse, const elem* dout,
                    const float* delta, elem* dqkv, elem* ds, Index tokens, Index heads, Index head,
                    double scale, Index stage, Index stride) {
  DYNAMIC_SHARED(elem, keys);
  elem* values = keys + stage * pitch<D>();
  elem* queries = values + stage * pitch<D>() + threadIdx.x / 32 * 32 * pitch<D>();
  elem* douts = queries + 16 * pitch<D>();
  const Head at = head_of_block(qkv, tokens, heads, head);
  const int n = (int)tokens;
  bool first_load = true;
  FOR_ROUNDS(round, tokens) {
    const int first = 16 * (round * warps + warp);
    copy_rows<D>(queries, [&](Index i) { return at.row(0, i); }, first, 16, n, (int)head, lane, 32);
    copy_rows<D>(douts, [&](Index i) { return dout + at.out(i); }, first, 16, n, (int)head, lane,
                 32);
    cp_async_commit();
    float sums[D / 8][4] = {}, own_lse[2], own_delta[2];
    for (int half = 0; half < 2; ++half) {
      const Index i = (Index)blockIdx.x * tokens + min(first + lane / 4 + half * 8, n - 1);
      own_lse[half] = lse[i];
      own_delta[half] = delta[i];
    }
    for (int from = 0; from < n; from += (int)stage) {
      if (first_load || stage < tokens) {
        __syncthreads();  // the last stage is done with
        copy_rows<D>(keys, [&](Index i) { return at.row(1, i); }, from, (int)stage, n, (int)head,
                     threadIdx.x, blockDim.x);
        copy_rows<D>(values, [&](Index i) { return at.row(2, i); }, from, (int)stage, n, (int)head,
                     threadIdx.x, blockDim.x);
        cp_async_commit();
      }
      cp_async_wait<0>();
      __syncthreads();
      first_load = false;
      for (int key = 0; key < (int)stage && from + key < n && first < n; key += 16) {
        float s[2][4], dp[2][4];
        product<D, 1>(s, queries, keys, key);
        product<D, 1>(dp, douts, values, key);
#pragma unroll
        for (int t = 0; t < 2; ++t) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const int i = first + lane / 4 + e / 2 * 8;
            const int j = from + key + 8 * t + lane % 4 * 2 + e % 2;
            const bool inside = i < n && j < n;
            float x = (float)scale * s[t][e];
            if (bias && inside) x += bias[(at.h * tokens + i) * tokens + j];
            const float p = inside ? exp2f((x - own_lse[e / 2]) * LOG2_E) : 0;
            s[t][e] = p * (dp[t][e] - own_delta[e / 2]);
          }
          if (ds) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
              const int i = first + lane / 4 + half * 8;
              const int j = from + key + 8 * t + lane % 4 * 2;
              if (i < n) {
                *reinterpret_cast<unsigned*>(ds + ((Index)blockIdx.x * tokens + i) * stride + j) =
                    pack_bf16(s[t][2 * half], s[t][2 * half + 1]);
              }
            }
          }
        }
        accumulate_product<D, 1>(sums, s, keys, key);
      }
    }
    const float factor[2] = {(float)scale, (float)scale};
    store_rows<D>(sums, factor, [&](Index i) { return dqkv + (at.row(0, i) - qkv); }, first, n,
                  (int)head);
    __syncwarp();  // queries and dout may be overwritten
  }
}

// dk and dv. Shared: queries, dout, lse and delta of a stage, keys and values of each warp.
template <int D>
DEV void backward_kv(const elem* qkv, const float* bias, const float* lse, const elem* dout,
                     const float* delta, elem* dqkv, Index tokens, Index heads, Index head,
                     double scale, Index stage) {
  DYNAMIC_SHARED(elem, queries);
  elem* douts = queries + stage * pitch<D>();
  elem* keys = douts + stage * pitch<D>() + threadIdx.x / 32 * 32 * pitch<D>();
  elem* values = keys + 16 * pitch<D>();
  float* all_lse = reinterpret_cast<float*>(douts + (stage + blockDim.x) * pitch<D>());
  float* all_delta = all_lse + stage;
  const Head at = head_of_block(qkv, tokens, heads, head);
  const int n = (int)tokens;
  bool first_load = true;
  FOR_ROUNDS(round, tokens) {
    const int first = 16 * (round * warps + warp);
    copy_rows<D>(keys, [&](Index i) { return at.row(1, i); }, first, 16, n, (int)head, lane, 32);
    copy_rows<D>(values, [&](Index i) { return at.row(2, i); }, first, 16, n, (int)head, lane, 32);
    cp_async_commit();
    float dk[D / 8][4] = {}, dv[D / 8][4] = {};
    for (int from = 0; from < n; from += (int)stage) {
      if (first_load || stage < tokens) {
        __syncthreads();  // the last stage is done with
        copy_rows<D>(queries, [&](Index i) { return at.row(0, i); }, from, (int)stage, n, (int)head,
                     threadIdx.x, blockDim.x);
        copy_rows<D>(douts, [&](Index i) { return dout + at.out(i); }, from, (int)stage, n,
                     (int)head, threadIdx.x, blockDim.x);
        cp_async_commit();
        FOR_BLOCK(r, stage) {
          const Index i = (Index)blockIdx.x * tokens + min((int)r + from, n - 1);
          all_lse[r] = lse[i];
          all_delta[r] = delta[i];
        }
      }
      cp_async_wait<0>();
      __syncthreads();
      first_load = false;
      for (int query = 0; query < (int)stage && from + query < n && first < n; query += 16) {
        float p[2][4], ds[2][4];  // [keys, queries]
        product<D, 1>(p, keys, queries, query);
        product<D, 1>(ds, values, douts, query);
#pragma unroll
        for (int t = 0; t < 2; ++t) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const int r = query + 8 * t + lane % 4 * 2 + e % 2, i = from + r;
            const int j = first + lane / 4 + e / 2 * 8;
            const bool inside = i < n && j < n;
            float x = (float)scale * p[t][e];
            if (bias && inside) x += bias[(at.h * tokens + i) * tokens + j];
            p[t][e] = inside ? exp2f((x - all_lse[r]) * LOG2_E) : 0;
            ds[t][e] = p[t][e] * (ds[t][e] - all_delta[r]);
          }
        }
        accumulate_product<D, 1>(dv, p, douts, query);
        accumulate_product<D, 1>(dk, ds, queries, query);
      }
    }
    const float factor[2] = {(float)scale, (float)scale}, one[2] = {1, 1};
    store_rows<D>(dk, factor, [&](Index i) { return dqkv + (at.row(1, i) - qkv); }, first, n,
                  (int)head);
    store_rows<D>(dv, one, [&](Index i) { return dqkv + (at.row(2, i) - qkv); }, first, n,
                  (int)head);
    __syncwarp();  // keys and values may be overwritten
  }
}

// One of each per padded head size. Blocks of up to 8 warps: (samples x heads, rounds).
#define MMA_KERNELS(D)                                                                            \
  KERNEL(attention_mma_forward_##D)                                                               \
  (const elem* qkv, const master* bias, elem* out, master* lse, Index tokens, Index heads,        \
   Index head, double scale, Index stage) {                                                       \
    forward<D>(qkv, bias, out, lse, tokens, heads, head, scale, stage);                           \
  }                                                                                               \
  KERNEL(attention_mma_backward_q_##D)                                                            \
  (const elem* qkv, const master* bias, const master* lse, const elem* dout, const master* delta, \
   elem* dqkv, elem* ds, Index tokens, Index heads, Index head, double scale, Index stage,        \
   Index stride) {                                                                                \
    backward_q<D>(qkv, bias, lse, dout, delta, dqkv, ds, tokens, heads, head, scale, stage,       \
                  stride);                                                                        \
  }                                                                                               \
  KERNEL(attention_mma_backward_kv_##D)                                                           \
  (const elem* qkv, const master* bias, const master* lse, const elem* dout, const master* delta, \
   elem* dqkv, Index tokens, Index heads, Index head, double scale, Index stage) {                \
    backward_kv<D>(qkv, bias, lse, dout, delta, dqkv, tokens, heads, head, scale, stage);         \
  }                                                                                               \
  EXPORT(attention_mma_forward_##D)                                                               \
  EXPORT(attention_mma_backward_q_##D)                                                            \
  EXPORT(attention_mma_backward_kv_##D)

MMA_KERNELS(32)
MMA_KERNELS(64)
MMA_KERNELS(96)
MMA_KERNELS(128)
#undef MMA_KERNELS

// dbias [H,N,N] += dS [batch,H,N,stride] summed over the samples in their order. One thread per
// element of dbias.
KERNEL(attention_mma_bias)(const elem* ds, master* dbias, Index batch, Index heads, Index tokens,
                           Index stride) {
  FOR_EACH(at, heads * tokens * tokens) {
    const Index row = at / tokens, j = at % tokens;  // row = h N + i
    master sum = 0;
    for (Index b = 0; b < batch; ++b) {
      sum += wide(ds[(b * heads * tokens + row) * stride + j]);
    }
    dbias[at] += sum;
  }
}
EXPORT(attention_mma_bias)

#endif
