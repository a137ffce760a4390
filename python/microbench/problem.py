"""What every kernel has in common: precisions and the Problem protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator
    from numpy.typing import NDArray

    from microbench.verification import Check

    Operands = Mapping[str, NDArray[np.generic]]

Scalar = int | float | bool | str


@dataclass(frozen=True)
class Precision:
    """A numerical mode: how operands are stored, multiplied, accumulated and written back.

    Attributes:
        storage: element type of the inputs in memory.
        compute: type in which products are formed; tfloat32 is float32 rounded to 11 significand bits.
        accumulator: type in which products are summed.
        output: element type of the result in memory.
        storage_b: that of a product's second input, where it is another one than the first's.
    """

    name: str
    storage: str
    compute: str
    accumulator: str
    output: str
    note: str = ""
    storage_b: str = ""

    @property
    def inputs(self) -> tuple[str, str]:
        """Element types of a product's two inputs in memory."""
        return self.storage, self.storage_b or self.storage


ITEM_BYTES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "int8": 1,
    "int32": 4,
}

PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("fp64", "float64", "float64", "float64", "float64"),
        Precision("fp32", "float32", "float32", "float32", "float32"),
        Precision(
            "tf32",
            "float32",
            "tfloat32",
            "float32",
            "float32",
            note="fp32 in memory, products of operands rounded to 11 bits, on tensor cores",
        ),
        Precision("bf16", "bfloat16", "bfloat16", "float32", "bfloat16"),
        Precision("fp16", "float16", "float16", "float32", "float16"),
        Precision(
            "fp16_in_fp32_math",
            "float16",
            "float32",
            "float32",
            "float16",
            note="fp16 in memory, converted to fp32 in the timed region: for processors without fp16 units",
        ),
        Precision(
            "fp16_acc16",
            "float16",
            "float16",
            "float16",
            "float16",
            note="fp16 throughout: sums are rounded to 11 bits",
        ),
        Precision("fp8_e4m3", "float8_e4m3fn", "float8_e4m3fn", "float32", "bfloat16"),
        Precision(
            "fp8_e5m2",
            "float8_e5m2",
            "float8_e5m2",
            "float32",
            "bfloat16",
            note="gradients in e5m2 (A) times weights or activations in e4m3 (B)",
            storage_b="float8_e4m3fn",
        ),
        Precision("int8", "int8", "int8", "int32", "int32"),
    )
}


@runtime_checkable
class Problem(Protocol):
    """Sizes of one kernel invocation: a frozen dataclass whose fields are the columns of its table."""

    kernel: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def flops(self) -> int:
        """Arithmetic operations of the direct algorithm; one multiply-add counts as two."""
        ...

    def bytes(self, precision: Precision) -> int:
        """Compulsory traffic in bytes: every input read once, every output written once."""
        ...


@dataclass(frozen=True)
class Case:
    """One configuration of a kernel: all that filling its operands and judging its result needs.

    ``implementation`` is what the library really runs for ``algorithm``, "" while that is unknown.
    """

    problem: Problem
    precision: Precision
    pass_: str = "forward"
    layout: str = ""
    algorithm: str = "auto"
    implementation: str = ""


class Kernel(Protocol):
    """What a module in ``microbench.kernels`` offers.

    ``PASSES`` and ``LAYOUTS`` list what may be chosen, the default first. Operands are one-dimensional arrays
    in memory order, by the names that the harnesses in ``kernels/<kernel>/`` use.
    """

    PROBLEM: type[Problem]
    PASSES: tuple[str, ...]
    LAYOUTS: tuple[str, ...]

    def flops_of(self, case: Case) -> int:
        """Arithmetic operations of one execution of the case, its pass taken into account."""
        ...

    def counts_of(self, case: Case) -> dict[str, int]:
        """Other counts of operations, by name, that published figures use."""
        ...

    def bytes_of(self, case: Case) -> int:
        """Compulsory traffic of one execution of the case, in bytes."""
        ...

    def streamed_bytes_of(self, case: Case) -> int:
        """Traffic of one execution where nothing stays in a cache, in bytes: for estimates of its time."""
        ...

    def exact(self, case: Case) -> bool:
        """Whether integer-valued operands give a result without rounding error."""
        ...

    def fill(self, case: Case, operands: Operands, rng: Generator, exact: bool) -> None:
        """Writes fresh non-zero inputs in place, integer-valued where ``exact``; leaves outputs alone."""
        ...

    def check(self, case: Case, operands: Operands, exact: bool) -> Check:
        """Compares the outputs with a float64 reference computed from the inputs as they are now."""
        ...
