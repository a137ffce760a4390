#include "conv/vector.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "conv/winograd_matrices.hpp"

namespace microbench::conv {

FftLine::FftLine(std::int64_t points) : n(points) {
  std::int64_t rest = n;
  for (const int radix : {4, 2, 3, 5}) {
    for (; rest % radix == 0; rest /= radix) radices.push_back(radix);
  }
  rest = n;
  for (const int radix : radices) {
    const std::int64_t m = rest / radix;
    for (std::int64_t p = 0; p < m; ++p) {
      for (int j = 1; j < radix; ++j) {
        const double angle = -2 * M_PI * static_cast<double>(p * j) / static_cast<double>(rest);
        twiddles.push_back(static_cast<float>(std::cos(angle)));
        twiddles.push_back(static_cast<float>(std::sin(angle)));
      }
    }
    rest = m;
  }
}

std::int64_t fft_length(std::int64_t n) {
  for (;; ++n) {
    std::int64_t rest = n;
    for (const int prime : {2, 3, 5}) {
      while (rest % prime == 0) rest /= prime;
    }
    if (rest == 1) return n;
  }
}

namespace {

// cos and sin of 2 pi j / radix.
template <int kRadix>
constexpr float kCosines[kRadix]{};
template <>
constexpr float kCosines<3>[3]{1, -0.5F, -0.5F};
template <>
constexpr float kCosines<5>[5]{1, 0.30901699437494742F, -0.80901699437494742F, -0.80901699437494742F,
                               0.30901699437494742F};
template <int kRadix>
constexpr float kSines[kRadix]{};
template <>
constexpr float kSines<3>[3]{0, 0.86602540378443865F, -0.86602540378443865F};
template <>
constexpr float kSines<5>[5]{0, 0.95105651629515357F, 0.58778525229247313F, -0.58778525229247313F,
                             -0.95105651629515357F};

namespace portable {
constexpr int kLanes = 4, kRows = 6;
constexpr const char* kName = "128-bit vectors";
#include "conv/vector_kernels.hpp"
}  // namespace portable

// Clang knows no such pragma: there the portable kernels must do.
#if defined(__x86_64__) && !defined(__clang__)
#define MICROBENCH_TARGETS

#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace avx2 {
constexpr int kLanes = 8, kRows = 6;
constexpr const char* kName = "avx2";
#include "conv/vector_kernels.hpp"
}  // namespace avx2
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,fma,prefer-vector-width=512")
namespace avx512 {
constexpr int kLanes = 16, kRows = 14;
constexpr const char* kName = "avx512";
#include "conv/vector_kernels.hpp"
}  // namespace avx512
#pragma GCC pop_options

#endif

}  // namespace

const VectorKernels& vector_kernels() {
#ifdef MICROBENCH_TARGETS
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")) {
    return avx512::kKernels;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2::kKernels;
#endif
  return portable::kKernels;
}

}  // namespace microbench::conv
