// The collectives of NCCL on buffers of each rank's GPU; an execution ends when the rank's stream has.

#include "allreduce/nccl.hpp"

#include <algorithm>

#include "common/error.hpp"

namespace microbench::mpi {
namespace {

cuda::NcclType nccl_type(ElementType type) {
  switch (type) {
    case ElementType::float64:
      return cuda::NcclType::float64;
    case ElementType::float32:
      return cuda::NcclType::float32;
    case ElementType::float16:
      return cuda::NcclType::float16;
    case ElementType::bfloat16:
      return cuda::NcclType::bfloat16;
    case ElementType::int32:
      return cuda::NcclType::int32;
    default:
      throw Unsupported(std::string("no collective of ") + name_of(type));
  }
}

cuda::NcclOperation nccl_operation(Operation operation) {
  switch (operation) {
    case Operation::sum:
      return cuda::NcclOperation::sum;
    case Operation::max:
      return cuda::NcclOperation::max;
    case Operation::min:
      return cuda::NcclOperation::min;
  }
  throw std::logic_error("unknown operation");
}

class NcclCollective : public Measured {
 public:
  NcclCollective(const Setup& setup, Gpu& gpu, std::int64_t padding = 0)
      : Measured(setup, padding),
        gpu_(gpu),
        type_(nccl_type(setup.type)),
        operation_(nccl_operation(setup.operation)),
        whole_(static_cast<std::size_t>(setup.elements)),
        part_(static_cast<std::size_t>(share())),
        from_(source()),
        to_(target()) {}

 protected:
  Gpu& gpu() const { return gpu_; }
  cuda::NcclType type() const { return type_; }
  cuda::NcclOperation operation() const { return operation_; }
  std::size_t whole() const { return whole_; }
  std::size_t part() const { return part_; }
  const unsigned char* from() const { return from_; }
  unsigned char* to() const { return to_; }

 private:
  Gpu& gpu_;
  cuda::NcclType type_;
  cuda::NcclOperation operation_;
  std::size_t whole_;
  std::size_t part_;
  const unsigned char* from_;
  unsigned char* to_;
};

// One call of NCCL among all ranks.
class OfAllRanks final : public NcclCollective {
 public:
  OfAllRanks(const Setup& setup, Gpu& gpu)
      : NcclCollective(setup, gpu), world_(gpu.group("world")), call_(call_of(setup.kernel)) {
    if (call_ == &OfAllRanks::send_and_receive && setup.in_place) {
      throw Unsupported("NCCL's alltoall works out of place only");
    }
  }

  void launch() override {
    start();
    finish();
  }
  void start() override { (this->*call_)(); }
  void finish() override { gpu().stream().synchronize(); }
  std::string implementation() const override {
    if (call_ == &OfAllRanks::all_reduce) return "ncclAllReduce";
    if (call_ == &OfAllRanks::reduce_scatter) return "ncclReduceScatter";
    if (call_ == &OfAllRanks::all_gather) return "ncclAllGather";
    if (call_ == &OfAllRanks::broadcast) return "ncclBroadcast in place";
    return cuda::nccl().AlltoAll != nullptr ? "ncclAlltoAll" : "ncclSend and ncclRecv in a group";
  }

 private:
  using Call = void (OfAllRanks::*)();

  static Call call_of(const std::string& kernel) {
    if (kernel == "allreduce") return &OfAllRanks::all_reduce;
    if (kernel == "reduce_scatter") return &OfAllRanks::reduce_scatter;
    if (kernel == "allgather") return &OfAllRanks::all_gather;
    if (kernel == "broadcast") return &OfAllRanks::broadcast;
    if (kernel == "alltoall") return &OfAllRanks::send_and_receive;
    throw std::invalid_argument("no collective '" + kernel + "'");
  }

  void all_reduce() {
    MICROBENCH_NCCL(AllReduce, from(), to(), whole(), type(), operation(), world_, gpu().stream());
  }
  void reduce_scatter() {
    MICROBENCH_NCCL(ReduceScatter, from(), to(), part(), type(), operation(), world_, gpu().stream());
  }
  void all_gather() { MICROBENCH_NCCL(AllGather, from(), to(), part(), type(), world_, gpu().stream()); }
  void broadcast() {
    MICROBENCH_NCCL(Broadcast, to(), to(), whole(), type(), setup().root, world_, gpu().stream());
  }
  void send_and_receive() {
    if (cuda::nccl().AlltoAll != nullptr) {
      MICROBENCH_NCCL(AlltoAll, from(), to(), part(), type(), world_, gpu().stream());
      return;
    }
    cuda::NcclGroup group;
    for (int rank = 0; rank < communicator().size; ++rank) {
      const std::int64_t first = rank * share() * item();
      MICROBENCH_NCCL(Send, from() + first, part(), type(), rank, world_, gpu().stream());
      MICROBENCH_NCCL(Recv, to() + first, part(), type(), rank, world_, gpu().stream());
    }
    group.end();
  }

  cuda::NcclHandle world_;
  Call call_;
};

// Memory of the host that the device reads and writes without a copy between.
class PinnedMemory {
 public:
  explicit PinnedMemory(std::int64_t bytes) : bytes_(bytes) {
    MICROBENCH_CUDA(cudaHostAlloc(&data_, static_cast<std::size_t>(bytes), cudaHostAllocDefault));
  }
  ~PinnedMemory() { MICROBENCH_CUDA_NOEXCEPT(cudaFreeHost(data_)); }
  PinnedMemory(const PinnedMemory&) = delete;  // owns what it points to
  PinnedMemory& operator=(const PinnedMemory&) = delete;

  std::int64_t bytes() const { return bytes_; }
  void* data() { return data_; }

 private:
  std::int64_t bytes_;
  void* data_ = nullptr;
};

// NCCL's reduce-scatter in the node, the ring between ranks of the same place over MPI and the host's memory,
// NCCL's allgather in the node. Shares of a node are equal: the last may reach into the buffers' padding.
class Hierarchical final : public NcclCollective {
 public:
  Hierarchical(const Setup& setup, Gpu& gpu, const std::vector<std::vector<int>>& nodes)
      : NcclCollective(setup, gpu, static_cast<std::int64_t>(nodes[0].size()) - 1),
        node_(gpu.group("node")),
        nodes_(nodes.size()),
        ranks_(static_cast<std::int64_t>(nodes[0].size())),
        column_(setup.communicator, setup.type, combiner(setup.type, setup.operation),
                column_of(nodes, setup.communicator.rank)),
        elements_((setup.elements + ranks_ - 1) / ranks_),
        staged_(elements_ * item()) {
    const std::vector<int> node = row_of(nodes, setup.communicator.rank);
    own_ = to() +
           (std::find(node.begin(), node.end(), setup.communicator.rank) - node.begin()) * staged_.bytes();
  }

  void launch() override {
    const auto count = static_cast<std::size_t>(elements_);
    auto* data = static_cast<unsigned char*>(staged_.data());
    MICROBENCH_NCCL(ReduceScatter, from(), own_, count, type(), operation(), node_, gpu().stream());
    gpu().download(data, own_, staged_.bytes());
    column_.reduce_scatter(data, data + column_.begin(elements_, column_.place()) * item(), elements_);
    column_.allgather(data, elements_);
    gpu().upload(own_, data, staged_.bytes());
    MICROBENCH_NCCL(AllGather, own_, to(), count, type(), node_, gpu().stream());
    gpu().stream().synchronize();
  }
  std::string implementation() const override {
    return "NCCL in " + std::to_string(nodes_) + " nodes of " + std::to_string(ranks_) +
           " ranks, rings over MPI and the host's memory between them";
  }
  std::int64_t workspace_bytes() const override { return staged_.bytes() + column_.workspace_bytes(); }

 private:
  cuda::NcclHandle node_;
  std::size_t nodes_;
  std::int64_t ranks_;  // of a node
  Ring column_;
  std::int64_t elements_;  // of a rank's share in its node
  PinnedMemory staged_;
  unsigned char* own_ = nullptr;
};

}  // namespace

Gpu::Gpu(int number)
    : device_([number] {
        int devices = 0;
        MICROBENCH_CUDA(cudaGetDeviceCount(&devices));
        const int device = number % devices;
        MICROBENCH_CUDA(cudaSetDevice(device));  // the stream's, and the process's where it has no other one
        return device;
      }()) {}

void Gpu::make_current() const { MICROBENCH_CUDA(cudaSetDevice(device_)); }

std::map<std::string, std::string> Gpu::facts() const {
  cudaDeviceProp properties{};
  MICROBENCH_CUDA(cudaGetDeviceProperties(&properties, device_));
  char bus[32] = {};
  MICROBENCH_CUDA(cudaDeviceGetPCIBusId(bus, sizeof(bus), device_));
  int driver = 0;  // 13010 is 13.1
  MICROBENCH_CUDA(cudaDriverGetVersion(&driver));
  return {{"name", properties.name},
          {"pci_bus_id", bus},
          {"driver_cuda", std::to_string(driver / 1000) + "." + std::to_string(driver % 1000 / 10)}};
}

void Gpu::connect(const std::string& group, const cuda::NcclId& id, int ranks, int rank) {
  make_current();
  groups_[group] = std::make_unique<cuda::NcclCommunicator>(ranks, id, rank);
}

void connect(const std::vector<Gpu*>& gpus, const std::string& group, const cuda::NcclId& id, int ranks,
             int first_rank) {
  try {
    cuda::NcclGroup call;
    for (Gpu* gpu : gpus) gpu->connect(group, id, ranks, first_rank++);
    call.end();
  } catch (...) {
    for (Gpu* gpu : gpus) gpu->disconnect(group);
    throw;
  }
}

std::shared_ptr<void> Gpu::allocate(std::int64_t bytes) {
  make_current();
  const auto memory = std::make_shared<cuda::Memory>(bytes);
  return {memory, memory->data()};
}

void Gpu::upload(void* device, const void* host, std::int64_t bytes) {
  MICROBENCH_CUDA(
      cudaMemcpyAsync(device, host, static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice, stream_));
  stream_.synchronize();
}

void Gpu::download(void* host, const void* device, std::int64_t bytes) {
  MICROBENCH_CUDA(
      cudaMemcpyAsync(host, device, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToHost, stream_));
  stream_.synchronize();
}

std::unique_ptr<Measured> Gpu::open(const Setup& setup) {
  if (setup.form != "blocking") {
    throw Unsupported("NCCL's collectives are put into a stream, which leaves the host free: blocking only");
  }
  if (setup.algorithm == "auto") return std::make_unique<OfAllRanks>(setup, *this);
  if (setup.algorithm == "hierarchical" && setup.kernel == "allreduce") {
    return std::make_unique<Hierarchical>(setup, *this, ranks_by_node(setup));
  }
  throw Unsupported("NCCL chooses its algorithm itself: ask for auto, and see NCCL_ALGO");
}

void OfSeveralGpus::launch() {
  cuda::NcclGroup group;
  for (Measured* part : parts_) part->start();
  group.end();
  for (Measured* part : parts_) part->finish();
}

}  // namespace microbench::mpi
