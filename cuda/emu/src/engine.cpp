// The scheduler behind emu.h: fibers that change at barriers and collectives, x86-64 by hand,
// ucontext elsewhere.
#include <sys/mman.h>
#include <ucontext.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#define JOIN(a, b) a##b
#define SUFFIX
#include "emu.h"
#undef threadIdx
#undef blockIdx
#undef gridDim
#undef blockDim

namespace emu {
// Lanes that meet under one mask; two tables by turns, so that one rendezvous is enough.
struct Group {
  unsigned mask, arrived;
  Op op;
  uint64_t generation;
  alignas(16) unsigned char slots[2][32][64];
};
struct Warp {
  int lanes, groups;
  Group group[8];
};
thread_local Fiber* current;
thread_local uint3 block_index;
thread_local dim3 grid_size, block_size;
thread_local unsigned char* dynamic_shared;
Kernel* kernels;

static const size_t STACK = 64 << 10;
static const int MOST_THREADS = 1024;
static const size_t MOST_SHARED = 232448;

// What one thread of the machine runs blocks with; kept for its lifetime.
struct Engine {
  std::vector<Fiber> fibers{MOST_THREADS};
  std::vector<Warp> warps{MOST_THREADS / 32};
  unsigned char* stacks;
  unsigned char* shared;  // MOST_SHARED bytes, then a page that nobody may touch
  void* main_stack_pointer;
  int threads, alive, arrived;
  uint64_t generation, progress = 0;
  const Kernel* kernel;
  void** arguments;
  int order;
  std::string error;
  ucontext_t main_context;
  Engine() {
    const auto map = [](size_t n) {
      return (unsigned char*)mmap(nullptr, n, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    };
    stacks = map(MOST_THREADS * STACK);
    shared = map(MOST_SHARED + 4096 * 2);
    mprotect(shared + (MOST_SHARED + 4095) / 4096 * 4096, 4096, PROT_NONE);
    for (Fiber& f : fibers) f.stack_pointer = nullptr;
  }
  ~Engine() {
    munmap(stacks, MOST_THREADS * STACK);
    munmap(shared, MOST_SHARED + 4096 * 2);
  }
};
static thread_local Engine* engine;

static void entry();
#if defined(__x86_64__)
extern "C" void emu_switch(void** save, void* load);
__asm__(
    ".text\n.globl emu_switch\n.type emu_switch,@function\nemu_switch:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n"
    ".size emu_switch,.-emu_switch\n");
static void prepare(Fiber& f, unsigned char* stack) {
  void** top = (void**)(((uintptr_t)stack + STACK) & ~(uintptr_t)15);
  *--top = nullptr;
  *--top = (void*)&entry;
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  f.stack_pointer = top;
}
static inline void to_fiber(Fiber* f) {
  current = f;
  emu_switch(&engine->main_stack_pointer, f->stack_pointer);
}
static inline void to_scheduler() { emu_switch(&current->stack_pointer, engine->main_stack_pointer); }
#else
static void prepare(Fiber& f, unsigned char* stack) {
  if (!f.stack_pointer) f.stack_pointer = new ucontext_t;
  ucontext_t* context = (ucontext_t*)f.stack_pointer;
  getcontext(context);
  context->uc_stack.ss_sp = stack;
  context->uc_stack.ss_size = STACK;
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
}
static inline void to_fiber(Fiber* f) {
  current = f;
  swapcontext(&engine->main_context, (ucontext_t*)f->stack_pointer);
}
static inline void to_scheduler() {
  swapcontext((ucontext_t*)current->stack_pointer, &engine->main_context);
}
#endif

static void entry() {
  engine->kernel->thunk(engine->kernel->function, engine->arguments);
  copy_wait(0);
  current->done = true;
  engine->alive--;
  engine->progress++;
  // A thread that has ended no longer holds back a barrier.
  if (engine->alive && engine->arrived == engine->alive) {
    engine->arrived = 0;
    engine->generation++;
  }
  for (;;) to_scheduler();
}
static void fail(const char* what) {
  if (engine->error.empty()) engine->error = what;
  for (;;) to_scheduler();
}

void sync_block() {
  engine->progress++;
  const uint64_t generation = engine->generation;
  if (++engine->arrived == engine->alive) {
    engine->arrived = 0;
    engine->generation++;
  }
  while (engine->generation == generation) to_scheduler();
}

const unsigned char* exchange(Op op, unsigned mask, const void* mine, size_t n) {
  Warp& warp = *current->warp;
  const int lane = current->lane;
  if (!(mask >> lane & 1)) fail("a lane is not in its own mask");
  if (warp.lanes < 32) mask &= (1u << warp.lanes) - 1;
  Group* group = nullptr;
  for (int i = 0; i < warp.groups; ++i) {
    if (warp.group[i].mask == mask) group = &warp.group[i];
  }
  if (!group) {
    if (warp.groups == 8) fail("more than 8 masks in one warp");
    group = &warp.group[warp.groups++];
    group->mask = mask;
    group->arrived = 0;
    group->generation = 0;
  }
  if (group->arrived == 0) {
    group->op = op;
  } else if (group->op != op) {
    fail("lanes of one warp meet in different collectives");
  }
  if (n) memcpy(group->slots[group->generation & 1][lane], mine, n);
  group->arrived |= 1u << lane;
  engine->progress++;
  const uint64_t generation = group->generation;
  if (group->arrived == mask) {
    group->arrived = 0;
    group->generation++;
  }
  while (group->generation == generation) to_scheduler();
  return &group->slots[generation & 1][0][0];
}

void copy_async(void* to, const void* from) {
  Fiber* f = current;
  if (f->copy_count == 512) fail("more than 512 cp.async of one thread in flight");
  f->copies[f->copy_count++] = {to, from};
}
void copy_commit() {
  Fiber* f = current;
  if (f->groups == 16) fail("more than 16 groups of cp.async in flight");
  f->committed[f->groups++] = f->copy_count;
}
void copy_wait(int keep) {
  Fiber* f = current;
  if (f->groups <= keep && keep) return;
  const int drop = f->groups - keep, n = keep == 0 ? f->copy_count : f->committed[drop - 1];
  for (int i = 0; i < n; ++i) {
    if (f->copies[i].from) {
      memcpy(f->copies[i].to, f->copies[i].from, 16);
    } else {
      memset(f->copies[i].to, 0, 16);
    }
  }
  for (int i = n; i < f->copy_count; ++i) f->copies[i - n] = f->copies[i];
  f->copy_count -= n;
  for (int i = drop; i < f->groups; ++i) f->committed[i - drop] = f->committed[i] - n;
  f->groups = std::max(0, f->groups - drop);
}

// Runs the threads of one block to their end; false after an error.
static bool run_block(uint64_t seed) {
  Engine& e = *engine;
  const int count = e.threads, warps = (count + 31) / 32;
  for (int i = 0; i < count; ++i) {
    Fiber& f = e.fibers[i];
    const unsigned t = i;
    f.thread = {t % block_size.x, t / block_size.x % block_size.y,
                t / (block_size.x * block_size.y)};
    f.lane = i % 32;
    f.done = false;
    f.warp = &e.warps[i / 32];
    f.copy_count = f.groups = 0;
    prepare(f, e.stacks + (size_t)i * STACK);
  }
  for (int w = 0; w < warps; ++w) {
    e.warps[w].lanes = std::min(32, count - w * 32);
    e.warps[w].groups = 0;
  }
  e.alive = count;
  e.arrived = 0;
  e.generation = 0;
  e.error.clear();
  int order[MOST_THREADS / 32];
  for (int i = 0; i < warps; ++i) order[i] = e.order == 1 ? warps - 1 - i : i;
  int lanes[32];
  for (int i = 0; i < 32; ++i) lanes[i] = i;
  const auto shuffle = [&](int* x, int n) {
    for (int i = n - 1; i > 0; --i) {
      seed = seed * 6364136223846793005ull + 1442695040888963407ull;
      std::swap(x[i], x[(seed >> 33) % (i + 1)]);
    }
  };
  while (e.alive) {
    const uint64_t before = e.progress;
    if (e.order == 2) {
      shuffle(order, warps);
      shuffle(lanes, 32);
    }
    for (int w = 0; w < warps; ++w) {
      const int first = order[w] * 32, n = e.warps[order[w]].lanes;
      // One warp until it gets no further, then the next.
      for (uint64_t p = e.progress + 1; p != e.progress;) {
        p = e.progress;
        for (int l = 0; l < 32; ++l) {
          const int lane = e.order == 1 ? 31 - l : lanes[l];
          if (lane >= n) continue;
          Fiber& f = e.fibers[first + lane];
          if (f.done) continue;
          to_fiber(&f);
          if (!e.error.empty()) return false;
        }
      }
    }
    if (e.progress == before && e.alive) {
      e.error = "deadlock: threads wait at a barrier or collective that others never reach";
      return false;
    }
  }
  return true;
}

int launch(const Kernel* kernel, dim3 grid, dim3 block, size_t shared, int order, void** arguments) {
  const uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z;
  const int threads = block.x * block.y * block.z;
  std::atomic<uint64_t> next{0};
  std::atomic<int> bad{0};
  const auto work = [&] {
    static thread_local Engine own;
    engine = &own;
    own.threads = threads;
    own.kernel = kernel;
    own.arguments = arguments;
    own.order = order;
    grid_size = grid;
    block_size = block;
    // It ends at the forbidden page, so that an overrun faults.
    const size_t end = (MOST_SHARED + 4095) / 4096 * 4096;
    dynamic_shared = own.shared + (end - (shared + 127) / 128 * 128);
    for (uint64_t b; !bad && (b = next++) < blocks;) {
      memset(dynamic_shared, 0xff, shared);  // starts undefined: NaN
      block_index = {(unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y),
                     (unsigned)(b / ((uint64_t)grid.x * grid.y))};
      if (!run_block(b + 1)) {
        bad = 1;
        fprintf(stderr, "emulator: %s block (%u,%u,%u): %s\n", kernel->name, block_index.x,
                block_index.y, block_index.z, own.error.c_str());
      }
    }
    engine = nullptr;
    current = nullptr;
  };
  // A helper only where starting it is worth it.
  if (blocks >= 8 && blocks * threads >= 1 << 16 && std::thread::hardware_concurrency() > 1) {
    std::thread helper(work);
    work();
    helper.join();
  } else {
    work();
  }
  return bad;
}
}  // namespace emu
