"""What the study sees of stored runs: for each layer and batch size the algorithms measured.

A layer is a convolution without its batch size, in one pass, layout and precision on one device.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from microbench.figures import measured, problem_title, threads_phrase
from microbench.problem import ITEM_BYTES, PRECISIONS, Scalar
from microbench.record import Record
from microbench.store import Run

DIVISION = "microbatch:"
"""How the names of divided batches begin: ``microbatch:3*winograd_4x4@64,im2col@10``."""

PROBE, KERNELS, PICKS, DIVISIONS, FILLS = "probe", "kernels", "picks", "divisions", "fills"
"""The folders of a study's runs; ``picks`` and ``fills`` hold several."""
STUDY_FILE = "study.json"
"""What a study was asked for."""
TABLE_FILE = "probe.csv"
"""All its layers, with the smallest micro-batch."""

# Algorithms that stand for a choice of the library's, by how their names begin.
_CHOICES = ("auto", "heuristic", "find")
# Where a heuristic ranks what a library ran, as the record's ``implementation`` says it.
_PLACE = re.compile(r"heuristic (\S+) (\d+) of \d+")
_PART = re.compile(r"(?:(?P<count>\d+)\*)?(?P<algorithm>.+)@(?P<size>\d+)")


Columns = tuple[tuple[str, Scalar], ...]
"""A problem's columns but its batch."""


def columns_of(problem: Mapping[str, Scalar]) -> Columns:
    """Those of a problem."""
    return tuple((name, value) for name, value in problem.items() if name != "n")


@dataclass(frozen=True)
class Layer:
    """What is computed, apart from the number of images; ``columns`` are the problem's others."""

    columns: Columns
    pass_: str
    layout: str
    precision: str
    backend: str
    mode: str
    threads: int

    @classmethod
    def of(cls, record: Record) -> Layer:
        """That of a record."""
        return cls(
            columns_of(record.problem),
            record.pass_,
            record.layout,
            record.precision,
            record.backend,
            record.mode,
            record.threads,
        )

    def title(self, batch: int | None = None) -> str:
        """The layer in few characters, with ``batch`` images where that is given."""
        text = problem_title("conv", {"n": batch or 1, **dict(self.columns)}, self.pass_, self.layout)
        if batch is None:
            text = text.removeprefix("n1 ")
        return text if self.precision == "fp32" else f"{text} {self.precision}"

    def setting(self) -> tuple[str, ...]:
        """How the layer was computed: what may not be mixed in one sum."""
        return (
            self.precision,
            self.layout,
            self.backend,
            self.mode,
            threads_phrase(self.backend, self.threads),
        )

    def weight_bytes(self) -> int:
        """Bytes of the filters' gradient, as the pass writes it."""
        size = {name: int(value) for name, value in self.columns}
        elements = size["k"] * size["c"] // size.get("groups", 1) * size["filter_h"] * size["filter_w"]
        return elements * ITEM_BYTES[PRECISIONS[self.precision].output]


@dataclass(frozen=True)
class Point:
    """One algorithm on one batch size. Seconds and bytes; None for unknown.

    ``low_s`` and ``high_s`` bound the time: its interval, or where several processes measured it the range of theirs.
    ``error`` is the Frobenius-relative error against float64, the one of a record's errors that compares between
    algorithms. ``prepare_s`` is how long bringing weights to the algorithm's form takes. ``index`` orders a
    library's algorithms, its own choice first. ``in_turn``: one of several micro-batches that were measured one after
    another, so that its operands came from memory, and a gradient of weights was added to those before. ``places`` are
    those that the library's heuristics give it, by their names in lower case, the best being 1.
    """

    library: str
    algorithm: str
    time_s: float
    low_s: float | None
    high_s: float | None
    workspace_bytes: int
    error: float | None
    prepare_s: float
    index: int
    in_turn: bool = False
    places: tuple[tuple[str, int], ...] = ()

    @property
    def name(self) -> str:
        """``library/algorithm``."""
        return f"{self.library}/{self.algorithm}"


class Pick(NamedTuple):
    """What a library chose when it was allowed ``limit_bytes`` of workspace, ``point``.

    ``point`` is None where it was not measured, or where there was nothing to choose: ``refused``.
    """

    library: str
    chooser: str
    limit_bytes: float
    point: Point | None
    refused: bool


class Probed(NamedTuple):
    """One algorithm of a study's probe, and whether it was then measured on the whole batch."""

    algorithm: str
    workspace_bytes: int
    measured: bool


@dataclass(frozen=True)
class Study:
    """What runs say of layers.

    Attributes:
        points: for each layer and batch size the algorithms that were measured and right; those that stand for a choice
            of the library's only where none of its others was.
        labels: of each layer, from its problem table.
        divisions: the run that measured divided batches, with their kernels beside them.
        fills: runs of a few kernels on several fills.
        triad_bytes_per_s: measured rate of a = b + c * s on arrays in memory, or of copying, which bounds adding up
            gradients.
        cache_bytes: the last-level cache of the device; 0: unknown.
        picks: what libraries chose on a layer's batch, where that was measured as their choice.
        probed: of each layer and library what a study's probe measured, in the library's order; empty for a run.
        everything: whether a run tried every algorithm that the library listed.
        asked: the layers asked for, with their labels, by all columns but the batch; None: unknown.
        libraries: what the kernels' run knows of each library, its version for instance.
        unfinished: sentences about what is not measured yet.
    """

    points: dict[Layer, dict[int, tuple[Point, ...]]]
    labels: dict[Layer, dict[str, str]]
    divisions: Run | None = None
    fills: tuple[Run, ...] = ()
    triad_bytes_per_s: float | None = None
    cache_bytes: int = 0
    picks: dict[tuple[Layer, int], tuple[Pick, ...]] = field(default_factory=dict)
    probed: dict[tuple[Layer, str], tuple[Probed, ...]] = field(default_factory=dict)
    everything: bool = False
    asked: tuple[tuple[Columns, dict[str, str]], ...] | None = ()
    libraries: dict[str, Any] = field(default_factory=dict)
    unfinished: tuple[str, ...] = ()

    def whole(self) -> Iterator[tuple[Layer, int, tuple[Point, ...]]]:
        """Each layer with its whole batch, the largest that was measured, and the algorithms there."""
        for layer, sizes in self.points.items():
            yield layer, max(sizes), sizes[max(sizes)]

    def count(self, layer: Layer) -> int:
        """How often a network has the layer, by its table's label ``repeats``."""
        return _repeats(self.labels[layer])

    def missing(self, layers: Iterable[Layer]) -> int | None:
        """Layers asked for that are not among these, each as often as a network has it, in every pass that is.

        None where it is not known what was asked for, but that something was left out.
        """
        if self.asked is None:
            return None
        there: dict[str, set[Columns]] = {}
        for layer in layers:
            there.setdefault(layer.pass_, set()).add(layer.columns)
        return sum(
            _repeats(labels)
            for known in there.values()
            for columns, labels in self.asked
            if columns not in known
        )

    def settings(self) -> dict[Layer, str]:
        """How each layer was computed: precision and layout, and what else differs between layers."""
        kinds = [set(kind) for kind in zip(*(layer.setting() for layer in self.labels), strict=True)]
        return {
            layer: ", ".join(
                text
                for place, (text, kind) in enumerate(zip(layer.setting(), kinds, strict=True))
                if text and (place < _ALWAYS or len(kind) > 1)
            )
            for layer in self.labels
        }


# Of a setting, precision and layout are always named.
_ALWAYS = 2


def _repeats(labels: dict[str, str]) -> int:
    text = labels.get("repeats", "")
    return int(text) if text.isdecimal() and int(text) > 0 else 1


def is_choice(algorithm: str) -> bool:
    """Whether the name stands for a choice of the library's: its own pick, a heuristic's or a search's."""
    return algorithm.startswith(_CHOICES)


def usable(record: Record) -> bool:
    """Whether time and workspace of the record are known and its result was right."""
    return measured(record) and record.workspace_bytes is not None


class Kernel(NamedTuple):
    """One algorithm on ``size`` images, ``repeats`` of them in turn."""

    repeats: int
    algorithm: str
    size: int


def kernel_of(record: Record) -> Kernel | None:
    """What was measured: the algorithm, or that of equal micro-batches; None for a division into several kernels."""
    if not record.algorithm.startswith(DIVISION):
        return Kernel(1, record.algorithm, int(record.problem["n"]))
    parts = parts_of(record.algorithm)
    return parts[0] if len(parts) == 1 else None


def point_of(records: Sequence[Record]) -> Point:
    """What records of one kernel (see `kernel_of`) say together; all of them `usable`."""
    first = records[0]
    kernel = kernel_of(first)
    assert kernel is not None
    times = [record.median_s / kernel.repeats for record in records if record.median_s is not None]
    bounds: tuple[float | None, float | None] = (min(times), max(times))
    if len(records) == 1:
        bounds = (first.ci_low_s, first.ci_high_s)
        if kernel.repeats > 1:
            bounds = (bounds[0] and bounds[0] / kernel.repeats, bounds[1] and bounds[1] / kernel.repeats)
    errors = [record.frobenius_error for record in records if record.frobenius_error is not None]
    return Point(
        first.library,
        kernel.algorithm,
        statistics.median(times),
        *bounds,
        first.workspace_bytes or 0,
        max(errors, default=None),
        statistics.median(float(record.facts.get("prepare_s") or 0.0) for record in records),
        first.index,
        kernel.repeats > 1,
        tuple(
            (name.lower(), int(place))
            for name, place in _PLACE.findall(str(first.facts.get("implementation") or ""))
        ),
    )


def parts_of(division: str) -> list[Kernel]:
    """The parts of a division's name."""
    found = [_PART.fullmatch(part) for part in division.removeprefix(DIVISION).split(",")]
    return [Kernel(int(part["count"] or 1), part["algorithm"], int(part["size"])) for part in found if part]


def name_of(parts: Iterable[tuple[str, int]]) -> str:
    """The name of the division into these micro-batches, each with its algorithm and images."""
    counted = Counter(parts)
    texts = (
        f"{count}*{algorithm}@{size}" if count > 1 else f"{algorithm}@{size}"
        for (algorithm, size), count in counted.items()
    )
    return DIVISION + ",".join(texts)
