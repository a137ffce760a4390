#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>

#include "convolution.hpp"

// The graph interface: descriptors keep what is set; finalizing an engine answers from a table.
namespace fake {

// What is wrong, for cudnnGetLastErrorString.
inline std::string& last_error() {
  static std::string text;
  return text;
}
inline cudnnStatus_t refuse(cudnnStatus_t status, const std::string& why) {
  last_error() = why;
  return status;
}

struct Engine {
  std::vector<int> numerical, behavior;
  std::int64_t workspace;
};
inline const std::map<std::int64_t, Engine>& engines() {
  static const std::map<std::int64_t, Engine> table{
      {0, {{}, {}, 0}},
      {1, {{CUDNN_NUMERICAL_NOTE_TENSOR_CORE}, {CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION}, 4096}},
      {2, {{CUDNN_NUMERICAL_NOTE_FFT, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC}, {}, 1 << 20}},
      // 3 takes no convolution.
      {4, {{CUDNN_NUMERICAL_NOTE_WINOGRAD, CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6}, {}, 65536}},
      {5, {{CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION}, {}, 0}},
      {6, {{CUDNN_NUMERICAL_NOTE_TENSOR_CORE, 50}, {40}, 0}}};  // notes of a later version
  return table;
}
constexpr std::int64_t kEngines = 7;

struct Descriptor {
  struct Values {
    cudnnBackendAttributeType_t type{};
    std::int64_t count = 0;
    std::vector<char> bytes;
  };
  cudnnBackendDescriptorType_t type;
  bool finalized = false;
  std::map<cudnnBackendAttributeName_t, Values> attributes;

  template <typename T>
  std::vector<T> all(cudnnBackendAttributeName_t name) const {
    const auto found = attributes.find(name);
    if (found == attributes.end()) return {};
    std::vector<T> values(static_cast<std::size_t>(found->second.count));
    std::memcpy(values.data(), found->second.bytes.data(), found->second.bytes.size());
    return values;
  }
  template <typename T>
  T one(cudnnBackendAttributeName_t name) const {
    return all<T>(name).at(0);
  }
  template <typename T>
  void put(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t value_type,
           const std::vector<T>& values) {
    Values stored{value_type, static_cast<std::int64_t>(values.size()), {}};
    stored.bytes.resize(values.size() * sizeof(T));
    if (!values.empty()) std::memcpy(stored.bytes.data(), values.data(), stored.bytes.size());
    attributes[name] = stored;
  }
  // Throws std::out_of_range where the descriptor is gone.
  const Descriptor& descriptor(cudnnBackendAttributeName_t name) const;
};

inline std::set<void*>& alive() {
  static std::set<void*> all;
  return all;
}

inline const Descriptor& Descriptor::descriptor(cudnnBackendAttributeName_t name) const {
  auto* found = one<void*>(name);
  if (alive().count(found) == 0) throw std::out_of_range("a descriptor that is in use was destroyed");
  return *static_cast<Descriptor*>(found);
}

inline std::size_t bytes_of_attribute(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
      return 8;
    default:
      return 4;
  }
}

// An engine with its knobs, as the heuristics recommend them.
struct Recommended {
  std::int64_t engine;
  std::map<int, std::int64_t> knobs;
};
inline std::vector<Recommended> recommended(cudnnBackendHeurMode_t mode) {
  if (mode == CUDNN_HEUR_MODE_A) {
    return {{1, {{CUDNN_KNOB_TYPE_TILE_SIZE, 5}, {CUDNN_KNOB_TYPE_TILEK, 1}}}, {0, {}}, {2, {}}};
  }
  if (mode == CUDNN_HEUR_MODE_B)
    return {{2, {}}, {1, {{CUDNN_KNOB_TYPE_TILE_SIZE, 5}, {CUDNN_KNOB_TYPE_TILEK, 1}}}};
  return {{0, {}}};
}

// Tensors of an operation's attribute.
inline Tensor tensor_of(const Descriptor& operation, cudnnBackendAttributeName_t name,
                        std::int64_t* id = nullptr) {
  const Descriptor& described = operation.descriptor(name);
  Tensor tensor;
  tensor.type = described.one<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE);
  for (std::size_t i = 0; i < tensor.sizes.size(); ++i) {
    tensor.sizes[i] = described.all<std::int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS).at(i);
    tensor.strides[i] = described.all<std::int64_t>(CUDNN_ATTR_TENSOR_STRIDES).at(i);
  }
  if (id != nullptr) *id = described.one<std::int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID);
  return tensor;
}

struct Roles {
  Result result;
  cudnnBackendAttributeName_t convolution, x, w, y, alpha, beta;
};
inline Roles roles_of(cudnnBackendDescriptorType_t type) {
  switch (type) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
      return {Result::output,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
      return {Result::input,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
    default:
      return {Result::weights,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
  }
}

inline Window window_of(const Descriptor& described) {
  const auto pair = [&](cudnnBackendAttributeName_t name) {
    const auto values = described.all<std::int64_t>(name);
    return std::array<std::int64_t, 2>{values.at(0), values.at(1)};
  };
  return {pair(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS), pair(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES),
          pair(CUDNN_ATTR_CONVOLUTION_DILATIONS)};
}

// The operation behind a plan.
inline const Descriptor& configuration_of(const Descriptor& plan) {
  return plan.descriptor(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
}
inline const Descriptor& operation_of(const Descriptor& plan) {
  return configuration_of(plan)
      .descriptor(CUDNN_ATTR_ENGINECFG_ENGINE)
      .descriptor(CUDNN_ATTR_ENGINE_OPERATION_GRAPH)
      .descriptor(CUDNN_ATTR_OPERATIONGRAPH_OPS);
}

inline cudnnStatus_t finalize_engine(Descriptor& engine) {
  const auto index = engine.one<std::int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
  if (index < 0 || index >= kEngines) {
    return refuse(CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND, "there is no engine " + std::to_string(index));
  }
  const auto known = engines().find(index);
  if (known == engines().end()) {
    return refuse(CUDNN_STATUS_NOT_SUPPORTED_LAYOUT,
                  "engine " + std::to_string(index) + " takes no such layout");
  }
  const Descriptor& operation =
      engine.descriptor(CUDNN_ATTR_ENGINE_OPERATION_GRAPH).descriptor(CUDNN_ATTR_OPERATIONGRAPH_OPS);
  const Roles roles = roles_of(operation.type);
  if (index == 4 &&
      !takes_winograd(tensor_of(operation, roles.w), window_of(operation.descriptor(roles.convolution)))) {
    return refuse(CUDNN_STATUS_NOT_SUPPORTED_SHAPE, "engine 4 needs 3x3 filters and stride 1");
  }
  engine.put(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, known->second.numerical);
  engine.put(CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE, known->second.behavior);
  return CUDNN_STATUS_SUCCESS;
}

// A knob's value whose kernel the run-time compiler refuses.
constexpr std::int64_t kNotCompiling = 99;

inline cudnnStatus_t finalize_plan(Descriptor& plan) {
  const Descriptor& configuration = configuration_of(plan);
  const auto engine =
      configuration.descriptor(CUDNN_ATTR_ENGINECFG_ENGINE).one<std::int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
  std::int64_t workspace = engines().at(engine).workspace;
  for (void* knob : configuration.all<void*>(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES)) {
    const auto value = static_cast<Descriptor*>(knob)->one<std::int64_t>(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE);
    if (value == kNotCompiling) {
      return refuse(CUDNN_STATUS_INTERNAL_ERROR_COMPILATION_FAILED, "this tile does not compile");
    }
    workspace += value;
  }
  plan.put(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, std::vector<std::int64_t>{workspace});
  return CUDNN_STATUS_SUCCESS;
}

inline cudnnStatus_t finalize(Descriptor& descriptor) {
  switch (descriptor.type) {
    case CUDNN_BACKEND_ENGINE_DESCRIPTOR:
      return finalize_engine(descriptor);
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
      return finalize_plan(descriptor);
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
      descriptor.put(CUDNN_ATTR_OPERATIONGRAPH_ENGINE_GLOBAL_COUNT, CUDNN_TYPE_INT64,
                     std::vector<std::int64_t>{kEngines});
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR: {
      const Descriptor& operation = descriptor.descriptor(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH)
                                        .descriptor(CUDNN_ATTR_OPERATIONGRAPH_OPS);
      const Roles roles = roles_of(operation.type);
      const bool grouped = tensor_of(operation, roles.x).sizes[1] != tensor_of(operation, roles.w).sizes[1];
      if (grouped && descriptor.one<int>(CUDNN_ATTR_ENGINEHEUR_MODE) == CUDNN_HEUR_MODE_B) {
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "heuristic B knows no groups");
      }
      return CUDNN_STATUS_SUCCESS;
    }
    default:
      return CUDNN_STATUS_SUCCESS;
  }
}

// Fills the configurations that a heuristic was asked for.
inline void fill(const Descriptor& heuristic, std::int64_t wanted, std::int64_t* count, void** into) {
  const auto all = recommended(heuristic.one<cudnnBackendHeurMode_t>(CUDNN_ATTR_ENGINEHEUR_MODE));
  *count = static_cast<std::int64_t>(all.size());
  static std::vector<std::unique_ptr<Descriptor>> kept;  // what the configurations refer to
  for (std::int64_t i = 0; i < std::min(wanted, *count); ++i) {
    const Recommended& each = all[static_cast<std::size_t>(i)];
    auto& configuration = *static_cast<Descriptor*>(into[i]);
    const auto keep = [](Descriptor made) {
      kept.push_back(std::make_unique<Descriptor>(std::move(made)));
      alive().insert(kept.back().get());
      return kept.back().get();
    };
    Descriptor engine{CUDNN_BACKEND_ENGINE_DESCRIPTOR, true, {}};
    engine.put(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, std::vector<std::int64_t>{each.engine});
    configuration.put(CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                      std::vector<void*>{keep(std::move(engine))});
    std::vector<void*> knobs;
    for (const auto& [type, value] : each.knobs) {
      Descriptor knob{CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, true, {}};
      knob.put(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, std::vector<int>{type});
      knob.put(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, std::vector<std::int64_t>{value});
      knobs.push_back(keep(std::move(knob)));
    }
    configuration.put(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, knobs);
    configuration.finalized = true;
  }
}

inline cudnnStatus_t execute(cudaStream_t stream, const Descriptor& plan, const Descriptor& pack) {
  const Descriptor& operation = operation_of(plan);
  const Roles roles = roles_of(operation.type);
  const Descriptor& described = operation.descriptor(roles.convolution);
  const auto ids = pack.all<std::int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
  const auto pointers = pack.all<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
  const auto data_of = [&](std::int64_t id) {
    return pointers.at(static_cast<std::size_t>(std::find(ids.begin(), ids.end(), id) - ids.begin()));
  };
  const auto bytes = plan.one<std::int64_t>(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
  auto* workspace = pack.one<void*>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
  if (bytes > 0 && workspace == nullptr) return refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "no workspace");
  const Window window = window_of(described);
  std::int64_t x_id = 0, w_id = 0, y_id = 0;
  const Tensor x = tensor_of(operation, roles.x, &x_id), w = tensor_of(operation, roles.w, &w_id),
               y = tensor_of(operation, roles.y, &y_id);
  const auto scale = [&](cudnnBackendAttributeName_t name) {
    return operation.attributes.at(name).type == CUDNN_TYPE_DOUBLE
               ? operation.one<double>(name)
               : static_cast<double>(operation.one<float>(name));
  };
  if (scale(roles.alpha) != 1) return refuse(CUDNN_STATUS_NOT_SUPPORTED, "alpha is not 1");
  const auto notes = configuration_of(plan)
                         .descriptor(CUDNN_ATTR_ENGINECFG_ENGINE)
                         .all<int>(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE);
  const bool short_products = w.type == CUDNN_DATA_FLOAT &&
                              std::count(notes.begin(), notes.end(), CUDNN_NUMERICAL_NOTE_TENSOR_CORE) > 0;
  stream->run(seconds_of(w, y), [=, x_data = data_of(x_id), w_data = data_of(w_id), y_data = data_of(y_id),
                                 beta = scale(roles.beta)] {
    if (bytes > 0) std::memset(workspace, 0xAB, static_cast<std::size_t>(bytes));
    convolve(roles.result, window, x, x_data, w, w_data, y, y_data, beta, short_products);
  });
  return CUDNN_STATUS_SUCCESS;
}

}  // namespace fake
