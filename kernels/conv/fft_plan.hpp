#pragma once

#include <cstdint>
#include <vector>

namespace microbench::conv {

// A complex discrete Fourier transform of `n` = 2^a 3^b 5^c points in Stockham's order: one pass for each
// radix.
struct FftLine {
  std::int64_t n;
  std::vector<int> radices;
  // For each pass, each p < n'/radix and each j in 1..radix-1: cosine and sine of -2 pi p j / n'.
  std::vector<float> twiddles;

  explicit FftLine(std::int64_t points);
};

// A transform of h x w real pixels: w/2 + 1 columns of h complex values.
struct FftPlan {
  FftLine column, row;

  FftPlan(std::int64_t h, std::int64_t w) : column(h), row(w) {}

  std::int64_t half() const { return row.n / 2 + 1; }
  std::int64_t points() const { return column.n * half(); }
  // Vectors: the half-transformed plane, and two lines to work on, all complex.
  std::int64_t scratch_vectors() const {
    const std::int64_t longest = column.n > row.n ? column.n : row.n;
    return 2 * (column.n + 1) * half() + 4 * longest;
  }
};

// The smallest length >= n that FftLine can do.
std::int64_t fft_length(std::int64_t n);

}  // namespace microbench::conv
