#pragma once

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "conv/cudnn.hpp"
#include "conv/cudnn_backend.hpp"

// The graph of one convolution in cuDNN's graph interface, the engines that can run it and the heuristics'
// choices among them.
namespace microbench::conv {

using cuda::BackendDescriptor;

inline constexpr std::int64_t kMostNotes = 64;
inline constexpr std::int64_t kMostKnobs = 128;

// In the order of cuDNN's enumerators, whose values do not change; newer ones than these are numbered.
inline constexpr std::array<const char*, 10> kNumericalNotes{"tensor_core",
                                                             "down_convert_inputs",
                                                             "reduced_precision_reduction",
                                                             "fft",
                                                             "nondeterministic",
                                                             "winograd",
                                                             "winograd_tile_4x4",
                                                             "winograd_tile_6x6",
                                                             "winograd_tile_13x13",
                                                             "strict_nan_propagation"};
inline constexpr std::array<const char*, 5> kBehaviorNotes{
    "runtime_compilation", "requires_filter_int8x32_reorder", "requires_bias_int8x32_reorder",
    "cuda_graph_native", "cublaslt_dependency"};

template <std::size_t kCount, typename Note>
std::vector<std::string> names_of(const std::array<const char*, kCount>& names,
                                  const std::vector<Note>& notes) {
  std::vector<std::string> all;
  for (const Note note : notes) {
    const auto index = static_cast<std::size_t>(note);
    all.push_back(index < kCount ? names[index] : "note_" + std::to_string(index));
  }
  return all;
}

inline bool contains(const std::vector<std::string>& all, const std::string& one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

// What can be said of an engine.
struct Notes {
  std::vector<std::string> numerical, behavior;

  explicit Notes(const BackendDescriptor& engine)
      : numerical(names_of(kNumericalNotes, engine.get<cudnnBackendNumericalNote_t>(
                                                CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, kMostNotes))),
        behavior(names_of(kBehaviorNotes, engine.get<cudnnBackendBehaviorNote_t>(
                                              CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, kMostNotes))) {}

  std::string text() const {
    std::string joined;
    for (const std::vector<std::string>* notes : {&numerical, &behavior}) {
      for (const std::string& note : *notes) joined += (joined.empty() ? "" : " ") + note;
    }
    return joined;
  }
};

// Why an engine computes in another precision than the one asked for; "" where it does not. The graph of fp32
// and that of tf32 are the same: only the notes tell which engines round the operands of products.
inline std::string other_precision(const Notes& notes, const std::string& precision) {
  const bool tensor_core = contains(notes.numerical, "tensor_core");
  const bool rounds = tensor_core || contains(notes.numerical, "down_convert_inputs");
  if (precision == "fp32" && rounds) return "it rounds fp32 operands for tensor cores, which is tf32";
  if (precision == "tf32" && !rounds) return "it multiplies in fp32, not in tf32";
  if (contains(notes.numerical, "reduced_precision_reduction")) {
    return "it sums up in less than fp32, by its note reduced_precision_reduction";
  }
  if (contains(notes.behavior, "requires_filter_int8x32_reorder")) {
    return "it needs filters reordered for int8x32";
  }
  return "";
}

// An engine with the knobs that differ from its defaults; "engine_12_k2=14_k13=1".
struct Configuration {
  std::int64_t engine;
  std::map<int, std::int64_t> knobs;

  std::string name() const {
    std::string text = "engine_" + std::to_string(engine);
    for (const auto& [type, value] : knobs) {
      text += "_k" + std::to_string(type) + "=" + std::to_string(value);
    }
    return text;
  }

  // Throws Unsupported for what is no such name.
  static Configuration of_name(const std::string& name) {
    const std::optional<Configuration> parsed = parse(name);
    if (!parsed) {
      throw Unsupported("cuDNN has no convolution algorithm '" + name +
                        "' for this pass: there are its classic ones and engine_N with knobs");
    }
    return *parsed;
  }

  static std::optional<Configuration> parse(const std::string& name) {
    Configuration configuration{};
    int used = 0;
    const char* rest = name.c_str();
    long long number = 0;
    if (std::sscanf(rest, "engine_%lld%n", &number, &used) == 1) {
      configuration.engine = number;
      rest += used;
      int type = 0;
      while (std::sscanf(rest, "_k%d=%lld%n", &type, &number, &used) == 2) {
        configuration.knobs[type] = number;
        rest += used;
      }
    }
    // Only a name as name() writes it says what will be run.
    if (configuration.name() != name) return std::nullopt;
    return configuration;
  }

  static Configuration of_descriptor(const BackendDescriptor& configuration) {
    const std::vector<BackendDescriptor> engines =
        configuration.get(CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR, 1);
    Configuration found{engines.at(0).get<std::int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX), {}};
    for (const BackendDescriptor& choice : configuration.get(
             CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, kMostKnobs)) {
      const auto type = choice.get<cudnnBackendKnobType_t>(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE);
      found.knobs[static_cast<int>(type)] = choice.get<std::int64_t>(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE);
    }
    return found;
  }
};

inline constexpr std::int64_t kInput = 1, kWeights = 2, kOutput = 3;  // the tensors' identifiers in the graph

// The graph of one convolution and nothing else.
class Graph {
 public:
  Graph(cudnnHandle_t handle, const Shape& shape, const cuda::CudnnPrecision& precision)
      : types_(shape.pass, precision),
        input_(tensor(kInput, types_.input, {shape.n, shape.c, shape.h, shape.w}, input_view(shape))),
        weights_(tensor(kWeights, types_.weights, {shape.k, shape.group_c(), shape.r, shape.s},
                        filter_view(shape))),
        output_(tensor(kOutput, types_.output, {shape.n, shape.k, shape.out_h(), shape.out_w()},
                       output_view(shape))),
        convolution_(convolution(shape, precision)),
        operation_(operation(shape.pass, precision)),
        graph_(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR) {
    graph_.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, handle);
    graph_.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, operation_);
    graph_.finalize();
  }

  std::int64_t engines() const {
    return graph_.get<std::int64_t>(CUDNN_ATTR_OPERATIONGRAPH_ENGINE_GLOBAL_COUNT);
  }

  // Throws Unsupported where the engine does not take this convolution.
  BackendDescriptor engine(std::int64_t index) const {
    BackendDescriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    engine.set(CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph_);
    engine.set(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, index);
    engine.finalize();
    return engine;
  }

  // What a heuristic recommends, best first; nothing where it does not know this convolution.
  std::vector<Configuration> recommended(cudnnBackendHeurMode_t mode) const {
    std::vector<Configuration> all;
    try {
      BackendDescriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
      heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph_);
      heuristic.set(CUDNN_ATTR_ENGINEHEUR_MODE, mode);
      heuristic.finalize();
      for (const BackendDescriptor& configuration :
           heuristic.get(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR,
                         heuristic.count(CUDNN_ATTR_ENGINEHEUR_RESULTS))) {
        all.push_back(Configuration::of_descriptor(configuration));
      }
    } catch (const Unsupported&) {
      return {};
    }
    return all;
  }

 private:
  static BackendDescriptor tensor(std::int64_t id, cudnnDataType_t type,
                                  const std::vector<std::int64_t>& sizes, const View& view) {
    constexpr std::int64_t kAlignment = 16;  // device memory is aligned to more
    BackendDescriptor tensor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    tensor.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, id);
    tensor.set(CUDNN_ATTR_TENSOR_DATA_TYPE, type);
    tensor.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, kAlignment);
    tensor.set(CUDNN_ATTR_TENSOR_DIMENSIONS, sizes);
    tensor.set(CUDNN_ATTR_TENSOR_STRIDES, std::vector<std::int64_t>{view.n, view.c, view.h, view.w});
    tensor.finalize();
    return tensor;
  }

  static BackendDescriptor convolution(const Shape& shape, const cuda::CudnnPrecision& precision) {
    using Sizes = std::vector<std::int64_t>;
    BackendDescriptor convolution(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    convolution.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, precision.compute);
    convolution.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_CROSS_CORRELATION);
    convolution.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, std::int64_t{2});
    convolution.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, Sizes{shape.pad_h, shape.pad_w});
    convolution.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, Sizes{shape.pad_h, shape.pad_w});
    convolution.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, Sizes{shape.stride_h, shape.stride_w});
    convolution.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, Sizes{shape.dilation_h, shape.dilation_w});
    convolution.finalize();
    return convolution;
  }

  // The attributes of the operation of a pass.
  struct Operation {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t convolution, input, weights, output, alpha, beta;
  };
  static Operation operation_of(Pass pass) {
    switch (pass) {
      case Pass::forward:
        return {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
      case Pass::backward_data:
        return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
      case Pass::backward_weights:
        return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
    }
    throw std::logic_error("unknown pass");
  }

  BackendDescriptor operation(Pass pass, const cuda::CudnnPrecision& precision) const {
    const Operation names = operation_of(pass);
    BackendDescriptor operation(names.type);
    operation.set(names.convolution, convolution_);
    operation.set(names.input, input_);
    operation.set(names.weights, weights_);
    operation.set(names.output, output_);
    if (precision.compute == CUDNN_DATA_DOUBLE) {
      operation.set(names.alpha, 1.0);
      operation.set(names.beta, 0.0);
    } else {
      operation.set(names.alpha, 1.0F);
      operation.set(names.beta, 0.0F);
    }
    operation.finalize();
    return operation;
  }

  TensorTypes types_;
  BackendDescriptor input_, weights_, output_, convolution_, operation_, graph_;
};

// A heuristic; `pick` is the algorithm's name that stands for its choice.
struct Mode {
  const char* name;
  const char* pick;
  cudnnBackendHeurMode_t mode;
};
inline constexpr std::array<Mode, 3> kModes{{{"A", "heuristic_a", CUDNN_HEUR_MODE_A},
                                             {"B", "heuristic_b", CUDNN_HEUR_MODE_B},
                                             {"fallback", "heuristic_fallback", CUDNN_HEUR_MODE_FALLBACK}}};

// The heuristics that the algorithm leaves the choice to, in turn; none where it names an engine.
inline std::vector<cudnnBackendHeurMode_t> choosers(const std::string& algorithm) {
  if (algorithm == "auto") return {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK};
  for (const Mode& each : kModes) {
    if (algorithm == each.pick) return {each.mode};
  }
  return {};
}

// Which heuristics recommend the configuration, and in which place.
inline std::string marks(const Graph& graph, const std::string& name) {
  std::string text;
  for (const Mode& mode : kModes) {
    const std::vector<Configuration> all = graph.recommended(mode.mode);
    for (std::size_t place = 0; place < all.size(); ++place) {
      if (all[place].name() != name) continue;
      text += std::string(", heuristic ") + mode.name + " " + std::to_string(place + 1) + " of " +
              std::to_string(all.size());
      break;
    }
  }
  return text;
}

}  // namespace microbench::conv
