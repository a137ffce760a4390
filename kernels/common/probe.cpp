// What this processor reaches at best: rates of fused multiply-adds per precision and of memory traffic. They
// are the ceilings that measured rates are held against.

#include <omp.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "common/error.hpp"
#include "common/memory.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace py = pybind11;

namespace microbench {
namespace {

// A block of multiply-adds long enough to hide the loop around it, too short to notice in a time limit.
constexpr std::int64_t kIterations = 20000;
// Independent chains: at least latency (4-5 cycles) times units (2) of every processor of today.
constexpr int kChains = 12;

struct Probe {
  double (*block)(std::int64_t iterations);  // returns a value, so that nothing is elided
  double operations;                         // per iteration
};

// One loop for every vector width: the compiler contracts a * x + y into fused multiply-adds.
template <typename T, int kLanes>
[[gnu::always_inline]] inline double chains(std::int64_t iterations) {
  typedef T Vector __attribute__((vector_size(sizeof(T) * kLanes)));
  Vector sums[kChains];
  for (int chain = 0; chain < kChains; ++chain) sums[chain] = Vector{} + static_cast<T>(chain + 1);
  // Values that stay normal numbers for any number of iterations: the fixed point of 0.5 x + 1 is 2.
  Vector factor = Vector{} + static_cast<T>(0.5);
  Vector one = Vector{} + static_cast<T>(1);
  asm volatile("" : "+m"(factor), "+m"(one));
  for (std::int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int chain = 0; chain < kChains; ++chain) sums[chain] = sums[chain] * factor + one;
  }
  Vector total{};
  for (const Vector& sum : sums) total += sum;
  double result = 0;
  for (int lane = 0; lane < kLanes; ++lane) result += static_cast<double>(total[lane]);
  return result;
}

template <typename T, int kLanes>
constexpr double chain_operations() {
  return 2.0 * kLanes * kChains;
}

#if defined(__x86_64__)

__attribute__((target("avx512f"))) double fp32_avx512(std::int64_t n) { return chains<float, 16>(n); }
__attribute__((target("avx512f"))) double fp64_avx512(std::int64_t n) { return chains<double, 8>(n); }
__attribute__((target("avx2,fma"))) double fp32_avx2(std::int64_t n) { return chains<float, 8>(n); }
__attribute__((target("avx2,fma"))) double fp64_avx2(std::int64_t n) { return chains<double, 4>(n); }

__attribute__((target("avx512f,avx512bf16"))) double bf16_avx512(std::int64_t n) {
  __m512 sums[kChains];
  for (auto& sum : sums) sum = _mm512_set1_ps(1.0F);
  __m512bh a = reinterpret_cast<__m512bh>(_mm512_set1_epi32(0x3F003F00));  // pairs of 0.5
  __m512bh b = reinterpret_cast<__m512bh>(_mm512_set1_epi32(0x3E803E80));  // pairs of 0.25
  asm volatile("" : "+v"(a), "+v"(b));
  for (std::int64_t i = 0; i < n; ++i) {
#pragma GCC unroll 12
    for (int chain = 0; chain < kChains; ++chain) sums[chain] = _mm512_dpbf16_ps(sums[chain], a, b);
  }
  __m512 total = _mm512_setzero_ps();
  for (const auto& sum : sums) total = _mm512_add_ps(total, sum);
  return static_cast<double>(_mm512_reduce_add_ps(total));
}

__attribute__((target("avx512f,avx512vnni"))) double int8_avx512(std::int64_t n) {
  __m512i sums[kChains];
  for (auto& sum : sums) sum = _mm512_set1_epi32(1);
  __m512i a = _mm512_set1_epi8(3);
  __m512i b = _mm512_set1_epi8(1);
  asm volatile("" : "+v"(a), "+v"(b));
  for (std::int64_t i = 0; i < n; ++i) {
#pragma GCC unroll 12
    for (int chain = 0; chain < kChains; ++chain) sums[chain] = _mm512_dpbusd_epi32(sums[chain], a, b);
  }
  __m512i total = _mm512_setzero_si512();
  for (const auto& sum : sums) total = _mm512_add_epi32(total, sum);
  return static_cast<double>(_mm512_reduce_add_epi32(total));
}

Probe choose_probe(const std::string& precision) {
  const bool avx512 = __builtin_cpu_supports("avx512f");
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (precision == "fp32") {
    if (avx512) return {fp32_avx512, chain_operations<float, 16>()};
    if (avx2) return {fp32_avx2, chain_operations<float, 8>()};
    return {chains<float, 4>, chain_operations<float, 4>()};
  }
  if (precision == "fp64") {
    if (avx512) return {fp64_avx512, chain_operations<double, 8>()};
    if (avx2) return {fp64_avx2, chain_operations<double, 4>()};
    return {chains<double, 2>, chain_operations<double, 2>()};
  }
  if (precision == "bf16" && __builtin_cpu_supports("avx512bf16")) {
    return {bf16_avx512, 2.0 * 32 * kChains};
  }
  if (precision == "int8" && __builtin_cpu_supports("avx512vnni")) {
    return {int8_avx512, 2.0 * 64 * kChains};
  }
  throw Unsupported("no probe for " + precision + " on this processor");
}

#else

Probe choose_probe(const std::string& precision) {
  if (precision == "fp32") return {chains<float, 4>, chain_operations<float, 4>()};
  if (precision == "fp64") return {chains<double, 2>, chain_operations<double, 2>()};
  throw Unsupported("no probe for " + precision + " on this processor");
}

#endif

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Times `work`, which all threads do together, and returns one rate per repetition.
std::vector<double> rates(double amount, int repetitions, const std::function<void()>& work) {
  std::vector<double> result;
  for (int repetition = 0; repetition <= repetitions; ++repetition) {
    const double start = now();
    work();
    const double stop = now();
    if (repetition > 0) result.push_back(amount / (stop - start));  // the first one wakes the threads
  }
  return result;
}

std::vector<double> compute_rates(const std::string& precision, int threads, int repetitions,
                                  double seconds_each) {
  const Probe probe = choose_probe(precision);
  const double start = now();
  volatile double sink = probe.block(kIterations);
  const auto blocks = std::max<std::int64_t>(1, static_cast<std::int64_t>(seconds_each / (now() - start)));
  const double operations = probe.operations * kIterations * static_cast<double>(blocks) * threads;
  return rates(operations, repetitions, [&] {
#pragma omp parallel num_threads(threads)
    {
      double local = 0;
      for (std::int64_t block = 0; block < blocks; ++block) local += probe.block(kIterations);
#pragma omp critical
      sink = sink + local;
    }
  });
}

// Several sums side by side: one alone would wait for its additions and not for the memory.
template <typename T, int kLanes>
[[gnu::always_inline]] inline T sum_of(const T* values, std::int64_t n) {
  typedef T Vector __attribute__((vector_size(sizeof(T) * kLanes)));
  constexpr int kSums = 8;
  Vector sums[kSums] = {};
  std::int64_t i = 0;
  for (; i + kSums * kLanes <= n; i += kSums * kLanes) {
#pragma GCC unroll 8
    for (int k = 0; k < kSums; ++k) {
      Vector loaded;
      std::memcpy(&loaded, values + i + k * kLanes, sizeof(loaded));
      sums[k] += loaded;
    }
  }
  Vector total{};
  for (const Vector& sum : sums) total += sum;
  T result = 0;
  for (int lane = 0; lane < kLanes; ++lane) result += total[lane];
  for (; i < n; ++i) result += values[i];
  return result;
}

using Sum = double (*)(const double* values, std::int64_t n);

#if defined(__x86_64__)

__attribute__((target("avx512f"))) double sum_avx512(const double* v, std::int64_t n) {
  return sum_of<double, 8>(v, n);
}
__attribute__((target("avx2"))) double sum_avx2(const double* v, std::int64_t n) {
  return sum_of<double, 4>(v, n);
}

Sum choose_sum() {
  if (__builtin_cpu_supports("avx512f")) return sum_avx512;
  return __builtin_cpu_supports("avx2") ? sum_avx2 : sum_of<double, 2>;
}

#else

Sum choose_sum() { return sum_of<double, 2>; }

#endif

// Bytes per second over arrays of `bytes` each; traffic counts what the loop names: write-allocate is not
// counted.
std::vector<double> memory_rates(const std::string& kind, std::int64_t bytes, int threads, int repetitions) {
  const std::int64_t n = bytes / static_cast<std::int64_t>(sizeof(double));
  omp_set_num_threads(threads);
  Memory a_memory(bytes), b_memory(bytes), c_memory(bytes);
  auto* a = static_cast<double*>(a_memory.data());
  const auto* b = static_cast<double*>(b_memory.data());
  const auto* c = static_cast<double*>(c_memory.data());
  if (kind == "read") {
    volatile double sink = 0;
    const Sum sum = choose_sum();
    const std::int64_t share = (n + threads - 1) / threads;
    return rates(static_cast<double>(bytes), repetitions, [&] {
      double total = 0;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(+ : total)
      for (int thread = 0; thread < threads; ++thread) {
        const std::int64_t first = std::min(n, thread * share);
        total += sum(b + first, std::min(share, n - first));
      }
      sink = total;
    });
  }
  if (kind == "copy") {
    return rates(2.0 * static_cast<double>(bytes), repetitions, [&] {
#pragma omp parallel for simd schedule(static) num_threads(threads)
      for (std::int64_t i = 0; i < n; ++i) a[i] = b[i];
    });
  }
  if (kind == "triad") {
    return rates(3.0 * static_cast<double>(bytes), repetitions, [&] {
#pragma omp parallel for simd schedule(static) num_threads(threads)
      for (std::int64_t i = 0; i < n; ++i) a[i] = b[i] + 0.5 * c[i];
    });
  }
  throw std::invalid_argument("unknown kind of memory traffic: " + kind);
}

}  // namespace
}  // namespace microbench

PYBIND11_MODULE(_probe, module) {
  using namespace microbench;
  py::register_local_exception<Unsupported>(module, "Unsupported");
  module.def("compute_rates", &compute_rates, py::arg("precision"), py::arg("threads"),
             py::arg("repetitions"), py::arg("seconds_each"), py::call_guard<py::gil_scoped_release>());
  module.def("memory_rates", &memory_rates, py::arg("kind"), py::arg("bytes"), py::arg("threads"),
             py::arg("repetitions"), py::call_guard<py::gil_scoped_release>());
  module.def("wake_threads", [](int threads) {
    omp_set_num_threads(threads);  // also for flushing and conversions, which other modules do
#pragma omp parallel num_threads(threads)
    {
      asm volatile("" ::: "memory");
    }
  });
}
