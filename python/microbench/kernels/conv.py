"""Convolution in two dimensions, as deep learning says it: cross-correlation, no filter is flipped.

Passes and their operands: "forward" computes "y" from "x" and "w", "backward_data" "dx" from "dy" and "w",
"backward_weights" "dw" from "x" and "dy". Memory order in layout nchw: images n, c, h, w and filters k, c / groups,
filter_h, filter_w; in nhwc: images n, h, w, c and filters k, filter_h, filter_w, c / groups.

How a result is judged, by the algorithm that made it:

- Direct sums in any order (matrix products, direct loops): as a matrix product with as many terms as each element of
  the result sums up, c / groups * filter_h * filter_w forward, k / groups * filter_h * filter_w for backward_data and
  n * out_h * out_w for backward_weights (see ``microbench.kernels.gemm``). Integer operands must give the exact result.
- Winograd: componentwise bounds on ``|x| |w|`` do not hold, because a pixel of a tile takes part in outputs that do
  not see it. The scale is the algorithm's own sums with the magnitudes of all its matrices and operands. Libraries
  choose points of their own, so four times that is allowed.
- Fourier transforms: errors spread over the plane. The scale is the product of the Euclidean norms of the planes that
  are transformed, summed over what is summed; the tolerance grows with log2 of the points.
- TF32 products add what truncating both operands to 11 bits does; so do transforms whose results are rounded to the
  16 bits that are multiplied.
- A batch divided among several of them: the largest tolerance, on the sum of the scales.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from microbench.errors import InputError
from microbench.filling import fill_integers, fill_random
from microbench.kernels.conv_reference import Array, Block, convolve, norm_products, winograd_magnitudes
from microbench.problem import ITEM_BYTES, Case, Precision
from microbench.verification import (
    Check,
    Comparison,
    accumulation_tolerance,
    array_module,
    decoded,
    frobenius_gamma,
    largest_integer,
    numpy_type,
    rounded,
    scale_type,
    unit_roundoff,
)

if TYPE_CHECKING:
    from numpy.random import Generator

    from microbench.problem import Operands

Method = Literal["direct", "winograd_2x2", "winograd_4x4", "fft"]

PASSES = ("forward", "backward_data", "backward_weights")
LAYOUTS = ("nchw", "nhwc")

# What each pass reads and what it writes.
_OPERANDS = {
    "forward": ("x", "w", "y"),
    "backward_data": ("dy", "w", "dx"),
    "backward_weights": ("x", "dy", "dw"),
}
# Multiplications and additions of one element in Winograd's transforms of 4x4 outputs, all of them counted: rows of
# at most 4, 4 and 6 terms, applied twice each, and the product.
_WINOGRAD_ROUNDINGS = 30
_WINOGRAD_FACTOR = 4
# Roundings per level of a transform (Higham 2002, theorem 24.2: eta < 7 u), and transforms of one result.
_FFT_ROUNDINGS = 7
_FFT_TRANSFORMS = 3


@dataclass(frozen=True)
class ConvProblem:
    """``n`` images of ``h`` x ``w`` pixels in ``c`` channels, ``k`` filters of ``filter_h`` x ``filter_w`` pixels.

    Channels and filters fall into ``groups``: each filter sees the ``c / groups`` channels of its own group.
    """

    kernel: ClassVar[str] = "conv"

    w: int
    h: int
    c: int
    n: int
    k: int
    filter_w: int
    filter_h: int
    pad_w: int = field(metadata={"minimum": 0})
    pad_h: int = field(metadata={"minimum": 0})
    stride_w: int
    stride_h: int
    dilation_w: int = 1
    dilation_h: int = 1
    groups: int = 1

    def __post_init__(self) -> None:
        """Raises InputError where the sizes describe no convolution."""
        for axis in ("w", "h"):
            padded = getattr(self, axis) + 2 * getattr(self, f"pad_{axis}")
            extent = getattr(self, f"dilation_{axis}") * (getattr(self, f"filter_{axis}") - 1) + 1
            if extent > padded:
                raise InputError(
                    f"filter_{axis}: the dilated filter of {extent} is larger than the padded image of {padded}; "
                    f"raise {axis} or pad_{axis}, or lower filter_{axis} or dilation_{axis}"
                )
        for name in ("c", "k"):
            if getattr(self, name) % self.groups:
                raise InputError(
                    f"groups: {self.groups} does not divide {name}={getattr(self, name)}; groups must divide c and k"
                )

    @property
    def out_w(self) -> int:
        """Columns of the output."""
        extent = self.dilation_w * (self.filter_w - 1) + 1
        return (self.w + 2 * self.pad_w - extent) // self.stride_w + 1

    @property
    def out_h(self) -> int:
        """Rows of the output."""
        extent = self.dilation_h * (self.filter_h - 1) + 1
        return (self.h + 2 * self.pad_h - extent) // self.stride_h + 1

    def shapes(self) -> dict[str, tuple[int, int, int, int]]:
        """Shapes of the input, the filters and the output, and of their gradients, as in layout nchw."""
        x = (self.n, self.c, self.h, self.w)
        w = (self.k, self.c // self.groups, self.filter_h, self.filter_w)
        y = (self.n, self.k, self.out_h, self.out_w)
        return {"x": x, "dx": x, "w": w, "dw": w, "y": y, "dy": y}

    def flops(self) -> int:
        """Operations of direct convolution in any pass, on padding too; a multiply-add counts as two."""
        return 2 * math.prod(self.shapes()["y"]) * (self.c // self.groups) * self.filter_h * self.filter_w

    def bytes(self, precision: Precision) -> int:
        """Compulsory traffic of the forward pass: input and filters read once, output written once."""
        return _traffic(self, precision, "forward")


PROBLEM = ConvProblem


def _traffic(problem: ConvProblem, precision: Precision, pass_: str) -> int:
    sizes = [math.prod(problem.shapes()[name]) for name in _OPERANDS[pass_]]
    return sum(sizes[:2]) * ITEM_BYTES[precision.storage] + sizes[2] * ITEM_BYTES[precision.output]


def flops_of(case: Case) -> int:
    """Operations of direct convolution, whatever the algorithm."""
    return case.problem.flops()


def counts_of(_: Case) -> dict[str, int]:
    """None: everybody counts direct convolution."""
    return {}


def bytes_of(case: Case) -> int:
    """What the pass reads, once, and what it writes, once."""
    return _traffic(_problem(case), case.precision, case.pass_)


def streamed_bytes_of(case: Case) -> int:
    """The same: blocks are large enough to be used often."""
    return bytes_of(case)


def exact(case: Case) -> bool:
    """Whether sums of integers can all be exact: not where transforms divide and round."""
    return _methods(case) == {"direct"} and _terms(case) <= largest_integer(case.precision.accumulator)


def fill(case: Case, operands: Operands, rng: Generator, exact: bool) -> None:
    """Fills what the pass reads with fresh non-zero numbers, integers where ``exact`` or accumulated in int32."""
    for name in _OPERANDS[case.pass_][:2]:
        array: Array = operands[name].view(numpy_type(case.precision.storage))
        if _integers(case, exact):
            fill_integers(array, rng, _integer_range(case))
        else:
            fill_random(array, rng)


def check(case: Case, operands: Operands, exact: bool) -> Check:
    """Compares the result with the convolution of the operands as they are now, as the module's docstring says."""
    problem, precision, pass_ = _problem(case), case.precision, case.pass_
    first, second, result = (
        _tensor(case, decoded(operands[name], element_type), name)
        for name, element_type in zip(
            _OPERANDS[pass_], (precision.storage, precision.storage, precision.output), strict=True
        )
    )
    comparison = _comparison(case, exact)
    references = convolve(problem, pass_, first, second, np.float64)
    scales = _scales(case, first, second)
    if not _integers(case, exact):
        for (index, reference), (_, scale) in zip(references, scales, strict=True):
            comparison.add(result[index], reference, scale)
        return comparison.result()
    wrong, xp = [], array_module(result)
    for index, values in references:
        reference = rounded(values, precision.output)
        if xp.array_equal(result[index], reference):
            comparison.add(result[index], reference, xp.ones(reference.shape))
        else:
            wrong.append((index, reference))
    # The scale of an error is wanted only where there is one.
    for index, scale in scales if wrong else ():
        for _, reference in (block for block in wrong if block[0] == index):
            comparison.add(result[index], reference, scale)
    return comparison.result()


def _scales(case: Case, first: Array, second: Array) -> Iterator[Block]:
    parts = [_scales_of(method, case, first, second) for method in sorted(_methods(case))]
    for blocks in zip(*parts, strict=True):
        yield blocks[0][0], reduce(add, (scale for _, scale in blocks))


def _scales_of(method: Method, case: Case, first: Array, second: Array) -> Iterator[Block]:
    problem, type_ = _problem(case), scale_type(first)
    first, second = (abs(array.astype(type_)) for array in (first, second))
    if method == "fft":
        return norm_products(problem, case.pass_, first, second)
    if method == "direct":
        return convolve(problem, case.pass_, first, second, type_)
    return winograd_magnitudes(problem, case.pass_, 2 if method == "winograd_2x2" else 4, first, second)


def _comparison(case: Case, exact: bool) -> Comparison:
    if _integers(case, exact):
        return Comparison(0.0)
    precision, methods = case.precision, _methods(case)
    roundoffs = (unit_roundoff(precision.accumulator), unit_roundoff("float64"))
    terms = _terms(case) + 1
    frobenius = math.inf
    if methods == {"direct"} and precision.output == precision.accumulator:
        frobenius = sum(frobenius_gamma(terms, u) for u in roundoffs)
    tolerance = 0.0
    for method in methods:
        if method == "direct":
            own = sum(accumulation_tolerance(terms, u) for u in roundoffs)
        elif method == "fft":
            levels = math.log2(_plane(_problem(case)))
            own = _FFT_TRANSFORMS * _FFT_ROUNDINGS * levels * roundoffs[0]
            own += accumulation_tolerance(_sums(case), roundoffs[0])
        else:
            own = _WINOGRAD_FACTOR * accumulation_tolerance(_sums(case) + _WINOGRAD_ROUNDINGS, roundoffs[0])
        tolerance = max(tolerance, own)
    rounding = _operand_rounding(case)
    tolerance += 2 * rounding
    frobenius += 1.5 * rounding
    if precision.output != precision.accumulator:
        return Comparison(tolerance, result_rounding=unit_roundoff(precision.output))
    return Comparison(tolerance, frobenius_tolerance=frobenius)


def _operand_rounding(case: Case) -> float:
    """What multipliers do to each operand: TF32 truncates it; a transformed one no longer fits its type."""
    precision = case.precision
    if precision.compute == "tfloat32":
        return 2 * unit_roundoff("tfloat32")
    if precision.compute == precision.accumulator or _methods(case) == {"direct"}:
        return 0.0
    return (_WINOGRAD_FACTOR if _winograd_3x3(_problem(case)) else 1) * unit_roundoff(precision.compute)


def _problem(case: Case) -> ConvProblem:
    assert isinstance(case.problem, ConvProblem)
    return case.problem


def _methods(case: Case) -> set[Method]:
    """How errors behave, read off the names of the algorithm and of what the library runs for it.

    A division of the batch names several, of which those of direct sums are the smallest.
    """
    names = f"{case.algorithm};{case.implementation}".lower()
    kernels = re.split("[,;]", names) if case.algorithm.startswith("microbatch:") else [names]
    return ({_method(kernel, _problem(case)) for kernel in kernels} - {"direct"}) or {"direct"}


def _method(names: str, problem: ConvProblem) -> Method:
    if "wino" in names and _winograd_3x3(problem):
        return "winograd_2x2" if "2x2" in names else "winograd_4x4"
    # Tiles of other filters are judged as the transforms that every algorithm's errors stay below: no bound of theirs
    # is known without their points.
    return "fft" if "fft" in names or "wino" in names else "direct"


def _winograd_3x3(problem: ConvProblem) -> bool:
    steps = (problem.stride_w, problem.stride_h, problem.dilation_w, problem.dilation_h)
    return (problem.filter_w, problem.filter_h) == (3, 3) and steps == (1, 1, 1, 1)


def _terms(case: Case) -> int:
    """Products that one element of the result sums up."""
    problem = _problem(case)
    taps = problem.filter_h * problem.filter_w
    return {
        "forward": problem.c // problem.groups * taps,
        "backward_data": problem.k // problem.groups * taps,
        "backward_weights": problem.n * problem.out_h * problem.out_w,
    }[case.pass_]


def _sums(case: Case) -> int:
    """Values that are summed at one point of a transformed tile, at most."""
    taps = 1 if case.pass_ == "backward_weights" else _problem(case).filter_h * _problem(case).filter_w
    return _terms(case) // taps


def _plane(problem: ConvProblem) -> int:
    """Points of the largest transform there may be, of the whole padded plane, lengths rounded up to powers of two."""
    height = problem.h + 2 * problem.pad_h + problem.dilation_h * problem.filter_h
    width = problem.w + 2 * problem.pad_w + problem.dilation_w * problem.filter_w
    return 4 * height * width


def _integers(case: Case, exact: bool) -> bool:
    return exact or case.precision.accumulator == "int32"


def _integer_range(case: Case) -> int:
    """The largest L such that with operands in -L..L every partial sum is exact in the accumulator and, but for
    +-2, in the output (see ``microbench.kernels.gemm``)."""
    precision, terms = case.precision, _terms(case)
    in_accumulator = math.isqrt(largest_integer(precision.accumulator) // terms)
    in_output = max(2, math.isqrt(largest_integer(precision.output) // terms))
    in_operands = min(largest_integer(precision.storage), largest_integer(precision.compute))
    return max(1, min(in_accumulator, in_output, in_operands))


def _tensor(case: Case, array: Array, name: str) -> Array:
    """The four-dimensional view of an operand, axes as in layout nchw."""
    a, b, height, width = _problem(case).shapes()[name]
    if case.layout == "nhwc":
        return array.reshape(a, height, width, b).transpose(0, 3, 1, 2)
    return array.reshape(a, b, height, width)
