#include "common/cuda/properties.hpp"

#include <algorithm>
#include <stdexcept>

#include "common/cuda/blocker.hpp"

namespace microbench::cuda {
namespace {

constexpr std::int64_t kWord = 16;

std::string version_text(int version) {  // 13000 is 13.0
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  MICROBENCH_CUDA(cudaDeviceGetAttribute(&value, which, device));
  return value;
}

std::string uuid_text(const cudaUUID_t& uuid) {
  std::string text = "GPU";
  for (int i = 0; i < 16; ++i) {
    if (i == 0 || i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    constexpr const char* kDigits = "0123456789abcdef";
    const auto byte = static_cast<unsigned char>(uuid.bytes[i]);
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

// The current device, or why there is none.
int usable_device() {
  int driver = 0, runtime = 0;
  MICROBENCH_CUDA(cudaDriverGetVersion(&driver));
  MICROBENCH_CUDA(cudaRuntimeGetVersion(&runtime));
  if (driver == 0)
    throw Unsupported("no NVIDIA driver is installed (libcuda.so.1 was not found): install one for CUDA " +
                      version_text(runtime / 1000 * 1000) + " or newer");
  if (driver / 1000 < runtime / 1000) {
    throw Unsupported("the NVIDIA driver is too old: it supports CUDA " + version_text(driver) +
                      ", microbench was built with CUDA " + version_text(runtime) +
                      ": update it, or install microbench with an older CUDA");
  }
  int count = 0;
  const cudaError_t counted = cudaGetDeviceCount(&count);
  if (counted != cudaSuccess || count == 0) {
    cudaGetLastError();
    throw Unsupported("the NVIDIA driver (CUDA " + version_text(driver) + ") shows no device" +
                      (succeeded(counted) ? "" : ", " + describe(counted)) +
                      ": let this process see one (CUDA_VISIBLE_DEVICES, the container's options)");
  }
  int device = 0;
  MICROBENCH_CUDA(cudaGetDevice(&device));
  return device;
}

// Times `enqueue`, which does `amount`, and returns one rate per repetition.
template <typename Enqueue>
std::vector<double> rates(double amount, int repetitions, const Stream& stream, Enqueue&& enqueue) {
  Event start, stop;
  Blocker blocker;
  std::vector<double> result;
  for (int repetition = 0; repetition <= repetitions; ++repetition) {
    const bool first = repetition == 0;  // wakes the device, and may load code, which waits for it
    {
      const Blocked guard(first ? nullptr : &blocker, stream);
      start.record(stream);
      enqueue();
      stop.record(stream);
    }
    stop.synchronize();
    if (!first) result.push_back(amount / stop.seconds_since(start));
  }
  return result;
}

template <typename T>
std::vector<double> fma_rates(void (*enqueue)(std::int64_t, int, T*, cudaStream_t), int repetitions,
                              double seconds_each) {
  const Stream stream;
  Memory sink(sizeof(T));
  const int blocks = 8 * attribute(cudaDevAttrMultiProcessorCount, usable_device());
  constexpr std::int64_t kFirst = 4096;
  const std::vector<double> first = rates(fma_operations(kFirst, blocks), 1, stream, [&] {
    enqueue(kFirst, blocks, static_cast<T*>(sink.data()), stream);
  });
  const double wanted = seconds_each * first.front() / fma_operations(1, blocks);
  const std::int64_t iterations = std::max<std::int64_t>(kFirst, static_cast<std::int64_t>(wanted));
  return rates(fma_operations(iterations, blocks), repetitions, stream,
               [&] { enqueue(iterations, blocks, static_cast<T*>(sink.data()), stream); });
}

}  // namespace

std::string missing_device() {
  try {
    usable_device();
    return "";
  } catch (const Unsupported& reason) {
    return reason.what();
  }
}

std::map<std::string, Value> device_properties() {
  const int device = usable_device();
  cudaDeviceProp properties{};
  MICROBENCH_CUDA(cudaGetDeviceProperties(&properties, device));
  const int capability = compute_capability();
  try {
    sm_clock_hz();
  } catch (const Unsupported&) {
    throw Unsupported(std::string(properties.name) + " has compute capability " +
                      std::to_string(capability / 100) + "." + std::to_string(capability / 10 % 10) +
                      ", for which this build has no code: install microbench with another CUDA version");
  }
  char bus[32] = {};
  MICROBENCH_CUDA(cudaDeviceGetPCIBusId(bus, sizeof(bus), device));
  int driver = 0, runtime = 0;
  MICROBENCH_CUDA(cudaDriverGetVersion(&driver));
  MICROBENCH_CUDA(cudaRuntimeGetVersion(&runtime));
  const auto integer = [device](cudaDeviceAttr which) {
    return static_cast<std::int64_t>(attribute(which, device));
  };
  constexpr std::int64_t kKilo = 1000;
  return {{"name", std::string(properties.name)},
          {"uuid", uuid_text(properties.uuid)},
          {"pci_bus_id", std::string(bus)},
          {"compute_capability", static_cast<std::int64_t>(capability)},
          {"multiprocessors", integer(cudaDevAttrMultiProcessorCount)},
          {"memory_bytes", static_cast<std::int64_t>(properties.totalGlobalMem)},
          {"l2_cache_bytes", integer(cudaDevAttrL2CacheSize)},
          {"memory_bus_bits", integer(cudaDevAttrGlobalMemoryBusWidth)},
          {"memory_clock_hz", kKilo * integer(cudaDevAttrMemoryClockRate)},
          {"sm_clock_hz", kKilo * integer(cudaDevAttrClockRate)},
          {"ecc", attribute(cudaDevAttrEccEnabled, device) != 0},
          {"driver_cuda", version_text(driver)},
          {"runtime_cuda", version_text(runtime)}};
}

double sm_clock_hz() {
  constexpr std::uint64_t kDurationNs = 100'000;  // the timer moves in steps of up to a microsecond
  const Stream stream;
  Memory memory(sizeof(ClockReading));
  enqueue_clock(kDurationNs, static_cast<ClockReading*>(memory.data()), stream);
  ClockReading reading{};
  MICROBENCH_CUDA(cudaMemcpyAsync(&reading, memory.data(), sizeof(reading), cudaMemcpyDeviceToHost, stream));
  stream.synchronize();
  return 1e9 * static_cast<double>(reading.cycles) / static_cast<double>(reading.nanoseconds);
}

std::vector<double> compute_rates(const std::string& precision, int repetitions, double seconds_each) {
  if (precision == "fp32") return fma_rates<float>(enqueue_fma_fp32, repetitions, seconds_each);
  if (precision == "fp64") return fma_rates<double>(enqueue_fma_fp64, repetitions, seconds_each);
  throw Unsupported("no probe for " + precision + " on devices");
}

std::vector<double> memory_rates(const std::string& kind, std::int64_t bytes, int passes, int repetitions) {
  const Stream stream;
  const std::int64_t words = bytes / kWord;
  const double moved = static_cast<double>(words * kWord) * passes;
  Memory array(bytes);
  MICROBENCH_CUDA(cudaMemsetAsync(array.data(), 1, static_cast<std::size_t>(bytes), stream));
  if (kind == "read") {
    Memory sink(sizeof(std::uint32_t));
    return rates(moved, repetitions, stream, [&] {
      enqueue_read(array.data(), words, passes, static_cast<std::uint32_t*>(sink.data()), stream);
    });
  }
  if (kind == "write") {
    return rates(moved, repetitions, stream, [&] {
      for (int pass = 0; pass < passes; ++pass) enqueue_write(array.data(), words, 1, stream);
    });
  }
  if (kind == "copy") {
    Memory target(bytes);
    return rates(2 * moved, repetitions, stream, [&] {
      for (int pass = 0; pass < passes; ++pass) enqueue_copy(target.data(), array.data(), words, stream);
    });
  }
  throw std::invalid_argument("unknown kind of memory traffic: " + kind);
}

}  // namespace microbench::cuda
