#pragma once

#include <map>
#include <memory>
#include <string>

#include "allreduce/collective.hpp"
#include "common/cuda/device.hpp"
#include "common/cuda/nccl.hpp"

namespace microbench::mpi {

// One rank's GPU and its ends of NCCL's communicators, by the name of the group of ranks: "world", "node".
class Gpu final : public Device {
 public:
  // Takes the device of this number among those that the process sees, modulo how many they are.
  explicit Gpu(int number);

  // Its name, the CUDA version of its driver, and where it sits: two ranks of a node with the same pci_bus_id
  // share it.
  std::map<std::string, std::string> facts() const;

  bool connected(const std::string& group) const { return groups_.count(group) > 0; }
  // Returns when all `ranks` of the group have called it; `id` is one of them's unique_id().
  void connect(const std::string& group, const cuda::NcclId& id, int ranks, int rank);
  cuda::NcclHandle group(const std::string& name) const { return groups_.at(name)->handle(); }
  const cuda::Stream& stream() const { return stream_; }

  std::shared_ptr<void> allocate(std::int64_t bytes) override;
  void upload(void* device, const void* host, std::int64_t bytes) override;
  void download(void* host, const void* device, std::int64_t bytes) override;
  std::unique_ptr<Measured> open(const Setup& setup) override;

 private:
  int device_;
  cuda::Stream stream_;
  std::map<std::string, std::unique_ptr<cuda::NcclCommunicator>> groups_;
};

}  // namespace microbench::mpi
