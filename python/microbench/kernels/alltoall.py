"""Alltoall: every rank sends a share of its vector to each rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from microbench.collective import SharedProblem
from microbench.problem import Precision


@dataclass(frozen=True)
class AlltoallProblem(SharedProblem):
    """``elements`` elements sent by every rank, and as many received."""

    kernel: ClassVar[str] = "alltoall"

    def bytes(self, precision: Precision, ranks: int = 1) -> int:
        """Compulsory traffic of one rank in bytes: its vector read once, what it gets written once."""
        del ranks  # both are as long whatever their number
        return 2 * self.message_bytes(precision)


PROBLEM = AlltoallProblem
PASSES = ("",)
LAYOUTS = ("",)
