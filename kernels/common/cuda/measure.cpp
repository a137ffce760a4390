// The timing loop for devices: CUDA events around executions that wait behind a blocking kernel.

#include "common/measure.hpp"

#include <algorithm>
#include <chrono>
#include <stdexcept>

#include "common/cuda/blocker.hpp"
#include "common/cuda/harness.hpp"

namespace microbench {

using cuda::Blocked;
using cuda::Blocker;
using cuda::CudaHarness;
using cuda::Event;

namespace {

constexpr std::int64_t kWord = 16;

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// A captured execution, ready to be replayed.
class Graph {
 public:
  explicit Graph(CudaHarness& harness) {
    const cudaStream_t stream = harness.stream();
    MICROBENCH_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    cudaGraph_t graph = nullptr;
    try {
      harness.enqueue(stream);
    } catch (const std::exception& error) {
      const cudaError_t ended = cudaStreamEndCapture(stream, &graph);
      if (graph != nullptr) cudaGraphDestroy(graph);
      cudaGetLastError();
      if (cuda::succeeded(ended)) throw;
      // Libraries report as a failure of their own what a capture forbids; the device took no harm.
      throw Unsupported(std::string("it cannot be captured into a CUDA graph: ") + error.what());
    }
    MICROBENCH_CUDA(cudaStreamEndCapture(stream, &graph));
    const cudaError_t made = cudaGraphInstantiate(&executable_, graph, 0);
    MICROBENCH_CUDA_NOEXCEPT(cudaGraphDestroy(graph));
    cuda::check(made, "cudaGraphInstantiate");
    MICROBENCH_CUDA(cudaGraphUpload(executable_, stream));
  }
  ~Graph() {
    if (executable_ != nullptr) MICROBENCH_CUDA_NOEXCEPT(cudaGraphExecDestroy(executable_));
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void replay(cudaStream_t stream) { MICROBENCH_CUDA(cudaGraphLaunch(executable_, stream)); }

 private:
  cudaGraphExec_t executable_ = nullptr;
};

// A second copy of every input: cold executions take the two in turns, so that none reads what the last one
// read.
class Rotation {
 public:
  explicit Rotation(CudaHarness& harness) {
    for (const cuda::DeviceOperand& operand : harness.device_operands()) {
      if (operand.is_output || operand.buffer->bytes() == 0) continue;
      Copy copy{operand.buffer, std::make_unique<cuda::Memory>(operand.buffer->bytes())};
      MICROBENCH_CUDA(cudaMemcpyAsync(copy.spare->data(), operand.buffer->data(),
                                      static_cast<std::size_t>(operand.buffer->bytes()),
                                      cudaMemcpyDeviceToDevice, harness.stream()));
      copies_.push_back(std::move(copy));
    }
  }
  // The operands end where they were: what holds their addresses (a graph, a plug-in) must find them there.
  ~Rotation() {
    if (turned_) turn();
  }
  Rotation(const Rotation&) = delete;
  Rotation& operator=(const Rotation&) = delete;

  void turn() {
    for (Copy& copy : copies_) copy.buffer->device().swap(*copy.spare);
    turned_ = !turned_;
  }

 private:
  struct Copy {
    cuda::Buffer* buffer;
    std::unique_ptr<cuda::Memory> spare;
  };
  std::vector<Copy> copies_;
  bool turned_ = false;
};

}  // namespace

struct CacheFlusher::State {
  explicit State(std::int64_t bytes) : buffer(bytes), sink(sizeof(std::uint32_t)) {}
  cuda::Memory buffer;
  cuda::Memory sink;
  std::uint32_t value = 0;
  cudaStream_t stream = nullptr;
};

CacheFlusher::CacheFlusher(std::int64_t bytes) : bytes_(bytes), state_(std::make_unique<State>(bytes)) {}
CacheFlusher::~CacheFlusher() = default;

void CacheFlusher::flush() {
  const std::int64_t words = bytes_ / kWord;
  cuda::enqueue_write(state_->buffer.data(), words, ++state_->value, state_->stream);
  // Read again, so that what stays in the cache need not be written back while the kernel is timed.
  cuda::enqueue_read(state_->buffer.data(), words, 1, static_cast<std::uint32_t*>(state_->sink.data()),
                     state_->stream);
}

struct Loop::State {
  Event start, stop;
  Blocker blocker;
  bool executed = false;
  bool blocking = true;
  int expired = 0;  // samples in a row whose block ended by itself
  bool rotating = true;
  bool cold = false;
  std::unique_ptr<Graph> graph;
  std::unique_ptr<Rotation> rotation;
  std::vector<double> launch_s;
};

Loop::Loop(Harness& harness) : harness_(harness), state_(std::make_unique<State>()) {}
Loop::~Loop() = default;

void Loop::inputs_change() { state_->rotation.reset(); }

void Loop::capture() {
  auto& harness = static_cast<CudaHarness&>(harness_);
  if (!state_->executed) measure(1, 1, nullptr);  // what is loaded at the first execution cannot be captured
  state_->graph = std::make_unique<Graph>(harness);
  state_->executed = false;  // its first launch may allocate: unblocked, as that of a kernel
  measure(1, 1, nullptr);
}

std::vector<std::string> Loop::doubts() const {
  std::vector<std::string> all;
  if (!state_->blocking) {
    all.push_back(
        "launching waits for the device, or needs more room than its queue has: executions could not be "
        "queued behind "
        "a blocking kernel, and launch latency is in the times");
  }
  if (!state_->rotating) {
    all.push_back("inputs were not rotated: the device has no memory for a second copy of them");
  }
  if (state_->cold && static_cast<const CudaHarness&>(harness_).keeps_addresses()) {
    all.push_back("inputs were not rotated: their addresses were given away before");
  }
  return all;
}

std::map<std::string, double> Loop::facts() const {
  if (state_->launch_s.empty()) return {};
  return {{"host_launch_s", median(state_->launch_s)}};
}

std::vector<double> Loop::measure(std::int64_t samples, std::int64_t executions, CacheFlusher* flusher) {
  if (samples < 1 || executions < 1) throw std::invalid_argument("samples and executions must be positive");
  if (flusher != nullptr && executions != 1) {
    throw std::invalid_argument("a cold sample is one execution: later ones would find warm caches");
  }
  State& state = *state_;
  auto& harness = static_cast<CudaHarness&>(harness_);
  const cudaStream_t stream = harness.stream();
  if (flusher != nullptr) {
    flusher->state_->stream = stream;
    state.cold = true;
    if (state.rotation == nullptr && state.rotating && !harness.keeps_addresses()) {
      try {
        state.rotation = std::make_unique<Rotation>(harness);
      } catch (const cuda::OutOfMemory&) {
        cudaGetLastError();
        state.rotating = false;
      }
    }
  }
  std::vector<double> times;
  times.reserve(static_cast<std::size_t>(samples));
  while (static_cast<std::int64_t>(times.size()) < samples) {
    if (flusher != nullptr) {
      if (state.rotation != nullptr) state.rotation->turn();
      flusher->flush();
    }
    // The very first execution may load code, which waits for the device: it is not blocked.
    const bool blocked = state.blocking && state.executed;
    {
      const Blocked guard(blocked ? &state.blocker : nullptr, stream);
      state.start.record(stream);
      const auto before = std::chrono::steady_clock::now();
      for (std::int64_t i = 0; i < executions; ++i) {
        if (state.graph != nullptr) {
          state.graph->replay(stream);
        } else {
          harness.enqueue(stream);
        }
      }
      const std::chrono::duration<double> launching = std::chrono::steady_clock::now() - before;
      state.stop.record(stream);
      if (blocked) state.launch_s.push_back(launching.count() / static_cast<double>(executions));
    }
    state.stop.synchronize();
    state.executed = true;
    if (blocked && state.blocker.expired()) {
      // This sample is taken again: once as before, for what waits for the device at its first time only.
      if (++state.expired > 1) {
        state.blocking = false;
        state.launch_s.clear();
      } else {
        state.launch_s.pop_back();
      }
      continue;
    }
    state.expired = 0;
    times.push_back(state.stop.seconds_since(state.start) / static_cast<double>(executions));
  }
  return times;
}

Timer calibrate_timer() {
  constexpr int kPairs = 200;
  // What cudaEventElapsedTime promises, where the device shows no difference between two readings.
  constexpr double kDocumented = 0.5e-6;
  const cuda::Stream stream;
  Blocker blocker;
  std::vector<Event> starts(kPairs), stops(kPairs);
  {
    const Blocked guard(&blocker, stream);
    for (int i = 0; i < kPairs; ++i) {
      starts[static_cast<std::size_t>(i)].record(stream);
      stops[static_cast<std::size_t>(i)].record(stream);
    }
  }
  stream.synchronize();
  std::vector<double> readings;
  for (std::size_t i = 0; i < kPairs; ++i) readings.push_back(stops[i].seconds_since(starts[i]));
  std::sort(readings.begin(), readings.end());
  double resolution = kDocumented;
  for (std::size_t i = 1; i < readings.size(); ++i) {
    const double step = readings[i] - readings[i - 1];
    if (step > 0) resolution = std::min(resolution, step);
  }
  return {resolution, readings[kPairs / 2]};
}

}  // namespace microbench
