// This project's own convolution on the device, the reference beside the libraries' algorithms: images are
// lowered by our kernels and multiplied by cuBLASLt, gradients of images raised again. Always explicit, for
// 1x1 filters too.

#include "conv/cuda_im2col.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>

#include "common/cuda/harness.hpp"
#include "common/cuda/matmul.hpp"
#include "common/registry.hpp"
#include "conv/shape.hpp"

namespace microbench::conv {
namespace {

using DeviceOperands = OperandsIn<cuda::Buffer, cuda::DeviceOperand>;

// So many images are lowered at a time as fit into this, at least one.
constexpr std::int64_t kLoweredBytes = std::int64_t{1} << 30;
// What cuBLASLt may use of its own; as much as NVIDIA recommends since Hopper.
constexpr std::int64_t kProductBytes = std::int64_t{32} << 20;

// How a precision is asked of cuBLASLt here; gradients are summed up in the accumulator's type before they
// are rounded.
struct Types {
  cuda::MatmulTypes product;
  ElementType accumulator;

  Types(const std::string& precision, Pass pass) : product(cuda::matmul_types(precision)) {
    constexpr int kAmpere = 800;
    if (precision == "tf32" && cuda::compute_capability() < kAmpere) {
      throw Unsupported("tf32 needs compute capability 8.0");
    }
    if (precision == "int8" && pass != Pass::forward) {
      throw Unsupported("int8 is for inference: only the forward pass is offered");
    }
    switch (product.compute) {
      case CUBLAS_COMPUTE_64F:
        accumulator = ElementType::float64;
        return;
      case CUBLAS_COMPUTE_32I:
        accumulator = ElementType::int32;
        return;
      case CUBLAS_COMPUTE_32F:
      case CUBLAS_COMPUTE_32F_FAST_TF32:
        accumulator = ElementType::float32;
        if (product.storage == product.output) return;
        [[fallthrough]];
      default:
        throw Unsupported("microbench's own convolution has no " + precision + " on the device");
    }
  }
};

Lowering lowering_of(const Shape& shape, std::int64_t images) {
  return {shape.channels_last,
          images,
          shape.groups,
          shape.group_c(),
          shape.h,
          shape.w,
          shape.r,
          shape.s,
          shape.out_h(),
          shape.out_w(),
          shape.pad_h,
          shape.pad_w,
          shape.stride_h,
          shape.stride_w,
          shape.dilation_h,
          shape.dilation_w};
}

class Im2col final : public cuda::CudaHarness {
 public:
  explicit Im2col(const Request& request)
      : shape_(request),
        precision_(request.precision),
        types_(precision_, shape_.pass),
        lowered_type_(shape_.pass == Pass::backward_data ? types_.accumulator : types_.product.storage),
        images_(images_at_a_time(request.workspace_limit)),
        lowered_bytes_(lowered_bytes(images_)),
        sums_bytes_(rounds() ? weights() * element_bytes(types_.accumulator) : 0),
        product_bytes_(make_products(request.workspace_limit)),
        lowered_(lowered_bytes_),
        sums_(sums_bytes_),
        product_workspace_(product_bytes_),
        operands_(shape_, types_.product.storage, types_.product.output) {}

  void enqueue(cudaStream_t stream) override {
    for (std::int64_t image = 0; image < shape_.n; image += images_) {
      const Lowering lowering = lowering_of(shape_, std::min(images_, shape_.n - image));
      if (shape_.pass != Pass::backward_data) {
        enqueue_lower(lowering, input(image), lowered_.data(), element_bytes(types_.product.storage), stream);
      }
      multiply(lowering, image, stream);
      if (shape_.pass == Pass::backward_data) {
        enqueue_raise(lowering, lowered_.data(), input(image), cuda::data_type(types_.product.storage),
                      stream);
      }
    }
    if (rounds()) {
      enqueue_round(static_cast<const float*>(sums_.data()), operands_.weights.data(), weights(),
                    cuda::data_type(types_.product.output), stream);
    }
  }

  std::vector<cuda::DeviceOperand> device_operands() override { return operands_.list(shape_.pass); }
  std::string implementation() const override {
    return "im2col of " + std::to_string(images_) + " images at a time, cublasLt";
  }
  std::int64_t workspace_bytes() const override { return lowered_bytes_ + sums_bytes_ + product_bytes_; }

 private:
  std::int64_t weights() const { return shape_.k * shape_.group_c() * shape_.r * shape_.s; }
  std::int64_t lowered_bytes(std::int64_t images) const {
    return lowering_of(shape_, images).lowered_elements() * element_bytes(lowered_type_);
  }
  std::int64_t images_at_a_time(std::int64_t limit) const {
    return std::clamp<std::int64_t>(std::min(kLoweredBytes, limit) / lowered_bytes(1), 1, shape_.n);
  }
  // Gradients of weights are summed over the images in the accumulator's type.
  bool rounds() const {
    return shape_.pass == Pass::backward_weights && types_.accumulator != types_.product.output;
  }

  // The product that makes `images` images' part of the result. In nchw the images are the batch, one group
  // of channels at a time, and gradients of weights are one image's; in nhwc the groups are the batch.
  std::unique_ptr<cuda::Matmul> product(std::int64_t images, std::int64_t limit) const {
    const Lowering one = lowering_of(shape_, 1);
    const std::int64_t taps = one.taps(), pixels = one.pixels(), k = shape_.group_k();
    cuda::MatmulTypes types = types_.product;
    if (shape_.pass != Pass::forward) types.output = types_.accumulator;
    cuda::MatmulShape shape = shape_.channels_last ? rows_of_pixels(images * pixels, taps, k)
                                                   : rows_of_taps(images, pixels, taps, k);
    shape.alignment = alignment(taps, pixels, k);
    auto made = std::make_unique<cuda::Matmul>(precision_, types, shape);
    made->choose("auto", limit);
    return made;
  }

  // The largest power of two up to 256 that every address of a group's or an image's matrix is a multiple of.
  std::uint32_t alignment(std::int64_t taps, std::int64_t pixels, std::int64_t k) const {
    constexpr std::int64_t kAllocated = 256;
    const std::int64_t lowered = taps * pixels * element_bytes(lowered_type_);
    const std::int64_t y = (shape_.channels_last ? k : k * pixels) * element_bytes(types_.product.output);
    const std::int64_t w = k * taps * element_bytes(rounds() ? types_.accumulator : types_.product.storage);
    return static_cast<std::uint32_t>(std::gcd(kAllocated, lowered | y | w));
  }

  // nchw. Column-major: matrices and y are pixels x taps and pixels x k, w is taps x k.
  cuda::MatmulShape rows_of_taps(std::int64_t images, std::int64_t pixels, std::int64_t taps,
                                 std::int64_t k) const {
    const std::int64_t lowered_stride = shape_.groups * taps * pixels, y_stride = shape_.k * pixels;
    switch (shape_.pass) {
      case Pass::forward:
        return {pixels, k, taps, false, false, pixels, taps, pixels, images, lowered_stride, 0, y_stride};
      case Pass::backward_data:
        return {pixels, taps, k, false, true, pixels, taps, pixels, images, y_stride, 0, lowered_stride};
      case Pass::backward_weights:
        return {taps, k, pixels, true, false, pixels, pixels, taps};
    }
    throw std::logic_error("unknown pass");
  }

  // nhwc. Column-major: matrices and y are taps x pixels and k x pixels, w is taps x k.
  cuda::MatmulShape rows_of_pixels(std::int64_t pixels, std::int64_t taps, std::int64_t k) const {
    const std::int64_t batch = shape_.groups, all_k = shape_.k, lowered_stride = taps * pixels,
                       w_stride = taps * k;
    switch (shape_.pass) {
      case Pass::forward:
        return {k, pixels, taps, true, false, taps, taps, all_k, batch, w_stride, lowered_stride, k};
      case Pass::backward_data:
        return {taps, pixels, k, false, false, taps, all_k, taps, batch, w_stride, k, lowered_stride};
      case Pass::backward_weights:
        return {taps, k, pixels, false, true, taps, all_k, taps, batch, lowered_stride, k, w_stride};
    }
    throw std::logic_error("unknown pass");
  }

  // Those for all numbers of images there will be; returns what they need as workspace.
  std::int64_t make_products(std::int64_t limit) {
    const std::int64_t own = lowered_bytes_ + sums_bytes_;
    if (own > limit) throw WorkspaceExceeded(own, limit);
    std::int64_t needed = 0;
    for (const std::int64_t images : {images_, shape_.n % images_}) {
      if (images == 0 || products_.count(images) > 0) continue;
      const auto made =
          products_.emplace(images, product(images, std::min(kProductBytes, limit - own))).first;
      needed = std::max(needed, made->second->workspace_bytes());
    }
    return needed;
  }

  static char* at(void* data, std::int64_t element, ElementType type) {
    return static_cast<char*>(data) + element * element_bytes(type);
  }
  void* input(std::int64_t image) {
    return at(operands_.input.data(), image * shape_.c * shape_.h * shape_.w, operands_.input.type());
  }

  void multiply(const Lowering& lowering, std::int64_t image, cudaStream_t stream) {
    const std::int64_t taps = lowering.taps(), pixels = lowering.pixels(), k = shape_.group_k();
    const bool gradient = shape_.pass == Pass::backward_weights;
    const bool last = shape_.channels_last;
    const std::int64_t groups = last ? 1 : shape_.groups;
    const std::int64_t images = gradient && !last ? lowering.images : 1;
    void* all_weights = rounds() ? sums_.data() : operands_.weights.data();
    const ElementType weights_type = rounds() ? types_.accumulator : operands_.weights.type();
    const cuda::Matmul& product = *products_.at(lowering.images);
    for (std::int64_t each = 0; each < images; ++each) {
      for (std::int64_t group = 0; group < groups; ++group) {
        void* lowered = at(lowered_.data(), (each * groups + group) * taps * pixels, lowered_type_);
        void* y = at(operands_.output.data(), ((image + each) * shape_.k + group * k) * pixels,
                     operands_.output.type());
        void* w = at(all_weights, group * k * taps, weights_type);
        const auto run = [&](const void* a, const void* b, void* d) {
          product.enqueue(a, b, d, product_workspace_.data(), stream, gradient && image + each > 0);
        };
        if (shape_.pass == Pass::forward) {
          last ? run(w, lowered, y) : run(lowered, w, y);
        } else if (gradient) {
          run(lowered, y, w);
        } else {
          last ? run(w, y, lowered) : run(y, w, lowered);
        }
      }
    }
  }

  Shape shape_;
  std::string precision_;
  Types types_;
  ElementType lowered_type_;
  std::map<std::int64_t, std::unique_ptr<cuda::Matmul>> products_;  // by the number of images
  std::int64_t images_, lowered_bytes_, sums_bytes_, product_bytes_;
  cuda::Memory lowered_, sums_, product_workspace_;
  DeviceOperands operands_;
};

std::unique_ptr<Harness> open(const Request& request) {
  cuda::cublaslt(request.library_path);
  if (request.algorithm != "auto" && request.algorithm != "im2col") {
    throw Unsupported("microbench has no convolution algorithm '" + request.algorithm + "' on this device");
  }
  return std::make_unique<Im2col>(request);
}

std::vector<std::string> algorithms(const Request&) { return {"im2col"}; }

const Registration registration({"conv", "microbench", open, algorithms, cuda::describe_cublaslt});

}  // namespace
}  // namespace microbench::conv
