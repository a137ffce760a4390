// cuDNN's classic convolution interface: algorithms by their enumerators. Deprecated since 9.0, declared and
// exported still.

#include <algorithm>
#include <array>
#include <optional>

#include "conv/cudnn.hpp"

namespace microbench::conv {
namespace {

using cuda::as_int;

MICROBENCH_CUDNN_DESCRIPTOR(FilterDescriptor, cudnnFilterDescriptor_t, cudnnCreateFilterDescriptor,
                            cudnnDestroyFilterDescriptor);
MICROBENCH_CUDNN_DESCRIPTOR(ConvolutionDescriptor, cudnnConvolutionDescriptor_t,
                            cudnnCreateConvolutionDescriptor, cudnnDestroyConvolutionDescriptor);

struct Named {
  const char* name;
  int algorithm;
};

constexpr int kMostPerformances = 32;  // more than all algorithms with every arithmetic

constexpr std::array<Named, 8> kForward{
    {{"implicit_gemm", CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM},
     {"implicit_precomp_gemm", CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM},
     {"gemm", CUDNN_CONVOLUTION_FWD_ALGO_GEMM},
     {"direct", CUDNN_CONVOLUTION_FWD_ALGO_DIRECT},
     {"fft", CUDNN_CONVOLUTION_FWD_ALGO_FFT},
     {"fft_tiling", CUDNN_CONVOLUTION_FWD_ALGO_FFT_TILING},
     {"winograd", CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD},
     {"winograd_nonfused", CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED}}};
constexpr std::array<Named, 6> kBackwardData{
    {{"algo_0", CUDNN_CONVOLUTION_BWD_DATA_ALGO_0},
     {"algo_1", CUDNN_CONVOLUTION_BWD_DATA_ALGO_1},
     {"fft", CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT},
     {"fft_tiling", CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT_TILING},
     {"winograd", CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD},
     {"winograd_nonfused", CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD_NONFUSED}}};
constexpr std::array<Named, 7> kBackwardWeights{
    {{"algo_0", CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0},
     {"algo_1", CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1},
     {"fft", CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT},
     {"algo_3", CUDNN_CONVOLUTION_BWD_FILTER_ALGO_3},
     {"winograd", CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD},
     {"winograd_nonfused", CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD_NONFUSED},
     {"fft_tiling", CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT_TILING}}};

std::vector<Named> algorithms_of(Pass pass) {
  switch (pass) {
    case Pass::forward:
      return {kForward.begin(), kForward.end()};
    case Pass::backward_data:
      return {kBackwardData.begin(), kBackwardData.end()};
    case Pass::backward_weights:
      return {kBackwardWeights.begin(), kBackwardWeights.end()};
  }
  throw std::logic_error("unknown pass");
}

// Not an algorithm: what cudnnFindConvolution*AlgorithmEx times fastest within the workspace limit.
constexpr const char* kFind = "find";

int algorithm_called(const std::string& name, Pass pass) {
  for (const Named& each : algorithms_of(pass)) {
    if (each.name == name) return each.algorithm;
  }
  throw std::logic_error("cuDNN's classic interface has no algorithm '" + name + "'");
}

const char* name_of(int algorithm, Pass pass) {
  for (const Named& each : algorithms_of(pass)) {
    if (each.algorithm == algorithm) return each.name;
  }
  throw std::runtime_error("cuDNN names an algorithm that it does not declare: " + std::to_string(algorithm));
}

const char* name_of(cudnnMathType_t math) {
  switch (math) {
    case CUDNN_DEFAULT_MATH:
      return "default_math";
    case CUDNN_TENSOR_OP_MATH:
      return "tensor_op_math";
    case CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION:
      return "tensor_op_math_allow_conversion";
    case CUDNN_FMA_MATH:
      return "fma_math";
  }
  return "unknown_math";
}

struct Descriptors {
  cuda::TensorDescriptor input, output;
  FilterDescriptor weights;
  ConvolutionDescriptor convolution;

  Descriptors(const Shape& shape, const cuda::CudnnPrecision& precision) {
    const TensorTypes types(shape.pass, precision);
    set(input, types.input, shape.c, shape.h, shape.w, shape);
    set(output, types.output, shape.k, shape.out_h(), shape.out_w(), shape);
    MICROBENCH_CUDNN(cudnnSetFilter4dDescriptor, weights, types.weights,
                     shape.channels_last ? CUDNN_TENSOR_NHWC : CUDNN_TENSOR_NCHW, as_int(shape.k),
                     as_int(shape.group_c()), as_int(shape.r), as_int(shape.s));
    MICROBENCH_CUDNN(cudnnSetConvolution2dDescriptor, convolution, as_int(shape.pad_h), as_int(shape.pad_w),
                     as_int(shape.stride_h), as_int(shape.stride_w), as_int(shape.dilation_h),
                     as_int(shape.dilation_w), CUDNN_CROSS_CORRELATION, precision.compute);
    MICROBENCH_CUDNN(cudnnSetConvolutionGroupCount, convolution, as_int(shape.groups));
    MICROBENCH_CUDNN(cudnnSetConvolutionMathType, convolution, precision.math);
  }

  // Where cuDNN says what it does not support: throws Unsupported then.
  std::int64_t workspace_needed(cudnnHandle_t handle, int algorithm, Pass pass) const {
    std::size_t bytes = 0;
    switch (pass) {
      case Pass::forward:
        MICROBENCH_CUDNN(cudnnGetConvolutionForwardWorkspaceSize, handle, input, weights, convolution, output,
                         static_cast<cudnnConvolutionFwdAlgo_t>(algorithm), &bytes);
        break;
      case Pass::backward_data:
        MICROBENCH_CUDNN(cudnnGetConvolutionBackwardDataWorkspaceSize, handle, weights, output, convolution,
                         input, static_cast<cudnnConvolutionBwdDataAlgo_t>(algorithm), &bytes);
        break;
      case Pass::backward_weights:
        MICROBENCH_CUDNN(cudnnGetConvolutionBackwardFilterWorkspaceSize, handle, input, output, convolution,
                         weights, static_cast<cudnnConvolutionBwdFilterAlgo_t>(algorithm), &bytes);
        break;
    }
    return static_cast<std::int64_t>(bytes);
  }

 private:
  static void set(const cuda::TensorDescriptor& descriptor, cudnnDataType_t type, std::int64_t c,
                  std::int64_t h, std::int64_t w, const Shape& shape) {
    const View view = dense(shape.channels_last, c, h, w);
    MICROBENCH_CUDNN(cudnnSetTensor4dDescriptorEx, descriptor, type, as_int(shape.n), as_int(c), as_int(h),
                     as_int(w), as_int(view.n), as_int(view.c), as_int(view.h), as_int(view.w));
  }
};

template <typename Performance>
std::string described(const Performance& each) {
  return std::string(", ") + name_of(each.mathType) +
         (each.determinism == CUDNN_DETERMINISTIC ? ", deterministic" : ", nondeterministic");
}

// Where cuDNN's own heuristic (version 7 of it) ranks the algorithm, and what it says of it; "" where it does
// not know this convolution.
template <typename Performance, typename Query>
std::string ranked(int algorithm, Query&& query) {
  std::array<Performance, kMostPerformances> performances{};
  int count = 0;
  if (query(kMostPerformances, &count, performances.data()) != CUDNN_STATUS_SUCCESS) return "";
  for (int rank = 0; rank < count; ++rank) {
    const Performance& each = performances[static_cast<std::size_t>(rank)];
    if (static_cast<int>(each.algo) != algorithm || each.status != CUDNN_STATUS_SUCCESS) continue;
    return described(each) + ", heuristic v7 " + std::to_string(rank + 1) + " of " + std::to_string(count);
  }
  return "";
}

// What Find picked: the algorithm, the arithmetic that it was timed with, and both in words.
struct Found {
  int algorithm;
  cudnnMathType_t math;
  std::string implementation;
};

// The fastest of Find's results that may be had in the precision. fp32 keeps tensor cores out: results that
// use them are passed over, others run as the precision says. So are gradients in 16 bits that are not
// deterministic: cuDNN adds their parts up in 16 bits, by atomics.
template <typename Performance, typename Query>
Found fastest(const Shape& shape, const cuda::CudnnPrecision& precision, std::int64_t limit, Query&& query) {
  std::array<Performance, kMostPerformances> performances{};
  int count = 0;
  query(kMostPerformances, &count, performances.data());
  const bool fma = precision.math == CUDNN_FMA_MATH;
  for (int rank = 0; rank < count; ++rank) {
    const Performance& each = performances[static_cast<std::size_t>(rank)];
    const bool tensor_cores =
        each.mathType == CUDNN_TENSOR_OP_MATH || each.mathType == CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION;
    const bool in_16_bits = shape.pass != Pass::forward && element_bytes(precision.storage) == 2 &&
                            each.determinism == CUDNN_NON_DETERMINISTIC;
    if (each.status != CUDNN_STATUS_SUCCESS || static_cast<std::int64_t>(each.memory) > limit ||
        (fma && tensor_cores) || in_16_bits) {
      continue;
    }
    const auto algorithm = static_cast<int>(each.algo);
    return {algorithm, fma ? precision.math : each.mathType,
            std::string("classic find: ") + name_of(algorithm, shape.pass) + described(each) + ", find " +
                std::to_string(rank + 1) + " of " + std::to_string(count)};
  }
  throw Unsupported("cuDNN's Find ran none of its algorithms in this precision");
}

// Runs Find on operands of its own, whose contents do not matter, with as much workspace as any algorithm
// needs that keeps the limit.
Found find(const Request& request) {
  const Shape shape(request);
  const cuda::CudnnPrecision precision = cuda::cudnn_precision(request.precision);
  const cuda::Stream stream;
  const cuda::CudnnHandle handle(stream);
  const Descriptors d(shape, precision);
  std::optional<std::int64_t> least, most;
  std::string refusals;
  for (const Named& each : algorithms_of(shape.pass)) {
    try {
      const std::int64_t needed = d.workspace_needed(handle, each.algorithm, shape.pass);
      least = std::min(least.value_or(needed), needed);
      if (needed <= request.workspace_limit) most = std::max(most.value_or(needed), needed);
    } catch (const Unsupported& refusal) {
      refusals += std::string(refusals.empty() ? "" : "; ") + refusal.what();
    }
  }
  if (!least) throw Unsupported("cuDNN's classic interface has no algorithm: " + refusals);
  if (!most) throw WorkspaceExceeded(*least, request.workspace_limit);
  DeviceOperands operands(shape, precision.storage, precision.output);
  cuda::Memory workspace(*most);
  void* x = operands.input.data();
  void* w = operands.weights.data();
  void* y = operands.output.data();
  const auto bytes = static_cast<std::size_t>(*most);
  switch (shape.pass) {
    case Pass::forward:
      return fastest<cudnnConvolutionFwdAlgoPerf_t>(
          shape, precision, *most, [&](int limit, int* count, auto* all) {
            MICROBENCH_CUDNN(cudnnFindConvolutionForwardAlgorithmEx, handle, d.input, x, d.weights, w,
                             d.convolution, d.output, y, limit, count, all, workspace.data(), bytes);
          });
    case Pass::backward_data:
      return fastest<cudnnConvolutionBwdDataAlgoPerf_t>(
          shape, precision, *most, [&](int limit, int* count, auto* all) {
            MICROBENCH_CUDNN(cudnnFindConvolutionBackwardDataAlgorithmEx, handle, d.weights, w, d.output, y,
                             d.convolution, d.input, x, limit, count, all, workspace.data(), bytes);
          });
    case Pass::backward_weights:
      return fastest<cudnnConvolutionBwdFilterAlgoPerf_t>(
          shape, precision, *most, [&](int limit, int* count, auto* all) {
            MICROBENCH_CUDNN(cudnnFindConvolutionBackwardFilterAlgorithmEx, handle, d.input, x, d.output, y,
                             d.convolution, d.weights, w, limit, count, all, workspace.data(), bytes);
          });
  }
  throw std::logic_error("unknown pass");
}

class ClassicConvolution final : public cuda::CudaHarness {
 public:
  explicit ClassicConvolution(const Request& request)
      : ClassicConvolution(request, algorithm_called(request.algorithm, Shape(request).pass),
                           cuda::cudnn_precision(request.precision)) {
    implementation_ = "classic " + request.algorithm + rank();
  }
  ClassicConvolution(const Request& request, const Found& found)
      : ClassicConvolution(request, found.algorithm, with_math(request.precision, found.math)) {
    implementation_ = found.implementation;
  }

  void enqueue(cudaStream_t stream) override {
    handle_.use(stream);
    const float one = 1, zero = 0;
    const double one_double = 1, zero_double = 0;
    const bool fp64 = precision_.compute == CUDNN_DATA_DOUBLE;
    const void* alpha = fp64 ? static_cast<const void*>(&one_double) : &one;
    const void* beta = fp64 ? static_cast<const void*>(&zero_double) : &zero;
    const Descriptors& d = descriptors_;
    void* input = operands_.input.data();
    void* weights = operands_.weights.data();
    void* output = operands_.output.data();
    void* workspace = workspace_.data();
    const auto bytes = static_cast<std::size_t>(workspace_.bytes());
    switch (shape_.pass) {
      case Pass::forward:
        MICROBENCH_CUDNN(cudnnConvolutionForward, handle_, alpha, d.input, input, d.weights, weights,
                         d.convolution, static_cast<cudnnConvolutionFwdAlgo_t>(algorithm_), workspace, bytes,
                         beta, d.output, output);
        return;
      case Pass::backward_data:
        MICROBENCH_CUDNN(cudnnConvolutionBackwardData, handle_, alpha, d.weights, weights, d.output, output,
                         d.convolution, static_cast<cudnnConvolutionBwdDataAlgo_t>(algorithm_), workspace,
                         bytes, beta, d.input, input);
        return;
      case Pass::backward_weights:
        MICROBENCH_CUDNN(cudnnConvolutionBackwardFilter, handle_, alpha, d.input, input, d.output, output,
                         d.convolution, static_cast<cudnnConvolutionBwdFilterAlgo_t>(algorithm_), workspace,
                         bytes, beta, d.weights, weights);
        return;
    }
  }

  std::vector<cuda::DeviceOperand> device_operands() override { return operands_.list(shape_.pass); }
  std::string implementation() const override { return implementation_; }
  std::int64_t workspace_bytes() const override { return workspace_.bytes(); }

 private:
  ClassicConvolution(const Request& request, int algorithm, const cuda::CudnnPrecision& precision)
      : shape_(request),
        precision_(precision),
        algorithm_(algorithm),
        handle_(stream()),
        descriptors_(shape_, precision_),
        // Asked first, and before any memory is taken.
        workspace_(cuda::within(request.workspace_limit,
                                descriptors_.workspace_needed(handle_, algorithm_, shape_.pass))),
        operands_(shape_, precision_.storage, precision_.output) {}

  static cuda::CudnnPrecision with_math(const std::string& precision, cudnnMathType_t math) {
    cuda::CudnnPrecision found = cuda::cudnn_precision(precision);
    found.math = math;
    return found;
  }

  std::string rank() const {
    const Descriptors& d = descriptors_;
    switch (shape_.pass) {
      case Pass::forward:
        return ranked<cudnnConvolutionFwdAlgoPerf_t>(algorithm_, [&](int most, int* count, auto* all) {
          return MICROBENCH_CUDNN_STATUS(cudnnGetConvolutionForwardAlgorithm_v7, handle_, d.input, d.weights,
                                         d.convolution, d.output, most, count, all);
        });
      case Pass::backward_data:
        return ranked<cudnnConvolutionBwdDataAlgoPerf_t>(algorithm_, [&](int most, int* count, auto* all) {
          return MICROBENCH_CUDNN_STATUS(cudnnGetConvolutionBackwardDataAlgorithm_v7, handle_, d.weights,
                                         d.output, d.convolution, d.input, most, count, all);
        });
      case Pass::backward_weights:
        return ranked<cudnnConvolutionBwdFilterAlgoPerf_t>(algorithm_, [&](int most, int* count, auto* all) {
          return MICROBENCH_CUDNN_STATUS(cudnnGetConvolutionBackwardFilterAlgorithm_v7, handle_, d.input,
                                         d.output, d.convolution, d.weights, most, count, all);
        });
    }
    throw std::logic_error("unknown pass");
  }

  Shape shape_;
  cuda::CudnnPrecision precision_;
  int algorithm_;
  cuda::CudnnHandle handle_;
  Descriptors descriptors_;
  cuda::Memory workspace_;
  DeviceOperands operands_;
  std::string implementation_;
};

}  // namespace

std::vector<std::string> classic_algorithms(Pass pass) {
  std::vector<std::string> names;
  for (const Named& each : algorithms_of(pass)) names.emplace_back(each.name);
  names.emplace_back(kFind);
  return names;
}

std::unique_ptr<Harness> open_classic(const Request& request) {
  if (request.algorithm == kFind) return std::make_unique<ClassicConvolution>(request, find(request));
  return std::make_unique<ClassicConvolution>(request);
}

}  // namespace microbench::conv
