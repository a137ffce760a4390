#pragma once

#include <algorithm>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <vector>

#include "common/error.hpp"
#include "common/harness.hpp"

namespace microbench::onednn {

// An engine and a stream on the CPU. Sets the number of threads, which is a property of the process.
class Context {
 public:
  explicit Context(int threads);
  const dnnl::engine& engine() const { return engine_; }
  const dnnl::stream& stream() const { return stream_; }

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
};

dnnl::memory::data_type data_type(ElementType type);

// Scratchpad given by the caller, so that its size is known; products in the stated precision, whatever
// ONEDNN_DEFAULT_FPMATH_MODE says.
dnnl::primitive_attr attributes();

std::map<std::string, std::string> describe(const std::string& library_path);

// Runs `create`; what oneDNN does not implement becomes Unsupported, naming `what`.
template <typename Create>
auto or_unsupported(const std::string& what, Create&& create) {
  try {
    return create();
  } catch (const dnnl::error& error) {
    if (error.status != dnnl_unimplemented) throw;
    throw Unsupported("oneDNN " + describe("").at("version") + " has no " + what + " on this processor");
  }
}

// The names of all implementations, oneDNN's own choice first. A name that comes again is numbered:
// "gemm:jit", "gemm:jit#2". `create` makes a new description each time: iterating one moves every copy of it.
template <typename Create>
std::vector<std::string> implementations(Create&& create) {
  auto description = create();
  std::vector<std::string> names;
  std::map<std::string, int> seen;
  do {
    const std::string name = description.impl_info_str();
    const int count = ++seen[name];
    names.push_back(count == 1 ? name : name + "#" + std::to_string(count));
  } while (description.next_impl());
  return names;
}

// The description of the implementation that the request names, its scratchpad held against the limit.
template <typename Create>
auto choose(Create&& create, const Request& request) {
  auto description = create();
  if (request.algorithm != "auto") {
    const std::vector<std::string> names = implementations(create);
    const auto found = std::find(names.begin(), names.end(), request.algorithm);
    if (found == names.end()) {
      throw Unsupported("oneDNN has no implementation '" + request.algorithm + "' for this problem");
    }
    for (auto step = names.begin(); step != found; ++step) description.next_impl();
  }
  const auto needed = static_cast<std::int64_t>(description.scratchpad_desc().get_size());
  if (needed > request.workspace_limit) throw WorkspaceExceeded(needed, request.workspace_limit);
  return description;
}

struct Argument {
  int index;
  dnnl::memory::desc description;
  void* data;
};

// A primitive with its arguments laid out once; run() is a single call into the library.
class Execution {
 public:
  Execution(const Context& context, const dnnl::primitive& primitive, const std::vector<Argument>& arguments);
  void run();

 private:
  dnnl::stream stream_;
  dnnl::primitive primitive_;
  std::vector<dnnl::memory> memories_;
  std::vector<dnnl_exec_arg_t> arguments_;
};

}  // namespace microbench::onednn
