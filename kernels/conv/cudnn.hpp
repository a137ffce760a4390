#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/cuda/cudnn_objects.hpp"
#include "common/cuda/harness.hpp"
#include "conv/shape.hpp"

namespace microbench::conv {

using DeviceOperands = OperandsIn<cuda::Buffer, cuda::DeviceOperand>;

// The operands' types in cuDNN's terms, known before the operands are made.
struct TensorTypes {
  cudnnDataType_t input, weights, output;

  TensorTypes(Pass pass, const cuda::CudnnPrecision& precision)
      : input(cuda::cudnn_type(pass == Pass::backward_data ? precision.output : precision.storage)),
        weights(cuda::cudnn_type(pass == Pass::backward_weights ? precision.output : precision.storage)),
        output(cuda::cudnn_type(pass == Pass::forward ? precision.output : precision.storage)) {}
};

// cuDNN's classic interface: one name for each enumerator of the pass, also of those that cuDNN does not
// implement or no longer supports on this device: cuDNN says so itself when they are opened. Then "find", the
// one that cuDNN's Find times fastest within the workspace limit, when it is opened.
std::vector<std::string> classic_algorithms(Pass pass);
std::unique_ptr<Harness> open_classic(const Request& request);

// cuDNN's graph interface. Names are "engine_N", all knobs at their defaults, and "engine_N_kT=V_kT=V": knob
// type T (a number of cudnnBackendKnobType_t) set to V, as the heuristics choose them. First come the
// heuristics' choices (modes A, B and fallback), then every other engine that takes this convolution in this
// precision; "auto" is the first one that can be had. "heuristic_a", "heuristic_b" and "heuristic_fallback"
// are the first of one heuristic that can be had, listed for who names one.
std::vector<std::string> graph_algorithms(const Request& request);
std::unique_ptr<Harness> open_graph(const Request& request);

}  // namespace microbench::conv
