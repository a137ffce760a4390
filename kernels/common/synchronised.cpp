#include "common/synchronised.hpp"

#include <sched.h>

#include <chrono>
#include <thread>

namespace microbench::mpi {
namespace {

constexpr int kClockTag = 77;
// Waits get long on disturbed machines only. Who has slept is given a processor sooner than who has spun on
// it.
constexpr double kLongWait_s = 1e-3;
constexpr double kSpinning_s = 200e-6;

// A chain of dependent multiply-adds: computes without memory traffic that would disturb the transfer.
double compute(std::int64_t rounds) {
  volatile double seed = 1.0000001;
  const double factor = seed;
  double value = factor;
  for (std::int64_t i = 0; i < rounds; ++i) value = value * factor + 1e-9;
  seed = value;
  return value;
}

}  // namespace

std::int64_t RankClock::now_ns() {
  using std::chrono::steady_clock;
  const auto since = steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(since).count();
}

void RankClock::align(double offset_s, double drift, double reference_s) {
  offset_s_ = offset_s;
  drift_ = drift;
  reference_s_ = reference_s;
}

std::vector<Exchange> estimate_offsets(const Communicator& communicator, const RankClock& clock, int rounds) {
  const Library& library = *communicator.library;
  const Handle type = library.handle("MPI_DOUBLE");
  Status status;
  std::vector<Exchange> best;
  if (communicator.rank != 0) {
    for (int i = 0; i < rounds; ++i) {
      double time = 0;
      check(library.call.Recv(&time, 1, type, 0, kClockTag, communicator.handle, &status), "MPI_Recv");
      time = clock.now();
      check(library.call.Send(&time, 1, type, 0, kClockTag, communicator.handle), "MPI_Send");
    }
    return best;
  }
  const double now = clock.now();
  best.push_back({now, 0.0, 0.0});
  for (int rank = 1; rank < communicator.size; ++rank) {
    Exchange quickest{0, 0, 1e9};
    for (int i = 0; i < rounds; ++i) {
      double theirs = 0;
      const double before = clock.now();
      check(library.call.Send(&before, 1, type, rank, kClockTag, communicator.handle), "MPI_Send");
      check(library.call.Recv(&theirs, 1, type, rank, kClockTag, communicator.handle, &status), "MPI_Recv");
      const double after = clock.now();
      if (after - before < quickest.round_trip_s) {
        quickest = {theirs, (before + after) / 2 - theirs, after - before};
      }
    }
    best.push_back(quickest);
  }
  return best;
}

Repetitions measure(Collective& collective, const Communicator& communicator, const RankClock& clock,
                    std::int64_t repetitions, const Start& start) {
  const Library& library = *communicator.library;
  const Handle type = library.handle("MPI_DOUBLE");
  const Handle maximum = library.handle("MPI_MAX");
  const auto count = static_cast<std::size_t>(repetitions);
  Repetitions seen{std::vector<double>(count), std::vector<double>(count), std::vector<double>(count)};
  for (std::size_t i = 0; i < count; ++i) {
    double target_local = 0;
    if (start.window) {
      const double ready = clock.to_common(clock.now());
      double last = 0;
      check(library.call.Allreduce(&ready, &last, 1, type, maximum, communicator.handle), "MPI_Allreduce");
      seen.target[i] = last + start.slack_s;
      target_local = clock.to_local(seen.target[i]);
    } else {
      check(library.call.Barrier(communicator.handle), "MPI_Barrier");
    }
    double began = clock.now();
    if (target_local - began > kLongWait_s) {
      std::this_thread::sleep_for(std::chrono::duration<double>(target_local - began - kSpinning_s));
    }
    while (began < target_local) {
      if (start.yielding) sched_yield();
      began = clock.now();
    }
    if (start.compute < 0) {
      collective.launch();
    } else {
      collective.start();
      compute(start.compute);
      collective.finish();
    }
    seen.end[i] = clock.now();
    seen.start[i] = began;
  }
  return seen;
}

double time_computing(std::int64_t rounds) {
  const std::int64_t before = RankClock::now_ns();
  compute(rounds);
  return 1e-9 * static_cast<double>(RankClock::now_ns() - before);
}

}  // namespace microbench::mpi
