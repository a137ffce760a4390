#include "common/half.hpp"

#include <algorithm>
#include <vector>

#include "common/error.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace microbench {
namespace {

// Elements a thread converts at a time: 64 KiB of fp16.
constexpr std::int64_t kBlock = 1 << 15;

#if defined(__x86_64__)

bool processor_converts() { return __builtin_cpu_supports("f16c") && __builtin_cpu_supports("avx"); }

__attribute__((target("f16c,avx"))) void widen_block(const std::uint16_t* from, float* to, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
  }
  for (; i < n; ++i) to[i] = _cvtsh_ss(from[i]);
}

__attribute__((target("f16c,avx"))) void narrow_block(const float* from, std::uint16_t* to, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i half = _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), half);
  }
  for (; i < n; ++i) to[i] = _cvtss_sh(from[i], _MM_FROUND_TO_NEAREST_INT);
}

#elif defined(__aarch64__)

bool processor_converts() { return true; }

void widen_block(const std::uint16_t* from, float* to, std::int64_t n) {
  const auto* half = reinterpret_cast<const __fp16*>(from);
  for (std::int64_t i = 0; i < n; ++i) to[i] = half[i];
}

void narrow_block(const float* from, std::uint16_t* to, std::int64_t n) {
  auto* half = reinterpret_cast<__fp16*>(to);
  for (std::int64_t i = 0; i < n; ++i) half[i] = static_cast<__fp16>(from[i]);
}

#else

bool processor_converts() { return false; }
void widen_block(const std::uint16_t*, float*, std::int64_t) {}
void narrow_block(const float*, std::uint16_t*, std::int64_t) {}

#endif

template <typename From, typename To>
void convert(void (*block)(const From*, To*, std::int64_t), const From* from, To* to, std::int64_t n) {
  // One block is converted sooner than other threads wake up.
#pragma omp parallel for schedule(static) if (n > kBlock)
  for (std::int64_t i = 0; i < n; i += kBlock) block(from + i, to + i, std::min(kBlock, n - i));
}

class Fp16InFp32Math final : public Harness {
 public:
  explicit Fp16InFp32Math(std::unique_ptr<Harness> inner) : inner_(std::move(inner)) {
    for (const Operand& wide : inner_->operands()) {
      pairs_.push_back({wide, std::make_unique<Buffer>(ElementType::float16, wide.buffer->elements())});
    }
  }

  void prepare() override {
    widen_inputs();
    inner_->prepare();
  }

  void launch() override {
    widen_inputs();
    inner_->launch();
    for (auto& [wide, half] : pairs_) {
      if (!wide.is_output) continue;
      convert<float, std::uint16_t>(narrow_block, wide.buffer->as<float>(), half->as<std::uint16_t>(),
                                    half->elements());
    }
  }

  std::vector<Operand> operands() override {
    std::vector<Operand> all;
    for (auto& [wide, half] : pairs_) all.push_back({wide.name, half.get(), wide.is_output});
    return all;
  }
  std::string implementation() const override { return "fp16 to fp32 + " + inner_->implementation(); }
  std::int64_t workspace_bytes() const override {
    std::int64_t bytes = inner_->workspace_bytes();
    for (const auto& [wide, half] : pairs_) bytes += wide.buffer->bytes();
    return bytes;
  }

 private:
  void widen_inputs() {
    for (auto& [wide, half] : pairs_) {
      if (wide.is_output) continue;
      convert<std::uint16_t, float>(widen_block, half->as<std::uint16_t>(), wide.buffer->as<float>(),
                                    half->elements());
    }
  }

  struct Pair {
    Operand wide;
    std::unique_ptr<Buffer> half;
  };
  std::unique_ptr<Harness> inner_;
  std::vector<Pair> pairs_;
};

}  // namespace

std::unique_ptr<Harness> fp16_in_fp32_math(
    const Request& request, const std::function<std::unique_ptr<Harness>(const Request&)>& open) {
  if (!processor_converts()) throw Unsupported("this processor has no fp16 conversion instructions");
  Request wide = request;
  wide.precision = "fp32";
  auto harness = std::make_unique<Fp16InFp32Math>(open(wide));
  if (harness->workspace_bytes() > request.workspace_limit) {
    throw WorkspaceExceeded(harness->workspace_bytes(), request.workspace_limit);
  }
  return harness;
}

}  // namespace microbench
