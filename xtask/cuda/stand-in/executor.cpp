// Runs blocks of threads: one fiber a thread where threads wait for each other, a plain loop where they do not.
#include "standin.h"
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <sys/mman.h>

namespace cuda_cpu {

thread_local Thread *now __attribute__((tls_model("initial-exec")));
thread_local const Kernel *running __attribute__((tls_model("initial-exec")));

enum State { FRESH, READY, AT_BLOCK, AT_WARP, DONE };

constexpr size_t STACK = 64 << 10;
constexpr size_t PAGE = 4096;
constexpr unsigned WARP = 32;
constexpr size_t SLOT = 16;

struct Fiber {
  void *pointer = nullptr;
  char *stack = nullptr;
};

// Saves the registers of a function call and the stack pointer, and takes up those of `load`.
extern "C" void cuda_cpu_switch(void **save, void *load);
asm(R"(
.text
.type cuda_cpu_switch, @function
cuda_cpu_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
)");

class Executor {
 public:
  void run(const standin::Launch &launch, void **values, uint3 block, const std::vector<unsigned> &order);
  void wait(State state, unsigned mask, int line);

  std::vector<State> states;
  std::vector<char> slots;  // what threads hand over
  unsigned current = 0;

 private:
  void straight(Thread &thread, const std::vector<unsigned> &order);
  void together(Thread thread, const std::vector<unsigned> &order);
  unsigned step(const std::vector<unsigned> &order);
  void resume(unsigned thread);
  bool release_warps();
  bool release_block(unsigned done);
  [[noreturn]] void stuck();
  Fiber fresh();
  static void entry();

  void *scheduler = nullptr;
  void **values = nullptr;
  std::vector<Thread> threads;
  std::vector<Fiber> fibers;  // of threads that have started and have not ended
  std::vector<Fiber> idle;
  std::vector<unsigned> masks;
  std::vector<int> lines;
  unsigned made = 0;
};

static Executor &executor() {
  static thread_local Executor *mine = new Executor;
  return *mine;
}

// Tops of stacks lie at different places in their pages, or they would compete for the same cache lines.
Fiber Executor::fresh() {
  Fiber fiber;
  if (!idle.empty()) {
    fiber = idle.back();
    idle.pop_back();
  } else {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK;
    char *stack = (char *)mmap(nullptr, STACK, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (stack == MAP_FAILED) {
      standin::fail("there is no memory for the stack of a thread");
    }
    mprotect(stack, PAGE, PROT_NONE);
    fiber.stack = stack + made++ % 16 * 192;
  }
  uint64_t *top = (uint64_t *)(fiber.stack + STACK - PAGE) - 3;
  *top = 0;
  *--top = (uint64_t)&entry;
  for (int i = 0; i < 6; i++) {
    *--top = 0;
  }
  fiber.pointer = top;
  return fiber;
}

void Executor::entry() {
  Executor &self = executor();
  running->call(self.values);
  self.states[self.current] = DONE;
  void *ended;
  cuda_cpu_switch(&ended, self.scheduler);
  __builtin_unreachable();
}

void Executor::wait(State state, unsigned mask, int line) {
  if (!running->barriers) {
    standin::fail("kernel %s waits for other threads, but was compiled as one that does not", running->name);
  }
  unsigned thread = current;
  states[thread] = state;
  masks[thread] = mask;
  lines[thread] = line;
  cuda_cpu_switch(&fibers[thread].pointer, scheduler);
}

void Executor::resume(unsigned thread) {
  current = thread;
  now = &threads[thread];
  cuda_cpu_switch(&scheduler, fibers[thread].pointer);
  if (states[thread] == DONE) {
    idle.push_back(fibers[thread]);
    fibers[thread] = Fiber();
  }
}

static uint3 place(unsigned linear, dim3 size) {
  return {linear % size.x, linear / size.x % size.y, linear / (size.x * size.y)};
}

void Executor::straight(Thread &thread, const std::vector<unsigned> &order) {
  now = &thread;
  for (unsigned linear : order) {
    thread.linear = linear;
    thread.thread = place(linear, thread.block_dim);
    running->call(values);
  }
}

void Executor::together(Thread thread, const std::vector<unsigned> &order) {
  unsigned count = order.size();
  states.assign(count, FRESH);
  masks.assign(count, 0);
  lines.assign(count, 0);
  fibers.resize(count);
  slots.resize(SLOT * count);
  threads.assign(count, thread);
  for (unsigned linear = 0; linear < count; linear++) {
    threads[linear].linear = linear;
    threads[linear].thread = place(linear, thread.block_dim);
  }
  unsigned done = step(order);
  while (done < count) {
    bool moves = release_warps();
    moves |= release_block(done);
    if (!moves) {
      stuck();
    }
    done = step(order);
  }
}

// Lets every thread that can run do so until it waits or ends; returns how many have ended.
unsigned Executor::step(const std::vector<unsigned> &order) {
  unsigned done = 0;
  for (unsigned thread : order) {
    if (states[thread] == FRESH) {
      fibers[thread] = fresh();
      states[thread] = READY;
    }
    if (states[thread] == READY) {
      resume(thread);
    }
    done += states[thread] == DONE;
  }
  return done;
}

// Releases the lanes of each mask whose lanes all wait with this mask, or have ended.
bool Executor::release_warps() {
  bool moves = false;
  for (unsigned first = 0; first < states.size(); first += WARP) {
    unsigned end = std::min<unsigned>(states.size(), first + WARP);
    for (unsigned thread = first; thread < end; thread++) {
      if (states[thread] != AT_WARP) {
        continue;
      }
      unsigned mask = masks[thread];
      auto named = [&](unsigned other) { return mask >> (other - first) & 1; };
      bool all = true;
      for (unsigned other = first; other < end; other++) {
        bool there = states[other] == DONE || (states[other] == AT_WARP && masks[other] == mask);
        all &= there || !named(other);
      }
      for (unsigned other = first; all && other < end; other++) {
        if (named(other) && states[other] == AT_WARP) {
          states[other] = READY;
          moves = true;
        }
      }
    }
  }
  return moves;
}

bool Executor::release_block(unsigned done) {
  unsigned waiting = 0;
  int line = -1;
  for (unsigned thread = 0; thread < states.size(); thread++) {
    if (states[thread] == AT_BLOCK) {
      waiting++;
      if (line != -1 && line != lines[thread]) {
        standin::fail("kernel %s, block (%u,%u,%u): threads wait at different barriers, in lines %d and %d",
                      running->name, now->block.x, now->block.y, now->block.z, line, lines[thread]);
      }
      line = lines[thread];
    }
  }
  if (!waiting || waiting + done < states.size()) {
    return false;
  }
  for (State &state : states) {
    state = state == AT_BLOCK ? READY : state;
  }
  return true;
}

void Executor::stuck() {
  unsigned block = std::count(states.begin(), states.end(), AT_BLOCK);
  unsigned warp = std::count(states.begin(), states.end(), AT_WARP);
  standin::fail("kernel %s, block (%u,%u,%u): threads wait for each other at different barriers, %u at one of the "
                "block and %u at one of a warp",
                running->name, now->block.x, now->block.y, now->block.z, block, warp);
}

// Dynamic shared memory starts unwritten, and what lies behind it must stay as it is.
static void prepare_shared(const standin::Launch &launch) {
  for (auto place : launch.unit->shared) {
    memset(place(), 0xff, launch.shared);
    memset(place() + launch.shared, 0xa5, FENCE);
  }
}

static void check_shared(const standin::Launch &launch) {
  for (auto place : launch.unit->shared) {
    const char *fence = place() + launch.shared;
    if (std::any_of(fence, fence + FENCE, [](char byte) { return byte != (char)0xa5; })) {
      standin::fail("kernel %s, block (%u,%u,%u) wrote past the %u bytes of dynamic shared memory of its launch",
                    launch.kernel->name, now->block.x, now->block.y, now->block.z, launch.shared);
    }
  }
}

void Executor::run(const standin::Launch &launch, void **arguments, uint3 block, const std::vector<unsigned> &order) {
  running = launch.kernel;
  values = arguments;
  Thread thread{{0, 0, 0}, block, launch.block, launch.grid, 0};
  prepare_shared(launch);
  if (launch.kernel->barriers) {
    together(thread, order);
  } else {
    straight(thread, order);
  }
  now = &thread;
  check_shared(launch);
  running = nullptr;
  now = nullptr;
}

void block_barrier(int line) { executor().wait(AT_BLOCK, 0, line); }
void warp_barrier(unsigned mask) { executor().wait(AT_WARP, mask, 0); }

int block_count(bool mine, int line) {
  Executor &self = executor();
  self.slots[SLOT * self.current] = mine;
  block_barrier(line);
  int count = 0;
  for (size_t thread = 0; thread < self.states.size(); thread++) {
    count += self.states[thread] != DONE && self.slots[SLOT * thread];
  }
  block_barrier(line);
  return count;
}

void exchange(const void *mine, void *theirs, size_t size, unsigned mask, unsigned from) {
  Executor &self = executor();
  if (size > SLOT) {
    standin::fail("kernel %s shuffles values of %zu bytes; give at most %zu", running->name, size, SLOT);
  }
  unsigned source = self.current / WARP * WARP + from;
  memcpy(&self.slots[SLOT * self.current], mine, size);
  warp_barrier(mask);
  bool there = source < self.states.size() && self.states[source] != DONE && mask >> from & 1;
  if (there) {
    memcpy(theirs, &self.slots[SLOT * source], size);
  } else {
    memset(theirs, 0xff, size);  // undefined on a card
  }
  warp_barrier(mask);
}

unsigned vote(unsigned mask, bool mine) {
  Executor &self = executor();
  unsigned first = self.current / WARP * WARP;
  self.slots[SLOT * self.current] = mine;
  warp_barrier(mask);
  unsigned votes = 0;
  for (unsigned lane = 0; lane < WARP && first + lane < self.states.size(); lane++) {
    bool counted = mask >> lane & 1 && self.states[first + lane] != DONE;
    votes |= (counted && self.slots[SLOT * (first + lane)] ? 1u : 0u) << lane;
  }
  warp_barrier(mask);
  return votes;
}

void add_kernel(const char *unit, Kernel kernel) { standin::units()[unit].kernels[kernel.name] = kernel; }
void add_shared(const char *unit, char *(*place)()) { standin::units()[unit].shared.push_back(place); }

}  // namespace cuda_cpu

namespace standin {

std::map<std::string, Unit> &units() {
  static auto *all = new std::map<std::string, Unit>;
  return *all;
}

// The places 0 … count - 1 in the order that was asked for.
template <class T>
static std::vector<T> order(T count, unsigned launch) {
  std::vector<T> places(count);
  for (T i = 0; i < count; i++) {
    places[i] = i;
  }
  const char *asked = settings().order;
  if (asked && *asked == 'r') {
    std::reverse(places.begin(), places.end());
  } else if (asked) {
    std::mt19937 generator(atoi(asked) + launch);
    std::shuffle(places.begin(), places.end(), generator);
  }
  return places;
}

void run(const Launch &launch, void **values) {
  static std::atomic<unsigned> launches;
  unsigned number = launches++;
  dim3 grid = launch.grid;
  std::vector<unsigned> threads = order<unsigned>(launch.block.x * launch.block.y * launch.block.z, number);
  std::vector<uint64_t> blocks = order<uint64_t>((uint64_t)grid.x * grid.y * grid.z, number);
  bool large = blocks.size() > 1 && blocks.size() * threads.size() > 4096;
  #pragma omp parallel for schedule(dynamic, 1) if (large)
  for (size_t i = 0; i < blocks.size(); i++) {
    uint64_t at = blocks[i];
    uint3 block{(unsigned)(at % grid.x), (unsigned)(at / grid.x % grid.y), (unsigned)(at / grid.x / grid.y)};
    cuda_cpu::watch_faults();
    cuda_cpu::executor().run(launch, values, block, threads);
  }
}

}  // namespace standin
