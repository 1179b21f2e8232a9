// NCCL between the threads or processes of one machine: a shared file, in which each rank has a slot.
// Ranks are taken in order, so that all of them get the same bits.
#include <fcntl.h>
#include <nccl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include "numbers.h"

namespace {

using namespace standin;

constexpr size_t SLOT = 1 << 20;
constexpr int RANKS = 16;
constexpr int SIGNATURE = 64;
constexpr auto PATIENCE = std::chrono::seconds(120);

struct Shared {
  std::atomic<int> arrived, round, aborted;
  char signatures[RANKS][SIGNATURE];  // what each rank called
};

size_t header() { return (sizeof(Shared) + 4095) / 4096 * 4096; }

}  // namespace

struct ncclComm {
  int rank, size, device;
  Shared *shared;
  char *slots;

  char *slot(int of) { return slots + of * SLOT; }
  bool meet();
};

// Waits for all ranks; false if one of them aborted, or did not come.
bool ncclComm::meet() {
  int round = shared->round;
  if (++shared->arrived == size) {
    shared->arrived = 0;
    shared->round++;
    return true;
  }
  auto end = std::chrono::steady_clock::now() + PATIENCE;
  while (shared->round == round) {
    if (std::chrono::steady_clock::now() > end) {
      complain("rank %d of %d waited in vain for the others", rank, size);
      shared->aborted = 1;
    }
    if (shared->aborted) {
      return false;
    }
    usleep(20);
  }
  return true;
}

namespace {

cudaDataType type_of(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
      return CUDA_R_8I;
    case ncclUint8:
      return CUDA_R_8U;
    case ncclInt32:
      return CUDA_R_32I;
    case ncclUint32:
      return CUDA_R_32U;
    case ncclInt64:
      return CUDA_R_64I;
    case ncclUint64:
      return CUDA_R_64U;
    case ncclFloat16:
      return CUDA_R_16F;
    case ncclBfloat16:
      return CUDA_R_16BF;
    case ncclFloat64:
      return CUDA_R_64F;
    default:
      return CUDA_R_32F;
  }
}

template <class T>
T combine(T a, T b, ncclRedOp_t operation) {
  switch (operation) {
    case ncclProd:
      return a * b;
    case ncclMax:
      return a > b ? a : b;
    case ncclMin:
      return a < b ? a : b;
    default:
      return a + b;
  }
}

// Combines the ranks' slots, floating-point numbers in f64.
template <class Number>
void reduce(ncclComm *comm, size_t count, ncclRedOp_t operation, Number *to) {
  using Sum = std::conditional_t<std::is_integral_v<Number>, Number, double>;
  for (size_t i = 0; i < count; i++) {
    Sum sum = number<Sum>(((Number *)comm->slot(0))[i]);
    for (int rank = 1; rank < comm->size; rank++) {
      sum = combine(sum, number<Sum>(((Number *)comm->slot(rank))[i]), operation);
    }
    to[i] = number<Number>(operation == ncclAvg ? (Sum)(sum / comm->size) : sum);
  }
}

struct Collective {
  const char *name;
  const void *from;
  void *to;        // null if this rank gets nothing
  size_t bytes;    // of each rank
  size_t result;   // bytes that this rank gets
  cudaDataType type;
  ncclRedOp_t operation;
  int root;
  CUstream stream;
  // Takes what this rank gets of the pieces in the slots, which start at `at` and have `size` bytes.
  std::function<void(size_t at, size_t size, char *result)> take;
};

// Whether all ranks call the same.
bool agree(ncclComm *comm, const Collective &c) {
  char *mine = comm->shared->signatures[comm->rank];
  snprintf(mine, SIGNATURE, "%s %zu %d %d %d", c.name, c.bytes, (int)c.type, (int)c.operation, c.root);
  if (!comm->meet()) {
    return false;
  }
  for (int rank = 0; rank < comm->size; rank++) {
    const char *other = comm->shared->signatures[rank];
    if (strcmp(mine, other)) {
      complain("rank %d calls \"%s\", and rank %d \"%s\"", comm->rank, mine, rank, other);
      comm->shared->aborted = 1;
      return false;
    }
  }
  return true;
}

bool is_in_memory(const Collective &c) {
  return is_live(c.from, c.bytes) && (!c.to || is_live(c.to, c.result));
}

// The ranks' numbers meet during the call; the result comes when the stream gets there.
ncclResult_t communicate(ncclComm *comm, const Collective &c) {
  if (usable(c.name, c.stream) || (c.bytes && !is_in_memory(c))) {
    complain("%s: its stream or its memory is not the current device's", c.name);
    return ncclInvalidArgument;
  }
  finish(c.stream);
  auto result = std::make_shared<std::vector<char>>(c.result);
  if (!agree(comm, c)) {
    return ncclRemoteError;
  }
  for (size_t at = 0; at < c.bytes; at += SLOT) {
    size_t size = std::min(SLOT, c.bytes - at);
    memcpy(comm->slot(comm->rank), (const char *)c.from + at, size);
    if (!comm->meet()) {
      return ncclRemoteError;
    }
    if (c.to) {
      c.take(at, size, result->data());
    }
    if (!comm->meet()) {
      return ncclRemoteError;
    }
  }
  void *to = c.to;
  if (to && !settings().null) {
    enqueue(c.stream, [=] { memcpy(to, result->data(), result->size()); });
  }
  return ncclSuccess;
}

// Between ncclGroupStart and ncclGroupEnd, calls wait for the end.
thread_local int depth;
thread_local std::vector<std::function<ncclResult_t()>> group;

ncclResult_t submit(ncclComm *comm, const Collective &c) {
  note(c.name, "%zu bytes", c.bytes);
  if (depth) {
    group.push_back([comm, c] { return communicate(comm, c); });
    return ncclSuccess;
  }
  return communicate(comm, c);
}

bool is_reduction(ncclRedOp_t operation) {
  if (operation >= ncclSum && operation <= ncclAvg) {
    return true;
  }
  complain("reductions by operation %d are not supported", (int)operation);
  return false;
}

// A reduction of all ranks' numbers, of which this rank gets `result` bytes that start at `offset`.
ncclResult_t reduction(const char *name, ncclComm *comm, const void *from, void *to, size_t bytes, size_t result,
                       size_t offset, cudaDataType type, ncclRedOp_t operation, int root, CUstream stream) {
  if (!is_reduction(operation)) {
    return ncclInvalidArgument;
  }
  auto take = [=](size_t at, size_t size, char *into) {
    std::vector<char> all(size);
    with_type(type, [&](auto *typed) { reduce(comm, size / width(type), operation, (decltype(typed))all.data()); });
    size_t first = std::max(at, offset);
    size_t end = std::min(at + size, offset + result);
    if (first < end) {
      memcpy(into + first - offset, all.data() + first - at, end - first);
    }
  };
  return submit(comm, {name, from, to, bytes, result, type, operation, root, stream, take});
}

// The shared memory behind an identifier, made by who comes first.
char *map(const ncclUniqueId &id, int ranks) {
  int file = shm_open(id.internal, O_CREAT | O_RDWR, 0600);
  if (file < 0) {
    return nullptr;
  }
  size_t size = header() + ranks * SLOT;
  void *at = ftruncate(file, size) ? MAP_FAILED : mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  return at == MAP_FAILED ? nullptr : (char *)at;
}

void destroy(ncclComm *comm) {
  munmap(comm->shared, header() + comm->size * SLOT);
  delete comm;
}

}  // namespace

extern "C" {

ncclResult_t ncclGetVersion(int *version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t) { return "an error of the stand-in for NCCL"; }

const char *ncclGetLastError(ncclComm_t) { return ""; }

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
  static std::atomic<int> made;
  *id = {};
  long now = std::chrono::steady_clock::now().time_since_epoch().count();
  snprintf(id->internal, sizeof id->internal, "/standin-nccl-%d-%d-%ld", getpid(), made++, now);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t *result, int size, ncclUniqueId id, int rank) {
  note("ncclCommInitRank", "%d of %d", rank, size);
  if (usable(__func__) || size < 1 || size > RANKS || rank < 0 || rank >= size) {
    complain("ncclCommInitRank of rank %d of %d; there can be %d ranks", rank, size, RANKS);
    return ncclInvalidArgument;
  }
  char *at = map(id, size);
  if (!at) {
    complain("no shared memory for NCCL");
    return ncclSystemError;
  }
  auto *comm = new ncclComm{rank, size, current_device(), (Shared *)at, at + header()};
  if (!comm->meet()) {
    destroy(comm);
    return ncclRemoteError;
  }
  if (rank == 0) {
    shm_unlink(id.internal);
  }
  *result = comm;
  return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  note("ncclCommDestroy");
  destroy(comm);
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  note("ncclCommAbort");
  // The memory stays, because a rank of this process may still look at it.
  comm->shared->aborted = 1;
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t) { return ncclSuccess; }

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error) {
  *error = comm->shared->aborted ? ncclRemoteError : ncclSuccess;
  return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int *count) {
  *count = comm->size;
  return ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *rank) {
  *rank = comm->rank;
  return ncclSuccess;
}

ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int *device) {
  *device = comm->device;
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  note("ncclGroupStart");
  depth++;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  note("ncclGroupEnd");
  if (!depth) {
    complain("ncclGroupEnd without ncclGroupStart");
    return ncclInvalidUsage;
  }
  if (--depth) {
    return ncclSuccess;
  }
  auto calls = std::move(group);
  group.clear();
  for (auto &call : calls) {
    if (ncclResult_t failed = call()) {
      return failed;
    }
  }
  return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t operation,
                           ncclComm_t comm, cudaStream_t stream) {
  size_t bytes = count * width(type_of(type));
  return reduction(__func__, comm, from, to, bytes, bytes, 0, type_of(type), operation, 0, stream);
}

ncclResult_t ncclReduce(const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t operation,
                        int root, ncclComm_t comm, cudaStream_t stream) {
  size_t bytes = count * width(type_of(type));
  void *mine = comm->rank == root ? to : nullptr;
  return reduction(__func__, comm, from, mine, bytes, bytes, 0, type_of(type), operation, root, stream);
}

ncclResult_t ncclReduceScatter(const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t operation,
                               ncclComm_t comm, cudaStream_t stream) {
  size_t share = count * width(type_of(type));
  return reduction(__func__, comm, from, to, share * comm->size, share, share * comm->rank, type_of(type), operation,
                   0, stream);
}

ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  size_t bytes = count * width(type_of(type));
  auto take = [=](size_t at, size_t size, char *into) {
    for (int rank = 0; rank < comm->size; rank++) {
      memcpy(into + rank * bytes + at, comm->slot(rank), size);
    }
  };
  return submit(comm, {__func__, from, to, bytes, bytes * comm->size, type_of(type), ncclSum, 0, stream, take});
}

ncclResult_t ncclBroadcast(const void *from, void *to, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                           cudaStream_t stream) {
  size_t bytes = count * width(type_of(type));
  auto take = [=](size_t at, size_t size, char *into) { memcpy(into + at, comm->slot(root), size); };
  const void *mine = comm->rank == root ? from : to;
  return submit(comm, {__func__, mine, to, bytes, bytes, type_of(type), ncclSum, root, stream, take});
}

}
