// GEMM through the CBLAS interface of an OpenBLAS found at run time. OpenBLAS's prefixed builds (every symbol
// starts with scipy_) and plain ones are both understood.

#include <array>
#include <limits>

#include "common/half.hpp"
#include "common/library.hpp"
#include "common/registry.hpp"
#include "gemm/operands.hpp"

namespace microbench::gemm {
namespace {

constexpr int kColumnMajor = 102;  // the values that the CBLAS standard gives its enumerations
constexpr int kNoTranspose = 111;
constexpr int kTranspose = 112;

template <typename T>
using Gemm = void(int, int, int, int, int, int, T, const T*, int, const T*, int, T, T*, int);

struct OpenBlas {
  Library library;
  std::string prefix;

  explicit OpenBlas(const std::string& path) : library(path) {
    for (const char* candidate : {"", "scipy_"}) {
      if (library.symbol<void()>(candidate + std::string("cblas_sgemm")) != nullptr) {
        prefix = candidate;
        return;
      }
    }
    throw Unsupported(path + " has no cblas_sgemm");
  }

  template <typename Function>
  Function* require(const std::string& name) const {
    if (auto* function = library.symbol<Function>(prefix + name)) return function;
    throw Unsupported("this OpenBLAS has no " + name);
  }
};

template <typename T>
class CblasGemm final : public Harness {
 public:
  CblasGemm(const OpenBlas& blas, const char* function, ElementType type, const Request& request)
      : sizes_(request), operands_(sizes_, type, type), gemm_(blas.require<Gemm<T>>(function)) {
    blas.require<void(int)>("openblas_set_num_threads")(request.threads);
    corename_ = blas.require<char*()>("openblas_get_corename")();
  }

  void launch() override {
    gemm_(kColumnMajor, sizes_.a_transposed ? kTranspose : kNoTranspose,
          sizes_.b_transposed ? kTranspose : kNoTranspose, static_cast<int>(sizes_.m),
          static_cast<int>(sizes_.n), static_cast<int>(sizes_.k), T{1}, operands_.a.as<T>(),
          static_cast<int>(sizes_.lda()), operands_.b.as<T>(), static_cast<int>(sizes_.ldb()), T{0},
          operands_.c.as<T>(), static_cast<int>(sizes_.ldc()));
  }

  std::vector<Operand> operands() override { return operands_.list(); }
  std::string implementation() const override { return corename_; }
  std::int64_t workspace_bytes() const override { return 0; }

 private:
  Sizes sizes_;
  Operands operands_;
  Gemm<T>* gemm_;
  std::string corename_;
};

std::unique_ptr<Harness> open(const Request& request) {
  if (request.algorithm != "auto") throw Unsupported("OpenBLAS offers no choice of algorithm");
  if (request.precision == "fp16_in_fp32_math") return fp16_in_fp32_math(request, open);
  const OpenBlas blas(request.library_path);
  if (request.precision == "fp32") {
    return std::make_unique<CblasGemm<float>>(blas, "cblas_sgemm", ElementType::float32, request);
  }
  if (request.precision == "fp64") {
    return std::make_unique<CblasGemm<double>>(blas, "cblas_dgemm", ElementType::float64, request);
  }
  throw Unsupported("OpenBLAS has no " + request.precision + " GEMM with the result in that precision");
}

std::vector<std::string> algorithms(const Request&) { return {}; }

std::map<std::string, std::string> describe(const std::string& path) {
  const OpenBlas blas(path);
  return {{"version", blas.require<char*()>("openblas_get_config")()},
          {"core", blas.require<char*()>("openblas_get_corename")()},
          {"path", path_of(reinterpret_cast<const void*>(blas.require<void()>("cblas_sgemm")))}};
}

const Registration registration({"gemm", "openblas", open, algorithms, describe});

}  // namespace
}  // namespace microbench::gemm
