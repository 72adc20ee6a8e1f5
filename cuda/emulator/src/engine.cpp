// The scheduler behind emu.h: fibers that change at barriers and collectives.
#include "emu.h"

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace emu {
__thread Here here;
Kernel* kernels;

// ---- what a block consists of

// Lanes that meet under one mask. Two tables by turns: a lane may still read the last one while others
// fill the next, but nobody gets to the one after that before all have come.
struct Group {
  unsigned mask, arrived;
  Op op;
  uint64_t generation;
  alignas(16) unsigned char slots[2][32][64];
};
struct Warp {
  static const int MOST_GROUPS = 8;
  int lanes, groups;
  Group group[MOST_GROUPS];
};
// A stack with the registers of whoever left it.
struct Context {
  unsigned char* stack;
  void* stack_pointer;
  ucontext_t* saved;
};
struct Fiber : Thread {
  Warp* warp;
  Context* context;  // null before the first turn and after the last
  bool done;
  // Until this counter changes there is no point in giving it a turn.
  const uint64_t* counter;
  uint64_t generation;
  const char* waits_at;
  struct Copy {
    void* to;
    const void* from;
  };
  std::vector<Copy> copies;      // in flight, oldest first
  std::vector<size_t> committed;  // number of copies up to the end of each group
};

static const char* name_of(Op op) {
  switch (op) {
    case Op::Shuffle: return "a shuffle";
    case Op::SyncWarp: return "__syncwarp";
    case Op::LoadMatrix: return "ldmatrix";
    case Op::Multiply: return "mma";
  }
  return "?";
}
static size_t page() {
  static const size_t size = (size_t)sysconf(_SC_PAGESIZE);
  return size;
}
static unsigned char* map(size_t n) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* p = mmap(nullptr, n, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (p == MAP_FAILED) {
    perror("emulator: mmap");
    abort();
  }
  return (unsigned char*)p;
}

// What one thread of the machine runs blocks with. It grows to the largest block and is kept, because a
// test makes tens of thousands of small launches.
struct Engine {
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::deque<Context> contexts;
  std::vector<Context*> idle;
  unsigned char* shared;  // up to shared_end, then a page that nobody may touch
  unsigned char* shared_end;
  void* scheduler_stack_pointer;
  ucontext_t scheduler;

  const Kernel* kernel;
  void** arguments;
  Order order;
  Outcome outcome;
  std::string message;

  int alive, arrived;
  uint64_t generation;  // of the block's barrier
  const char* barrier;

  Engine() {
    const size_t room = (MOST_SHARED + page() - 1) / page() * page();
    shared = map(room + page());
    shared_end = shared + room;
    mprotect(shared_end, page(), PROT_NONE);
  }
  ~Engine();
};
static thread_local Engine* engine;

static Fiber* current() { return static_cast<Fiber*>(here.thread); }

// ---- switching between fibers

static const size_t STACK = 64 << 10;
static void to_scheduler();

// Runs one thread after another: a fiber that ends leaves its stack, still warm, to the next. So a
// kernel without barriers needs one stack for all its threads.
static void fiber_main() {
  for (;;) {
    engine->kernel->call(engine->kernel->function, engine->arguments);
    Fiber* f = current();
    copy_wait(-1);
    f->done = true;
    engine->alive--;
    // A thread that has ended no longer holds back a barrier.
    if (engine->alive > 0 && engine->arrived == engine->alive) {
      engine->arrived = 0;
      engine->generation++;
    }
    to_scheduler();
  }
}

#if defined(__x86_64__) && !defined(EMU_UCONTEXT)
// Pushes the registers that a function must preserve, changes the stack, and pops them there.
extern "C" void emu_switch(void** save, void* load);
__asm__(
    ".text\n.hidden emu_switch\n.globl emu_switch\n.type emu_switch,@function\nemu_switch:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n"
    ".size emu_switch,.-emu_switch\n");
// Makes the context start at fiber_main. `skew` keeps the tops of the stacks, which all threads use at
// once, from falling on the same lines of the cache.
static void prepare(Context& c, size_t skew) {
  void** top = (void**)(c.stack + STACK - skew);
  *--top = nullptr;  // where fiber_main would return to
  *--top = (void*)&fiber_main;
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  c.stack_pointer = top;
}
static inline void to_fiber(Fiber* f) {
  emu_switch(&engine->scheduler_stack_pointer, f->context->stack_pointer);
}
static void to_scheduler() {
  emu_switch(&current()->context->stack_pointer, engine->scheduler_stack_pointer);
}
#else
static void prepare(Context& c, size_t skew) {
  if (!c.saved) c.saved = new ucontext_t;
  getcontext(c.saved);
  c.saved->uc_stack.ss_sp = c.stack;
  c.saved->uc_stack.ss_size = STACK - skew;
  c.saved->uc_link = nullptr;
  makecontext(c.saved, fiber_main, 0);
}
static inline void to_fiber(Fiber* f) { swapcontext(&engine->scheduler, f->context->saved); }
static void to_scheduler() { swapcontext(current()->context->saved, &engine->scheduler); }
#endif

static size_t skew_of(size_t number) { return number * 5 % 64 * 64; }

static Context* take_context(Engine& e) {
  if (e.idle.empty()) {
    // The lowest page of each stack may not be touched, so that an overflow faults.
    unsigned char* stack = map(STACK);
    mprotect(stack, page(), PROT_NONE);
    e.contexts.push_back({stack, nullptr, nullptr});
    prepare(e.contexts.back(), skew_of(e.contexts.size() - 1));
    return &e.contexts.back();
  }
  Context* c = e.idle.back();
  e.idle.pop_back();
  return c;
}

Engine::~Engine() {
  for (Context& c : contexts) {
    munmap(c.stack, STACK);
    delete c.saved;
  }
  munmap(shared, (size_t)(shared_end - shared) + page());
}

// ---- what kernels call

static void stop(Outcome outcome, const std::string& what) {
  if (engine->outcome == Outcome::Done) {
    engine->outcome = outcome;
    engine->message = what;
  }
}
void fail(const char* what) {
  stop(Outcome::Failed, what);
  for (;;) to_scheduler();
}

static void wait_for(const uint64_t& counter, const char* where) {
  Fiber* f = current();
  f->counter = &counter;
  f->generation = counter;
  f->waits_at = where;
  to_scheduler();
}

void sync_block(const char* where) {
  Engine& e = *engine;
  if (e.arrived > 0 && e.barrier != where && strcmp(e.barrier, where)) {
    stop(Outcome::Failed,
         std::string("threads wait at different barriers: ") + e.barrier + " and " + where);
    for (;;) to_scheduler();
  }
  e.barrier = where;
  if (++e.arrived == e.alive) {
    e.arrived = 0;
    e.generation++;
  } else {
    wait_for(e.generation, where);
  }
}

static Group& group_of(Warp& warp, unsigned mask) {
  for (int i = 0; i < warp.groups; ++i) {
    if (warp.group[i].mask == mask) return warp.group[i];
  }
  if (warp.groups == Warp::MOST_GROUPS) fail("more than 8 masks in one warp");
  Group& group = warp.group[warp.groups++];
  group.mask = mask;
  group.arrived = 0;
  group.generation = 0;
  // Who reads from a lane that takes no part gets nothing of use.
  for (int lane = 0; lane < 32; ++lane) {
    if (mask >> lane & 1) continue;
    memset(group.slots[0][lane], 0xff, 64);
    memset(group.slots[1][lane], 0xff, 64);
  }
  return group;
}

const unsigned char* exchange(Op op, unsigned mask, const void* mine, size_t n) {
  Warp& warp = *current()->warp;
  const int lane = here.thread->lane;
  if (!(mask >> lane & 1)) fail("a lane is not in its own mask");
  if (warp.lanes < 32) mask &= (1u << warp.lanes) - 1;
  Group& group = group_of(warp, mask);
  if (group.arrived == 0) {
    group.op = op;
  } else if (group.op != op) {
    stop(Outcome::Failed, std::string("lanes of one warp meet in different collectives: ") +
                              name_of(group.op) + " and " + name_of(op));
    for (;;) to_scheduler();
  }
  unsigned char(&table)[32][64] = group.slots[group.generation & 1];
  if (n) memcpy(table[lane], mine, n);
  group.arrived |= 1u << lane;
  if (group.arrived == mask) {
    group.arrived = 0;
    group.generation++;
  } else {
    wait_for(group.generation, name_of(op));
  }
  return &table[0][0];
}

void copy_async(void* to, const void* from) { current()->copies.push_back({to, from}); }
void copy_commit() {
  Fiber* f = current();
  f->committed.push_back(f->copies.size());
}
// All groups but the last `keep` land; what was not committed does not, except at the end (-1).
void copy_wait(int keep) {
  Fiber* f = current();
  if (f->copies.empty() && f->committed.empty()) return;
  size_t groups = f->committed.size(), landing = f->copies.size();
  if (keep >= 0) {
    if (groups <= (size_t)keep) return;
    groups -= keep;
    landing = f->committed[groups - 1];
  }
  for (size_t i = 0; i < landing; ++i) {
    if (f->copies[i].from) {
      memcpy(f->copies[i].to, f->copies[i].from, 16);
    } else {
      memset(f->copies[i].to, 0, 16);
    }
  }
  f->copies.erase(f->copies.begin(), f->copies.begin() + landing);
  f->committed.erase(f->committed.begin(), f->committed.begin() + groups);
  for (size_t& end : f->committed) end -= landing;
}

// ---- faults

// A kernel that touches a forbidden page ends its launch, as on a GPU, and not the whole program.
// Faults elsewhere go to whoever was there before.
static struct sigaction handlers_before[2];

static void on_fault(int signal, siginfo_t* info, void*) {
  if (!here.thread) {
    sigaction(signal, &handlers_before[signal == SIGBUS], nullptr);
    return;  // it faults again, there
  }
  char text[200];
  const uint3 t = here.thread->index;
  snprintf(text, sizeof text, "thread (%u,%u,%u) touches the illegal address %p", t.x, t.y, t.z,
           info->si_addr);
  stop(Outcome::IllegalAddress, text);
  for (;;) to_scheduler();
}
static void catch_faults() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    // The handler never returns from a kernel's fault, so the signal must not stay blocked.
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &handlers_before[0]);
    sigaction(SIGBUS, &action, &handlers_before[1]);
  });
}

// ---- running a block

static void shuffle(int* x, int n, uint64_t& state) {
  for (int i = n - 1; i > 0; --i) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    std::swap(x[i], x[(state >> 33) % (i + 1)]);
  }
}

// Gives a fiber one turn.
static void turn(Engine& e, Fiber& f) {
  if (!f.context) f.context = take_context(e);
  here.thread = &f;
  to_fiber(&f);
  here.thread = nullptr;
  if (f.done) {
    e.idle.push_back(f.context);
    f.context = nullptr;
  }
}

static std::string describe_deadlock(const Engine& e, int count) {
  for (int i = 0; i < count; ++i) {
    const Fiber& f = e.fibers[i];
    if (f.done) continue;
    char text[160];
    snprintf(text, sizeof text, "deadlock: thread (%u,%u,%u) and %d more wait for others, it at ",
             f.index.x, f.index.y, f.index.z, e.alive - 1);
    return text + std::string(f.waits_at);
  }
  return "deadlock";
}

static void run_threads(Engine& e, int count, uint64_t seed) {
  const int warps = (count + 31) / 32;
  const bool reverse = e.order == Order::Reverse;
  int order[MOST_THREADS / 32], lanes[32];
  for (int i = 0; i < warps; ++i) order[i] = reverse ? warps - 1 - i : i;
  for (int i = 0; i < 32; ++i) lanes[i] = reverse ? 31 - i : i;
  while (e.alive > 0) {
    bool moved = false;
    if (e.order == Order::Shuffle) shuffle(order, warps, seed);
    for (int w = 0; w < warps; ++w) {
      Fiber* warp = &e.fibers[order[w] * 32];
      const int n = e.warps[order[w]].lanes;
      // One warp until it gets no further, then the next.
      for (bool again = true; again;) {
        again = false;
        if (e.order == Order::Shuffle) shuffle(lanes, 32, seed);
        for (int l = 0; l < 32; ++l) {
          if (lanes[l] >= n) continue;
          Fiber& f = warp[lanes[l]];
          if (f.done || (f.counter && *f.counter == f.generation)) continue;
          turn(e, f);
          if (e.outcome != Outcome::Done) return;
          again = moved = true;
        }
      }
    }
    if (!moved) {
      stop(Outcome::Failed, describe_deadlock(e, count));
      return;
    }
  }
}

static void run_block(Engine& e, uint64_t seed) {
  const uint3 size = here.size;
  const int count = (int)(size.x * size.y * size.z), warps = (count + 31) / 32;
  unsigned i = 0;
  for (unsigned z = 0; z < size.z; ++z) {
    for (unsigned y = 0; y < size.y; ++y) {
      for (unsigned x = 0; x < size.x; ++x, ++i) {
        Fiber& f = e.fibers[i];
        f.index = {x, y, z};
        f.lane = i % 32;
        f.warp = &e.warps[i / 32];
        f.context = nullptr;
        f.done = false;
        f.counter = nullptr;
        f.copies.clear();
        f.committed.clear();
      }
    }
  }
  for (int w = 0; w < warps; ++w) {
    e.warps[w].lanes = std::min(32, count - w * 32);
    e.warps[w].groups = 0;
  }
  e.alive = count;
  e.arrived = 0;
  e.generation = 0;
  run_threads(e, count, seed);
  if (e.outcome == Outcome::Done) return;
  // Threads that got stuck leave their stacks; those start anew.
  e.idle.clear();
  for (size_t c = 0; c < e.contexts.size(); ++c) {
    prepare(e.contexts[c], skew_of(c));
    e.idle.push_back(&e.contexts[c]);
  }
}

// ---- running a grid

// A few threads that help with large launches.
struct Helpers {
  struct Job {
    std::function<void()> work;
    enum { Queued, Running, Finished } state = Queued;
  };
  std::mutex lock;
  std::condition_variable offered, finished;
  std::deque<Job*> queue;
  unsigned started = 0, idle = 0;

  // Never ends: its threads may outlive main.
  static Helpers& get() {
    static Helpers* all = new Helpers;
    return *all;
  }
  void run() {
    std::unique_lock<std::mutex> guard(lock);
    for (;;) {
      while (queue.empty()) offered.wait(guard);
      Job* job = queue.front();
      queue.pop_front();
      job->state = Job::Running;
      guard.unlock();
      job->work();
      guard.lock();
      job->state = Job::Finished;
      idle++;
      finished.notify_all();
    }
  }
  // False where all are busy.
  bool offer(Job* job) {
    std::lock_guard<std::mutex> guard(lock);
    if (idle == 0) {
      const unsigned most = std::min(std::thread::hardware_concurrency(), 9u);
      if (started + 1 >= most) return false;
      std::thread([this] { run(); }).detach();
      started++;
      idle++;
    }
    idle--;
    queue.push_back(job);
    offered.notify_one();
    return true;
  }
  // Takes the job back, or waits for its end.
  void settle(Job* job) {
    std::unique_lock<std::mutex> guard(lock);
    if (job->state == Job::Queued) {
      queue.erase(std::find(queue.begin(), queue.end(), job));
      idle++;
      return;
    }
    while (job->state != Job::Finished) finished.wait(guard);
  }
};

// A prime that does not divide this number, so that its multiples visit every block.
static uint64_t stride_for(uint64_t blocks) {
  for (uint64_t p : {7919ull, 7907ull, 7901ull, 7883ull, 7879ull}) {
    if (blocks % p) return p;
  }
  return 1;
}

Outcome launch(const Kernel* kernel, dim3 grid, dim3 block, size_t shared, Order order,
               void** arguments) {
  catch_faults();
  const uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z;
  const size_t threads = (size_t)block.x * block.y * block.z;
  const uint64_t stride = stride_for(blocks);
  std::atomic<uint64_t> next{0};
  std::atomic<Outcome> outcome{Outcome::Done};
  const auto work = [&] {
    static thread_local Engine own;
    engine = &own;
    if (own.fibers.size() < threads) {
      own.fibers.resize(threads);
      own.warps.resize((threads + 31) / 32);
    }
    own.kernel = kernel;
    own.arguments = arguments;
    own.order = order;
    own.outcome = Outcome::Done;
    here.grid = {grid.x, grid.y, grid.z};
    here.size = {block.x, block.y, block.z};
    // It ends at the forbidden page, but for what its alignment takes.
    const size_t room = (shared + 127) / 128 * 128;
    here.dynamic_shared = own.shared_end - room;
    for (;;) {
      const uint64_t turn = next++;
      if (turn >= blocks || outcome != Outcome::Done) break;
      uint64_t b = turn;
      if (order == Order::Reverse) b = blocks - 1 - turn;
      if (order == Order::Shuffle) b = turn % blocks * stride % blocks;
      here.block = {(unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y),
                    (unsigned)(b / grid.x / grid.y)};
      memset(here.dynamic_shared, 0xff, room);  // it starts undefined: NaN
      run_block(own, b + 1);
      for (size_t i = shared; i < room; ++i) {
        if (here.dynamic_shared[i] != 0xff) {
          stop(Outcome::IllegalAddress, "a write beyond the end of dynamic shared memory");
        }
      }
      if (own.outcome == Outcome::Done) continue;
      outcome = own.outcome;
      fprintf(stderr, "emulator: %s, block (%u,%u,%u) of %u threads: %s\n", kernel->name,
              here.block.x, here.block.y, here.block.z, (unsigned)threads, own.message.c_str());
    }
    engine = nullptr;
  };
  Helpers::Job job;
  // Waking a helper costs about as much as a small launch.
  const bool large = blocks >= 4 && blocks * threads >= 8192;
  if (large) job.work = work;
  const bool helped = large && Helpers::get().offer(&job);
  work();
  if (helped) Helpers::get().settle(&job);
  return outcome;
}
}  // namespace emu
