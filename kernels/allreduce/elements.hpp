#pragma once

#include <cstdint>
#include <string>

#include "common/harness.hpp"
#include "common/mpi.hpp"

namespace microbench::mpi {

enum class Operation { sum, max, min };

Operation operation(const std::string& name);

// out[i] = a[i] op b[i]; out may be a or b. fp16 and bf16 are combined in fp32 and rounded to nearest even.
using Combine = void(void* out, const void* a, const void* b, std::int64_t elements);

Combine* combiner(ElementType type, Operation operation);

// The same as an MPI_User_function, for the element types that MPI does not know: float16 and bfloat16.
UserFunction* user_function(ElementType type, Operation operation);

void narrow(const float* from, std::uint16_t* to, std::int64_t elements);  // fp32 to fp16
void widen(const std::uint16_t* from, float* to, std::int64_t elements);   // fp16 to fp32

}  // namespace microbench::mpi
