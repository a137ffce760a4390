#pragma once

#include <cstdint>
#include <vector>

#include "common/mpi.hpp"

namespace microbench::mpi {

// A collective made ready once. launch() executes it; start() and finish() are its two halves where it is
// nonblocking, so that something can be computed between them.
class Collective {
 public:
  Collective() = default;
  Collective(const Collective&) = delete;
  Collective& operator=(const Collective&) = delete;
  virtual ~Collective() = default;

  virtual void launch() = 0;
  virtual void start() { throw std::logic_error("only a nonblocking collective has two halves"); }
  virtual void finish() { throw std::logic_error("only a nonblocking collective has two halves"); }
};

// This process's monotonic clock in seconds since `base_ns` on it, and how it runs beside rank 0's:
// time on rank 0 = local + offset + drift * (local - reference).
class RankClock {
 public:
  explicit RankClock(std::int64_t base_ns) : base_ns_(base_ns) {}

  static std::int64_t now_ns();
  double now() const { return 1e-9 * static_cast<double>(now_ns() - base_ns_); }

  void align(double offset_s, double drift, double reference_s);
  double to_common(double local) const { return local + offset_s_ + drift_ * (local - reference_s_); }
  double to_local(double common) const {
    return (common - offset_s_ + drift_ * reference_s_) / (1.0 + drift_);
  }

 private:
  std::int64_t base_ns_;
  double offset_s_ = 0;
  double drift_ = 0;
  double reference_s_ = 0;
};

// One exchange with rank 0: the local time at which it was answered, what must be added to get rank 0's time,
// and how long the exchange took (the offset is known to half of that).
struct Exchange {
  double local_s;
  double offset_s;
  double round_trip_s;
};

// Estimates every rank's offset from rank 0 by the quickest of `rounds` ping-pongs; collective. Rank 0 gets
// one exchange a rank, its own first, the others get none.
std::vector<Exchange> estimate_offsets(const Communicator& communicator, const RankClock& clock, int rounds);

// What one rank saw of a batch, in seconds: when each repetition was to start (rank 0's clock), and when this
// rank started and ended it (its own clock).
struct Repetitions {
  std::vector<double> target;
  std::vector<double> start;
  std::vector<double> end;
};

// How the ranks wait and start. With `window` every repetition starts at a time agreed on anew, `slack_s`
// after the last rank was ready, so that a late start never spoils the next repetition; otherwise after a
// barrier. With `yielding` a rank that waits lets others have its processor: for more ranks than processors.
// A nonblocking collective that overlaps is started, then `compute` rounds are computed, then it is finished.
struct Start {
  bool window = true;
  double slack_s = 20e-6;
  bool yielding = false;
  std::int64_t compute = -1;
};

// The timing loop across ranks; collective over `communicator`, which no other message may use meanwhile.
Repetitions measure(Collective& collective, const Communicator& communicator, const RankClock& clock,
                    std::int64_t repetitions, const Start& start);

// Seconds that `rounds` rounds of the computation used for overlap take on this rank alone.
double time_computing(std::int64_t rounds);

}  // namespace microbench::mpi
