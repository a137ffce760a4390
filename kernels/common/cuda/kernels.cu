#include "common/cuda/error.hpp"
#include "common/cuda/kernels.hpp"

namespace microbench::cuda {
namespace {

constexpr int kInFlight = 4;  // more would cost registers, and so threads

__device__ std::uint64_t nanoseconds() {
  std::uint64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}

__global__ void block(volatile BlockerFlags* flags, std::uint64_t ticket, std::uint64_t limit_ns) {
  const std::uint64_t start = nanoseconds();
  while (flags->released < ticket) {
    // Whoever launches may wait for the device, or for room in its queue, and would wait for ever.
    if (nanoseconds() - start > limit_ns) {
      flags->expired = ticket;
      return;
    }
  }
}

__global__ void clock(std::uint64_t duration_ns, ClockReading* reading) {
  // Begins at a tick of the timer, which may move in steps of a microsecond.
  const std::uint64_t before = nanoseconds();
  std::uint64_t start = before;
  while (start == before) start = nanoseconds();
  const auto first = static_cast<std::uint64_t>(clock64());
  std::uint64_t now = start;
  while (now - start < duration_ns) now = nanoseconds();
  reading->cycles = static_cast<std::uint64_t>(clock64()) - first;
  reading->nanoseconds = now - start;
}

__global__ void write(uint4* words, std::int64_t count, uint4 value) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += step) {
    words[i] = value;
  }
}

// Loads `kInFlight` words of `words` at a time, past the L1 cache, before it calls use(index, word) with
// each: one load after another would leave memory waiting for the threads.
template <typename Use>
__device__ void read_all(const uint4* __restrict__ words, std::int64_t count, Use use) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads;
  std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  for (; i + (kInFlight - 1) * step < count; i += kInFlight * step) {
    uint4 loaded[kInFlight];
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) loaded[j] = __ldcg(words + i + j * step);
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) use(i + j * step, loaded[j]);
  }
  for (; i < count; i += step) use(i, __ldcg(words + i));
}

__global__ void read(const uint4* words, std::int64_t count, int passes, std::uint32_t* sink) {
  std::uint32_t sum = 0;
  for (int pass = 0; pass < passes; ++pass) {
    read_all(words, count,
             [&sum](std::int64_t, const uint4& word) { sum += word.x ^ word.y ^ word.z ^ word.w; });
  }
  if (sum == 0x9e3779b9u) *sink = sum;  // so that nothing is elided
}

__global__ void copy(uint4* to, const uint4* from, std::int64_t count) {
  read_all(from, count, [to](std::int64_t i, const uint4& word) { to[i] = word; });
}

template <typename T>
__global__ void fma_chains(std::int64_t iterations, T factor, T* sink) {
  T sums[kFmaChains];
#pragma unroll
  for (int chain = 0; chain < kFmaChains; ++chain) sums[chain] = static_cast<T>(chain + threadIdx.x + 1);
  // Values that stay normal numbers: the fixed point of 0.5 x + 1 is 2.
#pragma unroll 16
  for (std::int64_t i = 0; i < iterations; ++i) {
#pragma unroll
    for (int chain = 0; chain < kFmaChains; ++chain) sums[chain] = sums[chain] * factor + static_cast<T>(1);
  }
  T total = 0;
#pragma unroll
  for (int chain = 0; chain < kFmaChains; ++chain) total += sums[chain];
  if (total == static_cast<T>(-1)) *sink = total;  // so that nothing is elided
}

// Enough blocks to fill every multiprocessor; more would only queue.
int blocks_for(std::int64_t count) {
  int device = 0, processors = 0;
  MICROBENCH_CUDA(cudaGetDevice(&device));
  MICROBENCH_CUDA(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
  const std::int64_t needed = (count + kThreads - 1) / kThreads;
  const std::int64_t filling = 8LL * processors;
  return static_cast<int>(needed < filling ? needed : filling);
}

}  // namespace

void enqueue_block(BlockerFlags* flags, std::uint64_t ticket, std::uint64_t limit_ns, cudaStream_t stream) {
  block<<<1, 1, 0, stream>>>(flags, ticket, limit_ns);
  MICROBENCH_CUDA(cudaGetLastError());
}

void enqueue_clock(std::uint64_t duration_ns, ClockReading* reading, cudaStream_t stream) {
  clock<<<1, 1, 0, stream>>>(duration_ns, reading);
  MICROBENCH_CUDA(cudaGetLastError());
}

void enqueue_write(void* words, std::int64_t count, std::uint32_t value, cudaStream_t stream) {
  write<<<blocks_for(count), kThreads, 0, stream>>>(static_cast<uint4*>(words), count,
                                                    uint4{value, value, value, value});
  MICROBENCH_CUDA(cudaGetLastError());
}

void enqueue_read(const void* words, std::int64_t count, int passes, std::uint32_t* sink,
                  cudaStream_t stream) {
  read<<<blocks_for(count), kThreads, 0, stream>>>(static_cast<const uint4*>(words), count, passes, sink);
  MICROBENCH_CUDA(cudaGetLastError());
}

void enqueue_copy(void* to, const void* from, std::int64_t count, cudaStream_t stream) {
  copy<<<blocks_for(count), kThreads, 0, stream>>>(static_cast<uint4*>(to), static_cast<const uint4*>(from),
                                                   count);
  MICROBENCH_CUDA(cudaGetLastError());
}

void enqueue_fma_fp32(std::int64_t iterations, int blocks, float* sink, cudaStream_t stream) {
  fma_chains<float><<<blocks, kThreads, 0, stream>>>(iterations, 0.5F, sink);
  MICROBENCH_CUDA(cudaGetLastError());
}

void enqueue_fma_fp64(std::int64_t iterations, int blocks, double* sink, cudaStream_t stream) {
  fma_chains<double><<<blocks, kThreads, 0, stream>>>(iterations, 0.5, sink);
  MICROBENCH_CUDA(cudaGetLastError());
}

}  // namespace microbench::cuda
