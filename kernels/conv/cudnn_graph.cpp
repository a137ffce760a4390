// cuDNN's graph interface: a graph of one convolution, the engines that can run it, and the heuristics'
// choices among them and their knobs. Finalising a plan may compile kernels at run time: that is part of
// opening.

#include <map>
#include <optional>

#include "conv/cudnn_engines.hpp"

namespace microbench::conv {
namespace {

// An engine with its knobs as the request names them, ready to run.
struct Plan {
  Configuration configuration;
  BackendDescriptor engine;
  Notes notes;
  std::vector<BackendDescriptor> choices;
  BackendDescriptor settings, plan;
  std::int64_t workspace_bytes;

  Plan(cudnnHandle_t handle, const Graph& graph, Configuration chosen, const std::string& precision)
      : configuration(std::move(chosen)),
        engine(graph.engine(configuration.engine)),
        notes(engine),
        settings(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR),
        plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) {
    const std::string other = other_precision(notes, precision);
    if (!other.empty()) throw Unsupported(configuration.name() + " does no " + precision + ": " + other);
    for (const auto& [type, value] : configuration.knobs) {
      BackendDescriptor& choice = choices.emplace_back(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
      choice.set(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, static_cast<cudnnBackendKnobType_t>(type));
      choice.set(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, value);
      choice.finalize();
    }
    settings.set(CUDNN_ATTR_ENGINECFG_ENGINE, engine);
    if (!choices.empty()) settings.set(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, choices);
    settings.finalize();
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, handle);
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, settings);
    plan.finalize();
    workspace_bytes = plan.get<std::int64_t>(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
  }
};

// The plan that the request names, or the first one that the heuristics it names recommend and that can be
// had within the workspace's limit.
Plan choose(cudnnHandle_t handle, const Graph& graph, const Request& request) {
  const std::vector<cudnnBackendHeurMode_t> modes = choosers(request.algorithm);
  if (modes.empty()) {
    Plan plan(handle, graph, Configuration::of_name(request.algorithm), request.precision);
    cuda::within(request.workspace_limit, plan.workspace_bytes);
    return plan;
  }
  std::string refusals;
  std::optional<std::int64_t> smallest;
  for (const cudnnBackendHeurMode_t mode : modes) {
    for (Configuration& configuration : graph.recommended(mode)) {
      try {
        Plan plan(handle, graph, std::move(configuration), request.precision);
        if (plan.workspace_bytes <= request.workspace_limit) return plan;
        smallest = std::min(smallest.value_or(plan.workspace_bytes), plan.workspace_bytes);
      } catch (const Unsupported& refusal) {
        refusals += std::string(refusals.empty() ? "" : "; ") + refusal.what();
      }
    }
  }
  if (smallest) throw WorkspaceExceeded(*smallest, request.workspace_limit);
  throw Unsupported("none of the engines that cuDNN's heuristics recommend can be had" +
                    (refusals.empty() ? " (they recommend none)" : ": " + refusals));
}

class GraphConvolution final : public cuda::CudaHarness {
 public:
  explicit GraphConvolution(const Request& request)
      : shape_(request),
        precision_(cuda::cudnn_precision(request.precision)),
        handle_(stream()),
        graph_(handle_, shape_, precision_),
        plan_(choose(handle_, graph_, request)),
        workspace_(plan_.workspace_bytes),
        operands_(shape_, precision_.storage, precision_.output),
        implementation_(described()) {}

  void enqueue(cudaStream_t stream) override {
    handle_.use(stream);
    MICROBENCH_CUDNN(cudnnBackendExecute, handle_, plan_.plan, variant_pack());
  }

  std::vector<cuda::DeviceOperand> device_operands() override { return operands_.list(shape_.pass); }
  std::string implementation() const override { return implementation_; }
  std::int64_t workspace_bytes() const override { return workspace_.bytes(); }

 private:
  using Pointers = std::vector<void*>;

  std::string described() const {
    const std::string notes = plan_.notes.text(), name = plan_.configuration.name();
    return name + (notes.empty() ? "" : ": " + notes) + marks(graph_, name);
  }

  // What binds the tensors to memory: made anew for each set of buffers that samples rotate through, once.
  const BackendDescriptor& variant_pack() {
    const Pointers pointers{operands_.input.data(), operands_.weights.data(), operands_.output.data()};
    const auto known = packs_.find(pointers);
    if (known != packs_.end()) return known->second;
    BackendDescriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, std::vector<std::int64_t>{kInput, kWeights, kOutput});
    pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, pointers);
    pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, workspace_.data());
    pack.finalize();
    return packs_.emplace(pointers, std::move(pack)).first->second;
  }

  Shape shape_;
  cuda::CudnnPrecision precision_;
  cuda::CudnnHandle handle_;
  Graph graph_;
  Plan plan_;
  cuda::Memory workspace_;
  DeviceOperands operands_;
  std::map<Pointers, BackendDescriptor> packs_;
  std::string implementation_;
};

}  // namespace

std::vector<std::string> graph_algorithms(const Request& request) {
  const Shape shape(request);
  const cuda::Stream stream;
  const cuda::CudnnHandle handle(stream);
  const Graph graph(handle, shape, cuda::cudnn_precision(request.precision));
  std::vector<std::string> names;
  const auto offer = [&](const Configuration& configuration) {
    try {
      const Notes notes(graph.engine(configuration.engine));
      const std::string name = configuration.name();
      if (other_precision(notes, request.precision).empty() && !contains(names, name)) names.push_back(name);
    } catch (const Unsupported&) {
      return;
    }
  };
  for (const Mode& mode : kModes) {
    for (const Configuration& configuration : graph.recommended(mode.mode)) offer(configuration);
  }
  for (std::int64_t engine = 0; engine < graph.engines(); ++engine) offer({engine, {}});
  if (request.algorithm != "auto" && !choosers(request.algorithm).empty()) names.push_back(request.algorithm);
  // Also one that does not do this precision: opening it says why.
  const std::optional<Configuration> named = Configuration::parse(request.algorithm);
  if (named && named->engine < graph.engines() && !contains(names, request.algorithm)) {
    names.push_back(request.algorithm);
  }
  return names;
}

std::unique_ptr<Harness> open_graph(const Request& request) {
  return std::make_unique<GraphConvolution>(request);
}

}  // namespace microbench::conv
