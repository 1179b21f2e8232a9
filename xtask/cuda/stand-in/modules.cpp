// Modules: nvcc's PTX says which kernels there are and which parameters they take; compiled .cu files run them.
#include "standin.h"
#include <dlfcn.h>
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <set>
#include "modules.h"

namespace standin {

namespace files = std::filesystem;

// A parameter's size from its declaration, such as ".param .u64 .ptr .align 1 NAME" or ".param .b8 NAME[24]".
static size_t size_of(const std::string &declaration) {
  size_t bracket = declaration.find('[');
  size_t count = bracket == std::string::npos ? 1 : strtoull(declaration.c_str() + bracket + 1, nullptr, 10);
  for (const char *type : {".b8", ".u8", ".s8"}) {
    if (declaration.find(type) != std::string::npos) {
      return count;
    }
  }
  for (const char *type : {".b16", ".u16", ".s16", ".f16"}) {
    if (declaration.find(type) != std::string::npos) {
      return 2 * count;
    }
  }
  for (const char *type : {".b64", ".u64", ".s64", ".f64"}) {
    if (declaration.find(type) != std::string::npos) {
      return 8 * count;
    }
  }
  return 4 * count;
}

static std::vector<size_t> sizes_of(const std::string &list) {
  std::vector<size_t> sizes;
  size_t at = 0;
  while ((at = list.find(".param", at)) != std::string::npos) {
    size_t end = std::min(list.find(',', at), list.size());
    sizes.push_back(size_of(list.substr(at, end - at)));
    at = end;
  }
  return sizes;
}

// The most threads of ".maxntid X, Y, Z" between a kernel's parameters and its body.
static unsigned most_threads(const std::string &directives) {
  size_t at = directives.find(".maxntid");
  if (at == std::string::npos) {
    return 1024;
  }
  unsigned product = 1;
  const char *text = directives.c_str() + at + strlen(".maxntid");
  do {
    char *end;
    product *= strtoul(text, &end, 10);
    text = end;
  } while (*text++ == ',');
  return product;
}

std::map<std::string, Entry> entries_of(const std::string &ptx) {
  static const std::string start = ".entry ";
  std::map<std::string, Entry> entries;
  size_t at = 0;
  while ((at = ptx.find(start, at)) != std::string::npos) {
    at += start.size();
    size_t open = ptx.find('(', at);
    size_t close = ptx.find(')', open);
    size_t body = ptx.find('{', close);
    if (body == std::string::npos) {
      break;
    }
    std::string name = ptx.substr(at, ptx.find_first_of("( \t\n", at) - at);
    entries[name] = {sizes_of(ptx.substr(open, close - open)), most_threads(ptx.substr(close, body - close))};
    at = body;
  }
  return entries;
}

// The folder of compiled kernels: STANDIN_KERNELS, or "kernels" beside this library.
static files::path kernel_folder() {
  if (const char *named = getenv("STANDIN_KERNELS")) {
    return named;
  }
  Dl_info info{};
  dladdr((const void *)&units, &info);
  return files::path(info.dli_fname).parent_path() / "kernels";
}

bool load_unit(const std::string &path) {
  // Kernels look their functions up in this library, however it was loaded.
  Dl_info info{};
  dladdr((const void *)&units, &info);
  dlopen(info.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
  if (dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
    return true;
  }
  complain("%s", dlerror());
  return false;
}

static void load_units() {
  static std::once_flag once;
  std::call_once(once, [] {
    std::error_code error;
    for (auto &file : files::directory_iterator(kernel_folder(), error)) {
      if (file.path().extension() == ".so") {
        load_unit(file.path());
      }
    }
  });
}

// The compiled file with the same kernels as the PTX.
static const Unit *unit_of(const std::map<std::string, Entry> &entries) {
  for (auto &[name, unit] : units()) {
    auto same = [](auto &kernel, auto &entry) { return kernel.first == entry.first; };
    if (std::equal(unit.kernels.begin(), unit.kernels.end(), entries.begin(), entries.end(), same)) {
      return &unit;
    }
  }
  return nullptr;
}

static CUresult load(const std::string &ptx, Module *module) {
  if (ptx.rfind(COMPILED, 0) == 0) {
    std::string path = ptx.substr(strlen(COMPILED), ptx.find('\n') - strlen(COMPILED));
    module->unit = load_unit(path) ? &units()[path] : nullptr;
    return module->unit ? CUDA_SUCCESS : CUDA_ERROR_INVALID_PTX;
  }
  load_units();
  module->entries = entries_of(ptx);
  module->unit = unit_of(module->entries);
  if (!module->unit && !module->entries.empty()) {
    complain("no compiled file has exactly the %zu kernels of this PTX, of which the first is %s; build them again",
             module->entries.size(), module->entries.begin()->first.c_str());
    return CUDA_ERROR_INVALID_IMAGE;
  }
  return CUDA_SUCCESS;
}

static bool same_sizes(const cuda_cpu::Kernel &kernel, const std::vector<size_t> &sizes) {
  return std::equal(sizes.begin(), sizes.end(), kernel.sizes, kernel.sizes + kernel.count);
}

}  // namespace standin

using namespace standin;

extern "C" {

CUresult cuModuleLoadData(CUmodule *result, const void *image) {
  note("cuModuleLoadData");
  if (CUresult refused = usable(__func__)) {
    return refused;
  }
  auto module = std::make_unique<Module>();
  if (CUresult refused = load((const char *)image, module.get())) {
    return refused;
  }
  *result = (CUmodule)module.release();
  return CUDA_SUCCESS;
}

// Functions stay valid, because a launch may still wait in a stream.
CUresult cuModuleUnload(CUmodule) {
  note("cuModuleUnload");
  return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *result, CUmodule handle, const char *name) {
  note("cuModuleGetFunction", "%s", name);
  auto *module = (Module *)handle;
  auto kernel = module->unit ? module->unit->kernels.find(name) : decltype(module->unit->kernels.end()){};
  if (!module->unit || kernel == module->unit->kernels.end()) {
    return CUDA_ERROR_NOT_FOUND;
  }
  auto entry = module->entries.find(name);
  bool known = entry != module->entries.end();
  if (known && !same_sizes(kernel->second, entry->second.sizes)) {
    complain("kernel %s takes other parameters in PTX than in its source; build both again", name);
    return CUDA_ERROR_INVALID_IMAGE;
  }
  auto function = std::make_unique<Function>();
  function->kernel = &kernel->second;
  function->unit = module->unit;
  function->most_threads = known ? entry->second.most_threads : 1024;
  std::lock_guard<std::mutex> hold(module->lock);
  *result = (CUfunction)function.get();
  module->functions.push_back(std::move(function));
  return CUDA_SUCCESS;
}

}
