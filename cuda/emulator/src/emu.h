// What a kernel source sees instead of CUDA. Every thread of a block is a fiber; a block runs on one
// thread of the machine. Barriers, warp collectives, shared memory, atomics, bf16, and the wrappers
// of tensor-core instructions that prelude.cuh has for the device.
//
// Three units include this file into one library: functions here have internal linkage, templates and
// types are the same in all three.
#pragma once
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <utility>

// ---- vector types

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

// ---- bf16

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

// ---- the engine

namespace emu {
// What a kernel may ask about the place it runs at. The variable has no constructor, so that reading
// it needs no check whether it exists yet.
struct Thread {
  uint3 index;
  int lane;
};
struct Here {
  Thread* thread;  // null outside kernels
  uint3 block, grid, size;
  unsigned char* dynamic_shared;
};
extern __thread Here here;

// Kinds of collectives; lanes that meet must agree.
enum class Op : uint8_t { Shuffle, SyncWarp, LoadMatrix, Multiply };

// `where` tells barriers apart: all threads of a block must be at the same one.
void sync_block(const char* where);
// Rendezvous of the lanes in `mask`: each gives n <= 64 bytes and gets a table of 32 entries of 64.
const unsigned char* exchange(Op op, unsigned mask, const void* mine, size_t n);
// cp.async: 16 bytes that land when they are waited for; zeros where `from` is null.
void copy_async(void* to, const void* from);
void copy_commit();
void copy_wait(int keep);
// Ends the launch with this message.
[[noreturn]] void fail(const char* what);

// A kernel as cuLaunchKernel needs it.
struct Kernel {
  static constexpr int MOST = 32;
  const char* name;
  void (*function)();
  void (*call)(void (*)(), void** arguments);
  int count;
  size_t sizes[MOST];
  Kernel* next;
};
extern Kernel* kernels;
template <class... A>
struct Registered : Kernel {
  static_assert(sizeof...(A) <= MOST, "too many arguments");
  template <size_t... I>
  static void spread(void (*f)(A...), void** a, std::index_sequence<I...>) {
    f(*(typename std::remove_cv<A>::type*)a[I]...);
  }
  static void run(void (*f)(), void** a) {
    spread((void (*)(A...))f, a, std::index_sequence_for<A...>{});
  }
  Registered(const char* kernel, void (*f)(A...)) {
    name = kernel;
    function = (void (*)())f;
    call = &run;
    count = sizeof...(A);
    const size_t all[] = {sizeof(A)..., 0};
    memcpy(sizes, all, sizeof...(A) * sizeof(size_t));
    next = kernels;
    kernels = this;
  }
};

// Dynamic shared memory that a block may have at most (compute capability 9.0).
constexpr size_t MOST_SHARED = 232448;
constexpr int MOST_THREADS = 1024;
enum class Order { Forward, Reverse, Shuffle };
enum class Outcome { Done, Failed, IllegalAddress };
// Runs a grid to its end; what went wrong is told on stderr.
Outcome launch(const Kernel*, dim3 grid, dim3 block, size_t shared, Order order, void** arguments);
}  // namespace emu

// ---- the language

#if defined(BEIT_F64)
#define EMU_SUFFIX _f64
#elif defined(BEIT_F32)
#define EMU_SUFFIX _f32
#elif defined(BEIT_BF16)
#define EMU_SUFFIX _bf16
#endif
#define EMU_JOIN_EXPANDED(a, b) a##b
#define EMU_JOIN(a, b) EMU_JOIN_EXPANDED(a, b)
#define EMU_TEXT_EXPANDED(x) #x
#define EMU_TEXT(x) EMU_TEXT_EXPANDED(x)

#define KERNEL(name) static void EMU_JOIN(name, EMU_SUFFIX)
#define EXPORT(name)                                               \
  static emu::Registered EMU_JOIN(registered_##name, EMU_SUFFIX)( \
      EMU_TEXT(EMU_JOIN(name, EMU_SUFFIX)), &EMU_JOIN(name, EMU_SUFFIX));
#define DEV static inline
#define METHOD
#define DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(emu::here.dynamic_shared)
// A block stays on one thread of the machine, so its shared memory can be that thread's.
#define __shared__ static thread_local
#define __launch_bounds__(...)
#define threadIdx (emu::here.thread->index)
#define blockIdx (emu::here.block)
#define gridDim (emu::here.grid)
#define blockDim (emu::here.size)
#define __syncthreads() emu::sync_block(__FILE__ ":" EMU_TEXT(__LINE__))
using std::max;
using std::min;

// ---- warps

static inline void __syncwarp(unsigned mask = 0xffffffffu) {
  emu::exchange(emu::Op::SyncWarp, mask, nullptr, 0);
}

template <class T>
static inline T __shfl_xor_sync(unsigned mask, T v, int offset) {
  static_assert(sizeof(T) <= 64, "too large for a shuffle");
  const unsigned char* all = emu::exchange(emu::Op::Shuffle, mask, &v, sizeof v);
  T other;
  memcpy(&other, all + 64 * (emu::here.thread->lane ^ offset), sizeof other);
  return other;
}

// ---- arithmetic

static inline unsigned __umulhi(unsigned a, unsigned b) {
  return (unsigned)(((uint64_t)a * b) >> 32);
}

// ---- tensor cores: the wrappers of prelude.cuh, with the fragments that PTX lays down

static inline unsigned pack_bf16(float low, float high) {
  return __float2bfloat16(low).bits | (unsigned)__float2bfloat16(high).bits << 16;
}

// d[16,8] += a[16,16] b[16,8]; sums in f32, in the order of k.
static inline void mma_16816(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  struct Fragments {
    unsigned a[4], b[2];
  } mine;
  memcpy(mine.a, a, 16);
  memcpy(mine.b, b, 8);
  const unsigned char* all = emu::exchange(emu::Op::Multiply, 0xffffffffu, &mine, sizeof mine);
  const int lane = emu::here.thread->lane;
  // Two rows of a, two columns of b, spread over the four lanes that share a row or column.
  float rows[2][16], columns[2][16];
  const auto unpack = [](unsigned pair, float* to) {
    to[0] = __bfloat162float({(uint16_t)pair});
    to[1] = __bfloat162float({(uint16_t)(pair >> 16)});
  };
  for (int quarter = 0; quarter < 4; ++quarter) {
    const Fragments* of_a = (const Fragments*)(all + 64 * (lane / 4 * 4 + quarter));
    for (int half = 0; half < 2; ++half) {
      unpack(of_a->a[2 * half], &rows[0][8 * half + 2 * quarter]);
      unpack(of_a->a[2 * half + 1], &rows[1][8 * half + 2 * quarter]);
      for (int c = 0; c < 2; ++c) {
        const int column = lane % 4 * 2 + c;
        const Fragments* of_b = (const Fragments*)(all + 64 * (column * 4 + quarter));
        unpack(of_b->b[half], &columns[c][8 * half + 2 * quarter]);
      }
    }
  }
  for (int e = 0; e < 4; ++e) {
    const float *row = rows[e / 2], *column = columns[e % 2];
    float sum = 0;
    for (int k = 0; k < 16; ++k) sum += row[k] * column[k];
    d[e] += sum;
  }
}

// ldmatrix: N tiles of 8x8 bf16; lane 8 t + r gives the address of row r of tile t.
template <int N>
static inline void emu_load_matrices(unsigned (&tiles)[N], const void* p, bool transposed) {
  const unsigned char* all = emu::exchange(emu::Op::LoadMatrix, 0xffffffffu, &p, sizeof p);
  const int lane = emu::here.thread->lane;
  for (int t = 0; t < N; ++t) {
    uint16_t pair[2];
    for (int e = 0; e < 2; ++e) {
      const int across = lane % 4 * 2 + e, down = lane / 4;
      const uint16_t* from;
      memcpy(&from, all + 64 * (8 * t + (transposed ? across : down)), sizeof from);
      if ((uintptr_t)from & 15) emu::fail("a row of ldmatrix is not on 16 bytes");
      pair[e] = from[transposed ? down : across];
    }
    tiles[t] = pair[0] | (unsigned)pair[1] << 16;
  }
  // Nobody goes on, and perhaps writes there, before all have read.
  emu::exchange(emu::Op::SyncWarp, 0xffffffffu, nullptr, 0);
}
static inline void ldsm_x4(unsigned (&r)[4], const void* p) { emu_load_matrices(r, p, false); }
static inline void ldsm_x4_t(unsigned (&r)[4], const void* p) { emu_load_matrices(r, p, true); }

static inline void cp_async16_zfill(void* to, const void* from, bool valid) {
  if (((uintptr_t)to & 15) || (valid && ((uintptr_t)from & 15))) {
    emu::fail("cp.async is not on 16 bytes");
  }
  emu::copy_async(to, valid ? from : nullptr);
}
static inline void cp_async_commit() { emu::copy_commit(); }
template <int N>
static inline void cp_async_wait() {
  emu::copy_wait(N);
}
