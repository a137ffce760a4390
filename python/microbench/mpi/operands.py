"""Inputs of a collective that every rank can make alone, and what must come out of them.

Rank r contributes x_r[i] = table[(i + r * STEP) mod PERIOD] of a table of random numbers that all ranks know by its
seed. So a rank knows what every other one contributes without being told, and the combination over all ranks has the
same period, which is computed once however long the vectors are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microbench.filling import fill_integers, fill_random
from microbench.verification import (
    Check,
    Comparison,
    accumulation_tolerance,
    largest_integer,
    numpy_type,
    unit_roundoff,
)

Array = NDArray[np.generic]

# Prime, so that no chunk of a usual length is a multiple of it: data in the wrong place is seen.
PERIOD = 8191
# Sparse inputs: nothing but every 200th element, so that the largest 1 % of a vector hold all of it.
SPARSE_PERIOD = 8200
_SPARSE_STRIDE = 200
STEP = 1009
_BLOCK_PERIODS = 128


@dataclass(frozen=True)
class Operands:
    """The inputs of one execution.

    Attributes:
        element_type: as in memory.
        rounded_to: the type that contributions and sums are rounded to on their way.
        exact: integers whose sums over all ranks are exact, in any order, in that type.
        sparse: few enough are not zero for a sparse algorithm to lose none.
    """

    seed: int
    element_type: str
    rounded_to: str
    ranks: int
    op: str = "sum"
    exact: bool = True
    sparse: bool = False

    @property
    def _largest(self) -> int:
        """The largest integer that sums may reach."""
        return min(largest_integer(self.rounded_to), 2**24)

    @property
    def _period(self) -> int:
        return SPARSE_PERIOD if self.sparse else PERIOD

    def _table(self) -> Array:
        table = np.empty(self._period, numpy_type(self.element_type))
        rng = np.random.default_rng(self.seed)
        if self.exact:
            fill_integers(table, rng, max(1, self._largest // self.ranks))
        else:
            fill_random(table, rng)
        return table

    def _of_rank(self, table: Array, rank: int) -> Array:
        """One period of what ``rank`` contributes."""
        period = np.roll(table, -rank * STEP)
        # With more ranks than the type counts exactly, only so many contribute to each element.
        silent = -(-self.ranks // self._largest) if self.exact else 1
        stride = _SPARSE_STRIDE if self.sparse else silent
        if stride > 1:
            period[(np.arange(self._period) + rank) % stride != 0] = 0
        return period

    def fill(self, array: Array, rank: int, first: int = 0) -> None:
        """Writes the elements of ``rank`` from ``first`` on."""
        period = self._of_rank(self._table(), rank)
        for place, block in _blocks(array, self._period):
            block[:] = _periodic(period, first + place, block.size)

    def compare_copied(self, output: Array, rank: int, first: int, comparison: Comparison) -> None:
        """Holds ``output`` against the elements of ``rank`` from ``first`` on, which must have come unchanged."""
        period = self._of_rank(self._table(), rank)
        for place, block in _blocks(output, self._period):
            expected = _periodic(period, first + place, block.size).astype(np.float64)
            comparison.add(block, expected, np.abs(expected))

    def compare_combined(self, output: Array, first: int, comparison: Comparison) -> None:
        """Holds ``output`` against the combination over all ranks, in float64, of the elements from ``first`` on."""
        table = self._table()
        combine: Any = {"sum": np.add, "max": np.maximum, "min": np.minimum}[self.op]
        combined = self._of_rank(table, 0).astype(np.float64)
        scale = np.abs(combined)
        for rank in range(1, self.ranks):
            theirs = self._of_rank(table, rank).astype(np.float64)
            combine(combined, theirs, out=combined)
            scale += np.abs(theirs)
        for place, block in _blocks(output, self._period):
            expected = _periodic(combined, first + place, block.size)
            comparison.add(block, expected, _periodic(scale, first + place, block.size))

    @property
    def tolerance(self) -> float:
        """Bound of the error of a sum over all ranks, relative to the sum of magnitudes, in any order of additions.

        Each addition rounds to ``rounded_to``, and so does storing a contribution in it: at most as many roundings
        as ranks. 0 where nothing is rounded.
        """
        if self.exact or self.op != "sum":
            return 0.0
        return accumulation_tolerance(self.ranks, unit_roundoff(self.rounded_to))


def comparison(tolerance: float) -> Comparison:
    """An empty one: elements may differ by ``tolerance`` of the sum of magnitudes."""
    return Comparison(tolerance)


def merged(checks: list[Check]) -> Check:
    """The check of all ranks together; the norm of the error is that of the worst one."""
    worst = max(checks, key=lambda check: check.max_error)
    return Check(
        max_error=worst.max_error,
        frobenius_error=max(check.frobenius_error for check in checks),
        tolerance=worst.tolerance,
        wrong_elements=sum(check.wrong_elements for check in checks),
        elements=sum(check.elements for check in checks),
    )


def _periodic(period: Array, first: int, length: int) -> Array:
    return np.resize(np.roll(period, -(first % period.size)), length)


def _blocks(array: Array, period: int) -> Iterator[tuple[int, Array]]:
    """Parts of whole periods, so that no copy of a large vector is ever whole in memory."""
    size = _BLOCK_PERIODS * period
    for start in range(0, array.size, size):
        yield start, array[start : start + size]
