// Streams and events. In lazy mode, streams run as late as they may: when somebody waits for them.
#include "standin.h"
#include <chrono>
#include <cstdint>
#include <deque>
#include <mutex>
#include <set>

namespace standin {

struct Stream {
  int device;
  bool blocking;  // waits for the legacy stream, and the other way round
  std::deque<Work> queue;
};

struct Mark {
  bool reached = false;
  std::chrono::steady_clock::time_point time;
};

struct Event {
  int device;
  bool timed;
  Stream *stream = nullptr;
  std::shared_ptr<Mark> mark;
};

static std::recursive_mutex lock;

static std::set<Stream *> &streams() {
  static auto *all = new std::set<Stream *>;
  return *all;
}

static Stream *make(int device, bool blocking) {
  std::lock_guard<std::recursive_mutex> hold(lock);
  auto *stream = new Stream{device, blocking, {}};
  streams().insert(stream);
  return stream;
}

static bool is_legacy(CUstream handle) { return handle == nullptr || handle == CU_STREAM_LEGACY; }

// The stream of a handle; each thread has its own behind the handle of the per-thread stream.
static Stream *find(CUstream handle) {
  static thread_local Stream *own[MOST_DEVICES];
  static Stream *legacy[MOST_DEVICES];
  if (handle != CU_STREAM_PER_THREAD && !is_legacy(handle)) {
    return (Stream *)handle;
  }
  std::lock_guard<std::recursive_mutex> hold(lock);
  int device = std::max(current_device(), 0);
  Stream *&stream = is_legacy(handle) ? legacy[device] : own[device];
  if (!stream) {
    stream = make(device, true);
  }
  return stream;
}

bool owns_stream(int device, CUstream handle) {
  if (is_legacy(handle) || handle == CU_STREAM_PER_THREAD) {
    return true;
  }
  std::lock_guard<std::recursive_mutex> hold(lock);
  auto *stream = (Stream *)handle;
  return streams().count(stream) && stream->device == device;
}

// Runs the first piece of work, if there is one.
static bool advance(Stream *stream) {
  if (stream->queue.empty()) {
    return false;
  }
  Work work = std::move(stream->queue.front());
  stream->queue.pop_front();
  work();
  return true;
}

static void drain(Stream *stream) {
  while (advance(stream)) {
  }
}

void enqueue(CUstream handle, Work work) {
  std::lock_guard<std::recursive_mutex> hold(lock);
  if (is_legacy(handle)) {
    finish_blocking(std::max(current_device(), 0));
  }
  if (!settings().lazy || is_legacy(handle)) {
    work();
    return;
  }
  find(handle)->queue.push_back(std::move(work));
}

void finish(CUstream handle) {
  std::lock_guard<std::recursive_mutex> hold(lock);
  if (is_legacy(handle)) {
    finish_blocking(std::max(current_device(), 0));
  }
  drain(find(handle));
}

static void finish_some(int device, bool all) {
  std::lock_guard<std::recursive_mutex> hold(lock);
  for (Stream *stream : std::set<Stream *>(streams())) {
    if (stream->device == device && (all || stream->blocking)) {
      drain(stream);
    }
  }
}

void finish_device(int device) { finish_some(device, true); }
void finish_blocking(int device) { finish_some(device, false); }

static bool reached(const std::shared_ptr<Mark> &mark) { return !mark || mark->reached; }

static void reach(Stream *stream, const std::shared_ptr<Mark> &mark) {
  std::lock_guard<std::recursive_mutex> hold(lock);
  while (!reached(mark) && advance(stream)) {
  }
}

}  // namespace standin

using namespace standin;

extern "C" {

CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
  note("cuStreamCreate", "flags %u", flags);
  if (CUresult refused = usable(__func__)) {
    return refused;
  }
  *stream = (CUstream)make(current_device(), !(flags & CU_STREAM_NON_BLOCKING));
  return CUDA_SUCCESS;
}

CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int) { return cuStreamCreate(stream, flags); }

CUresult cuStreamDestroy_v2(CUstream handle) {
  note("cuStreamDestroy_v2");
  std::lock_guard<std::recursive_mutex> hold(lock);
  auto *stream = (Stream *)handle;
  if (!streams().count(stream)) {
    complain("cuStreamDestroy of a stream that does not exist");
    return CUDA_ERROR_INVALID_HANDLE;
  }
  drain(stream);
  streams().erase(stream);
  delete stream;
  return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream stream) {
  note("cuStreamSynchronize");
  if (CUresult refused = usable(__func__, stream)) {
    return refused;
  }
  finish(stream);
  return CUDA_SUCCESS;
}

// Every question lets the stream go on by one piece of work, so that who polls gets an end.
CUresult cuStreamQuery(CUstream stream) {
  note("cuStreamQuery");
  std::lock_guard<std::recursive_mutex> hold(lock);
  return advance(find(stream)) ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing(CUstream, CUstreamCaptureStatus *status) {
  *status = CU_STREAM_CAPTURE_STATUS_NONE;
  return CUDA_SUCCESS;
}

CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void *data) {
  note("cuLaunchHostFunc");
  if (CUresult refused = usable(__func__, stream)) {
    return refused;
  }
  enqueue(stream, [=] { function(data); });
  return CUDA_SUCCESS;
}

CUresult cuEventCreate(CUevent *event, unsigned flags) {
  note("cuEventCreate", "flags %u", flags);
  if (CUresult refused = usable(__func__)) {
    return refused;
  }
  *event = (CUevent)new Event{current_device(), !(flags & CU_EVENT_DISABLE_TIMING), nullptr, nullptr};
  return CUDA_SUCCESS;
}

CUresult cuEventDestroy_v2(CUevent event) {
  note("cuEventDestroy_v2");
  delete (Event *)event;
  return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent handle, CUstream stream) {
  note("cuEventRecord");
  if (CUresult refused = usable(__func__, stream)) {
    return refused;
  }
  auto *event = (Event *)handle;
  if (event->device != current_device()) {
    complain("cuEventRecord of device %d's event in a stream of device %d", event->device, current_device());
    return CUDA_ERROR_INVALID_HANDLE;
  }
  auto mark = std::make_shared<Mark>();
  std::lock_guard<std::recursive_mutex> hold(lock);
  event->stream = find(stream);
  event->mark = mark;
  enqueue(stream, [mark] {
    mark->reached = true;
    mark->time = std::chrono::steady_clock::now();
  });
  return CUDA_SUCCESS;
}

CUresult cuEventSynchronize(CUevent handle) {
  note("cuEventSynchronize");
  auto *event = (Event *)handle;
  reach(event->stream, event->mark);
  return CUDA_SUCCESS;
}

CUresult cuEventQuery(CUevent handle) {
  note("cuEventQuery");
  auto *event = (Event *)handle;
  std::lock_guard<std::recursive_mutex> hold(lock);
  if (reached(event->mark)) {
    return CUDA_SUCCESS;
  }
  advance(event->stream);
  return CUDA_ERROR_NOT_READY;
}

CUresult cuEventElapsedTime_v2(float *milliseconds, CUevent start, CUevent end) {
  note("cuEventElapsedTime_v2");
  auto *from = (Event *)start;
  auto *to = (Event *)end;
  if (!from->timed || !to->timed || !from->mark || !to->mark) {
    complain("cuEventElapsedTime of events that were not recorded, or were made without times");
    return CUDA_ERROR_INVALID_HANDLE;
  }
  if (!reached(from->mark) || !reached(to->mark)) {
    return CUDA_ERROR_NOT_READY;
  }
  *milliseconds = std::chrono::duration<float, std::milli>(to->mark->time - from->mark->time).count();
  return CUDA_SUCCESS;
}

#undef cuEventElapsedTime
CUresult cuEventElapsedTime(float *milliseconds, CUevent start, CUevent end) {
  return cuEventElapsedTime_v2(milliseconds, start, end);
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent handle, unsigned) {
  note("cuStreamWaitEvent");
  if (CUresult refused = usable(__func__, stream)) {
    return refused;
  }
  auto *event = (Event *)handle;
  Stream *other = event->stream;
  auto mark = event->mark;
  enqueue(stream, [other, mark] { reach(other, mark); });
  return CUDA_SUCCESS;
}

}
