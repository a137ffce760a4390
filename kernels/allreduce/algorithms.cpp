// Lossless all-reduce algorithms over point-to-point messages.

#include <algorithm>
#include <cstring>

#include "allreduce/collective.hpp"
#include "common/error.hpp"

namespace microbench::mpi {
namespace {

class Allreduce : public Measured {
 public:
  explicit Allreduce(const Setup& setup)
      : Measured(setup),
        messages_(setup.communicator, setup.type),
        combine_(combiner(setup.type, setup.operation)),
        in_(input().data),
        out_(output().data) {}

 protected:
  // The elements from `first` on, of what this rank contributes and of the result.
  const unsigned char* in(std::int64_t first = 0) const { return in_ + first * item(); }
  unsigned char* out(std::int64_t first = 0) const { return out_ + first * item(); }
  std::int64_t elements() const { return setup().elements; }
  const Messages& messages() const { return messages_; }
  Combine* combine() const { return combine_; }

  std::vector<unsigned char> workspace() const {
    return std::vector<unsigned char>(static_cast<std::size_t>(elements() * item()));
  }
  void copy() const {
    if (in_ != out_) std::memcpy(out_, in_, static_cast<std::size_t>(elements() * item()));
  }

 private:
  Messages messages_;
  Combine* combine_;
  const unsigned char* in_;
  unsigned char* out_;
};

// Patarasuk & Yuan 2009; in deep learning Baidu's (2017): reduce-scatter, then allgather, round one ring.
class RingAllreduce final : public Allreduce {
 public:
  explicit RingAllreduce(const Setup& setup)
      : Allreduce(setup), ring_(setup.communicator, setup.type, combine(), all_ranks(setup.communicator)) {}

  void launch() override {
    ring_.reduce_scatter(in(), out(ring_.begin(elements(), ring_.place())), elements());
    ring_.allgather(out(), elements());
  }
  std::string implementation() const override { return "ring of all ranks"; }
  std::int64_t workspace_bytes() const override { return ring_.workspace_bytes(); }

 private:
  Ring ring_;
};

// Two levels: reduce-scatter in the row, all-reduce of each share in its column, allgather in the row. In a
// torus rows and columns are those of the most nearly square grid; hierarchical, a row is a node.
class TwoLevel final : public Allreduce {
 public:
  TwoLevel(const Setup& setup, const std::vector<std::vector<int>>& rows)
      : Allreduce(setup),
        rows_(rows.size()),
        row_(setup.communicator, setup.type, combine(), row_of(rows, setup.communicator.rank)),
        column_(setup.communicator, setup.type, combine(), column_of(rows, setup.communicator.rank)) {}

  static std::vector<std::vector<int>> square(const Communicator& communicator) {
    int height = 1;
    for (int i = 1; i * i <= communicator.size; ++i) {
      if (communicator.size % i == 0) height = i;
    }
    if (height == 1) {
      throw Unsupported("no grid of two dimensions has " + std::to_string(communicator.size) + " ranks");
    }
    std::vector<std::vector<int>> rows(static_cast<std::size_t>(height));
    for (int rank = 0; rank < communicator.size; ++rank) {
      rows[static_cast<std::size_t>(rank * height / communicator.size)].push_back(rank);
    }
    return rows;
  }

  void launch() override {
    const std::int64_t first = row_.begin(elements(), row_.place());
    const std::int64_t count = row_.begin(elements(), row_.place() + 1) - first;
    row_.reduce_scatter(in(), out(first), elements());
    column_.reduce_scatter(out(first), out(first + column_.begin(count, column_.place())), count);
    column_.allgather(out(first), count);
    row_.allgather(out(), elements());
  }
  std::string implementation() const override {
    return "rings in " + std::to_string(rows_) + " rows of " + std::to_string(row_.size()) +
           " ranks and between them";
  }
  std::int64_t workspace_bytes() const override { return row_.workspace_bytes() + column_.workspace_bytes(); }

 private:
  std::size_t rows_;
  Ring row_;
  Ring column_;
};

// What recursive doubling and Rabenseifner's algorithm share: ranks beyond a power of two hand their data to
// a neighbour before and get the result from it after.
class PowerOfTwo : public Allreduce {
 public:
  explicit PowerOfTwo(const Setup& setup)
      : Allreduce(setup), participants_(setup.communicator), received_(workspace()) {}

  void launch() final {
    const Participants& mine = participants_;
    if (mine.number < 0) {
      messages().send(in(), elements(), mine.partner);
      messages().receive(out(), elements(), mine.partner);
      return;
    }
    const unsigned char* current = in();
    if (mine.partner >= 0) {
      messages().receive(received(), elements(), mine.partner);
      combine()(out(), in(), received(), elements());
      current = out();
    }
    if (mine.count > 1) {
      among_participants(current);
    } else if (current == in()) {
      copy();
    }
    if (mine.partner >= 0) messages().send(out(), elements(), mine.partner);
  }
  std::int64_t workspace_bytes() const override { return static_cast<std::int64_t>(received_.size()); }

 protected:
  // Combines over the participants; this one's data are at `current`, which is in() or out().
  virtual void among_participants(const unsigned char* current) = 0;
  const Participants& participants() const { return participants_; }
  unsigned char* received() { return received_.data(); }

 private:
  Participants participants_;
  std::vector<unsigned char> received_;
};

class RecursiveDoubling final : public PowerOfTwo {
 public:
  using PowerOfTwo::PowerOfTwo;
  std::string implementation() const override { return "recursive doubling of the whole vector"; }

 private:
  void among_participants(const unsigned char* current) override {
    for (int distance = 1; distance < participants().count; distance *= 2) {
      const int peer = participants().rank(participants().number ^ distance);
      messages().exchange(current, elements(), peer, received(), elements(), peer);
      combine()(out(), current, received(), elements());
      current = out();
    }
  }
};

// Rabenseifner 2004: reduce-scatter by recursive halving, allgather by recursive doubling.
class Rabenseifner final : public PowerOfTwo {
 public:
  using PowerOfTwo::PowerOfTwo;
  std::string implementation() const override { return "recursive halving, then recursive doubling"; }

 private:
  struct Step {
    int peer;
    std::int64_t kept, kept_elements;  // the half that this rank goes on with
    std::int64_t left, left_elements;  // the other one
  };

  void among_participants(const unsigned char* current) override {
    steps_.clear();
    std::int64_t first = 0;
    std::int64_t last = elements();
    for (int distance = participants().count / 2; distance > 0; distance /= 2) {
      const std::int64_t middle = first + (last - first) / 2;
      const bool lower = (participants().number & distance) == 0;
      const Step step{participants().rank(participants().number ^ distance), lower ? first : middle,
                      lower ? middle - first : last - middle, lower ? middle : first,
                      lower ? last - middle : middle - first};
      messages().exchange(current + step.left * item(), step.left_elements, step.peer, received(),
                          step.kept_elements, step.peer);
      combine()(out(step.kept), current + step.kept * item(), received(), step.kept_elements);
      current = out();
      first = step.kept;
      last = step.kept + step.kept_elements;
      steps_.push_back(step);
    }
    for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) {
      messages().exchange(out(step->kept), step->kept_elements, step->peer, out(step->left),
                          step->left_elements, step->peer);
    }
  }

  std::vector<Step> steps_;
};

// Reduction to rank 0 along a binomial tree, and broadcast along the same tree.
class Tree final : public Allreduce {
 public:
  explicit Tree(const Setup& setup) : Allreduce(setup), received_(workspace()) {}

  void launch() override {
    const int rank = communicator().rank;
    const int size = communicator().size;
    const unsigned char* current = in();
    int distance = 1;
    for (; distance < size && (rank & distance) == 0; distance *= 2) {
      if (rank + distance >= size) continue;
      messages().receive(received_.data(), elements(), rank + distance);
      combine()(out(), current, received_.data(), elements());
      current = out();
    }
    if (rank != 0) {
      messages().send(current, elements(), rank - distance);
      messages().receive(out(), elements(), rank - distance);
    } else if (current == in()) {
      copy();
    }
    for (distance /= 2; distance > 0; distance /= 2) {
      if (rank + distance < size) messages().send(out(), elements(), rank + distance);
    }
  }
  std::string implementation() const override { return "binomial tree, up and down"; }
  std::int64_t workspace_bytes() const override { return static_cast<std::int64_t>(received_.size()); }

 private:
  std::vector<unsigned char> received_;
};

// Up to so many bytes few long steps cost less than many short ones. Where recursive doubling and
// Rabenseifner's algorithm cross depends on the machine; this is a guess for the ranks of one node.
constexpr std::int64_t kShortMessage = 64 << 10;

}  // namespace

std::unique_ptr<Measured> open_allreduce(const Setup& setup) {
  const std::string& name = setup.algorithm;
  if (name == "auto") {
    Setup chosen = setup;
    const bool brief = setup.elements * element_bytes(setup.type) <= kShortMessage;
    chosen.algorithm = brief ? "recursive_doubling" : "rabenseifner";
    return open_allreduce(chosen);
  }
  if (name == "ring") return std::make_unique<RingAllreduce>(setup);
  if (name == "recursive_doubling") return std::make_unique<RecursiveDoubling>(setup);
  if (name == "rabenseifner") return std::make_unique<Rabenseifner>(setup);
  if (name == "tree") return std::make_unique<Tree>(setup);
  if (name == "torus_2d") return std::make_unique<TwoLevel>(setup, TwoLevel::square(setup.communicator));
  if (name == "hierarchical") return std::make_unique<TwoLevel>(setup, ranks_by_node(setup));
  throw Unsupported("no all-reduce algorithm '" + name + "'");
}

}  // namespace microbench::mpi
