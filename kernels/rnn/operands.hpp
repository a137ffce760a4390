#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/error.hpp"
#include "common/harness.hpp"

namespace microbench::rnn {

// A stack of recurrent layers over a sequence, with the names of the problem's table.
struct Sizes {
  std::string cell, pass;
  std::int64_t hidden, batch, steps, input, layers, directions;

  explicit Sizes(const Request& request)
      : cell(request.text("cell")),
        pass(request.text("pass")),
        hidden(request.integer("hidden_size")),
        batch(request.integer("batch_size")),
        steps(request.integer("time_steps")),
        input(request.integer("input_size") > 0 ? request.integer("input_size") : hidden),
        layers(request.integer("layers")),
        directions(request.boolean("bidirectional") ? 2 : 1) {}

  bool lstm() const { return cell == "lstm"; }
  bool linear_before_reset() const { return cell == "gru"; }
  bool vanilla() const { return cell == "vanilla" || cell == "vanilla_tanh"; }
  std::int64_t gates() const { return vanilla() ? 1 : lstm() ? 4 : 3; }
  // The linear-before-reset GRU has a bias of its own inside the reset product.
  std::int64_t biases() const { return gates() + (linear_before_reset() ? 1 : 0); }
  bool training() const { return pass != "forward"; }
  bool backward() const { return pass == "backward"; }

  // Features that a layer reads and writes at each step.
  std::int64_t output() const { return directions * hidden; }
  std::int64_t width(std::int64_t layer) const { return layer == 0 ? input : output(); }

  // Elements of whole operands; of their parts that lie before `layer`.
  std::int64_t sequence(std::int64_t features) const { return steps * batch * features; }
  std::int64_t state(std::int64_t layer) const { return layer * directions * batch * hidden; }
  std::int64_t input_weights(std::int64_t layer) const {
    const std::int64_t columns = directions * gates() * hidden;
    return layer == 0 ? 0 : columns * (input + (layer - 1) * output());
  }
  std::int64_t recurrent_weights(std::int64_t layer) const {
    return layer * directions * hidden * gates() * hidden;
  }
  std::int64_t bias(std::int64_t layer) const { return layer * directions * biases() * hidden; }
};

// How each kind of operand is stored.
struct Types {
  ElementType data;       // layer inputs and outputs, hidden states
  ElementType weights;    // input and recurrent weights
  ElementType cell;       // LSTM cell states, biases
  ElementType gradients;  // all gradients
};

// The buffers of one problem, in memory of the host or of a device. Those that its cell or pass does not have
// stay null.
template <typename BufferType, typename OperandType>
struct OperandsIn {
  using Pointer = std::unique_ptr<BufferType>;
  Pointer x, h0, c0, w_input, w_recurrent, bias, y, hn, cn;
  Pointer dy, dhn, dcn, dx, dh0, dc0, dw_input, dw_recurrent, dbias;

  OperandsIn(const Sizes& sizes, const Types& types) : backward_(sizes.backward()) {
    const auto make = [](ElementType type, std::int64_t elements) {
      return std::make_unique<BufferType>(type, elements);
    };
    const std::int64_t states = sizes.state(sizes.layers);
    x = make(types.data, sizes.sequence(sizes.input));
    h0 = make(types.data, states);
    w_input = make(types.weights, sizes.input_weights(sizes.layers));
    w_recurrent = make(types.weights, sizes.recurrent_weights(sizes.layers));
    bias = make(types.cell, sizes.bias(sizes.layers));
    y = make(types.data, sizes.sequence(sizes.output()));
    hn = make(types.data, states);
    if (sizes.lstm()) {
      c0 = make(types.cell, states);
      cn = make(types.cell, states);
    }
    if (!backward_) return;
    dy = make(types.gradients, y->elements());
    dhn = make(types.gradients, states);
    dx = make(types.gradients, x->elements());
    dh0 = make(types.gradients, states);
    dw_input = make(types.gradients, w_input->elements());
    dw_recurrent = make(types.gradients, w_recurrent->elements());
    dbias = make(types.gradients, bias->elements());
    if (sizes.lstm()) {
      dcn = make(types.gradients, states);
      dc0 = make(types.gradients, states);
    }
  }

  // What the forward writes is no operand of the backward: the harness computes it itself, unseen.
  std::vector<OperandType> list() const {
    std::vector<OperandType> all;
    const auto add = [&](const char* name, const Pointer& buffer, bool is_output) {
      if (buffer) all.push_back({name, buffer.get(), is_output});
    };
    add("x", x, false);
    add("h0", h0, false);
    add("c0", c0, false);
    add("w_input", w_input, false);
    add("w_recurrent", w_recurrent, false);
    add("bias", bias, false);
    if (!backward_) {
      add("y", y, true);
      add("hn", hn, true);
      add("cn", cn, true);
      return all;
    }
    add("dy", dy, false);
    add("dhn", dhn, false);
    add("dcn", dcn, false);
    add("dx", dx, true);
    add("dh0", dh0, true);
    add("dc0", dc0, true);
    add("dw_input", dw_input, true);
    add("dw_recurrent", dw_recurrent, true);
    add("dbias", dbias, true);
    return all;
  }

 private:
  bool backward_;
};
using Operands = OperandsIn<Buffer, Operand>;

}  // namespace microbench::rnn
