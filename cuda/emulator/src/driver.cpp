// A stand-in of libcuda: the entries that cudarc calls. Device memory is host memory, cuLaunchKernel
// runs the emulated kernel of that name. The SONAME must be libcuda.so.
//
// There are two devices, or EMU_DEVICES of them; they share one memory, and a stream takes kernels only
// from a thread whose current context is that of its device. EMU_LAZY=0 runs all work at once.
// EMU_MEMORY=BYTES, EMU_CAPABILITY=75 and EMU_DRIVER=11000 change what the devices say of themselves, to
// try how errors are handled.
#include "emu.h"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

typedef int Result;
typedef void* Handle;
typedef unsigned long long Pointer;
enum : Result {
  OK = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  INVALID_DEVICE = 101,
  INVALID_CONTEXT = 201,
  INVALID_PTX = 218,
  NOT_FOUND = 500,
  NOT_READY = 600,
  ILLEGAL_ADDRESS = 700,
  LAUNCH_FAILED = 719,
};
#define API extern "C" __attribute__((visibility("default")))

static long long setting(const char* name, long long otherwise) {
  const char* text = getenv(name);
  return text && *text ? atoll(text) : otherwise;
}

// ---- settings of the tests

static std::atomic<bool>& lazy() {
  static std::atomic<bool> on{setting("EMU_LAZY", 1) != 0};
  return on;
}
static thread_local emu::Order thread_order = emu::Order::Forward;
API void emu_set_lazy(int on) { lazy() = on != 0; }
API void emu_set_order(int order) { thread_order = (emu::Order)order; }

static thread_local Handle context;  // the current one: a device's number and CONTEXTS

// ---- streams

// A stream runs its work when something waits for it (lazy), so that a missing wait shows as stale
// data, or at once.
//
// Work runs under the lock of its stream and no other. All streams that one thread made share a lock:
// they may wait for each other in any order and not block. Tests on other threads go on meanwhile.
typedef std::function<Result()> Work;
struct Task {
  Work work;
  bool always;  // also after an error
};
struct Stream {
  std::shared_ptr<std::recursive_mutex> lock;
  std::deque<Task> queue;
  uint64_t pushed = 0, done = 0;
  Result error = OK;  // stays, as on a GPU
  Handle context = nullptr;  // null: of any device
};
typedef std::shared_ptr<Stream> SharedStream;
typedef std::lock_guard<std::recursive_mutex> Guard;

// Every stream, for those who wait for all.
struct Streams {
  std::mutex lock;
  std::vector<std::weak_ptr<Stream>> all;
};
static Streams& streams() {
  static Streams* s = new Streams;
  return *s;
}
static SharedStream new_stream(std::shared_ptr<std::recursive_mutex> lock) {
  SharedStream stream = std::make_shared<Stream>();
  stream->lock = std::move(lock);
  Streams& s = streams();
  std::lock_guard<std::mutex> guard(s.lock);
  const auto gone = [](const std::weak_ptr<Stream>& w) { return w.expired(); };
  s.all.erase(std::remove_if(s.all.begin(), s.all.end(), gone), s.all.end());
  s.all.push_back(stream);
  return stream;
}
static const std::shared_ptr<std::recursive_mutex>& thread_lock() {
  static thread_local auto lock = std::make_shared<std::recursive_mutex>();
  return lock;
}
// Null and the constants for the two kinds of default streams are one stream here.
static const SharedStream& stream_of(Handle h) {
  static SharedStream* common =
      new SharedStream(new_stream(std::make_shared<std::recursive_mutex>()));
  return (uintptr_t)h <= 2 ? *common : *(SharedStream*)h;
}

static Result run_to(Stream& s, uint64_t end) {
  Guard guard(*s.lock);
  while (s.done < end && !s.queue.empty()) {
    const Task task = std::move(s.queue.front());
    s.queue.pop_front();
    if (s.error == OK) {
      s.error = task.work();
    } else if (task.always) {
      task.work();
    }
    s.done++;
  }
  return s.error;
}
static Result run_all(Stream& s) {
  Guard guard(*s.lock);
  return run_to(s, s.pushed);
}
static Result submit(Stream& s, Work work, bool always = false) {
  Guard guard(*s.lock);
  if (s.error != OK && !always) return s.error;
  s.queue.push_back({std::move(work), always});
  s.pushed++;
  return lazy() ? s.error : run_all(s);
}
static Result submit(Handle h, Work work) { return submit(*stream_of(h), std::move(work)); }
// The same for what must come from a thread whose current context is that of the stream.
static Result submit_here(Handle h, Work work) {
  const Handle own = stream_of(h)->context;
  return own && own != context ? INVALID_CONTEXT : submit(h, std::move(work));
}

// Runs all streams, or those that the calling thread made.
static Result run_streams(bool own) {
  std::vector<SharedStream> chosen;
  {
    Streams& s = streams();
    std::lock_guard<std::mutex> guard(s.lock);
    for (const auto& weak : s.all) {
      const SharedStream stream = weak.lock();
      if (stream && (!own || stream->lock == thread_lock())) chosen.push_back(stream);
    }
  }
  Result first = OK;
  for (const SharedStream& stream : chosen) {
    const Result r = run_all(*stream);
    if (first == OK) first = r;
  }
  return first;
}

// For cuBLAS, which takes part in the order of a stream.
API Result emu_submit(Handle stream, const Work& work) { return submit_here(stream, work); }

API Result cuStreamCreate(Handle* s, unsigned) {
  *s = new SharedStream(new_stream(thread_lock()));
  stream_of(*s)->context = context;
  return OK;
}
API Result cuStreamDestroy_v2(Handle s) {
  const Result r = run_all(*stream_of(s));
  if ((uintptr_t)s > 2) delete (SharedStream*)s;
  return r;
}
API Result cuStreamSynchronize(Handle h) {
  Stream& s = *stream_of(h);
  return run_all(s);
}
// Each question lets one piece of work through, so that polling ends.
static Result query(Stream& s, uint64_t at) {
  Guard guard(*s.lock);
  if (s.done < at) run_to(s, s.done + 1);
  if (s.error != OK) return s.error;
  return s.done < at ? NOT_READY : OK;
}

// ---- events

// Where a stream was when the event was recorded.
struct Mark {
  SharedStream stream;
  uint64_t at = 0;
};
struct Event {
  std::mutex lock;
  Mark mark;
  std::atomic<double> milliseconds{0};
};
typedef std::shared_ptr<Event> SharedEvent;  // work in flight may outlive the handle

static Mark mark_of(Handle e) {
  Event& event = **(SharedEvent*)e;
  std::lock_guard<std::mutex> guard(event.lock);
  return event.mark;
}
API Result cuEventCreate(Handle* e, unsigned) {
  *e = new SharedEvent(std::make_shared<Event>());
  return OK;
}
API Result cuEventDestroy_v2(Handle e) {
  delete (SharedEvent*)e;
  return OK;
}
API Result cuEventRecord(Handle e, Handle h) {
  const SharedEvent event = *(SharedEvent*)e;
  const SharedStream stream = stream_of(h);
  Guard guard(*stream->lock);
  const Result r = submit(*stream, [=] {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    event->milliseconds = std::chrono::duration<double, std::milli>(now).count();
    return OK;
  });
  std::lock_guard<std::mutex> short_guard(event->lock);
  event->mark.stream = stream;
  event->mark.at = stream->pushed;
  return r;
}
API Result cuEventSynchronize(Handle e) {
  const Mark mark = mark_of(e);
  return mark.stream ? run_to(*mark.stream, mark.at) : OK;
}
API Result cuEventQuery(Handle e) {
  const Mark mark = mark_of(e);
  return mark.stream ? query(*mark.stream, mark.at) : OK;
}
API Result cuStreamWaitEvent(Handle s, Handle e, unsigned) {
  const Mark mark = mark_of(e);
  if (!mark.stream) return OK;
  return submit(s, [=] { return run_to(*mark.stream, mark.at); });
}
API Result cuEventElapsedTime_v2(float* ms, Handle a, Handle b) {
  *ms = (float)((*(SharedEvent*)b)->milliseconds - (*(SharedEvent*)a)->milliseconds);
  return OK;
}
API Result cuEventElapsedTime(float* ms, Handle a, Handle b) {
  return cuEventElapsedTime_v2(ms, a, b);
}


// ---- memory

// A buffer ends at a page that nobody may touch, but for the 15 bytes its alignment may take, so that
// an overrun faults. It starts poisoned. Mappings are kept for reuse, within bounds.
struct Buffer {
  size_t size, body;
  unsigned char* base;
};
struct Memory {
  static const size_t MOST_KEPT = 256 << 20;
  std::mutex lock;
  std::map<Pointer, Buffer> buffers;
  std::multimap<size_t, unsigned char*> kept;  // by their size without the last page
  size_t kept_bytes = 0;
  std::map<uintptr_t, size_t> pinned;
  std::deque<std::pair<void*, size_t>> freed;  // page-locked memory
  size_t freed_bytes = 0;
  size_t used = 0;
  const size_t total = (size_t)setting("EMU_MEMORY", 8ll << 30);
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
};
static Memory& memory() {
  static Memory* m = new Memory;
  return *m;
}
typedef std::lock_guard<std::mutex> ShortGuard;
static const unsigned char POISON = 0xff;  // NaN

// Counts n more bytes as used; false where the device has no more.
static bool reserve(size_t n) {
  Memory& m = memory();
  ShortGuard guard(m.lock);
  if (n > m.total - m.used) return false;
  m.used += n;
  return true;
}
static unsigned char* take_mapping(size_t body) {
  Memory& m = memory();
  {
    ShortGuard guard(m.lock);
    const auto found = m.kept.find(body);
    if (found != m.kept.end()) {
      unsigned char* base = found->second;
      m.kept.erase(found);
      m.kept_bytes -= body;
      return base;
    }
  }
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
  void* base = mmap(nullptr, body + m.page, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (base == MAP_FAILED) return nullptr;
  mprotect((unsigned char*)base + body, m.page, PROT_NONE);
  return (unsigned char*)base;
}
static Result allocate(Pointer* p, size_t n) {
  Memory& m = memory();
  if (n == 0) return INVALID_VALUE;
  if (!reserve(n)) {
    // What the caller has freed may still be waiting in its streams.
    run_streams(true);
    if (!reserve(n)) return OUT_OF_MEMORY;
  }
  const size_t body = (n + 15 + m.page - 1) / m.page * m.page;
  unsigned char* base = take_mapping(body);
  if (!base) {
    ShortGuard guard(m.lock);
    m.used -= n;
    return OUT_OF_MEMORY;
  }
  unsigned char* start = base + ((body - n) & ~(size_t)15);
  memset(start, POISON, (size_t)(base + body - start));
  *p = (Pointer)start;
  ShortGuard guard(m.lock);
  m.buffers[*p] = {n, body, base};
  return OK;
}
static Result release(Pointer p) {
  if (p == 0) return OK;
  Memory& m = memory();
  ShortGuard guard(m.lock);
  const auto found = m.buffers.find(p);
  if (found == m.buffers.end()) return INVALID_VALUE;
  const Buffer b = found->second;
  m.buffers.erase(found);
  m.used -= b.size;
  Result r = OK;
  for (unsigned char* end = (unsigned char*)p + b.size; end < b.base + b.body; ++end) {
    if (*end != POISON) r = ILLEGAL_ADDRESS;
  }
  if (r != OK) {
    fprintf(stderr, "emulator: something wrote beyond the end of a buffer of %zu bytes\n", b.size);
  }
  if (m.kept_bytes + b.body <= Memory::MOST_KEPT && m.kept.size() < 4096) {
    m.kept.emplace(b.body, b.base);
    m.kept_bytes += b.body;
  } else {
    munmap(b.base, b.body + m.page);
  }
  return r;
}
static bool inside(Pointer p, size_t n) {
  Memory& m = memory();
  ShortGuard guard(m.lock);
  auto found = m.buffers.upper_bound(p);
  if (found == m.buffers.begin()) return false;
  --found;
  const size_t offset = p - found->first;
  return offset <= found->second.size && n <= found->second.size - offset;
}
static bool is_pinned(const void* p) {
  Memory& m = memory();
  ShortGuard guard(m.lock);
  auto found = m.pinned.upper_bound((uintptr_t)p);
  if (found == m.pinned.begin()) return false;
  --found;
  return (uintptr_t)p < found->first + found->second;
}
// For cuBLAS: whether these bytes lie in one buffer.
API int emu_inside(const void* p, size_t n) { return inside((Pointer)p, n); }

API Result cuMemAllocAsync(Pointer* p, size_t n, Handle h) {
  Stream& s = *stream_of(h);
  return allocate(p, n);
}
API Result cuMemFreeAsync(Pointer p, Handle h) {
  Stream& s = *stream_of(h);
  if (!inside(p, 0)) return INVALID_VALUE;
  return submit(s, [=] { return release(p); }, true);
}
API Result cuMemGetInfo_v2(size_t* free, size_t* total) {
  Memory& m = memory();
  ShortGuard guard(m.lock);
  *total = m.total;
  *free = m.total - m.used;
  return OK;
}
API Result cuMemHostAlloc(void** p, size_t n, unsigned) {
  Memory& m = memory();
  if (n == 0) return INVALID_VALUE;
  *p = aligned_alloc(m.page, (n + m.page - 1) / m.page * m.page);
  if (!*p) return OUT_OF_MEMORY;
  memset(*p, POISON, n);
  ShortGuard guard(m.lock);
  m.pinned[(uintptr_t)*p] = n;
  return OK;
}
API Result cuMemFreeHost(void* p) {
  Memory& m = memory();
  ShortGuard guard(m.lock);
  const auto found = m.pinned.find((uintptr_t)p);
  if (found == m.pinned.end()) return INVALID_VALUE;
  // Copies in flight may still name it: poisoned now, so that it shows, and given back later.
  memset(p, 0xee, found->second);
  m.freed.emplace_back(p, found->second);
  m.freed_bytes += found->second;
  m.pinned.erase(found);
  while (m.freed_bytes > 64 << 20 && m.freed.size() > 1) {
    free(m.freed.front().first);
    m.freed_bytes -= m.freed.front().second;
    m.freed.pop_front();
  }
  return OK;
}

static Result copy(void* to, const void* from, size_t n) {
  memmove(to, from, n);
  return OK;
}
// Ordinary host memory is as in CUDA: sources are read at the call, destinations are complete when it
// returns. Page-locked memory is read and written when the stream gets there.
API Result cuMemcpyHtoDAsync_v2(Pointer to, const void* from, size_t n, Handle h) {
  if (!inside(to, n)) return INVALID_VALUE;
  Stream& s = *stream_of(h);
  if (is_pinned(from)) {
    return submit(s, [=] { return copy((void*)to, from, n); });
  }
  const unsigned char* bytes = (const unsigned char*)from;
  const std::vector<unsigned char> staged(bytes, bytes + n);
  return submit(s, [=] { return copy((void*)to, staged.data(), n); });
}
API Result cuMemcpyDtoHAsync_v2(void* to, Pointer from, size_t n, Handle h) {
  if (!inside(from, n)) return INVALID_VALUE;
  Stream& s = *stream_of(h);
  const Result r = submit(s, [=] { return copy(to, (void*)from, n); });
  if (r != OK || is_pinned(to)) return r;
  return run_all(s);
}
API Result cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t n, Handle s) {
  if (!inside(from, n) || !inside(to, n)) return INVALID_VALUE;
  return submit(s, [=] { return copy((void*)to, (void*)from, n); });
}
API Result cuMemsetD8Async(Pointer to, unsigned char value, size_t n, Handle s) {
  if (!inside(to, n)) return INVALID_VALUE;
  return submit(s, [=] {
    memset((void*)to, value, n);
    return OK;
  });
}

static const Handle POOL = (Handle)0x2000;
API Result cuDeviceGetDefaultMemPool(Handle* pool, int) {
  *pool = POOL;
  return OK;
}
API Result cuMemPoolSetAttribute(Handle, int, void*) { return OK; }

// ---- device and context

API Result cuInit(unsigned) { return OK; }
API Result cuDriverGetVersion(int* v) {
  *v = (int)setting("EMU_DRIVER", 13000);
  return OK;
}
static int devices() { return (int)setting("EMU_DEVICES", 2); }
API Result cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return ordinal >= 0 && ordinal < devices() ? OK : INVALID_DEVICE;
}
API Result cuDeviceGetCount(int* n) {
  *n = devices();
  return OK;
}
API Result cuDeviceGetName(char* text, int n, int device) {
  snprintf(text, n, device ? "host emulation %d" : "host emulation", device);
  return OK;
}
API Result cuDeviceGetUuid_v2(void* uuid, int) {
  memcpy(uuid, "host emulation.", 16);
  return OK;
}
API Result cuDeviceTotalMem_v2(size_t* n, int) {
  *n = memory().total;
  return OK;
}
static int capability() { return (int)setting("EMU_CAPABILITY", 90); }
// Dynamic shared memory of a block: without asking, and at most.
static const int USUAL_SHARED = 49152;
static int most_shared() {
  switch (capability()) {
    case 70: return 98304;
    case 75: return 65536;
    case 80: case 87: return 166912;
    case 86: case 89: case 120: return 101376;
    default: return (int)emu::MOST_SHARED;
  }
}
API Result cuDeviceGetAttribute(int* value, int attribute, int) {
  switch (attribute) {
    case 1: *value = emu::MOST_THREADS; break;
    case 2: case 3: *value = 1024; break;  // threads of a block along x, y
    case 4: *value = 64; break;            // z
    case 5: *value = 0x7fffffff; break;    // blocks along x
    case 6: case 7: *value = 65535; break;  // y, z
    case 8: *value = USUAL_SHARED; break;
    case 10: *value = 32; break;     // a warp
    case 12: *value = 65536; break;  // registers of a block
    case 13: *value = 1000; break;   // clock in kHz
    case 16: *value = 132; break;    // multiprocessors
    case 39: *value = 2048; break;   // threads of a multiprocessor
    case 41: *value = 1; break;      // unified addressing
    case 75: *value = capability() / 10; break;
    case 76: *value = capability() % 10; break;
    case 81: *value = most_shared() + 1024; break;  // of a multiprocessor
    case 82: *value = 65536; break;                 // registers of a multiprocessor
    case 97: *value = most_shared(); break;
    case 115: *value = 1; break;  // memory pools
    default: *value = 0;
  }
  return OK;
}
static const uintptr_t CONTEXTS = 0x1000;
API Result cuDevicePrimaryCtxRetain(Handle* c, int device) {
  *c = (Handle)(CONTEXTS + device);
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
API Result cuCtxSynchronize() { return run_streams(false); }

// ---- modules

struct Function {
  const emu::Kernel* kernel;
  std::atomic<int> most_shared{USUAL_SHARED};  // dynamic shared memory that it asked for
};
// What the PTX offers: the sizes of each kernel's parameters.
struct Module {
  std::map<std::string, std::vector<size_t>> entries;
  std::map<std::string, Function> functions;
  std::mutex lock;
};

// The size of a parameter, from what follows ".param": `.u64 NAME`, `.u64 .ptr .align 1 NAME`,
// `.align 8 .b8 NAME[24]`.
static size_t parameter_size(const std::string& text) {
  size_t size = 0;
  for (size_t at = text.find('.'); at != std::string::npos; at = text.find('.', at + 1)) {
    const char kind = text[at + 1];
    if (strchr("bufs", kind) && isdigit((unsigned char)text[at + 2])) {
      size = (size_t)atoi(text.c_str() + at + 2) / 8;
      break;
    }
  }
  const size_t bracket = text.find('[');
  return bracket == std::string::npos ? size : size * (size_t)atoll(text.c_str() + bracket + 1);
}
static void read_entries(const std::string& ptx, Module& module) {
  const std::string word = ".entry ";
  for (size_t at = ptx.find(word); at != std::string::npos; at = ptx.find(word, at)) {
    at += word.size();
    const size_t open = ptx.find_first_of("({", at), end = ptx.find_first_of(" \t\r\n({", at);
    if (open == std::string::npos) break;
    std::vector<size_t>& sizes = module.entries[ptx.substr(at, end - at)];
    if (ptx[open] == '{') continue;  // no parameters
    const size_t close = ptx.find(')', open);
    const std::string list = ptx.substr(open, close - open);
    const std::string parameter = ".param";
    for (size_t p = list.find(parameter); p != std::string::npos;) {
      const size_t start = p + parameter.size();
      p = list.find(parameter, start);
      sizes.push_back(parameter_size(list.substr(start, p - start)));
    }
  }
}
API Result cuModuleLoadData(Handle* h, const void* image) {
  // A cubin or a fatbin ends here too: neither starts with text.
  const char* text = (const char*)image;
  const char* target = strstr(text, ".target sm_");
  if (!strstr(text, ".version ") || !target) return INVALID_PTX;
  if (atoi(target + strlen(".target sm_")) > capability()) return INVALID_PTX;
  Module* module = new Module;
  read_entries(text, *module);
  *h = module;
  return OK;
}
API Result cuModuleUnload(Handle h) {
  // Launches that are still waiting keep the kernel itself.
  delete (Module*)h;
  return OK;
}
static std::string list_of(const std::vector<size_t>& sizes) {
  std::string text = "(";
  for (size_t i = 0; i < sizes.size(); ++i) text += (i ? ", " : "") + std::to_string(sizes[i]);
  return text + ")";
}
API Result cuModuleGetFunction(Handle* f, Handle h, const char* name) {
  Module& module = *(Module*)h;
  const auto entry = module.entries.find(name);
  if (entry == module.entries.end()) return NOT_FOUND;
  const emu::Kernel* k = emu::kernels;
  while (k && strcmp(k->name, name)) k = k->next;
  if (!k) {
    fprintf(stderr, "emulator: %s is in the PTX, but no source exports it: rebuild the PTX\n", name);
    return NOT_FOUND;
  }
  const std::vector<size_t> compiled(k->sizes, k->sizes + k->count);
  if (compiled != entry->second) {
    fprintf(stderr, "emulator: the source of %s takes arguments of %s bytes, its PTX %s: rebuild the PTX\n",
            name, list_of(compiled).c_str(), list_of(entry->second).c_str());
    return NOT_FOUND;
  }
  ShortGuard guard(module.lock);
  Function& function = module.functions[name];
  function.kernel = k;
  *f = &function;
  return OK;
}

enum { MAX_THREADS = 0, MAX_DYNAMIC_SHARED = 8 };
API Result cuFuncSetAttribute(Handle f, int attribute, int value) {
  if (attribute != MAX_DYNAMIC_SHARED) return OK;
  if (value < 0 || value > most_shared()) return INVALID_VALUE;
  ((Function*)f)->most_shared = value;
  return OK;
}
API Result cuFuncGetAttribute(int* value, int attribute, Handle f) {
  *value = 0;
  if (attribute == MAX_THREADS) *value = emu::MOST_THREADS;
  if (attribute == MAX_DYNAMIC_SHARED) *value = ((Function*)f)->most_shared;
  return OK;
}

// ---- launches

// The driver copies the arguments at the call. Each gets a whole number of words.
struct Arguments {
  std::vector<uint64_t> words;
  std::vector<size_t> starts;
  Arguments(const emu::Kernel& k, void** from) {
    for (int i = 0; i < k.count; ++i) {
      starts.push_back(words.size());
      words.resize(words.size() + (k.sizes[i] + 7) / 8);
      memcpy(&words[starts.back()], from[i], k.sizes[i]);
    }
  }
};
API Result cuLaunchKernel(Handle h, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                          unsigned bz, unsigned shared, Handle s, void** arguments, void** extra) {
  const Function& f = *(const Function*)h;
  const uint64_t threads = (uint64_t)bx * by * bz;
  const bool grid_fits = gx && gy && gz && gx <= 0x7fffffff && gy <= 65535 && gz <= 65535;
  const bool block_fits = threads > 0 && threads <= (uint64_t)emu::MOST_THREADS && bz <= 64;
  if (extra || !grid_fits || !block_fits || shared > (unsigned)f.most_shared) return INVALID_VALUE;
  const emu::Kernel* kernel = f.kernel;
  const emu::Order order = thread_order;
  const auto own = std::make_shared<const Arguments>(*kernel, arguments);
  return submit_here(s, [=]() -> Result {
    void* pointers[emu::Kernel::MOST];
    for (int i = 0; i < kernel->count; ++i) pointers[i] = (void*)&own->words[own->starts[i]];
    const dim3 grid(gx, gy, gz), block(bx, by, bz);
    switch (emu::launch(kernel, grid, block, shared, order, pointers)) {
      case emu::Outcome::Done: return OK;
      case emu::Outcome::Failed: return LAUNCH_FAILED;
      case emu::Outcome::IllegalAddress: return ILLEGAL_ADDRESS;
    }
    return LAUNCH_FAILED;
  });
}

// ---- errors

struct Name {
  Result code;
  const char *name, *text;
};
static const Name NAMES[] = {
    {OK, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {INVALID_PTX, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
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
  return n ? OK : INVALID_VALUE;
}
API Result cuGetErrorString(Result code, const char** text) {
  const Name* n = find_name(code);
  *text = n ? n->text : "unknown error";
  return n ? OK : INVALID_VALUE;
}
