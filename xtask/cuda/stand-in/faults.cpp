// Reports of kernels that touch what they may not.
#include <unistd.h>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include "standin.h"

namespace cuda_cpu {

constexpr size_t STACK = 64 << 10;

// Says which kernel touched what it may not, and leaves other faults to the system.
static void on_fault(int signal, siginfo_t *info, void *) {
  bool device = standin::device_of(info->si_addr) >= 0;
  if (!running && !device) {
    ::signal(signal, SIG_DFL);
    return;
  }
  char text[400];
  const char *what = device ? "which is no live device memory" : "which is no device memory, or the end of its stack";
  int size = 0;
  if (running) {
    uint3 block = now->block;
    uint3 thread = now->thread;
    size = snprintf(text, sizeof text,
                    "stand-in: kernel %s, block (%u,%u,%u), thread (%u,%u,%u) touched %p, %s\n",
                    running->name, block.x, block.y, block.z, thread.x, thread.y, thread.z, info->si_addr, what);
  } else {
    size = snprintf(text, sizeof text, "stand-in: the host touched %p, %s\n", info->si_addr, what);
  }
  (void)!write(2, text, size);
  _exit(139);
}

// A thread's handler needs a stack of its own, because that of a fiber may be full.
void watch_faults() {
  static thread_local bool watched = false;
  if (watched) {
    return;
  }
  watched = true;
  stack_t old{};
  sigaltstack(nullptr, &old);
  if (old.ss_flags & SS_DISABLE) {
    stack_t own{};
    own.ss_sp = malloc(STACK);
    own.ss_size = STACK;
    sigaltstack(&own, nullptr);
  }
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);
}

}  // namespace cuda_cpu
