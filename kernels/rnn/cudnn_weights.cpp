#include "rnn/cudnn_weights.hpp"

#include <algorithm>
#include <array>

namespace microbench::rnn {
namespace {

// cuDNN's number of each of our gates, as far as the input's matrices go; those of the state follow.
std::vector<int> gates_of(const Sizes& sizes) {
  if (sizes.lstm()) return {0, 1, 2, 3};  // i f g o
  if (sizes.vanilla()) return {0};
  return {1, 0, 2};  // u r o; cuDNN's first is the reset gate
}

// Rows and columns with their strides, as a three-dimensional descriptor (1, rows, columns) has them.
struct Matrix {
  std::int64_t rows, columns, row, column;

  explicit Matrix(cudnnTensorDescriptor_t descriptor) {
    constexpr int kDimensions = 3;
    std::array<int, kDimensions> sizes{}, strides{};
    cudnnDataType_t type{};
    int dimensions = 0;
    MICROBENCH_CUDNN(cudnnGetTensorNdDescriptor, descriptor, kDimensions, &type, &dimensions, sizes.data(),
                     strides.data());
    rows = sizes[1], columns = sizes[2], row = strides[1], column = strides[2];
  }
};

// Calls copy(element of the space, element of the operand) for every element, in tiles that stay in the
// caches.
template <typename Copy>
void for_elements(const WeightBlock& block, Copy&& copy) {
  constexpr std::int64_t kTile = 32;
  const std::int64_t down = (block.rows + kTile - 1) / kTile, across = (block.columns + kTile - 1) / kTile;
#pragma omp parallel for collapse(2) schedule(static)
  for (std::int64_t i = 0; i < down; ++i) {
    for (std::int64_t j = 0; j < across; ++j) {
      for (std::int64_t row = i * kTile; row < std::min((i + 1) * kTile, block.rows); ++row) {
        for (std::int64_t column = j * kTile; column < std::min((j + 1) * kTile, block.columns); ++column) {
          copy(block.space_offset + row * block.space_row + column * block.space_column,
               block.operand_offset + row + column * block.operand_column);
        }
      }
    }
  }
}

template <typename Element>
void pack_elements(const WeightBlock& block, const void* operand, void* space) {
  const auto* from = static_cast<const Element*>(operand);
  auto* to = static_cast<Element*>(space);
  for_elements(block,
               [=](std::int64_t in_space, std::int64_t in_operand) { to[in_space] = from[in_operand]; });
}

template <typename Element>
void unpack_elements(const WeightBlock& block, const void* space, void* operand) {
  const auto* from = static_cast<const Element*>(space);
  auto* to = static_cast<Element*>(operand);
  for_elements(block,
               [=](std::int64_t in_space, std::int64_t in_operand) { to[in_operand] = from[in_space]; });
}

// Calls run with a number of the element's size.
template <typename Run>
void for_size(std::int64_t element_bytes, Run&& run) {
  switch (element_bytes) {
    case 2:
      return run(std::uint16_t{});
    case 4:
      return run(std::uint32_t{});
    case 8:
      return run(std::uint64_t{});
    default:
      throw std::logic_error("no recurrent weights have elements of that size");
  }
}

}  // namespace

std::vector<WeightBlock> weight_blocks(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, const Sizes& sizes,
                                       void* space, std::int64_t space_bytes, std::int64_t element_bytes) {
  const std::vector<int> gates = gates_of(sizes);
  const std::int64_t columns =
      sizes.gates() * sizes.hidden;  // what lies between a unit's features in an operand
  const cuda::TensorDescriptor matrix, bias;
  std::vector<WeightBlock> blocks;

  // The matrix and the bias that cuDNN calls `number` in one direction of one layer.
  const auto add = [&](std::int64_t pseudo_layer, std::int64_t number, WeightOperand operand,
                       std::int64_t matrix_at, std::int64_t width, std::int64_t bias_at, bool has_bias) {
    void *matrix_data = nullptr, *bias_data = nullptr;
    MICROBENCH_CUDNN(cudnnGetRNNWeightParams, handle, rnn, static_cast<int>(pseudo_layer),
                     static_cast<std::size_t>(space_bytes), space, static_cast<int>(number), matrix,
                     &matrix_data, bias, &bias_data);
    const auto offset = [&](void* data) {
      return (static_cast<char*>(data) - static_cast<char*>(space)) / element_bytes;
    };
    const Matrix m(matrix);
    if (matrix_data == nullptr || m.rows != sizes.hidden || m.columns != width) {
      throw std::runtime_error("cuDNN's weight matrix has another shape than its layer");
    }
    blocks.push_back({operand, m.rows, m.columns, offset(matrix_data), m.row, m.column, matrix_at, columns});
    if (!has_bias) return;
    const Matrix b(bias);
    if (bias_data == nullptr || b.rows * b.columns != sizes.hidden) {
      throw std::runtime_error("cuDNN's bias has another size than its layer");
    }
    blocks.push_back({WeightOperand::bias, sizes.hidden, 1, offset(bias_data), 1, 1, bias_at, 1});
  };

  for (std::int64_t layer = 0; layer < sizes.layers; ++layer) {
    const std::int64_t width = sizes.width(layer);
    for (std::int64_t direction = 0; direction < sizes.directions; ++direction) {
      const std::int64_t pseudo_layer = layer * sizes.directions + direction;
      const std::int64_t input_at = sizes.input_weights(layer) + direction * width * columns;
      const std::int64_t recurrent_at = sizes.recurrent_weights(layer) + direction * sizes.hidden * columns;
      const std::int64_t bias_at = sizes.bias(layer) + direction * sizes.biases() * sizes.hidden;
      for (std::int64_t gate = 0; gate < sizes.gates(); ++gate) {
        const int number = gates[static_cast<std::size_t>(gate)];
        const std::int64_t unit = gate * sizes.hidden;
        add(pseudo_layer, number, WeightOperand::w_input, input_at + unit, width, bias_at + unit, true);
        const bool inside_reset = sizes.linear_before_reset() && gate == sizes.gates() - 1;
        add(pseudo_layer, number + sizes.gates(), WeightOperand::w_recurrent, recurrent_at + unit,
            sizes.hidden, bias_at + unit + sizes.hidden, inside_reset);
      }
    }
  }
  return blocks;
}

void pack(const std::vector<WeightBlock>& blocks, const std::vector<const void*>& operands, void* space,
          std::int64_t element_bytes) {
  for_size(element_bytes, [&](auto element) {
    for (const WeightBlock& block : blocks) {
      pack_elements<decltype(element)>(block, operands.at(static_cast<std::size_t>(block.operand)), space);
    }
  });
}

void unpack(const std::vector<WeightBlock>& blocks, const void* space, const std::vector<void*>& operands,
            std::int64_t element_bytes) {
  for_size(element_bytes, [&](auto element) {
    for (const WeightBlock& block : blocks) {
      unpack_elements<decltype(element)>(block, space, operands.at(static_cast<std::size_t>(block.operand)));
    }
  });
}

}  // namespace microbench::rnn
