"""Stored runs as the study sees them: for each layer and batch size the algorithms measured.

Reads stores only. A layer is a convolution without its batch size, in one pass, layout and precision on one device.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from microbench.errors import InputError
from microbench.figures import measured, problem_title
from microbench.problem import ITEM_BYTES, PRECISIONS, Scalar
from microbench.record import Record
from microbench.store import RUN_FILE, Run

DIVISION = "microbatch:"
"""How the names of divided batches begin: ``microbatch:3*winograd_4x4@64,im2col@10``."""

KERNELS, DIVISIONS, FILLS = "kernels", "divisions", "fills"
"""The folders of a study's runs; ``fills`` holds several."""

_PART = re.compile(r"(?:(?P<count>\d+)\*)?(?P<algorithm>.+)@(?P<size>\d+)")


@dataclass(frozen=True)
class Layer:
    """What is computed, apart from the number of images; ``columns`` are the problem's others."""

    columns: tuple[tuple[str, Scalar], ...]
    pass_: str
    layout: str
    precision: str
    backend: str
    mode: str
    threads: int

    @classmethod
    def of(cls, record: Record) -> Layer:
        """That of a record."""
        columns = tuple((name, value) for name, value in record.problem.items() if name != "n")
        return cls(
            columns,
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
    another, so that its operands came from memory, and a gradient of weights was added to those before.
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

    @property
    def name(self) -> str:
        """``library/algorithm``."""
        return f"{self.library}/{self.algorithm}"


@dataclass(frozen=True)
class Study:
    """What runs say of layers.

    Attributes:
        points: for each layer and batch size the algorithms that were measured and right.
        labels: of each layer, from its problem table.
        divisions: the run that measured divided batches, with their kernels beside them.
        fills: runs of a few kernels on several fills.
        triad_bytes_per_s: measured rate of a = b + c * s on arrays in memory, which bounds adding up gradients.
    """

    points: dict[Layer, dict[int, tuple[Point, ...]]]
    labels: dict[Layer, dict[str, str]]
    divisions: Run | None = None
    fills: tuple[Run, ...] = ()
    triad_bytes_per_s: float | None = None

    def whole(self) -> Iterator[tuple[Layer, int, tuple[Point, ...]]]:
        """Each layer with its whole batch, the largest that was measured, and the algorithms there."""
        for layer, sizes in self.points.items():
            yield layer, max(sizes), sizes[max(sizes)]

    def count(self, layer: Layer) -> int:
        """How often a network has the layer, by its table's label ``repeats``."""
        text = self.labels[layer].get("repeats", "")
        return int(text) if text.isdecimal() and int(text) > 0 else 1


def load(folder: str | Path) -> Study:
    """The study of a run, or of a folder with the runs that `study.measure` made.

    Raises:
        InputError: there is no run, or one is not of convolution.
    """
    folder = Path(folder)
    if (folder / RUN_FILE).is_file():
        return gather(Run.load(folder))
    if not (folder / KERNELS / RUN_FILE).is_file():
        raise InputError(f"{folder} holds no run: give a run of conv, or the folder of a study")
    return gather(
        Run.load(folder / KERNELS),
        Run.load(folder / DIVISIONS) if (folder / DIVISIONS / RUN_FILE).is_file() else None,
        [Run.load(path.parent) for path in sorted((folder / FILLS).glob(f"*/{RUN_FILE}"))],
    )


def gather(kernels: Run, divisions: Run | None = None, fills: Sequence[Run] = ()) -> Study:
    """The study of these runs. Raises InputError where one is not of convolution."""
    for run in (kernels, *([divisions] if divisions else []), *fills):
        if run.info.kernel != "conv":
            raise InputError(f"{run.folder} is a run of {run.info.kernel}: the study is of conv")
    found: dict[tuple[Layer, int, str, str], list[Record]] = {}
    labels: dict[Layer, dict[str, str]] = {}
    for record in kernels.records():
        layer = Layer.of(record)
        labels.setdefault(layer, record.labels)
        if usable(record) and (kernel := kernel_of(record)):
            found.setdefault((layer, kernel.size, record.library, kernel.algorithm), []).append(record)
    points: dict[Layer, dict[int, tuple[Point, ...]]] = {}
    for (layer, batch, _, _), records in sorted(found.items(), key=lambda item: item[0][1]):
        sizes = points.setdefault(layer, {})
        sizes[batch] = (*sizes.get(batch, ()), point_of(records))
    triad = kernels.info.ceilings.get("memory_bytes_per_s", {}).get("triad", {}).get("best")
    return Study(points, labels, divisions, tuple(fills), triad)


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
