#include "common/mpi.hpp"

#include <utility>

namespace microbench::mpi {

Library::Library(const std::map<std::string, std::uintptr_t>& addresses, std::map<std::string, Handle> known,
                 std::uintptr_t place)
    : handles(std::move(known)), in_place(reinterpret_cast<const void*>(place)) {
  const auto find = [&](auto& function, const char* name) {
    const auto found = addresses.find(name);
    if (found != addresses.end()) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(found->second);
    }
  };
#define MICROBENCH_FIND(name) find(call.name, "MPI_" #name)
  MICROBENCH_FIND(Barrier);
  MICROBENCH_FIND(Send);
  MICROBENCH_FIND(Recv);
  MICROBENCH_FIND(Isend);
  MICROBENCH_FIND(Irecv);
  MICROBENCH_FIND(Wait);
  MICROBENCH_FIND(Start);
  MICROBENCH_FIND(Request_free);
  MICROBENCH_FIND(Op_create);
  MICROBENCH_FIND(Op_free);
  MICROBENCH_FIND(Allreduce);
  MICROBENCH_FIND(Iallreduce);
  MICROBENCH_FIND(Allreduce_init);
  MICROBENCH_FIND(Reduce_scatter_block);
  MICROBENCH_FIND(Ireduce_scatter_block);
  MICROBENCH_FIND(Reduce_scatter_block_init);
  MICROBENCH_FIND(Allgather);
  MICROBENCH_FIND(Iallgather);
  MICROBENCH_FIND(Allgather_init);
  MICROBENCH_FIND(Bcast);
  MICROBENCH_FIND(Ibcast);
  MICROBENCH_FIND(Bcast_init);
  MICROBENCH_FIND(Alltoall);
  MICROBENCH_FIND(Ialltoall);
  MICROBENCH_FIND(Alltoall_init);
#undef MICROBENCH_FIND
}

}  // namespace microbench::mpi
