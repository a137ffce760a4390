#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/harness.hpp"

namespace microbench {

// Evicts the operands from every cache by writing a buffer that is larger than the last-level cache.
class CacheFlusher {
 public:
  explicit CacheFlusher(std::int64_t bytes);
  ~CacheFlusher();
  void flush();
  std::int64_t bytes() const { return bytes_; }

 private:
  friend class Loop;
  struct State;  // of the kind of device
  std::int64_t bytes_;
  std::unique_ptr<State> state_;
};

// The one timing loop, defined once for each kind of device: measure.cpp for processors, cuda/measure.cpp.
class Loop {
 public:
  explicit Loop(Harness& harness);
  ~Loop();

  // `samples` times in seconds, each the mean of `executions` executions. With a flusher every sample starts
  // from cold caches; then `executions` must be 1.
  std::vector<double> measure(std::int64_t samples, std::int64_t executions, CacheFlusher* flusher);
  // The inputs are about to be written anew.
  void inputs_change();
  // From now on an execution is the replay of a graph; throws Unsupported where there is none.
  void capture();
  // What a reader of the times should know, a sentence each.
  std::vector<std::string> doubts() const;
  // What else is known, by the names of a record's facts.
  std::map<std::string, double> facts() const;

 private:
  Harness& harness_;
  struct State;  // of the kind of device
  std::unique_ptr<State> state_;
};

struct Timer {
  double resolution_s;  // smallest step seen between two readings
  double overhead_s;    // median time of one reading
};
Timer calibrate_timer();

}  // namespace microbench
