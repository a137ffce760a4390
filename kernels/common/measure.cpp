#include "common/measure.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <stdexcept>

namespace microbench {
namespace {

using Clock = std::chrono::steady_clock;

double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

void CacheFlusher::flush() {
  ++value_;  // a new value each time, so that no write can be elided
  auto* first = static_cast<unsigned char*>(buffer_.data());
  const std::int64_t bytes = buffer_.bytes();
  constexpr std::int64_t kBlock = 1 << 16;
  // Written by all threads, so that private caches are evicted too.
#pragma omp parallel for schedule(static)
  for (std::int64_t offset = 0; offset < bytes; offset += kBlock) {
    std::memset(first + offset, value_, static_cast<std::size_t>(std::min(kBlock, bytes - offset)));
  }
}

std::vector<double> measure(Harness& harness, std::int64_t samples, std::int64_t executions,
                            CacheFlusher* flusher) {
  if (samples < 1 || executions < 1) throw std::invalid_argument("samples and executions must be positive");
  if (flusher != nullptr && executions != 1) {
    throw std::invalid_argument("a cold sample is one execution: later ones would find warm caches");
  }
  std::vector<double> times(static_cast<std::size_t>(samples));
  for (double& time : times) {
    if (flusher != nullptr) flusher->flush();
    const auto start = Clock::now();
    for (std::int64_t i = 0; i < executions; ++i) harness.launch();
    const auto stop = Clock::now();
    time = seconds(stop - start) / static_cast<double>(executions);
  }
  return times;
}

Timer calibrate_timer() {
  constexpr int kReadings = 20000;
  std::vector<double> steps(kReadings);
  auto last = Clock::now();
  for (double& step : steps) {
    const auto now = Clock::now();
    step = seconds(now - last);
    last = now;
  }
  std::nth_element(steps.begin(), steps.begin() + kReadings / 2, steps.end());
  const double overhead = steps[kReadings / 2];
  double resolution = *std::max_element(steps.begin(), steps.end());
  for (const double step : steps) {
    if (step > 0 && step < resolution) resolution = step;
  }
  return {resolution, overhead};
}

}  // namespace microbench
