"""Reduce-scatter: every rank ends with its share of the element-wise combination of the vectors of all ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from microbench.collective import OPERATIONS, SharedProblem, chosen


@dataclass(frozen=True)
class ReduceScatterProblem(SharedProblem):
    """The combination of one vector of ``elements`` elements per rank, a share of it for each."""

    kernel: ClassVar[str] = "reduce_scatter"
    reduces: ClassVar[bool] = True

    op: str = chosen(OPERATIONS)


PROBLEM = ReduceScatterProblem
PASSES = ("",)
LAYOUTS = ("",)
