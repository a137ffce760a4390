// A stand-in for cuDNN on host memory: the entry points that microbench calls, with real arithmetic, what it
// supports from tables, and a log of what was called that a test may read.

#include "backend.hpp"
#include "device.hpp"
#include "recurrent.hpp"

using fake::refuse;

struct cudnnContext {
  cudaStream_t stream;
};
struct cudnnTensorStruct {
  cudnnDataType_t type;
  std::vector<int> sizes, strides;
};
struct cudnnFilterStruct {
  fake::Tensor tensor;
};
struct cudnnConvolutionStruct {
  fake::Window window;
  cudnnDataType_t compute;
  int groups;
  cudnnMathType_t math;
};
namespace {

std::string& journal() {
  static std::string text;
  return text;
}
void note(const std::string& line) { journal() += line + "\n"; }

template <typename T>
cudnnStatus_t create(T** made) {
  *made = new T{};
  return CUDNN_STATUS_SUCCESS;
}
template <typename T>
cudnnStatus_t destroy(T* made) {
  delete made;
  return CUDNN_STATUS_SUCCESS;
}

// Whether tensor cores may round the operands of products.
bool tf32(cudnnDataType_t type, cudnnMathType_t math) {
  return type == CUDNN_DATA_FLOAT && math != CUDNN_FMA_MATH;
}

fake::Tensor tensor_of(cudnnTensorDescriptor_t descriptor) {
  fake::Tensor tensor{descriptor->type, {}, {}};
  for (std::size_t i = 0; i < 4; ++i) {
    tensor.sizes[i] = descriptor->sizes.at(i), tensor.strides[i] = descriptor->strides.at(i);
  }
  return tensor;
}

constexpr int kImplicitGemm = 0, kDirect = 3, kFft = 4, kWinograd = 6, kWinogradNonfused = 7;

// What the fake's classic interface says of an algorithm of the forward pass; others are like implicit GEMM.
cudnnStatus_t supported(int algorithm, bool forward, const fake::Tensor& w,
                        const cudnnConvolutionStruct* convolution, std::size_t* bytes) {
  if (forward && algorithm == kDirect) return refuse(CUDNN_STATUS_NOT_SUPPORTED, "DIRECT is not implemented");
  if (forward && algorithm == kWinograd) {
    return refuse(CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH, "WINOGRAD is not supported on this device");
  }
  if (forward && algorithm == kFft && convolution->window.stride[0] * convolution->window.stride[1] != 1) {
    return refuse(CUDNN_STATUS_NOT_SUPPORTED_SHAPE, "FFT needs stride 1");
  }
  if (algorithm == (forward ? kWinogradNonfused : kWinogradNonfused - 2) &&
      !fake::takes_winograd(w, convolution->window)) {
    return refuse(CUDNN_STATUS_NOT_SUPPORTED_SHAPE, "WINOGRAD_NONFUSED needs 3x3 filters and stride 1");
  }
  if (w.type == CUDNN_DATA_INT8 && (w.strides[1] != 1 || w.sizes[1] % 4 != 0)) {
    return refuse(CUDNN_STATUS_NOT_SUPPORTED_LAYOUT, "int8 needs NHWC and multiples of 4 channels");
  }
  *bytes = algorithm == kImplicitGemm ? 0 : 1000 * static_cast<std::size_t>(algorithm);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t classic(cudnnHandle_t handle, fake::Result result, int algorithm,
                      const cudnnConvolutionStruct* convolution, cudnnTensorDescriptor_t x,
                      const void* x_data, cudnnFilterDescriptor_t w, const void* w_data,
                      cudnnTensorDescriptor_t y, const void* y_data, void* workspace,
                      std::size_t workspace_bytes, const void* alpha, const void* beta) {
  std::size_t needed = 0;
  const cudnnStatus_t status =
      supported(algorithm, result == fake::Result::output, w->tensor, convolution, &needed);
  if (status != CUDNN_STATUS_SUCCESS) return status;
  if (workspace_bytes < needed) return refuse(CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT, "workspace");
  const bool fp64 = convolution->compute == CUDNN_DATA_DOUBLE;
  const auto scale = [fp64](const void* value) {
    return fp64 ? *static_cast<const double*>(value) : static_cast<double>(*static_cast<const float*>(value));
  };
  if (scale(alpha) != 1) return refuse(CUDNN_STATUS_BAD_PARAM, "alpha");
  note("convolve algorithm " + std::to_string(algorithm) + " math " + std::to_string(convolution->math));
  const fake::Tensor x_is = tensor_of(x), w_is = w->tensor, y_is = tensor_of(y);
  const fake::Window window = convolution->window;
  const double kept = scale(beta);
  const bool short_products = tf32(w_is.type, convolution->math);
  handle->stream->run(fake::seconds_of(w_is, y_is), [=] {
    if (needed > 0) std::memset(workspace, 0xAB, needed);
    fake::convolve(result, window, x_is, const_cast<void*>(x_data), w_is, const_cast<void*>(w_data), y_is,
                   const_cast<void*>(y_data), kept, short_products);
  });
  return CUDNN_STATUS_SUCCESS;
}

// Two algorithms, in the opposite order of their numbers.
template <typename Performance, typename Algorithm>
cudnnStatus_t rank(int requested, int* returned, Performance* all) {
  *returned = std::min(requested, 2);
  for (int i = 0; i < *returned; ++i) {
    all[i].algo = static_cast<Algorithm>(1 - i);
    all[i].status = CUDNN_STATUS_SUCCESS;
    all[i].determinism = i == 0 ? CUDNN_DETERMINISTIC : CUDNN_NON_DETERMINISTIC;
    all[i].mathType = CUDNN_FMA_MATH;
  }
  return CUDNN_STATUS_SUCCESS;
}

// What Find says: first what tensor cores would do, or what adds gradients in 16 bits by atomics, then the
// algorithms with the most workspace first; those that are not supported, or need more than there is, last.
// Writes to the result and to all of the workspace.
template <typename Performance, typename Algorithm>
cudnnStatus_t find(bool forward, const fake::Tensor& w, const cudnnConvolutionStruct* convolution,
                   std::size_t result_bytes, void* result, int requested, int* returned, Performance* all,
                   void* workspace, std::size_t workspace_bytes) {
  std::memset(result, 0xCD, result_bytes);
  if (workspace_bytes > 0) std::memset(workspace, 0xCD, workspace_bytes);
  std::vector<Performance> found;
  for (int algorithm = forward ? kWinogradNonfused : kWinogradNonfused - 2; algorithm >= 0; --algorithm) {
    Performance each{};
    each.algo = static_cast<Algorithm>(algorithm);
    each.status = supported(algorithm, forward, w, convolution, &each.memory);
    if (each.status == CUDNN_STATUS_SUCCESS && each.memory > workspace_bytes) {
      each.status = CUDNN_STATUS_ALLOC_FAILED;
    }
    each.determinism = CUDNN_DETERMINISTIC;
    each.mathType = convolution->math;
    found.push_back(each);
  }
  std::stable_partition(found.begin(), found.end(),
                        [](const Performance& each) { return each.status == CUDNN_STATUS_SUCCESS; });
  if (w.type == CUDNN_DATA_FLOAT) {
    Performance tensor_cores{};
    tensor_cores.algo = static_cast<Algorithm>(0);
    tensor_cores.mathType = CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION;
    found.insert(found.begin(), tensor_cores);
  }
  if (!forward && (w.type == CUDNN_DATA_HALF || w.type == CUDNN_DATA_BFLOAT16)) {
    Performance atomics{};
    atomics.algo = static_cast<Algorithm>(0);
    atomics.determinism = CUDNN_NON_DETERMINISTIC;
    atomics.mathType = convolution->math;
    found.insert(found.begin(), atomics);
  }
  *returned = std::min(requested, static_cast<int>(found.size()));
  std::copy_n(found.begin(), *returned, all);
  note("find in " + std::to_string(workspace_bytes) + " bytes");
  return CUDNN_STATUS_SUCCESS;
}

std::size_t bytes_of(const fake::Tensor& tensor) {
  return static_cast<std::size_t>(tensor.elements() * fake::bytes_of(tensor.type));
}

}  // namespace

extern "C" {

const char* fake_cudnn_log() { return journal().c_str(); }
void fake_cudnn_forget() { journal().clear(); }

size_t cudnnGetVersion() { return 91200; }
const char* cudnnGetErrorString(cudnnStatus_t status) {
  return status == CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH ? "CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH"
         : status == CUDNN_STATUS_NOT_SUPPORTED_LAYOUT      ? "CUDNN_STATUS_NOT_SUPPORTED_LAYOUT"
         : status == CUDNN_STATUS_NOT_SUPPORTED             ? "CUDNN_STATUS_NOT_SUPPORTED"
                                                            : "CUDNN_STATUS_OF_THE_FAKE";
}
void cudnnGetLastErrorString(char* message, size_t max_size) {
  std::strncpy(message, fake::last_error().c_str(), max_size);
  fake::last_error().clear();
}
cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) { return create(handle); }
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) { return destroy(handle); }
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t* made) { return create(made); }
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t made) { return destroy(made); }
cudnnStatus_t cudnnSetTensor4dDescriptorEx(cudnnTensorDescriptor_t tensor, cudnnDataType_t type, int n, int c,
                                           int h, int w, int n_stride, int c_stride, int h_stride,
                                           int w_stride) {
  *tensor = {type, {n, c, h, w}, {n_stride, c_stride, h_stride, w_stride}};
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetTensorNdDescriptor(cudnnTensorDescriptor_t tensor, cudnnDataType_t type, int dimensions,
                                         const int sizes[], const int strides[]) {
  *tensor = {type, {sizes, sizes + dimensions}, {strides, strides + dimensions}};
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetTensorNdDescriptor(const cudnnTensorDescriptor_t tensor, int wanted,
                                         cudnnDataType_t* type, int* dimensions, int sizes[], int strides[]) {
  *type = tensor->type;
  *dimensions = static_cast<int>(tensor->sizes.size());
  std::copy_n(tensor->sizes.begin(), std::min(wanted, *dimensions), sizes);
  std::copy_n(tensor->strides.begin(), std::min(wanted, *dimensions), strides);
  return CUDNN_STATUS_SUCCESS;
}

// ---- the classic convolution interface

cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t* made) { return create(made); }
cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t made) { return destroy(made); }
cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t filter, cudnnDataType_t type,
                                         cudnnTensorFormat_t format, int k, int c, int h, int w) {
  if (format == CUDNN_TENSOR_NHWC) {
    filter->tensor = {type, {k, c, h, w}, {h * w * c, 1, w * c, c}};
  } else {
    filter->tensor = {type, {k, c, h, w}, {c * h * w, h * w, w, 1}};
  }
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t* made) { return create(made); }
cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t made) { return destroy(made); }
cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t convolution, int pad_h, int pad_w,
                                              int u, int v, int dilation_h, int dilation_w,
                                              cudnnConvolutionMode_t mode, cudnnDataType_t compute) {
  if (mode != CUDNN_CROSS_CORRELATION) return refuse(CUDNN_STATUS_NOT_SUPPORTED, "flipped filters");
  convolution->window = {{pad_h, pad_w}, {u, v}, {dilation_h, dilation_w}};
  convolution->compute = compute;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t convolution, int groups) {
  convolution->groups = groups;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t convolution, cudnnMathType_t math) {
  convolution->math = math;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t, const cudnnTensorDescriptor_t,
                                                      const cudnnFilterDescriptor_t w,
                                                      const cudnnConvolutionDescriptor_t convolution,
                                                      const cudnnTensorDescriptor_t,
                                                      cudnnConvolutionFwdAlgo_t algorithm, size_t* bytes) {
  return supported(algorithm, true, w->tensor, convolution, bytes);
}
cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(cudnnHandle_t, const cudnnFilterDescriptor_t w,
                                                           const cudnnTensorDescriptor_t,
                                                           const cudnnConvolutionDescriptor_t convolution,
                                                           const cudnnTensorDescriptor_t,
                                                           cudnnConvolutionBwdDataAlgo_t algorithm,
                                                           size_t* bytes) {
  return supported(algorithm, false, w->tensor, convolution, bytes);
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(cudnnHandle_t, const cudnnTensorDescriptor_t,
                                                             const cudnnTensorDescriptor_t,
                                                             const cudnnConvolutionDescriptor_t convolution,
                                                             const cudnnFilterDescriptor_t w,
                                                             cudnnConvolutionBwdFilterAlgo_t algorithm,
                                                             size_t* bytes) {
  return supported(algorithm, false, w->tensor, convolution, bytes);
}

cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t, const cudnnTensorDescriptor_t,
                                                     const cudnnFilterDescriptor_t,
                                                     const cudnnConvolutionDescriptor_t,
                                                     const cudnnTensorDescriptor_t, const int requested,
                                                     int* returned, cudnnConvolutionFwdAlgoPerf_t* all) {
  return rank<cudnnConvolutionFwdAlgoPerf_t, cudnnConvolutionFwdAlgo_t>(requested, returned, all);
}
cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(cudnnHandle_t, const cudnnFilterDescriptor_t,
                                                          const cudnnTensorDescriptor_t,
                                                          const cudnnConvolutionDescriptor_t,
                                                          const cudnnTensorDescriptor_t, const int requested,
                                                          int* returned,
                                                          cudnnConvolutionBwdDataAlgoPerf_t* all) {
  return rank<cudnnConvolutionBwdDataAlgoPerf_t, cudnnConvolutionBwdDataAlgo_t>(requested, returned, all);
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(cudnnHandle_t, const cudnnTensorDescriptor_t,
                                                            const cudnnTensorDescriptor_t,
                                                            const cudnnConvolutionDescriptor_t,
                                                            const cudnnFilterDescriptor_t, const int, int*,
                                                            cudnnConvolutionBwdFilterAlgoPerf_t*) {
  return refuse(CUDNN_STATUS_NOT_SUPPORTED, "the heuristic does not know this convolution");
}

cudnnStatus_t cudnnFindConvolutionForwardAlgorithmEx(
    cudnnHandle_t, const cudnnTensorDescriptor_t, const void*, const cudnnFilterDescriptor_t w, const void*,
    const cudnnConvolutionDescriptor_t convolution, const cudnnTensorDescriptor_t y, void* y_data,
    const int requested, int* returned, cudnnConvolutionFwdAlgoPerf_t* all, void* workspace,
    size_t workspace_bytes) {
  return find<cudnnConvolutionFwdAlgoPerf_t, cudnnConvolutionFwdAlgo_t>(
      true, w->tensor, convolution, bytes_of(tensor_of(y)), y_data, requested, returned, all, workspace,
      workspace_bytes);
}
cudnnStatus_t cudnnFindConvolutionBackwardDataAlgorithmEx(
    cudnnHandle_t, const cudnnFilterDescriptor_t w, const void*, const cudnnTensorDescriptor_t, const void*,
    const cudnnConvolutionDescriptor_t convolution, const cudnnTensorDescriptor_t x, void* x_data,
    const int requested, int* returned, cudnnConvolutionBwdDataAlgoPerf_t* all, void* workspace,
    size_t workspace_bytes) {
  return find<cudnnConvolutionBwdDataAlgoPerf_t, cudnnConvolutionBwdDataAlgo_t>(
      false, w->tensor, convolution, bytes_of(tensor_of(x)), x_data, requested, returned, all, workspace,
      workspace_bytes);
}
cudnnStatus_t cudnnFindConvolutionBackwardFilterAlgorithmEx(
    cudnnHandle_t, const cudnnTensorDescriptor_t, const void*, const cudnnTensorDescriptor_t, const void*,
    const cudnnConvolutionDescriptor_t convolution, const cudnnFilterDescriptor_t w, void* w_data,
    const int requested, int* returned, cudnnConvolutionBwdFilterAlgoPerf_t* all, void* workspace,
    size_t workspace_bytes) {
  return find<cudnnConvolutionBwdFilterAlgoPerf_t, cudnnConvolutionBwdFilterAlgo_t>(
      false, w->tensor, convolution, bytes_of(w->tensor), w_data, requested, returned, all, workspace,
      workspace_bytes);
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t handle, const void* alpha,
                                      const cudnnTensorDescriptor_t x, const void* x_data,
                                      const cudnnFilterDescriptor_t w, const void* w_data,
                                      const cudnnConvolutionDescriptor_t convolution,
                                      cudnnConvolutionFwdAlgo_t algorithm, void* workspace,
                                      size_t workspace_bytes, const void* beta,
                                      const cudnnTensorDescriptor_t y, void* y_data) {
  return classic(handle, fake::Result::output, algorithm, convolution, x, x_data, w, w_data, y, y_data,
                 workspace, workspace_bytes, alpha, beta);
}
cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t handle, const void* alpha,
                                           const cudnnFilterDescriptor_t w, const void* w_data,
                                           const cudnnTensorDescriptor_t y, const void* y_data,
                                           const cudnnConvolutionDescriptor_t convolution,
                                           cudnnConvolutionBwdDataAlgo_t algorithm, void* workspace,
                                           size_t workspace_bytes, const void* beta,
                                           const cudnnTensorDescriptor_t x, void* x_data) {
  return classic(handle, fake::Result::input, algorithm, convolution, x, x_data, w, w_data, y, y_data,
                 workspace, workspace_bytes, alpha, beta);
}
cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t handle, const void* alpha,
                                             const cudnnTensorDescriptor_t x, const void* x_data,
                                             const cudnnTensorDescriptor_t y, const void* y_data,
                                             const cudnnConvolutionDescriptor_t convolution,
                                             cudnnConvolutionBwdFilterAlgo_t algorithm, void* workspace,
                                             size_t workspace_bytes, const void* beta,
                                             const cudnnFilterDescriptor_t w, void* w_data) {
  return classic(handle, fake::Result::weights, algorithm, convolution, x, x_data, w, w_data, y, y_data,
                 workspace, workspace_bytes, alpha, beta);
}

// ---- the graph interface

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                           cudnnBackendDescriptor_t* made) {
  *made = new fake::Descriptor{type, false, {}};
  fake::alive().insert(*made);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  fake::alive().erase(descriptor);
  delete static_cast<fake::Descriptor*>(descriptor);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  auto& made = *static_cast<fake::Descriptor*>(descriptor);
  const cudnnStatus_t status = fake::finalize(made);
  made.finalized = status == CUDNN_STATUS_SUCCESS;
  return status;
}
cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void* values) {
  auto& made = *static_cast<fake::Descriptor*>(descriptor);
  if (made.finalized) return refuse(CUDNN_STATUS_BAD_PARAM, "set after finalize");
  const auto* bytes = static_cast<const char*>(values);
  if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
    for (int64_t i = 0; i < count; ++i) {
      const auto* other = static_cast<fake::Descriptor* const*>(values)[i];
      if (!other->finalized) return refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "attribute not finalized");
    }
  }
  made.attributes[name] = {
      type, count, {bytes, bytes + fake::bytes_of_attribute(type) * static_cast<std::size_t>(count)}};
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const descriptor,
                                       cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                                       int64_t requested, int64_t* count, void* values) {
  auto& made = *static_cast<fake::Descriptor*>(descriptor);
  if (!made.finalized) return refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "get before finalize");
  if (name == CUDNN_ATTR_ENGINEHEUR_RESULTS) {
    fake::fill(made, requested, count, static_cast<void**>(values));
    return CUDNN_STATUS_SUCCESS;
  }
  const auto found = made.attributes.find(name);
  *count = found == made.attributes.end() ? 0 : found->second.count;
  if (*count == 0) return CUDNN_STATUS_SUCCESS;
  if (found->second.type != type) return refuse(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "attribute type");
  const int64_t given = std::min(requested, *count);
  if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
    for (int64_t i = 0; i < given; ++i) {  // into descriptors that the caller made
      auto& into = *static_cast<fake::Descriptor**>(values)[i];
      into = *made.all<fake::Descriptor*>(name)[static_cast<std::size_t>(i)];
    }
    return CUDNN_STATUS_SUCCESS;
  }
  std::memcpy(values, found->second.bytes.data(),
              fake::bytes_of_attribute(type) * static_cast<std::size_t>(given));
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t pack) {
  note("execute");
  return fake::execute(handle->stream, *static_cast<fake::Descriptor*>(plan),
                       *static_cast<fake::Descriptor*>(pack));
}

}  // extern "C"

#include "cudnn_recurrent.hpp"
