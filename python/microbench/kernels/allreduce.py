"""All-reduce: every rank ends with the element-wise sum of the vectors of all ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from microbench.problem import ITEM_BYTES, Precision


@dataclass(frozen=True)
class AllreduceProblem:
    """The sum of one vector of ``elements`` elements per rank; the number of ranks is a factor of the run."""

    kernel: ClassVar[str] = "allreduce"

    elements: int

    def flops(self) -> int:
        """0: an all-reduce is rated by its bytes, and its additions depend on the number of ranks."""
        return 0

    def bytes(self, precision: Precision) -> int:
        """Compulsory traffic of one rank in bytes: its vector read once, the sum written once."""
        return self.elements * (ITEM_BYTES[precision.storage] + ITEM_BYTES[precision.output])


PROBLEM = AllreduceProblem
