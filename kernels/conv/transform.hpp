#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "conv/place.hpp"

namespace microbench::conv {

// A bilinear algorithm for one tile of a correlation in which convolution becomes a product: Winograd's, or
// Fourier's. Works on one vector of channels at a time. A transformed tile has points() values, complex ones
// with their imaginary parts apart.
class TileTransform {
 public:
  TileTransform() = default;
  TileTransform(const TileTransform&) = delete;  // used through pointers to the base
  TileTransform& operator=(const TileTransform&) = delete;
  virtual ~TileTransform() = default;

  virtual std::string name() const = 0;
  virtual std::int64_t points() const = 0;
  virtual bool is_complex() const = 0;
  // Pixels of the output that one tile gives; its input is that and the filter's extent less one.
  virtual std::int64_t step_h() const = 0;
  virtual std::int64_t step_w() const = 0;
  virtual std::int64_t scratch_vectors() const = 0;

  // Pixels lie one vector apart, rows `row` floats; values of a transformed tile `point` floats. Where the
  // pass is backward_weights, `filter` transforms a tile of the output's gradient and `output` gives the
  // filter's.
  virtual void input(const float* tile, std::int64_t row, float* out, std::int64_t point,
                     std::int64_t imaginary, float* scratch) const = 0;
  virtual void filter(const float* tile, std::int64_t row, float* out, std::int64_t point,
                      std::int64_t imaginary, float* scratch) const = 0;
  virtual void output(const float* in, std::int64_t point, std::int64_t imaginary, float* tile,
                      std::int64_t row, float* scratch) const = 0;
};

// Convolution of stride 1 by tiles: transform, one matrix product over the channels for each point, transform
// back.
std::unique_ptr<Harness> transformed_convolution(const Request& request,
                                                 std::unique_ptr<TileTransform> transform,
                                                 const Place* place);

}  // namespace microbench::conv
