#pragma once

#include <string>
#include <vector>

#include "common/cuda/device.hpp"
#include "common/harness.hpp"

namespace microbench::cuda {

// A buffer of the device under the name that the kernel's Python module gives it.
struct DeviceOperand {
  std::string name;
  Buffer* buffer;
  bool is_output;
};

// A kernel on the device. A library's harness makes everything ready in its constructor and offers
// device_operands(), enqueue(), implementation() and workspace_bytes(); where something must be made from the
// inputs first, it overrides enqueue_preparation().
class CudaHarness : public Harness {
 public:
  // One execution, put into the stream and nothing else: no synchronisation, no allocation, nothing that a
  // CUDA graph cannot capture. Takes Buffer::data() anew each time.
  virtual void enqueue(cudaStream_t stream) = 0;
  // What a kernel needs made from its inputs before it is timed (a training forward before its backward).
  virtual void enqueue_preparation(cudaStream_t) {}
  // What must be made of the outputs before Python reads them (gradients taken out of a library's own
  // layout).
  virtual void enqueue_collection(cudaStream_t) {}
  virtual std::vector<DeviceOperand> device_operands() = 0;
  // Whether launches use addresses that were given away before, and not Buffer::data() as it is then.
  virtual bool keeps_addresses() const { return false; }

  // Uploads what Python has written, outputs too (they hold poison), and prepares.
  void prepare() final {
    for (const DeviceOperand& operand : device_operands()) operand.buffer->upload(stream_);
    enqueue_preparation(stream_);
    stream_.synchronize();
  }
  void launch() final {
    enqueue(stream_);
    stream_.synchronize();
  }
  // Brings the outputs to where Python reads them.
  void collect() final {
    enqueue_collection(stream_);
    for (const DeviceOperand& operand : device_operands()) {
      if (operand.is_output) operand.buffer->download(stream_);
    }
    stream_.synchronize();
  }
  std::vector<Operand> operands() final {
    std::vector<Operand> all;
    for (const DeviceOperand& each : device_operands()) {
      all.push_back({each.name, &each.buffer->host(), each.is_output});
    }
    return all;
  }

  const Stream& stream() const { return stream_; }

 private:
  Stream stream_;
};

}  // namespace microbench::cuda
