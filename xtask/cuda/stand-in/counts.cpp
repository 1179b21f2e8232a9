// Settings, counts and messages.
#include "standin.h"
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

namespace standin {

static size_t whole_number(const char *name, size_t otherwise) {
  const char *text = getenv(name);
  return text ? strtoull(text, nullptr, 10) : otherwise;
}

const Settings &settings() {
  static const Settings *all = new Settings{
      getenv("STANDIN_LAZY") != nullptr,
      getenv("STANDIN_GUARD") != nullptr,
      getenv("STANDIN_NULL") != nullptr,
      getenv("STANDIN_LOG") != nullptr,
      getenv("STANDIN_COUNTS"),
      getenv("STANDIN_ORDER"),
      whole_number("STANDIN_MEMORY_GIB", 80) << 30,
      std::min(MOST_DEVICES, (int)whole_number("STANDIN_DEVICES", 1)),
  };
  return *all;
}

static std::mutex lock;
static std::map<std::string, double> &counts() {
  static auto *all = new std::map<std::string, double>;
  return *all;
}

void add_to(const std::string &count, double amount) {
  std::lock_guard<std::mutex> hold(lock);
  counts()[count] += amount;
}

void set_peak(size_t used) {
  std::lock_guard<std::mutex> hold(lock);
  counts()["memory:used"] = used;
  double &peak = counts()["memory:peak"];
  peak = std::max(peak, (double)used);
}

void note(const char *function, const char *format, ...) {
  add_to(function, 1);
  if (!settings().log) {
    return;
  }
  char text[300];
  va_list values;
  va_start(values, format);
  vsnprintf(text, sizeof text, format, values);
  va_end(values);
  fprintf(stderr, "stand-in: %s %s\n", function, text);
}

static void print(const char *format, va_list values) {
  char text[600];
  vsnprintf(text, sizeof text, format, values);
  fprintf(stderr, "stand-in: %s\n", text);
}

void complain(const char *format, ...) {
  va_list values;
  va_start(values, format);
  print(format, values);
  va_end(values);
}

void fail(const char *format, ...) {
  va_list values;
  va_start(values, format);
  print(format, values);
  va_end(values);
  abort();
}

// Counts whose names start with `prefix`; without one, those of calls.
static std::string group(const std::string &prefix) {
  std::string text;
  for (auto &[name, amount] : counts()) {
    size_t colon = name.find(':');
    bool mine = prefix.empty() ? colon == std::string::npos : name.compare(0, prefix.size(), prefix) == 0;
    if (mine) {
      char number[40];
      snprintf(number, sizeof number, "%.0f", amount);
      text += (text.empty() ? "\n    \"" : ",\n    \"") + name.substr(prefix.size()) + "\": " + number;
    }
  }
  return "{" + text + "\n  }";
}

struct AtExit {
  ~AtExit() {
    FILE *file = settings().counts ? fopen(settings().counts, "w") : nullptr;
    if (!file) {
      return;
    }
    fprintf(file, "{\n  \"calls\": %s", group("").c_str());
    for (const char *kind : {"kernels", "bytes", "flops", "memory"}) {
      fprintf(file, ",\n  \"%s\": %s", kind, group(std::string(kind) + ":").c_str());
    }
    fprintf(file, "\n}\n");
    fclose(file);
  }
};
static AtExit at_exit;

}  // namespace standin

extern "C" {

void standin_counts_reset() {
  std::lock_guard<std::mutex> hold(standin::lock);
  double used = standin::counts()["memory:used"];
  standin::counts() = {{"memory:used", used}, {"memory:peak", used}};
}

// The count of calls, "kernels:NAME", "bytes:up|down|device|memset", "flops:KIND" or "memory:used|peak"; 0 if unknown.
long standin_count(const char *name) {
  std::lock_guard<std::mutex> hold(standin::lock);
  auto found = standin::counts().find(name);
  return found == standin::counts().end() ? 0 : (long)found->second;
}

// What calls of functions end at that the stand-in does not have; see the list that xtask makes.
int standin_missing(const char *name, int error) {
  standin::complain("%s is not supported", name);
  return error;
}

}
