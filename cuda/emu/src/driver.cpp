// A stand-in of libcuda: what cudarc calls, no more. Device memory is host memory, cuLaunchKernel runs
// the emulated kernel of that name. The SONAME must be libcuda.so.
//
// EMU_MEMORY=BYTES, EMU_CAPABILITY=75 and EMU_DRIVER=11000 change what the device says of itself, to
// try error messages.
#include <sys/mman.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#define JOIN(a, b) a##b
#define SUFFIX
#include "emu.h"
#undef threadIdx
#undef blockIdx
#undef gridDim
#undef blockDim

typedef int Result;
typedef void* Handle;
typedef unsigned long long Pointer;
enum {
  OK = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  INVALID_DEVICE = 101,
  INVALID_PTX = 218,
  NOT_FOUND = 500,
  NOT_READY = 600,
  LAUNCH_FAILED = 719,
  BAD_CAPTURE = 900
};
#define API extern "C" __attribute__((visibility("default")))

static long long setting(const char* name, long long otherwise) {
  const char* text = getenv(name);
  return text ? atoll(text) : otherwise;
}

// ---- settings of the tests

static std::atomic<int> lazy_mode{1};
static thread_local int thread_order = 0;
API void emu_set_lazy(int on) { lazy_mode = on; }
API void emu_set_order(int order) { thread_order = order; }

// ---- streams

// A stream runs its work when something waits for it (lazy), or at once. Streams made by one thread
// share a lock, so that waiting for each other cannot block; no lock is held for others.
typedef std::function<Result()> Work;
struct Stream {
  std::shared_ptr<std::recursive_mutex> lock;
  std::deque<Work> queue;
  uint64_t pushed = 0, done = 0;
  Result error = OK;  // stays, as on a GPU
  bool capturing = false;
  std::vector<Work> recorded;
};
struct Event {
  double milliseconds = 0;
  Stream* stream = nullptr;
  uint64_t at = 0;
};
typedef std::lock_guard<std::recursive_mutex> Guard;

static std::shared_ptr<std::recursive_mutex> thread_lock() {
  static thread_local auto lock = std::make_shared<std::recursive_mutex>();
  return lock;
}
static Stream* default_stream() {
  static Stream* stream = new Stream{std::make_shared<std::recursive_mutex>()};
  return stream;
}
static Stream* stream_of(Handle h) { return (uintptr_t)h <= 2 ? default_stream() : (Stream*)h; }

static Result run_to(Stream* s, uint64_t end) {
  Guard guard(*s->lock);
  while (s->done < end && !s->queue.empty()) {
    Work work = std::move(s->queue.front());
    s->queue.pop_front();
    s->done++;
    if (s->error == OK) s->error = work();
  }
  return s->error;
}
static Result run_all(Stream* s) { return run_to(s, s->pushed); }
static Result submit(Handle h, Work work) {
  Stream* s = stream_of(h);
  Guard guard(*s->lock);
  if (s->capturing) {
    s->recorded.push_back(std::move(work));
    return OK;
  }
  if (s->error != OK) return s->error;
  s->queue.push_back(std::move(work));
  s->pushed++;
  return lazy_mode ? (Result)OK : run_all(s);
}
// For cuBLAS, which takes part in the order of a stream.
API Result emu_submit(Handle stream, const Work& work) { return submit(stream, work); }

// ---- memory

// Each buffer ends at a page that nobody may touch, so that an overrun faults; it starts poisoned.
struct Block {
  size_t size, mapped;
  unsigned char* base;
};
struct Memory {
  std::mutex lock;
  std::map<Pointer, Block> blocks;
  std::multimap<size_t, unsigned char*> kept;  // mappings for reuse
  std::map<uintptr_t, size_t> pinned;
  size_t used = 0;
  const size_t total = (size_t)setting("EMU_MEMORY", 8ll << 30);
};
static Memory& memory() {
  static Memory* m = new Memory;
  return *m;
}
static const size_t PAGE = 4096;

static Result allocate(Pointer* p, size_t n) {
  if (!n) return INVALID_VALUE;
  Memory& m = memory();
  const size_t body = (n + 15 + PAGE) / PAGE * PAGE;
  unsigned char* base = nullptr;
  {
    std::lock_guard<std::mutex> guard(m.lock);
    if (m.used + n > m.total) return OUT_OF_MEMORY;
    const auto found = m.kept.find(body);
    if (found != m.kept.end()) {
      base = found->second;
      m.kept.erase(found);
    }
    m.used += n;
  }
  if (!base) {
    base = (unsigned char*)mmap(nullptr, body + PAGE, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return OUT_OF_MEMORY;
    mprotect(base + body, PAGE, PROT_NONE);
  }
  unsigned char* start = base + ((body - n) & ~(size_t)15);
  memset(start, 0xff, n);
  *p = (Pointer)start;
  std::lock_guard<std::mutex> guard(m.lock);
  m.blocks[*p] = {n, body, base};
  return OK;
}
static Result release(Pointer p) {
  Memory& m = memory();
  std::lock_guard<std::mutex> guard(m.lock);
  const auto found = m.blocks.find(p);
  if (found == m.blocks.end()) return INVALID_VALUE;
  m.used -= found->second.size;
  if (found->second.mapped <= 64 * PAGE && m.kept.size() < 4096) {
    m.kept.emplace(found->second.mapped, found->second.base);
  } else {
    munmap(found->second.base, found->second.mapped + PAGE);
  }
  m.blocks.erase(found);
  return OK;
}
static bool inside(Pointer p, size_t n) {
  Memory& m = memory();
  std::lock_guard<std::mutex> guard(m.lock);
  auto found = m.blocks.upper_bound(p);
  if (found == m.blocks.begin()) return false;
  --found;
  return p + n <= found->first + found->second.size;
}
static bool is_pinned(const void* p) {
  Memory& m = memory();
  std::lock_guard<std::mutex> guard(m.lock);
  auto found = m.pinned.upper_bound((uintptr_t)p);
  return found != m.pinned.begin() && (uintptr_t)p < (--found)->first + found->second;
}
static Result copy(void* to, const void* from, size_t n) {
  memmove(to, from, n);
  return OK;
}

API Result cuMemAllocAsync(Pointer* p, size_t n, Handle) { return allocate(p, n); }
API Result cuMemAlloc_v2(Pointer* p, size_t n) { return allocate(p, n); }
API Result cuMemFreeAsync(Pointer p, Handle s) {
  return submit(s, [=] { return release(p); });
}
API Result cuMemFree_v2(Pointer p) { return release(p); }
API Result cuMemGetInfo_v2(size_t* free, size_t* total) {
  Memory& m = memory();
  std::lock_guard<std::mutex> guard(m.lock);
  *total = m.total;
  *free = m.total - m.used;
  return OK;
}
API Result cuMemHostAlloc(void** p, size_t n, unsigned) {
  *p = aligned_alloc(PAGE, (n + PAGE - 1) / PAGE * PAGE);
  if (!*p) return OUT_OF_MEMORY;
  Memory& m = memory();
  std::lock_guard<std::mutex> guard(m.lock);
  m.pinned[(uintptr_t)*p] = n;
  return OK;
}
API Result cuMemFreeHost(void* p) {
  Memory& m = memory();
  std::lock_guard<std::mutex> guard(m.lock);
  const auto found = m.pinned.find((uintptr_t)p);
  if (found == m.pinned.end()) return INVALID_VALUE;
  // Work in flight may still name it: poisoned and kept.
  memset(p, 0xee, found->second);
  m.pinned.erase(found);
  return OK;
}
// Ordinary host memory as in CUDA: sources are read at the call, destinations are complete when it
// returns.
API Result cuMemcpyHtoDAsync_v2(Pointer to, const void* from, size_t n, Handle s) {
  if (!inside(to, n)) return INVALID_VALUE;
  if (is_pinned(from)) return submit(s, [=] { return copy((void*)to, from, n); });
  const unsigned char* bytes = (const unsigned char*)from;
  std::vector<unsigned char> staged(bytes, bytes + n);
  return submit(s, [=] { return copy((void*)to, staged.data(), n); });
}
API Result cuMemcpyDtoHAsync_v2(void* to, Pointer from, size_t n, Handle s) {
  if (!inside(from, n)) return INVALID_VALUE;
  const Result r = submit(s, [=] { return copy(to, (void*)from, n); });
  if (r != OK || stream_of(s)->capturing || is_pinned(to)) return r;
  return run_all(stream_of(s));
}
API Result cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t n, Handle s) {
  if (!inside(from, n) || !inside(to, n)) return INVALID_VALUE;
  return submit(s, [=] { return copy((void*)to, (void*)from, n); });
}
API Result cuMemsetD8Async(Pointer to, unsigned char value, size_t n, Handle s) {
  if (!inside(to, n)) return INVALID_VALUE;
  return submit(s, [=] {
    memset((void*)to, value, n);
    return (Result)OK;
  });
}

// ---- device and context

API Result cuInit(unsigned) { return OK; }
API Result cuDriverGetVersion(int* v) {
  *v = (int)setting("EMU_DRIVER", 13000);
  return OK;
}
API Result cuDeviceGet(int* device, int ordinal) {
  *device = 0;
  return ordinal ? INVALID_DEVICE : OK;
}
API Result cuDeviceGetCount(int* n) {
  *n = 1;
  return OK;
}
API Result cuDeviceGetName(char* text, int n, int) {
  snprintf(text, n, "host emulation");
  return OK;
}
API Result cuDeviceGetUuid_v2(void* uuid, int) {
  memset(uuid, 0, 16);
  return OK;
}
API Result cuDeviceTotalMem_v2(size_t* n, int) {
  *n = memory().total;
  return OK;
}
API Result cuDeviceGetAttribute(int* value, int attribute, int) {
  const int capability = (int)setting("EMU_CAPABILITY", 90);
  switch (attribute) {
    case 8: *value = 49152; break;    // shared memory of a block
    case 10: *value = 32; break;      // warp
    case 16: *value = 132; break;     // multiprocessors
    case 75: *value = capability / 10; break;
    case 76: *value = capability % 10; break;
    case 97: *value = 232448; break;  // shared memory of a block that asks
    case 115: *value = 1; break;      // memory pools
    default: *value = 0;
  }
  return OK;
}
static thread_local Handle context;
API Result cuDevicePrimaryCtxRetain(Handle* c, int) {
  *c = (Handle)0x1000;
  return OK;
}
API Result cuDevicePrimaryCtxRelease_v2(int) { return OK; }
API Result cuCtxGetCurrent(Handle* c) {
  *c = context;
  return OK;
}
API Result cuCtxSetCurrent(Handle c) {
  context = c;
  return OK;
}
API Result cuCtxSynchronize() { return run_all(default_stream()); }
API Result cuDeviceGetDefaultMemPool(Handle* pool, int) {
  *pool = (Handle)0x2000;
  return OK;
}
API Result cuMemPoolSetAttribute(Handle, int, void*) { return OK; }
API Result cuMemPoolGetAttribute(Handle, int, void* value) {
  *(uint64_t*)value = memory().used;
  return OK;
}
API Result cuMemPoolTrimTo(Handle, size_t) { return OK; }

// ---- streams, events, graphs

API Result cuStreamCreate(Handle* s, unsigned) {
  *s = new Stream{thread_lock()};
  return OK;
}
API Result cuStreamDestroy_v2(Handle s) { return run_all(stream_of(s)); }  // kept: events name it
API Result cuStreamSynchronize(Handle s) {
  return stream_of(s)->capturing ? BAD_CAPTURE : run_all(stream_of(s));
}
API Result cuStreamWaitEvent(Handle s, Handle e, unsigned) {
  const Event event = *(Event*)e;
  if (!event.stream) return OK;
  return submit(s, [=] { return run_to(event.stream, event.at); });
}
API Result cuStreamBeginCapture_v2(Handle s, int) {
  Stream* stream = stream_of(s);
  Guard guard(*stream->lock);
  if ((uintptr_t)s <= 2 || stream->capturing) return BAD_CAPTURE;
  stream->capturing = true;
  stream->recorded.clear();
  return OK;
}
API Result cuStreamEndCapture(Handle s, Handle* graph) {
  Stream* stream = stream_of(s);
  Guard guard(*stream->lock);
  if (!stream->capturing) return BAD_CAPTURE;
  stream->capturing = false;
  *graph = new std::vector<Work>(std::move(stream->recorded));
  return OK;
}
API Result cuStreamIsCapturing(Handle s, int* state) {
  *state = stream_of(s)->capturing;
  return OK;
}
API Result cuGraphInstantiateWithFlags(Handle* executable, Handle graph, unsigned long long) {
  *executable = new std::vector<Work>(*(std::vector<Work>*)graph);
  return OK;
}
API Result cuGraphLaunch(Handle executable, Handle s) {
  for (const Work& work : *(std::vector<Work>*)executable) {
    if (const Result r = submit(s, work)) return r;
  }
  return OK;
}
API Result cuGraphUpload(Handle, Handle) { return OK; }
API Result cuGraphDestroy(Handle graph) {
  delete (std::vector<Work>*)graph;
  return OK;
}
API Result cuGraphExecDestroy(Handle executable) { return cuGraphDestroy(executable); }
API Result cuEventCreate(Handle* e, unsigned) {
  *e = new Event;
  return OK;
}
API Result cuEventDestroy_v2(Handle) { return OK; }  // kept: work in flight may name it
API Result cuEventRecord(Handle e, Handle s) {
  Event* event = (Event*)e;
  const Result r = submit(s, [=] {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    event->milliseconds = std::chrono::duration<double, std::milli>(now).count();
    return (Result)OK;
  });
  event->stream = stream_of(s);
  event->at = event->stream->pushed;
  return r;
}
API Result cuEventSynchronize(Handle e) {
  const Event* event = (Event*)e;
  return event->stream ? run_to(event->stream, event->at) : (Result)OK;
}
API Result cuEventQuery(Handle e) {
  const Event* event = (Event*)e;
  // Each question lets one piece of work through, so that polling ends.
  if (event->stream && event->stream->done < event->at) {
    run_to(event->stream, event->stream->done + 1);
  }
  return event->stream && event->stream->done < event->at ? NOT_READY : OK;
}
API Result cuEventElapsedTime_v2(float* ms, Handle a, Handle b) {
  *ms = (float)(((Event*)b)->milliseconds - ((Event*)a)->milliseconds);
  return OK;
}
API Result cuEventElapsedTime(float* ms, Handle a, Handle b) {
  return cuEventElapsedTime_v2(ms, a, b);
}

// ---- modules and launches

// What the shipped PTX offers: name and sizes of the parameters. A kernel whose compiled signature
// differs is refused: its PTX is stale.
struct Module {
  std::map<std::string, std::vector<size_t>> entries;
};
API Result cuModuleLoadData(Handle* h, const void* image) {
  const char* p = (const char*)image;
  if (!strstr(p, ".version")) return INVALID_PTX;
  Module* module = new Module;
  while ((p = strstr(p, ".entry "))) {
    p += 7;
    const char* open = strchr(p, '(');
    const char* close = open ? strchr(open, ')') : nullptr;
    if (!close) break;
    std::vector<size_t>& sizes = module->entries[std::string(p, open)];
    for (const char* q = open; (q = strstr(q, ".param .")) && q < close; q += 8) {
      sizes.push_back((size_t)atoi(q + 9) / 8);  // .param .u64
    }
    p = close;
  }
  *h = module;
  return OK;
}
API Result cuModuleUnload(Handle h) {
  delete (Module*)h;
  return OK;
}
API Result cuModuleGetFunction(Handle* f, Handle h, const char* name) {
  const auto& entries = ((Module*)h)->entries;
  const auto found = entries.find(name);
  if (found == entries.end()) return NOT_FOUND;
  for (emu::Kernel* k = emu::kernels; k; k = k->next) {
    if (strcmp(k->name, name)) continue;
    const std::vector<size_t> compiled(k->sizes, k->sizes + k->count);
    if (compiled != found->second) {
      fprintf(stderr, "emulator: %s has other arguments in the source than in the PTX: run cuda/compile.sh\n",
              name);
      return NOT_FOUND;
    }
    *f = k;
    return OK;
  }
  fprintf(stderr, "emulator: %s is in the PTX, but no source exports it\n", name);
  return NOT_FOUND;
}
API Result cuFuncSetAttribute(Handle, int, int) { return OK; }
API Result cuFuncGetAttribute(int* value, int, Handle) {
  *value = 0;
  return OK;
}
API Result cuLaunchKernel(Handle f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                          unsigned bz, unsigned shared, Handle s, void** arguments, void** extra) {
  const emu::Kernel* k = (const emu::Kernel*)f;
  const uint64_t threads = (uint64_t)bx * by * bz;
  if (extra || !gx || !gy || !gz || !threads || threads > 1024 || threads % 32 || gx > 0x7fffffff ||
      gy > 65535 || gz > 65535 || shared > 232448) {
    return INVALID_VALUE;
  }
  // The driver copies the arguments at the call.
  std::vector<std::vector<unsigned char>> own(k->count);
  for (int i = 0; i < k->count; ++i) {
    const unsigned char* from = (const unsigned char*)arguments[i];
    own[i].assign(from, from + k->sizes[i]);
  }
  const int order = thread_order;
  return submit(s, [=]() mutable {
    std::vector<void*> pointers;
    for (auto& bytes : own) pointers.push_back(bytes.data());
    const int bad = emu::launch(k, dim3(gx, gy, gz), dim3(bx, by, bz), shared, order, pointers.data());
    return (Result)(bad ? LAUNCH_FAILED : OK);
  });
}

struct Name {
  Result code;
  const char *name, *text;
};
static const Name NAMES[] = {
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_PTX, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {BAD_CAPTURE, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "not permitted while capturing"},
};
static const Name* find_name(Result code) {
  for (const Name& n : NAMES) {
    if (n.code == code) return &n;
  }
  return nullptr;
}
API Result cuGetErrorName(Result code, const char** text) {
  const Name* n = find_name(code);
  *text = n ? n->name : "CUDA_ERROR_UNKNOWN";
  return OK;
}
API Result cuGetErrorString(Result code, const char** text) {
  const Name* n = find_name(code);
  *text = n ? n->text : "unknown error";
  return OK;
}
