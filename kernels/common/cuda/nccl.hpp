#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <map>
#include <string>

#include "common/cuda/error.hpp"
#include "common/library.hpp"

// NCCL, loaded at run time. What is used of its C interface is declared here: these types and functions have
// been the same since NCCL 2.10 (bfloat16), and its header comes only with a package of some 300 MB.
namespace microbench::cuda {

// ncclUniqueId, ncclComm_t.
struct NcclId {
  char bytes[128];
};
using NcclHandle = struct ncclComm*;

// ncclResult_t; other values are errors, too.
enum class NcclStatus : int { success = 0, invalid_argument = 4, invalid_usage = 5 };
// ncclDataType_t
enum class NcclType : int { int32 = 2, float16 = 6, float32 = 7, float64 = 8, bfloat16 = 9 };
// ncclRedOp_t
enum class NcclOperation : int { sum = 0, max = 2, min = 3 };

// Its functions under their names without the prefix; null where the library is older.
struct NcclFunctions {
  NcclStatus (*GetVersion)(int*);
  NcclStatus (*GetUniqueId)(NcclId*);
  NcclStatus (*CommInitRank)(NcclHandle*, int, NcclId, int);
  NcclStatus (*CommDestroy)(NcclHandle);
  const char* (*GetErrorString)(NcclStatus);
  const char* (*GetLastError)(NcclHandle);  // NCCL 2.13
  NcclStatus (*GroupStart)();
  NcclStatus (*GroupEnd)();
  NcclStatus (*Send)(const void*, std::size_t, NcclType, int, NcclHandle, cudaStream_t);
  NcclStatus (*Recv)(void*, std::size_t, NcclType, int, NcclHandle, cudaStream_t);
  NcclStatus (*AllReduce)(const void*, void*, std::size_t, NcclType, NcclOperation, NcclHandle, cudaStream_t);
  NcclStatus (*ReduceScatter)(const void*, void*, std::size_t, NcclType, NcclOperation, NcclHandle,
                              cudaStream_t);
  NcclStatus (*AllGather)(const void*, void*, std::size_t, NcclType, NcclHandle, cudaStream_t);
  NcclStatus (*Broadcast)(const void*, void*, std::size_t, NcclType, int, NcclHandle, cudaStream_t);
  NcclStatus (*AlltoAll)(const void*, void*, std::size_t, NcclType, NcclHandle, cudaStream_t);  // NCCL 2.28
};

// Loaded at the first call from `path` (empty: by its versioned name). A process uses one copy. Throws
// Unsupported with the paths tried.
const NcclFunctions& nccl(const std::string& path = "");

std::map<std::string, std::string> describe_nccl(const std::string& path);

inline bool succeeded(NcclStatus status) { return status == NcclStatus::success; }
Failure failure_of(NcclStatus status);
std::string describe(NcclStatus status);
inline void check(NcclStatus status, const char* call) {
  if (!succeeded(status)) fail_call(failure_of(status), call, describe(status));
}

NcclId unique_id();

// Calls between its beginning and end() are one to NCCL: those of one process's GPUs cannot wait for each
// other.
class NcclGroup {
 public:
  NcclGroup();
  ~NcclGroup();
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;

  void end();

 private:
  bool open_ = true;
};

// This rank's end of a communicator on the current device.
class NcclCommunicator {
 public:
  // Returns when all ranks are there, but in a group at once. `id` is what unique_id() gave to one of them.
  NcclCommunicator(int ranks, const NcclId& id, int rank);
  ~NcclCommunicator();
  NcclCommunicator(const NcclCommunicator&) = delete;  // owns what it points to
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  NcclHandle handle() const { return handle_; }

 private:
  NcclHandle handle_ = nullptr;
};

}  // namespace microbench::cuda

// MICROBENCH_NCCL(GroupStart): calls ncclGroupStart in the library loaded at run time and throws where it
// fails.
#define MICROBENCH_NCCL(function, ...) \
  ::microbench::cuda::check(::microbench::cuda::nccl().function(__VA_ARGS__), "nccl" #function)
#define MICROBENCH_NCCL_NOEXCEPT(function, ...) \
  ::microbench::cuda::check_noexcept(::microbench::cuda::nccl().function(__VA_ARGS__), "nccl" #function)
