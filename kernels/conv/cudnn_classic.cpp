// cuDNN's classic convolution interface: algorithms by their enumerators. Deprecated since 9.0, declared and
// exported still.

#include <array>

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

int algorithm_called(const std::string& name, Pass pass) {
  for (const Named& each : algorithms_of(pass)) {
    if (each.name == name) return each.algorithm;
  }
  throw std::logic_error("cuDNN's classic interface has no algorithm '" + name + "'");
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

 private:
  static void set(const cuda::TensorDescriptor& descriptor, cudnnDataType_t type, std::int64_t c,
                  std::int64_t h, std::int64_t w, const Shape& shape) {
    const View view = dense(shape.channels_last, c, h, w);
    MICROBENCH_CUDNN(cudnnSetTensor4dDescriptorEx, descriptor, type, as_int(shape.n), as_int(c), as_int(h),
                     as_int(w), as_int(view.n), as_int(view.c), as_int(view.h), as_int(view.w));
  }
};

// Where cuDNN's own heuristic (version 7 of it) ranks the algorithm, and what it says of it; "" where it does
// not know this convolution.
template <typename Performance, typename Query>
std::string ranked(int algorithm, Query&& query) {
  constexpr int kMost = 16;
  std::array<Performance, kMost> performances{};
  int count = 0;
  if (query(kMost, &count, performances.data()) != CUDNN_STATUS_SUCCESS) return "";
  for (int rank = 0; rank < count; ++rank) {
    const Performance& each = performances[static_cast<std::size_t>(rank)];
    if (static_cast<int>(each.algo) != algorithm || each.status != CUDNN_STATUS_SUCCESS) continue;
    return std::string(", ") + name_of(each.mathType) +
           (each.determinism == CUDNN_DETERMINISTIC ? ", deterministic" : ", nondeterministic") +
           ", heuristic v7 " + std::to_string(rank + 1) + " of " + std::to_string(count);
  }
  return "";
}

class ClassicConvolution final : public cuda::CudaHarness {
 public:
  explicit ClassicConvolution(const Request& request)
      : shape_(request),
        precision_(cuda::cudnn_precision(request.precision)),
        algorithm_(algorithm_called(request.algorithm, shape_.pass)),
        handle_(stream()),
        descriptors_(shape_, precision_),
        workspace_(cuda::within(request.workspace_limit, workspace_needed())),
        operands_(shape_, precision_.storage, precision_.output),
        implementation_("classic " + request.algorithm + rank()) {}

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
  // Asked first, and before any memory is taken: this is where cuDNN says what it does not support.
  std::int64_t workspace_needed() const {
    const Descriptors& d = descriptors_;
    std::size_t bytes = 0;
    switch (shape_.pass) {
      case Pass::forward:
        MICROBENCH_CUDNN(cudnnGetConvolutionForwardWorkspaceSize, handle_, d.input, d.weights, d.convolution,
                         d.output, static_cast<cudnnConvolutionFwdAlgo_t>(algorithm_), &bytes);
        break;
      case Pass::backward_data:
        MICROBENCH_CUDNN(cudnnGetConvolutionBackwardDataWorkspaceSize, handle_, d.weights, d.output,
                         d.convolution, d.input, static_cast<cudnnConvolutionBwdDataAlgo_t>(algorithm_),
                         &bytes);
        break;
      case Pass::backward_weights:
        MICROBENCH_CUDNN(cudnnGetConvolutionBackwardFilterWorkspaceSize, handle_, d.input, d.output,
                         d.convolution, d.weights, static_cast<cudnnConvolutionBwdFilterAlgo_t>(algorithm_),
                         &bytes);
        break;
    }
    return static_cast<std::int64_t>(bytes);
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
  return names;
}

std::unique_ptr<Harness> open_classic(const Request& request) {
  return std::make_unique<ClassicConvolution>(request);
}

}  // namespace microbench::conv
