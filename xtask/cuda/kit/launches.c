// Counts the kernels that a program launches through the driver, and writes the number to the file that LAUNCHES names.
// Kernels that cuDNN and cuBLAS launch inside are not counted. Use: LD_PRELOAD=./launches.so LAUNCHES=FILE PROGRAM
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

typedef int (*Launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **,
                      void **);

static unsigned long count;

int cuLaunchKernel(void *kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **parameters, void **extra) {
  static Launch launch;
  if (!launch) {
    launch = (Launch)dlsym(RTLD_NEXT, "cuLaunchKernel");
  }
  __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
  return launch(kernel, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra);
}

__attribute__((destructor)) static void write_count(void) {
  const char *name = getenv("LAUNCHES");
  FILE *file = name ? fopen(name, "w") : NULL;
  if (file) {
    fprintf(file, "%lu\n", count);
    fclose(file);
  }
}
