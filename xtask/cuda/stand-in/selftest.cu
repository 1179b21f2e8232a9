// Kernels of the stand-in's test of itself, some of them with the mistakes that it has to find.

extern "C" __global__ void scale(unsigned count, float factor, const float *from, float *to) {
  unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) {
    to[i] = factor * from[i];
  }
}

// Differences of neighbors through shared memory.
extern "C" __global__ void differences(const float *from, float *to) {
  __shared__ float values[256];
  values[threadIdx.x] = from[threadIdx.x];
  __syncthreads();
  to[threadIdx.x] = threadIdx.x ? values[threadIdx.x] - values[threadIdx.x - 1] : 0;
}

extern "C" __global__ void differences_without_barrier(const float *from, float *to) {
  __shared__ float values[256];
  values[threadIdx.x] = from[threadIdx.x];
  to[threadIdx.x] = threadIdx.x ? values[threadIdx.x] - values[threadIdx.x - 1] : 0;
}

// The block's sum, by shuffles and dynamic shared memory.
extern "C" __global__ void sum(const float *from, float *to) {
  extern __shared__ float warps[];
  float value = from[threadIdx.x];
  for (int distance = 16; distance; distance /= 2) {
    value += __shfl_down_sync(~0u, value, distance);
  }
  if (threadIdx.x % 32 == 0) {
    warps[threadIdx.x / 32] = value;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    float all = 0;
    for (unsigned warp = 0; warp < blockDim.x / 32; warp++) {
      all += warps[warp];
    }
    *to = all;
  }
}

// Threads below `limit` wait at one barrier, the others at another one.
extern "C" __global__ void two_barriers(unsigned limit, float *to) {
  if (threadIdx.x < limit) {
    __syncthreads();
    to[threadIdx.x] = 1;
  } else {
    to[threadIdx.x] = 2;
    __syncthreads();
  }
}

extern "C" __global__ void __launch_bounds__(64) small_blocks(float *to) { to[threadIdx.x] = 1; }
