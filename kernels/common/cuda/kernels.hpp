#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

// What runs on the device beside the libraries' kernels: each function puts one kernel into the stream and
// does nothing else. Counted in 16-byte words, so that every access is as wide as it can be.
namespace microbench::cuda {

// Shared by host and device. Tickets only grow, so that an early or late release does no harm.
struct BlockerFlags {
  std::uint64_t released;  // the host lets every block with a ticket up to this one end
  std::uint64_t expired;   // the last ticket that was not released within its limit
};

// Occupies the stream until the host releases `ticket`, or for `limit_ns`.
void enqueue_block(BlockerFlags* flags, std::uint64_t ticket, std::uint64_t limit_ns, cudaStream_t stream);

struct ClockReading {
  std::uint64_t cycles;
  std::uint64_t nanoseconds;
};

// Counts the cycles of one multiprocessor during `duration_ns`.
void enqueue_clock(std::uint64_t duration_ns, ClockReading* reading, cudaStream_t stream);

// Writes `value` into every word; reads every word `passes` times through the L2 cache; copies.
void enqueue_write(void* words, std::int64_t count, std::uint32_t value, cudaStream_t stream);
void enqueue_read(const void* words, std::int64_t count, int passes, std::uint32_t* sink,
                  cudaStream_t stream);
void enqueue_copy(void* to, const void* from, std::int64_t count, cudaStream_t stream);

// Independent chains of fused multiply-adds; the operations are those of fma_operations().
void enqueue_fma_fp32(std::int64_t iterations, int blocks, float* sink, cudaStream_t stream);
void enqueue_fma_fp64(std::int64_t iterations, int blocks, double* sink, cudaStream_t stream);

constexpr int kThreads = 256;
constexpr int kFmaChains = 8;
// Operations of `blocks` blocks of the multiply-add kernels: a multiply-add is two.
constexpr double fma_operations(std::int64_t iterations, int blocks) {
  return 2.0 * kFmaChains * kThreads * static_cast<double>(blocks) * static_cast<double>(iterations);
}

}  // namespace microbench::cuda
