// The collectives of the MPI library itself: blocking, nonblocking and persistent.

#include "allreduce/collective.hpp"
#include "common/error.hpp"

namespace microbench::mpi {
namespace {

// The operation as MPI knows it: a predefined one, or our own function for types that MPI has no arithmetic
// for.
class ReduceOperation {
 public:
  explicit ReduceOperation(const Setup& setup) : library_(*setup.communicator.library) {
    own_ = setup.type == ElementType::float16 || setup.type == ElementType::bfloat16;
    if (own_) {
      check(library_.call.Op_create(user_function(setup.type, setup.operation), 1, &handle_),
            "MPI_Op_create");
    } else {
      const char* const names[] = {"MPI_SUM", "MPI_MAX", "MPI_MIN"};
      handle_ = library_.handle(names[static_cast<int>(setup.operation)]);
    }
  }
  ReduceOperation(const ReduceOperation&) = delete;
  ReduceOperation& operator=(const ReduceOperation&) = delete;
  ~ReduceOperation() {
    if (own_) library_.call.Op_free(&handle_);
  }

  Handle handle() const { return handle_; }
  bool own() const { return own_; }

 private:
  const Library& library_;
  bool own_ = false;
  Handle handle_ = 0;
};

class LibraryCollective final : public Measured {
 public:
  explicit LibraryCollective(const Setup& setup)
      : Measured(setup),
        call_(communicator().library->call),
        kernel_(kernel_of(setup.kernel)),
        form_(form_of(setup.form)),
        operation_(setup),
        type_(communicator().library->handle(transfer_type(setup.type))),
        info_(communicator().library->handle("MPI_INFO_NULL")),
        sent_(setup.in_place ? communicator().library->in_place : source()),
        received_(target()),
        whole_(static_cast<int>(setup.elements)),
        part_(static_cast<int>(share())) {
    if (operation_.own() && reduces() && setup.device != nullptr) {
      throw Unsupported(std::string("MPI has no arithmetic of ") + name_of(setup.type) +
                        ", and an operation of our own cannot reach the device's memory");
    }
    if (form_ == Form::persistent) check(initialise(), "a persistent collective's initialisation");
    if (form_ == Form::nonblocking && !has_nonblocking()) {
      throw Unsupported("this MPI library has no nonblocking collectives: they came with MPI 3.0");
    }
  }
  ~LibraryCollective() override {
    if (initialised_) call_.Request_free(&request_);
  }

  void launch() override {
    if (form_ == Form::blocking) {
      check(block(), "the collective");
    } else {
      start();
      finish();
    }
  }
  void start() override {
    check(form_ == Form::persistent ? call_.Start(&request_) : begin(), "starting the collective");
  }
  void finish() override { check(call_.Wait(&request_, &status_), "MPI_Wait"); }

  std::string implementation() const override {
    const std::string own = operation_.own() && reduces() ? ", a user-defined operation on MPI_UINT16_T" : "";
    const char* const names[] = {"MPI_Allreduce", "MPI_Reduce_scatter_block", "MPI_Allgather", "MPI_Bcast",
                                 "MPI_Alltoall"};
    const char* const forms[] = {"", " (nonblocking)", " (persistent)"};
    return names[static_cast<int>(kernel_)] + std::string(forms[static_cast<int>(form_)]) + own;
  }

 private:
  enum class Kernel { allreduce, reduce_scatter, allgather, broadcast, alltoall };
  enum class Form { blocking, nonblocking, persistent };

  static Kernel kernel_of(const std::string& name) {
    if (name == "allreduce") return Kernel::allreduce;
    if (name == "reduce_scatter") return Kernel::reduce_scatter;
    if (name == "allgather") return Kernel::allgather;
    if (name == "broadcast") return Kernel::broadcast;
    if (name == "alltoall") return Kernel::alltoall;
    throw std::invalid_argument("no collective '" + name + "'");
  }
  static Form form_of(const std::string& name) {
    if (name == "blocking") return Form::blocking;
    if (name == "nonblocking") return Form::nonblocking;
    if (name == "persistent") return Form::persistent;
    throw std::invalid_argument("no form '" + name + "'");
  }
  bool reduces() const { return kernel_ == Kernel::allreduce || kernel_ == Kernel::reduce_scatter; }
  bool has_nonblocking() const { return call_.Iallreduce != nullptr; }

  int block() {
    const Handle group = communicator().handle;
    switch (kernel_) {
      case Kernel::allreduce:
        return call_.Allreduce(sent_, received_, whole_, type_, operation_.handle(), group);
      case Kernel::reduce_scatter:
        return call_.Reduce_scatter_block(sent_, received_, part_, type_, operation_.handle(), group);
      case Kernel::allgather:
        return call_.Allgather(sent_, part_, type_, received_, part_, type_, group);
      case Kernel::broadcast:
        return call_.Bcast(received_, whole_, type_, setup().root, group);
      case Kernel::alltoall:
        return call_.Alltoall(sent_, part_, type_, received_, part_, type_, group);
    }
    return -1;
  }

  int begin() {
    const Handle group = communicator().handle;
    switch (kernel_) {
      case Kernel::allreduce:
        return call_.Iallreduce(sent_, received_, whole_, type_, operation_.handle(), group, &request_);
      case Kernel::reduce_scatter:
        return call_.Ireduce_scatter_block(sent_, received_, part_, type_, operation_.handle(), group,
                                           &request_);
      case Kernel::allgather:
        return call_.Iallgather(sent_, part_, type_, received_, part_, type_, group, &request_);
      case Kernel::broadcast:
        return call_.Ibcast(received_, whole_, type_, setup().root, group, &request_);
      case Kernel::alltoall:
        return call_.Ialltoall(sent_, part_, type_, received_, part_, type_, group, &request_);
    }
    return -1;
  }

  int initialise() {
    const Handle group = communicator().handle;
    const auto made = [&](int code) {
      initialised_ = code == 0;
      return code;
    };
    switch (kernel_) {
      case Kernel::allreduce:
        return made(required(call_.Allreduce_init, "MPI_Allreduce_init")(
            sent_, received_, whole_, type_, operation_.handle(), group, info_, &request_));
      case Kernel::reduce_scatter:
        return made(required(call_.Reduce_scatter_block_init, "MPI_Reduce_scatter_block_init")(
            sent_, received_, part_, type_, operation_.handle(), group, info_, &request_));
      case Kernel::allgather:
        return made(required(call_.Allgather_init, "MPI_Allgather_init")(
            sent_, part_, type_, received_, part_, type_, group, info_, &request_));
      case Kernel::broadcast:
        return made(required(call_.Bcast_init, "MPI_Bcast_init")(received_, whole_, type_, setup().root,
                                                                 group, info_, &request_));
      case Kernel::alltoall:
        return made(required(call_.Alltoall_init, "MPI_Alltoall_init")(sent_, part_, type_, received_, part_,
                                                                       type_, group, info_, &request_));
    }
    return -1;
  }

  const Functions& call_;
  Kernel kernel_;
  Form form_;
  ReduceOperation operation_;
  Handle type_;
  Handle info_;
  const void* sent_;
  void* received_;
  int whole_;
  int part_;
  Request request_;
  Status status_;
  bool initialised_ = false;
};

}  // namespace

std::unique_ptr<Measured> open_library(const Setup& setup) {
  return std::make_unique<LibraryCollective>(setup);
}

}  // namespace microbench::mpi
