#pragma once

#include <cuda_runtime_api.h>
#include <library_types.h>

#include <cstdint>

#ifdef __CUDACC__
#define MICROBENCH_HOST_DEVICE __host__ __device__
#else
#define MICROBENCH_HOST_DEVICE
#endif

// Lowering of images to matrices and back: index arithmetic that host and device share, and the kernels that
// do it.
namespace microbench::conv {

// Some images and the matrices that they are lowered to. A tap is a channel of a group and a place in the
// filter.
//   nchw  images (image, channel, h, w);  matrices (image, group, tap: channel r s, pixel of the output)
//   nhwc  images (image, h, w, channel);  matrices (group, image, pixel of the output, tap: r s channel)
struct Lowering {
  bool channels_last;
  std::int64_t images, groups, channels;  // channels of one group
  std::int64_t h, w, r, s, out_h, out_w;
  std::int64_t pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w;

  MICROBENCH_HOST_DEVICE std::int64_t taps() const { return channels * r * s; }
  MICROBENCH_HOST_DEVICE std::int64_t pixels() const { return out_h * out_w; }
  MICROBENCH_HOST_DEVICE std::int64_t lowered_elements() const { return images * groups * taps() * pixels(); }
  MICROBENCH_HOST_DEVICE std::int64_t image_elements() const { return images * groups * channels * h * w; }

  // The element of the images that element `index` of the matrices is, or -1 outside of the image.
  MICROBENCH_HOST_DEVICE std::int64_t source(std::int64_t index) const {
    std::int64_t image = 0, group = 0, channel = 0, i = 0, j = 0, y = 0, x = 0;
    if (channels_last) {
      channel = index % channels, index /= channels;
      j = index % s, index /= s;
      i = index % r, index /= r;
      x = index % out_w, index /= out_w;
      y = index % out_h, index /= out_h;
      image = index % images, group = index / images;
    } else {
      x = index % out_w, index /= out_w;
      y = index % out_h, index /= out_h;
      j = index % s, index /= s;
      i = index % r, index /= r;
      channel = index % channels, index /= channels;
      group = index % groups, image = index / groups;
    }
    const std::int64_t row = y * stride_h + i * dilation_h - pad_h;
    const std::int64_t column = x * stride_w + j * dilation_w - pad_w;
    if (row < 0 || row >= h || column < 0 || column >= w) return -1;
    if (channels_last)
      return ((image * h + row) * w + column) * groups * channels + group * channels + channel;
    return (((image * groups + group) * channels + channel) * h + row) * w + column;
  }

  // The sum of load(element of the matrices) over all elements whose source is element `index` of the images,
  // in a fixed order.
  template <typename Sum, typename Load>
  MICROBENCH_HOST_DEVICE Sum raised(std::int64_t index, Load load) const {
    std::int64_t image = 0, group = 0, channel = 0, row = 0, column = 0;
    if (channels_last) {
      channel = index % channels, index /= channels;
      group = index % groups, index /= groups;
      column = index % w, index /= w;
      row = index % h, image = index / h;
    } else {
      column = index % w, index /= w;
      row = index % h, index /= h;
      channel = index % channels, index /= channels;
      group = index % groups, image = index / groups;
    }
    Sum sum = 0;
    for (std::int64_t i = 0; i < r; ++i) {
      const std::int64_t top = row + pad_h - i * dilation_h;
      if (top < 0 || top % stride_h != 0 || top / stride_h >= out_h) continue;
      for (std::int64_t j = 0; j < s; ++j) {
        const std::int64_t left = column + pad_w - j * dilation_w;
        if (left < 0 || left % stride_w != 0 || left / stride_w >= out_w) continue;
        const std::int64_t pixel = top / stride_h * out_w + left / stride_w;
        const std::int64_t tap = channels_last ? (i * s + j) * channels + channel : (channel * r + i) * s + j;
        sum += load(channels_last ? ((group * images + image) * pixels() + pixel) * taps() + tap
                                  : ((image * groups + group) * taps() + tap) * pixels() + pixel);
      }
    }
    return sum;
  }
};

// The kernels, put into a stream. `type` is that of the images; matrices of gradients are float, or double
// for CUDA_R_64F.
void enqueue_lower(const Lowering& lowering, const void* images, void* matrices, std::int64_t element_bytes,
                   cudaStream_t stream);
void enqueue_raise(const Lowering& lowering, const void* matrices, void* images, cudaDataType_t type,
                   cudaStream_t stream);
// Rounds sums to a 16-bit type.
void enqueue_round(const float* sums, void* values, std::int64_t count, cudaDataType_t type,
                   cudaStream_t stream);

}  // namespace microbench::conv
