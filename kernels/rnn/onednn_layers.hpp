#pragma once

#include <algorithm>
#include <cmath>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <type_traits>
#include <vector>

#include "common/onednn.hpp"
#include "rnn/operands.hpp"

// How oneDNN's RNN primitives are asked for: types, layouts and the descriptions of forward and backward.
namespace microbench::rnn {

using dnnl::memory;
using Tag = memory::format_tag;
using Type = memory::data_type;

inline Types types_of(const std::string& precision) {
  constexpr auto kFloat = ElementType::float32;
  if (precision == "fp32") return {kFloat, kFloat, kFloat, kFloat};
  if (precision == "bf16") return {ElementType::bfloat16, ElementType::bfloat16, kFloat, kFloat};
  if (precision == "fp16") return {ElementType::float16, ElementType::float16, kFloat, kFloat};
  if (precision == "int8") return {ElementType::int8, ElementType::int8, kFloat, kFloat};
  throw Unsupported("oneDNN has no " + precision + " recurrent layers on CPUs");
}

// int8: q = value * scale + shift in unsigned bytes for data, q = value * scale in signed bytes for weights.
inline constexpr float kDataScale = 127;
inline constexpr float kDataShift = 128;
inline float weights_scale(std::int64_t width, std::int64_t hidden) {
  return static_cast<float>(127 * std::sqrt(static_cast<double>(std::max(width, hidden))));
}

// Consecutive layers that one primitive runs.
struct Layers {
  std::int64_t first, count;
};

inline std::vector<Layers> groups_of(const Sizes& sizes) {
  std::vector<Layers> groups;
  for (std::int64_t layer = 0; layer < sizes.layers; ++layer) {
    const bool joins =
        layer > 0 && sizes.directions == 1 && sizes.width(groups.back().first) == sizes.width(layer);
    if (joins) {
      ++groups.back().count;
    } else {
      groups.push_back({layer, 1});
    }
  }
  return groups;
}

// The attributes of `attr` with int8's scales where the precision asks for them.
inline dnnl::primitive_attr quantised(dnnl::primitive_attr attr, const Request& request, std::int64_t width) {
  if (request.precision == "int8") {
    attr.set_rnn_data_qparams(kDataScale, kDataShift);
    attr.set_rnn_weights_qparams(0, {weights_scale(width, request.integer("hidden_size"))});
  }
  return attr;
}

// What one primitive reads and writes, in the caller's layouts; packed weights are left to the library.
struct Shapes {
  memory::desc x, y, state, cell, w_input, w_recurrent, bias;
  memory::desc dx, dy, dstate, dw_input, dw_recurrent, dbias;
  memory::desc packed_input, packed_recurrent;
  dnnl::primitive_attr attr, packing;  // of the primitive, of the reorders that pack its weights

  Shapes(const Sizes& sizes, const Request& request, const Layers& layers)
      : attr(quantised(onednn::attributes(), request, sizes.width(layers.first))),
        packing(quantised({}, request, sizes.width(layers.first))) {
    const Types types = types_of(request.precision);
    const auto described = [](ElementType type) { return onednn::data_type(type); };
    const Type data = types.data == ElementType::int8 ? Type::u8 : described(types.data);
    const Type weights = described(types.weights);
    const Type gradients = described(types.gradients);
    const std::int64_t width = sizes.width(layers.first);
    const memory::dims in{sizes.steps, sizes.batch, width};
    const memory::dims out{sizes.steps, sizes.batch, sizes.output()};
    const memory::dims states{layers.count, sizes.directions, sizes.batch, sizes.hidden};
    const memory::dims from_input{layers.count, sizes.directions, width, sizes.gates(), sizes.hidden};
    const memory::dims from_state{layers.count, sizes.directions, sizes.hidden, sizes.gates(), sizes.hidden};
    const memory::dims biases{layers.count, sizes.directions, sizes.biases(), sizes.hidden};
    x = {in, data, Tag::tnc};
    y = {out, data, Tag::tnc};
    state = {states, data, Tag::ldnc};
    cell = {states, described(types.cell), Tag::ldnc};
    w_input = {from_input, weights, Tag::ldigo};
    w_recurrent = {from_state, weights, Tag::ldigo};
    packed_input = {from_input, weights, Tag::any};
    packed_recurrent = {from_state, weights, Tag::any};
    bias = {biases, described(types.cell), Tag::ldgo};
    dx = {in, gradients, Tag::tnc};
    dy = {out, gradients, Tag::tnc};
    dstate = {states, gradients, Tag::ldnc};
    dw_input = {from_input, gradients, Tag::ldigo};
    dw_recurrent = {from_state, gradients, Tag::ldigo};
    dbias = {biases, gradients, Tag::ldgo};
  }
};

inline dnnl::rnn_direction direction_of(const Sizes& sizes) {
  return sizes.directions == 2 ? dnnl::rnn_direction::bidirectional_concat
                               : dnnl::rnn_direction::unidirectional_left2right;
}

// `activation` is the one argument that only the vanilla cell has.
template <typename Forward, typename... Activation>
typename Forward::primitive_desc describe_forward(const dnnl::engine& engine, const Sizes& sizes,
                                                  const Shapes& s, Activation... activation) {
  const auto kind = sizes.training() ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference;
  if constexpr (std::is_same_v<Forward, dnnl::lstm_forward>) {
    return {engine,
            kind,
            direction_of(sizes),
            s.x,
            s.state,
            s.cell,
            s.packed_input,
            s.packed_recurrent,
            s.bias,
            s.y,
            s.state,
            s.cell,
            s.attr};
  } else {
    return {engine, kind,    activation...,  direction_of(sizes),
            s.x,    s.state, s.packed_input, s.packed_recurrent,
            s.bias, s.y,     s.state,        s.attr};
  }
}

// A description with the forward's that its construction needed: oneDNN goes back to that one, which it does
// not keep, when it is asked for the next implementation.
struct Description : dnnl::primitive_desc {
  dnnl::primitive_desc hint;
};

template <typename Forward, typename Backward, typename... Activation>
Description describe_backward(const dnnl::engine& engine, const Sizes& sizes, const Shapes& s,
                              Activation... activation) {
  const auto forward = describe_forward<Forward>(engine, sizes, s, activation...);
  const auto describe = [&]() -> typename Backward::primitive_desc {
    constexpr auto kKind = dnnl::prop_kind::backward;
    if constexpr (std::is_same_v<Backward, dnnl::lstm_backward>) {
      return {engine,
              kKind,
              direction_of(sizes),
              s.x,
              s.state,
              s.cell,
              s.packed_input,
              s.packed_recurrent,
              s.bias,
              s.y,
              s.state,
              s.cell,
              s.dx,
              s.dstate,
              s.dstate,
              s.dw_input,
              s.dw_recurrent,
              s.dbias,
              s.dy,
              s.dstate,
              s.dstate,
              forward,
              s.attr};
    } else {
      return {engine,   kKind,      activation...,  direction_of(sizes),
              s.x,      s.state,    s.packed_input, s.packed_recurrent,
              s.bias,   s.y,        s.state,        s.dx,
              s.dstate, s.dw_input, s.dw_recurrent, s.dbias,
              s.dy,     s.dstate,   forward,        s.attr};
    }
  };
  return {describe(), forward};
}

template <typename Forward, typename Backward, typename... Activation>
Description describe_cell(const dnnl::engine& engine, const Sizes& sizes, const Shapes& shapes, bool backward,
                          Activation... activation) {
  if (backward) return describe_backward<Forward, Backward>(engine, sizes, shapes, activation...);
  return {describe_forward<Forward>(engine, sizes, shapes, activation...), {}};
}

inline Description describe_layers(const dnnl::engine& engine, const Request& request, const Layers& layers,
                                   bool backward) {
  const Sizes sizes(request);
  const Shapes s(sizes, request, layers);
  return onednn::or_unsupported(request.precision + " " + sizes.cell + " " + sizes.pass, [&] {
    if (sizes.lstm()) {
      return describe_cell<dnnl::lstm_forward, dnnl::lstm_backward>(engine, sizes, s, backward);
    }
    if (sizes.linear_before_reset()) {
      return describe_cell<dnnl::lbr_gru_forward, dnnl::lbr_gru_backward>(engine, sizes, s, backward);
    }
    if (!sizes.vanilla()) {
      return describe_cell<dnnl::gru_forward, dnnl::gru_backward>(engine, sizes, s, backward);
    }
    return describe_cell<dnnl::vanilla_rnn_forward, dnnl::vanilla_rnn_backward>(
        engine, sizes, s, backward,
        sizes.cell == "vanilla" ? dnnl::algorithm::eltwise_relu : dnnl::algorithm::eltwise_tanh);
  });
}

inline memory::desc description_of(const dnnl::primitive_desc& primitive, int index) {
  return primitive.query_md(dnnl::query::exec_arg_md, index);
}

inline std::int64_t bytes_of(const dnnl::primitive_desc& primitive, int index) {
  return static_cast<std::int64_t>(description_of(primitive, index).get_size());
}

}  // namespace microbench::rnn
