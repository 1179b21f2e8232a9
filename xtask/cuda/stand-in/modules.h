// Modules and their functions, as handles of the driver point to them.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>
#include "standin.h"

namespace standin {

// The start of "PTX" of the stand-in for NVRTC; the path of a compiled file follows.
constexpr const char *COMPILED = "//STANDIN ";

// A kernel as PTX declares it.
struct Entry {
  std::vector<size_t> sizes;
  unsigned most_threads;
};
std::map<std::string, Entry> entries_of(const std::string &ptx);

struct Function {
  const cuda_cpu::Kernel *kernel;
  const Unit *unit;
  unsigned most_threads;
  size_t most_shared = 48 << 10;
};

struct Module {
  std::map<std::string, Entry> entries;
  const Unit *unit = nullptr;
  std::mutex lock;
  std::vector<std::unique_ptr<Function>> functions;
};

}  // namespace standin
