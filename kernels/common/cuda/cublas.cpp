#include "common/cuda/cublas.hpp"

#include <vector>

namespace microbench::cuda {
namespace {

// The versions whose interface this was compiled against.
std::vector<std::string> names(const std::string& path, const std::string& stem) {
  if (!path.empty()) return {path};
  return {stem + "." + std::to_string(CUBLAS_VER_MAJOR)};
}

std::string version_text(int version) {  // 131000 is 13.10.0
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

}  // namespace

const Library& cublaslt(const std::string& path) {
  static const Library library(names(path, "libcublasLt.so"));
  return library;
}

const Library& cublas(const std::string& path) {
  static const Library library(names(path, "libcublas.so"));
  return library;
}

std::map<std::string, std::string> describe_cublaslt(const std::string& path) {
  auto* version = cublaslt(path).require<decltype(::cublasLtGetVersion)>("cublasLtGetVersion");
  return {{"version", version_text(static_cast<int>(version()))},
          {"path", path_of(reinterpret_cast<const void*>(version))}};
}

std::map<std::string, std::string> describe_cublas(const std::string& path) {
  auto* property = cublas(path).require<decltype(::cublasGetProperty)>("cublasGetProperty");
  int parts[3] = {};
  const libraryPropertyType wanted[3] = {MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL};
  for (int i = 0; i < 3; ++i) check(property(wanted[i], &parts[i]), "cublasGetProperty");
  return {
      {"version", std::to_string(parts[0]) + "." + std::to_string(parts[1]) + "." + std::to_string(parts[2])},
      {"path", path_of(reinterpret_cast<const void*>(property))}};
}

Failure failure_of(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_ALLOC_FAILED:
      return Failure::out_of_memory;
    case CUBLAS_STATUS_NOT_SUPPORTED:
    case CUBLAS_STATUS_ARCH_MISMATCH:
    case CUBLAS_STATUS_INVALID_VALUE:  // what it says of a combination of types, layouts or sizes it does not
                                       // offer
      return Failure::unsupported;
    default:
      return Failure::broken;
  }
}

std::string describe(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
      return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_ARCH_MISMATCH:
      return "CUBLAS_STATUS_ARCH_MISMATCH: this device lacks the feature";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR:
      return "CUBLAS_STATUS_INTERNAL_ERROR";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
      return "cuBLAS status " + std::to_string(static_cast<int>(status));
  }
}

cudaDataType_t data_type(ElementType type) {
  switch (type) {
    case ElementType::float64:
      return CUDA_R_64F;
    case ElementType::float32:
      return CUDA_R_32F;
    case ElementType::float16:
      return CUDA_R_16F;
    case ElementType::bfloat16:
      return CUDA_R_16BF;
    case ElementType::float8_e4m3:
      return CUDA_R_8F_E4M3;
    case ElementType::float8_e5m2:
      return CUDA_R_8F_E5M2;
    case ElementType::int8:
      return CUDA_R_8I;
    case ElementType::int32:
      return CUDA_R_32I;
  }
  throw std::logic_error("unknown element type");
}

}  // namespace microbench::cuda
