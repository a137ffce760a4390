// Recurrent layers through oneDNN's RNN primitives, all on plain tnc and ldnc operands. Weights are packed
// into the library's own layout in prepare(), untimed, as frameworks keep them packed between calls.
//
// oneDNN runs layers of equal width in one primitive; where the width changes (an input size of its own, or
// a bidirectional stack, whose later layers read both directions) primitives are chained.

#include <algorithm>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <optional>
#include <string>
#include <vector>

#include "common/half.hpp"
#include "common/onednn.hpp"
#include "common/registry.hpp"
#include "rnn/onednn_layers.hpp"
#include "rnn/operands.hpp"

namespace microbench::rnn {
namespace {

using onednn::Argument;

// The primitives of one group of layers; `timed` is the one that launch() runs.
struct Plan {
  Layers layers;
  Description forward;
  std::optional<Description> backward;

  const dnnl::primitive_desc& timed() const { return backward ? *backward : forward; }
};

std::vector<Plan> plan(const dnnl::engine& engine, const Request& request) {
  const Sizes sizes(request);
  Request prepared = request;  // the forward that only serves a backward is the library's own choice
  if (sizes.backward()) prepared.algorithm = "auto";
  std::vector<Plan> plans;
  for (const Layers& layers : groups_of(sizes)) {
    const auto describe = [&](bool backward) {
      return [&, backward] { return describe_layers(engine, request, layers, backward); };
    };
    plans.push_back({layers, onednn::choose(describe(false), prepared), std::nullopt});
    if (sizes.backward()) plans.back().backward = onednn::choose(describe(true), request);
  }
  return plans;
}

// All memory besides the operands, held against the request's limit before any of it is taken.
struct Workspace {
  std::int64_t scratchpad = 0;  // shared: primitives run one after the other
  std::int64_t saved = 0;       // what the training forward leaves for the backward
  std::int64_t between = 0;     // sequences that pass from one primitive to the next, and their gradients
  std::int64_t packed = 0;      // weights as the primitives want them

  Workspace(const std::vector<Plan>& plans, const Request& request) {
    for (const Plan& plan : plans) {
      scratchpad = std::max(scratchpad, bytes_of(plan.forward, DNNL_ARG_SCRATCHPAD));
      saved += bytes_of(plan.forward, DNNL_ARG_WORKSPACE);
      packed += weights_of(plan.forward);
      if (!plan.backward) continue;
      scratchpad = std::max(scratchpad, bytes_of(*plan.backward, DNNL_ARG_SCRATCHPAD));
      packed += weights_of(*plan.backward);
    }
    const Types types = types_of(request.precision);
    const Sizes sizes(request);
    const auto sequences = static_cast<std::int64_t>(plans.size()) - 1;
    between = sequences * sizes.sequence(sizes.output()) *
              (element_bytes(types.data) + (sizes.backward() ? element_bytes(types.gradients) : 0));
    if (bytes() > request.workspace_limit) throw WorkspaceExceeded(bytes(), request.workspace_limit);
  }
  std::int64_t bytes() const { return scratchpad + saved + between + packed; }

 private:
  static std::int64_t weights_of(const dnnl::primitive_desc& description) {
    return bytes_of(description, DNNL_ARG_WEIGHTS_LAYER) + bytes_of(description, DNNL_ARG_WEIGHTS_ITER);
  }
};

// Weights in the layout that a primitive asks for, written anew from the caller's by run().
class Packed {
 public:
  Packed(const onednn::Context& context, const memory::desc& plain, void* weights, const memory::desc& packed,
         const dnnl::primitive_attr& attr)
      : description_(packed),
        memory_(static_cast<std::int64_t>(packed.get_size())),
        reorder_(context,
                 dnnl::reorder(
                     dnnl::reorder::primitive_desc(context.engine(), plain, context.engine(), packed, attr)),
                 {{DNNL_ARG_FROM, plain, weights}, {DNNL_ARG_TO, packed, memory_.data()}}) {}
  void run() { reorder_.run(); }
  Argument argument(int index) { return {index, description_, memory_.data()}; }

 private:
  memory::desc description_;
  Memory memory_;
  onednn::Execution reorder_;
};

void* at(const std::unique_ptr<Buffer>& buffer, std::int64_t element) {
  if (!buffer) return nullptr;
  return static_cast<char*>(buffer->data()) + element * element_bytes(buffer->type());
}

// A sequence that enters or leaves a primitive, and its gradient.
struct Sequence {
  void* values;
  void* gradients;
};

// One group of layers with its packed weights.
class Stage {
 public:
  Stage(const onednn::Context& context, const Request& request, const Plan& plan, const Operands& o,
        const Sequence& in, const Sequence& out, void* scratchpad)
      : saved_(bytes_of(plan.forward, DNNL_ARG_WORKSPACE)) {
    const Sizes sizes(request);
    const Shapes shapes(sizes, request, plan.layers);
    const std::int64_t first = plan.layers.first;
    const std::int64_t state = sizes.state(first);
    const std::int64_t w_input = sizes.input_weights(first);
    const std::int64_t w_recurrent = sizes.recurrent_weights(first);
    const std::int64_t bias = sizes.bias(first);

    const auto arguments = [&](const dnnl::primitive_desc& primitive) {
      const auto packed = [&](int index, const memory::desc& plain, void* weights) {
        packed_.push_back(std::make_unique<Packed>(context, plain, weights, description_of(primitive, index),
                                                   shapes.packing));
        return packed_.back()->argument(index);
      };
      std::vector<Argument> all{
          {DNNL_ARG_SRC_LAYER, shapes.x, in.values},
          {DNNL_ARG_SRC_ITER, shapes.state, at(o.h0, state)},
          packed(DNNL_ARG_WEIGHTS_LAYER, shapes.w_input, at(o.w_input, w_input)),
          packed(DNNL_ARG_WEIGHTS_ITER, shapes.w_recurrent, at(o.w_recurrent, w_recurrent)),
          {DNNL_ARG_BIAS, shapes.bias, at(o.bias, bias)},
          {DNNL_ARG_DST_LAYER, shapes.y, out.values},
          {DNNL_ARG_DST_ITER, shapes.state, at(o.hn, state)},
          {DNNL_ARG_SCRATCHPAD, description_of(primitive, DNNL_ARG_SCRATCHPAD), scratchpad}};
      if (sizes.lstm()) {
        all.push_back({DNNL_ARG_SRC_ITER_C, shapes.cell, at(o.c0, state)});
        all.push_back({DNNL_ARG_DST_ITER_C, shapes.cell, at(o.cn, state)});
      }
      if (sizes.training()) {
        all.push_back({DNNL_ARG_WORKSPACE, description_of(primitive, DNNL_ARG_WORKSPACE), saved_.data()});
      }
      return all;
    };
    forward_.emplace(context, dnnl::primitive(plan.forward), arguments(plan.forward));
    if (!plan.backward) return;
    std::vector<Argument> all = arguments(*plan.backward);
    const std::vector<Argument> gradients{
        {DNNL_ARG_DIFF_SRC_LAYER, shapes.dx, in.gradients},
        {DNNL_ARG_DIFF_SRC_ITER, shapes.dstate, at(o.dh0, state)},
        {DNNL_ARG_DIFF_WEIGHTS_LAYER, shapes.dw_input, at(o.dw_input, w_input)},
        {DNNL_ARG_DIFF_WEIGHTS_ITER, shapes.dw_recurrent, at(o.dw_recurrent, w_recurrent)},
        {DNNL_ARG_DIFF_BIAS, shapes.dbias, at(o.dbias, bias)},
        {DNNL_ARG_DIFF_DST_LAYER, shapes.dy, out.gradients},
        {DNNL_ARG_DIFF_DST_ITER, shapes.dstate, at(o.dhn, state)}};
    all.insert(all.end(), gradients.begin(), gradients.end());
    if (sizes.lstm()) {
      all.push_back({DNNL_ARG_DIFF_SRC_ITER_C, shapes.dstate, at(o.dc0, state)});
      all.push_back({DNNL_ARG_DIFF_DST_ITER_C, shapes.dstate, at(o.dcn, state)});
    }
    backward_.emplace(context, dnnl::primitive(*plan.backward), all);
  }

  void pack() {
    for (const auto& packed : packed_) packed->run();
  }
  void forward() { forward_->run(); }
  void backward() { backward_->run(); }

 private:
  Memory saved_;
  std::vector<std::unique_ptr<Packed>> packed_;
  std::optional<onednn::Execution> forward_, backward_;
};

void zero(Buffer& buffer) {
  auto* values = buffer.as<float>();
#pragma omp parallel for simd schedule(static)
  for (std::int64_t i = 0; i < buffer.elements(); ++i) values[i] = 0;
}

class OneDnnRnn final : public Harness {
 public:
  explicit OneDnnRnn(const Request& request)
      : sizes_(request),
        context_(request.threads),
        plans_(plan(context_.engine(), request)),
        workspace_(plans_, request),
        operands_(sizes_, types_of(request.precision)),
        scratchpad_(workspace_.scratchpad) {
    const Types types = types_of(request.precision);
    const std::int64_t elements = sizes_.sequence(sizes_.output());
    Sequence in{at(operands_.x, 0), at(operands_.dx, 0)};
    for (const Plan& plan : plans_) {
      Sequence out{at(operands_.y, 0), at(operands_.dy, 0)};
      if (&plan != &plans_.back()) {
        between_.push_back(std::make_unique<Buffer>(types.data, elements));
        out.values = between_.back()->data();
        if (sizes_.backward()) {
          between_.push_back(std::make_unique<Buffer>(types.gradients, elements));
          out.gradients = between_.back()->data();
        }
      }
      stages_.push_back(
          std::make_unique<Stage>(context_, request, plan, operands_, in, out, scratchpad_.data()));
      in = out;
    }
  }

  void prepare() override {
    for (const auto& stage : stages_) stage->pack();
    if (sizes_.backward()) run_forward();
  }

  void launch() override {
    if (!sizes_.backward()) {
      run_forward();
      return;
    }
    // oneDNN adds to the gradients of weights and biases, so that a caller starts from zero.
    for (Buffer* sum : {operands_.dw_input.get(), operands_.dw_recurrent.get(), operands_.dbias.get()}) {
      zero(*sum);
    }
    for (auto stage = stages_.rbegin(); stage != stages_.rend(); ++stage) (*stage)->backward();
  }

  std::vector<Operand> operands() override { return operands_.list(); }
  std::string implementation() const override {
    std::string names = plans_.front().timed().impl_info_str();
    for (const Plan& plan : plans_) {
      const std::string name = plan.timed().impl_info_str();
      if (name != plans_.front().timed().impl_info_str()) names += " + " + name;
    }
    return names;
  }
  std::int64_t workspace_bytes() const override { return workspace_.bytes(); }

 private:
  void run_forward() {
    for (const auto& stage : stages_) stage->forward();
  }

  Sizes sizes_;
  onednn::Context context_;
  std::vector<Plan> plans_;
  Workspace workspace_;
  Operands operands_;
  Memory scratchpad_;
  std::vector<std::unique_ptr<Buffer>> between_;
  std::vector<std::unique_ptr<Stage>> stages_;
};

std::unique_ptr<Harness> open(const Request& request) {
  if (request.precision == "fp16_in_fp32_math") return fp16_in_fp32_math(request, open);
  return std::make_unique<OneDnnRnn>(request);
}

std::vector<std::string> algorithms(const Request& request) {
  Request asked = request;
  if (asked.precision == "fp16_in_fp32_math") asked.precision = "fp32";
  const onednn::Context context(request.threads);
  const Sizes sizes(asked);
  return onednn::implementations(
      [&] { return describe_layers(context.engine(), asked, groups_of(sizes).front(), sizes.backward()); });
}

const Registration registration({"rnn", "onednn", open, algorithms, onednn::describe});

}  // namespace
}  // namespace microbench::rnn
