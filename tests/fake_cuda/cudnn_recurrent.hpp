#pragma once

// The part of libcudnn.cpp that is about recurrent layers; uses what stands there before.

struct cudnnDropoutStruct {};
struct cudnnRNNStruct {
  cudnnRNNAlgo_t algorithm;
  fake::Recurrent shape;
  cudnnDataType_t type;
  cudnnMathType_t math;
  int built_for;
};
struct cudnnRNNDataStruct {
  int steps, batch, features;
};

namespace {

// The reserve space: this, then a trace.
struct ReserveHead {
  std::uint64_t magic, backward_runs;
};
constexpr std::uint64_t kMagic = 0x6d6963726f;

fake::Network network(const cudnnRNNStruct& rnn, const cudnnRNNDataStruct& x, const void* weights,
                      void* trace) {
  return {
      rnn.shape, rnn.type, x.steps, x.batch, weights, static_cast<double*>(trace), tf32(rnn.type, rnn.math)};
}

double seconds_of(const cudnnRNNStruct& rnn, const cudnnRNNDataStruct& x) {
  const auto weights = static_cast<double>(fake::WeightSpace(rnn.shape).elements);
  return 2 * weights * x.steps * x.batch / fake::kFlopsPerS;
}

std::size_t reserve_bytes(const cudnnRNNStruct* rnn, cudnnRNNDataDescriptor_t x) {
  return sizeof(ReserveHead) + sizeof(double) * static_cast<std::size_t>(fake::Network::trace_elements(
                                                    rnn->shape, x->steps, x->batch));
}
constexpr std::size_t kWorkBytes = 512;

// The reserve space of a training forward; null where there was none.
ReserveHead* trained(void* reserve) {
  auto* head = static_cast<ReserveHead*>(reserve);
  return head != nullptr && head->magic == kMagic ? head : nullptr;
}

}  // namespace

extern "C" {

cudnnStatus_t cudnnCreateDropoutDescriptor(cudnnDropoutDescriptor_t* made) { return create(made); }
cudnnStatus_t cudnnDestroyDropoutDescriptor(cudnnDropoutDescriptor_t made) { return destroy(made); }
cudnnStatus_t cudnnSetDropoutDescriptor(cudnnDropoutDescriptor_t, cudnnHandle_t, float dropout, void*, size_t,
                                        unsigned long long) {
  return dropout == 0 ? CUDNN_STATUS_SUCCESS : refuse(CUDNN_STATUS_NOT_SUPPORTED, "dropout");
}
cudnnStatus_t cudnnCreateRNNDescriptor(cudnnRNNDescriptor_t* made) { return create(made); }
cudnnStatus_t cudnnDestroyRNNDescriptor(cudnnRNNDescriptor_t made) { return destroy(made); }
cudnnStatus_t cudnnSetRNNDescriptor_v8(cudnnRNNDescriptor_t rnn, cudnnRNNAlgo_t algorithm,
                                       cudnnRNNMode_t mode, cudnnRNNBiasMode_t bias,
                                       cudnnDirectionMode_t direction, cudnnRNNInputMode_t input_mode,
                                       cudnnDataType_t type, cudnnDataType_t compute, cudnnMathType_t math,
                                       int32_t input, int32_t hidden, int32_t projection, int32_t layers,
                                       cudnnDropoutDescriptor_t, uint32_t) {
  if (bias != CUDNN_RNN_DOUBLE_BIAS || input_mode != CUDNN_LINEAR_INPUT || projection != hidden) {
    return refuse(CUDNN_STATUS_BAD_PARAM, "the fake has two biases, linear input and no projection");
  }
  if (algorithm == CUDNN_RNN_ALGO_PERSIST_STATIC && hidden % 8 != 0) {
    return refuse(CUDNN_STATUS_NOT_SUPPORTED, "persistent kernels need hidden sizes that are multiples of 8");
  }
  note("rnn algorithm " + std::to_string(algorithm) + " type " + std::to_string(type) + " compute " +
       std::to_string(compute) + " math " + std::to_string(math));
  *rnn = {algorithm, {mode, input, hidden, layers, direction == CUDNN_BIDIRECTIONAL ? 2 : 1}, type, math, 0};
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBuildRNNDynamic(cudnnHandle_t, cudnnRNNDescriptor_t rnn, int batch) {
  note("build for batch " + std::to_string(batch));
  rnn->built_for = batch;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnCreateRNNDataDescriptor(cudnnRNNDataDescriptor_t* made) { return create(made); }
cudnnStatus_t cudnnDestroyRNNDataDescriptor(cudnnRNNDataDescriptor_t made) { return destroy(made); }
cudnnStatus_t cudnnSetRNNDataDescriptor(cudnnRNNDataDescriptor_t data, cudnnDataType_t,
                                        cudnnRNNDataLayout_t layout, int steps, int batch, int features,
                                        const int lengths[], void*) {
  const bool whole = std::all_of(lengths, lengths + batch, [steps](int length) { return length == steps; });
  if (!whole || layout != CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED) {
    return refuse(CUDNN_STATUS_NOT_SUPPORTED, "the fake has packed sequences of one length");
  }
  *data = {steps, batch, features};
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetRNNTempSpaceSizes(cudnnHandle_t, cudnnRNNDescriptor_t rnn, cudnnForwardMode_t mode,
                                        cudnnRNNDataDescriptor_t x, size_t* work, size_t* reserve) {
  *work = kWorkBytes;
  *reserve = mode == CUDNN_FWD_MODE_TRAINING ? reserve_bytes(rnn, x) : 0;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetRNNWeightSpaceSize(cudnnHandle_t, cudnnRNNDescriptor_t rnn, size_t* bytes) {
  *bytes = static_cast<size_t>(fake::WeightSpace(rnn->shape).elements * fake::bytes_of(rnn->type));
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetRNNWeightParams(cudnnHandle_t, cudnnRNNDescriptor_t rnn, int32_t pseudo_layer, size_t,
                                      const void* space, int32_t number, cudnnTensorDescriptor_t matrix,
                                      void** matrix_data, cudnnTensorDescriptor_t bias, void** bias_data) {
  const fake::WeightSpace all(rnn->shape);
  const auto& piece = all.pieces.at(static_cast<size_t>(pseudo_layer)).at(static_cast<size_t>(number));
  const int rows = static_cast<int>(rnn->shape.hidden), columns = static_cast<int>(piece.width);
  *matrix = {rnn->type, {1, rows, columns}, {rows * columns, columns, 1}};
  *bias = {rnn->type, {1, rows, 1}, {rows, 1, 1}};
  auto* first = static_cast<char*>(const_cast<void*>(space));
  *matrix_data = first + piece.matrix * fake::bytes_of(rnn->type);
  *bias_data = first + piece.bias * fake::bytes_of(rnn->type);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnRNNForward(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, cudnnForwardMode_t mode,
                              const int32_t*, cudnnRNNDataDescriptor_t x, const void* x_data,
                              cudnnRNNDataDescriptor_t, void* y_data, cudnnTensorDescriptor_t, const void* hx,
                              void* hy, cudnnTensorDescriptor_t, const void* cx, void* cy, size_t,
                              const void* weights, size_t work_bytes, void* work, size_t reserve_size,
                              void* reserve) {
  if (rnn->algorithm == CUDNN_RNN_ALGO_PERSIST_DYNAMIC && rnn->built_for != x->batch) {
    return refuse(CUDNN_STATUS_BAD_PARAM, "not built for this batch");
  }
  const bool training = mode == CUDNN_FWD_MODE_TRAINING;
  if (work_bytes < kWorkBytes || (training && reserve_size < reserve_bytes(rnn, x))) {
    return refuse(CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT, "work or reserve space");
  }
  note(training ? "forward training" : "forward inference");
  const cudnnRNNStruct is = *rnn;
  const cudnnRNNDataStruct data = *x;
  handle->stream->run(seconds_of(is, data), [=] {
    std::memset(work, 0xAB, kWorkBytes);
    std::vector<double> own;
    void* trace = nullptr;
    if (training) {
      *static_cast<ReserveHead*>(reserve) = {kMagic, 0};
      trace = static_cast<ReserveHead*>(reserve) + 1;
    } else {
      own.resize(static_cast<size_t>(fake::Network::trace_elements(is.shape, data.steps, data.batch)));
      trace = own.data();
    }
    network(is, data, weights, trace).forward(x_data, y_data, hx, hy, cx, cy);
  });
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnRNNBackwardData_v8(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, const int32_t*,
                                      cudnnRNNDataDescriptor_t, const void*, const void* dy,
                                      cudnnRNNDataDescriptor_t x, void* dx, cudnnTensorDescriptor_t,
                                      const void*, const void* dhy, void* dhx, cudnnTensorDescriptor_t,
                                      const void*, const void* dcy, void* dcx, size_t, const void* weights,
                                      size_t, void*, size_t, void* reserve) {
  ReserveHead* head = trained(reserve);
  if (head == nullptr) return refuse(CUDNN_STATUS_BAD_PARAM, "backward without a training forward");
  note("backward data");
  const cudnnRNNStruct is = *rnn;
  const cudnnRNNDataStruct data = *x;
  handle->stream->run(seconds_of(is, data), [=] {
    ++head->backward_runs;
    network(is, data, weights, head + 1).backward_data(dy, dx, dhy, dhx, dcy, dcx);
  });
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnRNNBackwardWeights_v8(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn,
                                         cudnnWgradMode_t mode, const int32_t*, cudnnRNNDataDescriptor_t x,
                                         const void* x_data, cudnnTensorDescriptor_t, const void*,
                                         cudnnRNNDataDescriptor_t, const void*, size_t, void* gradients,
                                         size_t, void*, size_t, void* reserve) {
  ReserveHead* head = trained(reserve);
  if (head == nullptr || head->backward_runs == 0) {
    return refuse(CUDNN_STATUS_BAD_PARAM, "backward of weights before that of data");
  }
  if (mode != CUDNN_WGRAD_MODE_ADD) return refuse(CUDNN_STATUS_NOT_SUPPORTED, "gradients are added");
  note("backward weights");
  const cudnnRNNStruct is = *rnn;
  const cudnnRNNDataStruct data = *x;
  handle->stream->run(seconds_of(is, data),
                      [=] { network(is, data, gradients, head + 1).backward_weights(x_data, gradients); });
  return CUDNN_STATUS_SUCCESS;
}

}  // extern "C"
