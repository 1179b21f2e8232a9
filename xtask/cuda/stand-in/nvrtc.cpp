// NVRTC: g++ makes a library of the source, and the "PTX" says where it is.
#include <nvrtc.h>
#include <unistd.h>
#include <atomic>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include "modules.h"

namespace {

using namespace standin;
namespace files = std::filesystem;

struct Program {
  std::string source, result, log;
};

size_t skip_spaces(const std::string &text, size_t at) {
  while (at < text.size() && isspace((unsigned char)text[at])) {
    at++;
  }
  return at;
}

std::string word(const std::string &text, size_t at) {
  size_t end = at;
  while (end < text.size() && (isalnum((unsigned char)text[end]) || text[end] == '_')) {
    end++;
  }
  return text.substr(at, end - at);
}

// Names of kernels: what follows "__global__ void", and a __launch_bounds__ if there is one.
std::vector<std::string> kernels(const std::string &source) {
  std::vector<std::string> names;
  size_t at = 0;
  while ((at = source.find("__global__", at)) != std::string::npos) {
    at = source.find("void", at);
    if (at == std::string::npos) {
      break;
    }
    at = skip_spaces(source, at + 4);
    if (word(source, at) == "__launch_bounds__") {
      at = skip_spaces(source, source.find(')', at) + 1);
    }
    names.push_back(word(source, at));
  }
  return names;
}

std::vector<std::string> include_folders(int count, const char *const *options) {
  std::vector<std::string> folders;
  for (int i = 0; i < count; i++) {
    std::string option = options[i];
    for (std::string form : {"-I", "--include-path="}) {
      if (option.rfind(form, 0) == 0) {
        folders.push_back(option.substr(form.size()));
      }
    }
  }
  return folders;
}

// The first header that the given folders lack, as NVRTC has no folders of its own; empty if there is none.
std::string missing_header(const std::string &source, const std::vector<std::string> &folders) {
  size_t at = 0;
  while ((at = source.find("#include", at)) != std::string::npos) {
    at = skip_spaces(source, at + 8);
    std::string name = source.substr(at + 1, source.find_first_of(">\"", at + 1) - at - 1);
    bool found = false;
    for (auto &folder : folders) {
      found |= files::exists(files::path(folder) / name);
    }
    if (!found) {
      return name;
    }
  }
  return "";
}

std::string text_of(const std::string &path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// Compiles into BASE.so; false with a log in BASE.log.
bool compile(const Program &program, const std::string &base, const std::vector<std::string> &folders) {
  std::ofstream file(base + ".cpp");
  file << "#include \"cuda_cpu.h\"\n" << program.source << "\n";
  for (auto &name : kernels(program.source)) {
    file << "CUDA_CPU_KERNEL(" << name << ", true)\n";
  }
  file.close();
  std::string command = "g++ -std=c++17 -O2 -fPIC -shared -w -fno-strict-aliasing -fvisibility=hidden "
                        "-fno-extern-tls-init "
                        "'-DCUDA_CPU_UNIT=\"" + base + ".so\"'";
  for (auto &folder : folders) {
    command += " -I'" + folder + "'";
  }
  command += " -I\"$STANDIN_HEADERS\" -isystem \"$CUDA_HOME/include\" -isystem \"$CUDA_HOME/include/cccl\" " + base +
             ".cpp -o " + base + ".so 2>" + base + ".log";
  return system(command.c_str()) == 0;
}

}  // namespace

extern "C" {

nvrtcResult nvrtcCreateProgram(nvrtcProgram *program, const char *source, const char *, int, const char *const *,
                               const char *const *) {
  note("nvrtcCreateProgram");
  *program = (nvrtcProgram) new Program{source, "", ""};
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcDestroyProgram(nvrtcProgram *program) {
  delete (Program *)*program;
  *program = nullptr;
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcCompileProgram(nvrtcProgram handle, int count, const char *const *options) {
  note("nvrtcCompileProgram");
  static std::atomic<int> programs;
  auto *program = (Program *)handle;
  auto folders = include_folders(count, options);
  std::string missing = missing_header(program->source, folders);
  if (!missing.empty()) {
    program->log = "cannot open source file \"" + missing + "\"";
    return NVRTC_ERROR_COMPILATION;
  }
  if (!getenv("STANDIN_HEADERS") || !getenv("CUDA_HOME")) {
    program->log = "the stand-in compiles kernels only with STANDIN_HEADERS and CUDA_HOME set";
    return NVRTC_ERROR_COMPILATION;
  }
  std::string name = "standin-" + std::to_string(getpid()) + "-" + std::to_string(programs++);
  std::string base = files::temp_directory_path() / name;
  bool compiled = compile(*program, base, folders);
  program->log = text_of(base + ".log");
  program->result = COMPILED + base + ".so\n";
  files::remove(base + ".cpp");
  files::remove(base + ".log");
  return compiled ? NVRTC_SUCCESS : NVRTC_ERROR_COMPILATION;
}

nvrtcResult nvrtcGetPTXSize(nvrtcProgram program, size_t *size) {
  *size = ((Program *)program)->result.size() + 1;
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetPTX(nvrtcProgram handle, char *text) {
  auto *program = (Program *)handle;
  text[program->result.copy(text, std::string::npos)] = 0;
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetProgramLogSize(nvrtcProgram program, size_t *size) {
  *size = ((Program *)program)->log.size() + 1;
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetProgramLog(nvrtcProgram handle, char *text) {
  auto *program = (Program *)handle;
  text[program->log.copy(text, std::string::npos)] = 0;
  return NVRTC_SUCCESS;
}

}
