#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/cuda/cublas.hpp"
#include "common/cuda/device.hpp"

namespace microbench::cuda {

// How a precision of microbench is asked of cuBLAS.
struct MatmulTypes {
  ElementType storage, output;
  cublasComputeType_t compute;
  cudaDataType_t scale;             // alpha's and beta's type
  ElementType storage_b = storage;  // B's, where it is not A's
};

// Throws Unsupported where cuBLAS has no such GEMM on any device.
MatmulTypes matmul_types(const std::string& precision);

// Whether sums are kept in a wider type than the result's: parts of a split sum must not be added up in the
// result's then, which the libraries allow themselves.
bool sums_are_wider(const MatmulTypes& types);

// 1 and 0 in the type that a GEMM scales by: floats where integers are expected would scale it by 1.4e-45.
struct Scalars {
  explicit Scalars(cudaDataType_t type);
  const void* one() const { return one_; }
  const void* zero() const { return zero_; }

 private:
  alignas(8) unsigned char one_[8] = {};
  alignas(8) unsigned char zero_[8] = {};
};

// Column-major C (m x n) = op(A) op(B), `batch` times, matrices of a batch `*_stride` elements apart.
struct MatmulShape {
  std::int64_t m, n, k;
  bool a_transposed, b_transposed;
  std::int64_t lda, ldb, ldc;
  std::int64_t batch = 1, a_stride = 0, b_stride = 0, c_stride = 0;
  std::uint32_t alignment = 256;  // bytes that the addresses of all matrices are multiples of
};

// A product by cuBLASLt. Its algorithms are configurations: a kernel's number, tile, stages and options, by
// name "algo21_tile20_stages8", with "_splitk3", "_reduction2", "_swizzle1", "_custom1", "_inner1",
// "_cluster3" where these are not at their defaults; what the numbers mean is in cublasLt.h.
class Matmul {
 public:
  Matmul(const std::string& precision, const MatmulShape& shape)
      : Matmul(precision, matmul_types(precision), shape) {}
  // With other types than the precision's own, e.g. sums that are not rounded yet.
  Matmul(const std::string& precision, const MatmulTypes& types, const MatmulShape& shape);
  ~Matmul();
  Matmul(const Matmul&) = delete;  // owns descriptors
  Matmul& operator=(const Matmul&) = delete;

  // The library's ranking within the workspace limit, its first choice first, then every other kernel, tile
  // and number of stages that it accepts for this product, at last the one called `named` where it is
  // accepted. Names are unique.
  std::vector<std::string> algorithms(std::int64_t workspace_limit, const std::string& named) const;

  // Takes the algorithm called `name`, "auto" being the library's first choice. Throws Unsupported where
  // there is none such, WorkspaceExceeded where it needs more than the limit.
  void choose(const std::string& name, std::int64_t workspace_limit);

  const MatmulTypes& types() const { return types_; }
  // Of the algorithm chosen.
  const std::string& name() const { return name_; }
  std::int64_t workspace_bytes() const { return workspace_bytes_; }
  // Rank, waves: what is known beside the name.
  const std::string& remarks() const { return remarks_; }

  // `workspace` holds workspace_bytes(). Where `add`, the product is added to C.
  void enqueue(const void* a, const void* b, void* c, void* workspace, cudaStream_t stream,
               bool add = false) const;

 private:
  std::vector<cublasLtMatmulHeuristicResult_t> ranking(std::int64_t workspace_limit) const;
  std::vector<cublasLtMatmulAlgo_t> accepted() const;
  cublasLtMatmulAlgo_t configured_as(const std::string& name) const;
  bool check(const cublasLtMatmulAlgo_t& algorithm, cublasLtMatmulHeuristicResult_t& result) const;
  std::uint32_t reduction_schemes() const;
  void take(const cublasLtMatmulHeuristicResult_t& result);

  std::string precision_;
  MatmulTypes types_;
  Scalars scalars_;
  std::uint32_t alignment_;
  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t operation_ = nullptr;
  cublasLtMatrixLayout_t a_ = nullptr, b_ = nullptr, c_ = nullptr;
  cublasLtMatmulAlgo_t algorithm_{};
  std::string name_, remarks_;
  std::int64_t workspace_bytes_ = 0;
};

}  // namespace microbench::cuda
