#pragma once

#include <string>

#include "common/error.hpp"
#include "common/harness.hpp"

namespace microbench::gemm {

// C (m x n) = op(A) (m x k) * op(B) (k x n), all column-major and dense, as in BLAS.
struct Sizes {
  std::int64_t m, n, k;
  bool a_transposed, b_transposed;

  explicit Sizes(const Request& request)
      : m(request.integer("m")),
        n(request.integer("n")),
        k(request.integer("k")),
        a_transposed(request.boolean("a_transposed")),
        b_transposed(request.boolean("b_transposed")) {}

  std::int64_t lda() const { return a_transposed ? k : m; }
  std::int64_t ldb() const { return b_transposed ? n : k; }
  std::int64_t ldc() const { return m; }
};

struct Operands {
  Buffer a, b, c;

  Operands(const Sizes& sizes, ElementType storage, ElementType output)
      : a(storage, sizes.m * sizes.k), b(storage, sizes.k * sizes.n), c(output, sizes.m * sizes.n) {}

  std::vector<Operand> list() { return {{"a", &a, false}, {"b", &b, false}, {"c", &c, true}}; }
};

}  // namespace microbench::gemm
