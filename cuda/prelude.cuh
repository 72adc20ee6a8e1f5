// What every kernel starts from: the two precisions, indices, reductions over a block, and every
// line of inline PTX. A plain C++ compiler gets the same names from the emulator instead.
//
// Each kernel is compiled three times, with one of BEIT_F64, BEIT_F32, BEIT_BF16 defined, and its
// name then ends in _f64, _f32 or _bf16. `elem` is the type of matrix operands and branch
// activations, `master` that of everything else (Elem and Master in src/storage.rs); arithmetic is
// done in `master`. Kernels take pointers, `Index` and `double` only: 8 bytes each, so that a wrong
// order of arguments cannot shift the others.
#pragma once

#if defined(BEIT_F64)
#define SUFFIX _f64
#elif defined(BEIT_F32)
#define SUFFIX _f32
#elif defined(BEIT_BF16)
#define SUFFIX _bf16
#else
#error "define one of BEIT_F64, BEIT_F32, BEIT_BF16"
#endif

#define JOIN_NAMES(a, b) a##b
#define JOIN(a, b) JOIN_NAMES(a, b)

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#define KERNEL(name) extern "C" __global__ void JOIN(name, SUFFIX)
#define EXPORT(name)
#define DEV static __device__ __forceinline__
#define METHOD __device__ __forceinline__
// Dynamic shared memory, one name for all kernels of a translation unit.
extern __shared__ __align__(128) unsigned char dynamic_shared_memory[];
#define DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(dynamic_shared_memory)

// d[16,8] += a[16,16] b[16,8], bf16 operands, f32 sums; the fragments of one warp.
DEV void mma_16816(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// Four, or two, 8x8 tiles of bf16 from shared memory; `_t` transposes each.
DEV void ldsm_x4(unsigned (&r)[4], const void* p) {
  unsigned s = (unsigned)__cvta_generic_to_shared(p);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(s));
}
DEV void ldsm_x4_t(unsigned (&r)[4], const void* p) {
  unsigned s = (unsigned)__cvta_generic_to_shared(p);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3},[%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(s));
}
// 16 bytes from global to shared memory, in flight until the wait; zeros where not `valid`.
DEV void cp_async16_zfill(void* to, const void* from, bool valid) {
  unsigned s = (unsigned)__cvta_generic_to_shared(to);
  int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0],[%1],16,%2;" ::"r"(s), "l"(from), "r"(bytes));
}
DEV void cp_async_commit() { asm volatile("cp.async.commit_group;"); }
template <int N>
DEV void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N));
}
DEV unsigned pack_bf16(float low, float high) {
  __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<unsigned*>(&v);
}
#else
#include "emu.h"
#endif

typedef long long Index;

#if defined(BEIT_F64)
typedef double elem;
typedef double master;
#elif defined(BEIT_F32)
typedef float elem;
typedef float master;
#else
typedef __nv_bfloat16 elem;
typedef float master;
DEV master wide(elem x) { return __bfloat162float(x); }
DEV void put(elem* p, master x) { *p = __float2bfloat16(x); }
#endif

// Any number as `master`, and a `master` rounded to what the pointer points at.
DEV master wide(master x) { return x; }
DEV void put(master* p, master x) { *p = x; }

// One element per thread at a time, as often as it takes to reach n.
#define FOR_EACH(i, n)                                            \
  for (Index i = (Index)blockIdx.x * blockDim.x + threadIdx.x; i < (n); \
       i += (Index)gridDim.x * blockDim.x)
// The threads of a block over n elements.
#define FOR_BLOCK(i, n) for (Index i = threadIdx.x; i < (n); i += blockDim.x)

// Reductions over the threads of a block, whose number is a multiple of 32: within each warp, then
// over the warps, in a fixed order. Every thread gets the result.
template <class T, class Op>
DEV T block_reduce(T x, T nothing, Op op) {
  __shared__ T parts[32];
  for (int offset = 16; offset > 0; offset /= 2) x = op(x, __shfl_xor_sync(0xffffffffu, x, offset));
  const int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (warps == 1) return x;
  __syncthreads();  // the last reduction may still be reading
  if (lane == 0) parts[warp] = x;
  __syncthreads();
  x = lane < warps ? parts[lane] : nothing;
  for (int offset = 16; offset > 0; offset /= 2) x = op(x, __shfl_xor_sync(0xffffffffu, x, offset));
  return x;
}
template <class T>
DEV T block_sum(T x) {
  return block_reduce(x, T(0), [](T a, T b) { return a + b; });
}
DEV master block_max(master x) {
  return block_reduce(x, master(-INFINITY), [](master a, master b) { return a > b ? a : b; });
}
DEV Index block_min(Index x) {
  return block_reduce(x, Index(1) << 62, [](Index a, Index b) { return a < b ? a : b; });
}

// Largest of n numbers and the lowest place where it is found; `x` maps a place to a number.
struct Best {
  master value;
  Index place;
};
template <class X>
DEV Best block_best(Index n, X x) {
  master largest = -INFINITY;
  FOR_BLOCK(i, n) {
    const master value = x(i);
    if (value > largest) largest = value;
  }
  largest = block_max(largest);
  Index place = Index(1) << 62;
  FOR_BLOCK(i, n) {
    if (x(i) == largest && i < place) place = i;
  }
  place = block_min(place);
  return {largest, place < n ? place : 0};
}

// What a kernel found wrong in its ids: one word, written whole, read by the host when it next
// waits (src/cuda/device.rs). The last fault found stays.
enum FaultCode { FAULT_ROW = 1, FAULT_LABEL = 2 };
DEV void report_fault(unsigned long long* fault, FaultCode code, Index place, unsigned value) {
  *fault = (unsigned long long)code << 56 | (unsigned long long)(place & 0xffffff) << 32 | value;
}
