// The border between compiled kernels and the stand-in's executor.
#pragma once
#include <cstddef>
#include <type_traits>
#include <utility>
#include <vector_types.h>

namespace cuda_cpu {

// The place of the thread that runs.
struct Thread {
  uint3 thread, block;
  dim3 block_dim, grid_dim;
  unsigned linear;
};
extern thread_local Thread *now __attribute__((tls_model("initial-exec"), visibility("default")));
inline unsigned lane() { return now->linear % 32; }

#pragma GCC visibility push(default)
// Barriers of a block know their line, so that threads that wait at different ones are found.
void block_barrier(int line);
int block_count(bool mine, int line);
void warp_barrier(unsigned mask);
// Hands `mine` to the warp and takes what lane `from` handed over.
void exchange(const void *mine, void *theirs, size_t size, unsigned mask, unsigned from);
// The lanes that vote yes.
unsigned vote(unsigned mask, bool mine);
// Stops the process if an argument of a kernel is no device memory.
void check_pointer(const char *kernel, int index, const void *pointer);

constexpr int PARAMETERS = 64;
struct Kernel {
  const char *name;
  int count;
  size_t sizes[PARAMETERS];
  void (*call)(void **);
  void (*check)(const char *, void **);
  bool barriers;
};
// Announces a kernel, or the place of dynamic shared memory, of a compiled .cu file.
void add_kernel(const char *unit, Kernel kernel);
void add_shared(const char *unit, char *(*place)());
#pragma GCC visibility pop

// Room for dynamic shared memory, and the bytes behind it that must stay as they are.
constexpr size_t SHARED = 163 << 10;
constexpr size_t FENCE = 256;

template <auto F> struct Of;
template <class... A, void (*F)(A...)>
struct Of<F> {
  template <size_t... I>
  static void call(void **values, std::index_sequence<I...>) {
    F(*(std::remove_reference_t<A> *)values[I]...);
  }
  static void run(void **values) { call(values, std::index_sequence_for<A...>()); }

  template <class T>
  static void one(const char *kernel, int index, void *value) {
    if constexpr (std::is_pointer_v<T>) {
      check_pointer(kernel, index, *(const void **)value);
    }
  }
  template <size_t... I>
  static void each(const char *kernel, void **values, std::index_sequence<I...>) {
    (one<A>(kernel, (int)I, values[I]), ...);
  }
  static void check(const char *kernel, void **values) { each(kernel, values, std::index_sequence_for<A...>()); }

  static Kernel kernel(const char *name, bool barriers) {
    return {name, (int)sizeof...(A), {sizeof(A)...}, run, check, barriers};
  }
};

struct Registrar {
  Registrar(const char *unit, Kernel kernel) { add_kernel(unit, kernel); }
  Registrar(const char *unit, char *(*place)()) { add_shared(unit, place); }
};

}  // namespace cuda_cpu

// CUDA_CPU_UNIT, the name of the .cu file, comes from the command line. A kernel with barriers gets fibers.
#define CUDA_CPU_KERNEL(name, barriers) \
  static cuda_cpu::Registrar registrar_##name(CUDA_CPU_UNIT, cuda_cpu::Of<name>::kernel(#name, barriers));
#define CUDA_CPU_SHARED(name)                                              \
  alignas(128) thread_local char name[cuda_cpu::SHARED + cuda_cpu::FENCE]; \
  static cuda_cpu::Registrar registrar_##name(CUDA_CPU_UNIT, [] { return (char *)name; });
