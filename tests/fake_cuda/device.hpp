#pragma once

#include <cstdint>
#include <functional>

// A device with a clock of its own, in host memory. Work is done when it is put into a stream; how long it
// takes is added to the stream's clock. The fake libraries see the stream as the real ones do, by its handle.
struct CUstream_st {
  // Does `work`, which takes `seconds` of the device; while a graph is captured it is only kept.
  virtual void run(double seconds, std::function<void()> work) = 0;
  // The host waits: for ever behind a blocking kernel, were that not limited. False, and the capture invalid,
  // while a graph is captured.
  virtual bool synchronize() = 0;

 protected:
  ~CUstream_st() = default;
};

namespace fake {

// What every launch costs the host; it shows in times unless the stream is blocked.
constexpr double kLaunchS = 4e-6;
// Launches that fit behind a blocking kernel.
constexpr int kQueue = 1024;
constexpr double kFlopsPerS = 1e10;
constexpr double kBytesPerS = 1e12;
constexpr double kSmClockHz = 1.5e9;

}  // namespace fake
