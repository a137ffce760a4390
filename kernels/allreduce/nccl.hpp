#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "allreduce/collective.hpp"
#include "common/cuda/device.hpp"
#include "common/cuda/nccl.hpp"

namespace microbench::mpi {

// A GPU, which is a rank to NCCL, and its ends of NCCL's communicators, by the name of the group of ranks:
// "world", "node".
class Gpu final : public Device {
 public:
  // Takes the device of this number among those that the process sees, modulo how many they are.
  explicit Gpu(int number);

  // Its name, the CUDA version of its driver, and where it sits: two ranks of a node with the same pci_bus_id
  // share it.
  std::map<std::string, std::string> facts() const;

  bool connected(const std::string& group) const { return groups_.count(group) > 0; }
  // Returns when all `ranks` of the group have called it, but in an NCCL group at once; `id` is one of them's
  // unique_id().
  void connect(const std::string& group, const cuda::NcclId& id, int ranks, int rank);
  void disconnect(const std::string& group) { groups_.erase(group); }
  cuda::NcclHandle group(const std::string& name) const { return groups_.at(name)->handle(); }
  const cuda::Stream& stream() const { return stream_; }

  std::shared_ptr<void> allocate(std::int64_t bytes) override;
  void upload(void* device, const void* host, std::int64_t bytes) override;
  void download(void* host, const void* device, std::int64_t bytes) override;
  std::unique_ptr<Measured> open(const Setup& setup) override;

 private:
  void make_current() const;

  int device_;
  cuda::Stream stream_;
  std::map<std::string, std::unique_ptr<cuda::NcclCommunicator>> groups_;
};

// Connects `gpus` to NCCL's group of this name as its ranks from `first_rank` on; returns when all `ranks`
// are there.
void connect(const std::vector<Gpu*>& gpus, const std::string& group, const cuda::NcclId& id, int ranks,
             int first_rank);

// Collectives on several GPUs of this process, which execute them as one.
class OfSeveralGpus final : public Collective {
 public:
  // `parts` stay the caller's.
  explicit OfSeveralGpus(std::vector<Measured*> parts) : parts_(std::move(parts)) {}

  void launch() override;

 private:
  std::vector<Measured*> parts_;
};

}  // namespace microbench::mpi
