// GEMM through the CBLAS interface of an OpenBLAS found at run time.

#include "common/half.hpp"
#include "common/openblas.hpp"
#include "common/registry.hpp"
#include "gemm/operands.hpp"

namespace microbench::gemm {
namespace {

template <typename T>
class CblasGemm final : public Harness {
 public:
  CblasGemm(const OpenBlas& blas, const char* function, ElementType type, const Request& request)
      : sizes_(request), operands_(sizes_, type, type), gemm_(blas.require<OpenBlas::Gemm<T>>(function)) {
    blas.set_threads(request.threads);
    corename_ = blas.core();
  }

  void launch() override {
    for (std::int64_t i = 0; i < sizes_.batch; ++i) {
      gemm_(OpenBlas::kColumnMajor, sizes_.a_transposed ? OpenBlas::kTranspose : OpenBlas::kNoTranspose,
            sizes_.b_transposed ? OpenBlas::kTranspose : OpenBlas::kNoTranspose, static_cast<int>(sizes_.m),
            static_cast<int>(sizes_.n), static_cast<int>(sizes_.k), T{1},
            operands_.a.as<T>() + i * sizes_.a_elements(), static_cast<int>(sizes_.lda()),
            operands_.b.as<T>() + i * sizes_.b_elements(), static_cast<int>(sizes_.ldb()), T{0},
            operands_.c.as<T>() + i * sizes_.c_elements(), static_cast<int>(sizes_.ldc()));
    }
  }

  std::vector<Operand> operands() override { return operands_.list(); }
  std::string implementation() const override { return corename_; }
  std::int64_t workspace_bytes() const override { return 0; }

 private:
  Sizes sizes_;
  Operands operands_;
  OpenBlas::Gemm<T>* gemm_;
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
  return {{"version", blas.version()}, {"core", blas.core()}, {"path", blas.path()}};
}

const Registration registration({"gemm", "openblas", open, algorithms, describe});

}  // namespace
}  // namespace microbench::gemm
