#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#include "common/memory.hpp"

namespace microbench {

enum class ElementType { float64, float32, float16, bfloat16, float8_e4m3, float8_e5m2, int8, int32 };

constexpr std::int64_t element_bytes(ElementType type) {
  switch (type) {
    case ElementType::float64:
      return 8;
    case ElementType::float32:
    case ElementType::int32:
      return 4;
    case ElementType::float16:
    case ElementType::bfloat16:
      return 2;
    case ElementType::float8_e4m3:
    case ElementType::float8_e5m2:
    case ElementType::int8:
      return 1;
  }
  throw std::logic_error("unknown element type");
}

constexpr const char* name_of(ElementType type) {
  switch (type) {
    case ElementType::float64:
      return "float64";
    case ElementType::float32:
      return "float32";
    case ElementType::float16:
      return "float16";
    case ElementType::bfloat16:
      return "bfloat16";
    case ElementType::float8_e4m3:
      return "float8_e4m3fn";
    case ElementType::float8_e5m2:
      return "float8_e5m2";
    case ElementType::int8:
      return "int8";
    case ElementType::int32:
      return "int32";
  }
  throw std::logic_error("unknown element type");
}

// The type called `name`; throws std::invalid_argument where there is none.
inline ElementType element_type(const std::string& name) {
  for (const ElementType type :
       {ElementType::float64, ElementType::float32, ElementType::float16, ElementType::bfloat16,
        ElementType::float8_e4m3, ElementType::float8_e5m2, ElementType::int8, ElementType::int32}) {
    if (name == name_of(type)) return type;
  }
  throw std::invalid_argument("no element type '" + name + "'");
}

// One operand of a kernel in the device's memory, owned by its harness.
class Buffer {
 public:
  Buffer(ElementType type, std::int64_t elements)
      : type_(type), elements_(elements), memory_(elements * element_bytes(type)) {}

  ElementType type() const { return type_; }
  std::int64_t elements() const { return elements_; }
  std::int64_t bytes() const { return memory_.bytes(); }
  void* data() { return memory_.data(); }
  const void* data() const { return memory_.data(); }
  template <typename T>
  T* as() {
    return static_cast<T*>(data());
  }

 private:
  ElementType type_;
  std::int64_t elements_;
  Memory memory_;
};

// A buffer under the name that the kernel's Python module gives it.
struct Operand {
  std::string name;
  Buffer* buffer;
  bool is_output;
};

using Value = std::variant<bool, std::int64_t, double, std::string>;

// Everything that chooses one harness. Sizes and names arrive checked from Python.
struct Request {
  std::string kernel;
  std::string library;
  std::string library_path;  // the shared object to load; empty where the library is linked
  std::string algorithm;     // "auto" is the library's own choice
  std::string precision;
  std::map<std::string, Value> problem;  // the problem's columns, and "pass" and "layout"
  int threads = 1;
  std::int64_t workspace_limit = INT64_MAX;

  std::int64_t integer(const std::string& name) const { return std::get<std::int64_t>(problem.at(name)); }
  bool boolean(const std::string& name) const { return std::get<bool>(problem.at(name)); }
  const std::string& text(const std::string& name) const { return std::get<std::string>(problem.at(name)); }
};

// One kernel of one library, made ready once: launch() executes it and does nothing else.
class Harness {
 public:
  Harness() = default;
  // Holds library objects that point into the buffers.
  Harness(const Harness&) = delete;
  Harness& operator=(const Harness&) = delete;
  virtual ~Harness() = default;

  // Called, untimed, whenever the inputs have been written anew: for what a kernel needs made from them first
  // (a training forward before its backward, packed weights).
  virtual void prepare() {}
  virtual void launch() = 0;
  // Called, untimed, before the outputs are read: for devices with memory of their own.
  virtual void collect() {}

  virtual std::vector<Operand> operands() = 0;
  // What the library really runs, e.g. the name of its implementation.
  virtual std::string implementation() const = 0;
  virtual std::int64_t workspace_bytes() const = 0;
};

}  // namespace microbench
