"""All-reduce: every rank ends with the element-wise combination of the vectors of all ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from microbench.collective import OPERATIONS, PLACES, CollectiveProblem, chosen


@dataclass(frozen=True)
class AllreduceProblem(CollectiveProblem):
    """The combination of one vector of ``elements`` elements per rank."""

    kernel: ClassVar[str] = "allreduce"
    reduces: ClassVar[bool] = True
    shares: ClassVar[bool] = False

    op: str = chosen(OPERATIONS)
    place: str = chosen(PLACES)

    def bus_share(self, ranks: int) -> float | None:
        """2(p - 1)/p of p ranks: every element is sent that often (nccl-tests, doc/PERFORMANCE.md)."""
        return 2 * (ranks - 1) / ranks if ranks > 1 else None


PROBLEM = AllreduceProblem
PASSES = ("",)
LAYOUTS = ("",)
