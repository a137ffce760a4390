// This project's own convolutions, fp32 (or fp16 in memory).

#include <array>
#include <string_view>

#include "conv/microbench.hpp"

#include "common/half.hpp"
#include "common/openblas.hpp"
#include "common/registry.hpp"
#include "conv/microbatch.hpp"
#include "conv/vector.hpp"

namespace microbench::conv {
namespace {

struct Algorithm {
  std::string_view name;
  std::unique_ptr<Harness> (*open)(const Request&, const Place*);
};

// "auto" is the first.
constexpr std::array<Algorithm, 6> kAlgorithms{{{"im2col", open_im2col},
                                                {"implicit_gemm", open_implicit_gemm},
                                                {"winograd_2x2", open_winograd},
                                                {"winograd_4x4", open_winograd},
                                                {"fft", open_fft},
                                                {"fft_tiled", open_fft}}};

std::unique_ptr<Harness> open_part(const Request& request, const Place* place) {
  for (const Algorithm& algorithm : kAlgorithms) {
    if (request.algorithm == "auto" || request.algorithm == algorithm.name) {
      return algorithm.open(request, place);
    }
  }
  throw Unsupported("microbench has no convolution algorithm '" + request.algorithm + "'");
}

std::unique_ptr<Harness> open(const Request& request) {
  if (request.precision == "fp16_in_fp32_math") return fp16_in_fp32_math(request, open);
  if (request.precision != "fp32") {
    throw Unsupported("microbench's own convolutions have fp32 and fp16_in_fp32_math, not " +
                      request.precision);
  }
  if (is_division(request.algorithm)) {
    return std::make_unique<MicroBatched>(request, ElementType::float32, ElementType::float32, open_part);
  }
  return open_part(request, nullptr);
}

std::vector<std::string> algorithms(const Request&) {
  std::vector<std::string> names;
  for (const Algorithm& algorithm : kAlgorithms) names.emplace_back(algorithm.name);
  return names;
}

std::map<std::string, std::string> describe(const std::string& path) {
  const OpenBlas blas(path);
  return {{"version", "0.1.0"},
          {"vectors", vector_kernels().name},
          {"blas", blas.version()},
          {"blas_core", blas.core()},
          {"path", blas.path()}};
}

const Registration registration({"conv", "microbench", open, algorithms, describe});

}  // namespace
}  // namespace microbench::conv
