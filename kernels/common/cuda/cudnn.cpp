#include "common/cuda/cudnn.hpp"

#include <algorithm>
#include <vector>

namespace microbench::cuda {

const Library& cudnn(const std::string& path) {
  static const Library library(
      std::vector<std::string>{path.empty() ? "libcudnn.so." + std::to_string(CUDNN_MAJOR) : path});
  return library;
}

std::map<std::string, std::string> describe_cudnn(const std::string& path) {
  auto* version = cudnn(path).require<decltype(::cudnnGetVersion)>("cudnnGetVersion");
  const std::size_t number = version();  // 91200 is 9.12.0
  return {{"version", std::to_string(number / 10000) + "." + std::to_string(number / 100 % 100) + "." +
                          std::to_string(number % 100)},
          {"path", path_of(reinterpret_cast<const void*>(version))}};
}

Failure failure_of(cudnnStatus_t status) {
  // Statuses come in groups of a thousand: 2000 bad parameters, 3000 not supported, 4000 internal, 5000
  // execution.
  if (status == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ||
      status == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED) {
    return Failure::out_of_memory;
  }
  const int group = CUDNN_STATUS_CATEGORY(static_cast<int>(status));
  return group == CUDNN_STATUS_NOT_SUPPORTED || group == CUDNN_STATUS_BAD_PARAM ? Failure::unsupported
                                                                                : Failure::broken;
}

std::string describe(cudnnStatus_t status) {
  // What cuDNN says of its last error is more than the status.
  constexpr std::size_t kLength = 1024;
  char message[kLength] = {};
  MICROBENCH_SYMBOL(cudnn(), cudnnGetLastErrorString)(message, kLength - 1);
  std::string reason = message;
  std::replace(reason.begin(), reason.end(), '\n', ' ');
  const std::string name = MICROBENCH_SYMBOL(cudnn(), cudnnGetErrorString)(status);
  return reason.empty() ? name : name + ": " + reason;
}

}  // namespace microbench::cuda
