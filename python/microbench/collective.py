"""What the collectives have in common: element types, their problems, and bandwidths as nccl-tests defines them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from microbench.problem import ITEM_BYTES, Precision

COLLECTIVES = {
    "allreduce": "all-reduce across MPI ranks",
    "reduce_scatter": "reduce-scatter across MPI ranks",
    "allgather": "allgather across MPI ranks",
    "broadcast": "broadcast across MPI ranks",
    "alltoall": "alltoall across MPI ranks",
}

OPERATIONS = ("sum", "max", "min")
PLACES = ("out_of_place", "in_place")
FORMS = ("blocking", "nonblocking", "persistent")

# Of the elements of a vector, as options and records name them. MPI has no arithmetic for fp16 and bf16: they are
# combined by operations of our own, in fp32 and rounded after each.
ELEMENT_TYPES = {
    precision.name: precision
    for precision in (
        Precision("fp64", "float64", "float64", "float64", "float64"),
        Precision("fp32", "float32", "float32", "float32", "float32"),
        Precision("fp16", "float16", "float32", "float32", "float16"),
        Precision("bf16", "bfloat16", "float32", "float32", "bfloat16"),
        Precision("int32", "int32", "int32", "int32", "int32"),
    )
}


def chosen(choices: tuple[str, ...]) -> str:
    """A field of a problem that is one of ``choices``, the first by default."""
    text: str = field(default=choices[0], metadata={"choices": choices})
    return text


@dataclass(frozen=True)
class CollectiveProblem:
    """One collective of ``elements`` elements; the number of ranks is a factor of the run.

    ``elements`` are those of the largest buffer of one rank, as nccl-tests counts its size: the vector of an
    all-reduce or broadcast, what a rank sends to a reduce-scatter or alltoall, what it gets from an allgather.
    """

    kernel: ClassVar[str]
    reduces: ClassVar[bool] = False
    shares: ClassVar[bool] = True
    """Whether each rank has a share of its own of the elements."""

    elements: int
    form: str = chosen(FORMS)

    def flops(self) -> int:
        """0: a collective is rated by its bytes, and its additions depend on the algorithm."""
        return 0

    def message_bytes(self, precision: Precision) -> int:
        """nccl-tests' size in bytes: what bandwidths are made of."""
        return self.elements * ITEM_BYTES[precision.storage]

    def bytes(self, precision: Precision, ranks: int = 1) -> int:
        """Compulsory traffic of one rank in bytes: what it contributes read once, its result written once."""
        del ranks  # of a share there are as many as ranks
        return 2 * self.message_bytes(precision)

    def bus_share(self, ranks: int) -> float | None:
        """Bus bandwidth over algorithm bandwidth (nccl-tests, doc/PERFORMANCE.md); None for one rank."""
        return (ranks - 1) / ranks if ranks > 1 else None


@dataclass(frozen=True)
class SharedProblem(CollectiveProblem):
    """A collective in which each rank contributes or gets a share of the elements."""

    place: str = chosen(PLACES)

    def bytes(self, precision: Precision, ranks: int = 1) -> int:
        """Compulsory traffic of one rank in bytes: all elements on one side, its share on the other."""
        return self.message_bytes(precision) + self.message_bytes(precision) // ranks
