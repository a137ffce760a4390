"""Allgather: every rank ends with the vectors of all ranks, one behind the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from microbench.collective import SharedProblem


@dataclass(frozen=True)
class AllgatherProblem(SharedProblem):
    """``elements`` elements for every rank, of which each has contributed its share."""

    kernel: ClassVar[str] = "allgather"


PROBLEM = AllgatherProblem
PASSES = ("",)
LAYOUTS = ("",)
