// Recurrent layers through cuDNN's RNN interface of version 8, all on plain tnc and ldnc operands of one
// type. Weights are brought to where cuDNN wants them in the preparation, untimed, and their gradients back
// after timing.

#include <array>
#include <numeric>

#include "common/registry.hpp"
#include "rnn/cudnn_weights.hpp"

namespace microbench::rnn {
namespace {

using cuda::as_int;

MICROBENCH_CUDNN_DESCRIPTOR(RnnDescriptor, cudnnRNNDescriptor_t, cudnnCreateRNNDescriptor,
                            cudnnDestroyRNNDescriptor);
MICROBENCH_CUDNN_DESCRIPTOR(DataDescriptor, cudnnRNNDataDescriptor_t, cudnnCreateRNNDataDescriptor,
                            cudnnDestroyRNNDataDescriptor);
MICROBENCH_CUDNN_DESCRIPTOR(DropoutDescriptor, cudnnDropoutDescriptor_t, cudnnCreateDropoutDescriptor,
                            cudnnDestroyDropoutDescriptor);

struct Named {
  const char* name;
  cudnnRNNAlgo_t algorithm;
};

// cuDNN has no choice of its own: "auto" is the first.
constexpr std::array<Named, 4> kAlgorithms{
    {{"standard", CUDNN_RNN_ALGO_STANDARD},
     {"persist_static", CUDNN_RNN_ALGO_PERSIST_STATIC},
     {"persist_dynamic", CUDNN_RNN_ALGO_PERSIST_DYNAMIC},
     {"persist_static_small_h", CUDNN_RNN_ALGO_PERSIST_STATIC_SMALL_H}}};

const Named& algorithm_called(const std::string& name) {
  for (const Named& each : kAlgorithms) {
    if (name == "auto" || name == each.name) return each;
  }
  throw Unsupported("cuDNN has no recurrent algorithm '" + name + "'");
}

cudnnRNNMode_t mode_of(const Sizes& sizes) {
  if (sizes.cell == "vanilla") return CUDNN_RNN_RELU;
  if (sizes.cell == "vanilla_tanh") return CUDNN_RNN_TANH;
  if (sizes.lstm()) return CUDNN_LSTM;
  if (sizes.linear_before_reset()) return CUDNN_GRU;
  throw Unsupported("cuDNN has no " + sizes.cell +
                    ": its GRU multiplies by the reset gate after the product, cell gru");
}

cuda::CudnnPrecision precision_of(const Request& request) {
  const cuda::CudnnPrecision precision = cuda::cudnn_precision(request.precision);
  if (precision.storage == ElementType::int8) throw Unsupported("cuDNN has no int8 recurrent layers");
  return precision;
}

// All that cuDNN is told before it runs.
struct Descriptors {
  RnnDescriptor rnn;
  DropoutDescriptor dropout;
  DataDescriptor x, y;
  cuda::TensorDescriptor state;

  Descriptors(cudnnHandle_t handle, const Sizes& sizes, const Named& algorithm,
              const cuda::CudnnPrecision& precision) {
    const cudnnDataType_t type = cuda::cudnn_type(precision.storage);
    MICROBENCH_CUDNN(cudnnSetDropoutDescriptor, dropout, handle, 0.0F, nullptr, std::size_t{0}, 0ULL);
    MICROBENCH_CUDNN(cudnnSetRNNDescriptor_v8, rnn, algorithm.algorithm, mode_of(sizes),
                     CUDNN_RNN_DOUBLE_BIAS,
                     sizes.directions == 2 ? CUDNN_BIDIRECTIONAL : CUDNN_UNIDIRECTIONAL, CUDNN_LINEAR_INPUT,
                     type, precision.compute, precision.math, as_int(sizes.input), as_int(sizes.hidden),
                     as_int(sizes.hidden), as_int(sizes.layers), dropout, CUDNN_RNN_PADDED_IO_DISABLED);
    const std::vector<int> lengths(static_cast<std::size_t>(sizes.batch), as_int(sizes.steps));
    const auto sequence = [&](const DataDescriptor& descriptor, std::int64_t features) {
      MICROBENCH_CUDNN(cudnnSetRNNDataDescriptor, descriptor, type, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED,
                       as_int(sizes.steps), as_int(sizes.batch), as_int(features), lengths.data(), nullptr);
    };
    sequence(x, sizes.input);
    sequence(y, sizes.output());
    const std::array<int, 3> dimensions{as_int(sizes.layers * sizes.directions), as_int(sizes.batch),
                                        as_int(sizes.hidden)};
    const std::array<int, 3> strides{as_int(sizes.batch * sizes.hidden), as_int(sizes.hidden), 1};
    MICROBENCH_CUDNN(cudnnSetTensorNdDescriptor, state, type, 3, dimensions.data(), strides.data());
    // Compiled for this very batch.
    if (algorithm.algorithm == CUDNN_RNN_ALGO_PERSIST_DYNAMIC) {
      MICROBENCH_CUDNN(cudnnBuildRNNDynamic, handle, rnn, as_int(sizes.batch));
    }
  }
};

// Memory besides the operands and the weights.
struct Space {
  std::int64_t work = 0;
  std::int64_t reserve = 0;  // what the training forward leaves for the backward

  Space(cudnnHandle_t handle, const Descriptors& descriptors, cudnnForwardMode_t mode, std::int64_t limit) {
    std::size_t work_bytes = 0, reserve_bytes = 0;
    MICROBENCH_CUDNN(cudnnGetRNNTempSpaceSizes, handle, descriptors.rnn, mode, descriptors.x, &work_bytes,
                     &reserve_bytes);
    work = static_cast<std::int64_t>(work_bytes);
    reserve = static_cast<std::int64_t>(reserve_bytes);
    cuda::within(limit, work + reserve);
  }
};

std::int64_t weight_bytes(cudnnHandle_t handle, const Descriptors& descriptors) {
  std::size_t bytes = 0;
  MICROBENCH_CUDNN(cudnnGetRNNWeightSpaceSize, handle, descriptors.rnn, &bytes);
  return static_cast<std::int64_t>(bytes);
}

class CudnnRnn final : public cuda::CudaHarness {
 public:
  explicit CudnnRnn(const Request& request)
      : sizes_(request),
        precision_(precision_of(request)),
        algorithm_(algorithm_called(request.algorithm)),
        mode_(sizes_.training() ? CUDNN_FWD_MODE_TRAINING : CUDNN_FWD_MODE_INFERENCE),
        handle_(stream()),
        descriptors_(handle_, sizes_, algorithm_, precision_),
        space_(handle_, descriptors_, mode_, request.workspace_limit),
        work_(std::max<std::int64_t>(space_.work, 1)),  // a null one is refused
        reserve_(space_.reserve),
        weights_(weight_bytes(handle_, descriptors_)),
        gradients_(sizes_.backward() ? weights_.bytes() : 0),
        blocks_(weight_blocks(handle_, descriptors_.rnn, sizes_, weights_.data(), weights_.bytes(),
                              element_bytes(precision_.storage))),
        staging_(weights_.bytes()),
        operands_(sizes_, {precision_.storage, precision_.storage, precision_.storage, precision_.storage}) {}

  // Places the weights; before a backward runs the training forward whose reserve space it consumes.
  void enqueue_preparation(cudaStream_t stream) override {
    std::memset(staging_.data(), 0, static_cast<std::size_t>(staging_.bytes()));
    pack(blocks_,
         {operands_.w_input->host().data(), operands_.w_recurrent->host().data(),
          operands_.bias->host().data()},
         staging_.data(), element_bytes(precision_.storage));
    MICROBENCH_CUDA(cudaMemcpyAsync(weights_.data(), staging_.data(),
                                    static_cast<std::size_t>(weights_.bytes()), cudaMemcpyHostToDevice,
                                    stream));
    if (sizes_.backward()) forward(stream);
  }

  void enqueue(cudaStream_t stream) override {
    if (sizes_.backward()) {
      backward(stream);
    } else {
      forward(stream);
    }
  }

  void enqueue_collection(cudaStream_t stream) override {
    if (!sizes_.backward()) return;
    MICROBENCH_CUDA(cudaMemcpyAsync(staging_.data(), gradients_.data(),
                                    static_cast<std::size_t>(gradients_.bytes()), cudaMemcpyDeviceToHost,
                                    stream));
    MICROBENCH_CUDA(cudaStreamSynchronize(stream));
    const std::array<cuda::Buffer*, 3> gradients{operands_.dw_input.get(), operands_.dw_recurrent.get(),
                                                 operands_.dbias.get()};
    unpack(blocks_, staging_.data(),
           {gradients[0]->host().data(), gradients[1]->host().data(), gradients[2]->host().data()},
           element_bytes(precision_.storage));
    for (cuda::Buffer* gradient : gradients) gradient->upload(stream);
  }

  std::vector<cuda::DeviceOperand> device_operands() override { return operands_.list(); }
  std::string implementation() const override { return algorithm_.name; }
  std::int64_t workspace_bytes() const override { return space_.work + space_.reserve; }

 private:
  // Since cuDNN 8.9.1 the descriptors of the sequences alone say how long they are.
  static constexpr const std::int32_t* kDeviceLengths = nullptr;

  static void* data(const std::unique_ptr<cuda::Buffer>& buffer) {
    return buffer == nullptr ? nullptr : buffer->data();
  }
  cudnnTensorDescriptor_t cell_state() const {
    return sizes_.lstm() ? static_cast<cudnnTensorDescriptor_t>(descriptors_.state) : nullptr;
  }

  void forward(cudaStream_t stream) {
    handle_.use(stream);
    const DeviceOperands& o = operands_;
    MICROBENCH_CUDNN(cudnnRNNForward, handle_, descriptors_.rnn, mode_, kDeviceLengths, descriptors_.x,
                     data(o.x), descriptors_.y, data(o.y), descriptors_.state, data(o.h0), data(o.hn),
                     cell_state(), data(o.c0), data(o.cn), bytes(weights_), weights_.data(), bytes(work_),
                     work_.data(), bytes(reserve_), reserve_.data());
  }

  void backward(cudaStream_t stream) {
    handle_.use(stream);
    const DeviceOperands& o = operands_;
    // cuDNN adds to the gradients of weights and biases, so that a caller starts from zero.
    MICROBENCH_CUDA(cudaMemsetAsync(gradients_.data(), 0, bytes(gradients_), stream));
    MICROBENCH_CUDNN(cudnnRNNBackwardData_v8, handle_, descriptors_.rnn, kDeviceLengths, descriptors_.y,
                     data(o.y), data(o.dy), descriptors_.x, data(o.dx), descriptors_.state, data(o.h0),
                     data(o.dhn), data(o.dh0), cell_state(), data(o.c0), data(o.dcn), data(o.dc0),
                     bytes(weights_), weights_.data(), bytes(work_), work_.data(), bytes(reserve_),
                     reserve_.data());
    MICROBENCH_CUDNN(cudnnRNNBackwardWeights_v8, handle_, descriptors_.rnn, CUDNN_WGRAD_MODE_ADD,
                     kDeviceLengths, descriptors_.x, data(o.x), descriptors_.state, data(o.h0),
                     descriptors_.y, data(o.y), bytes(gradients_), gradients_.data(), bytes(work_),
                     work_.data(), bytes(reserve_), reserve_.data());
  }

  static std::size_t bytes(const cuda::Memory& memory) { return static_cast<std::size_t>(memory.bytes()); }

  Sizes sizes_;
  cuda::CudnnPrecision precision_;
  Named algorithm_;
  cudnnForwardMode_t mode_;
  cuda::CudnnHandle handle_;
  Descriptors descriptors_;
  Space space_;
  cuda::Memory work_, reserve_, weights_, gradients_;
  std::vector<WeightBlock> blocks_;
  Memory staging_;
  DeviceOperands operands_;
};

std::unique_ptr<Harness> open(const Request& request) {
  cuda::cudnn(request.library_path);
  return std::make_unique<CudnnRnn>(request);
}

std::vector<std::string> algorithms(const Request&) {
  std::vector<std::string> names;
  for (const Named& each : kAlgorithms) names.emplace_back(each.name);
  return names;
}

const Registration registration({"rnn", "cudnn", open, algorithms, cuda::describe_cudnn});

}  // namespace
}  // namespace microbench::rnn
