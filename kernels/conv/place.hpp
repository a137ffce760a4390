#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "conv/shape.hpp"

namespace microbench::conv {

// An operand, or the part of it that belongs to some images.
struct Span {
  void* data;
  std::int64_t elements;

  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

// Memory for a harness that has none of its own: operands of some images of a larger batch, and a workspace
// that it shares with others.
struct Place {
  Span input, weights, output;
  // Asked once, for exactly the bytes needed; null as long as they are only counted.
  std::function<void*(std::int64_t)> workspace;
};

// The operands of a harness: its own where `place` is null.
class PlacedOperands {
 public:
  PlacedOperands(const Shape& shape, ElementType storage, ElementType result, const Place* place)
      : own_(place == nullptr ? std::make_optional<Operands>(shape, storage, result) : std::nullopt),
        input(own_ ? span(own_->input) : place->input),
        weights(own_ ? span(own_->weights) : place->weights),
        output(own_ ? span(own_->output) : place->output) {}

  // Of a harness that owns them.
  std::vector<Operand> list(Pass pass) { return own_.value().list(pass); }

 private:
  static Span span(Buffer& buffer) { return {buffer.data(), buffer.elements()}; }

  std::optional<Operands> own_;  // first: the others point into it

 public:
  Span input, weights, output;
};

// What a harness works in beside its operands: its own where `place` is null.
class Workspace {
 public:
  // Throws WorkspaceExceeded before anything is allocated.
  Workspace(std::int64_t bytes, std::int64_t limit, const Place* place) : bytes_(bytes) {
    if (bytes > limit) throw WorkspaceExceeded(bytes, limit);
    data_ = place == nullptr ? own_.emplace(bytes).data() : place->workspace(bytes);
  }

  std::int64_t bytes() const { return bytes_; }
  void* data() const { return data_; }

 private:
  std::int64_t bytes_;
  void* data_;
  std::optional<Memory> own_;
};

}  // namespace microbench::conv
