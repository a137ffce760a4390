#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace microbench {

// The library, processor or device cannot do this: recorded as `unsupported` with the message as reason.
class Unsupported : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The algorithm needs more workspace than allowed: recorded as `workspace_exceeded`.
class WorkspaceExceeded : public std::runtime_error {
 public:
  WorkspaceExceeded(std::int64_t needed, std::int64_t limit)
      : std::runtime_error("needs " + std::to_string(needed) + " bytes of workspace, the limit is " +
                           std::to_string(limit)),
        needed_(needed) {}

  std::int64_t needed() const { return needed_; }

 private:
  std::int64_t needed_;
};

}  // namespace microbench
