#pragma once

#include <memory>

#include "conv/place.hpp"

namespace microbench::conv {

// Our own algorithms, fp32, with memory of their own where `place` is null. Each throws Unsupported for what
// it cannot do and WorkspaceExceeded before allocating.
std::unique_ptr<Harness> open_im2col(const Request& request, const Place* place);
std::unique_ptr<Harness> open_implicit_gemm(const Request& request, const Place* place);
std::unique_ptr<Harness> open_winograd(const Request& request, const Place* place);
std::unique_ptr<Harness> open_fft(const Request& request, const Place* place);

}  // namespace microbench::conv
