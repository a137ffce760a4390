// Convolution as one matrix product whose left matrix, the lowered images, is never made: a few rows of
// pixels are brought into vectors of channels, and the product reads them shifted by each filter tap in turn.

#include <omp.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <vector>

#include "conv/images.hpp"
#include "conv/microbench.hpp"

namespace microbench::conv {
namespace {

// Pixels that one thread brings into vectors at a time, and all threads together for the gradient of the
// weights.
constexpr std::int64_t kStripeBytes = std::int64_t{256} << 10;
constexpr std::int64_t kBlockBytes = std::int64_t{16} << 20;
constexpr auto kFloat = static_cast<std::int64_t>(sizeof(float));

std::int64_t floor_divide(std::int64_t value, std::int64_t by) {
  return value >= 0 ? value / by : -((-value + by - 1) / by);
}

// Along one axis: which input pixel meets which output pixel at which tap. Forward, output i and tap r meet
// input i * stride + r * dilation - pad; backward the same with input and output exchanged, so that outputs
// of one residue modulo the stride see the same taps.
struct Axis {
  bool backward;
  std::int64_t stride, dilation, pad, taps;

  std::int64_t classes() const { return backward ? stride : 1; }
  // Steps of the input for neighbouring outputs of one class.
  std::int64_t step() const { return backward ? 1 : stride; }
  bool meets(std::int64_t output, std::int64_t tap) const {
    return !backward || (output + pad - tap * dilation) % stride == 0;
  }
  std::int64_t input(std::int64_t output, std::int64_t tap) const {
    if (!backward) return output * stride + tap * dilation - pad;
    return floor_divide(output + pad - tap * dilation, stride);
  }
  // The first and the last input pixel that the outputs first..last meet.
  std::int64_t lowest(std::int64_t first) const { return input(first, backward ? taps - 1 : 0); }
  std::int64_t highest(std::int64_t last) const { return input(last, backward ? 0 : taps - 1); }
};

class ImplicitGemm : public Harness {
 public:
  ImplicitGemm(const Request& request, const Place* place)
      : shape_(request),
        kernels_(vector_kernels()),
        lanes_(kernels_.lanes),
        threads_(request.threads),
        operands_(shape_, ElementType::float32, ElementType::float32, place) {}

  std::vector<Operand> operands() override { return operands_.list(shape_.pass); }
  std::int64_t workspace_bytes() const override { return workspace_->bytes(); }

 protected:
  // `lay_out` takes what is needed from an Arena; called to count, then to divide.
  template <typename LayOut>
  void allocate(std::int64_t limit, const Place* place, LayOut&& lay_out) {
    Arena count;
    lay_out(count);
    workspace_.emplace(count.bytes(), limit, place);
    Arena arena(static_cast<float*>(workspace_->data()));
    lay_out(arena);
  }

  Images input() {
    return {operands_.input.as<float>(), input_view(shape_), shape_.group_c(), shape_.h, shape_.w};
  }
  Images output() {
    return {operands_.output.as<float>(), output_view(shape_), shape_.group_k(), shape_.out_h(),
            shape_.out_w()};
  }
  std::int64_t padded(std::int64_t channels) const {
    const std::int64_t whole = round_up(channels, lanes_);
    return whole % 128 == 0 ? whole + lanes_ : whole;
  }

  Shape shape_;
  const VectorKernels& kernels_;
  std::int64_t lanes_;
  int threads_;
  PlacedOperands operands_;
  std::optional<Workspace> workspace_;
};

// forward and backward_data.
class ImplicitGemmImages final : public ImplicitGemm {
 public:
  ImplicitGemmImages(const Request& request, const Place* place)
      : ImplicitGemm(request, place),
        backward_(shape_.pass == Pass::backward_data),
        in_(backward_ ? output() : input()),
        out_(backward_ ? input() : output()),
        y_{backward_, shape_.stride_h, shape_.dilation_h, shape_.pad_h, shape_.r},
        x_{backward_, shape_.stride_w, shape_.dilation_w, shape_.pad_w, shape_.s},
        first_column_(x_.lowest(0)),
        columns_(x_.highest(out_.w - 1) - first_column_ + 1),
        in_stride_(padded(in_.channels)),
        out_stride_(padded(out_.channels)) {
    const std::int64_t row_bytes = columns_ * in_stride_ * kFloat;
    while (stripe_ < out_.h && rows(stripe_ + 1) * row_bytes <= kStripeBytes) ++stripe_;
    allocate(request.workspace_limit, place, [&](Arena& arena) {
      filters_ = arena.take(shape_.groups * panels() * panel_floats());
      stripe_floats_ = round_up(rows(stripe_) * columns_ * in_stride_, 16);
      thread_floats_ = stripe_floats_ + round_up(out_.w * out_stride_, 16);
      staging_ = arena.take(threads_ * thread_floats_);
    });
  }

  void prepare() override {
    View view = filter_view(shape_);
    const std::int64_t group_floats = shape_.group_k() * view.n;
    if (backward_) std::swap(view.n, view.c);
    const std::int64_t vectors = divide_up(out_.channels, lanes_);
#pragma omp parallel for collapse(3) num_threads(threads_) schedule(static)
    for (std::int64_t group = 0; group < shape_.groups; ++group) {
      for (std::int64_t vector = 0; vector < vectors; ++vector) {
        for (std::int64_t tap = 0; tap < shape_.r * shape_.s; ++tap) {
          const std::int64_t first = vector * lanes_, count = std::min(lanes_, out_.channels - first);
          const float* from = operands_.weights.as<float>() + group * group_floats + first * view.n +
                              tap / shape_.s * view.h + tap % shape_.s * view.w;
          float* to = filters_ + (group * panels() + vector / 2) * panel_floats() +
                      (tap * in_.channels * 2 + vector % 2) * lanes_;
          kernels_.to_lanes(from, view.c, view.n, in_.channels, count, to, 2 * lanes_);
        }
      }
    }
  }

  void launch() override {
    const std::int64_t stripes = divide_up(out_.h, stripe_);
#pragma omp parallel for collapse(3) num_threads(threads_) schedule(dynamic)
    for (std::int64_t group = 0; group < shape_.groups; ++group) {
      for (std::int64_t image = 0; image < shape_.n; ++image) {
        for (std::int64_t stripe = 0; stripe < stripes; ++stripe) {
          run(group, image, stripe * stripe_, std::min(out_.h, (stripe + 1) * stripe_));
        }
      }
    }
  }

  std::string implementation() const override {
    return std::string("implicit_gemm ") + kernels_.name + ", filter packing not timed";
  }

 private:
  // Input rows that a stripe of output rows meets, at most.
  std::int64_t rows(std::int64_t stripe) const {
    if (backward_) return floor_divide(stripe - 1 + (shape_.r - 1) * shape_.dilation_h, shape_.stride_h) + 2;
    return (stripe - 1) * shape_.stride_h + shape_.extent_h();
  }
  std::int64_t panels() const { return divide_up(out_.channels, 2 * lanes_); }
  std::int64_t panel_floats() const { return shape_.r * shape_.s * in_.channels * 2 * lanes_; }

  void run(std::int64_t group, std::int64_t image, std::int64_t first, std::int64_t last) {
    float* pixels = staging_ + omp_get_thread_num() * thread_floats_;
    float* results = pixels + stripe_floats_;
    const Images in = in_.group(group), out = out_.group(group);
    const std::int64_t top = y_.lowest(first), bottom = y_.highest(last - 1);
    for (std::int64_t channel = 0; channel < in.channels; channel += lanes_) {
      for (std::int64_t y = top; y <= bottom; ++y) {
        in.stage(kernels_, image, channel, y, first_column_, columns_,
                 pixels + (y - top) * columns_ * in_stride_ + channel, in_stride_);
      }
    }
    std::vector<std::int64_t> in_offsets, filter_offsets;
    for (std::int64_t y = first; y < last; ++y) {
      for (std::int64_t start = 0; start < std::min(x_.classes(), out.w); ++start) {
        in_offsets.clear(), filter_offsets.clear();
        for (std::int64_t r = 0; r < shape_.r; ++r) {
          if (!y_.meets(y, r)) continue;
          for (std::int64_t s = 0; s < shape_.s; ++s) {
            if (!x_.meets(start, s)) continue;
            in_offsets.push_back(((y_.input(y, r) - top) * columns_ + x_.input(start, s) - first_column_) *
                                 in_stride_);
            filter_offsets.push_back((r * shape_.s + s) * in.channels * 2 * lanes_);
          }
        }
        Product product{};
        product.rows = divide_up(out.w - start, x_.classes());
        product.columns = round_up(out.channels, lanes_), product.depth = in.channels;
        product.a = pixels, product.a_row = x_.step() * in_stride_, product.a_depth = 1;
        product.b = filters_ + group * panels() * panel_floats();
        product.b_depth = 2 * lanes_, product.b_panel = panel_floats();
        product.c = results + start * out_stride_, product.c_row = x_.classes() * out_stride_;
        product.segments = static_cast<std::int64_t>(in_offsets.size());
        product.a_offsets = in_offsets.data(), product.b_offsets = filter_offsets.data();
        kernels_.multiply(product);
      }
      for (std::int64_t channel = 0; channel < out.channels; channel += lanes_) {
        out.unstage(kernels_, results + channel, out_stride_, image, channel, y, 0, out.w);
      }
    }
  }

  bool backward_;
  Images in_, out_;
  Axis y_, x_;
  std::int64_t first_column_, columns_, in_stride_, out_stride_, stripe_ = 1;
  std::int64_t stripe_floats_ = 0, thread_floats_ = 0;
  float *filters_ = nullptr, *staging_ = nullptr;
};

// backward_weights: a stripe is some rows of one image's dy and the rows of x that they meet. A block of
// stripes is brought into vectors by all threads, which then share out the taps and channels of the gradient.
class ImplicitGemmWeights final : public ImplicitGemm {
 public:
  ImplicitGemmWeights(const Request& request, const Place* place)
      : ImplicitGemm(request, place),
        columns_((shape_.out_w() - 1) * shape_.stride_w + shape_.extent_w()),
        in_stride_(padded(shape_.group_c())),
        out_stride_(padded(shape_.group_k())) {
    while (stripe_ < shape_.out_h() && stripe_bytes(stripe_ + 1) <= kBlockBytes) ++stripe_;
    stripes_ = shape_.n * divide_up(shape_.out_h(), stripe_);
    block_ = std::clamp<std::int64_t>(kBlockBytes / stripe_bytes(stripe_), 1, stripes_);
    allocate(request.workspace_limit, place, [&](Arena& arena) {
      in_pixels_ = arena.take(block_ * in_floats(stripe_));
      out_pixels_ = arena.take(block_ * out_floats(stripe_));
      gradients_ = arena.take(shape_.r * shape_.s * shape_.group_c() * out_stride_);
    });
  }

  void launch() override {
#pragma omp parallel num_threads(threads_)
    for (std::int64_t group = 0; group < shape_.groups; ++group) {
      for (std::int64_t first = 0; first < stripes_; first += block_) {
        const std::int64_t last = std::min(stripes_, first + block_);
        stage(group, first, last);
        multiply(first, last);
      }
      store(group);
    }
  }

  std::string implementation() const override { return std::string("implicit_gemm ") + kernels_.name; }

 private:
  std::int64_t rows(std::int64_t stripe) const { return (stripe - 1) * shape_.stride_h + shape_.extent_h(); }
  std::int64_t in_floats(std::int64_t stripe) const { return rows(stripe) * columns_ * in_stride_; }
  std::int64_t out_floats(std::int64_t stripe) const { return stripe * shape_.out_w() * out_stride_; }
  std::int64_t stripe_bytes(std::int64_t stripe) const {
    return (in_floats(stripe) + out_floats(stripe)) * kFloat;
  }

  void stage(std::int64_t group, std::int64_t first, std::int64_t last) {
    const Images in = input().group(group), out = output().group(group);
    const std::int64_t in_rows = rows(stripe_), per_image = divide_up(shape_.out_h(), stripe_);
#pragma omp for collapse(2) schedule(dynamic)
    for (std::int64_t stripe = first; stripe < last; ++stripe) {
      for (std::int64_t row = 0; row < in_rows + stripe_; ++row) {
        const std::int64_t image = stripe / per_image, top = stripe % per_image * stripe_;
        if (row < in_rows) {
          float* to = in_pixels_ + (stripe - first) * in_floats(stripe_) + row * columns_ * in_stride_;
          for (std::int64_t channel = 0; channel < in.channels; channel += lanes_) {
            in.stage(kernels_, image, channel, top * shape_.stride_h - shape_.pad_h + row, -shape_.pad_w,
                     columns_, to + channel, in_stride_);
          }
        } else {
          const std::int64_t y = row - in_rows;
          float* to = out_pixels_ + ((stripe - first) * stripe_ + y) * out.w * out_stride_;
          for (std::int64_t channel = 0; channel < out.channels; channel += lanes_) {
            out.stage(kernels_, image, channel, top + y, 0, out.w, to + channel, out_stride_);
          }
        }
      }
    }
  }

  void multiply(std::int64_t first, std::int64_t last) {
    std::vector<std::int64_t> in_offsets, out_offsets;
    for (std::int64_t stripe = 0; stripe < last - first; ++stripe) {
      for (std::int64_t row = 0; row < stripe_; ++row) {
        in_offsets.push_back(stripe * in_floats(stripe_) + row * shape_.stride_h * columns_ * in_stride_);
        out_offsets.push_back((stripe * stripe_ + row) * shape_.out_w() * out_stride_);
      }
    }
    const std::int64_t c = shape_.group_c(), taps = shape_.r * shape_.s;
    const std::int64_t parts = std::clamp<std::int64_t>(divide_up(4 * threads_, taps), 1, divide_up(c, 14));
#pragma omp for collapse(2) schedule(dynamic)
    for (std::int64_t tap = 0; tap < taps; ++tap) {
      for (std::int64_t part = 0; part < parts; ++part) {
        const std::int64_t channel = c * part / parts;
        Product product{};
        product.rows = c * (part + 1) / parts - channel;
        product.columns = round_up(shape_.group_k(), lanes_), product.depth = shape_.out_w();
        product.a =
            in_pixels_ + channel +
            (tap / shape_.s * shape_.dilation_h * columns_ + tap % shape_.s * shape_.dilation_w) * in_stride_;
        product.a_row = 1, product.a_depth = shape_.stride_w * in_stride_;
        product.b = out_pixels_, product.b_depth = out_stride_, product.b_panel = 2 * lanes_;
        product.c = gradients_ + (tap * c + channel) * out_stride_, product.c_row = out_stride_;
        product.accumulate = first > 0;
        product.segments = static_cast<std::int64_t>(in_offsets.size());
        product.a_offsets = in_offsets.data(), product.b_offsets = out_offsets.data();
        kernels_.multiply(product);
      }
    }
  }

  void store(std::int64_t group) {
    const View view = filter_view(shape_);
    const std::int64_t c = shape_.group_c(), k = shape_.group_k();
    float* filters = operands_.weights.as<float>() + group * k * view.n;
#pragma omp for collapse(2) schedule(static)
    for (std::int64_t tap = 0; tap < shape_.r * shape_.s; ++tap) {
      for (std::int64_t channel = 0; channel < k; channel += lanes_) {
        kernels_.from_lanes(gradients_ + tap * c * out_stride_ + channel, out_stride_,
                            filters + channel * view.n + tap / shape_.s * view.h + tap % shape_.s * view.w,
                            view.c, view.n, c, std::min(lanes_, k - channel));
      }
    }
  }

  std::int64_t columns_, in_stride_, out_stride_, stripe_ = 1, stripes_ = 0, block_ = 0;
  float *in_pixels_ = nullptr, *out_pixels_ = nullptr, *gradients_ = nullptr;
};

}  // namespace

std::unique_ptr<Harness> open_implicit_gemm(const Request& request, const Place* place) {
  if (Shape(request).pass == Pass::backward_weights) {
    return std::make_unique<ImplicitGemmWeights>(request, place);
  }
  return std::make_unique<ImplicitGemmImages>(request, place);
}

}  // namespace microbench::conv
