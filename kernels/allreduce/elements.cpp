#include "allreduce/elements.hpp"

#include <algorithm>
#include <cstring>

#include "common/error.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace microbench::mpi {
namespace {

// Elements widened at a time: three blocks of fp32 stay in the first-level cache.
constexpr std::int64_t kBlock = 1024;

template <Operation kOperation, typename T>
inline T combined(T a, T b) {
  if constexpr (kOperation == Operation::sum) {
    return static_cast<T>(a + b);
  } else if constexpr (kOperation == Operation::max) {
    return a > b ? a : b;
  } else {
    return a < b ? a : b;
  }
}

template <typename T, Operation kOperation>
void combine(void* out, const void* a, const void* b, std::int64_t elements) {
  auto* to = static_cast<T*>(out);
  const auto* left = static_cast<const T*>(a);
  const auto* right = static_cast<const T*>(b);
#pragma omp simd
  for (std::int64_t i = 0; i < elements; ++i) to[i] = combined<kOperation>(left[i], right[i]);
}

// Sums of int32 wrap around, as MPI's do; signed overflow would be undefined.
template <>
void combine<std::int32_t, Operation::sum>(void* out, const void* a, const void* b, std::int64_t elements) {
  combine<std::uint32_t, Operation::sum>(out, a, b, elements);
}

struct Float16 {
  static void widen(const std::uint16_t* from, float* to, std::int64_t n) { mpi::widen(from, to, n); }
  static void narrow(const float* from, std::uint16_t* to, std::int64_t n) { mpi::narrow(from, to, n); }
};

struct Bfloat16 {
  static void widen(const std::uint16_t* from, float* to, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) {
      const std::uint32_t bits = static_cast<std::uint32_t>(from[i]) << 16;
      std::memcpy(to + i, &bits, sizeof bits);
    }
  }
  static void narrow(const float* from, std::uint16_t* to, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) {
      std::uint32_t bits = 0;
      std::memcpy(&bits, from + i, sizeof bits);
      const bool nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;  // rounding could turn it into an infinity
      bits += 0x7FFFU + ((bits >> 16) & 1U);
      to[i] = nan ? 0x7FC0 : static_cast<std::uint16_t>(bits >> 16);
    }
  }
};

template <typename Format, Operation kOperation>
void combine_narrow(void* out, const void* a, const void* b, std::int64_t elements) {
  float left[kBlock];
  float right[kBlock];
  for (std::int64_t i = 0; i < elements; i += kBlock) {
    const std::int64_t n = std::min(kBlock, elements - i);
    Format::widen(static_cast<const std::uint16_t*>(a) + i, left, n);
    Format::widen(static_cast<const std::uint16_t*>(b) + i, right, n);
    combine<float, kOperation>(left, left, right, n);
    Format::narrow(left, static_cast<std::uint16_t*>(out) + i, n);
  }
}

template <typename Format, Operation kOperation>
void user(void* in, void* inout, int* count, Handle*) {
  combine_narrow<Format, kOperation>(inout, in, inout, *count);
}

template <Operation kOperation>
Combine* combiner_of(ElementType type) {
  switch (type) {
    case ElementType::float64:
      return combine<double, kOperation>;
    case ElementType::float32:
      return combine<float, kOperation>;
    case ElementType::int32:
      return combine<std::int32_t, kOperation>;
    case ElementType::float16:
      return combine_narrow<Float16, kOperation>;
    case ElementType::bfloat16:
      return combine_narrow<Bfloat16, kOperation>;
    default:
      throw Unsupported(std::string("no collective of ") + name_of(type));
  }
}

template <Operation kOperation>
UserFunction* user_function_of(ElementType type) {
  return type == ElementType::float16 ? user<Float16, kOperation> : user<Bfloat16, kOperation>;
}

void need_conversions(ElementType type) {
#if defined(__x86_64__)
  if (type == ElementType::float16 && !(__builtin_cpu_supports("f16c") && __builtin_cpu_supports("avx"))) {
    throw Unsupported("this processor has no fp16 conversion instructions");
  }
#elif !defined(__aarch64__)
  if (type == ElementType::float16) throw Unsupported("fp16 is converted on x86-64 and AArch64 only");
#else
  static_cast<void>(type);
#endif
}

}  // namespace

#if defined(__x86_64__)

__attribute__((target("f16c,avx"))) void widen(const std::uint16_t* from, float* to, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
  }
  for (; i < n; ++i) to[i] = _cvtsh_ss(from[i]);
}

__attribute__((target("f16c,avx"))) void narrow(const float* from, std::uint16_t* to, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i half = _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), half);
  }
  for (; i < n; ++i) to[i] = _cvtss_sh(from[i], _MM_FROUND_TO_NEAREST_INT);
}

#elif defined(__aarch64__)

void widen(const std::uint16_t* from, float* to, std::int64_t n) {
  const auto* half = reinterpret_cast<const __fp16*>(from);
  for (std::int64_t i = 0; i < n; ++i) to[i] = half[i];
}

void narrow(const float* from, std::uint16_t* to, std::int64_t n) {
  auto* half = reinterpret_cast<__fp16*>(to);
  for (std::int64_t i = 0; i < n; ++i) half[i] = static_cast<__fp16>(from[i]);
}

#else

void widen(const std::uint16_t*, float*, std::int64_t) {}
void narrow(const float*, std::uint16_t*, std::int64_t) {}

#endif

Operation operation(const std::string& name) {
  if (name == "sum") return Operation::sum;
  if (name == "max") return Operation::max;
  if (name == "min") return Operation::min;
  throw std::invalid_argument("no operation '" + name + "'");
}

Combine* combiner(ElementType type, Operation operation) {
  need_conversions(type);
  switch (operation) {
    case Operation::sum:
      return combiner_of<Operation::sum>(type);
    case Operation::max:
      return combiner_of<Operation::max>(type);
    case Operation::min:
      return combiner_of<Operation::min>(type);
  }
  throw std::logic_error("unknown operation");
}

UserFunction* user_function(ElementType type, Operation operation) {
  need_conversions(type);
  switch (operation) {
    case Operation::sum:
      return user_function_of<Operation::sum>(type);
    case Operation::max:
      return user_function_of<Operation::max>(type);
    case Operation::min:
      return user_function_of<Operation::min>(type);
  }
  throw std::logic_error("unknown operation");
}

}  // namespace microbench::mpi
