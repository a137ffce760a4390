#pragma once

#include <cuda_runtime_api.h>

#include <vector>

#include "common/cuda/kernels.hpp"
#include "device.hpp"

namespace fake {

// The blocking kernel: the stream's clock counts nothing but device time until the host waits for it.
void block(cudaStream_t stream, microbench::cuda::BlockerFlags* flags, std::uint64_t ticket,
           std::uint64_t limit_ns);

}  // namespace fake
