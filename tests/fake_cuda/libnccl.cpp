// Stands in for NCCL 2.27: ranks of one machine exchange their data through files of a folder that the unique
// id names. FAKE_NCCL_FAILS names a function that fails, as in AllReduce=3 (the status); FAKE_NCCL_SPOILS one
// that leaves the first element of its result wrong.

#include <cuda_runtime_api.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "device.hpp"
#include "values.hpp"

namespace {

using Bytes = std::vector<char>;

// Memory that all ranks of a communicator share.
struct Board {
  std::atomic<int> arrived;
  std::atomic<int> rounds;
  std::atomic<int> left;
  int devices[64];  // by rank
};

}  // namespace

struct ncclUniqueId {
  char internal[128];
};

struct ncclComm {
  std::filesystem::path folder;
  Board* board;
  int ranks;
  int rank;

  // All ranks of a round have arrived when wait_for() returns; a process with several ranks arrives with all
  // of them first.
  int arrive() const {
    const int round = board->rounds;
    if (++board->arrived == ranks) {
      board->arrived = 0;
      ++board->rounds;
    }
    return round;
  }
  void wait_for(int round) const {
    while (board->rounds == round) sched_yield();
  }
  void write(const std::string& name, const void* data, std::size_t bytes) const {
    std::ofstream(folder / name, std::ios::binary)
        .write(static_cast<const char*>(data), static_cast<std::streamsize>(bytes));
  }
  void read(const std::string& name, void* data, std::size_t bytes) const {
    std::ifstream(folder / name, std::ios::binary)
        .read(static_cast<char*>(data), static_cast<std::streamsize>(bytes));
  }
  void give(const void* data, std::size_t bytes) const { write(std::to_string(rank), data, bytes); }
  // What each rank has given, by rank.
  std::vector<Bytes> taken(std::size_t bytes) const {
    std::vector<Bytes> all(static_cast<std::size_t>(ranks), Bytes(bytes));
    for (std::size_t from = 0; from < all.size(); ++from) read(std::to_string(from), all[from].data(), bytes);
    return all;
  }
  bool has_device_alone() const {
    const int* end = board->devices + ranks;
    return std::count(static_cast<const int*>(board->devices), end, board->devices[rank]) == 1;
  }
};

namespace {

constexpr int kSuccess = 0, kInvalidUsage = 5;

int failure(const std::string& function) {
  const char* fails = std::getenv("FAKE_NCCL_FAILS");
  const std::string text = fails == nullptr ? "" : fails;
  return text.rfind(function + "=", 0) == 0 ? std::atoi(text.c_str() + function.size() + 1) : kSuccess;
}

void spoil(const std::string& function, void* result) {
  const char* spoils = std::getenv("FAKE_NCCL_SPOILS");
  if (spoils != nullptr && function == spoils) ++*static_cast<char*>(result);
}

cudnnDataType_t element_type(int type) {
  switch (type) {
    case 2:
      return CUDNN_DATA_INT32;
    case 6:
      return CUDNN_DATA_HALF;
    case 7:
      return CUDNN_DATA_FLOAT;
    case 8:
      return CUDNN_DATA_DOUBLE;
    case 9:
      return CUDNN_DATA_BFLOAT16;
    default:
      throw std::logic_error("the fake has no such type");
  }
}

std::size_t bytes_of(int type, std::size_t count) {
  return count * static_cast<std::size_t>(fake::bytes_of(element_type(type)));
}

double combined(int operation, double a, double b) {
  return operation == 0 ? a + b : operation == 2 ? std::max(a, b) : std::min(a, b);
}

// Combines `count` elements from `first` on of what all ranks have.
void reduce(const std::vector<Bytes>& all, std::size_t first, std::size_t count, int type, int operation,
            void* result) {
  const cudnnDataType_t element = element_type(type);
  for (std::size_t i = 0; i < count; ++i) {
    const auto from = static_cast<std::int64_t>(first + i);
    double value = fake::load(element, all[0].data(), from);
    for (std::size_t rank = 1; rank < all.size(); ++rank) {
      value = combined(operation, value, fake::load(element, all[rank].data(), from));
    }
    fake::store(element, result, static_cast<std::int64_t>(i), value);
  }
}

// One call on one rank: what it lays out for the others before all have arrived, and what it does then.
struct Operation {
  const ncclComm* comm;
  cudaStream_t stream;  // null: it makes the communicator
  std::function<void()> give;
  std::function<void()> take;
};

int depth = 0;
std::vector<Operation> pending;

std::string between(int from, int to) { return std::to_string(from) + "-" + std::to_string(to); }

void meet(const std::vector<Operation>& operations) {
  std::map<const ncclComm*, int> rounds;
  for (const Operation& each : operations) rounds.emplace(each.comm, 0);
  for (auto& [comm, round] : rounds) round = comm->arrive();
  for (const auto& [comm, round] : rounds) comm->wait_for(round);
}

void execute(const std::vector<Operation>& operations) {
  for (const Operation& each : operations) each.give();
  meet(operations);
  for (const Operation& each : operations) each.take();
  meet(operations);
}

int flush() {
  const std::vector<Operation> operations = std::exchange(pending, {});
  if (operations.empty()) return kSuccess;
  if (const cudaStream_t stream = operations[0].stream) {
    stream->run(0, [operations] { execute(operations); });
    return kSuccess;
  }
  execute(operations);
  const char* sharing = std::getenv("NCCL_MULTI_RANK_GPU_ENABLE");
  const bool may_share = sharing != nullptr && std::string(sharing) == "1";
  const bool alone = std::all_of(operations.begin(), operations.end(),
                                 [](const Operation& each) { return each.comm->has_device_alone(); });
  return alone || may_share ? kSuccess : kInvalidUsage;
}

// Executed at once, or with the others of its group.
int submit(Operation operation) {
  pending.push_back(std::move(operation));
  return depth > 0 ? kSuccess : flush();
}

}  // namespace

extern "C" {

int ncclGetVersion(int* version) {
  *version = 22703;
  return kSuccess;
}

int ncclGetUniqueId(ncclUniqueId* id) {
  if (const int status = failure("GetUniqueId")) return status;
  static int number = 0;
  const std::string name = "fake_nccl_" + std::to_string(getpid()) + "_" + std::to_string(number++);
  *id = {};
  std::strncpy(id->internal, (std::filesystem::temp_directory_path() / name).c_str(),
               sizeof(id->internal) - 1);
  return kSuccess;
}

int ncclCommInitRank(ncclComm** comm, int ranks, ncclUniqueId id, int rank) {
  if (const int status = failure("CommInitRank")) return status;
  const std::filesystem::path folder = id.internal;
  std::filesystem::create_directory(folder);
  const int file = open((folder / "board").c_str(), O_RDWR | O_CREAT, 0600);
  if (file < 0 || ftruncate(file, sizeof(Board)) != 0) return 2;
  void* board = mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  *comm = new ncclComm{folder, static_cast<Board*>(board), ranks, rank};
  const char* device = std::getenv("FAKE_CUDA_CURRENT");
  (*comm)->board->devices[rank] = device == nullptr ? 0 : std::atoi(device);
  return submit({*comm, nullptr, [] {}, [] {}});
}

int ncclCommDestroy(ncclComm* comm) {
  if (++comm->board->left == comm->ranks) std::filesystem::remove_all(comm->folder);
  munmap(comm->board, sizeof(Board));
  delete comm;
  return kSuccess;
}

const char* ncclGetErrorString(int status) {
  return status == kInvalidUsage ? "invalid usage" : "internal error";
}
const char* ncclGetLastError(ncclComm*) { return "said by\nthe fake"; }

int ncclGroupStart() {
  ++depth;
  return kSuccess;
}

int ncclGroupEnd() { return --depth > 0 ? kSuccess : flush(); }

int ncclSend(const void* data, std::size_t count, int type, int to, ncclComm* comm, cudaStream_t stream) {
  if (depth == 0) return kInvalidUsage;
  return submit(
      {comm, stream, [=] { comm->write(between(comm->rank, to), data, bytes_of(type, count)); }, [] {}});
}
int ncclRecv(void* data, std::size_t count, int type, int from, ncclComm* comm, cudaStream_t stream) {
  if (depth == 0) return kInvalidUsage;
  return submit(
      {comm, stream, [] {}, [=] { comm->read(between(from, comm->rank), data, bytes_of(type, count)); }});
}

int ncclAllReduce(const void* in, void* out, std::size_t count, int type, int operation, ncclComm* comm,
                  cudaStream_t stream) {
  if (const int status = failure("AllReduce")) return status;
  const std::size_t bytes = bytes_of(type, count);
  return submit({comm, stream, [=] { comm->give(in, bytes); },
                 [=] {
                   reduce(comm->taken(bytes), 0, count, type, operation, out);
                   spoil("AllReduce", out);
                 }});
}

int ncclReduceScatter(const void* in, void* out, std::size_t count, int type, int operation, ncclComm* comm,
                      cudaStream_t stream) {
  if (const int status = failure("ReduceScatter")) return status;
  const std::size_t bytes = bytes_of(type, count) * static_cast<std::size_t>(comm->ranks);
  const std::size_t first = static_cast<std::size_t>(comm->rank) * count;
  return submit({comm, stream, [=] { comm->give(in, bytes); },
                 [=] { reduce(comm->taken(bytes), first, count, type, operation, out); }});
}

int ncclAllGather(const void* in, void* out, std::size_t count, int type, ncclComm* comm,
                  cudaStream_t stream) {
  if (const int status = failure("AllGather")) return status;
  const std::size_t bytes = bytes_of(type, count);
  return submit({comm, stream, [=] { comm->give(in, bytes); },
                 [=] {
                   auto* to = static_cast<char*>(out);
                   for (const Bytes& each : comm->taken(bytes)) to = std::copy(each.begin(), each.end(), to);
                 }});
}

int ncclBroadcast(const void* in, void* out, std::size_t count, int type, int root, ncclComm* comm,
                  cudaStream_t stream) {
  if (const int status = failure("Broadcast")) return status;
  const std::size_t bytes = bytes_of(type, count);
  return submit({comm, stream, [=] { comm->give(in, bytes); },
                 [=] {
                   const std::vector<Bytes> all = comm->taken(bytes);
                   const Bytes& from = all[static_cast<std::size_t>(root)];
                   std::copy(from.begin(), from.end(), static_cast<char*>(out));
                 }});
}

}  // extern "C"
