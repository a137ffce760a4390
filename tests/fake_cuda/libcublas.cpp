// Stands in for cuBLAS: its three GEMM interfaces by loops.

#include <cublas_v2.h>

#include "product.hpp"

struct cublasContext {
  cudaStream_t stream = nullptr;
  bool own_workspace = false;
  cublasMath_t math = CUBLAS_DEFAULT_MATH;
};

namespace {

fake::Matrix operand(cudaDataType type, cublasOperation_t how, std::int64_t rows, std::int64_t columns,
                     std::int64_t ld, std::int64_t stride, std::int64_t batch) {
  const bool transposed = how == CUBLAS_OP_T;
  return {type,   transposed ? columns : rows,     transposed ? rows : columns, ld,
          stride, static_cast<std::int32_t>(batch)};
}

cudaDataType_t scale_of(cublasComputeType_t compute) {
  switch (compute) {
    case CUBLAS_COMPUTE_64F:
      return CUDA_R_64F;
    case CUBLAS_COMPUTE_16F:
      return CUDA_R_16F;
    case CUBLAS_COMPUTE_32I:
      return CUDA_R_32I;
    default:
      return CUDA_R_32F;
  }
}

}  // namespace

extern "C" {

cublasStatus_t cublasGetProperty(libraryPropertyType which, int* value) {
  *value = which == MAJOR_VERSION ? 13 : 1;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  *handle = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  handle->own_workspace = false;  // as the real one: back to the library's default
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void* space, std::size_t bytes) {
  handle->own_workspace = true;
  return space == nullptr && bytes > 0 ? CUBLAS_STATUS_INVALID_VALUE : CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t math) {
  handle->math = math;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmStridedBatchedEx_64(
    cublasHandle_t handle, cublasOperation_t a_how, cublasOperation_t b_how, std::int64_t m, std::int64_t n,
    std::int64_t k, const void* alpha, const void* a, cudaDataType a_type, std::int64_t lda,
    long long a_stride, const void* b, cudaDataType b_type, std::int64_t ldb, long long b_stride,
    const void* beta, void* c, cudaDataType c_type, std::int64_t ldc, long long c_stride, std::int64_t batch,
    cublasComputeType_t compute, cublasGemmAlgo_t) {
  // Stricter than the real one, where this would be noticed in a graph or in a result only.
  const bool narrower = compute == CUBLAS_COMPUTE_32F && c_type != CUDA_R_32F;
  const bool in_fp32 = (handle->math & CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION) != 0;
  if (!handle->own_workspace || narrower != in_fp32) return CUBLAS_STATUS_INTERNAL_ERROR;
  const fake::Matrix left = operand(a_type, a_how, m, k, lda, a_stride, batch);
  const fake::Matrix right = operand(b_type, b_how, k, n, ldb, b_stride, batch);
  const fake::Matrix result = operand(c_type, CUBLAS_OP_N, m, n, ldc, c_stride, batch);
  handle->stream->run(fake::seconds_of(result, k), [=] {
    fake::multiply(compute, scale_of(compute), alpha, a_how == CUBLAS_OP_T, a, left, b_how == CUBLAS_OP_T, b,
                   right, beta, c, result);
  });
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmEx_64(cublasHandle_t handle, cublasOperation_t a_how, cublasOperation_t b_how,
                               std::int64_t m, std::int64_t n, std::int64_t k, const void* alpha,
                               const void* a, cudaDataType a_type, std::int64_t lda, const void* b,
                               cudaDataType b_type, std::int64_t ldb, const void* beta, void* c,
                               cudaDataType c_type, std::int64_t ldc, cublasComputeType_t compute,
                               cublasGemmAlgo_t algorithm) {
  return cublasGemmStridedBatchedEx_64(handle, a_how, b_how, m, n, k, alpha, a, a_type, lda, 0, b, b_type,
                                       ldb, 0, beta, c, c_type, ldc, 0, 1, compute, algorithm);
}

cublasStatus_t cublasGemmBatchedEx_64(cublasHandle_t handle, cublasOperation_t a_how, cublasOperation_t b_how,
                                      std::int64_t m, std::int64_t n, std::int64_t k, const void* alpha,
                                      const void* const a[], cudaDataType a_type, std::int64_t lda,
                                      const void* const b[], cudaDataType b_type, std::int64_t ldb,
                                      const void* beta, void* const c[], cudaDataType c_type,
                                      std::int64_t ldc, std::int64_t batch, cublasComputeType_t compute,
                                      cublasGemmAlgo_t algorithm) {
  for (std::int64_t i = 0; i < batch; ++i) {
    const cublasStatus_t status =
        cublasGemmEx_64(handle, a_how, b_how, m, n, k, alpha, a[i], a_type, lda, b[i], b_type, ldb, beta,
                        c[i], c_type, ldc, compute, algorithm);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
  }
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
