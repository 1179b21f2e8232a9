// cuRAND: other numbers than those of a card, of the same distributions.
#include <curand.h>
#include <random>
#include "standin.h"

namespace {

using namespace standin;

struct Generator {
  CUstream stream = nullptr;
  std::mt19937_64 engine;
};

// Fills `count` numbers when the stream gets there.
template <class T, class Draw>
curandStatus_t fill(const char *function, curandGenerator_t handle, T *to, size_t count, Draw draw) {
  note(function, "%zu numbers", count);
  if (count && !is_live(to, count * sizeof(T))) {
    complain("%s: %zu numbers at %p are not within one live allocation", function, count, (void *)to);
    return CURAND_STATUS_LAUNCH_FAILURE;
  }
  if (settings().null) {
    return CURAND_STATUS_SUCCESS;
  }
  auto *generator = (Generator *)handle;
  enqueue(generator->stream, [=]() mutable {
    for (size_t i = 0; i < count; i++) {
      to[i] = draw(generator->engine);
    }
  });
  return CURAND_STATUS_SUCCESS;
}

// Numbers in (0, 1], as cuRAND's.
template <class T>
curandStatus_t uniform(const char *function, curandGenerator_t generator, T *to, size_t count) {
  std::uniform_real_distribution<T> from;
  return fill(function, generator, to, count, [from](auto &engine) mutable { return 1 - from(engine); });
}

// cuRAND makes these numbers in pairs, and refuses odd counts.
template <class T>
curandStatus_t normal(const char *function, curandGenerator_t generator, T *to, size_t count, T mean, T deviation) {
  if (count % 2) {
    complain("%s of an odd count of numbers, %zu", function, count);
    return CURAND_STATUS_LENGTH_NOT_MULTIPLE;
  }
  std::normal_distribution<T> from(mean, deviation);
  return fill(function, generator, to, count, [from](auto &engine) mutable { return from(engine); });
}

}  // namespace

extern "C" {

curandStatus_t curandCreateGenerator(curandGenerator_t *generator, curandRngType_t) {
  note("curandCreateGenerator");
  *generator = (curandGenerator_t) new Generator;
  return CURAND_STATUS_SUCCESS;
}

curandStatus_t curandDestroyGenerator(curandGenerator_t handle) {
  auto *generator = (Generator *)handle;
  // Its work may not be done yet.
  finish(generator->stream);
  delete generator;
  return CURAND_STATUS_SUCCESS;
}

curandStatus_t curandSetPseudoRandomGeneratorSeed(curandGenerator_t handle, unsigned long long seed) {
  note("curandSetPseudoRandomGeneratorSeed");
  auto *generator = (Generator *)handle;
  enqueue(generator->stream, [=] { generator->engine.seed(seed); });
  return CURAND_STATUS_SUCCESS;
}

curandStatus_t curandSetGeneratorOffset(curandGenerator_t handle, unsigned long long offset) {
  note("curandSetGeneratorOffset");
  auto *generator = (Generator *)handle;
  enqueue(generator->stream, [=] { generator->engine.discard(offset); });
  return CURAND_STATUS_SUCCESS;
}

curandStatus_t curandSetStream(curandGenerator_t generator, cudaStream_t stream) {
  note("curandSetStream");
  ((Generator *)generator)->stream = stream;
  return CURAND_STATUS_SUCCESS;
}

curandStatus_t curandGenerateUniform(curandGenerator_t generator, float *to, size_t count) {
  return uniform(__func__, generator, to, count);
}

curandStatus_t curandGenerateUniformDouble(curandGenerator_t generator, double *to, size_t count) {
  return uniform(__func__, generator, to, count);
}

curandStatus_t curandGenerateNormal(curandGenerator_t generator, float *to, size_t count, float mean,
                                    float deviation) {
  return normal(__func__, generator, to, count, mean, deviation);
}

curandStatus_t curandGenerateNormalDouble(curandGenerator_t generator, double *to, size_t count, double mean,
                                          double deviation) {
  return normal(__func__, generator, to, count, mean, deviation);
}

}
