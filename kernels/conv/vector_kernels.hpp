// The body of VectorKernels, included by vector.cpp once for each instruction set, inside a namespace and a
// target pragma of its own; hence no include guard and no includes. Needs kLanes, kRows and kName.

typedef float Vector __attribute__((vector_size(kLanes * sizeof(float)), aligned(sizeof(float)), may_alias));

inline Vector& at(float* address) { return *reinterpret_cast<Vector*>(address); }
inline const Vector& at(const float* address) { return *reinterpret_cast<const Vector*>(address); }

// ---- matrix products
// --------------------------------------------------------------------------------------------

template <bool kComplex, bool kAdjacentRows, int kTileRows, int kVectors>
void tile_product(const Product& p, const float* a, const float* b, float* c) {
  Vector re[kTileRows][kVectors], im[kTileRows][kVectors];
#pragma GCC unroll 16
  for (int row = 0; row < kTileRows; ++row) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      re[row][v] = im[row][v] = Vector{};
      if (!p.accumulate) continue;
      re[row][v] = at(c + row * p.c_row + v * kLanes);
      if (kComplex) im[row][v] = at(c + row * p.c_row + v * kLanes + p.c_imaginary);
    }
  }
  for (std::int64_t segment = 0; segment < p.segments; ++segment) {
    const float* x = a + (p.a_offsets != nullptr ? p.a_offsets[segment] : 0);
    const float* y = b + (p.b_offsets != nullptr ? p.b_offsets[segment] : 0);
    const std::int64_t x_step = kAdjacentRows ? p.a_depth : 1;
    const std::int64_t x_row = kAdjacentRows ? 1 : p.a_row;
    for (std::int64_t d = 0; d < p.depth; ++d, x += x_step, y += p.b_depth) {
      Vector y_re[kVectors], y_im[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        y_re[v] = at(y + v * kLanes);
        if (kComplex) y_im[v] = at(y + v * kLanes + p.b_imaginary);
      }
#pragma GCC unroll 16
      for (int row = 0; row < kTileRows; ++row) {
        const float x_re = x[row * x_row];
        const float x_im = kComplex ? x[row * x_row + p.a_imaginary] : 0;
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
          re[row][v] += x_re * y_re[v];
          if (!kComplex) continue;
          re[row][v] += x_im * y_im[v];
          im[row][v] += x_im * y_re[v];
          im[row][v] -= x_re * y_im[v];
        }
      }
    }
  }
#pragma GCC unroll 16
  for (int row = 0; row < kTileRows; ++row) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      at(c + row * p.c_row + v * kLanes) = re[row][v];
      if (kComplex) at(c + row * p.c_row + v * kLanes + p.c_imaginary) = im[row][v];
    }
  }
}

using TileProduct = void(const Product&, const float*, const float*, float*);

template <bool kComplex, bool kAdjacentRows, int kVectors, int... kIndices>
constexpr std::array<TileProduct*, sizeof...(kIndices)> tile_products(
    std::integer_sequence<int, kIndices...>) {
  return {&tile_product<kComplex, kAdjacentRows, kIndices + 1, kVectors>...};
}

template <bool kComplex, bool kAdjacentRows>
void multiply_panels(const Product& p) {
  // A complex tile holds twice the accumulators.
  constexpr int kMost = kComplex ? (kRows - 2) / 2 : kRows;
  constexpr auto kSequence = std::make_integer_sequence<int, kMost>{};
  static constexpr std::array<std::array<TileProduct*, kMost>, 2> kTiles{
      tile_products<kComplex, kAdjacentRows, 1>(kSequence),
      tile_products<kComplex, kAdjacentRows, 2>(kSequence)};
  const std::int64_t parts = divide_up(p.rows, kMost);
  for (std::int64_t column = 0, panel = 0; column < p.columns; column += 2 * kLanes, ++panel) {
    const auto vectors = static_cast<std::size_t>(std::min<std::int64_t>(2, (p.columns - column) / kLanes));
    for (std::int64_t part = 0, row = 0; part < parts; ++part) {
      // Tiles of nearly the same height: one of a single row would waste the vectors of B it loads.
      const std::int64_t rows = (p.rows - row) / (parts - part);
      kTiles[vectors - 1][static_cast<std::size_t>(rows - 1)](p, p.a + row * p.a_row, p.b + panel * p.b_panel,
                                                              p.c + row * p.c_row + column);
      row += rows;
    }
  }
}

template <bool kComplex>
void multiply_any(const Product& p) {
  if (p.a_row == 1) {
    multiply_panels<kComplex, true>(p);
  } else {
    multiply_panels<kComplex, false>(p);
  }
}

// ---- from and to vectors of channels
// ----------------------------------------------------------------------------

template <int kWidth, int... kIndices>
inline void exchange(Vector& low, Vector& high, std::integer_sequence<int, kIndices...>) {
  // Of each pair of blocks of kWidth lanes, the second of `low` and the first of `high` change places.
  const Vector first = __builtin_shufflevector(
      low, high, ((kIndices & kWidth) == 0 ? kIndices : kIndices - kWidth + kLanes)...);
  high = __builtin_shufflevector(low, high,
                                 ((kIndices & kWidth) == 0 ? kIndices + kWidth : kIndices + kLanes)...);
  low = first;
}

template <int kWidth>
inline void transpose_step(Vector (&v)[kLanes]) {
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    if ((i & kWidth) == 0) exchange<kWidth>(v[i], v[i + kWidth], std::make_integer_sequence<int, kLanes>{});
  }
  if constexpr (kWidth > 1) transpose_step<kWidth / 2>(v);
}

// kLanes rows of kLanes floats.
inline void transpose(const float* from, std::int64_t from_row, float* to, std::int64_t to_row) {
  Vector v[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) v[i] = at(from + i * from_row);
  transpose_step<kLanes / 2>(v);
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) at(to + i * to_row) = v[i];
}

// Calls block(first pixel) for blocks of kLanes pixels; the last one may overlap the one before.
template <typename Block>
inline void for_blocks(std::int64_t pixels, Block&& block) {
  for (std::int64_t pixel = 0; pixel + kLanes <= pixels; pixel += kLanes) block(pixel);
  if (pixels % kLanes != 0) block(pixels - kLanes);
}

void to_lanes(const float* from, std::int64_t pixel_stride, std::int64_t channel_stride, std::int64_t pixels,
              std::int64_t channels, float* to, std::int64_t to_stride) {
  if (channels == kLanes && channel_stride == 1) {
    for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
      at(to + pixel * to_stride) = at(from + pixel * pixel_stride);
    }
  } else if (channels == kLanes && pixel_stride == 1 && pixels >= kLanes) {
    for_blocks(pixels, [&](std::int64_t pixel) {
      transpose(from + pixel, channel_stride, to + pixel * to_stride, to_stride);
    });
  } else {
    if (channels < kLanes) {
      for (std::int64_t pixel = 0; pixel < pixels; ++pixel) at(to + pixel * to_stride) = Vector{};
    }
    for (std::int64_t channel = 0; channel < channels; ++channel) {
      const float* first = from + channel * channel_stride;
      for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
        to[pixel * to_stride + channel] = first[pixel * pixel_stride];
      }
    }
  }
}

void from_lanes(const float* from, std::int64_t from_stride, float* to, std::int64_t pixel_stride,
                std::int64_t channel_stride, std::int64_t pixels, std::int64_t channels) {
  if (channels == kLanes && channel_stride == 1) {
    for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
      at(to + pixel * pixel_stride) = at(from + pixel * from_stride);
    }
  } else if (channels == kLanes && pixel_stride == 1 && pixels >= kLanes) {
    for_blocks(pixels, [&](std::int64_t pixel) {
      transpose(from + pixel * from_stride, from_stride, to + pixel, channel_stride);
    });
  } else {
    for (std::int64_t channel = 0; channel < channels; ++channel) {
      float* first = to + channel * channel_stride;
      for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
        first[pixel * pixel_stride] = from[pixel * from_stride + channel];
      }
    }
  }
}

// ---- Winograd
// ---------------------------------------------------------------------------------------------------

// One row of M times a line of vectors; factors 0 and 1 cost nothing.
template <typename Matrix, int kRow, int kColumn = 0>
inline void add_terms(const Vector* line, Vector& sum) {
  if constexpr (kColumn < Matrix::kColumns) {
    constexpr float kFactor = Matrix::kValues[kRow][kColumn];
    if constexpr (kFactor == 1.0F) {
      sum += line[kColumn];
    } else if constexpr (kFactor == -1.0F) {
      sum -= line[kColumn];
    } else if constexpr (kFactor != 0.0F) {
      sum += kFactor * line[kColumn];
    }
    add_terms<Matrix, kRow, kColumn + 1>(line, sum);
  }
}

template <typename Matrix, int kRow = 0>
inline void apply_rows(const Vector* line, float* out, std::int64_t stride) {
  if constexpr (kRow < Matrix::kRows) {
    Vector sum{};
    add_terms<Matrix, kRow>(line, sum);
    at(out + kRow * stride) = sum;
    apply_rows<Matrix, kRow + 1>(line, out, stride);
  }
}

template <typename Matrix>
void sandwich(const float* in, std::int64_t in_row, std::int64_t in_column, float* out, std::int64_t out_row,
              std::int64_t out_column) {
  constexpr int kSize = Matrix::kColumns;
  float half[Matrix::kRows * kSize * kLanes];  // M in
#pragma GCC unroll 8
  for (int column = 0; column < kSize; ++column) {
    Vector line[kSize];
#pragma GCC unroll 8
    for (int row = 0; row < kSize; ++row) line[row] = at(in + row * in_row + column * in_column);
    apply_rows<Matrix>(line, half + column * kLanes, kSize * kLanes);
  }
#pragma GCC unroll 8
  for (int row = 0; row < Matrix::kRows; ++row) {
    Vector line[kSize];
#pragma GCC unroll 8
    for (int column = 0; column < kSize; ++column) line[column] = at(half + (row * kSize + column) * kLanes);
    apply_rows<Matrix>(line, out + row * out_row, out_column);
  }
}

template <typename Algorithm>
constexpr WinogradKernels winograd_kernels() {
  return {&sandwich<typename Algorithm::Input>, &sandwich<typename Algorithm::Filter>,
          &sandwich<typename Algorithm::Output>, &sandwich<typename Algorithm::GradientFilter>,
          &sandwich<typename Algorithm::GradientOutput>};
}

#include "conv/fft_kernels.hpp"

constexpr VectorKernels kKernels{kName,
                                 kLanes,
                                 &multiply_any<false>,
                                 &multiply_any<true>,
                                 &to_lanes,
                                 &from_lanes,
                                 winograd_kernels<Winograd2x2>(),
                                 winograd_kernels<Winograd4x4>(),
                                 &spectrum,
                                 &from_spectrum};
