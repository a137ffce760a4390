#pragma once

#include <algorithm>

#include "conv/place.hpp"
#include "conv/vector.hpp"

namespace microbench::conv {

// Images of one group of channels: `channels` of them, h x w pixels, zero outside.
struct Images {
  float* data;
  View view;
  std::int64_t channels, h, w;

  Images group(std::int64_t index) const {
    Images images = *this;
    images.data += index * channels * view.c;
    return images;
  }

  // Brings `columns` pixels of row `y` from column `x` on, any of them outside the image, to vectors of the
  // channels from `channel` on.
  void stage(const VectorKernels& kernels, std::int64_t image, std::int64_t channel, std::int64_t y,
             std::int64_t x, std::int64_t columns, float* to, std::int64_t to_stride) const {
    const std::int64_t first = std::clamp<std::int64_t>(-x, 0, columns);
    const std::int64_t last = std::clamp<std::int64_t>(w - x, first, columns);
    const bool inside = y >= 0 && y < h;
    const auto clear = [&](std::int64_t from, std::int64_t until) {
      for (std::int64_t column = from; column < until; ++column) {
        std::fill_n(to + column * to_stride, kernels.lanes, 0.0F);
      }
    };
    clear(0, inside ? first : columns);
    if (!inside) return;
    kernels.to_lanes(data + image * view.n + channel * view.c + y * view.h + (x + first) * view.w, view.w,
                     view.c, last - first, std::min<std::int64_t>(kernels.lanes, channels - channel),
                     to + first * to_stride, to_stride);
    clear(last, columns);
  }

  // The way back: `columns` pixels of row `y` from column `x` on, those outside left out.
  void unstage(const VectorKernels& kernels, const float* from, std::int64_t from_stride, std::int64_t image,
               std::int64_t channel, std::int64_t y, std::int64_t x, std::int64_t columns) const {
    kernels.from_lanes(from, from_stride, data + image * view.n + channel * view.c + y * view.h + x * view.w,
                       view.w, view.c, std::clamp<std::int64_t>(w - x, 0, columns),
                       std::min<std::int64_t>(kernels.lanes, channels - channel));
  }
};

// A pass of stride 1 as a correlation: of x with w for forward, of dy with the rotated w (input and output
// channels exchanged) for backward_data. For backward_weights `out` is dy.
struct Correlation {
  Images in, out;
  std::int64_t pad_h, pad_w;
  const float* filters;  // the element that meets the first input pixel of a tile
  View filter_view;      // n: output channels, c: input channels

  Correlation(const Shape& shape, const PlacedOperands& operands) {
    const Images x{operands.input.as<float>(), input_view(shape), shape.group_c(), shape.h, shape.w};
    const Images y{operands.output.as<float>(), output_view(shape), shape.group_k(), shape.out_h(),
                   shape.out_w()};
    const View view = conv::filter_view(shape);
    filters = operands.weights.as<float>();
    if (shape.pass == Pass::backward_data) {
      in = y, out = x;
      pad_h = shape.extent_h() - 1 - shape.pad_h, pad_w = shape.extent_w() - 1 - shape.pad_w;
      filters += (shape.r - 1) * view.h + (shape.s - 1) * view.w;
      filter_view = {view.c, view.n, -view.h, -view.w};
    } else {
      in = x, out = y;
      pad_h = shape.pad_h, pad_w = shape.pad_w;
      filter_view = view;
    }
  }
};

// Hands out pieces of one allocation, each on a cache line of its own. Used twice: to count, then to divide.
class Arena {
 public:
  explicit Arena(float* memory = nullptr) : memory_(memory) {}

  float* take(std::int64_t floats) {
    float* piece = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += round_up(floats, 16);
    return piece;
  }
  std::int64_t bytes() const { return used_ * static_cast<std::int64_t>(sizeof(float)); }

 private:
  float* memory_;
  std::int64_t used_ = 0;
};

}  // namespace microbench::conv
