#pragma once

#include <cstdint>
#include <vector>

#include "common/harness.hpp"

namespace microbench {

// Evicts the operands from every cache by writing a buffer that is larger than the last-level cache.
class CacheFlusher {
 public:
  explicit CacheFlusher(std::int64_t bytes) : buffer_(bytes) {}
  void flush();
  std::int64_t bytes() const { return buffer_.bytes(); }

 private:
  Memory buffer_;
  unsigned char value_ = 0;
};

// The one timing loop. Returns `samples` times in seconds, each the mean of `executions` executions.
// With a flusher every sample starts from cold caches; then `executions` must be 1.
std::vector<double> measure(Harness& harness, std::int64_t samples, std::int64_t executions,
                            CacheFlusher* flusher);

struct Timer {
  double resolution_s;  // smallest step seen between two readings
  double overhead_s;    // median time of one reading
};
Timer calibrate_timer();

}  // namespace microbench
