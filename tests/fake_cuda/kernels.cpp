// What kernels/common/cuda/kernels.cu does, on host memory.

#include "common/cuda/kernels.hpp"

#include <cstring>

#include "common/cuda/error.hpp"
#include "runtime.hpp"

namespace microbench::cuda {
namespace {

constexpr std::int64_t kWord = 16;

double seconds_of(std::int64_t words) { return static_cast<double>(kWord * words) / fake::kBytesPerS; }

// Launching a kernel reports whatever failed before and was not asked for.
void launched() { MICROBENCH_CUDA(cudaGetLastError()); }

}  // namespace

void enqueue_block(BlockerFlags* flags, std::uint64_t ticket, std::uint64_t limit_ns, cudaStream_t stream) {
  fake::block(stream, flags, ticket, limit_ns);
  launched();
}

void enqueue_clock(std::uint64_t duration_ns, ClockReading* reading, cudaStream_t stream) {
  stream->run(1e-9 * static_cast<double>(duration_ns), [=] {
    *reading = {static_cast<std::uint64_t>(1e-9 * fake::kSmClockHz * static_cast<double>(duration_ns)),
                duration_ns};
  });
  launched();
}

void enqueue_write(void* words, std::int64_t count, std::uint32_t value, cudaStream_t stream) {
  stream->run(seconds_of(count),
              [=] { std::memset(words, static_cast<int>(value), static_cast<std::size_t>(kWord * count)); });
  launched();
}

void enqueue_read(const void*, std::int64_t count, int passes, std::uint32_t*, cudaStream_t stream) {
  stream->run(passes * seconds_of(count), [] {});
  launched();
}

void enqueue_copy(void* to, const void* from, std::int64_t count, cudaStream_t stream) {
  stream->run(2 * seconds_of(count), [=] { std::memcpy(to, from, static_cast<std::size_t>(kWord * count)); });
  launched();
}

void enqueue_fma_fp32(std::int64_t iterations, int blocks, float*, cudaStream_t stream) {
  stream->run(fma_operations(iterations, blocks) / fake::kFlopsPerS, [] {});
  launched();
}

void enqueue_fma_fp64(std::int64_t iterations, int blocks, double*, cudaStream_t stream) {
  stream->run(fma_operations(iterations, blocks) / (fake::kFlopsPerS / 2), [] {});
  launched();
}

}  // namespace microbench::cuda
