// Convolution by explicit lowering and matrix products of a BLAS: Chellapilla, Puri and Simard, "High
// Performance Convolutional Neural Networks for Document Processing", IWFHR 2006.

#include <omp.h>

#include <algorithm>
#include <optional>

#include "common/openblas.hpp"
#include "conv/images.hpp"
#include "conv/microbench.hpp"

namespace microbench::conv {
namespace {

// What a thread lowers and multiplies at a time should still be in its cache when multiplied, but have as
// many pixels as make up for packing the filters anew.
constexpr std::int64_t kLoweredBytes = std::int64_t{1} << 20;
constexpr std::int64_t kPixels = 256;
constexpr auto kFloat = static_cast<std::int64_t>(sizeof(float));

class Im2col final : public Harness {
 public:
  Im2col(const Request& request, const Place* place)
      : shape_(request),
        threads_(request.threads),
        blas_(request.library_path),
        gemm_(blas_.require<OpenBlas::Gemm<float>>("cblas_sgemm")),
        core_(blas_.core()),
        operands_(shape_, ElementType::float32, ElementType::float32, place),
        x_{operands_.input.as<float>(), input_view(shape_), shape_.group_c(), shape_.h, shape_.w},
        y_{operands_.output.as<float>(), output_view(shape_), shape_.group_k(), shape_.out_h(),
           shape_.out_w()},
        taps_(shape_.group_c() * shape_.r * shape_.s),
        // A 1x1 filter of stride 1 without padding sees the images as they are.
        lowered_(shape_.r * shape_.s * shape_.stride_h * shape_.stride_w > 1 ||
                 shape_.pad_h + shape_.pad_w > 0),
        stripe_(rows_of_stripe()),
        batch_(images_of_stripe()),
        stripes_(divide_up(y_.h, stripe_)),
        batches_(divide_up(shape_.n, batch_)) {
    blas_.set_threads(1);  // each of our threads multiplies for itself
    const std::int64_t pixels = batch_ * stripe_ * y_.w;
    lowered_floats_ = lowered_ ? round_up(taps_ * pixels, 16) : 0;
    // Only in nhwc do the results of several images lie together.
    gathered_ = batch_ > 1 && !shape_.channels_last;
    worker_floats_ = lowered_floats_ + (gathered_ ? round_up(y_.channels * pixels, 16) : 0);
    const std::int64_t sum_floats =
        shape_.pass == Pass::backward_weights ? round_up(operands_.weights.elements, 16) : 0;
    const std::int64_t needed = threads_ * (worker_floats_ + sum_floats) * kFloat;
    workspace_.emplace(needed, request.workspace_limit, place);
    workers_ = static_cast<float*>(workspace_->data());
    sums_ = workers_ + threads_ * worker_floats_;
  }

  void launch() override {
    switch (shape_.pass) {
      case Pass::forward:
        return forward();
      case Pass::backward_data:
        return backward_data();
      case Pass::backward_weights:
        return backward_weights();
    }
  }

  std::vector<Operand> operands() override { return operands_.list(shape_.pass); }
  std::string implementation() const override { return "im2col OpenBLAS " + core_; }
  std::int64_t workspace_bytes() const override { return workspace_->bytes(); }

 private:
  // Rows of the output that are lowered at a time.
  std::int64_t rows_of_stripe() const {
    const std::int64_t cached = kLoweredBytes / (taps_ * y_.w * kFloat), wide = divide_up(kPixels, y_.w);
    const std::int64_t shared =
        divide_up(y_.h * shape_.n * shape_.groups, threads_);  // something for each thread
    // Every second stripe must be free of pixels that another one sees: backward_data adds to them in
    // parallel.
    const std::int64_t apart = divide_up(shape_.extent_h(), shape_.stride_h);
    return std::min(std::max(std::min(std::max(cached, wide), shared), apart), y_.h);
  }

  // Images that are lowered together: several where one has few pixels, but something for each thread.
  std::int64_t images_of_stripe() const {
    if (stripe_ < y_.h || !lowered_) return 1;
    const std::int64_t shared = divide_up(shape_.n * shape_.groups, threads_);
    return std::clamp<std::int64_t>(std::min(kPixels / (y_.h * y_.w), shared), 1, shape_.n);
  }

  // What is multiplied at a time: some rows of one image's output, or several whole images; one group of
  // channels.
  struct Stripe {
    std::int64_t group, image, images, first, rows;
  };
  Stripe stripe(std::int64_t batch, std::int64_t group, std::int64_t index) const {
    const std::int64_t image = batch * batch_, first = index * stripe_;
    return {group, image, std::min(batch_, shape_.n - image), first, std::min(stripe_, y_.h - first)};
  }
  std::int64_t pixels(const Stripe& stripe) const { return stripe.images * stripe.rows * y_.w; }

  // A matrix in nchw of taps or channels x pixels, in nhwc the transpose; rows `stride` floats apart.
  struct Matrix {
    float* data;
    std::int64_t stride;
  };

  struct ConstMatrix {
    const float* data;
    std::int64_t stride;

    ConstMatrix(const float* first, std::int64_t row) : data(first), stride(row) {}
    ConstMatrix(const Matrix& matrix) : data(matrix.data), stride(matrix.stride) {}
  };

  // Row-major C (m x n) = op(A) (m x k) op(B) (k x n) + beta C.
  void multiply(bool a_transposed, bool b_transposed, std::int64_t m, std::int64_t n, std::int64_t k,
                const ConstMatrix& a, const ConstMatrix& b, float beta, const Matrix& c) const {
    gemm_(OpenBlas::kRowMajor, a_transposed ? OpenBlas::kTranspose : OpenBlas::kNoTranspose,
          b_transposed ? OpenBlas::kTranspose : OpenBlas::kNoTranspose, static_cast<int>(m),
          static_cast<int>(n), static_cast<int>(k), 1, a.data, static_cast<int>(a.stride), b.data,
          static_cast<int>(b.stride), beta, c.data, static_cast<int>(c.stride));
  }

  float* worker() const { return workers_ + omp_get_thread_num() * worker_floats_; }

  Matrix lowered(const Stripe& stripe) const {
    if (lowered_) return {worker(), shape_.channels_last ? taps_ : pixels(stripe)};
    const Images x = x_.group(stripe.group);
    return {x.data + stripe.image * x.view.n + stripe.first * x.view.h,
            shape_.channels_last ? shape_.c : x.h * x.w};
  }

  Matrix results(const Stripe& stripe) const {
    if (gathered_) return {worker() + lowered_floats_, pixels(stripe)};
    const Images y = y_.group(stripe.group);
    return {y.data + stripe.image * y.view.n + stripe.first * y.view.h,
            shape_.channels_last ? shape_.k : y.h * y.w};
  }

  // Copies the results of several images to a matrix (`gather`), or back.
  void copy_results(const Stripe& stripe, const Matrix& matrix, bool gather) const {
    const Images y = y_.group(stripe.group);
    const std::int64_t length = y.h * y.w;
    for (std::int64_t channel = 0; channel < y.channels; ++channel) {
      for (std::int64_t image = 0; image < stripe.images; ++image) {
        float* inside = matrix.data + channel * matrix.stride + image * length;
        float* outside = y.data + (stripe.image + image) * y.view.n + channel * y.view.c;
        std::copy_n(gather ? outside : inside, length, gather ? inside : outside);
      }
    }
  }

  // Calls run(lowered element, image element, outputs first..last) for each tap and row of outputs that see
  // the image; zero(lowered element, outputs) for those beyond its edge. Elements are runs of channels in
  // nhwc.
  template <typename Run, typename Zero>
  void for_taps(const Stripe& stripe, const Matrix& to, Run&& run, Zero&& zero) const {
    const Images x = x_.group(stripe.group);
    const bool last = shape_.channels_last;
    const std::int64_t outer = last ? 1 : x.channels;
    const std::int64_t step = last ? to.stride : 1;  // between the outputs of a row
    for (std::int64_t channel = 0; channel < outer; ++channel) {
      for (std::int64_t row = 0; row < stripe.images * stripe.rows; ++row) {
        float* image = x.data + (stripe.image + row / stripe.rows) * x.view.n + channel * x.view.c;
        for (std::int64_t r = 0; r < shape_.r; ++r) {
          for (std::int64_t s = 0; s < shape_.s; ++s) {
            const std::int64_t tap = (channel * shape_.r + r) * shape_.s + s;
            float* element = last ? to.data + row * y_.w * to.stride + tap * x.channels
                                  : to.data + tap * to.stride + row * y_.w;
            const std::int64_t y =
                (stripe.first + row % stripe.rows) * shape_.stride_h + r * shape_.dilation_h - shape_.pad_h;
            if (y < 0 || y >= x.h) {
              zero(element, step, y_.w);
              continue;
            }
            const auto [begin, end, left] = seen(s);
            zero(element, step, begin);
            run(element + begin * step, step,
                image + y * x.view.h + (left + begin * shape_.stride_w) * x.view.w,
                shape_.stride_w * x.view.w, end - begin);
            zero(element + end * step, step, y_.w - end);
          }
        }
      }
    }
  }

  // Outputs begin..end of a row that see the image, of all columns, at tap column `s`, and the input column
  // of output 0.
  struct Seen {
    std::int64_t begin, end, left;
  };
  Seen seen(std::int64_t s) const {
    const std::int64_t left = s * shape_.dilation_w - shape_.pad_w;
    const std::int64_t begin = std::min(divide_up(std::max<std::int64_t>(-left, 0), shape_.stride_w), y_.w);
    if (left >= x_.w) return {begin, begin, left};
    return {begin, std::clamp<std::int64_t>((x_.w - 1 - left) / shape_.stride_w + 1, begin, y_.w), left};
  }

  // In nchw with stride 1 and outputs as wide as the image a tap's pixels are the image, shifted: one copy
  // for all rows, and zeros over what wrapped around.
  void lower_shifted(const Stripe& stripe, const Matrix& to) const {
    const Images x = x_.group(stripe.group);
    for (std::int64_t tap = 0; tap < taps_; ++tap) {
      const std::int64_t s = tap % shape_.s, r = tap / shape_.s % shape_.r,
                         channel = tap / shape_.s / shape_.r;
      const auto [begin, end, left] = seen(s);
      const std::int64_t top =
          stripe.first + r * shape_.dilation_h - shape_.pad_h;  // input row of the first output
      const std::int64_t first = std::clamp<std::int64_t>(-top, 0, stripe.rows);
      const std::int64_t last = begin < end ? std::clamp<std::int64_t>(x.h - top, first, stripe.rows) : first;
      for (std::int64_t image = 0; image < stripe.images; ++image) {
        float* rows = to.data + tap * to.stride + image * stripe.rows * y_.w;
        std::fill_n(rows, first * y_.w, 0.0F);
        std::fill_n(rows + last * y_.w, (stripe.rows - last) * y_.w, 0.0F);
        if (first == last) continue;
        const float* from = x.data + (stripe.image + image) * x.view.n + channel * x.view.c +
                            (top + first) * x.view.h + left + begin;
        std::copy_n(from, (last - first - 1) * y_.w + end - begin, rows + first * y_.w + begin);
        for (std::int64_t row = first; row < last; ++row) {
          for (std::int64_t column = 0; column < begin; ++column) rows[row * y_.w + column] = 0;
          for (std::int64_t column = end; column < y_.w; ++column) rows[row * y_.w + column] = 0;
        }
      }
    }
  }

  void lower(const Stripe& stripe, const Matrix& to) const {
    if (!shape_.channels_last && shape_.stride_h == 1 && shape_.stride_w == 1 && y_.w == x_.w) {
      return lower_shifted(stripe, to);
    }
    const std::int64_t length = shape_.channels_last ? x_.channels : 1;
    for_taps(
        stripe, to,
        [&](float* element, std::int64_t step, const float* pixel, std::int64_t pixel_step,
            std::int64_t count) {
          if (step == 1 && pixel_step == 1) {
            std::copy_n(pixel, count, element);
          } else {
            for (std::int64_t i = 0; i < count; ++i) {
              std::copy_n(pixel + i * pixel_step, length, element + i * step);
            }
          }
        },
        [&](float* element, std::int64_t step, std::int64_t count) {
          for (std::int64_t i = 0; i < count; ++i) std::fill_n(element + i * step, length, 0.0F);
        });
  }

  // Adds lowered gradients to the pixels that they came from.
  void raise(const Stripe& stripe, const Matrix& from) const {
    const std::int64_t length = shape_.channels_last ? x_.channels : 1;
    for_taps(
        stripe, from,
        [&](const float* element, std::int64_t step, float* pixel, std::int64_t pixel_step,
            std::int64_t count) {
          if (step == 1 && pixel_step == 1) {
            for (std::int64_t i = 0; i < count; ++i) pixel[i] += element[i];
          } else {
            for (std::int64_t i = 0; i < count; ++i) {
              for (std::int64_t j = 0; j < length; ++j) pixel[i * pixel_step + j] += element[i * step + j];
            }
          }
        },
        [](const float*, std::int64_t, std::int64_t) {});
  }

  float* filters(std::int64_t group, float* all) const { return all + group * shape_.group_k() * taps_; }

  void forward() {
#pragma omp parallel for collapse(3) num_threads(threads_) schedule(dynamic)
    for (std::int64_t batch = 0; batch < batches_; ++batch) {
      for (std::int64_t group = 0; group < shape_.groups; ++group) {
        for (std::int64_t index = 0; index < stripes_; ++index) forward(stripe(batch, group, index));
      }
    }
  }

  void forward(const Stripe& stripe) {
    const Matrix taps = lowered(stripe), y = results(stripe);
    if (lowered_) lower(stripe, taps);
    const float* w = filters(stripe.group, operands_.weights.as<float>());
    if (shape_.channels_last) {
      multiply(false, true, pixels(stripe), y_.channels, taps_, taps, {w, taps_}, 0, y);
    } else {
      multiply(false, false, y_.channels, pixels(stripe), taps_, {w, taps_}, taps, 0, y);
    }
    if (gathered_) copy_results(stripe, y, false);
  }

  void backward_data() {
    auto* dx = operands_.input.as<float>();
    const std::int64_t elements = operands_.input.elements;
#pragma omp parallel num_threads(threads_)
    {
      if (lowered_) {
#pragma omp for simd schedule(static)
        for (std::int64_t i = 0; i < elements; ++i) dx[i] = 0;
      }
      // Neighbouring stripes add to the same pixels, so they take turns.
      for (std::int64_t turn = 0; turn < std::min<std::int64_t>(2, stripes_); ++turn) {
#pragma omp for collapse(3) schedule(dynamic)
        for (std::int64_t batch = 0; batch < batches_; ++batch) {
          for (std::int64_t group = 0; group < shape_.groups; ++group) {
            for (std::int64_t index = turn; index < stripes_; index += 2) {
              add_data_gradient(stripe(batch, group, index));
            }
          }
        }
      }
    }
  }

  void add_data_gradient(const Stripe& stripe) {
    const Matrix taps = lowered(stripe), dy = results(stripe);
    if (gathered_) copy_results(stripe, dy, true);
    const float* w = filters(stripe.group, operands_.weights.as<float>());
    if (shape_.channels_last) {
      multiply(false, false, pixels(stripe), taps_, y_.channels, dy, {w, taps_}, 0, taps);
    } else {
      multiply(true, false, taps_, pixels(stripe), y_.channels, {w, taps_}, dy, 0, taps);
    }
    if (lowered_) raise(stripe, taps);
  }

  // Each thread sums up what its stripes give; the sums are added in a fixed order.
  void backward_weights() {
    auto* dw = operands_.weights.as<float>();
    const std::int64_t elements = operands_.weights.elements, stride = round_up(elements, 16);
#pragma omp parallel num_threads(threads_)
    {
      float* sum = sums_ + omp_get_thread_num() * stride;
      std::fill_n(sum, elements, 0.0F);
#pragma omp for collapse(3) schedule(static)
      for (std::int64_t batch = 0; batch < batches_; ++batch) {
        for (std::int64_t group = 0; group < shape_.groups; ++group) {
          for (std::int64_t index = 0; index < stripes_; ++index) {
            add_weights_gradient(stripe(batch, group, index), sum);
          }
        }
      }
#pragma omp for simd schedule(static)
      for (std::int64_t i = 0; i < elements; ++i) {
        float total = 0;
        for (int thread = 0; thread < threads_; ++thread) total += sums_[thread * stride + i];
        dw[i] = total;
      }
    }
  }

  void add_weights_gradient(const Stripe& stripe, float* sum) {
    const Matrix taps = lowered(stripe), dy = results(stripe);
    if (lowered_) lower(stripe, taps);
    if (gathered_) copy_results(stripe, dy, true);
    multiply(shape_.channels_last, !shape_.channels_last, y_.channels, taps_, pixels(stripe), dy, taps, 1,
             {filters(stripe.group, sum), taps_});
  }

  Shape shape_;
  int threads_;
  OpenBlas blas_;
  OpenBlas::Gemm<float>* gemm_;
  std::string core_;
  PlacedOperands operands_;
  Images x_, y_;
  std::int64_t taps_;
  bool lowered_, gathered_ = false;
  std::int64_t stripe_, batch_, stripes_, batches_;  // rows and images multiplied at a time, and how often
  std::int64_t lowered_floats_ = 0, worker_floats_ = 0;
  std::optional<Workspace> workspace_;
  float *workers_ = nullptr, *sums_ = nullptr;
};

}  // namespace

std::unique_ptr<Harness> open_im2col(const Request& request, const Place* place) {
  return std::make_unique<Im2col>(request, place);
}

}  // namespace microbench::conv
