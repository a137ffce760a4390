#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "common/cuda/error.hpp"
#include "common/harness.hpp"

namespace microbench::cuda {

// Memory of the device: a workspace, a reserve space. Throws OutOfMemory. Contents are undefined.
class Memory {
 public:
  explicit Memory(std::int64_t bytes) : bytes_(bytes) {
    if (bytes > 0) MICROBENCH_CUDA(cudaMalloc(&data_, static_cast<std::size_t>(bytes)));
  }
  ~Memory() { MICROBENCH_CUDA_NOEXCEPT(cudaFree(data_)); }
  Memory(const Memory&) = delete;  // owns what it points to
  Memory& operator=(const Memory&) = delete;

  std::int64_t bytes() const { return bytes_; }
  void* data() { return data_; }
  const void* data() const { return data_; }
  void swap(Memory& other) noexcept {
    std::swap(bytes_, other.bytes_);
    std::swap(data_, other.data_);
  }

 private:
  std::int64_t bytes_;
  void* data_ = nullptr;
};

class Stream {
 public:
  Stream() { MICROBENCH_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~Stream() { MICROBENCH_CUDA_NOEXCEPT(cudaStreamDestroy(stream_)); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  operator cudaStream_t() const { return stream_; }
  void synchronize() const { MICROBENCH_CUDA(cudaStreamSynchronize(stream_)); }

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  Event() { MICROBENCH_CUDA(cudaEventCreate(&event_)); }
  ~Event() { MICROBENCH_CUDA_NOEXCEPT(cudaEventDestroy(event_)); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record(cudaStream_t stream) { MICROBENCH_CUDA(cudaEventRecord(event_, stream)); }
  void synchronize() const { MICROBENCH_CUDA(cudaEventSynchronize(event_)); }
  double seconds_since(const Event& start) const {
    float milliseconds = 0;
    MICROBENCH_CUDA(cudaEventElapsedTime(&milliseconds, start.event_, event_));
    return 1e-3 * static_cast<double>(milliseconds);
  }

 private:
  cudaEvent_t event_ = nullptr;
};

// One operand: memory of the device, and of the host, where Python fills and checks it. data() may change
// between launches (cold samples rotate through copies of the inputs): take it anew in every enqueue().
class Buffer {
 public:
  Buffer(ElementType type, std::int64_t elements) : host_(type, elements), device_(host_.bytes()) {}

  ElementType type() const { return host_.type(); }
  std::int64_t elements() const { return host_.elements(); }
  std::int64_t bytes() const { return host_.bytes(); }
  void* data() { return device_.data(); }
  template <typename T>
  T* as() {
    return static_cast<T*>(data());
  }

  microbench::Buffer& host() { return host_; }
  Memory& device() { return device_; }
  void upload(cudaStream_t stream) {
    MICROBENCH_CUDA(cudaMemcpyAsync(device_.data(), host_.data(), static_cast<std::size_t>(bytes()),
                                    cudaMemcpyHostToDevice, stream));
  }
  void download(cudaStream_t stream) {
    MICROBENCH_CUDA(cudaMemcpyAsync(host_.data(), device_.data(), static_cast<std::size_t>(bytes()),
                                    cudaMemcpyDeviceToHost, stream));
  }

 private:
  microbench::Buffer host_;
  Memory device_;
};

// 100 x major + 10 x minor compute capability of the current device: 900 for Hopper.
inline int compute_capability() {
  int device = 0, major = 0, minor = 0;
  MICROBENCH_CUDA(cudaGetDevice(&device));
  MICROBENCH_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  MICROBENCH_CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  return 100 * major + 10 * minor;
}

}  // namespace microbench::cuda
