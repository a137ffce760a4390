#include "common/measure.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <stdexcept>

#include "common/error.hpp"

namespace microbench {
namespace {

using Clock = std::chrono::steady_clock;

double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

struct CacheFlusher::State {
  explicit State(std::int64_t bytes) : buffer(bytes) {}
  Memory buffer;
  unsigned char value = 0;
};

CacheFlusher::CacheFlusher(std::int64_t bytes) : bytes_(bytes), state_(std::make_unique<State>(bytes)) {}
CacheFlusher::~CacheFlusher() = default;

void CacheFlusher::flush() {
  const unsigned char value = ++state_->value;  // a new one each time, so that no write can be elided
  auto* first = static_cast<unsigned char*>(state_->buffer.data());
  const std::int64_t bytes = bytes_;
  constexpr std::int64_t kBlock = 1 << 16;
  // Written by all threads, so that private caches are evicted too.
#pragma omp parallel for schedule(static)
  for (std::int64_t offset = 0; offset < bytes; offset += kBlock) {
    std::memset(first + offset, value, static_cast<std::size_t>(std::min(kBlock, bytes - offset)));
  }
}

struct Loop::State {};  // a processor needs none

Loop::Loop(Harness& harness) : harness_(harness) {}
Loop::~Loop() = default;

void Loop::inputs_change() {}
void Loop::capture() { throw Unsupported("a processor has no graphs to replay: choose --mode hot or cold"); }
std::vector<std::string> Loop::doubts() const { return {}; }
std::map<std::string, double> Loop::facts() const { return {}; }

std::vector<double> Loop::measure(std::int64_t samples, std::int64_t executions, CacheFlusher* flusher) {
  if (samples < 1 || executions < 1) throw std::invalid_argument("samples and executions must be positive");
  if (flusher != nullptr && executions != 1) {
    throw std::invalid_argument("a cold sample is one execution: later ones would find warm caches");
  }
  std::vector<double> times(static_cast<std::size_t>(samples));
  for (double& time : times) {
    if (flusher != nullptr) flusher->flush();
    const auto start = Clock::now();
    for (std::int64_t i = 0; i < executions; ++i) harness_.launch();
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
