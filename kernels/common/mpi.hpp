#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>

#include "common/error.hpp"

namespace microbench::mpi {

// MPI_Comm, MPI_Datatype, MPI_Op: a pointer in Open MPI, an int in MPICH. Both are passed in a register or a
// stack slot of pointer size on the 64-bit Linux ABIs, so that one prototype serves both.
using Handle = std::uintptr_t;

// Room for an MPI_Request of either kind, and for an MPI_Status (24 bytes in Open MPI, 20 in MPICH).
struct Request {
  alignas(8) std::array<unsigned char, 8> handle{};
};
struct Status {
  alignas(16) std::array<unsigned char, 64> bytes{};
};

using UserFunction = void(void* in, void* inout, int* count, Handle* type);

// The functions of the MPI library that this process has loaded, under MPI's names without the prefix; those
// of MPI 4 are null where the library is older. Signatures are those of the MPI standard, 4.1.
struct Functions {
  int (*Barrier)(Handle) = nullptr;
  int (*Send)(const void*, int, Handle, int, int, Handle) = nullptr;
  int (*Recv)(void*, int, Handle, int, int, Handle, void*) = nullptr;
  int (*Isend)(const void*, int, Handle, int, int, Handle, void*) = nullptr;
  int (*Irecv)(void*, int, Handle, int, int, Handle, void*) = nullptr;
  int (*Wait)(void*, void*) = nullptr;
  int (*Start)(void*) = nullptr;
  int (*Request_free)(void*) = nullptr;
  int (*Op_create)(UserFunction*, int, void*) = nullptr;
  int (*Op_free)(void*) = nullptr;
  int (*Allreduce)(const void*, void*, int, Handle, Handle, Handle) = nullptr;
  int (*Iallreduce)(const void*, void*, int, Handle, Handle, Handle, void*) = nullptr;
  int (*Allreduce_init)(const void*, void*, int, Handle, Handle, Handle, Handle, void*) = nullptr;
  int (*Reduce_scatter_block)(const void*, void*, int, Handle, Handle, Handle) = nullptr;
  int (*Ireduce_scatter_block)(const void*, void*, int, Handle, Handle, Handle, void*) = nullptr;
  int (*Reduce_scatter_block_init)(const void*, void*, int, Handle, Handle, Handle, Handle, void*) = nullptr;
  int (*Allgather)(const void*, int, Handle, void*, int, Handle, Handle) = nullptr;
  int (*Iallgather)(const void*, int, Handle, void*, int, Handle, Handle, void*) = nullptr;
  int (*Allgather_init)(const void*, int, Handle, void*, int, Handle, Handle, Handle, void*) = nullptr;
  int (*Bcast)(void*, int, Handle, int, Handle) = nullptr;
  int (*Ibcast)(void*, int, Handle, int, Handle, void*) = nullptr;
  int (*Bcast_init)(void*, int, Handle, int, Handle, Handle, void*) = nullptr;
  int (*Alltoall)(const void*, int, Handle, void*, int, Handle, Handle) = nullptr;
  int (*Ialltoall)(const void*, int, Handle, void*, int, Handle, Handle, void*) = nullptr;
  int (*Alltoall_init)(const void*, int, Handle, void*, int, Handle, Handle, Handle, void*) = nullptr;
};

// The library as mpi4py found it: functions by address, and the predefined handles that are needed.
struct Library {
  // Names in `addresses` are those of MPI ("MPI_Allreduce"); in `handles` MPI_DOUBLE, MPI_SUM, MPI_INFO_NULL
  // ...
  Library(const std::map<std::string, std::uintptr_t>& addresses, std::map<std::string, Handle> handles,
          std::uintptr_t in_place);

  Handle handle(const std::string& name) const { return handles.at(name); }

  Functions call;
  std::map<std::string, Handle> handles;
  const void* in_place;  // MPI_IN_PLACE
};

// Throws where a function returned anything but MPI_SUCCESS.
inline void check(int code, const char* what) {
  if (code != 0)
    throw std::runtime_error(std::string(what) + " failed with MPI error code " + std::to_string(code));
}

// The address of a function that not every library has.
template <typename Function>
Function required(Function function, const char* name) {
  if (function == nullptr) {
    throw Unsupported(std::string("this MPI library has no ") + name + ": it came with MPI 4.0");
  }
  return function;
}

// A communicator with what the algorithms ask it all the time.
struct Communicator {
  const Library* library;
  Handle handle;
  int rank;
  int size;
};

}  // namespace microbench::mpi
