// GEMM through cuBLASLt: its own choice, its ranking, or any configuration by name.

#include "common/cuda/harness.hpp"
#include "common/cuda/matmul.hpp"
#include "common/registry.hpp"
#include "gemm/operands.hpp"

namespace microbench::gemm {
namespace {

cuda::MatmulShape shape_of(const Sizes& sizes) {
  return {sizes.m,     sizes.n,     sizes.k,     sizes.a_transposed, sizes.b_transposed, sizes.lda(),
          sizes.ldb(), sizes.ldc(), sizes.batch, sizes.a_elements(), sizes.b_elements(), sizes.c_elements()};
}

cuda::Matmul chosen(const Request& request) {
  cuda::cublaslt(request.library_path);
  return {request.precision, shape_of(Sizes(request))};
}

class CublasLtGemm final : public cuda::CudaHarness {
 public:
  explicit CublasLtGemm(const Request& request)
      : matmul_(chosen(request)),
        workspace_((matmul_.choose(request.algorithm, request.workspace_limit), matmul_.workspace_bytes())),
        operands_(Sizes(request), matmul_.types().storage, matmul_.types().storage_b,
                  matmul_.types().output) {}

  void enqueue(cudaStream_t stream) override {
    matmul_.enqueue(operands_.a.data(), operands_.b.data(), operands_.c.data(), workspace_.data(), stream);
  }
  std::vector<cuda::DeviceOperand> device_operands() override { return operands_.list(); }
  std::string implementation() const override { return matmul_.name() + " (" + matmul_.remarks() + ")"; }
  std::int64_t workspace_bytes() const override { return workspace_.bytes(); }

 private:
  cuda::Matmul matmul_;
  cuda::Memory workspace_;
  OperandsIn<cuda::Buffer, cuda::DeviceOperand> operands_;
};

std::unique_ptr<Harness> open(const Request& request) { return std::make_unique<CublasLtGemm>(request); }

std::vector<std::string> algorithms(const Request& request) {
  return chosen(request).algorithms(request.workspace_limit, request.algorithm);
}

const Registration registration({"gemm", "cublaslt", open, algorithms, cuda::describe_cublaslt});

}  // namespace
}  // namespace microbench::gemm
