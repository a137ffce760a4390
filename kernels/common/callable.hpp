#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/harness.hpp"

namespace microbench {

// An operand that a kernel written elsewhere asks for.
struct OperandSpec {
  std::string name;
  ElementType type;
  std::int64_t elements;
  bool is_output;
};

// Where an operand lies: an address of the host, or of the device.
struct OperandAddress {
  std::string name;
  ElementType type;
  std::int64_t elements;
  std::uintptr_t address;
};

// One execution; `stream` is the device's, 0 on a processor.
using Launch = std::function<void(std::uintptr_t stream)>;
// Called once, when the operands are there.
using Open = std::function<Launch(const std::vector<OperandAddress>&)>;

// A harness around a kernel that is not written here: a plug-in. Each kind of device defines its own.
std::unique_ptr<Harness> callable_harness(const std::vector<OperandSpec>& operands, const Open& open);

}  // namespace microbench
