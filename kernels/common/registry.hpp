#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/harness.hpp"

namespace microbench {

// How one library does one kernel. A harness's own file holds its Registration object.
struct Entry {
  std::string kernel;
  std::string library;
  std::function<std::unique_ptr<Harness>(const Request&)> open;
  // Every algorithm the library offers for the request, its own choice first; may be empty (only "auto").
  std::function<std::vector<std::string>(const Request&)> algorithms;
  // Version, configuration and path of the library found at `library_path`; throws Unsupported where it is
  // not.
  std::function<std::map<std::string, std::string>(const std::string& library_path)> describe;
};

const std::vector<Entry>& registry();
const Entry& find(const std::string& kernel, const std::string& library);

class Registration {
 public:
  // Throws std::logic_error where (kernel, library) is registered already.
  explicit Registration(Entry entry);
};

}  // namespace microbench
