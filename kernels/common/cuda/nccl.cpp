#include "common/cuda/nccl.hpp"

#include <algorithm>
#include <type_traits>

namespace microbench::cuda {
namespace {

std::string version_text(int version) {  // 22703 is 2.27.3
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

NcclFunctions functions(const Library& library) {
  NcclFunctions call{};
#define MICROBENCH_REQUIRE(name) \
  call.name = library.require<std::remove_pointer_t<decltype(call.name)>>("nccl" #name)
#define MICROBENCH_FIND(name) \
  call.name = library.symbol<std::remove_pointer_t<decltype(call.name)>>("nccl" #name)
  MICROBENCH_REQUIRE(GetVersion);
  MICROBENCH_REQUIRE(GetUniqueId);
  MICROBENCH_REQUIRE(CommInitRank);
  MICROBENCH_REQUIRE(CommDestroy);
  MICROBENCH_REQUIRE(GetErrorString);
  MICROBENCH_FIND(GetLastError);
  MICROBENCH_REQUIRE(GroupStart);
  MICROBENCH_REQUIRE(GroupEnd);
  MICROBENCH_REQUIRE(Send);
  MICROBENCH_REQUIRE(Recv);
  MICROBENCH_REQUIRE(AllReduce);
  MICROBENCH_REQUIRE(ReduceScatter);
  MICROBENCH_REQUIRE(AllGather);
  MICROBENCH_REQUIRE(Broadcast);
  MICROBENCH_FIND(AlltoAll);
#undef MICROBENCH_REQUIRE
#undef MICROBENCH_FIND
  return call;
}

}  // namespace

const NcclFunctions& nccl(const std::string& path) {
  static const Library library(std::vector<std::string>{path.empty() ? "libnccl.so.2" : path});
  static const NcclFunctions call = functions(library);
  return call;
}

std::map<std::string, std::string> describe_nccl(const std::string& path) {
  const NcclFunctions& call = nccl(path);
  int version = 0;
  check(call.GetVersion(&version), "ncclGetVersion");
  return {{"version", version_text(version)},
          {"path", path_of(reinterpret_cast<const void*>(call.GetVersion))}};
}

Failure failure_of(NcclStatus status) {
  switch (status) {
    case NcclStatus::invalid_argument:  // a type or operation that this version does not have
    case NcclStatus::invalid_usage:     // ranks that share a device, or that have different versions
      return Failure::unsupported;
    default:
      return Failure::broken;
  }
}

std::string describe(NcclStatus status) {
  std::string text = nccl().GetErrorString(status);
  // What NCCL says of its last error is more than the status.
  const char* last = nccl().GetLastError != nullptr ? nccl().GetLastError(nullptr) : nullptr;
  if (last != nullptr && *last != '\0') text += std::string(": ") + last;
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

NcclId unique_id() {
  NcclId id{};
  MICROBENCH_NCCL(GetUniqueId, &id);
  return id;
}

NcclGroup::NcclGroup() { MICROBENCH_NCCL(GroupStart); }

NcclGroup::~NcclGroup() {
  if (open_) MICROBENCH_NCCL_NOEXCEPT(GroupEnd);
}

void NcclGroup::end() {
  open_ = false;
  MICROBENCH_NCCL(GroupEnd);
}

NcclCommunicator::NcclCommunicator(int ranks, const NcclId& id, int rank) {
  MICROBENCH_NCCL(CommInitRank, &handle_, ranks, id, rank);
}

NcclCommunicator::~NcclCommunicator() {
  if (handle_ != nullptr) MICROBENCH_NCCL_NOEXCEPT(CommDestroy, handle_);  // null: its group failed
}

}  // namespace microbench::cuda
