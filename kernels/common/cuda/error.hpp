#pragma once

#include <cuda_runtime_api.h>

#include <cstdio>
#include <new>
#include <stdexcept>
#include <string>

#include "common/error.hpp"

namespace microbench::cuda {

// The device's memory does not suffice: recorded as `out_of_memory`.
class OutOfMemory : public std::bad_alloc {
 public:
  explicit OutOfMemory(std::string message) : message_(std::move(message)) {}
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

// What a failed call means: too little memory is out_of_memory, what the device or the library does not offer
// is unsupported; all else leaves the device in doubt: the worker ends, and the record says `crashed`.
enum class Failure { out_of_memory, unsupported, broken };

[[noreturn]] inline void fail(Failure failure, const std::string& message) {
  switch (failure) {
    case Failure::out_of_memory:
      throw OutOfMemory(message);
    case Failure::unsupported:
      throw Unsupported(message);
    case Failure::broken:
      break;
  }
  throw std::runtime_error(message);
}

inline Failure failure_of(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
      return Failure::out_of_memory;
    case cudaErrorNotSupported:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorInsufficientDriver:
    case cudaErrorNoDevice:
    case cudaErrorStreamCaptureUnsupported:
    case cudaErrorStreamCaptureImplicit:
      return Failure::unsupported;
    default:
      return Failure::broken;
  }
}

inline std::string describe(cudaError_t error) {
  return std::string(cudaGetErrorName(error)) + " (" + cudaGetErrorString(error) + ")";
}
inline bool succeeded(cudaError_t error) { return error == cudaSuccess; }

[[noreturn]] inline void fail_call(Failure failure, const std::string& call, const std::string& why) {
  fail(failure, call.substr(0, call.find('(')) + ": " + why);
}

// Throws where a call failed; each library's header overloads it. What a destructor calls may only report.
inline void check(cudaError_t error, const char* call) {
  if (succeeded(error)) return;
  cudaGetLastError();  // or the next kernel's launch would report it once more
  fail_call(failure_of(error), call, describe(error));
}

template <typename Status>
void check_noexcept(Status status, const char* call) noexcept {
  const int number = static_cast<int>(status);  // 0 is success in every library
  if (number != 0) std::fprintf(stderr, "microbench: %s failed (status %d)\n", call, number);
}

}  // namespace microbench::cuda

#define MICROBENCH_CUDA(call) ::microbench::cuda::check((call), #call)
#define MICROBENCH_CUDA_NOEXCEPT(call) ::microbench::cuda::check_noexcept((call), #call)
