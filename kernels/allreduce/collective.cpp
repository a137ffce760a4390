#include "allreduce/collective.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "common/error.hpp"

namespace microbench::mpi {
namespace {

constexpr int kTag = 1;

bool scatters(const std::string& kernel) { return kernel == "reduce_scatter"; }
bool gathers(const std::string& kernel) { return kernel == "allgather"; }
bool broadcasts(const std::string& kernel) { return kernel == "broadcast"; }

}  // namespace

Measured::Measured(const Setup& setup, std::int64_t padding)
    : setup_(setup),
      contributed_(gathers(setup.kernel) ? share() : setup.elements),
      received_(scatters(setup.kernel) ? share() : setup.elements),
      input_offset_(gathers(setup.kernel) && setup.in_place ? setup.communicator.rank * share() : 0),
      // In place MPI leaves a rank's share of a reduce-scatter where the buffer begins, NCCL where the share
      // lies in it.
      output_offset_(scatters(setup.kernel) && setup.in_place && setup.library == "nccl"
                         ? setup.communicator.rank * share()
                         : 0),
      send_(setup.type, setup.in_place || broadcasts(setup.kernel) ? 0 : contributed_),
      receive_(setup.type, setup.in_place ? std::max(contributed_, received_) : received_) {
  if (setup.device == nullptr) return;
  device_send_ = setup.device->allocate(shared() ? 0 : send_.bytes() + padding * item());
  device_receive_ = setup.device->allocate(receive_.bytes() + padding * item());
}

Measured::Part Measured::input() {
  Buffer& buffer = shared() ? receive_ : send_;
  return {buffer.as<unsigned char>() + input_offset_ * item(), contributed_};
}

Measured::Part Measured::output() {
  return {receive_.as<unsigned char>() + output_offset_ * item(), received_};
}

unsigned char* Measured::source() {
  if (setup_.device == nullptr) return input().data;
  const auto& memory = shared() ? device_receive_ : device_send_;
  return static_cast<unsigned char*>(memory.get()) + input_offset_ * item();
}

unsigned char* Measured::target() {
  if (setup_.device == nullptr) return output().data;
  return static_cast<unsigned char*>(device_receive_.get()) + output_offset_ * item();
}

void Measured::upload() {
  if (setup_.device == nullptr) return;
  if (!shared()) setup_.device->upload(device_send_.get(), send_.data(), send_.bytes());
  setup_.device->upload(device_receive_.get(), receive_.data(), receive_.bytes());
}

void Measured::download() {
  if (setup_.device == nullptr) return;
  setup_.device->download(receive_.data(), device_receive_.get(), receive_.bytes());
}

const char* transfer_type(ElementType type) {
  switch (type) {
    case ElementType::float64:
      return "MPI_DOUBLE";
    case ElementType::float32:
      return "MPI_FLOAT";
    case ElementType::int32:
      return "MPI_INT32_T";
    case ElementType::float16:
    case ElementType::bfloat16:
      return "MPI_UINT16_T";
    default:
      throw Unsupported(std::string("no collective of ") + name_of(type));
  }
}

void Messages::send(const void* data, std::int64_t elements, int to) const {
  check(communicator_.library->call.Send(data, static_cast<int>(elements), type_, to, kTag,
                                         communicator_.handle),
        "MPI_Send");
}

void Messages::receive(void* data, std::int64_t elements, int from) const {
  Status status;
  check(communicator_.library->call.Recv(data, static_cast<int>(elements), type_, from, kTag,
                                         communicator_.handle, &status),
        "MPI_Recv");
}

void Messages::exchange(const void* sent, std::int64_t sent_elements, int to, void* received,
                        std::int64_t received_elements, int from) const {
  const Functions& call = communicator_.library->call;
  Request request;
  Status status;
  check(call.Irecv(received, static_cast<int>(received_elements), type_, from, kTag, communicator_.handle,
                   &request),
        "MPI_Irecv");
  check(call.Send(sent, static_cast<int>(sent_elements), type_, to, kTag, communicator_.handle), "MPI_Send");
  check(call.Wait(&request, &status), "MPI_Wait");
}

Ring::Ring(const Communicator& communicator, ElementType type, Combine* combine, std::vector<int> ranks)
    : messages_(communicator, type), item_(element_bytes(type)), combine_(combine), ranks_(std::move(ranks)) {
  const auto found = std::find(ranks_.begin(), ranks_.end(), communicator.rank);
  place_ = static_cast<int>(found - ranks_.begin());
}

// Partial results travel in two buffers of a chunk each, which stay in the cache where the whole vector does
// not.
void Ring::reduce_scatter(const void* in, void* chunk, std::int64_t elements) {
  const auto* source = static_cast<const unsigned char*>(in);
  const auto at = [&](int which) { return source + begin(elements, which) * item_; };
  if (size() == 1) {
    if (chunk != in) std::memcpy(chunk, in, static_cast<std::size_t>(elements * item_));
    return;
  }
  const auto largest = static_cast<std::size_t>((elements / size() + 1) * item_);
  first_.resize(largest);
  second_.resize(largest);
  const unsigned char* outgoing = at(wrapped(place_ - 1));
  for (int step = 0; step + 1 < size(); ++step) {
    const int leaving = wrapped(place_ - 1 - step);
    const int coming = wrapped(place_ - 2 - step);
    unsigned char* incoming = (step % 2 == 0 ? first_ : second_).data();
    messages_.exchange(outgoing, length(elements, leaving), neighbour(1), incoming, length(elements, coming),
                       neighbour(-1));
    const bool last = step + 2 == size();
    combine_(last ? chunk : incoming, at(coming), incoming, length(elements, coming));
    outgoing = incoming;
  }
}

void Ring::allgather(void* data, std::int64_t elements) const {
  auto* first = static_cast<unsigned char*>(data);
  for (int step = 0; step + 1 < size(); ++step) {
    const int leaving = wrapped(place_ - step);
    const int coming = wrapped(place_ - step - 1);
    messages_.exchange(first + begin(elements, leaving) * item_, length(elements, leaving), neighbour(1),
                       first + begin(elements, coming) * item_, length(elements, coming), neighbour(-1));
  }
}

std::vector<int> all_ranks(const Communicator& communicator) {
  std::vector<int> ranks(static_cast<std::size_t>(communicator.size));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

std::vector<std::vector<int>> ranks_by_node(const Setup& setup) {
  std::vector<std::vector<int>> rows;
  for (std::size_t rank = 0; rank < setup.nodes.size(); ++rank) {
    const auto node = static_cast<std::size_t>(setup.nodes[rank]);
    if (node >= rows.size()) rows.resize(node + 1);
    rows[node].push_back(static_cast<int>(rank));
  }
  if (rows.size() == 1) throw Unsupported("all ranks are on one node: there is no second level");
  for (const auto& row : rows) {
    if (row.size() != rows[0].size()) throw Unsupported("the nodes have different numbers of ranks");
  }
  return rows;
}

std::vector<int> row_of(const std::vector<std::vector<int>>& rows, int rank) {
  return *std::find_if(rows.begin(), rows.end(), [rank](const std::vector<int>& row) {
    return std::find(row.begin(), row.end(), rank) != row.end();
  });
}

std::vector<int> column_of(const std::vector<std::vector<int>>& rows, int rank) {
  const std::vector<int> row = row_of(rows, rank);
  const auto place = std::find(row.begin(), row.end(), rank) - row.begin();
  std::vector<int> ranks;
  for (const auto& each : rows) ranks.push_back(each[static_cast<std::size_t>(place)]);
  return ranks;
}

Participants::Participants(const Communicator& communicator) : count(1) {
  while (2 * count <= communicator.size) count *= 2;
  extra = communicator.size - count;
  const int rank = communicator.rank;
  const bool paired = rank < 2 * extra;
  partner = paired ? rank ^ 1 : -1;
  number = paired ? (rank % 2 == 1 ? rank / 2 : -1) : rank - extra;
}

std::unique_ptr<Measured> open(const Setup& setup) {
  if (setup.library == "mpi") {
    if (setup.algorithm != "auto") throw Unsupported("the MPI library chooses its algorithm: ask for auto");
    return open_library(setup);
  }
  if (setup.library == "nccl") return setup.device->open(setup);
  if (setup.form != "blocking") {
    throw Unsupported("the algorithms over point-to-point messages are blocking only");
  }
  const std::vector<std::string> lossy = lossy_algorithms(setup.kernel, setup.library);
  if (std::find(lossy.begin(), lossy.end(), setup.algorithm) != lossy.end()) return open_lossy(setup);
  return setup.kernel == "allreduce" ? open_allreduce(setup) : open_other(setup);
}

std::vector<std::string> lossless_algorithms(const std::string& kernel, const std::string& library) {
  if (library == "mpi") return {"auto"};
  if (library == "nccl") {
    return kernel == "allreduce" ? std::vector<std::string>{"auto", "hierarchical"}
                                 : std::vector<std::string>{"auto"};
  }
  if (kernel == "allreduce") {
    return {"ring", "recursive_doubling", "rabenseifner", "tree", "torus_2d", "hierarchical"};
  }
  if (kernel == "broadcast") return {"tree"};
  return {kernel == "alltoall" ? "pairwise" : "ring"};
}

std::vector<std::string> lossy_algorithms(const std::string& kernel, const std::string& library) {
  if (library == "microbench" && kernel == "allreduce") return {"ring_fp16", "top_k"};
  return {};
}

}  // namespace microbench::mpi
