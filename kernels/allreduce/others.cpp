// Reduce-scatter, allgather, broadcast and alltoall over point-to-point messages.

#include <cstring>

#include "allreduce/collective.hpp"
#include "common/error.hpp"

namespace microbench::mpi {
namespace {

class RingReduceScatter final : public Measured {
 public:
  explicit RingReduceScatter(const Setup& setup)
      : Measured(setup),
        ring_(setup.communicator, setup.type, combiner(setup.type, setup.operation),
              all_ranks(setup.communicator)) {}
  void launch() override { ring_.reduce_scatter(input().data, output().data, setup().elements); }
  std::string implementation() const override { return "ring of all ranks"; }
  std::int64_t workspace_bytes() const override { return ring_.workspace_bytes(); }

 private:
  Ring ring_;
};

class RingAllgather final : public Measured {
 public:
  explicit RingAllgather(const Setup& setup)
      : Measured(setup), ring_(setup.communicator, setup.type, nullptr, all_ranks(setup.communicator)) {}
  void launch() override {
    unsigned char* own = output().data + communicator().rank * share() * item();
    if (own != input().data) std::memcpy(own, input().data, static_cast<std::size_t>(share() * item()));
    ring_.allgather(output().data, setup().elements);
  }
  std::string implementation() const override { return "ring of all ranks"; }

 private:
  Ring ring_;
};

class TreeBroadcast final : public Measured {
 public:
  explicit TreeBroadcast(const Setup& setup) : Measured(setup), messages_(setup.communicator, setup.type) {}
  void launch() override {
    const int size = communicator().size;
    const auto real = [&](int number) { return (number + setup().root) % size; };
    const int number = (communicator().rank - setup().root + size) % size;
    int distance = 1;
    while (distance < size && (number & distance) == 0) distance *= 2;
    if (number != 0) messages_.receive(output().data, setup().elements, real(number - distance));
    for (distance /= 2; distance > 0; distance /= 2) {
      if (number + distance < size) messages_.send(output().data, setup().elements, real(number + distance));
    }
  }
  std::string implementation() const override { return "binomial tree"; }

 private:
  Messages messages_;
};

class PairwiseAlltoall final : public Measured {
 public:
  explicit PairwiseAlltoall(const Setup& setup) : Measured(setup), messages_(setup.communicator, setup.type) {
    if (setup.in_place) throw Unsupported("pairwise exchange works out of place only");
  }
  void launch() override {
    const int size = communicator().size;
    const int rank = communicator().rank;
    const std::int64_t bytes = share() * item();
    const unsigned char* in = input().data;
    unsigned char* out = output().data;
    std::memcpy(out + rank * bytes, in + rank * bytes, static_cast<std::size_t>(bytes));
    for (int step = 1; step < size; ++step) {
      const int to = (rank + step) % size;
      const int from = (rank - step + size) % size;
      messages_.exchange(in + to * bytes, share(), to, out + from * bytes, share(), from);
    }
  }
  std::string implementation() const override { return "pairwise exchange"; }

 private:
  Messages messages_;
};

}  // namespace

std::unique_ptr<Measured> open_other(const Setup& setup) {
  const std::string only = lossless_algorithms(setup.kernel, setup.library).front();
  if (setup.algorithm != "auto" && setup.algorithm != only) {
    throw Unsupported("no " + setup.kernel + " algorithm '" + setup.algorithm + "'; there is " + only);
  }
  if (setup.kernel == "reduce_scatter") return std::make_unique<RingReduceScatter>(setup);
  if (setup.kernel == "allgather") return std::make_unique<RingAllgather>(setup);
  if (setup.kernel == "broadcast") return std::make_unique<TreeBroadcast>(setup);
  return std::make_unique<PairwiseAlltoall>(setup);
}

}  // namespace microbench::mpi
