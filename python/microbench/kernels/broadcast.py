"""Broadcast: every rank ends with the vector of one of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from microbench.collective import CollectiveProblem
from microbench.problem import Precision


@dataclass(frozen=True)
class BroadcastProblem(CollectiveProblem):
    """A vector of ``elements`` elements for all ranks from rank ``root``."""

    kernel: ClassVar[str] = "broadcast"
    shares: ClassVar[bool] = False

    root: int = field(default=0, metadata={"minimum": 0})

    def bytes(self, precision: Precision, ranks: int = 1) -> int:
        """Compulsory traffic of one rank in bytes: the vector read by the root or written by any other, once."""
        del ranks
        return self.message_bytes(precision)

    def bus_share(self, ranks: int) -> float | None:
        """1: a broadcast's bus bandwidth is its algorithm bandwidth; None for one rank."""
        return 1.0 if ranks > 1 else None


PROBLEM = BroadcastProblem
PASSES = ("",)
LAYOUTS = ("",)
