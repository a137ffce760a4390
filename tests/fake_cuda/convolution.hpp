#pragma once

#include <array>

#include "device.hpp"
#include "values.hpp"

// Convolution by its definition, on tensors as cuDNN describes them.
namespace fake {

// Sizes and strides of (n, c, h, w) or (k, c, r, s), in elements.
struct Tensor {
  cudnnDataType_t type{};
  std::array<std::int64_t, 4> sizes{}, strides{};

  std::int64_t at(std::int64_t a, std::int64_t b, std::int64_t c, std::int64_t d) const {
    return a * strides[0] + b * strides[1] + c * strides[2] + d * strides[3];
  }
  std::int64_t elements() const { return sizes[0] * sizes[1] * sizes[2] * sizes[3]; }
};

struct Window {
  std::array<std::int64_t, 2> pad{}, stride{}, dilation{};
};

// Whether F(4x4, 3x3) can do it.
inline bool takes_winograd(const Tensor& w, const Window& window) {
  const std::array<std::int64_t, 2> ones{1, 1};
  return w.sizes[2] == 3 && w.sizes[3] == 3 && window.stride == ones && window.dilation == ones;
}

inline double seconds_of(const Tensor& w, const Tensor& y) {
  const std::int64_t products = y.elements() * w.sizes[1] * w.sizes[2] * w.sizes[3];
  return 2.0 * static_cast<double>(products) / kFlopsPerS;
}

enum class Result { output, input, weights };

// One of the three tensors from the other two: result = sum + beta * result.
inline void convolve(Result result, const Window& window, const Tensor& x, void* x_data, const Tensor& w,
                     void* w_data, const Tensor& y, void* y_data, double beta, bool short_products) {
  const Tensor& out = result == Result::output ? y : result == Result::input ? x : w;
  void* out_data = result == Result::output ? y_data : result == Result::input ? x_data : w_data;
  std::vector<double> sums(static_cast<std::size_t>(out.elements()));
  const std::int64_t group_c = w.sizes[1], groups = x.sizes[1] / group_c, group_k = w.sizes[0] / groups;
  for (std::int64_t n = 0; n < y.sizes[0]; ++n) {
    for (std::int64_t k = 0; k < y.sizes[1]; ++k) {
      for (std::int64_t i = 0; i < y.sizes[2]; ++i) {
        for (std::int64_t j = 0; j < y.sizes[3]; ++j) {
          for (std::int64_t c = 0; c < group_c; ++c) {
            for (std::int64_t r = 0; r < w.sizes[2]; ++r) {
              for (std::int64_t s = 0; s < w.sizes[3]; ++s) {
                const std::int64_t row = i * window.stride[0] + r * window.dilation[0] - window.pad[0];
                const std::int64_t column = j * window.stride[1] + s * window.dilation[1] - window.pad[1];
                if (row < 0 || row >= x.sizes[2] || column < 0 || column >= x.sizes[3]) continue;
                const std::int64_t xi = x.at(n, k / group_k * group_c + c, row, column);
                const std::int64_t wi = w.at(k, c, r, s), yi = y.at(n, k, i, j);
                const auto value = [&](const Tensor& tensor, void* data, std::int64_t index) {
                  const double exact = load(tensor.type, data, index);
                  return short_products ? tf32(exact) : exact;
                };
                if (result == Result::output) {
                  sums[static_cast<std::size_t>(yi)] += value(x, x_data, xi) * value(w, w_data, wi);
                } else if (result == Result::input) {
                  sums[static_cast<std::size_t>(xi)] += value(y, y_data, yi) * value(w, w_data, wi);
                } else {
                  sums[static_cast<std::size_t>(wi)] += value(x, x_data, xi) * value(y, y_data, yi);
                }
              }
            }
          }
        }
      }
    }
  }
  for (std::size_t index = 0; index < sums.size(); ++index) {
    const auto place = static_cast<std::int64_t>(index);
    const double before = beta == 0 ? 0 : beta * load(out.type, out_data, place);
    store(out.type, out_data, place, sums[index] + before);
  }
}

}  // namespace fake
