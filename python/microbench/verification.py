"""What verifying a result needs whatever the kernel: error bounds and the comparison with a reference.

The error of a result ``y`` is measured componentwise against its scale, the sum of the magnitudes of the
terms it was made from: ``|A| |B|`` for a product. Bounds of rounding errors have that form (Higham, Accuracy
and Stability of Numerical Algorithms, 2nd ed. 2002, section 3.1), so that cancellation in the data cannot
look like a wrong result.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microbench.problem import ITEM_BYTES

Array = NDArray[Any]

# Bits of the significand, the implicit one included.
_SIGNIFICAND_BITS = {
    "float64": 53,
    "float32": 24,
    "tfloat32": 11,
    "float16": 11,
    "bfloat16": 8,
    "float8_e4m3fn": 4,
    "float8_e5m2": 3,
}
# Types that NumPy lacks; ml_dtypes has them by the same names.
_ML_DTYPES = frozenset({"bfloat16", "float8_e4m3fn", "float8_e5m2"})

# Deviations that probable_gamma allows. The chance that one dot product exceeds the bound is about
# 2 exp(-lambda^2 / 2), 4e-22 for 10: among 1e12 elements a false alarm has a chance below 1e-9.
_LAMBDA = 10.0

# A Frobenius-relative error over fewer elements may lie far from its expectation.
_FROBENIUS_ELEMENTS = 64


def numpy_type(element_type: str) -> np.dtype[Any]:
    """The NumPy type of an element type of ``microbench.problem``; narrow ones are those of ml_dtypes."""
    if element_type not in ITEM_BYTES:
        raise ValueError(f"no element type {element_type!r}; there are {', '.join(ITEM_BYTES)}")
    if element_type in _ML_DTYPES:
        import ml_dtypes

        narrow: np.dtype[Any] = np.dtype(getattr(ml_dtypes, element_type))
        return narrow
    return np.dtype(element_type)


def array_module(array: Array) -> Any:
    """NumPy, or CuPy for an array in a device's memory: checks compute with either."""
    return np if isinstance(array, np.ndarray) else importlib.import_module("cupy")


def decoded(memory: Array, element_type: str) -> Array:
    """The numbers that a one-dimensional array's memory holds.

    On the host a view. CuPy lacks ml_dtypes' types: on a device they become the smallest type that holds them exactly.
    """
    if isinstance(memory, np.ndarray):
        return memory.view(numpy_type(element_type))
    if element_type == "bfloat16":  # the upper half of a float32
        return (memory.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if element_type in _ML_DTYPES:
        values = np.arange(256, dtype=np.uint8).view(numpy_type(element_type)).astype(np.float16)
        return array_module(memory).asarray(values)[memory.view(np.uint8)]
    return memory.view(numpy_type(element_type))


def rounded(values: Array, element_type: str) -> Array:
    """``values`` rounded to nearest, ties to even, in the type that ``decoded`` has for ``element_type``.

    ``values`` has no NaN. To bfloat16 it goes by way of float32, as in ml_dtypes.
    """
    if isinstance(values, np.ndarray) or element_type not in _ML_DTYPES:
        return values.astype(numpy_type(element_type))
    if element_type != "bfloat16":
        raise ValueError(f"no result is stored as {element_type}")
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16).view(np.float32)


def scale_type(array: Array) -> type[np.floating[Any]]:
    """What scales of errors are computed in: float32 is precise enough and takes a processor half the time.

    On a device float64 as well, so that nothing is judged by means of products in its own precision.
    """
    return np.float32 if isinstance(array, np.ndarray) else np.float64


def unit_roundoff(element_type: str) -> float:
    """Largest relative error of rounding to nearest: 2^-p for p significand bits, 0 for integers."""
    bits = _SIGNIFICAND_BITS.get(element_type)
    if bits is None:
        numpy_type(element_type)  # raises for what is no type
        return 0.0
    return 2.0**-bits


def largest_integer(element_type: str) -> int:
    """The largest n such that all of -n..n are exactly representable."""
    bits = _SIGNIFICAND_BITS.get(element_type)
    return int(np.iinfo(numpy_type(element_type)).max) if bits is None else 2**bits


def gamma(n: int, u: float) -> float:
    """Bound of the relative error of n successive roundings, n u / (1 - n u) (Higham 2002, lemma 3.1).

    Raises ValueError where n u >= 1: there is no bound then.
    """
    if n * u >= 1:
        raise ValueError(f"no bound for {n} roundings of unit {u}: their product is not below 1")
    return n * u / (1 - n * u)


def probable_gamma(n: int, u: float) -> float:
    """The bound that n roundings keep with near certainty: exp(lambda sqrt(n) u + n u^2 / (1 - u)) - 1.

    lambda is 10. Higham and Mary, "A New Approach to Probabilistic Rounding Error Analysis", SIAM J. Sci.
    Comput. 41(5), 2019, theorem 2.4. It supposes rounding errors of mean zero, which holds for sums of random
    terms of both signs; hardware that truncates instead of rounding stays far below it for the same reason.
    """
    return math.expm1(_LAMBDA * math.sqrt(n) * u + n * u * u / (1 - u))


def frobenius_gamma(n: int, u: float) -> float:
    """Bound of the Frobenius-relative error of many sums of n terms that are random and of mean zero.

    Rounding errors of mean zero and at most u give sum j the error sum_i delta_i s_i, s_i its partial sums,
    with the mean square u^2 sum_i i sigma^2 = u^2 sigma^2 n (n + 1) / 2 at most; the sum itself has n
    sigma^2. The root of their ratio is u sqrt((n + 1) / 2), twice of which is allowed. Products made with
    fewer bits than claimed show here for every n, while componentwise bounds grow past them (2.9e-4 for
    operands rounded to 11 bits).
    """
    return 2 * u * math.sqrt((n + 1) / 2)


def accumulation_tolerance(n: int, u: float) -> float:
    """For sums of n terms of random sign: the sharper one of gamma (up to n = 100) and probable_gamma."""
    return min(gamma(n, u), probable_gamma(n, u)) if n * u < 1 else probable_gamma(n, u)


@dataclass(frozen=True)
class Check:
    """A result held against its reference.

    Attributes:
        max_error: largest |y - reference| / scale; 0/0 counts as 0. Infinite where the output is not finite.
        frobenius_error: ||y - reference||_F / ||reference||_F, infinite likewise.
        tolerance: what max_error may be at most; 0 where the result must be exact. An element can be wrong
            below it: what is allowed for rounding the result is relative to the element, not to its scale.
        wrong_elements: how many of ``elements`` differ by more than their tolerance.
        frobenius_tolerance: what frobenius_error may be at most, infinite where that was not asked.
    """

    max_error: float
    frobenius_error: float
    tolerance: float
    wrong_elements: int
    elements: int
    frobenius_tolerance: float = math.inf

    @property
    def ok(self) -> bool:
        precise = self.frobenius_error <= self.frobenius_tolerance
        return self.elements > 0 and self.wrong_elements == 0 and precise

    @property
    def reason(self) -> str:
        """One sentence on a wrong result, "" where ``ok``."""
        if self.ok:
            return ""
        if self.elements == 0:
            return "no element of the result was compared"
        if self.wrong_elements == 0:
            return (
                "the result is less precise than arithmetic in this precision: its Frobenius-relative error "
                f"is {self.frobenius_error:.3g} (tolerance {self.frobenius_tolerance:.3g})"
            )
        allowed = "though it must be exact" if self.tolerance == 0 else "by more than rounding explains"
        if math.isinf(self.max_error):
            largest = "at least one is not finite, or not zero where every term is"
        else:
            largest = f"the largest error is {self.max_error:.3g} of the sum of the terms' magnitudes"
            if self.tolerance > 0:
                largest += f" (tolerance {self.tolerance:.3g})"
        return f"{self.wrong_elements} of {self.elements} elements are wrong {allowed}: {largest}"


class Comparison:
    """Gathers a Check block by block, so that float64 copies of a large result are never whole in memory.

    ``tolerance`` bounds what accumulation may do to a value, relative to its scale; ``result_rounding`` is
    the unit roundoff of the type that the accumulated value was rounded to at the end (0 where that is the
    accumulator's). An element is wrong where ``|y - reference| > e + result_rounding * (|reference| + e)``
    with ``e = tolerance * scale``. ``frobenius_tolerance`` bounds the error of the result as a whole; it
    needs 64 elements to apply.
    """

    def __init__(
        self, tolerance: float, result_rounding: float = 0.0, frobenius_tolerance: float = math.inf
    ) -> None:
        self._tolerance = tolerance
        self._frobenius_tolerance = frobenius_tolerance
        self._result_rounding = result_rounding
        self._max_error = 0.0
        self._difference_squares = 0.0
        self._reference_squares = 0.0
        self._wrong = 0
        self._elements = 0

    def add(self, output: Array, reference: Array, scale: Array) -> None:
        """Compares one block: three arrays of one shape, all NumPy's or all CuPy's.

        ``reference`` and ``scale`` are float64 or exact.
        """
        if not output.shape == reference.shape == scale.shape:
            raise ValueError(f"shapes differ: {output.shape}, {reference.shape}, {scale.shape}")
        if output.size == 0:
            return
        xp = array_module(output)
        expected = xp.asarray(reference, dtype=np.float64)
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            difference = xp.abs(xp.asarray(output, dtype=np.float64) - expected)
            allowed = xp.multiply(scale, self._tolerance * (1 + self._result_rounding), dtype=np.float64)
            if self._result_rounding:
                allowed += self._result_rounding * xp.abs(expected)
            # Written so that a bound that is itself NaN or infinite allows nothing.
            wrong = ~((difference <= allowed) & xp.isfinite(allowed))
            errors = difference / scale
            errors[difference == 0] = 0.0
            errors[xp.isnan(errors)] = np.inf
            self._difference_squares += float(xp.vdot(difference, difference))
            self._reference_squares += float(xp.vdot(expected, expected))
        self._max_error = max(self._max_error, float(errors.max()))
        self._wrong += int(xp.count_nonzero(wrong))
        self._elements += output.size

    def result(self) -> Check:
        """The verdict on all blocks added so far."""
        if self._difference_squares == 0:
            frobenius_error = 0.0
        elif self._reference_squares == 0 or not math.isfinite(self._difference_squares):
            frobenius_error = math.inf
        else:
            frobenius_error = math.sqrt(self._difference_squares / self._reference_squares)
        return Check(
            max_error=self._max_error,
            frobenius_error=frobenius_error,
            tolerance=self._tolerance * (1 + self._result_rounding) + self._result_rounding,
            wrong_elements=self._wrong,
            elements=self._elements,
            frobenius_tolerance=(
                self._frobenius_tolerance if self._elements >= _FROBENIUS_ELEMENTS else math.inf
            ),
        )
