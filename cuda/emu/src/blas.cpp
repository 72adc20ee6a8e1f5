// A stand-in of cuBLAS: products as plain loops, column-major, sums in the compute type. The work is
// queued with the stream. The SONAME must be libcublas.so.
#include <stdint.h>
#include <string.h>

#include <functional>
#include <vector>

typedef int Status;
typedef void* Handle;
extern "C" int emu_submit(Handle stream, const std::function<int()>&);
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

// C[m,n] = alpha op(A)[m,k] op(B)[k,n] + beta C, in T.
template <class T>
static void multiply(int m, int n, int k, T alpha, Matrix a, Matrix b, T beta, void* c, int type,
                     int leading) {
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
      store<T>(c, type, at, alpha * sum + (beta != 0 ? beta * load<T>(c, type, at) : 0));
    }
  }
}

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
      multiply<double>(m, n, k, x, left, right, y, c, type_c, ldc);
      return (int)OK;
    };
  } else {
    const float x = *(const float*)alpha, y = *(const float*)beta;
    work = [=] {
      multiply<float>(m, n, k, x, left, right, y, c, type_c, ldc);
      return (int)OK;
    };
  }
  return emu_submit(((Blas*)h)->stream, work) ? EXECUTION_FAILED : OK;
}
