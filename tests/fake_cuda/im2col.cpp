// What kernels/conv/im2col.cu does, on host memory and by the same index arithmetic.

#include "conv/cuda_im2col.hpp"

#include "device.hpp"
#include "values.hpp"

namespace microbench::conv {
namespace {

cudnnDataType_t named(cudaDataType_t type) {
  switch (type) {
    case CUDA_R_64F:
      return CUDNN_DATA_DOUBLE;
    case CUDA_R_32F:
      return CUDNN_DATA_FLOAT;
    case CUDA_R_16F:
      return CUDNN_DATA_HALF;
    case CUDA_R_16BF:
      return CUDNN_DATA_BFLOAT16;
    default:
      throw std::logic_error("no gradients of images have that type");
  }
}

double seconds(std::int64_t elements) { return static_cast<double>(elements) / fake::kBytesPerS; }

}  // namespace

void enqueue_lower(const Lowering& lowering, const void* images, void* matrices, std::int64_t element_bytes,
                   cudaStream_t stream) {
  stream->run(seconds(lowering.lowered_elements()), [=] {
    const auto bytes = static_cast<std::size_t>(element_bytes);
    for (std::int64_t index = 0; index < lowering.lowered_elements(); ++index) {
      const std::int64_t source = lowering.source(index);
      char* to = static_cast<char*>(matrices) + index * element_bytes;
      if (source < 0) {
        std::memset(to, 0, bytes);
      } else {
        std::memcpy(to, static_cast<const char*>(images) + source * element_bytes, bytes);
      }
    }
  });
}

void enqueue_raise(const Lowering& lowering, const void* matrices, void* images, cudaDataType_t type,
                   cudaStream_t stream) {
  stream->run(seconds(lowering.image_elements()), [=] {
    const cudnnDataType_t from = type == CUDA_R_64F ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT;
    for (std::int64_t index = 0; index < lowering.image_elements(); ++index) {
      const auto load = [&](std::int64_t element) { return fake::load(from, matrices, element); };
      fake::store(named(type), images, index, lowering.raised<double>(index, load));
    }
  });
}

void enqueue_round(const float* sums, void* values, std::int64_t count, cudaDataType_t type,
                   cudaStream_t stream) {
  stream->run(seconds(count), [=] {
    for (std::int64_t index = 0; index < count; ++index) {
      fake::store(named(type), values, index, static_cast<double>(sums[index]));
    }
  });
}

}  // namespace microbench::conv
