// Convolution through Fourier transforms of the whole plane, or of tiles (overlap-save): Mathieu, Henaff and
// LeCun, "Fast Training of Convolutional Networks through FFTs", ICLR 2014; Vasilache et al., "Fast
// Convolutional Nets With fbfft", ICLR 2015.

#include <algorithm>
#include <limits>

#include "conv/images.hpp"
#include "conv/microbench.hpp"
#include "conv/transform.hpp"

namespace microbench::conv {
namespace {

struct TileSize {
  std::int64_t h, w;
};

class FftTransform final : public TileTransform {
 public:
  FftTransform(const Shape& shape, TileSize step, TileSize size, const VectorKernels& kernels)
      : plan_(size.h, size.w),
        step_(step),
        extent_{shape.extent_h(), shape.extent_w()},
        gradient_(shape.pass == Pass::backward_weights),
        kernels_(kernels) {}

  std::string name() const override {
    return "fft " + std::to_string(plan_.column.n) + "x" + std::to_string(plan_.row.n);
  }
  std::int64_t points() const override { return plan_.points(); }
  bool is_complex() const override { return true; }
  std::int64_t step_h() const override { return step_.h; }
  std::int64_t step_w() const override { return step_.w; }
  std::int64_t scratch_vectors() const override { return plan_.scratch_vectors(); }

  void input(const float* tile, std::int64_t row, float* out, std::int64_t point, std::int64_t imaginary,
             float* scratch) const override {
    kernels_.spectrum(plan_, tile, row, step_.h + extent_.h - 1, step_.w + extent_.w - 1, out, point,
                      imaginary, scratch);
  }
  void filter(const float* tile, std::int64_t row, float* out, std::int64_t point, std::int64_t imaginary,
              float* scratch) const override {
    const TileSize size = gradient_ ? step_ : extent_;
    kernels_.spectrum(plan_, tile, row, size.h, size.w, out, point, imaginary, scratch);
  }
  void output(const float* in, std::int64_t point, std::int64_t imaginary, float* tile, std::int64_t row,
              float* scratch) const override {
    const TileSize size = gradient_ ? extent_ : step_;
    kernels_.from_spectrum(plan_, in, point, imaginary, tile, row, size.h, size.w, scratch);
  }

 private:
  FftPlan plan_;
  TileSize step_, extent_;
  bool gradient_;
  const VectorKernels& kernels_;
};

// The lengths worth trying for a tile along one axis: up to the whole of it, but no more than 32 beyond the
// filter.
std::vector<std::int64_t> lengths(std::int64_t outputs, std::int64_t extent) {
  const std::int64_t whole = fft_length(outputs + extent - 1);
  std::vector<std::int64_t> all;
  for (std::int64_t n = fft_length(extent); n <= std::min(whole, extent + 32); n = fft_length(n + 1)) {
    all.push_back(n);
  }
  return all;
}

// The tile with the least work, counted in complex multiply-adds of one vector of channels with another.
TileSize best_tile(const Shape& shape, std::int64_t out_h, std::int64_t out_w) {
  // Measured on one processor, in such multiply-adds: a transform of one point, and reading a filter's point.
  constexpr double kTransform = 10, kRead = 12;
  const auto c = static_cast<double>(shape.group_c()), k = static_cast<double>(shape.group_k());
  TileSize best{};
  double least = std::numeric_limits<double>::infinity();
  for (const std::int64_t h : lengths(out_h, shape.extent_h())) {
    for (const std::int64_t w : lengths(out_w, shape.extent_w())) {
      const std::int64_t tiles =
          shape.n * divide_up(out_h, h - shape.extent_h() + 1) * divide_up(out_w, w - shape.extent_w() + 1);
      const double points = static_cast<double>(h * (w / 2 + 1));
      const double work =
          points * (static_cast<double>(tiles) * (c * k + kTransform * (c + k)) + kRead * c * k);
      if (work < least) {
        least = work;
        best = {h, w};
      }
    }
  }
  return best;
}

}  // namespace

std::unique_ptr<Harness> open_fft(const Request& request, const Place* place) {
  const Shape shape(request);
  if (shape.stride_h != 1 || shape.stride_w != 1) throw Unsupported("FFT convolution needs stride 1");
  const bool backward_data = shape.pass == Pass::backward_data;
  const TileSize out{backward_data ? shape.h : shape.out_h(), backward_data ? shape.w : shape.out_w()};
  TileSize step = out,
           size{fft_length(out.h + shape.extent_h() - 1), fft_length(out.w + shape.extent_w() - 1)};
  if (request.algorithm == "fft_tiled") {
    size = best_tile(shape, out.h, out.w);
    step = {std::min(out.h, size.h - shape.extent_h() + 1), std::min(out.w, size.w - shape.extent_w() + 1)};
  }
  return transformed_convolution(request, std::make_unique<FftTransform>(shape, step, size, vector_kernels()),
                                 place);
}

}  // namespace microbench::conv
