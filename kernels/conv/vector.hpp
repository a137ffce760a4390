#pragma once

#include <cstdint>

#include "conv/fft_plan.hpp"

namespace microbench::conv {

// C (rows x columns) = or += the sum over segments of A_i (rows x depth) * B_i (depth x columns), all
// row-major. Columns of C lie together; so do those of B within a panel of two vectors. Strides and offsets
// in floats. Complex matrices have their imaginary parts `*_imaginary` floats behind the real ones.
struct Product {
  std::int64_t rows, columns, depth;  // columns: a multiple of the lanes
  const float* a;
  std::int64_t a_row, a_depth;  // one of them is 1
  const float* b;
  std::int64_t b_depth, b_panel;
  float* c;
  std::int64_t c_row;
  bool accumulate;
  std::int64_t segments = 1;
  const std::int64_t* a_offsets = nullptr;  // null: no offsets
  const std::int64_t* b_offsets = nullptr;
  std::int64_t a_imaginary = 0, b_imaginary = 0, c_imaginary = 0;
};

// Applies a constant matrix from the left and its transpose from the right: out = M in M^T, for a vector of
// channels at once. Strides in floats, of neighbouring columns `in_column` apart.
using Sandwich = void(const float* in, std::int64_t in_row, std::int64_t in_column, float* out,
                      std::int64_t out_row, std::int64_t out_column);

// Winograd's transforms for outputs of m x m and 3 x 3 filters, and for the gradient of such filters.
struct WinogradKernels {
  Sandwich* input;            // (m + 2) x (m + 2) pixels
  Sandwich* filter;           // 3 x 3 taps
  Sandwich* output;           // to m x m pixels
  Sandwich* gradient_filter;  // m x m pixels of the output's gradient
  Sandwich* gradient_output;  // to 3 x 3 taps
};

// The loops that vectors speed up, compiled once for each instruction set.
struct VectorKernels {
  const char* name;
  int lanes;
  void (*multiply)(const Product&);
  // Complex, with the conjugate of B: products of spectra that are correlations.
  void (*multiply_conjugate)(const Product&);
  // A run of pixels, up to `lanes` channels each, to vectors of channels `to_stride` floats apart, zero where
  // there is no channel; and back.
  void (*to_lanes)(const float* from, std::int64_t pixel_stride, std::int64_t channel_stride,
                   std::int64_t pixels, std::int64_t channels, float* to, std::int64_t to_stride);
  void (*from_lanes)(const float* from, std::int64_t from_stride, float* to, std::int64_t pixel_stride,
                     std::int64_t channel_stride, std::int64_t pixels, std::int64_t channels);
  WinogradKernels winograd_2x2, winograd_4x4;
  // The spectrum of h x w real pixels, zero-extended to the plan's size, and back, scaled. A spectrum has
  // plan.points() complex values, `point` floats apart.
  void (*spectrum)(const FftPlan& plan, const float* in, std::int64_t in_row, std::int64_t h, std::int64_t w,
                   float* out, std::int64_t point, std::int64_t imaginary, float* scratch);
  void (*from_spectrum)(const FftPlan& plan, const float* in, std::int64_t point, std::int64_t imaginary,
                        float* out, std::int64_t out_row, std::int64_t h, std::int64_t w, float* scratch);
};

// The kernels for this processor.
const VectorKernels& vector_kernels();

constexpr std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}
constexpr std::int64_t divide_up(std::int64_t value, std::int64_t by) { return (value + by - 1) / by; }

}  // namespace microbench::conv
