#pragma once

#include <cublasLt.h>
#include <cublas_v2.h>

#include <map>
#include <string>

#include "common/cuda/error.hpp"
#include "common/harness.hpp"
#include "common/library.hpp"

namespace microbench::cuda {

// The libraries, loaded at the first call from `path` (empty: by their versioned names). A process uses one
// copy of each. Throws Unsupported with the paths tried.
const Library& cublaslt(const std::string& path = "");
const Library& cublas(const std::string& path = "");

std::map<std::string, std::string> describe_cublaslt(const std::string& path);
std::map<std::string, std::string> describe_cublas(const std::string& path);

inline bool succeeded(cublasStatus_t status) { return status == CUBLAS_STATUS_SUCCESS; }
Failure failure_of(cublasStatus_t status);
std::string describe(cublasStatus_t status);
inline void check(cublasStatus_t status, const char* call) {
  if (!succeeded(status)) fail_call(failure_of(status), call, describe(status));
}

cudaDataType_t data_type(ElementType type);

}  // namespace microbench::cuda

// MICROBENCH_CUBLASLT(cublasLtCreate, &handle): calls the function in the library loaded at run time and
// throws where it fails.
#define MICROBENCH_CUBLASLT(function, ...)                                                            \
  ::microbench::cuda::check(MICROBENCH_SYMBOL(::microbench::cuda::cublaslt(), function)(__VA_ARGS__), \
                            #function)
#define MICROBENCH_CUBLASLT_NOEXCEPT(function, ...) \
  ::microbench::cuda::check_noexcept(               \
      MICROBENCH_SYMBOL(::microbench::cuda::cublaslt(), function)(__VA_ARGS__), #function)
#define MICROBENCH_CUBLAS(function, ...) \
  ::microbench::cuda::check(MICROBENCH_SYMBOL(::microbench::cuda::cublas(), function)(__VA_ARGS__), #function)
#define MICROBENCH_CUBLAS_NOEXCEPT(function, ...)                                                            \
  ::microbench::cuda::check_noexcept(MICROBENCH_SYMBOL(::microbench::cuda::cublas(), function)(__VA_ARGS__), \
                                     #function)
