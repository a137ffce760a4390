#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "allreduce/elements.hpp"
#include "common/harness.hpp"
#include "common/synchronised.hpp"

namespace microbench::mpi {

class Measured;
struct Setup;

// Memory that is not the host's, and the collectives of the library that comes with it.
class Device {
 public:
  Device() = default;
  Device(const Device&) = delete;  // buffers point to it
  Device& operator=(const Device&) = delete;
  virtual ~Device() = default;

  virtual std::shared_ptr<void> allocate(std::int64_t bytes) = 0;
  // Both return when the data are there.
  virtual void upload(void* device, const void* host, std::int64_t bytes) = 0;
  virtual void download(void* host, const void* device, std::int64_t bytes) = 0;
  virtual std::unique_ptr<Measured> open(const Setup& setup) = 0;
};

// Everything that chooses one collective. `elements` are those of the largest buffer of one rank, as
// nccl-tests counts them, and a multiple of the number of ranks where each rank has a share of it.
struct Setup {
  Communicator communicator;
  std::string kernel;
  std::string library;
  std::string algorithm;
  ElementType type;
  Operation operation;
  std::int64_t elements;
  bool in_place;
  std::string form;  // blocking, nonblocking, persistent
  int root;
  std::vector<int> nodes;  // the node of each rank
  Device* device;          // where the collective's buffers lie; null: in the host's memory
};

// A collective with its buffers, and what is to be known of it.
class Measured : public Collective {
 public:
  // On a device, `padding` elements more than asked for can be reached behind each buffer.
  explicit Measured(const Setup& setup, std::int64_t padding = 0);

  // What this rank contributes and what it gets, in elements, in the host's memory; they are the same memory
  // where in place.
  struct Part {
    unsigned char* data;
    std::int64_t elements;
  };
  Part input();
  Part output();
  // Brings to the device what was written to them, and back what the collective left there.
  void upload();
  void download();

  virtual std::string implementation() const = 0;
  virtual std::int64_t workspace_bytes() const { return 0; }

 protected:
  const Setup& setup() const { return setup_; }
  const Communicator& communicator() const { return setup_.communicator; }
  std::int64_t share() const { return setup_.elements / setup_.communicator.size; }
  std::int64_t item() const { return element_bytes(setup_.type); }
  // input() and output() where the collective finds them: on the device, where there is one.
  unsigned char* source();
  unsigned char* target();

 private:
  bool shared() const { return send_.elements() == 0; }

  Setup setup_;
  std::int64_t contributed_;
  std::int64_t received_;
  std::int64_t input_offset_;
  std::int64_t output_offset_;
  Buffer send_;
  Buffer receive_;
  std::shared_ptr<void> device_send_;
  std::shared_ptr<void> device_receive_;
};

// MPI's name of the type in which elements travel.
const char* transfer_type(ElementType type);

// Point-to-point messages of elements of one type.
class Messages {
 public:
  Messages(const Communicator& communicator, ElementType type)
      : communicator_(communicator), type_(communicator.library->handle(transfer_type(type))) {}

  void send(const void* data, std::int64_t elements, int to) const;
  void receive(void* data, std::int64_t elements, int from) const;
  // Both at a time, so that neighbours that do the same cannot wait for each other.
  void exchange(const void* sent, std::int64_t sent_elements, int to, void* received,
                std::int64_t received_elements, int from) const;

 private:
  Communicator communicator_;
  Handle type_;
};

// The ranks of a ring in its order, and this rank's place among them. Data of n elements is cut into as many
// chunks as there are ranks.
class Ring {
 public:
  Ring(const Communicator& communicator, ElementType type, Combine* combine, std::vector<int> ranks);

  int size() const { return static_cast<int>(ranks_.size()); }
  std::int64_t begin(std::int64_t elements, int chunk) const { return elements * chunk / size(); }
  int place() const { return place_; }
  std::int64_t workspace_bytes() const {
    return static_cast<std::int64_t>(first_.capacity() + second_.capacity());
  }

  // Combines the chunk that belongs to this rank over the ring into `chunk`, which may lie in `in`.
  void reduce_scatter(const void* in, void* chunk, std::int64_t elements);
  // Spreads every rank's own chunk of `data` over the ring.
  void allgather(void* data, std::int64_t elements) const;

 private:
  int neighbour(int distance) const { return ranks_[static_cast<std::size_t>(wrapped(place_ + distance))]; }
  int wrapped(int chunk) const { return ((chunk % size()) + size()) % size(); }
  std::int64_t length(std::int64_t elements, int chunk) const {
    return begin(elements, chunk + 1) - begin(elements, chunk);
  }

  Messages messages_;
  std::int64_t item_;
  Combine* combine_;
  std::vector<int> ranks_;
  int place_;
  std::vector<unsigned char> first_;
  std::vector<unsigned char> second_;
};

std::vector<int> all_ranks(const Communicator& communicator);

// The ranks of each node. Throws Unsupported where there is one node, or where they have different numbers.
std::vector<std::vector<int>> ranks_by_node(const Setup& setup);
// The ranks in the row of `rank`, and those at its place in every row.
std::vector<int> row_of(const std::vector<std::vector<int>>& rows, int rank);
std::vector<int> column_of(const std::vector<std::vector<int>>& rows, int rank);

// Where the number of ranks is no power of two, the first 2r of them work in pairs, so that a power of two of
// participants is left.
struct Participants {
  explicit Participants(const Communicator& communicator);

  int count;    // a power of two
  int extra;    // ranks beyond it
  int number;   // this rank's among the participants; -1: its neighbour does its part
  int partner;  // this rank's neighbour in its pair; -1: it has none
  int rank(int participant) const { return participant < extra ? 2 * participant + 1 : participant + extra; }
};

std::unique_ptr<Measured> open(const Setup& setup);
// Names that `open` takes, those that lose nothing first; the library's own choice is always "auto".
std::vector<std::string> lossless_algorithms(const std::string& kernel, const std::string& library);
std::vector<std::string> lossy_algorithms(const std::string& kernel, const std::string& library);

std::unique_ptr<Measured> open_library(const Setup& setup);
std::unique_ptr<Measured> open_allreduce(const Setup& setup);
std::unique_ptr<Measured> open_lossy(const Setup& setup);
std::unique_ptr<Measured> open_other(const Setup& setup);

}  // namespace microbench::mpi
