#pragma once

#include <cudnn.h>

#include <map>
#include <string>

#include "common/cuda/error.hpp"
#include "common/harness.hpp"
#include "common/library.hpp"

namespace microbench::cuda {

// cuDNN, loaded at the first call from `path` (empty: by its versioned name). A process uses one copy. Throws
// Unsupported with the paths tried.
const Library& cudnn(const std::string& path = "");

std::map<std::string, std::string> describe_cudnn(const std::string& path);

inline bool succeeded(cudnnStatus_t status) { return status == CUDNN_STATUS_SUCCESS; }
Failure failure_of(cudnnStatus_t status);
std::string describe(cudnnStatus_t status);
inline void check(cudnnStatus_t status, const char* call) {
  if (!succeeded(status)) fail_call(failure_of(status), call, describe(status));
}

}  // namespace microbench::cuda

// MICROBENCH_CUDNN(cudnnCreate, &handle): calls the function in the library loaded at run time and throws
// where it fails; MICROBENCH_CUDNN_STATUS hands the status back instead.
#define MICROBENCH_CUDNN_STATUS(function, ...) \
  MICROBENCH_SYMBOL(::microbench::cuda::cudnn(), function)(__VA_ARGS__)
#define MICROBENCH_CUDNN(function, ...) \
  ::microbench::cuda::check(MICROBENCH_CUDNN_STATUS(function, __VA_ARGS__), #function)
#define MICROBENCH_CUDNN_NOEXCEPT(function, ...) \
  ::microbench::cuda::check_noexcept(MICROBENCH_CUDNN_STATUS(function, __VA_ARGS__), #function)
