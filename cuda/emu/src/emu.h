// What a kernel source sees instead of CUDA: every thread of a block is a fiber, a block runs on one
// thread of the machine. Barriers, warp collectives, shared memory, atomics, bf16, and the
// tensor-core wrappers of prelude.cuh. Everything here has internal linkage: three units include it.
#pragma once
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <type_traits>
#include <utility>

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

struct __nv_bfloat16 {
  uint16_t bits;
};
static inline float __bfloat162float(__nv_bfloat16 h) {
  const uint32_t bits = (uint32_t)h.bits << 16;
  float f;
  memcpy(&f, &bits, 4);
  return f;
}
// To the nearest, ties to even.
static inline __nv_bfloat16 __float2bfloat16(float f) {
  uint32_t bits;
  memcpy(&bits, &f, 4);
  if ((bits & 0x7fffffff) > 0x7f800000) return {0x7fff};
  return {(uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

namespace emu {
// What a collective is; lanes that meet must agree.
enum class Op : uint8_t { Shuffle, Vote, SyncWarp, LoadMatrix, Multiply };
struct Warp;
struct Fiber {
  void* stack_pointer;
  uint3 thread;
  int lane;
  bool done;
  Warp* warp;
  // cp.async in flight: they land at the wait.
  struct Copy {
    void* to;
    const void* from;  // null: zeros
  } copies[512];
  int copy_count, groups, committed[16];
};
extern thread_local Fiber* current;
extern thread_local uint3 block_index;
extern thread_local dim3 grid_size, block_size;
extern thread_local unsigned char* dynamic_shared;
void sync_block();
// Rendezvous of the lanes in `mask`: each gives n <= 64 bytes and gets a table of 32 entries of 64.
const unsigned char* exchange(Op op, unsigned mask, const void* mine, size_t n);
void copy_async(void* to, const void* from);
void copy_commit();
void copy_wait(int keep);

typedef void (*Thunk)(void (*)(), void**);
struct Kernel {
  const char* name;
  void (*function)();
  Thunk thunk;
  int count;
  size_t sizes[32];
  Kernel* next;
};
extern Kernel* kernels;
template <class... A, size_t... I>
static inline void call(void (*f)(A...), void** a, std::index_sequence<I...>) {
  f(*(typename std::remove_cv<A>::type*)a[I]...);
}
template <class... A>
struct Registered : Kernel {
  static void run(void (*f)(), void** a) {
    call((void (*)(A...))f, a, std::index_sequence_for<A...>{});
  }
  Registered(const char* kernel, void (*f)(A...)) {
    name = kernel;
    function = (void (*)())f;
    thunk = &run;
    count = sizeof...(A);
    const size_t all[] = {sizeof(A)..., 0};
    memcpy(sizes, all, sizeof...(A) * sizeof(size_t));
    next = kernels;
    kernels = this;
  }
};
// 0, or 1 after a deadlock or a mismatched collective, with a message on stderr.
int launch(const Kernel*, dim3 grid, dim3 block, size_t shared, int order, void** arguments);
}  // namespace emu

#define EMU_TEXT_OF(x) #x
#define EMU_TEXT(x) EMU_TEXT_OF(x)
#define KERNEL(name) static void JOIN(name, SUFFIX)
#define EXPORT(name)                                                           \
  static emu::Registered JOIN(JOIN(registered_, name), SUFFIX)(EMU_TEXT(JOIN(name, SUFFIX)), \
                                                               &JOIN(name, SUFFIX));
#define DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(emu::dynamic_shared)
#define DEV static inline
#define METHOD
#define __shared__ static thread_local
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define threadIdx (emu::current->thread)
#define blockIdx (emu::block_index)
#define gridDim (emu::grid_size)
#define blockDim (emu::block_size)
#define __syncthreads() emu::sync_block()
static inline void __syncwarp(unsigned mask = 0xffffffffu) {
  emu::exchange(emu::Op::SyncWarp, mask, nullptr, 0);
}

template <class T>
static inline T __shfl_xor_sync(unsigned mask, T v, int offset) {
  const unsigned char* all = emu::exchange(emu::Op::Shuffle, mask, &v, sizeof v);
  T other;
  memcpy(&other, all + 64 * (emu::current->lane ^ offset), sizeof other);
  return other;
}
static inline unsigned __umulhi(unsigned a, unsigned b) {
  return (unsigned)(((uint64_t)a * b) >> 32);
}
using std::max;
using std::min;

// Tensor cores: fragments as PTX lays them out, sums in f32 in the order of k.
static inline void mma_16816(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  struct Fragments {
    unsigned a[4], b[2];
  } mine;
  memcpy(mine.a, a, 16);
  memcpy(mine.b, b, 8);
  const unsigned char* all = emu::exchange(emu::Op::Multiply, 0xffffffffu, &mine, sizeof mine);
  const auto half = [](unsigned u, int h) {
    return __bfloat162float({(uint16_t)(h ? u >> 16 : u)});
  };
  const int lane = emu::current->lane;
  for (int e = 0; e < 4; ++e) {
    const int row = lane / 4 + e / 2 * 8, col = lane % 4 * 2 + e % 2;
    float sum = 0;
    for (int k = 0; k < 16; ++k) {
      const Fragments* of_a = (const Fragments*)(all + 64 * (row % 8 * 4 + k % 8 / 2));
      const Fragments* of_b = (const Fragments*)(all + 64 * (col * 4 + k % 8 / 2));
      sum += half(of_a->a[row / 8 + k / 8 * 2], k % 2) * half(of_b->b[k / 8], k % 2);
    }
    d[e] += sum;
  }
}
static inline void emu_load_matrices(unsigned (&r)[4], const void* p, bool transposed) {
  const unsigned char* all = emu::exchange(emu::Op::LoadMatrix, 0xffffffffu, &p, sizeof p);
  const int lane = emu::current->lane;
  for (int m = 0; m < 4; ++m) {
    uint16_t h[2];
    for (int e = 0; e < 2; ++e) {
      const int row = transposed ? lane % 4 * 2 + e : lane / 4;
      const int col = transposed ? lane / 4 : lane % 4 * 2 + e;
      const uint16_t* from;
      memcpy(&from, all + 64 * (m * 8 + row), sizeof from);
      if ((uintptr_t)from & 15) {
        fprintf(stderr, "emulator: a row of ldmatrix is not on 16 bytes\n");
        abort();
      }
      h[e] = from[col];
    }
    r[m] = h[0] | (unsigned)h[1] << 16;
  }
  // Nobody goes on, and perhaps writes there, before all have read.
  emu::exchange(emu::Op::SyncWarp, 0xffffffffu, nullptr, 0);
}
static inline void ldsm_x4(unsigned (&r)[4], const void* p) { emu_load_matrices(r, p, false); }
static inline void ldsm_x4_t(unsigned (&r)[4], const void* p) { emu_load_matrices(r, p, true); }
static inline void cp_async16_zfill(void* to, const void* from, bool valid) {
  if (((uintptr_t)to & 15) || (valid && ((uintptr_t)from & 15))) {
    fprintf(stderr, "emulator: cp.async is not on 16 bytes\n");
    abort();
  }
  emu::copy_async(to, valid ? from : nullptr);
}
static inline void cp_async_commit() { emu::copy_commit(); }
template <int N>
static inline void cp_async_wait() {
  emu::copy_wait(N);
}
static inline unsigned pack_bf16(float low, float high) {
  return __float2bfloat16(low).bits | (unsigned)__float2bfloat16(high).bits << 16;
}
