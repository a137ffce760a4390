// Stands in for cuBLASLt: two algorithms with real capabilities and products, and some that go wrong.

#include <cublasLt.h>

#include "product.hpp"

namespace {

// Found by name only: number 96 waits for the device at its second launch, 97 needs memory that the device
// lacks, 98 fails, 99 waits at every launch.
enum : std::uint32_t {
  kPlain = 1,
  kSplit = 2,
  kWaitingOnce = 96,
  kExhausting = 97,
  kFailing = 98,
  kWaiting = 99
};
int launches_since_chosen = 0;
constexpr std::size_t kSplitBytes = 1 << 20;

struct Configuration {
  std::uint32_t id, tile, stages, splitk, reduction, swizzle, custom;
  std::uint16_t inner, cluster;
  std::uint32_t alignment;  // bytes that every matrix's address must be a multiple of, 0 for any
};
static_assert(sizeof(Configuration) <= sizeof(cublasLtMatmulAlgo_t));

Configuration& configuration(cublasLtMatmulAlgo_t* algorithm) {
  return *reinterpret_cast<Configuration*>(algorithm);
}
const Configuration& configuration(const cublasLtMatmulAlgo_t* algorithm) {
  return *reinterpret_cast<const Configuration*>(algorithm);
}

struct Operation {
  cublasComputeType_t compute;
  cudaDataType_t scale;
  cublasOperation_t a, b;
};

Operation& operation(cublasLtMatmulDesc_t description) { return *reinterpret_cast<Operation*>(description); }
fake::Matrix& matrix(cublasLtMatrixLayout_t layout) { return *reinterpret_cast<fake::Matrix*>(layout); }
struct Preference {
  std::size_t workspace = 0;
  std::uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_MASK;
  std::uint32_t alignment = 256;  // of the matrix that is aligned least
};
Preference& preferred(cublasLtMatmulPreference_t preference) {
  return *reinterpret_cast<Preference*>(preference);
}

bool is_float8(cudaDataType_t type) { return type == CUDA_R_8F_E4M3 || type == CUDA_R_8F_E5M2; }

bool offers(const Operation& how, const fake::Matrix& a, const fake::Matrix& b) {
  if (!is_float8(a.type)) return a.type == b.type;
  // As the real one: only with A transposed and B not, and never both in e5m2.
  return is_float8(b.type) && !(a.type == CUDA_R_8F_E5M2 && b.type == CUDA_R_8F_E5M2) &&
         how.a == CUBLAS_OP_T && how.b == CUBLAS_OP_N;
}

bool accepts(const Configuration& one) {
  if (one.id == kPlain) return (one.tile == 18 || one.tile == 20) && one.stages == 8 && one.splitk == 1;
  if (one.id == kSplit) return one.tile == 15 && one.stages == 0 && one.splitk <= 4;
  return one.id >= kWaitingOnce;
}

std::size_t workspace(const Configuration& one) { return one.splitk > 1 ? one.splitk * kSplitBytes : 0; }

void* field(Configuration& one, cublasLtMatmulAlgoConfigAttributes_t attribute) {
  switch (attribute) {
    case CUBLASLT_ALGO_CONFIG_ID:
      return &one.id;
    case CUBLASLT_ALGO_CONFIG_TILE_ID:
      return &one.tile;
    case CUBLASLT_ALGO_CONFIG_STAGES_ID:
      return &one.stages;
    case CUBLASLT_ALGO_CONFIG_SPLITK_NUM:
      return &one.splitk;
    case CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME:
      return &one.reduction;
    case CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING:
      return &one.swizzle;
    case CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION:
      return &one.custom;
    case CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID:
      return &one.inner;
    case CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID:
      return &one.cluster;
  }
  return nullptr;
}

bool has_size(cublasLtMatmulAlgoConfigAttributes_t attribute, std::size_t bytes) {
  const bool is_short =
      attribute == CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID || attribute == CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID;
  return bytes == (is_short ? 2 : 4);
}

}  // namespace

extern "C" {

std::size_t cublasLtGetVersion() { return 130100; }

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = reinterpret_cast<cublasLtHandle_t>(new char);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete reinterpret_cast<char*>(handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  *description =
      reinterpret_cast<cublasLtMatmulDesc_t>(new Operation{compute, scale, CUBLAS_OP_N, CUBLAS_OP_N});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description) {
  delete &operation(description);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description,
                                              cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              std::size_t bytes) {
  if (bytes != sizeof(cublasOperation_t)) return CUBLAS_STATUS_INVALID_VALUE;
  if (attribute == CUBLASLT_MATMUL_DESC_TRANSA) {
    std::memcpy(&operation(description).a, value, bytes);
  } else if (attribute == CUBLASLT_MATMUL_DESC_TRANSB) {
    std::memcpy(&operation(description).b, value, bytes);
  } else {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          std::uint64_t rows, std::uint64_t columns, std::int64_t ld) {
  *layout = reinterpret_cast<cublasLtMatrixLayout_t>(
      new fake::Matrix{type, static_cast<std::int64_t>(rows), static_cast<std::int64_t>(columns), ld, 0, 1});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete &matrix(layout);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void* value,
                                                std::size_t bytes) {
  if (attribute == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT && bytes == 4) {
    std::memcpy(&matrix(layout).batch, value, bytes);
  } else if (attribute == CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET && bytes == 8) {
    std::memcpy(&matrix(layout).stride, value, bytes);
  } else {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = reinterpret_cast<cublasLtMatmulPreference_t>(new Preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete &preferred(preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, std::size_t bytes) {
  Preference& all = preferred(preference);
  if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES && bytes == 8) {
    std::memcpy(&all.workspace, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
  }
  if (bytes != 4) return CUBLAS_STATUS_INVALID_VALUE;
  std::uint32_t number = 0;
  std::memcpy(&number, value, bytes);
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      all.schemes = number;
      return CUBLAS_STATUS_SUCCESS;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      all.alignment = std::min(all.alignment, number);
      return CUBLAS_STATUS_SUCCESS;
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t description,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int* count) {
  *count = 0;
  if (!offers(operation(description), matrix(a), matrix(b))) return CUBLAS_STATUS_NOT_SUPPORTED;
  const Preference& wishes = preferred(preference);
  // In place where that is allowed, else in the type of the sums.
  const std::uint32_t scheme = wishes.schemes & CUBLASLT_REDUCTION_SCHEME_INPLACE
                                   ? CUBLASLT_REDUCTION_SCHEME_INPLACE
                                   : CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  const Configuration ranked[] = {{kSplit, 15, 0, 2, scheme, 0, 0, 0, 0, wishes.alignment},
                                  {kPlain, 20, 8, 1, 0, 0, 0, 0, 2, wishes.alignment}};
  for (const Configuration& one : ranked) {
    if (*count == wanted || workspace(one) > wishes.workspace) continue;
    results[*count] = {};
    configuration(&results[*count].algo) = one;
    results[*count].workspaceSize = workspace(one);
    results[*count].wavesCount = 1.5F;
    ++*count;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetIds(cublasLtHandle_t, cublasComputeType_t, cudaDataType_t,
                                        cudaDataType_t a, cudaDataType_t b, cudaDataType_t, cudaDataType_t,
                                        int, int ids[], int* count) {
  if (a == CUDA_R_8F_E5M2 && b == CUDA_R_8F_E5M2) return CUBLAS_STATUS_NOT_SUPPORTED;
  ids[0] = kPlain;
  ids[1] = kSplit;
  *count = 2;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoInit(cublasLtHandle_t, cublasComputeType_t, cudaDataType_t, cudaDataType_t,
                                      cudaDataType_t, cudaDataType_t, cudaDataType_t, int id,
                                      cublasLtMatmulAlgo_t* algorithm) {
  *algorithm = {};
  configuration(algorithm).id = static_cast<std::uint32_t>(id);
  configuration(algorithm).splitk = 1;
  launches_since_chosen = 0;
  return id > 2 && id < static_cast<int>(kWaitingOnce) ? CUBLAS_STATUS_INVALID_VALUE : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCapGetAttribute(const cublasLtMatmulAlgo_t* algorithm,
                                                 cublasLtMatmulAlgoCapAttributes_t attribute, void* value,
                                                 std::size_t bytes, std::size_t* written) {
  std::vector<std::uint32_t> values;
  const bool plain = configuration(algorithm).id == kPlain;
  if (attribute == CUBLASLT_ALGO_CAP_TILE_IDS)
    values = plain ? std::vector<std::uint32_t>{18, 19, 20} : std::vector<std::uint32_t>{15};
  if (attribute == CUBLASLT_ALGO_CAP_STAGES_IDS && plain) values = {8, 9};
  if (bytes == 0) {
    *written = values.size() * sizeof(std::uint32_t);
    return CUBLAS_STATUS_SUCCESS;
  }
  std::memcpy(value, values.data(), bytes);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoConfigSetAttribute(cublasLtMatmulAlgo_t* algorithm,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute,
                                                    const void* value, std::size_t bytes) {
  if (!has_size(attribute, bytes)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(field(configuration(algorithm), attribute), value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algorithm,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute,
                                                    void* value, std::size_t bytes, std::size_t*) {
  if (!has_size(attribute, bytes)) return CUBLAS_STATUS_INVALID_VALUE;
  Configuration copy = configuration(algorithm);
  std::memcpy(value, field(copy, attribute), bytes);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t description,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                       const cublasLtMatmulAlgo_t* algorithm,
                                       cublasLtMatmulHeuristicResult_t* result) {
  const Configuration& one = configuration(algorithm);
  if (!accepts(one) || !offers(operation(description), matrix(a), matrix(b))) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  result->workspaceSize = one.id == kExhausting ? std::size_t{1} << 40 : workspace(one);
  result->wavesCount = 2;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t description, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_is, const void* b,
                              cublasLtMatrixLayout_t b_is, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_is, void* d, cublasLtMatrixLayout_t,
                              const cublasLtMatmulAlgo_t* algorithm, void* space, std::size_t bytes,
                              cudaStream_t stream) {
  const Configuration one = configuration(algorithm);
  if (c != d || bytes < workspace(one) || (bytes > 0 && space == nullptr)) return CUBLAS_STATUS_INVALID_VALUE;
  if (one.id == kFailing) return CUBLAS_STATUS_EXECUTION_FAILED;
  for (const void* address : {a, b, c}) {
    const auto place = reinterpret_cast<std::uintptr_t>(address);
    if (one.alignment > 0 && place % one.alignment != 0) return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  const bool waits = one.id == kWaiting || (one.id == kWaitingOnce && ++launches_since_chosen == 2);
  if (waits && !stream->synchronize()) return CUBLAS_STATUS_EXECUTION_FAILED;
  const Operation how = operation(description);
  const fake::Matrix left = matrix(a_is), right = matrix(b_is), result = matrix(c_is);
  const std::int64_t inner = how.a == CUBLAS_OP_T ? left.rows : left.columns;
  stream->run(fake::seconds_of(result, inner), [=] {
    fake::multiply(how.compute, how.scale, alpha, how.a == CUBLAS_OP_T, a, left, how.b == CUBLAS_OP_T, b,
                   right, beta, d, result);
  });
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
