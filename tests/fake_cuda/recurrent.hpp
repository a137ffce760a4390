#pragma once

#include "values.hpp"

// Recurrent layers by their equations in cuDNN's documentation, with its gates (LSTM: i f g o; GRU: r z n)
// and two biases a gate.
namespace fake {

struct Recurrent {
  cudnnRNNMode_t mode{};
  std::int64_t input = 0, hidden = 0, layers = 0, directions = 1;

  std::int64_t gates() const { return mode == CUDNN_LSTM ? 4 : mode == CUDNN_GRU ? 3 : 1; }
  std::int64_t width(std::int64_t layer) const { return layer == 0 ? input : directions * hidden; }
  std::int64_t pseudo_layers() const { return layers * directions; }
};

// Where the parameters lie in the weight space, in elements; pieces lie apart, so that wrong arithmetic
// shows.
struct WeightSpace {
  struct Piece {
    std::int64_t matrix = 0, bias = 0, width = 0;
  };
  std::vector<std::vector<Piece>> pieces;  // by pseudo-layer and number of the linear layer
  std::int64_t elements = 0;

  explicit WeightSpace(const Recurrent& r) : pieces(static_cast<std::size_t>(r.pseudo_layers())) {
    constexpr std::int64_t kGap = 5;
    for (std::size_t p = 0; p < pieces.size(); ++p) {
      for (std::int64_t number = 0; number < 2 * r.gates(); ++number) {
        const std::int64_t layer = static_cast<std::int64_t>(p) / r.directions;
        const std::int64_t width = number < r.gates() ? r.width(layer) : r.hidden;
        elements += kGap;
        pieces[p].push_back({elements, 0, width});
        elements += r.hidden * width;
      }
    }
    for (auto& of_layer : pieces) {
      for (Piece& piece : of_layer) {
        elements += kGap;
        piece.bias = elements;
        elements += r.hidden;
      }
    }
  }
};

// What a training forward leaves in the reserve space, all of it double: for each pseudo-layer the states
// before and after each step, the gates and what the reset gate multiplies; then room for the gradients of
// the products.
struct Trace {
  double* data;
  std::int64_t steps, batch, hidden, gates;

  static constexpr std::int64_t kParts = 3;
  std::int64_t per_layer() const { return batch * hidden * (2 * (steps + 1) + steps * (1 + kParts * gates)); }
  double* layer(std::int64_t p) const { return data + p * per_layer(); }
  double& h(std::int64_t p, std::int64_t t, std::int64_t b, std::int64_t j) const {
    return layer(p)[(t * batch + b) * hidden + j];
  }
  double& c(std::int64_t p, std::int64_t t, std::int64_t b, std::int64_t j) const {
    return layer(p)[((steps + 1 + t) * batch + b) * hidden + j];
  }
  double& product(std::int64_t p, std::int64_t t, std::int64_t b, std::int64_t j) const {
    return layer(p)[((2 * (steps + 1) + t) * batch + b) * hidden + j];
  }
  // part 0: gates; 1 and 2: gradients of the products with the input and with the state.
  double& gate(std::int64_t part, std::int64_t p, std::int64_t t, std::int64_t b, std::int64_t g,
               std::int64_t j) const {
    const std::int64_t before = (2 * (steps + 1) + steps) * batch * hidden;
    return layer(p)[before + (((part * steps + t) * batch + b) * gates + g) * hidden + j];
  }
};

inline double sigmoid(double a) { return 1 / (1 + std::exp(-a)); }

class Network {
 public:
  Network(const Recurrent& shape, cudnnDataType_t type, std::int64_t steps, std::int64_t batch,
          const void* weights, double* trace, bool short_products)
      : r_(shape),
        type_(type),
        steps_(steps),
        batch_(batch),
        space_(shape),
        weights_(weights),
        trace_{trace, steps, batch, shape.hidden, shape.gates()},
        short_products_(short_products) {}

  static std::int64_t trace_elements(const Recurrent& r, std::int64_t steps, std::int64_t batch) {
    return r.pseudo_layers() * Trace{nullptr, steps, batch, r.hidden, r.gates()}.per_layer();
  }

  void forward(const void* x, void* y, const void* h0, void* hn, const void* c0, void* cn) {
    for (std::int64_t p = 0; p < r_.pseudo_layers(); ++p) {
      for_states([&](std::int64_t b, std::int64_t j) {
        const std::int64_t at = (p * batch_ + b) * r_.hidden + j;
        trace_.h(p, 0, b, j) = load(type_, h0, at);
        trace_.c(p, 0, b, j) = c0 == nullptr ? 0 : load(type_, c0, at);
      });
      for (std::int64_t t = 0; t < steps_; ++t) step(p, t, x);
      for_states([&](std::int64_t b, std::int64_t j) {
        const std::int64_t at = (p * batch_ + b) * r_.hidden + j;
        store(type_, hn, at, trace_.h(p, steps_, b, j));
        if (cn != nullptr) store(type_, cn, at, trace_.c(p, steps_, b, j));
      });
    }
    for (std::int64_t time = 0; time < steps_; ++time) {
      for (std::int64_t b = 0; b < batch_; ++b) {
        const std::int64_t width = r_.directions * r_.hidden;
        for (std::int64_t f = 0; f < width; ++f) {
          store(type_, y, (time * batch_ + b) * width + f, output(r_.layers - 1, time, b, f));
        }
      }
    }
  }

  void backward_data(const void* dy, void* dx, const void* dhn, void* dh0, const void* dcn, void* dc0) {
    std::vector<double> above(static_cast<std::size_t>(steps_ * batch_ * r_.directions * r_.hidden));
    for (std::size_t i = 0; i < above.size(); ++i) above[i] = load(type_, dy, static_cast<std::int64_t>(i));
    for (std::int64_t layer = r_.layers - 1; layer >= 0; --layer) {
      std::vector<double> below(static_cast<std::size_t>(steps_ * batch_ * r_.width(layer)));
      for (std::int64_t direction = 0; direction < r_.directions; ++direction) {
        backward_layer(layer, direction, above, below, dhn, dh0, dcn, dc0);
      }
      above = below;
    }
    for (std::size_t i = 0; i < above.size(); ++i) store(type_, dx, static_cast<std::int64_t>(i), above[i]);
  }

  // Adds to what is there.
  void backward_weights(const void* x, void* gradients) {
    const auto add = [&](std::int64_t at, double value) {
      store(type_, gradients, at, load(type_, gradients, at) + value);
    };
    for (std::int64_t p = 0; p < r_.pseudo_layers(); ++p) {
      for (std::int64_t number = 0; number < 2 * r_.gates(); ++number) {
        const WeightSpace::Piece& piece = piece_of(p, number);
        const std::int64_t part = number < r_.gates() ? 1 : 2, gate = number % r_.gates();
        for (std::int64_t j = 0; j < r_.hidden; ++j) {
          std::vector<double> sums(static_cast<std::size_t>(piece.width + 1));
          for (std::int64_t t = 0; t < steps_; ++t) {
            for (std::int64_t b = 0; b < batch_; ++b) {
              const double d = trace_.gate(part, p, t, b, gate, j);
              for (std::int64_t i = 0; i < piece.width; ++i) {
                sums[static_cast<std::size_t>(i)] +=
                    times(d, part == 1 ? input(p, t, b, i, x) : trace_.h(p, t, b, i));
              }
              sums.back() += d;
            }
          }
          for (std::int64_t i = 0; i < piece.width; ++i) {
            add(piece.matrix + j * piece.width + i, sums[static_cast<std::size_t>(i)]);
          }
          add(piece.bias + j, sums.back());
        }
      }
    }
  }

 private:
  template <typename Run>
  void for_states(Run&& run) const {
    for (std::int64_t b = 0; b < batch_; ++b) {
      for (std::int64_t j = 0; j < r_.hidden; ++j) run(b, j);
    }
  }

  double times(double a, double b) const { return short_products_ ? tf32(a) * tf32(b) : a * b; }
  const WeightSpace::Piece& piece_of(std::int64_t p, std::int64_t number) const {
    return space_.pieces[static_cast<std::size_t>(p)][static_cast<std::size_t>(number)];
  }
  double weight(std::int64_t p, std::int64_t number, std::int64_t row, std::int64_t column) const {
    const WeightSpace::Piece& piece = piece_of(p, number);
    return load(type_, weights_, piece.matrix + row * piece.width + column);
  }
  double bias(std::int64_t p, std::int64_t number, std::int64_t row) const {
    return load(type_, weights_, piece_of(p, number).bias + row);
  }

  // Step t of a direction is at this time.
  std::int64_t time_of(std::int64_t p, std::int64_t t) const {
    return p % r_.directions == 0 ? t : steps_ - 1 - t;
  }
  double output(std::int64_t layer, std::int64_t time, std::int64_t b, std::int64_t feature) const {
    const std::int64_t p = layer * r_.directions + feature / r_.hidden;
    return trace_.h(p, time_of(p, time) + 1, b, feature % r_.hidden);
  }
  double input(std::int64_t p, std::int64_t t, std::int64_t b, std::int64_t feature, const void* x) const {
    const std::int64_t layer = p / r_.directions, time = time_of(p, t);
    if (layer == 0) return load(type_, x, (time * batch_ + b) * r_.input + feature);
    return output(layer - 1, time, b, feature);
  }

  void step(std::int64_t p, std::int64_t t, const void* x) {
    const std::int64_t width = r_.width(p / r_.directions);
    for_states([&](std::int64_t b, std::int64_t j) {
      double from_input[4] = {}, from_state[4] = {};
      for (std::int64_t g = 0; g < r_.gates(); ++g) {
        from_input[g] = bias(p, g, j);
        from_state[g] = bias(p, g + r_.gates(), j);
        for (std::int64_t i = 0; i < width; ++i)
          from_input[g] += times(weight(p, g, j, i), input(p, t, b, i, x));
        for (std::int64_t k = 0; k < r_.hidden; ++k) {
          from_state[g] += times(weight(p, g + r_.gates(), j, k), trace_.h(p, t, b, k));
        }
      }
      const auto gate = [&](std::int64_t g) -> double& { return trace_.gate(0, p, t, b, g, j); };
      const auto sum = [&](int g) { return from_input[g] + from_state[g]; };
      double& h = trace_.h(p, t + 1, b, j);
      if (r_.mode == CUDNN_LSTM) {
        for (const int g : {0, 1, 3}) gate(g) = sigmoid(sum(g));
        gate(2) = std::tanh(sum(2));
        trace_.c(p, t + 1, b, j) = gate(1) * trace_.c(p, t, b, j) + gate(0) * gate(2);
        h = gate(3) * std::tanh(trace_.c(p, t + 1, b, j));
      } else if (r_.mode == CUDNN_GRU) {
        for (const int g : {0, 1}) gate(g) = sigmoid(sum(g));
        trace_.product(p, t, b, j) = from_state[2];
        gate(2) = std::tanh(from_input[2] + gate(0) * from_state[2]);
        h = (1 - gate(1)) * gate(2) + gate(1) * trace_.h(p, t, b, j);
      } else {
        gate(0) = r_.mode == CUDNN_RNN_RELU ? std::fmax(sum(0), 0) : std::tanh(sum(0));
        h = gate(0);
      }
    });
  }

  void backward_layer(std::int64_t layer, std::int64_t direction, const std::vector<double>& above,
                      std::vector<double>& below, const void* dhn, void* dh0, const void* dcn, void* dc0) {
    const std::int64_t p = layer * r_.directions + direction, out = r_.directions * r_.hidden;
    const std::int64_t width = r_.width(layer), G = r_.gates();
    std::vector<double> dh(static_cast<std::size_t>(batch_ * r_.hidden)), dc = dh;
    const auto at = [&](std::int64_t b, std::int64_t j) {
      return static_cast<std::size_t>(b * r_.hidden + j);
    };
    for_states([&](std::int64_t b, std::int64_t j) {
      const std::int64_t place = (p * batch_ + b) * r_.hidden + j;
      dh[at(b, j)] = load(type_, dhn, place);
      if (dcn != nullptr) dc[at(b, j)] = load(type_, dcn, place);
    });
    for (std::int64_t t = steps_ - 1; t >= 0; --t) {
      const std::int64_t time = time_of(p, t);
      std::vector<double> before(dh.size());  // of the previous state
      for_states([&](std::int64_t b, std::int64_t j) {
        const auto gate = [&](std::int64_t g) { return trace_.gate(0, p, t, b, g, j); };
        const auto d = [&](std::int64_t g) -> double& { return trace_.gate(1, p, t, b, g, j); };
        const double dh_all =
            dh[at(b, j)] +
            above[static_cast<std::size_t>((time * batch_ + b) * out + direction * r_.hidden + j)];
        double reset_product = 0;
        if (r_.mode == CUDNN_LSTM) {
          const double tanh_c = std::tanh(trace_.c(p, t + 1, b, j));
          double& dc_all = dc[at(b, j)];
          dc_all += dh_all * gate(3) * (1 - tanh_c * tanh_c);
          d(0) = dc_all * gate(2) * gate(0) * (1 - gate(0));
          d(1) = dc_all * trace_.c(p, t, b, j) * gate(1) * (1 - gate(1));
          d(2) = dc_all * gate(0) * (1 - gate(2) * gate(2));
          d(3) = dh_all * tanh_c * gate(3) * (1 - gate(3));
          dc_all *= gate(1);
        } else if (r_.mode == CUDNN_GRU) {
          d(1) = dh_all * (trace_.h(p, t, b, j) - gate(2)) * gate(1) * (1 - gate(1));
          d(2) = dh_all * (1 - gate(1)) * (1 - gate(2) * gate(2));
          d(0) = d(2) * trace_.product(p, t, b, j) * gate(0) * (1 - gate(0));
          reset_product = d(2) * gate(0);
          before[at(b, j)] += dh_all * gate(1);
        } else {
          d(0) = dh_all * (r_.mode == CUDNN_RNN_RELU ? (gate(0) > 0 ? 1 : 0) : 1 - gate(0) * gate(0));
        }
        for (std::int64_t g = 0; g < G; ++g) trace_.gate(2, p, t, b, g, j) = d(g);
        if (r_.mode == CUDNN_GRU) trace_.gate(2, p, t, b, 2, j) = reset_product;
      });
      for_states([&](std::int64_t b, std::int64_t j) {
        for (std::int64_t g = 0; g < G; ++g) {
          for (std::int64_t i = 0; i < width; ++i) {
            below[static_cast<std::size_t>((time * batch_ + b) * width + i)] +=
                times(weight(p, g, j, i), trace_.gate(1, p, t, b, g, j));
          }
          for (std::int64_t k = 0; k < r_.hidden; ++k) {
            before[at(b, k)] += times(weight(p, g + G, j, k), trace_.gate(2, p, t, b, g, j));
          }
        }
      });
      dh = before;
    }
    for_states([&](std::int64_t b, std::int64_t j) {
      const std::int64_t place = (p * batch_ + b) * r_.hidden + j;
      store(type_, dh0, place, dh[at(b, j)]);
      if (dc0 != nullptr) store(type_, dc0, place, dc[at(b, j)]);
    });
  }

  Recurrent r_;
  cudnnDataType_t type_;
  std::int64_t steps_, batch_;
  WeightSpace space_;
  const void* weights_;
  Trace trace_;
  bool short_products_;
};

}  // namespace fake
