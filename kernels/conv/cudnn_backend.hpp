#pragma once

#include <algorithm>
#include <vector>

#include "common/cuda/cudnn.hpp"

// cuDNN's graph interface: everything is a descriptor with attributes, made ready by finalize().
namespace microbench::cuda {

// The name that the interface has for each type of attribute. cudnnBackendDescriptor_t is void*: descriptors
// have overloads of their own.
template <typename T>
struct AttributeType;
template <>
struct AttributeType<cudnnHandle_t> {
  static constexpr auto kValue = CUDNN_TYPE_HANDLE;
};
template <>
struct AttributeType<void*> {
  static constexpr auto kValue = CUDNN_TYPE_VOID_PTR;
};
template <>
struct AttributeType<std::int64_t> {
  static constexpr auto kValue = CUDNN_TYPE_INT64;
};
template <>
struct AttributeType<float> {
  static constexpr auto kValue = CUDNN_TYPE_FLOAT;
};
template <>
struct AttributeType<double> {
  static constexpr auto kValue = CUDNN_TYPE_DOUBLE;
};
template <>
struct AttributeType<cudnnDataType_t> {
  static constexpr auto kValue = CUDNN_TYPE_DATA_TYPE;
};
template <>
struct AttributeType<cudnnConvolutionMode_t> {
  static constexpr auto kValue = CUDNN_TYPE_CONVOLUTION_MODE;
};
template <>
struct AttributeType<cudnnBackendHeurMode_t> {
  static constexpr auto kValue = CUDNN_TYPE_HEUR_MODE;
};
template <>
struct AttributeType<cudnnBackendKnobType_t> {
  static constexpr auto kValue = CUDNN_TYPE_KNOB_TYPE;
};
template <>
struct AttributeType<cudnnBackendNumericalNote_t> {
  static constexpr auto kValue = CUDNN_TYPE_NUMERICAL_NOTE;
};
template <>
struct AttributeType<cudnnBackendBehaviorNote_t> {
  static constexpr auto kValue = CUDNN_TYPE_BEHAVIOR_NOTE;
};

class BackendDescriptor {
 public:
  explicit BackendDescriptor(cudnnBackendDescriptorType_t type) {
    MICROBENCH_CUDNN(cudnnBackendCreateDescriptor, type, &descriptor_);
  }
  ~BackendDescriptor() {
    if (descriptor_ != nullptr) MICROBENCH_CUDNN_NOEXCEPT(cudnnBackendDestroyDescriptor, descriptor_);
  }
  BackendDescriptor(BackendDescriptor&& other) noexcept : descriptor_(other.descriptor_) {
    other.descriptor_ = nullptr;
  }
  BackendDescriptor(const BackendDescriptor&) = delete;  // owns what it points to
  BackendDescriptor& operator=(const BackendDescriptor&) = delete;
  BackendDescriptor& operator=(BackendDescriptor&&) = delete;

  operator cudnnBackendDescriptor_t() const { return descriptor_; }

  template <typename T>
  void set(cudnnBackendAttributeName_t name, const std::vector<T>& values) {
    set(name, AttributeType<T>::kValue, values);
  }
  template <typename T>
  void set(cudnnBackendAttributeName_t name, T value) {
    set(name, std::vector<T>{value});
  }
  void set(cudnnBackendAttributeName_t name, const BackendDescriptor& value) {
    set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, std::vector<cudnnBackendDescriptor_t>{value.descriptor_});
  }
  void set(cudnnBackendAttributeName_t name, const std::vector<BackendDescriptor>& values) {
    const std::vector<cudnnBackendDescriptor_t> pointers(values.begin(), values.end());
    set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, pointers);
  }
  // Whatever fails here but for want of memory (compiling a plan's kernels, loading them) leaves the device
  // as it was: this descriptor cannot be had, another may.
  void finalize() {
    const cudnnStatus_t status = MICROBENCH_CUDNN_STATUS(cudnnBackendFinalize, descriptor_);
    if (succeeded(status)) return;
    const Failure failure = failure_of(status);
    fail_call(failure == Failure::out_of_memory ? failure : Failure::unsupported, "cudnnBackendFinalize",
              describe(status));
  }

  // At most `limit` values.
  template <typename T>
  std::vector<T> get(cudnnBackendAttributeName_t name, std::int64_t limit) const {
    std::vector<T> values(static_cast<std::size_t>(limit));
    std::int64_t count = 0;
    MICROBENCH_CUDNN(cudnnBackendGetAttribute, descriptor_, name, AttributeType<T>::kValue, limit, &count,
                     values.data());
    values.resize(static_cast<std::size_t>(std::min(count, limit)));
    return values;
  }
  template <typename T>
  T get(cudnnBackendAttributeName_t name) const {
    const std::vector<T> values = get<T>(name, 1);
    if (values.empty()) throw std::runtime_error("cuDNN has no value for an attribute that must have one");
    return values.front();
  }
  // At most `limit` descriptors, which are made beforehand and filled.
  std::vector<BackendDescriptor> get(cudnnBackendAttributeName_t name, cudnnBackendDescriptorType_t type,
                                     std::int64_t limit) const {
    std::vector<BackendDescriptor> filled;
    std::vector<cudnnBackendDescriptor_t> pointers;
    for (std::int64_t i = 0; i < limit; ++i) pointers.push_back(filled.emplace_back(type));
    std::int64_t count = 0;
    MICROBENCH_CUDNN(cudnnBackendGetAttribute, descriptor_, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, limit,
                     &count, pointers.data());
    while (static_cast<std::int64_t>(filled.size()) > count) filled.pop_back();
    return filled;
  }
  // How many values there are.
  std::int64_t count(cudnnBackendAttributeName_t name) const {
    std::int64_t count = 0;
    MICROBENCH_CUDNN(cudnnBackendGetAttribute, descriptor_, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count,
                     nullptr);
    return count;
  }

 private:
  template <typename T>
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const std::vector<T>& values) {
    MICROBENCH_CUDNN(cudnnBackendSetAttribute, descriptor_, name, type,
                     static_cast<std::int64_t>(values.size()), values.data());
  }

  cudnnBackendDescriptor_t descriptor_ = nullptr;
};

}  // namespace microbench::cuda
