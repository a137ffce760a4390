// Fourier transforms of vectors of channels: a part of vector_kernels.hpp, and like it without an include
// guard.

// n complex vectors: real parts, and imaginary parts behind them.
struct Line {
  float* re;
  float* im;
};

template <int kRadix>
inline void small_dft(Vector* re, Vector* im) {
  if constexpr (kRadix == 2) {
    const Vector r = re[0] - re[1], i = im[0] - im[1];
    re[0] += re[1], im[0] += im[1];
    re[1] = r, im[1] = i;
  } else if constexpr (kRadix == 4) {
    const Vector r0 = re[0] + re[2], i0 = im[0] + im[2], r1 = re[0] - re[2], i1 = im[0] - im[2];
    const Vector r2 = re[1] + re[3], i2 = im[1] + im[3], r3 = re[1] - re[3], i3 = im[1] - im[3];
    re[0] = r0 + r2, im[0] = i0 + i2;
    re[1] = r1 + i3, im[1] = i1 - r3;
    re[2] = r0 - r2, im[2] = i0 - i2;
    re[3] = r1 - i3, im[3] = i1 + r3;
  } else {
    constexpr int kPairs = kRadix / 2;
    Vector plus_re[kPairs], plus_im[kPairs], minus_re[kPairs], minus_im[kPairs];
    const Vector re0 = re[0], im0 = im[0];
#pragma GCC unroll 2
    for (int t = 0; t < kPairs; ++t) {
      plus_re[t] = re[t + 1] + re[kRadix - 1 - t], plus_im[t] = im[t + 1] + im[kRadix - 1 - t];
      minus_re[t] = re[t + 1] - re[kRadix - 1 - t], minus_im[t] = im[t + 1] - im[kRadix - 1 - t];
      re[0] += plus_re[t], im[0] += plus_im[t];
    }
#pragma GCC unroll 2
    for (int j = 1; j <= kPairs; ++j) {
      Vector even_re = re0, even_im = im0, odd_re{}, odd_im{};
#pragma GCC unroll 2
      for (int t = 0; t < kPairs; ++t) {
        const float cosine = kCosines<kRadix>[j * (t + 1) % kRadix];
        const float sine = kSines<kRadix>[j * (t + 1) % kRadix];
        even_re += cosine * plus_re[t], even_im += cosine * plus_im[t];
        odd_re += sine * minus_im[t], odd_im += sine * minus_re[t];
      }
      re[j] = even_re + odd_re, im[j] = even_im - odd_im;
      re[kRadix - j] = even_re - odd_re, im[kRadix - j] = even_im + odd_im;
    }
  }
}

template <int kRadix>
inline const float* pass(std::int64_t m, std::int64_t stride, Line x, Line y, const float* twiddles) {
  for (std::int64_t p = 0; p < m; ++p, twiddles += 2 * (kRadix - 1)) {
    for (std::int64_t q = 0; q < stride; ++q) {
      Vector re[kRadix], im[kRadix];
#pragma GCC unroll 5
      for (int j = 0; j < kRadix; ++j) {
        re[j] = at(x.re + (q + stride * (p + m * j)) * kLanes);
        im[j] = at(x.im + (q + stride * (p + m * j)) * kLanes);
      }
      small_dft<kRadix>(re, im);
#pragma GCC unroll 5
      for (int j = 0; j < kRadix; ++j) {
        float* to_re = y.re + (q + stride * (kRadix * p + j)) * kLanes;
        float* to_im = y.im + (q + stride * (kRadix * p + j)) * kLanes;
        if (j == 0 || p == 0) {
          at(to_re) = re[j], at(to_im) = im[j];
        } else {
          const float cosine = twiddles[2 * (j - 1)], sine = twiddles[2 * (j - 1) + 1];
          at(to_re) = cosine * re[j] - sine * im[j];
          at(to_im) = cosine * im[j] + sine * re[j];
        }
      }
    }
  }
  return twiddles;
}

// Transforms x, with y to work on; the result is in the one returned.
inline Line transform(const FftLine& plan, Line x, Line y) {
  const float* twiddles = plan.twiddles.data();
  std::int64_t n = plan.n, stride = 1;
  for (const int radix : plan.radices) {
    const std::int64_t m = n / radix;
    switch (radix) {
      case 2:
        twiddles = pass<2>(m, stride, x, y, twiddles);
        break;
      case 3:
        twiddles = pass<3>(m, stride, x, y, twiddles);
        break;
      case 4:
        twiddles = pass<4>(m, stride, x, y, twiddles);
        break;
      default:
        twiddles = pass<5>(m, stride, x, y, twiddles);
    }
    std::swap(x, y);
    n = m, stride *= radix;
  }
  return x;
}

// The inverse transform is the forward one with real and imaginary parts exchanged, unscaled.
inline Line inverse(const FftLine& plan, Line x, Line y) {
  const Line result = transform(plan, {x.im, x.re}, {y.im, y.re});
  return {result.im, result.re};
}

// How FftPlan::scratch_vectors are used.
struct Scratch {
  float *half_re, *half_im;
  Line x, y;

  Scratch(const FftPlan& plan, float* memory) {
    const std::int64_t half = (plan.column.n + 1) * plan.half() * kLanes;
    const std::int64_t line = std::max(plan.column.n, plan.row.n) * kLanes;
    half_re = memory, half_im = memory + half;
    x = {memory + 2 * half, memory + 2 * half + line};
    y = {memory + 2 * half + 2 * line, memory + 2 * half + 3 * line};
  }
};

// Rows are transformed in pairs, one as the real and one as the imaginary part, then told apart by symmetry.
void spectrum(const FftPlan& plan, const float* in, std::int64_t in_row, std::int64_t h, std::int64_t w,
              float* out, std::int64_t point, std::int64_t imaginary, float* memory) {
  const Scratch scratch(plan, memory);
  const std::int64_t half = plan.half(), n = plan.row.n;
  for (std::int64_t i = 0; i < h; i += 2) {
    for (std::int64_t j = 0; j < n; ++j) {
      at(scratch.x.re + j * kLanes) = j < w ? at(in + i * in_row + j * kLanes) : Vector{};
      at(scratch.x.im + j * kLanes) = j < w && i + 1 < h ? at(in + (i + 1) * in_row + j * kLanes) : Vector{};
    }
    const Line z = transform(plan.row, scratch.x, scratch.y);
    for (std::int64_t k = 0; k < half; ++k) {
      const std::int64_t mirrored = k == 0 ? 0 : n - k;
      const Vector re = at(z.re + k * kLanes), im = at(z.im + k * kLanes);
      const Vector other_re = at(z.re + mirrored * kLanes), other_im = at(z.im + mirrored * kLanes);
      const std::int64_t first = (i * half + k) * kLanes, second = ((i + 1) * half + k) * kLanes;
      at(scratch.half_re + first) = 0.5F * (re + other_re);
      at(scratch.half_im + first) = 0.5F * (im - other_im);
      at(scratch.half_re + second) = 0.5F * (im + other_im);
      at(scratch.half_im + second) = 0.5F * (other_re - re);
    }
  }
  for (std::int64_t k = 0; k < half; ++k) {
    for (std::int64_t i = 0; i < plan.column.n; ++i) {
      at(scratch.x.re + i * kLanes) = i < h ? at(scratch.half_re + (i * half + k) * kLanes) : Vector{};
      at(scratch.x.im + i * kLanes) = i < h ? at(scratch.half_im + (i * half + k) * kLanes) : Vector{};
    }
    const Line z = transform(plan.column, scratch.x, scratch.y);
    for (std::int64_t i = 0; i < plan.column.n; ++i) {
      float* to = out + (k * plan.column.n + i) * point;
      at(to) = at(z.re + i * kLanes);
      at(to + imaginary) = at(z.im + i * kLanes);
    }
  }
}

void from_spectrum(const FftPlan& plan, const float* in, std::int64_t point, std::int64_t imaginary,
                   float* out, std::int64_t out_row, std::int64_t h, std::int64_t w, float* memory) {
  const Scratch scratch(plan, memory);
  const std::int64_t half = plan.half(), n = plan.row.n;
  const float scale = 1.0F / static_cast<float>(plan.column.n * n);
  for (std::int64_t k = 0; k < half; ++k) {
    for (std::int64_t i = 0; i < plan.column.n; ++i) {
      const float* from = in + (k * plan.column.n + i) * point;
      at(scratch.x.re + i * kLanes) = at(from);
      at(scratch.x.im + i * kLanes) = at(from + imaginary);
    }
    const Line z = inverse(plan.column, scratch.x, scratch.y);
    for (std::int64_t i = 0; i < round_up(h, 2); ++i) {
      const bool real_row = i < plan.column.n;  // behind an odd plan's last row comes one of zeros
      at(scratch.half_re + (i * half + k) * kLanes) = real_row ? at(z.re + i * kLanes) : Vector{};
      at(scratch.half_im + (i * half + k) * kLanes) = real_row ? at(z.im + i * kLanes) : Vector{};
    }
  }
  for (std::int64_t i = 0; i < h; i += 2) {
    for (std::int64_t k = 0; k < half; ++k) {
      const std::int64_t first = (i * half + k) * kLanes, second = ((i + 1) * half + k) * kLanes;
      const Vector a_re = at(scratch.half_re + first), a_im = at(scratch.half_im + first);
      const Vector b_re = at(scratch.half_re + second), b_im = at(scratch.half_im + second);
      if (k > 0) {  // the other half is the conjugate; where n is even its last value is written again below
        at(scratch.x.re + (n - k) * kLanes) = a_re + b_im;
        at(scratch.x.im + (n - k) * kLanes) = b_re - a_im;
      }
      at(scratch.x.re + k * kLanes) = a_re - b_im;
      at(scratch.x.im + k * kLanes) = a_im + b_re;
    }
    const Line z = inverse(plan.row, scratch.x, scratch.y);
    for (std::int64_t j = 0; j < w; ++j) {
      at(out + i * out_row + j * kLanes) = scale * at(z.re + j * kLanes);
      if (i + 1 < h) at(out + (i + 1) * out_row + j * kLanes) = scale * at(z.im + j * kLanes);
    }
  }
}
