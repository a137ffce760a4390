#pragma once

#include <climits>
#include <cstdint>
#include <string>

#include "common/cuda/cudnn.hpp"
#include "common/cuda/device.hpp"

// What every kernel on cuDNN needs: handles and descriptors that go when their owner goes, and precisions in
// cuDNN's terms.
namespace microbench::cuda {

class CudnnHandle {
 public:
  explicit CudnnHandle(cudaStream_t stream) {
    MICROBENCH_CUDNN(cudnnCreate, &handle_);
    use(stream);
  }
  ~CudnnHandle() { MICROBENCH_CUDNN_NOEXCEPT(cudnnDestroy, handle_); }
  CudnnHandle(const CudnnHandle&) = delete;  // owns what it points to
  CudnnHandle& operator=(const CudnnHandle&) = delete;

  operator cudnnHandle_t() const { return handle_; }

  // Where the calls that follow are put.
  void use(cudaStream_t stream) {
    if (known_ && stream == stream_) return;
    MICROBENCH_CUDNN(cudnnSetStream, handle_, stream);
    stream_ = stream;
    known_ = true;
  }

 private:
  cudnnHandle_t handle_ = nullptr;
  cudaStream_t stream_ = nullptr;
  bool known_ = false;
};

// Owns a descriptor of the kind that the functions `create` and `destroy` of cuDNN are for.
#define MICROBENCH_CUDNN_DESCRIPTOR(Name, Type, create, destroy) \
  class Name {                                                   \
   public:                                                       \
    Name() { MICROBENCH_CUDNN(create, &descriptor_); }           \
    ~Name() { MICROBENCH_CUDNN_NOEXCEPT(destroy, descriptor_); } \
    Name(const Name&) = delete;                                  \
    Name& operator=(const Name&) = delete;                       \
    operator Type() const { return descriptor_; }                \
                                                                 \
   private:                                                      \
    Type descriptor_ = nullptr;                                  \
  }

MICROBENCH_CUDNN_DESCRIPTOR(TensorDescriptor, cudnnTensorDescriptor_t, cudnnCreateTensorDescriptor,
                            cudnnDestroyTensorDescriptor);

// How cuDNN is asked for a precision. With fp32 tensor cores must stay out, with tf32 they may round the
// products' operands to 11 bits.
struct CudnnPrecision {
  ElementType storage, output;
  cudnnDataType_t compute;
  cudnnMathType_t math;
};

inline CudnnPrecision cudnn_precision(const std::string& name) {
  constexpr int kAmpere = 800;
  if (name == "fp64") {
    return {ElementType::float64, ElementType::float64, CUDNN_DATA_DOUBLE, CUDNN_DEFAULT_MATH};
  }
  if (name == "fp32") {
    return {ElementType::float32, ElementType::float32, CUDNN_DATA_FLOAT, CUDNN_FMA_MATH};
  }
  if (name == "tf32") {
    const int capability = compute_capability();
    if (capability < kAmpere) {
      throw Unsupported("tf32 needs compute capability 8.0, this device has " +
                        std::to_string(capability / 100) + "." + std::to_string(capability / 10 % 10));
    }
    return {ElementType::float32, ElementType::float32, CUDNN_DATA_FLOAT, CUDNN_DEFAULT_MATH};
  }
  if (name == "fp16") {
    return {ElementType::float16, ElementType::float16, CUDNN_DATA_FLOAT, CUDNN_TENSOR_OP_MATH};
  }
  if (name == "bf16") {
    return {ElementType::bfloat16, ElementType::bfloat16, CUDNN_DATA_FLOAT, CUDNN_TENSOR_OP_MATH};
  }
  if (name == "int8") {
    return {ElementType::int8, ElementType::int32, CUDNN_DATA_INT32, CUDNN_TENSOR_OP_MATH};
  }
  throw Unsupported("cuDNN is asked for fp64, fp32, tf32, fp16, bf16 and int8 here, not for " + name);
}

inline cudnnDataType_t cudnn_type(ElementType type) {
  switch (type) {
    case ElementType::float64:
      return CUDNN_DATA_DOUBLE;
    case ElementType::float32:
      return CUDNN_DATA_FLOAT;
    case ElementType::float16:
      return CUDNN_DATA_HALF;
    case ElementType::bfloat16:
      return CUDNN_DATA_BFLOAT16;
    case ElementType::float8_e4m3:
      return CUDNN_DATA_FP8_E4M3;
    case ElementType::float8_e5m2:
      return CUDNN_DATA_FP8_E5M2;
    case ElementType::int8:
      return CUDNN_DATA_INT8;
    case ElementType::int32:
      return CUDNN_DATA_INT32;
  }
  throw std::logic_error("unknown element type");
}

// `needed` bytes of workspace; throws WorkspaceExceeded where that is more than `limit`.
inline std::int64_t within(std::int64_t limit, std::int64_t needed) {
  if (needed > limit) throw WorkspaceExceeded(needed, limit);
  return needed;
}

// cuDNN's descriptors take sizes as int.
inline int as_int(std::int64_t value) {
  if (value > INT_MAX || value < INT_MIN) {
    throw Unsupported("a size or stride of " + std::to_string(value) + " is more than cuDNN's 32 bits");
  }
  return static_cast<int>(value);
}

}  // namespace microbench::cuda
