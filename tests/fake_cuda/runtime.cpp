// The calls of the CUDA runtime that microbench makes, on host memory. Variables of the environment say what
// this device is like: FAKE_CUDA_DRIVER (13000; 0 is none), FAKE_CUDA_DEVICES (1), FAKE_CUDA_MEMORY (bytes),
// FAKE_CUDA_CAPABILITY (900).

#include "runtime.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <utility>

struct CUevent_st {
  double seconds = 0;
  CUstream_st* stream = nullptr;
};
struct CUgraph_st {
  std::vector<std::pair<double, std::function<void()>>> work;
};
struct CUgraphExec_st : CUgraph_st {};

namespace {

std::int64_t variable(const char* name, std::int64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoll(text);
}

int current_device = 0;
double host_s = 0;  // the host's clock: it stands still but for launching and waiting
std::map<void*, std::size_t> allocations;
std::size_t allocated = 0;
cudaError_t last_error = cudaSuccess;

cudaError_t noted(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

class Stream final : public CUstream_st {
 public:
  void run(double seconds, std::function<void()> work) override {
    if (capturing_ != nullptr) {
      capturing_->work.emplace_back(seconds, std::move(work));
      return;
    }
    host_s += fake::kLaunchS;
    if (flags_ != nullptr && ++queued_ > fake::kQueue) expire();
    if (flags_ == nullptr) now_s_ = std::max(now_s_, host_s);
    work();
    now_s_ += seconds;
  }

  bool synchronize() override {
    if (capturing_ != nullptr) {
      delete std::exchange(capturing_, nullptr);
      return false;
    }
    if (flags_ != nullptr && flags_->released < ticket_) expire();
    flags_ = nullptr;
    host_s = now_s_ = std::max(host_s, now_s_);
    return true;
  }

  void block(microbench::cuda::BlockerFlags* flags, std::uint64_t ticket, std::uint64_t limit_ns) {
    now_s_ = std::max(now_s_, host_s);
    flags_ = flags;
    ticket_ = ticket;
    limit_s_ = 1e-9 * static_cast<double>(limit_ns);
    queued_ = 0;
  }

  cudaError_t begin_capture() {
    capturing_ = new CUgraph_st;
    return cudaSuccess;
  }
  CUgraph_st* end_capture() { return std::exchange(capturing_, nullptr); }
  double now_s() const { return now_s_; }

 private:
  void expire() {
    flags_->expired = ticket_;
    flags_ = nullptr;
    now_s_ += limit_s_;
    host_s = std::max(host_s, now_s_);
  }

  double now_s_ = 0, limit_s_ = 0;
  microbench::cuda::BlockerFlags* flags_ = nullptr;
  std::uint64_t ticket_ = 0;
  int queued_ = 0;
  CUgraph_st* capturing_ = nullptr;
};

Stream* own(cudaStream_t stream) { return static_cast<Stream*>(stream); }

bool has_device() {
  return variable("FAKE_CUDA_DRIVER", 13000) >= CUDART_VERSION / 1000 * 1000 &&
         variable("FAKE_CUDA_DEVICES", 1) > 0;
}

}  // namespace

namespace fake {

void block(cudaStream_t stream, microbench::cuda::BlockerFlags* flags, std::uint64_t ticket,
           std::uint64_t limit_ns) {
  own(stream)->block(flags, ticket, limit_ns);
}

}  // namespace fake

extern "C" {

cudaError_t cudaDriverGetVersion(int* version) {
  *version = static_cast<int>(variable("FAKE_CUDA_DRIVER", 13000));
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = static_cast<int>(variable("FAKE_CUDA_DEVICES", 1));
  return *count == 0 ? noted(cudaErrorNoDevice) : cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= variable("FAKE_CUDA_DEVICES", 1)) return noted(cudaErrorInvalidDevice);
  current_device = device;
  setenv("FAKE_CUDA_CURRENT", std::to_string(device).c_str(), 1);  // NCCL's stand-in cannot call this library
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const auto capability = static_cast<int>(variable("FAKE_CUDA_CAPABILITY", 900));
  const std::map<cudaDeviceAttr, int> values = {{cudaDevAttrComputeCapabilityMajor, capability / 100},
                                                {cudaDevAttrComputeCapabilityMinor, capability / 10 % 10},
                                                {cudaDevAttrMultiProcessorCount, 4},
                                                {cudaDevAttrL2CacheSize, 1 << 20},
                                                {cudaDevAttrGlobalMemoryBusWidth, 4096},
                                                {cudaDevAttrMemoryClockRate, 1'000'000},
                                                {cudaDevAttrClockRate, 1'500'000},
                                                {cudaDevAttrEccEnabled, 1}};
  const auto found = values.find(attribute);
  if (found == values.end()) return noted(cudaErrorInvalidValue);
  *value = found->second;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::strcpy(properties->name, "Fake device");
  for (int i = 0; i < 16; ++i) properties->uuid.bytes[i] = static_cast<char>(i);
  // Less than can be allocated: sizes of what measures the peaks follow from it, and loops are slow.
  properties->totalGlobalMem = 1 << 19;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) {
  std::snprintf(text, static_cast<std::size_t>(length), "0000:%02x:00.0", device);
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** data, std::size_t bytes) {
  if (!has_device()) return noted(cudaErrorInsufficientDriver);
  if (allocated + bytes > static_cast<std::size_t>(variable("FAKE_CUDA_MEMORY", 1 << 28))) {
    return noted(cudaErrorMemoryAllocation);
  }
  *data = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  std::memset(*data, 0x5a, bytes);
  allocations[*data] = bytes;
  allocated += bytes;
  return cudaSuccess;
}

cudaError_t cudaFree(void* data) {
  if (data == nullptr) return cudaSuccess;
  const auto found = allocations.find(data);
  if (found == allocations.end()) return noted(cudaErrorInvalidValue);
  allocated -= found->second;
  allocations.erase(found);
  std::free(data);
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** data, std::size_t bytes, unsigned) {
  *data = std::calloc(1, bytes);
  return cudaSuccess;
}

cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) {
  *device = host;
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* data) {
  std::free(data);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  stream->run(static_cast<double>(bytes) / fake::kBytesPerS, [=] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  stream->run(static_cast<double>(bytes) / fake::kBytesPerS, [=] { std::memset(to, value, bytes); });
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  if (!has_device()) return noted(cudaErrorInsufficientDriver);
  *stream = new Stream;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete own(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return stream->synchronize() ? cudaSuccess : noted(cudaErrorStreamCaptureUnsupported);
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  return own(stream)->begin_capture();
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = own(stream)->end_capture();
  return *graph == nullptr ? noted(cudaErrorStreamCaptureUnmatched) : cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new CUgraphExec_st{{graph->work}};
  return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  double seconds = 0;
  for (const auto& each : executable->work) seconds += each.first;
  stream->run(seconds, [executable] {
    for (const auto& each : executable->work) each.second();
  });
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  if (!has_device()) return noted(cudaErrorInsufficientDriver);
  *event = new CUevent_st;
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  constexpr double kTickS = 32e-9;  // the event's own time is a few ticks
  event->stream = stream;
  stream->run(2 * kTickS, [event, stream] { event->seconds = own(stream)->now_s(); });
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  event->stream->synchronize();
  return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t stop) {
  *milliseconds = static_cast<float>(1e3 * (stop->seconds - start->seconds));
  return cudaSuccess;
}

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInsufficientDriver:
      return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    default:
      return "cudaErrorOther";
  }
}

const char* cudaGetErrorString(cudaError_t) { return "said by the fake device"; }

}  // extern "C"
