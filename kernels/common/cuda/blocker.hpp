#pragma once

#include <atomic>

#include "common/cuda/device.hpp"
#include "common/cuda/kernels.hpp"

namespace microbench::cuda {

// Keeps a stream occupied while work is put into it, so that launch latency and the host's jitter stay
// outside what events measure.
class Blocker {
 public:
  Blocker() {
    MICROBENCH_CUDA(
        cudaHostAlloc(reinterpret_cast<void**>(&flags_), sizeof(BlockerFlags), cudaHostAllocMapped));
    *flags_ = {0, 0};
    MICROBENCH_CUDA(cudaHostGetDevicePointer(reinterpret_cast<void**>(&device_flags_), flags_, 0));
  }
  ~Blocker() { MICROBENCH_CUDA_NOEXCEPT(cudaFreeHost(flags_)); }
  Blocker(const Blocker&) = delete;  // the device writes to its flags
  Blocker& operator=(const Blocker&) = delete;

  void block(cudaStream_t stream) { enqueue_block(device_flags_, ++ticket_, kLimitNs, stream); }
  void release() noexcept {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    *const_cast<volatile std::uint64_t*>(&flags_->released) = ticket_;
  }
  // Whether the last block ended by itself; known once the stream has passed it.
  bool expired() const { return *const_cast<const volatile std::uint64_t*>(&flags_->expired) == ticket_; }

 private:
  // Longer than any launch takes, short beside the time limit of a record.
  static constexpr std::uint64_t kLimitNs = 500'000'000;
  BlockerFlags* flags_ = nullptr;
  BlockerFlags* device_flags_ = nullptr;
  std::uint64_t ticket_ = 0;
};

// A stream blocked until the end of a scope, whatever is thrown in it.
class Blocked {
 public:
  Blocked(Blocker* blocker, cudaStream_t stream) : blocker_(blocker) {
    if (blocker_ != nullptr) blocker_->block(stream);
  }
  ~Blocked() {
    if (blocker_ != nullptr) blocker_->release();
  }
  Blocked(const Blocked&) = delete;
  Blocked& operator=(const Blocked&) = delete;

 private:
  Blocker* blocker_;
};

}  // namespace microbench::cuda
