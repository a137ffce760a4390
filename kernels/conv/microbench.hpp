#pragma once

#include <memory>

#include "common/harness.hpp"

namespace microbench::conv {

// Our own algorithms, fp32. Each throws Unsupported for what it cannot do and WorkspaceExceeded before
// allocating.
std::unique_ptr<Harness> open_im2col(const Request& request);
std::unique_ptr<Harness> open_implicit_gemm(const Request& request);
std::unique_ptr<Harness> open_winograd(const Request& request);
std::unique_ptr<Harness> open_fft(const Request& request);

}  // namespace microbench::conv
