"""Product of two matrices, as in BLAS: C = op(A) op(B), dense and column-major; or of a batch of such pairs.

Operands: "a" (m x k, stored k x m where transposed), "b" (k x n, stored n x k where transposed), "c" (m x n), one
matrix of the batch after the other.

How a result is judged:

- Random operands, floating-point accumulation: each element may differ from the float64 product by
  ``accumulation_tolerance(k + 1, u)`` of ``|op(A)| |op(B)|``, u the unit roundoff of the accumulator: k
  products and sums, and one for the scale, which is computed in float32. The float64 product is allowed the
  same with its own u. An output narrower than the accumulator may add one rounding of the element (Higham
  2002, section 3.1). Products of 16-bit operands are exact in float32, so nothing is allowed for them. Where
  the output is as wide as the accumulator the whole result must also keep ``frobenius_gamma(k + 1, u)``: that
  tells fp32 arithmetic from TF32 or bf16 products, whatever k. TF32 products may add twice the rounding of an
  operand, by truncation, of ``|op(A)| |op(B)|``, and three quarters of that to the whole result: bf16 products
  deviate by more. (Narrower operands are left out: tensor units
  truncate their sums, and the output's own rounding hides more.)
- Integer operands, and int8 always: every partial sum, in whatever order, is an integer that the accumulator
  holds exactly. The result must then be the exact sum, correctly rounded to the output's type; the tolerance
  is 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import isqrt
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from microbench.filling import fill_integers, fill_random
from microbench.problem import ITEM_BYTES, Case, Precision
from microbench.verification import (
    Array,
    Check,
    Comparison,
    accumulation_tolerance,
    array_module,
    decoded,
    frobenius_gamma,
    largest_integer,
    rounded,
    scale_type,
    unit_roundoff,
)

if TYPE_CHECKING:
    from numpy.random import Generator

    from microbench.problem import Operands

# Rows, columns and terms that are in float64 at a time: 32 MiB for each of at most six temporary matrices.
_BLOCK = 2048
# Smallest range of integers where the sum need not fit the output: +-1 alone would miss half of all mix-ups.
_SMALLEST_RANGE = 2


@dataclass(frozen=True)
class GemmProblem:
    """C (m x n) = op(A) (m x k) * op(B) (k x n); op transposes where ``a_transposed``, ``b_transposed``.

    ``batch`` independent products of that size are computed at once.
    """

    kernel: ClassVar[str] = "gemm"

    m: int
    n: int
    k: int
    a_transposed: bool = False
    b_transposed: bool = False
    batch: int = 1

    def flops(self) -> int:
        """2 m n k for each product of the batch: one multiply-add counts as two operations."""
        return 2 * self.m * self.n * self.k * self.batch

    def bytes(self, precision: Precision) -> int:
        """Compulsory traffic in bytes: A and B read once, C written once."""
        a, b = (ITEM_BYTES[type_] for type_ in precision.inputs)
        sizes = self.m * self.k * a + self.k * self.n * b + self.m * self.n * ITEM_BYTES[precision.output]
        return self.batch * sizes


PROBLEM = GemmProblem
PASSES: tuple[str, ...] = ("forward",)
LAYOUTS: tuple[str, ...] = ("column_major",)


def flops_of(case: Case) -> int:
    """The problem's operations: there is one pass."""
    return case.problem.flops()


def counts_of(_: Case) -> dict[str, int]:
    """None: everybody counts 2 m n k."""
    return {}


def bytes_of(case: Case) -> int:
    """The problem's compulsory traffic in the case's precision."""
    return case.problem.bytes(case.precision)


def streamed_bytes_of(case: Case) -> int:
    """The same: blocks are large enough to be used often."""
    return bytes_of(case)


def exact(case: Case) -> bool:
    """Whether sums of k products of integers can all be exact in the accumulator: k <= 2^24 for float32."""
    return _problem(case).k <= largest_integer(case.precision.accumulator)


def fill(case: Case, operands: Operands, rng: Generator, exact: bool) -> None:
    """Fills "a" and "b" with fresh non-zero numbers, integers where ``exact`` or accumulated in int32."""
    for name in ("a", "b"):
        array = _view(operands, name, case)
        if _integers(case, exact):
            fill_integers(array, rng, _integer_range(case))
        else:
            fill_random(array, rng)


def check(case: Case, operands: Operands, exact: bool) -> Check:
    """Compares "c" with the product of "a" and "b" as they are now, as the module's docstring says."""
    problem = _problem(case)
    integers = _integers(case, exact)
    comparison = Comparison(0.0) if integers else _comparison(case)
    shares = (_view(operands, name, case).reshape(problem.batch, -1) for name in ("a", "b", "c"))
    for a, b, c in zip(*shares, strict=True):
        _compare(
            comparison,
            case.precision.output,
            _matrix(a, problem.m, problem.k, problem.a_transposed),
            _matrix(b, problem.k, problem.n, problem.b_transposed),
            _matrix(c, problem.m, problem.n, transposed=False),
            problem.k * _integer_range(case) ** 2 if integers else None,
        )
    return comparison.result()


def _view(operands: Operands, name: str, case: Case) -> Array:
    types = dict(zip("abc", (*case.precision.inputs, case.precision.output), strict=True))
    return decoded(operands[name], types[name])


def _compare(
    comparison: Comparison, output: str, a: Array, b: Array, c: Array, largest_sum: int | None
) -> None:
    """Adds one product to the comparison; ``largest_sum`` is given where it must be exact."""
    for rows, columns in product(_slices(c.shape[0]), _slices(c.shape[1])):
        if largest_sum is None:
            reference = _multiply(a[rows], b[:, columns], np.float64)
            scale = _multiply_magnitudes(a[rows], b[:, columns])
        else:
            # Exact in float32 as well, in half the time, where the sums are small enough.
            type_ = scale_type(a) if largest_sum <= largest_integer("float32") else np.float64
            reference = rounded(_multiply(a[rows], b[:, columns], type_), output)
            xp = array_module(a)
            right = xp.array_equal(reference, c[rows, columns])
            # The scale of an error is wanted only where there is one.
            scale = xp.ones(reference.shape) if right else _multiply_magnitudes(a[rows], b[:, columns])
        comparison.add(c[rows, columns], reference, scale)


def _comparison(case: Case) -> Comparison:
    """What rounding explains for random operands."""
    terms, precision = _problem(case).k + 1, case.precision
    roundoffs = (unit_roundoff(precision.accumulator), unit_roundoff("float64"))
    tolerance = sum(accumulation_tolerance(terms, u) for u in roundoffs)
    rounding = 0.0 if precision.compute != "tfloat32" else 2 * unit_roundoff("tfloat32")
    tolerance += 2 * rounding
    if precision.output != precision.accumulator:
        return Comparison(tolerance, result_rounding=unit_roundoff(precision.output))
    whole = sum(frobenius_gamma(terms, u) for u in roundoffs) + 1.5 * rounding
    return Comparison(tolerance, frobenius_tolerance=whole)


def _problem(case: Case) -> GemmProblem:
    assert isinstance(case.problem, GemmProblem)
    return case.problem


def _integers(case: Case, exact: bool) -> bool:
    return exact or case.precision.accumulator == "int32"


def _integer_range(case: Case) -> int:
    """The largest L such that with operands in -L..L every partial sum is exact in the accumulator (k L^2).

    It is smaller where the output holds fewer integers, so that rounding hides as little as possible: sums of
    random signs rarely come near k L^2. For the same reason they stay in the range of float16 (65504 is 12
    deviations of the sum of 2^22 products of 1 and 2).
    """
    precision, k = case.precision, _problem(case).k
    in_accumulator = isqrt(largest_integer(precision.accumulator) // k)
    in_output = max(_SMALLEST_RANGE, isqrt(largest_integer(precision.output) // k))
    in_operands = min(largest_integer(type_) for type_ in (*precision.inputs, precision.compute))
    return min(in_accumulator, in_output, in_operands)


def _matrix(array: Array, rows: int, columns: int, transposed: bool) -> Array:
    """``rows`` x ``columns`` view of a column-major matrix that is stored transposed or not."""
    return array.reshape(rows, columns) if transposed else array.reshape(columns, rows).T


def _slices(size: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, size, _BLOCK))


def _multiply(a: Array, b: Array, dtype: Any) -> Array:
    total: Array = array_module(a).zeros((a.shape[0], b.shape[1]), dtype)
    for terms in _slices(a.shape[1]):
        total += a[:, terms].astype(dtype) @ b[terms].astype(dtype)
    return total


def _multiply_magnitudes(a: Array, b: Array) -> Array:
    """|a| |b|, the scale of errors."""
    type_ = scale_type(a)
    total: Array = array_module(a).zeros((a.shape[0], b.shape[1]), type_)
    for terms in _slices(a.shape[1]):
        total += abs(a[:, terms].astype(type_)) @ abs(b[terms].astype(type_))
    return total
