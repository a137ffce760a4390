#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/harness.hpp"

namespace microbench::cuda {

// Why no device can be used; empty where one can, as far as is seen without occupying it.
std::string missing_device();

// The current device: name, identity, sizes, clocks, driver and runtime. Throws Unsupported with the reason
// where no device can be used: no driver, one that is too old, no device, or one that this build has no code
// for.
std::map<std::string, Value> device_properties();

// Cycles per second of one multiprocessor, from counters read over a tenth of a millisecond.
double sm_clock_hz();

// Operations per second of fused multiply-adds; `precision` is fp32 or fp64. One rate per repetition, each
// over about `seconds_each`.
std::vector<double> compute_rates(const std::string& precision, int repetitions, double seconds_each);

// Bytes per second; `kind` is read, write or copy (which counts both directions). `passes` over the same
// array in each repetition: 1 for arrays larger than the L2 cache, many for those that lie in it.
std::vector<double> memory_rates(const std::string& kind, std::int64_t bytes, int passes, int repetitions);

}  // namespace microbench::cuda
