// GEMM through cuBLAS's classic interface: single, strided-batched, and batched over arrays of pointers.

#include <numeric>

#include "common/cuda/harness.hpp"
#include "common/cuda/matmul.hpp"
#include "common/registry.hpp"
#include "gemm/operands.hpp"

namespace microbench::gemm {
namespace {

constexpr const char* kSingle = "gemm";
constexpr const char* kStrided = "strided_batched";
constexpr const char* kPointers = "batched";

std::vector<std::string> algorithms(const Request& request) {
  if (request.integer("batch") == 1) return {kSingle};
  return {kStrided, kPointers};
}

// The interface asked for, or the usual one for the size of the batch.
std::string interface_of(const Request& request) {
  const std::vector<std::string> offered = algorithms(request);
  if (request.algorithm == "auto") return offered.front();
  if (std::find(offered.begin(), offered.end(), request.algorithm) != offered.end()) return request.algorithm;
  throw Unsupported("cuBLAS has no '" + request.algorithm + "' for a batch of " +
                    std::to_string(request.integer("batch")) + "; it has " +
                    std::accumulate(std::next(offered.begin()), offered.end(), offered.front(),
                                    [](const auto& all, const auto& each) { return all + " and " + each; }));
}

class Handle {
 public:
  explicit Handle(const std::string& path) {
    cuda::cublas(path);
    MICROBENCH_CUBLAS(cublasCreate, &handle_);
  }
  ~Handle() { MICROBENCH_CUBLAS_NOEXCEPT(cublasDestroy, handle_); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  operator cublasHandle_t() const { return handle_; }

 private:
  cublasHandle_t handle_ = nullptr;
};

class CublasGemm final : public cuda::CudaHarness {
 public:
  explicit CublasGemm(const Request& request)
      : sizes_(request),
        interface_(interface_of(request)),
        types_(cuda::matmul_types(request.precision)),
        scalars_(types_.scale),
        handle_(request.library_path),
        workspace_(std::min(request.workspace_limit, kUsualWorkspace)),
        operands_(sizes_, types_.storage, types_.output),
        pointers_(interface_ == kPointers ? 3 * sizes_.batch * static_cast<std::int64_t>(sizeof(void*)) : 0) {
    MICROBENCH_CUBLAS(cublasSetStream, handle_, stream());
    // Given by us, so that its size is known and stream capture finds nothing to allocate; after the stream,
    // because setting that goes back to cuBLAS's own.
    MICROBENCH_CUBLAS(cublasSetWorkspace, handle_, workspace_.data(),
                      static_cast<std::size_t>(workspace_.bytes()));
    if (cuda::sums_are_wider(types_)) {
      MICROBENCH_CUBLAS(
          cublasSetMathMode, handle_,
          static_cast<cublasMath_t>(CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION));
    }
  }

  void enqueue_preparation(cudaStream_t stream) override {
    if (interface_ != kPointers) return;
    std::vector<void*> all;
    const auto add = [&all, this](cuda::Buffer& buffer, std::int64_t elements) {
      for (std::int64_t i = 0; i < sizes_.batch; ++i) {
        all.push_back(buffer.as<char>() + i * elements * element_bytes(buffer.type()));
      }
    };
    add(operands_.a, sizes_.a_elements());
    add(operands_.b, sizes_.b_elements());
    add(operands_.c, sizes_.c_elements());
    MICROBENCH_CUDA(cudaMemcpyAsync(pointers_.data(), all.data(), all.size() * sizeof(void*),
                                    cudaMemcpyHostToDevice, stream));
    MICROBENCH_CUDA(cudaStreamSynchronize(stream));  // `all` ends here
  }

  void enqueue(cudaStream_t) override {
    try {
      multiply();
    } catch (const cuda::OutOfMemory&) {  // cuBLAS allocates nothing: it means the workspace
      throw Unsupported("cuBLAS does not compute this product with a workspace of " +
                        std::to_string(workspace_.bytes()) + " bytes: raise --workspace-limit");
    }
  }

  std::vector<cuda::DeviceOperand> device_operands() override { return operands_.list(); }
  bool keeps_addresses() const override { return interface_ == kPointers; }
  std::string implementation() const override { return interface_; }
  std::int64_t workspace_bytes() const override { return workspace_.bytes(); }

 private:
  void multiply() {
    const auto a_operation = sizes_.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    const auto b_operation = sizes_.b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cudaDataType_t storage = cuda::data_type(types_.storage), output = cuda::data_type(types_.output);
    if (interface_ == kSingle) {
      MICROBENCH_CUBLAS(cublasGemmEx_64, handle_, a_operation, b_operation, sizes_.m, sizes_.n, sizes_.k,
                        scalars_.one(), operands_.a.data(), storage, sizes_.lda(), operands_.b.data(),
                        storage, sizes_.ldb(), scalars_.zero(), operands_.c.data(), output, sizes_.ldc(),
                        types_.compute, CUBLAS_GEMM_DEFAULT);
    } else if (interface_ == kStrided) {
      MICROBENCH_CUBLAS(cublasGemmStridedBatchedEx_64, handle_, a_operation, b_operation, sizes_.m, sizes_.n,
                        sizes_.k, scalars_.one(), operands_.a.data(), storage, sizes_.lda(),
                        sizes_.a_elements(), operands_.b.data(), storage, sizes_.ldb(), sizes_.b_elements(),
                        scalars_.zero(), operands_.c.data(), output, sizes_.ldc(), sizes_.c_elements(),
                        sizes_.batch, types_.compute, CUBLAS_GEMM_DEFAULT);
    } else {
      auto** pointers = static_cast<void**>(pointers_.data());
      MICROBENCH_CUBLAS(cublasGemmBatchedEx_64, handle_, a_operation, b_operation, sizes_.m, sizes_.n,
                        sizes_.k, scalars_.one(), pointers, storage, sizes_.lda(), pointers + sizes_.batch,
                        storage, sizes_.ldb(), scalars_.zero(), pointers + 2 * sizes_.batch, output,
                        sizes_.ldc(), sizes_.batch, types_.compute, CUBLAS_GEMM_DEFAULT);
    }
  }

  static constexpr std::int64_t kUsualWorkspace = 32 << 20;  // what NVIDIA recommends for Hopper
  Sizes sizes_;
  std::string interface_;
  cuda::MatmulTypes types_;
  cuda::Scalars scalars_;
  Handle handle_;
  cuda::Memory workspace_;
  OperandsIn<cuda::Buffer, cuda::DeviceOperand> operands_;
  cuda::Memory pointers_;
};

std::unique_ptr<Harness> open(const Request& request) {
  if (request.precision.rfind("fp8", 0) == 0) throw Unsupported("cuBLAS has no fp8 GEMM; cuBLASLt has");
  return std::make_unique<CublasGemm>(request);
}

const Registration registration({"gemm", "cublas", open, algorithms, cuda::describe_cublas});

}  // namespace
}  // namespace microbench::gemm
