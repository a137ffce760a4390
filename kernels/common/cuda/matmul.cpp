#include "common/cuda/matmul.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace microbench::cuda {
namespace {

// The workspace that the library's ranking may assume where the user sets no limit: what NVIDIA recommends
// for Hopper. With 0, the library's own default, it would leave out every algorithm that splits the sum.
constexpr std::int64_t kUsualWorkspace = 32 << 20;
constexpr int kRanked = 64;
constexpr int kIds = 256;

struct Option {
  const char* name;
  cublasLtMatmulAlgoConfigAttributes_t attribute;
  std::size_t bytes;
  bool always;  // part of every name
};

constexpr Option kOptions[] = {
    {"tile", CUBLASLT_ALGO_CONFIG_TILE_ID, 4, true},
    {"stages", CUBLASLT_ALGO_CONFIG_STAGES_ID, 4, true},
    {"splitk", CUBLASLT_ALGO_CONFIG_SPLITK_NUM, 4, false},
    {"reduction", CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, 4, false},
    {"swizzle", CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING, 4, false},
    {"custom", CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION, 4, false},
    {"inner", CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID, 2, false},
    {"cluster", CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID, 2, false},
};

// The value at which an option is left out of a name.
std::uint32_t default_of(const Option& option) {
  return option.attribute == CUBLASLT_ALGO_CONFIG_SPLITK_NUM ? 1 : 0;
}

std::uint32_t configured(const cublasLtMatmulAlgo_t& algorithm,
                         cublasLtMatmulAlgoConfigAttributes_t attribute, std::size_t bytes) {
  std::uint32_t value =
      0;  // narrower attributes fill its first bytes: little-endian, as all that CUDA runs on
  MICROBENCH_CUBLASLT(cublasLtMatmulAlgoConfigGetAttribute, &algorithm, attribute, &value, bytes, nullptr);
  return value;
}

void configure(cublasLtMatmulAlgo_t& algorithm, cublasLtMatmulAlgoConfigAttributes_t attribute,
               std::size_t bytes, std::uint32_t value) {
  MICROBENCH_CUBLASLT(cublasLtMatmulAlgoConfigSetAttribute, &algorithm, attribute, &value, bytes);
}

std::string name_of_algorithm(const cublasLtMatmulAlgo_t& algorithm) {
  std::string name = "algo" + std::to_string(configured(algorithm, CUBLASLT_ALGO_CONFIG_ID, 4));
  for (const Option& option : kOptions) {
    const std::uint32_t value = configured(algorithm, option.attribute, option.bytes);
    if (option.always || value > default_of(option)) {
      name += std::string("_") + option.name + std::to_string(value);
    }
  }
  return name;
}

// "tile20" is ("tile", 20); throws Unsupported for what is no word and number.
std::pair<std::string, std::uint32_t> word_and_number(const std::string& part, const std::string& whole) {
  const std::size_t digits = part.find_first_of("0123456789");
  if (digits == std::string::npos || digits == 0 || part.size() - digits > 9 ||
      part.find_first_not_of("0123456789", digits) != std::string::npos) {
    throw Unsupported("'" + whole +
                      "' is no algorithm of cuBLASLt: they are called like algo21_tile20_stages8");
  }
  return {part.substr(0, digits), static_cast<std::uint32_t>(std::stoul(part.substr(digits)))};
}

std::vector<std::pair<std::string, std::uint32_t>> parse(const std::string& name) {
  std::vector<std::pair<std::string, std::uint32_t>> parts;
  for (std::size_t start = 0; start <= name.size();) {
    const std::size_t end = std::min(name.find('_', start), name.size());
    parts.push_back(word_and_number(name.substr(start, end - start), name));
    start = end + 1;
  }
  return parts;
}

// A list of numbers that an algorithm is capable of.
std::vector<std::uint32_t> capabilities(const cublasLtMatmulAlgo_t& algorithm,
                                        cublasLtMatmulAlgoCapAttributes_t attribute) {
  std::size_t bytes = 0;
  const cublasStatus_t asked = MICROBENCH_SYMBOL(cublaslt(), cublasLtMatmulAlgoCapGetAttribute)(
      &algorithm, attribute, nullptr, 0, &bytes);
  std::vector<std::uint32_t> values(bytes / sizeof(std::uint32_t));
  if (!succeeded(asked) || values.empty()) return {0};  // undefined: the algorithm has no choice
  MICROBENCH_CUBLASLT(cublasLtMatmulAlgoCapGetAttribute, &algorithm, attribute, values.data(), bytes, &bytes);
  return values;
}

cublasLtMatrixLayout_t layout(ElementType type, std::int64_t rows, std::int64_t columns, std::int64_t ld,
                              std::int64_t batch, std::int64_t stride) {
  cublasLtMatrixLayout_t made = nullptr;
  MICROBENCH_CUBLASLT(cublasLtMatrixLayoutCreate, &made, data_type(type), static_cast<std::uint64_t>(rows),
                      static_cast<std::uint64_t>(columns), ld);
  const auto count = static_cast<std::int32_t>(batch);
  MICROBENCH_CUBLASLT(cublasLtMatrixLayoutSetAttribute, made, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count,
                      sizeof(count));
  MICROBENCH_CUBLASLT(cublasLtMatrixLayoutSetAttribute, made, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                      &stride, sizeof(stride));
  return made;
}

}  // namespace

MatmulTypes matmul_types(const std::string& precision) {
  using E = ElementType;
  if (precision == "fp64") return {E::float64, E::float64, CUBLAS_COMPUTE_64F, CUDA_R_64F};
  if (precision == "fp32") return {E::float32, E::float32, CUBLAS_COMPUTE_32F, CUDA_R_32F};
  if (precision == "tf32") return {E::float32, E::float32, CUBLAS_COMPUTE_32F_FAST_TF32, CUDA_R_32F};
  if (precision == "bf16") return {E::bfloat16, E::bfloat16, CUBLAS_COMPUTE_32F, CUDA_R_32F};
  if (precision == "fp16") return {E::float16, E::float16, CUBLAS_COMPUTE_32F, CUDA_R_32F};
  if (precision == "fp16_acc16") return {E::float16, E::float16, CUBLAS_COMPUTE_16F, CUDA_R_16F};
  if (precision == "fp8_e4m3") return {E::float8_e4m3, E::bfloat16, CUBLAS_COMPUTE_32F, CUDA_R_32F};
  if (precision == "fp8_e5m2") {  // cuBLASLt has no product of two such
    return {E::float8_e5m2, E::bfloat16, CUBLAS_COMPUTE_32F, CUDA_R_32F, E::float8_e4m3};
  }
  if (precision == "int8") return {E::int8, E::int32, CUBLAS_COMPUTE_32I, CUDA_R_32I};
  throw Unsupported("cuBLAS has no " + precision + " GEMM");
}

bool sums_are_wider(const MatmulTypes& types) {
  return data_type(types.output) != types.scale && types.compute != CUBLAS_COMPUTE_32I;
}

Scalars::Scalars(cudaDataType_t type) {
  const auto put = [this](auto value) { std::memcpy(one_, &value, sizeof(value)); };
  switch (type) {
    case CUDA_R_64F:
      put(1.0);
      break;
    case CUDA_R_32F:
      put(1.0F);
      break;
    case CUDA_R_16F:
      put(std::uint16_t{0x3c00});
      break;
    case CUDA_R_32I:
      put(std::int32_t{1});
      break;
    default:
      throw std::logic_error("no scalars of this type");
  }
}

Matmul::Matmul(const std::string& precision, const MatmulTypes& types, const MatmulShape& shape)
    : precision_(precision), types_(types), scalars_(types_.scale), alignment_(shape.alignment) {
  MICROBENCH_CUBLASLT(cublasLtCreate, &handle_);
  MICROBENCH_CUBLASLT(cublasLtMatmulDescCreate, &operation_, types_.compute, types_.scale);
  const cublasOperation_t operations[] = {shape.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N,
                                          shape.b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N};
  MICROBENCH_CUBLASLT(cublasLtMatmulDescSetAttribute, operation_, CUBLASLT_MATMUL_DESC_TRANSA, &operations[0],
                      sizeof(cublasOperation_t));
  MICROBENCH_CUBLASLT(cublasLtMatmulDescSetAttribute, operation_, CUBLASLT_MATMUL_DESC_TRANSB, &operations[1],
                      sizeof(cublasOperation_t));
  a_ = layout(types_.storage, shape.a_transposed ? shape.k : shape.m, shape.a_transposed ? shape.m : shape.k,
              shape.lda, shape.batch, shape.a_stride);
  b_ = layout(types_.storage_b, shape.b_transposed ? shape.n : shape.k,
              shape.b_transposed ? shape.k : shape.n, shape.ldb, shape.batch, shape.b_stride);
  c_ = layout(types_.output, shape.m, shape.n, shape.ldc, shape.batch, shape.c_stride);
}

Matmul::~Matmul() {
  for (const cublasLtMatrixLayout_t each : {a_, b_, c_}) {
    MICROBENCH_CUBLASLT_NOEXCEPT(cublasLtMatrixLayoutDestroy, each);
  }
  MICROBENCH_CUBLASLT_NOEXCEPT(cublasLtMatmulDescDestroy, operation_);
  MICROBENCH_CUBLASLT_NOEXCEPT(cublasLtDestroy, handle_);
}

std::vector<cublasLtMatmulHeuristicResult_t> Matmul::ranking(std::int64_t workspace_limit) const {
  const auto bytes =
      static_cast<std::size_t>(workspace_limit == INT64_MAX ? kUsualWorkspace : workspace_limit);
  cublasLtMatmulPreference_t preference = nullptr;
  MICROBENCH_CUBLASLT(cublasLtMatmulPreferenceCreate, &preference);
  const auto prefer = [&preference](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    MICROBENCH_CUBLASLT(cublasLtMatmulPreferenceSetAttribute, preference, attribute, &value, sizeof(value));
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, bytes);
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reduction_schemes());
  for (const auto matrix :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    prefer(matrix, alignment_);
  }
  std::vector<cublasLtMatmulHeuristicResult_t> results(kRanked);
  int count = 0;
  const cublasStatus_t status = MICROBENCH_SYMBOL(cublaslt(), cublasLtMatmulAlgoGetHeuristic)(
      handle_, operation_, a_, b_, c_, c_, preference, kRanked, results.data(), &count);
  MICROBENCH_CUBLASLT_NOEXCEPT(cublasLtMatmulPreferenceDestroy, preference);
  results.resize(static_cast<std::size_t>(count));
  results.erase(std::remove_if(results.begin(), results.end(),
                               [](const auto& result) { return !succeeded(result.state); }),
                results.end());
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || (succeeded(status) && results.empty())) {
    throw Unsupported("cuBLASLt " + describe_cublaslt("").at("version") + " has no " + precision_ +
                      " algorithm for this device, these transposes, sizes and workspace");
  }
  cuda::check(status, "cublasLtMatmulAlgoGetHeuristic");
  return results;
}

std::uint32_t Matmul::reduction_schemes() const {
  return sums_are_wider(types_) ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE : CUBLASLT_REDUCTION_SCHEME_MASK;
}

bool Matmul::check(const cublasLtMatmulAlgo_t& algorithm, cublasLtMatmulHeuristicResult_t& result) const {
  const bool splits = configured(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, 4) != 1;
  const std::uint32_t scheme = configured(algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, 4);
  if (splits && (scheme & ~reduction_schemes()) != 0) return false;
  return succeeded(MICROBENCH_SYMBOL(cublaslt(), cublasLtMatmulAlgoCheck)(handle_, operation_, a_, b_, c_, c_,
                                                                          &algorithm, &result));
}

std::vector<cublasLtMatmulAlgo_t> Matmul::accepted() const {
  std::vector<int> ids(kIds);
  int count = 0;
  MICROBENCH_CUBLASLT(cublasLtMatmulAlgoGetIds, handle_, types_.compute, types_.scale,
                      data_type(types_.storage), data_type(types_.storage_b), data_type(types_.output),
                      data_type(types_.output), kIds, ids.data(), &count);
  ids.resize(static_cast<std::size_t>(count));
  std::vector<cublasLtMatmulAlgo_t> all;
  for (const int id : ids) {
    cublasLtMatmulAlgo_t algorithm{};
    if (!succeeded(MICROBENCH_SYMBOL(cublaslt(), cublasLtMatmulAlgoInit)(
            handle_, types_.compute, types_.scale, data_type(types_.storage), data_type(types_.storage_b),
            data_type(types_.output), data_type(types_.output), id, &algorithm))) {
      continue;
    }
    const std::vector<std::uint32_t> stages = capabilities(algorithm, CUBLASLT_ALGO_CAP_STAGES_IDS);
    for (const std::uint32_t tile : capabilities(algorithm, CUBLASLT_ALGO_CAP_TILE_IDS)) {
      for (const std::uint32_t stage : stages) {
        configure(algorithm, CUBLASLT_ALGO_CONFIG_TILE_ID, 4, tile);
        configure(algorithm, CUBLASLT_ALGO_CONFIG_STAGES_ID, 4, stage);
        cublasLtMatmulHeuristicResult_t result{};
        if (check(algorithm, result)) all.push_back(algorithm);
      }
    }
  }
  return all;
}

std::vector<std::string> Matmul::algorithms(std::int64_t workspace_limit, const std::string& named) const {
  std::vector<std::string> names;
  const auto add = [&names](const cublasLtMatmulAlgo_t& algorithm) {
    std::string name = name_of_algorithm(algorithm);
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(std::move(name));
  };
  for (const auto& result : ranking(workspace_limit)) add(result.algo);
  for (const auto& algorithm : accepted()) add(algorithm);
  if (named != "auto") {
    const cublasLtMatmulAlgo_t algorithm = configured_as(named);
    cublasLtMatmulHeuristicResult_t result{};
    if (check(algorithm, result)) add(algorithm);
  }
  return names;
}

cublasLtMatmulAlgo_t Matmul::configured_as(const std::string& name) const {
  const auto parts = parse(name);
  if (parts.front().first != "algo") throw Unsupported("'" + name + "' is no algorithm of cuBLASLt");
  cublasLtMatmulAlgo_t algorithm{};
  MICROBENCH_CUBLASLT(cublasLtMatmulAlgoInit, handle_, types_.compute, types_.scale,
                      data_type(types_.storage), data_type(types_.storage_b), data_type(types_.output),
                      data_type(types_.output), static_cast<int>(parts.front().second), &algorithm);
  for (std::size_t i = 1; i < parts.size(); ++i) {
    const auto* option = std::find_if(std::begin(kOptions), std::end(kOptions),
                                      [&](const Option& each) { return parts[i].first == each.name; });
    if (option == std::end(kOptions)) {
      throw Unsupported("'" + name + "' is no algorithm of cuBLASLt: it has no option " + parts[i].first);
    }
    configure(algorithm, option->attribute, option->bytes, parts[i].second);
  }
  return algorithm;
}

void Matmul::choose(const std::string& name, std::int64_t workspace_limit) {
  if (name == "auto") {
    const auto ranked = ranking(workspace_limit);
    take(ranked.front());
    remarks_ = "the library's first of " + std::to_string(ranked.size()) + ", " + remarks_;
    return;
  }
  cublasLtMatmulHeuristicResult_t result{};
  const cublasLtMatmulAlgo_t asked = configured_as(name);
  if (!check(asked, result)) {
    throw Unsupported("cuBLASLt does not accept " + name + " for this product on this device" +
                      (sums_are_wider(types_) ? ", or it adds up parts of sums in the result's type" : ""));
  }
  result.algo = asked;
  take(result);
  if (workspace_bytes_ > workspace_limit) throw WorkspaceExceeded(workspace_bytes_, workspace_limit);
}

void Matmul::take(const cublasLtMatmulHeuristicResult_t& result) {
  algorithm_ = result.algo;
  name_ = name_of_algorithm(result.algo);
  workspace_bytes_ = static_cast<std::int64_t>(result.workspaceSize);
  std::string waves = std::to_string(result.wavesCount);
  remarks_ = waves.substr(0, waves.find('.') + 3) + " waves";
}

void Matmul::enqueue(const void* a, const void* b, void* c, void* workspace, cudaStream_t stream,
                     bool add) const {
  MICROBENCH_CUBLASLT(cublasLtMatmul, handle_, operation_, scalars_.one(), a, a_, b, b_,
                      add ? scalars_.one() : scalars_.zero(), c, c_, c, c_, &algorithm_, workspace,
                      static_cast<std::size_t>(workspace_bytes_), stream);
}

}  // namespace microbench::cuda
