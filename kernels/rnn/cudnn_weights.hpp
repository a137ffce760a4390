#pragma once

#include <cstdint>
#include <vector>

#include "common/cuda/cudnn_objects.hpp"
#include "common/cuda/harness.hpp"
#include "rnn/operands.hpp"

// Where cuDNN keeps the weights that the operands hold by name.
namespace microbench::rnn {

using DeviceOperands = OperandsIn<cuda::Buffer, cuda::DeviceOperand>;

enum class WeightOperand { w_input, w_recurrent, bias };

// One matrix (rows: units, columns: features) or bias (one column) in cuDNN's weight space and in its
// operand, where units lie side by side. Offsets and strides in elements.
struct WeightBlock {
  WeightOperand operand;
  std::int64_t rows, columns;
  std::int64_t space_offset, space_row, space_column;
  std::int64_t operand_offset, operand_column;
};

// As cudnnGetRNNWeightParams says. `space` is the weight space on the device, only its address is used. cuDNN
// has a bias on the input's and one on the state's side of each gate; only the linear-before-reset GRU's last
// bias is of the second kind, all others of that kind are in no block: they must stay zero.
std::vector<WeightBlock> weight_blocks(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, const Sizes& sizes,
                                       void* space, std::int64_t space_bytes, std::int64_t element_bytes);

// Copies every block between the weight space and the operands, given as host memory in the order of
// WeightOperand.
void pack(const std::vector<WeightBlock>& blocks, const std::vector<const void*>& operands, void* space,
          std::int64_t element_bytes);
void unpack(const std::vector<WeightBlock>& blocks, const void* space, const std::vector<void*>& operands,
            std::int64_t element_bytes);

}  // namespace microbench::rnn
