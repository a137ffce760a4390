// Winograd's minimal filtering F(2x2, 3x3) and F(4x4, 3x3) as batched matrix products: Lavin and Gray, "Fast
// Algorithms for Convolutional Neural Networks", CVPR 2016, algorithm 1.

#include "conv/microbench.hpp"
#include "conv/transform.hpp"
#include "conv/vector.hpp"

namespace microbench::conv {
namespace {

class WinogradTransform final : public TileTransform {
 public:
  WinogradTransform(std::int64_t step, const WinogradKernels& kernels, const VectorKernels& vector, Pass pass)
      : step_(step), size_(step + 2), lanes_(vector.lanes), kernels_(kernels) {
    if (pass == Pass::backward_weights) {
      kernels_.filter = kernels.gradient_filter;
      kernels_.output = kernels.gradient_output;
    }
  }

  std::string name() const override {
    const std::string step = std::to_string(step_);
    return "winograd F(" + step + "x" + step + ",3x3)";
  }
  std::int64_t points() const override { return size_ * size_; }
  bool is_complex() const override { return false; }
  std::int64_t step_h() const override { return step_; }
  std::int64_t step_w() const override { return step_; }
  std::int64_t scratch_vectors() const override { return 0; }

  void input(const float* tile, std::int64_t row, float* out, std::int64_t point, std::int64_t,
             float*) const override {
    kernels_.input(tile, row, lanes_, out, size_ * point, point);
  }
  void filter(const float* tile, std::int64_t row, float* out, std::int64_t point, std::int64_t,
              float*) const override {
    kernels_.filter(tile, row, lanes_, out, size_ * point, point);
  }
  void output(const float* in, std::int64_t point, std::int64_t, float* tile, std::int64_t row,
              float*) const override {
    kernels_.output(in, size_ * point, point, tile, row, lanes_);
  }

 private:
  std::int64_t step_, size_, lanes_;
  WinogradKernels kernels_;
};

}  // namespace

std::unique_ptr<Harness> open_winograd(const Request& request, const Place* place) {
  const Shape shape(request);
  if (shape.r != 3 || shape.s != 3) throw Unsupported("Winograd is here for 3x3 filters only");
  if (shape.stride_h != 1 || shape.stride_w != 1) throw Unsupported("Winograd needs stride 1");
  if (shape.dilation_h != 1 || shape.dilation_w != 1) throw Unsupported("Winograd needs dilation 1");
  const VectorKernels& vector = vector_kernels();
  const bool small = request.algorithm == "winograd_2x2";
  return transformed_convolution(
      request,
      std::make_unique<WinogradTransform>(small ? 2 : 4, small ? vector.winograd_2x2 : vector.winograd_4x4,
                                          vector, shape.pass),
      place);
}

}  // namespace microbench::conv
