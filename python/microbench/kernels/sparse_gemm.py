"""Product of a sparse and a dense matrix."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from microbench.errors import InputError
from microbench.problem import ITEM_BYTES, Precision


@dataclass(frozen=True)
class SparseGemmProblem:
    """C (m x n) = op(A) (m x k) * op(B) (k x n) with a share ``sparsity`` of A's elements zero.

    Raises InputError where ``sparsity`` is not in [0, 1).
    """

    kernel: ClassVar[str] = "sparse_gemm"

    m: int
    n: int
    k: int
    a_transposed: bool = False
    b_transposed: bool = False
    sparsity: float = field(default=0.0, metadata={"minimum": 0})

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise InputError(f"sparsity is {self.sparsity}; it must be a share of zeros in 0 <= sparsity < 1")

    def nonzeros(self) -> int:
        """Elements of A that are not zero."""
        return self.m * self.k - round(self.m * self.k * self.sparsity)

    def flops(self) -> int:
        """2 n operations for each non-zero of A: products with zeros are not counted."""
        return 2 * self.n * self.nonzeros()

    def bytes(self, precision: Precision) -> int:
        """Compulsory traffic in bytes: the non-zeros of A and all of B read once, C written once.

        Where the non-zeros lie is left out: what that takes depends on the storage format.
        """
        inputs = (self.nonzeros() + self.k * self.n) * ITEM_BYTES[precision.storage]
        return inputs + self.m * self.n * ITEM_BYTES[precision.output]


PROBLEM = SparseGemmProblem
