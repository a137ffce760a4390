// Convolution through cuDNN, by both of its interfaces.

#include "conv/cudnn.hpp"

#include <algorithm>

#include "common/registry.hpp"

namespace microbench::conv {
namespace {

// Loads the library; returns the pass, which must be one that the precision is for.
Pass pass_of(const Request& request) {
  cuda::cudnn(request.library_path);
  const Pass pass = Shape(request).pass;
  if (request.precision == "int8" && pass != Pass::forward) {
    throw Unsupported("int8 is for inference: only the forward pass is offered");
  }
  return pass;
}

std::unique_ptr<Harness> open(const Request& request) {
  const std::vector<std::string> classic = classic_algorithms(pass_of(request));
  const bool is_classic = std::find(classic.begin(), classic.end(), request.algorithm) != classic.end();
  return is_classic ? open_classic(request) : open_graph(request);
}

std::vector<std::string> algorithms(const Request& request) {
  const std::vector<std::string> classic = classic_algorithms(pass_of(request));
  std::vector<std::string> names = graph_algorithms(request);
  names.insert(names.end(), classic.begin(), classic.end());
  return names;
}

const Registration registration({"conv", "cudnn", open, algorithms, cuda::describe_cudnn});

}  // namespace
}  // namespace microbench::conv
