// Stand-ins of cuBLAS and cuBLASLt: products as plain loops, column-major, sums in the compute type. The
// work is queued with the stream. Linked twice, under the SONAMEs libcublas.so and libcublasLt.so.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <functional>
#include <vector>

typedef int Status;
typedef void* Handle;
extern "C" int emu_submit(Handle stream, const std::function<int()>&);
extern "C" int emu_inside(const void*, size_t);
#define API extern "C" __attribute__((visibility("default")))
enum { OK = 0, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum Type { F32 = 0, F64 = 1, BF16 = 14 };
enum { COMPUTE_32F = 68, COMPUTE_64F = 70 };

template <class T>
static T load(const void* p, int type, int64_t i) {
  if (type == F64) return (T)((const double*)p)[i];
  if (type == F32) return (T)((const float*)p)[i];
  const uint32_t bits = (uint32_t)((const uint16_t*)p)[i] << 16;
  float f;
  memcpy(&f, &bits, 4);
  return (T)f;
}
template <class T>
static void store(void* p, int type, int64_t i, T x) {
  if (type == F64) {
    ((double*)p)[i] = x;
  } else if (type == F32) {
    ((float*)p)[i] = (float)x;
  } else {
    const float f = (float)x;
    uint32_t bits;
    memcpy(&bits, &f, 4);
    const bool nan = (bits & 0x7fffffff) > 0x7f800000;
    const uint16_t rounded = (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    ((uint16_t*)p)[i] = nan ? 0x7fff : rounded;
  }
}

struct Matrix {
  const void* data;
  int type, leading;
  bool transposed;
};

// C[m,n] = f(alpha op(A)[m,k] op(B)[k,n] + beta C, row, column), in T.
template <class T, class F>
static void multiply(int m, int n, int k, T alpha, Matrix a, Matrix b, T beta, void* c, int type,
                     int leading, F f) {
  // Unpacked with k contiguous.
  std::vector<T> left((size_t)m * k), right((size_t)n * k);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t x = 0; x < k; ++x) {
      left[i * k + x] = load<T>(a.data, a.type, a.transposed ? x + i * a.leading : i + x * a.leading);
    }
  }
  for (int64_t j = 0; j < n; ++j) {
    for (int64_t x = 0; x < k; ++x) {
      right[j * k + x] = load<T>(b.data, b.type, b.transposed ? j + x * b.leading : x + j * b.leading);
    }
  }
  for (int64_t j = 0; j < n; ++j) {
    for (int64_t i = 0; i < m; ++i) {
      const T *p = &left[i * k], *q = &right[j * k];
      T lanes[8] = {};
      int x = 0;
      for (; x + 8 <= k; x += 8) {
        for (int e = 0; e < 8; ++e) lanes[e] += p[x + e] * q[x + e];
      }
      for (; x < k; ++x) lanes[0] += p[x] * q[x];
      const T sum = ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) +
                    ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
      const int64_t at = i + j * leading;
      store<T>(c, type, at, f(alpha * sum + (beta != 0 ? beta * load<T>(c, type, at) : 0), i, j));
    }
  }
}

template <class T>
static T as_it_is(T x, int64_t, int64_t) {
  return x;
}

// ---- cuBLAS

struct Blas {
  Handle stream = nullptr;
};
API Status cublasCreate_v2(Handle* h) {
  *h = new Blas;
  return OK;
}
API Status cublasDestroy_v2(Handle h) {
  delete (Blas*)h;
  return OK;
}
API Status cublasSetStream_v2(Handle h, Handle stream) {
  ((Blas*)h)->stream = stream;
  return OK;
}
API Status cublasSetWorkspace_v2(Handle, void*, size_t) { return OK; }
API Status cublasGetVersion_v2(Handle, int* version) {
  *version = 130000;
  return OK;
}
API Status cublasGemmEx(Handle h, int transa, int transb, int m, int n, int k, const void* alpha,
                        const void* a, int type_a, int lda, const void* b, int type_b, int ldb,
                        const void* beta, void* c, int type_c, int ldc, int compute, int) {
  if (compute != COMPUTE_32F && compute != COMPUTE_64F) return NOT_SUPPORTED;
  if ((compute == COMPUTE_64F) != (type_c == F64) || type_a != type_b) return NOT_SUPPORTED;
  // What the library checks.
  if (m < 0 || n < 0 || k < 0 || lda < (transa ? k : m) || ldb < (transb ? n : k) || ldc < m) {
    return INVALID_VALUE;
  }
  const Matrix left = {a, type_a, lda, transa != 0}, right = {b, type_b, ldb, transb != 0};
  std::function<int()> work;
  // The factors are read at the call.
  if (compute == COMPUTE_64F) {
    const double x = *(const double*)alpha, y = *(const double*)beta;
    work = [=] {
      multiply<double>(m, n, k, x, left, right, y, c, type_c, ldc, as_it_is<double>);
      return (int)OK;
    };
  } else {
    const float x = *(const float*)alpha, y = *(const float*)beta;
    work = [=] {
      multiply<float>(m, n, k, x, left, right, y, c, type_c, ldc, as_it_is<float>);
      return (int)OK;
    };
  }
  return emu_submit(((Blas*)h)->stream, work) ? EXECUTION_FAILED : OK;
}

// ---- cuBLASLt, for bf16 factors and f32 sums

// The numbers of the attributes and epilogues are those of the library's header.
enum { TRANSA = 3, TRANSB = 4, EPILOGUE = 7, BIAS_POINTER = 8, AUX_POINTER = 11, AUX_LD = 12 };
enum { BIAS_TYPE = 26 };
enum { DEFAULT = 1, BIAS = 4, GELU_AUX_BIAS = 164 };
struct Product {
  int transa = 0, transb = 0, epilogue = DEFAULT, bias_type = -1;
  const void* bias = nullptr;
  void* aux = nullptr;
  int64_t aux_leading = 0;
};
struct Sides {
  int type;
  uint64_t rows, cols;
  int64_t leading;
};
enum { MOST_WORKSPACE = 1, ALIGNMENT_A = 5, ALIGNMENT_D = 8 };
struct Preference {
  uint64_t workspace = 0;
  uint32_t alignment[4] = {256, 256, 256, 256};
};
// What the library leaves opaque. An algorithm holds for the alignments that were promised and for the
// transposes it was made for.
struct Algorithm {
  uint64_t mark, transposes, workspace, alignment[4], number;
};
static const uint64_t MARK = 0x616c676f;
struct Candidate {
  Algorithm algorithm;
  size_t workspace;
  Status state;
  float waves;
  int reserved[4];
};
static uint64_t transposes_of(const Product& p) { return p.transa + 2 * p.transb; }

API size_t cublasLtGetVersion() { return 130000; }
API Status cublasLtCreate(Handle* h) {
  *h = new int;
  return OK;
}
API Status cublasLtDestroy(Handle h) {
  delete (int*)h;
  return OK;
}
API Status cublasLtMatmulDescCreate(Handle* h, int compute, int scale) {
  if (compute != COMPUTE_32F || scale != F32) return NOT_SUPPORTED;
  *h = new Product;
  return OK;
}
API Status cublasLtMatmulDescDestroy(Handle h) {
  delete (Product*)h;
  return OK;
}
API Status cublasLtMatmulDescSetAttribute(Handle h, int attribute, const void* value, size_t size) {
  Product& p = *(Product*)h;
  const auto set = [&](auto& field) -> Status {
    if (size != sizeof field) return INVALID_VALUE;
    memcpy(&field, value, size);
    return OK;
  };
  switch (attribute) {
    case TRANSA: return set(p.transa);
    case TRANSB: return set(p.transb);
    case EPILOGUE: return set(p.epilogue);
    case BIAS_POINTER: return set(p.bias);
    case AUX_POINTER: return set(p.aux);
    case AUX_LD: return set(p.aux_leading);
    case BIAS_TYPE: return set(p.bias_type);
    default: return NOT_SUPPORTED;
  }
}
API Status cublasLtMatrixLayoutCreate(Handle* h, int type, uint64_t rows, uint64_t cols,
                                      int64_t leading) {
  if (!rows || !cols || leading < (int64_t)rows) return INVALID_VALUE;
  *h = new Sides{type, rows, cols, leading};
  return OK;
}
API Status cublasLtMatrixLayoutDestroy(Handle h) {
  delete (Sides*)h;
  return OK;
}
API Status cublasLtMatmulPreferenceCreate(Handle* h) {
  *h = new Preference;
  return OK;
}
API Status cublasLtMatmulPreferenceDestroy(Handle h) {
  delete (Preference*)h;
  return OK;
}
API Status cublasLtMatmulPreferenceSetAttribute(Handle h, int attribute, const void* value,
                                                size_t size) {
  Preference& p = *(Preference*)h;
  if (attribute == MOST_WORKSPACE && size == 8) {
    memcpy(&p.workspace, value, size);
  } else if (attribute >= ALIGNMENT_A && attribute <= ALIGNMENT_D && size == 4) {
    memcpy(&p.alignment[attribute - ALIGNMENT_A], value, size);
  } else {
    return NOT_SUPPORTED;
  }
  return OK;
}
static bool fits(const Product& p, const Sides& a, const Sides& b, const Sides& d) {
  const uint64_t m = p.transa ? a.cols : a.rows, k = p.transa ? a.rows : a.cols;
  const uint64_t n = p.transb ? b.rows : b.cols;
  return a.type == BF16 && b.type == BF16 && (d.type == BF16 || d.type == F32) && d.rows == m &&
         d.cols == n && (p.transb ? b.cols : b.rows) == k;
}
API Status cublasLtMatmulAlgoGetHeuristic(Handle, Handle product, Handle a, Handle b, Handle c,
                                          Handle d, Handle preference, int most, Candidate* found,
                                          int* count) {
  const Product& p = *(Product*)product;
  if (!fits(p, *(Sides*)a, *(Sides*)b, *(Sides*)d) || memcmp(c, d, sizeof(Sides))) {
    return INVALID_VALUE;
  }
  const Preference& want = *(Preference*)preference;
  *count = std::min(most, 3);
  for (int i = 0; i < *count; ++i) {
    const uint64_t workspace = std::min<uint64_t>(want.workspace, (uint64_t)i << 20);
    Algorithm algorithm = {MARK, transposes_of(p), workspace, {}, (uint64_t)i};
    for (int x = 0; x < 4; ++x) algorithm.alignment[x] = want.alignment[x];
    found[i] = {algorithm, workspace, OK, 1, {}};
  }
  return OK;
}
API Status cublasLtMatmulAlgoCheck(Handle, Handle product, Handle a, Handle b, Handle, Handle d,
                                   const Algorithm* algorithm, Candidate* result) {
  const Product& p = *(Product*)product;
  if (algorithm->mark != MARK || algorithm->transposes != transposes_of(p) ||
      !fits(p, *(Sides*)a, *(Sides*)b, *(Sides*)d)) {
    return NOT_SUPPORTED;
  }
  *result = {*algorithm, algorithm->workspace, OK, 1, {}};
  return OK;
}
static bool aligned(const void* p, uint64_t bytes) { return (uintptr_t)p % bytes == 0; }
API Status cublasLtMatmul(Handle, Handle product, const float* alpha, const void* a, Handle layout_a,
                          const void* b, Handle layout_b, const float* beta, const void* c,
                          Handle layout_c, void* d, Handle layout_d, const Algorithm* algorithm,
                          void* workspace, size_t workspace_size, Handle stream) {
  const Product p = *(Product*)product;
  const Sides sa = *(Sides*)layout_a, sb = *(Sides*)layout_b, sd = *(Sides*)layout_d;
  if (c != d || memcmp(layout_c, layout_d, sizeof(Sides)) || !fits(p, sa, sb, sd)) {
    return INVALID_VALUE;
  }
  const uint64_t* promised = algorithm->alignment;
  if (algorithm->mark != MARK || algorithm->transposes != transposes_of(p) ||
      !aligned(a, promised[0]) || !aligned(b, promised[1]) || !aligned(c, promised[2]) ||
      !aligned(d, promised[3])) {
    fprintf(stderr, "emulator: this algorithm is for other operands\n");
    return INVALID_VALUE;
  }
  if (workspace_size < algorithm->workspace || !emu_inside(workspace, algorithm->workspace)) {
    return INVALID_VALUE;
  }
  const bool biased = p.epilogue == BIAS || p.epilogue == GELU_AUX_BIAS;
  if ((!biased && p.epilogue != DEFAULT) || (biased && (!p.bias || p.bias_type != sd.type))) {
    return INVALID_VALUE;
  }
  if (p.epilogue == GELU_AUX_BIAS && (!p.aux || p.aux_leading < (int64_t)sd.rows)) {
    return INVALID_VALUE;
  }
  const Matrix left = {a, sa.type, (int)sa.leading, p.transa != 0};
  const Matrix right = {b, sb.type, (int)sb.leading, p.transb != 0};
  const int m = (int)sd.rows, n = (int)sd.cols, k = (int)(p.transa ? sa.rows : sa.cols);
  const float x = *alpha, y = *beta;
  const auto finish = [=](float v, int64_t i, int64_t j) {
    if (biased) v += load<float>(p.bias, p.bias_type, i);
    if (p.epilogue != GELU_AUX_BIAS) return v;
    store<float>(p.aux, sd.type, i + j * p.aux_leading, v);
    return 0.5f * v * (1 + tanhf(0.7978845608f * (v + 0.044715f * v * v * v)));
  };
  const std::function<int()> work = [=] {
    multiply<float>(m, n, k, x, left, right, y, d, sd.type, (int)sd.leading, finish);
    return (int)OK;
  };
  return emu_submit(stream, work) ? EXECUTION_FAILED : OK;
}
