#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <stdexcept>

#include "common/cuda/error.hpp"
#include "conv/cuda_im2col.hpp"

namespace microbench::conv {
namespace {

constexpr int kThreads = 256;

// Blocks for `count` elements; kernels step on by the whole grid where these are more.
unsigned blocks_for(std::int64_t count) {
  constexpr std::int64_t kMost = std::int64_t{1} << 20;
  return static_cast<unsigned>(std::clamp<std::int64_t>((count + kThreads - 1) / kThreads, 1, kMost));
}

__device__ std::int64_t first() { return std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }
__device__ std::int64_t step() { return std::int64_t{gridDim.x} * blockDim.x; }

__device__ void store(double sum, double* to) { *to = sum; }
__device__ void store(float sum, float* to) { *to = sum; }
__device__ void store(float sum, __half* to) { *to = __float2half_rn(sum); }
__device__ void store(float sum, __nv_bfloat16* to) { *to = __float2bfloat16_rn(sum); }

template <typename Element>
__global__ void lower(Lowering lowering, const Element* __restrict__ images, Element* __restrict__ matrices) {
  const std::int64_t count = lowering.lowered_elements();
  for (std::int64_t index = first(); index < count; index += step()) {
    const std::int64_t source = lowering.source(index);
    matrices[index] = source < 0 ? Element{0} : images[source];
  }
}

template <typename Sum, typename Element>
__global__ void raise(Lowering lowering, const Sum* __restrict__ matrices, Element* __restrict__ images) {
  const std::int64_t count = lowering.image_elements();
  for (std::int64_t index = first(); index < count; index += step()) {
    const auto load = [matrices](std::int64_t element) { return matrices[element]; };
    store(lowering.raised<Sum>(index, load), images + index);
  }
}

template <typename Element>
__global__ void round(const float* __restrict__ sums, Element* __restrict__ values, std::int64_t count) {
  for (std::int64_t index = first(); index < count; index += step()) store(sums[index], values + index);
}

template <typename Element>
void launch_lower(const Lowering& lowering, const void* images, void* matrices, cudaStream_t stream) {
  lower<<<blocks_for(lowering.lowered_elements()), kThreads, 0, stream>>>(
      lowering, static_cast<const Element*>(images), static_cast<Element*>(matrices));
  MICROBENCH_CUDA(cudaGetLastError());
}

template <typename Sum, typename Element>
void launch_raise(const Lowering& lowering, const void* matrices, void* images, cudaStream_t stream) {
  raise<<<blocks_for(lowering.image_elements()), kThreads, 0, stream>>>(
      lowering, static_cast<const Sum*>(matrices), static_cast<Element*>(images));
  MICROBENCH_CUDA(cudaGetLastError());
}

template <typename Element>
void launch_round(const float* sums, void* values, std::int64_t count, cudaStream_t stream) {
  round<<<blocks_for(count), kThreads, 0, stream>>>(sums, static_cast<Element*>(values), count);
  MICROBENCH_CUDA(cudaGetLastError());
}

}  // namespace

void enqueue_lower(const Lowering& lowering, const void* images, void* matrices, std::int64_t element_bytes,
                   cudaStream_t stream) {
  switch (element_bytes) {
    case 1:
      return launch_lower<std::uint8_t>(lowering, images, matrices, stream);
    case 2:
      return launch_lower<std::uint16_t>(lowering, images, matrices, stream);
    case 4:
      return launch_lower<std::uint32_t>(lowering, images, matrices, stream);
    case 8:
      return launch_lower<std::uint64_t>(lowering, images, matrices, stream);
    default:
      throw std::logic_error("no images have elements of that size");
  }
}

void enqueue_raise(const Lowering& lowering, const void* matrices, void* images, cudaDataType_t type,
                   cudaStream_t stream) {
  switch (type) {
    case CUDA_R_64F:
      return launch_raise<double, double>(lowering, matrices, images, stream);
    case CUDA_R_32F:
      return launch_raise<float, float>(lowering, matrices, images, stream);
    case CUDA_R_16F:
      return launch_raise<float, __half>(lowering, matrices, images, stream);
    case CUDA_R_16BF:
      return launch_raise<float, __nv_bfloat16>(lowering, matrices, images, stream);
    default:
      throw std::logic_error("no gradients of images have that type");
  }
}

void enqueue_round(const float* sums, void* values, std::int64_t count, cudaDataType_t type,
                   cudaStream_t stream) {
  if (type == CUDA_R_16F) return launch_round<__half>(sums, values, count, stream);
  if (type == CUDA_R_16BF) return launch_round<__nv_bfloat16>(sums, values, count, stream);
  throw std::logic_error("only 16-bit types are rounded to");
}

}  // namespace microbench::conv
