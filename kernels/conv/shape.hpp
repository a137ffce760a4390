#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/error.hpp"
#include "common/harness.hpp"

namespace microbench::conv {

enum class Pass { forward, backward_data, backward_weights };

// Convolution as deep learning says it, a cross-correlation:
//   y[n, k, i, j] = sum over c, r, s of x[n, c, i * stride_h + r * dilation_h - pad_h,
//                                             j * stride_w + s * dilation_w - pad_w] * w[k, c, r, s]
// with x zero outside the image, and c running over the channels of k's group.
struct Shape {
  Pass pass;
  bool channels_last;  // layout nhwc
  std::int64_t n, c, h, w, k, r, s;
  std::int64_t pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w, groups;

  explicit Shape(const Request& request)
      : pass(pass_of(request.text("pass"))),
        channels_last(is_channels_last(request.text("layout"))),
        n(request.integer("n")),
        c(request.integer("c")),
        h(request.integer("h")),
        w(request.integer("w")),
        k(request.integer("k")),
        r(request.integer("filter_h")),
        s(request.integer("filter_w")),
        pad_h(request.integer("pad_h")),
        pad_w(request.integer("pad_w")),
        stride_h(request.integer("stride_h")),
        stride_w(request.integer("stride_w")),
        dilation_h(request.integer("dilation_h")),
        dilation_w(request.integer("dilation_w")),
        groups(request.integer("groups")) {}

  // Rows and columns that a dilated filter spans.
  std::int64_t extent_h() const { return dilation_h * (r - 1) + 1; }
  std::int64_t extent_w() const { return dilation_w * (s - 1) + 1; }
  std::int64_t out_h() const { return (h + 2 * pad_h - extent_h()) / stride_h + 1; }
  std::int64_t out_w() const { return (w + 2 * pad_w - extent_w()) / stride_w + 1; }
  std::int64_t group_c() const { return c / groups; }
  std::int64_t group_k() const { return k / groups; }

 private:
  static Pass pass_of(const std::string& name) {
    if (name == "forward") return Pass::forward;
    if (name == "backward_data") return Pass::backward_data;
    if (name == "backward_weights") return Pass::backward_weights;
    throw Unsupported("convolution has no pass '" + name + "'");
  }
  static bool is_channels_last(const std::string& name) {
    if (name != "nchw" && name != "nhwc") throw Unsupported("convolution has no layout '" + name + "'");
    return name == "nhwc";
  }
};

// Where the elements of images, or of filters (n: filter, c: channel within the group), lie in memory; all in
// elements. Strides may be negative.
struct View {
  std::int64_t n, c, h, w;
};

inline View dense(bool channels_last, std::int64_t c, std::int64_t h, std::int64_t w) {
  if (channels_last) return {c * h * w, 1, w * c, c};
  return {c * h * w, h * w, w, 1};
}

inline View input_view(const Shape& shape) { return dense(shape.channels_last, shape.c, shape.h, shape.w); }
inline View output_view(const Shape& shape) {
  return dense(shape.channels_last, shape.k, shape.out_h(), shape.out_w());
}
inline View filter_view(const Shape& shape) {
  return dense(shape.channels_last, shape.group_c(), shape.r, shape.s);
}

// The input "x", the weights "w" and the output "y", or whichever of their gradients the pass is about, in
// memory of the host or of a device.
template <typename BufferType, typename OperandType>
struct OperandsIn {
  BufferType input, weights, output;

  OperandsIn(const Shape& shape, ElementType storage, ElementType result)
      : input(shape.pass == Pass::backward_data ? result : storage, shape.n * shape.c * shape.h * shape.w),
        weights(shape.pass == Pass::backward_weights ? result : storage,
                shape.k * shape.group_c() * shape.r * shape.s),
        output(shape.pass == Pass::forward ? result : storage,
               shape.n * shape.k * shape.out_h() * shape.out_w()) {}

  std::vector<OperandType> list(Pass pass) {
    switch (pass) {
      case Pass::forward:
        return {{"x", &input, false}, {"w", &weights, false}, {"y", &output, true}};
      case Pass::backward_data:
        return {{"dy", &output, false}, {"w", &weights, false}, {"dx", &input, true}};
      case Pass::backward_weights:
        return {{"x", &input, false}, {"dy", &output, false}, {"dw", &weights, true}};
    }
    throw std::logic_error("unknown pass");
  }
};
using Operands = OperandsIn<Buffer, Operand>;

}  // namespace microbench::conv
