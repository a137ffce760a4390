// All-reduce algorithms that send less than the vector and lose something of it: fp32 sums only.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "allreduce/collective.hpp"
#include "common/error.hpp"

namespace microbench::mpi {
namespace {

void need_fp32_sum(const Setup& setup) {
  if (setup.type != ElementType::float32 || setup.operation != Operation::sum) {
    throw Unsupported(setup.algorithm + " is for sums of fp32");
  }
}

// Every rank rounds its vector to fp16; the ring sums in fp32 and rounds each partial sum to fp16 again.
class Fp16Ring final : public Measured {
 public:
  explicit Fp16Ring(const Setup& setup)
      : Measured(setup),
        ring_(setup.communicator, ElementType::float16, combiner(ElementType::float16, Operation::sum),
              all_ranks(setup.communicator)),
        half_(static_cast<std::size_t>(setup.elements)) {}

  void launch() override {
    const std::int64_t elements = setup().elements;
    narrow(reinterpret_cast<const float*>(input().data), half_.data(), elements);
    ring_.reduce_scatter(half_.data(), half_.data() + ring_.begin(elements, ring_.place()), elements);
    ring_.allgather(half_.data(), elements);
    widen(half_.data(), reinterpret_cast<float*>(output().data), elements);
  }
  std::string implementation() const override {
    return "ring of all ranks on fp16, partial sums rounded to fp16";
  }
  std::int64_t workspace_bytes() const override {
    return ring_.workspace_bytes() + static_cast<std::int64_t>(half_.size() * sizeof(std::uint16_t));
  }

 private:
  Ring ring_;
  std::vector<std::uint16_t> half_;
};

// SparCML's recursive doubling of sparse streams (Renggli et al. 2019, SSAR_Recursive_double): every rank
// contributes the largest 1 % of its elements by magnitude as (index, value) pairs, and merges what it
// receives into its own.
class TopK final : public Measured {
 public:
  explicit TopK(const Setup& setup)
      : Measured(setup),
        participants_(setup.communicator),
        messages_(setup.communicator, ElementType::float64),
        kept_(std::max<std::int64_t>(1, setup.elements / 100)) {
    if (setup.elements > UINT32_MAX) throw Unsupported("indices of 32 bits do not reach so far");
    magnitudes_.resize(static_cast<std::size_t>(setup.elements));
    // A pair in front says how many follow.
    const std::int64_t most = std::min(setup.elements, kept_ * setup.communicator.size) + 1;
    for (auto* pairs : {&mine_, &theirs_, &merged_}) pairs->resize(static_cast<std::size_t>(most));
  }

  void launch() override {
    select();
    const Participants& mine = participants_;
    if (mine.number < 0) {
      send(mine.partner);
      messages_.receive(mine_.data(), room(), mine.partner);
    } else {
      if (mine.partner >= 0) {
        messages_.receive(theirs_.data(), room(), mine.partner);
        merge();
      }
      for (int distance = 1; distance < mine.count; distance *= 2) {
        const int peer = mine.rank(mine.number ^ distance);
        messages_.exchange(mine_.data(), count(mine_) + 1, peer, theirs_.data(), room(), peer);
        merge();
      }
      if (mine.partner >= 0) send(mine.partner);
    }
    densify();
  }
  std::string implementation() const override {
    return "the largest " + std::to_string(kept_) + " elements of each rank, merged by recursive doubling";
  }
  std::int64_t workspace_bytes() const override {
    return static_cast<std::int64_t>(magnitudes_.size() * sizeof(float) + 3 * mine_.size() * sizeof(Pair));
  }

 private:
  struct Pair {
    std::uint32_t index;
    float value;
  };
  static_assert(sizeof(Pair) == sizeof(double), "pairs travel as MPI_DOUBLE");

  static std::int64_t count(const std::vector<Pair>& pairs) { return pairs[0].index; }
  std::int64_t room() const { return static_cast<std::int64_t>(mine_.size()); }
  void send(int to) { messages_.send(mine_.data(), count(mine_) + 1, to); }

  void select() {
    const auto* values = reinterpret_cast<const float*>(input().data);
    const std::int64_t elements = setup().elements;
    for (std::int64_t i = 0; i < elements; ++i)
      magnitudes_[static_cast<std::size_t>(i)] = std::fabs(values[i]);
    const auto limit = magnitudes_.begin() + (kept_ - 1);
    std::nth_element(magnitudes_.begin(), limit, magnitudes_.end(), std::greater<>());
    const float smallest = *limit;
    // Of equal ones as many as there is room for beside those that are larger.
    std::int64_t equals =
        kept_ - std::count_if(magnitudes_.begin(), limit, [=](float m) { return m > smallest; });
    std::size_t place = 0;
    for (std::int64_t i = 0; i < elements; ++i) {
      const float magnitude = std::fabs(values[i]);
      if (magnitude > smallest || (magnitude == smallest && equals-- > 0)) {
        mine_[++place] = {static_cast<std::uint32_t>(i), values[i]};
      }
    }
    mine_[0] = {static_cast<std::uint32_t>(place), 0};
  }

  void merge() {
    std::size_t left = 1;
    std::size_t right = 1;
    std::size_t place = 0;
    const auto lefts = static_cast<std::size_t>(count(mine_));
    const auto rights = static_cast<std::size_t>(count(theirs_));
    while (left <= lefts || right <= rights) {
      if (right > rights || (left <= lefts && mine_[left].index < theirs_[right].index)) {
        merged_[++place] = mine_[left++];
      } else if (left > lefts || theirs_[right].index < mine_[left].index) {
        merged_[++place] = theirs_[right++];
      } else {
        merged_[++place] = {mine_[left].index, mine_[left].value + theirs_[right].value};
        ++left;
        ++right;
      }
    }
    merged_[0] = {static_cast<std::uint32_t>(place), 0};
    mine_.swap(merged_);
  }

  void densify() {
    auto* result = reinterpret_cast<float*>(output().data);
    std::memset(result, 0, static_cast<std::size_t>(setup().elements) * sizeof(float));
    const auto pairs = static_cast<std::size_t>(count(mine_));
    for (std::size_t i = 1; i <= pairs; ++i) result[mine_[i].index] = mine_[i].value;
  }

  Participants participants_;
  Messages messages_;
  std::int64_t kept_;
  std::vector<float> magnitudes_;
  std::vector<Pair> mine_;
  std::vector<Pair> theirs_;
  std::vector<Pair> merged_;
};

}  // namespace

std::unique_ptr<Measured> open_lossy(const Setup& setup) {
  need_fp32_sum(setup);
  if (setup.algorithm == "ring_fp16") return std::make_unique<Fp16Ring>(setup);
  return std::make_unique<TopK>(setup);
}

}  // namespace microbench::mpi
