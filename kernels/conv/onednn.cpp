// Convolution through oneDNN. Algorithms are oneDNN's own implementations, by their names:
//   "NAME"          activations in the layout asked for, as oneDNN's users with plain tensors have them;
//   "NAME+reorder"  activations in the layout that the implementation prefers: launch() reorders them from
//   and to the
//                   layout asked for, and that is timed.
//   "direct"        the first of the former that neither multiplies lowered matrices nor transforms.
// Weights that are read are brought to the implementation's layout in prepare(), untimed, as a framework does
// once. A weight gradient is reordered in launch().

#include <algorithm>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <optional>

#include "common/half.hpp"
#include "common/onednn.hpp"
#include "common/registry.hpp"
#include "conv/microbatch.hpp"

namespace microbench::conv {
namespace {

using dnnl::memory;

constexpr const char* kReorder = "+reorder";
constexpr const char* kDirect = "direct";

struct Types {
  ElementType storage, result;

  ElementType of(bool is_result) const { return is_result ? result : storage; }
};

Types types_of(const std::string& precision, Pass pass) {
  if (precision == "fp32") return {ElementType::float32, ElementType::float32};
  if (precision == "bf16") return {ElementType::bfloat16, ElementType::bfloat16};
  if (precision == "fp16") return {ElementType::float16, ElementType::float16};
  if (precision == "int8" && pass == Pass::forward) return {ElementType::int8, ElementType::int32};
  if (precision == "int8") throw Unsupported("int8 is for inference: only the forward pass is offered");
  throw Unsupported("oneDNN has no " + precision + " convolution on CPUs");
}

// The user's tensors.
struct Plain {
  memory::desc input, weights, output;

  Plain(const Shape& shape, const Types& types)
      : input(images(shape, shape.c, shape.h, shape.w, types.of(shape.pass == Pass::backward_data))),
        weights(filters(shape, types.of(shape.pass == Pass::backward_weights))),
        output(images(shape, shape.k, shape.out_h(), shape.out_w(), types.of(shape.pass == Pass::forward))) {}

  static memory::desc images(const Shape& shape, std::int64_t c, std::int64_t h, std::int64_t w,
                             ElementType type) {
    const View view = dense(shape.channels_last, c, h, w);
    return {{shape.n, c, h, w}, onednn::data_type(type), memory::dims{view.n, view.c, view.h, view.w}};
  }

  static memory::desc filters(const Shape& shape, ElementType type) {
    const View view = filter_view(shape);
    if (shape.groups == 1) {
      return {{shape.k, shape.c, shape.r, shape.s},
              onednn::data_type(type),
              memory::dims{view.n, view.c, view.h, view.w}};
    }
    return {{shape.groups, shape.group_k(), shape.group_c(), shape.r, shape.s},
            onednn::data_type(type),
            memory::dims{shape.group_k() * view.n, view.n, view.c, view.h, view.w}};
  }
};

memory::desc any(const memory::desc& desc) {
  return {desc.get_dims(), desc.get_data_type(), memory::format_tag::any};
}

// One way of asking oneDNN for the convolution.
struct Variant {
  dnnl::algorithm algorithm;
  bool reordered;
};

constexpr Variant kVariants[] = {{dnnl::algorithm::convolution_direct, false},
                                 {dnnl::algorithm::convolution_winograd, false},
                                 {dnnl::algorithm::convolution_direct, true},
                                 {dnnl::algorithm::convolution_winograd, true}};

// A backward description refers to its forward one as long as it is stepped through its implementations.
struct Description {
  dnnl::primitive_desc forward, asked;
};

Description describe_convolution(const dnnl::engine& engine, const Shape& shape, const Plain& plain,
                                 Variant variant) {
  const memory::desc input = variant.reordered ? any(plain.input) : plain.input;
  const memory::desc output = variant.reordered ? any(plain.output) : plain.output;
  const memory::desc weights = any(plain.weights);
  const memory::dims strides{shape.stride_h, shape.stride_w};
  const memory::dims dilations{shape.dilation_h - 1, shape.dilation_w - 1};  // oneDNN counts the gap
  const memory::dims begin{shape.pad_h, shape.pad_w};
  // Such that the output's size comes out without a remainder; less than `begin` where a stride skips the
  // edge.
  const memory::dims end{(shape.out_h() - 1) * shape.stride_h + shape.extent_h() - shape.h - shape.pad_h,
                         (shape.out_w() - 1) * shape.stride_w + shape.extent_w() - shape.w - shape.pad_w};
  const dnnl::primitive_attr attributes = onednn::attributes();
  const bool is_forward = shape.pass == Pass::forward;
  const dnnl::convolution_forward::primitive_desc forward(
      engine, dnnl::prop_kind::forward_training,
      is_forward ? variant.algorithm : dnnl::algorithm::convolution_direct, input, weights, output, strides,
      dilations, begin, end, attributes);
  switch (shape.pass) {
    case Pass::forward:
      return {forward, forward};
    case Pass::backward_data:
      return {forward, dnnl::convolution_backward_data::primitive_desc(engine, variant.algorithm, input,
                                                                       weights, output, strides, dilations,
                                                                       begin, end, forward, attributes)};
    case Pass::backward_weights:
      return {forward, dnnl::convolution_backward_weights::primitive_desc(engine, variant.algorithm, input,
                                                                          weights, output, strides, dilations,
                                                                          begin, end, forward, attributes)};
  }
  throw std::logic_error("unknown pass");
}

// The execution arguments of a pass, by what they are.
struct Roles {
  int input, weights, output, result;

  explicit Roles(Pass pass)
      : input(pass == Pass::backward_data ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC),
        weights(pass == Pass::backward_weights ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS),
        output(pass == Pass::forward ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST),
        result(pass == Pass::forward         ? output
               : pass == Pass::backward_data ? input
                                             : weights) {}
};

memory::desc layout_of(const dnnl::primitive_desc& description, int argument) {
  return description.query_md(dnnl::query::exec_arg_md, argument);
}

// One implementation: the variant that offers it and its place there.
struct Choice {
  std::string name;
  Variant variant;
  int place;
};

std::vector<Choice> choices(const dnnl::engine& engine, const Shape& shape, const Plain& plain) {
  const Roles roles(shape.pass);
  std::vector<Choice> all;
  for (const Variant variant : kVariants) {
    Description descriptions;
    try {
      descriptions = describe_convolution(engine, shape, plain, variant);
    } catch (const dnnl::error& error) {
      if (error.status != dnnl_unimplemented) throw;
      continue;
    }
    dnnl::primitive_desc& description = descriptions.asked;
    std::map<std::string, int> seen;
    int place = 0;
    do {
      std::string name = description.impl_info_str();
      if (const int count = ++seen[name]; count > 1) name += "#" + std::to_string(count);
      const bool as_asked = layout_of(description, roles.input) == plain.input &&
                            layout_of(description, roles.output) == plain.output;
      if (!variant.reordered) {
        all.push_back({name, variant, place});
      } else if (!as_asked) {
        all.push_back({name + kReorder, variant, place});
      }
      ++place;
    } while (description.next_impl());
  }
  return all;
}

// Whether an implementation's name is that of the reference, which is there to be correct.
bool is_reference(const std::string& name) { return name.rfind("ref", 0) == 0; }

bool chosen_by(const std::string& asked, const Choice& choice) {
  if (asked != kDirect) return asked == "auto" || choice.name == asked;
  const auto has = [&](const char* part) { return choice.name.find(part) != std::string::npos; };
  return !is_reference(choice.name) && !has("gemm") && !has("wino");
}

// The description that the request chooses.
dnnl::primitive_desc choose(const dnnl::engine& engine, const Shape& shape, const Plain& plain,
                            const Request& request) {
  const std::vector<Choice> all = choices(engine, shape, plain);
  const auto found = std::find_if(all.begin(), all.end(),
                                  [&](const Choice& choice) { return chosen_by(request.algorithm, choice); });
  if (all.empty()) {
    throw Unsupported("oneDNN has no " + request.precision +
                      " convolution for this problem on this processor");
  }
  if (found == all.end()) {
    throw Unsupported("oneDNN has no implementation '" + request.algorithm + "' for this problem");
  }
  Description description = describe_convolution(engine, shape, plain, found->variant);
  for (int step = 0; step < found->place; ++step) description.asked.next_impl();
  return description.asked;
}

// A user's tensor beside the one that the implementation works on, which is the same one where the layouts
// agree.
struct Tensor {
  memory::desc user, native;
  void *user_data, *native_data;

  Tensor(memory::desc user_desc, memory::desc native_desc, const Span& span)
      : user(std::move(user_desc)),
        native(std::move(native_desc)),
        user_data(span.data),
        native_data(span.data) {}

  bool copied() const { return user != native; }
};

// Workspace that `description` takes, on cache lines of its own.
std::int64_t aligned_bytes(const memory::desc& description) {
  constexpr std::int64_t kAlignment = 64;
  return (static_cast<std::int64_t>(description.get_size()) + kAlignment - 1) / kAlignment * kAlignment;
}

class OneDnnConvolution final : public Harness {
 public:
  OneDnnConvolution(const Request& request, const Types& types, const Place* place)
      : shape_(request),
        context_(request.threads),
        operands_(shape_, types.storage, types.result, place),
        implementation_(open(request, types, place)) {}

  void prepare() override {
    for (onednn::Execution& reorder : untimed_) reorder.run();
  }
  void launch() override {
    for (onednn::Execution& step : timed_) step.run();
  }
  std::vector<Operand> operands() override { return operands_.list(shape_.pass); }
  std::string implementation() const override { return implementation_; }
  std::int64_t workspace_bytes() const override { return workspace_->bytes(); }

 private:
  std::string open(const Request& request, const Types& types, const Place* place) {
    const Plain plain(shape_, types);
    const dnnl::engine& engine = context_.engine();
    const dnnl::primitive_desc description = choose(engine, shape_, plain, request);
    const Roles roles(shape_.pass);
    tensors_.reserve(3);
    tensors_.emplace_back(plain.input, layout_of(description, roles.input), operands_.input);
    tensors_.emplace_back(plain.weights, layout_of(description, roles.weights), operands_.weights);
    tensors_.emplace_back(plain.output, layout_of(description, roles.output), operands_.output);
    const int arguments[] = {roles.input, roles.weights, roles.output};

    std::int64_t needed = aligned_bytes(description.scratchpad_desc());
    for (const Tensor& tensor : tensors_) needed += tensor.copied() ? aligned_bytes(tensor.native) : 0;
    workspace_.emplace(needed, request.workspace_limit, place);
    auto* free = static_cast<char*>(workspace_->data());
    void* scratchpad = free;
    free += aligned_bytes(description.scratchpad_desc());
    for (Tensor& tensor : tensors_) {
      if (!tensor.copied()) continue;
      tensor.native_data = free;
      free += aligned_bytes(tensor.native);
    }

    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      Tensor& tensor = tensors_[i];
      if (!tensor.copied() || arguments[i] == roles.result) continue;
      auto& steps = arguments[i] == roles.weights ? untimed_ : timed_;
      steps.push_back(reorder(tensor.user, tensor.user_data, tensor.native, tensor.native_data));
    }
    std::vector<onednn::Argument> list{{DNNL_ARG_SCRATCHPAD, description.scratchpad_desc(), scratchpad}};
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      list.push_back({arguments[i], tensors_[i].native, tensors_[i].native_data});
    }
    timed_.emplace_back(context_, dnnl::primitive(description), list);
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      Tensor& tensor = tensors_[i];
      if (!tensor.copied() || arguments[i] != roles.result) continue;
      timed_.push_back(reorder(tensor.native, tensor.native_data, tensor.user, tensor.user_data));
    }
    return description.impl_info_str() + std::string(timed_.size() > 1 ? ", reorders timed" : "");
  }

  onednn::Execution reorder(const memory::desc& from, void* from_data, const memory::desc& to,
                            void* to_data) {
    const dnnl::engine& engine = context_.engine();
    const dnnl::reorder::primitive_desc description(engine, from, engine, to);
    return {
        context_, dnnl::reorder(description), {{DNNL_ARG_FROM, from, from_data}, {DNNL_ARG_TO, to, to_data}}};
  }

  Shape shape_;
  onednn::Context context_;
  PlacedOperands operands_;
  std::vector<Tensor> tensors_;
  std::optional<Workspace> workspace_;
  std::vector<onednn::Execution> untimed_, timed_;
  std::string implementation_;  // last: made by open(), which fills the others
};

std::unique_ptr<Harness> open(const Request& request) {
  if (request.precision == "fp16_in_fp32_math") return fp16_in_fp32_math(request, open);
  const Types types = types_of(request.precision, Shape(request).pass);
  const auto open_part = [&](const Request& part, const Place* place) -> std::unique_ptr<Harness> {
    return std::make_unique<OneDnnConvolution>(part, types, place);
  };
  if (is_division(request.algorithm)) {
    return std::make_unique<MicroBatched>(request, types.storage, types.result, open_part);
  }
  return open_part(request, nullptr);
}

std::vector<std::string> algorithms(const Request& request) {
  const Shape shape(request);
  const Types types =
      types_of(request.precision == "fp16_in_fp32_math" ? "fp32" : request.precision, shape.pass);
  const onednn::Context context(request.threads);
  std::vector<std::string> names;
  bool direct = false;
  for (const Choice& choice : choices(context.engine(), shape, Plain(shape, types))) {
    // Offered only to who names them: the reference implementations, which are there to be correct, and those
    // for processors without int8 dot products, which halve weights and saturate pairs of products in 16
    // bits.
    const bool offered = !is_reference(choice.name) && choice.name.find("jit_uni_int8") == std::string::npos;
    if (offered || choice.name == request.algorithm) names.push_back(choice.name);
    direct = direct || (request.algorithm == kDirect && chosen_by(kDirect, choice));
  }
  if (direct) names.emplace_back(kDirect);
  return names;
}

const Registration registration({"conv", "onednn", open, algorithms, onednn::describe});

}  // namespace
}  // namespace microbench::conv
