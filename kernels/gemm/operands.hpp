#pragma once

#include <string>

#include "common/error.hpp"
#include "common/harness.hpp"

namespace microbench::gemm {

// C (m x n) = op(A) (m x k) * op(B) (k x n), all column-major and dense, as in BLAS; `batch` such products,
// one matrix after the other.
struct Sizes {
  std::int64_t m, n, k, batch;
  bool a_transposed, b_transposed;

  explicit Sizes(const Request& request)
      : m(request.integer("m")),
        n(request.integer("n")),
        k(request.integer("k")),
        batch(request.integer("batch")),
        a_transposed(request.boolean("a_transposed")),
        b_transposed(request.boolean("b_transposed")) {}

  std::int64_t lda() const { return a_transposed ? k : m; }
  std::int64_t ldb() const { return b_transposed ? n : k; }
  std::int64_t ldc() const { return m; }
  // Elements of one matrix.
  std::int64_t a_elements() const { return m * k; }
  std::int64_t b_elements() const { return k * n; }
  std::int64_t c_elements() const { return m * n; }
};

// The operands in buffers of the host or of a device.
template <typename AnyBuffer, typename AnyOperand>
struct OperandsIn {
  AnyBuffer a, b, c;

  OperandsIn(const Sizes& sizes, ElementType storage, ElementType output)
      : OperandsIn(sizes, storage, storage, output) {}
  OperandsIn(const Sizes& sizes, ElementType storage_a, ElementType storage_b, ElementType output)
      : a(storage_a, sizes.batch * sizes.a_elements()),
        b(storage_b, sizes.batch * sizes.b_elements()),
        c(output, sizes.batch * sizes.c_elements()) {}

  std::vector<AnyOperand> list() { return {{"a", &a, false}, {"b", &b, false}, {"c", &c, true}}; }
};

using Operands = OperandsIn<Buffer, Operand>;

}  // namespace microbench::gemm
