#pragma once

#include <functional>
#include <memory>

#include "common/harness.hpp"

namespace microbench {

// fp16 in memory, fp32 arithmetic: wraps the fp32 harness of the same request and converts inside launch(),
// because a user without fp16 units pays for the conversion too. Throws Unsupported where the processor has
// no conversion instructions.
std::unique_ptr<Harness> fp16_in_fp32_math(
    const Request& request, const std::function<std::unique_ptr<Harness>(const Request&)>& open);

}  // namespace microbench
