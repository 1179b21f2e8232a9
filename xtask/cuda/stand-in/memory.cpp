// Device memory: a reserved range of addresses a device. It starts as NaN and becomes NaN when it is freed.
#include "standin.h"
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <sys/mman.h>

namespace standin {

constexpr uintptr_t FIRST = 0x600000000000;
constexpr size_t RANGE = (size_t)1 << 40;
constexpr size_t PAGE = 4096;
constexpr size_t STEP = 512;           // alignment of allocations
constexpr size_t GUARD_STEP = 16;      // and where they end at a page: that of the widest load
constexpr size_t LARGE = 1 << 20;      // freed memory of this size goes back to the system

struct Heap {
  char *start = nullptr;
  size_t top = 0, used = 0, peak = 0;
  std::map<char *, size_t> live;
  std::multimap<size_t, char *> freed;
};

static std::mutex lock;
static Heap heaps[MOST_DEVICES];

static size_t round_up(size_t bytes, size_t step) { return (std::max<size_t>(bytes, 1) + step - 1) / step * step; }

static char *reserve(int device, int protection) {
  void *wanted = (void *)(FIRST + device * RANGE);
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void *start = mmap(wanted, RANGE, protection, flags, -1, 0);
  if (start != wanted) {
    fail("the range of addresses of device %d is taken", device);
  }
  return (char *)start;
}

// Memory of a page's multiple that ends, up to alignment, with the allocation.
static char *take_guarded(Heap &heap, size_t bytes) {
  size_t pages = round_up(bytes, PAGE);
  char *base = heap.start + heap.top;
  heap.top += pages + PAGE;
  if (heap.top > RANGE || mprotect(base, pages, PROT_READ | PROT_WRITE)) {
    return nullptr;
  }
  return base + pages - round_up(bytes, GUARD_STEP);
}

static char *take(Heap &heap, size_t bytes) {
  size_t size = round_up(bytes, STEP);
  auto old = heap.freed.find(size);
  if (old != heap.freed.end()) {
    char *at = old->second;
    heap.freed.erase(old);
    return at;
  }
  char *at = heap.start + heap.top;
  heap.top += size + PAGE;
  return heap.top > RANGE ? nullptr : at;
}

CUresult allocate(int device, size_t bytes, CUdeviceptr *result) {
  std::lock_guard<std::mutex> hold(lock);
  Heap &heap = heaps[device];
  bool guard = settings().guard;
  if (!heap.start) {
    heap.start = reserve(device, guard ? PROT_NONE : PROT_READ | PROT_WRITE);
  }
  size_t size = round_up(bytes, STEP);
  if (heap.used + size > settings().memory) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  char *at = guard ? take_guarded(heap, bytes) : take(heap, bytes);
  if (!at) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  heap.live[at] = bytes;
  heap.used += size;
  heap.peak = std::max(heap.peak, heap.used);
  set_peak(heap.used);
  if (!settings().null) {
    memset(at, 0xff, bytes);
  }
  *result = (CUdeviceptr)at;
  return CUDA_SUCCESS;
}

static void close_guarded(char *at, size_t bytes) {
  size_t pages = round_up(bytes, PAGE);
  char *base = at + round_up(bytes, GUARD_STEP) - pages;
  mmap(base, pages, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

static void give_back(Heap &heap, char *at, size_t bytes) {
  size_t size = round_up(bytes, STEP);
  if (!settings().null) {
    memset(at, 0xff, bytes);
  }
  if (size >= LARGE) {
    char *page = (char *)round_up((uintptr_t)at, PAGE);
    madvise(page, (at + size - page) / PAGE * PAGE, MADV_DONTNEED);
  }
  heap.freed.emplace(size, at);
}

CUresult release(CUdeviceptr pointer) {
  if (!pointer) {
    return CUDA_SUCCESS;
  }
  std::lock_guard<std::mutex> hold(lock);
  char *at = (char *)pointer;
  int device = device_of(at);
  Heap &heap = heaps[std::max(device, 0)];
  auto found = heap.live.find(at);
  if (device < 0 || found == heap.live.end()) {
    complain("%p is freed, which is not allocated", at);
    return CUDA_ERROR_INVALID_VALUE;
  }
  size_t bytes = found->second;
  heap.live.erase(found);
  heap.used -= round_up(bytes, STEP);
  set_peak(heap.used);
  if (settings().guard) {
    close_guarded(at, bytes);
  } else {
    give_back(heap, at, bytes);
  }
  return CUDA_SUCCESS;
}

int device_of(const void *at) {
  uintptr_t address = (uintptr_t)at;
  bool ours = address >= FIRST && address < FIRST + MOST_DEVICES * RANGE;
  return ours ? (int)((address - FIRST) / RANGE) : -1;
}

// Whether `test` holds for the start and the size of the last allocation that starts at or before an address.
template <class F>
static bool about_live(const void *at, F test) {
  int device = device_of(at);
  if (device < 0) {
    return false;
  }
  std::lock_guard<std::mutex> hold(lock);
  auto next = heaps[device].live.upper_bound((char *)at);
  if (next == heaps[device].live.begin()) {
    return false;
  }
  --next;
  return test(next->first, next->second);
}

bool is_live(const void *at, size_t bytes) {
  return about_live(at, [=](char *start, size_t size) { return (char *)at + bytes <= start + size; });
}

bool points_into_live(const void *at) {
  return about_live(at, [=](char *start, size_t size) { return (char *)at <= start + size; });
}

size_t used_memory(int device) {
  std::lock_guard<std::mutex> hold(lock);
  return heaps[device].used;
}

size_t peak_memory(int device) {
  std::lock_guard<std::mutex> hold(lock);
  return heaps[device].peak;
}

void reset_peak_memory(int device) {
  std::lock_guard<std::mutex> hold(lock);
  heaps[device].peak = heaps[device].used;
}

// ---------------------------------------------------------------- pinned memory of the host
static std::map<char *, size_t> pinned;

void *allocate_pinned(size_t bytes) {
  void *at = nullptr;
  if (posix_memalign(&at, PAGE, round_up(bytes, PAGE))) {
    return nullptr;
  }
  std::lock_guard<std::mutex> hold(lock);
  pinned[(char *)at] = bytes;
  return at;
}

bool release_pinned(void *at) {
  std::lock_guard<std::mutex> hold(lock);
  if (!pinned.erase((char *)at)) {
    return false;
  }
  free(at);
  return true;
}

bool is_pinned(const void *at) {
  std::lock_guard<std::mutex> hold(lock);
  auto next = pinned.upper_bound((char *)at);
  if (next == pinned.begin()) {
    return false;
  }
  --next;
  return (char *)at < next->first + next->second;
}

}  // namespace standin
