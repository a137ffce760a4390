"""Divisions of each layer's batch: predicted from its kernels' times, and held against what was measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from microbench.record import Record
from microbench.study.fronts import pareto, within
from microbench.study.layers import (
    DIVISION,
    Layer,
    Point,
    Study,
    kernel_of,
    name_of,
    parts_of,
    point_of,
    usable,
)
from microbench.study.microbatch import Kernels, allowed, desirable_set

# Libraries whose kernels add to the gradient that is there (beta is 1). Of others the gradient of one micro-batch goes
# to a buffer, which counts as workspace, and is added.
_ACCUMULATING = ("cudnn",)
# Workspaces are shared in whole cache lines.
_LINE_BYTES = 64


@dataclass(frozen=True)
class Chosen:
    """A division of one layer's batch, or the undivided batch, by one library.

    Attributes:
        micro_batches: size and kernel of each, the largest first.
        time_s: predicted: the kernels' times, what adding up gradients takes, and where kernels follow each other that
            bring weights to forms of their own in the shared workspace, that time too.
    """

    layer: Layer
    batch: int
    micro_batches: tuple[tuple[int, Point], ...]
    time_s: float
    workspace_bytes: int

    @property
    def library(self) -> str:
        """Whose kernels they are."""
        return self.micro_batches[0][1].library

    @property
    def divided(self) -> bool:
        """Whether there is more than one micro-batch."""
        return len(self.micro_batches) > 1

    @property
    def algorithm(self) -> str:
        """The name by which ``conv --algorithm`` measures it."""
        if not self.divided:
            return self.micro_batches[0][1].algorithm
        return name_of((point.algorithm, size) for size, point in self.micro_batches)


def options(study: Study, layer: Layer, policy: str, max_error: float | None = None) -> list[Chosen]:
    """What a layer's whole batch can be done by, Pareto-optimal in time and workspace, the fastest first.

    Args:
        policy: one of `microbatch.POLICIES`.
        max_error: kernels of larger, or unknown, Frobenius-relative error are left out.
    """
    sizes = study.points[layer]
    batch = max(sizes)
    found = []
    for library in dict.fromkeys(point.library for points in sizes.values() for point in points):
        own = {
            size: [point for point in within(points, max_error=max_error) if point.library == library]
            for size, points in sizes.items()
        }
        kernels: Kernels = {
            size: [_as_part(study, layer, point, size < batch) for point in points]
            for size, points in own.items()
        }
        for division in desirable_set(allowed(kernels, batch, policy), batch, math.inf):
            parts = [
                (size, own[size][place]) for size, place in zip(division.sizes, division.kernels, strict=True)
            ]
            time = division.time_s + _changes_s(parts)
            found.append(Chosen(layer, batch, tuple(parts), time, division.workspace_bytes))
    return pareto(found, lambda chosen: (chosen.time_s, chosen.workspace_bytes))


def best_under(candidates: Iterable[Chosen], workspace_limit: float) -> Chosen | None:
    """The fastest with a workspace strictly below the limit."""
    fitting = [chosen for chosen in candidates if chosen.workspace_bytes < workspace_limit]
    return min(fitting, key=lambda chosen: chosen.time_s, default=None)


def _as_part(study: Study, layer: Layer, point: Point, divided: bool) -> tuple[float, int]:
    """Time and workspace of a kernel, as one of several micro-batches where ``divided``."""
    adding = divided and layer.pass_ == "backward_weights" and point.library not in _ACCUMULATING
    if not adding or point.in_turn:
        return point.time_s, point.workspace_bytes
    gradient = layer.weight_bytes()
    lines = math.ceil(point.workspace_bytes / _LINE_BYTES) * _LINE_BYTES
    return point.time_s + _adding_s(study, gradient), lines + gradient


def _adding_s(study: Study, gradient_bytes: int) -> float:
    """Seconds of adding one gradient to another: two are read and one is written."""
    return 3 * gradient_bytes / study.triad_bytes_per_s if study.triad_bytes_per_s else 0.0


def _changes_s(parts: Sequence[tuple[int, Point]]) -> float:
    """Seconds in which kernels bring weights to their own forms, because another one used the workspace before."""
    kernels = {(size, point.algorithm): point.prepare_s for size, point in parts}
    return sum(kernels.values()) if len(kernels) > 1 else 0.0


@dataclass(frozen=True)
class Outcome:
    """A division as it was measured, in rounds: its kernels, each alone, and then itself.

    Attributes:
        predicted_s, measured_s: medians over the rounds; None where none was measured.
        ratios: predicted over measured, by round.
        reason: status and reason, where it could not be measured.
    """

    layer: Layer
    batch: int
    library: str
    algorithm: str
    predicted_s: float | None
    measured_s: float | None
    workspace_bytes: int | None
    ratios: tuple[float, ...]
    reason: str

    @property
    def ratio(self) -> float | None:
        """Median over the rounds of predicted over measured."""
        return statistics.median(self.ratios) if self.ratios else None


def outcomes(study: Study) -> list[Outcome]:
    """All divisions of whole batches that were measured, each predicted from the kernels measured just before it."""
    latest: dict[tuple[Layer, int, str, str], Point] = {}
    groups: dict[tuple[Layer, int, str, str], list[tuple[float | None, Record]]] = {}
    for record in study.divisions.records() if study.divisions else ():
        layer, batch = Layer.of(record), int(record.problem["n"])
        whole = batch == max(study.points.get(layer, (batch,)))
        if not (whole and record.algorithm.startswith(DIVISION)):
            if usable(record) and (kernel := kernel_of(record)):
                latest[layer, kernel.size, record.library, kernel.algorithm] = point_of([record])
            continue
        parts = []
        for repeats, algorithm, size in parts_of(record.algorithm):
            if point := latest.get((layer, size, record.library, algorithm)):
                parts += [(size, point)] * repeats
        complete = sum(size for size, _ in parts) == batch
        rounds = groups.setdefault((layer, batch, record.library, record.algorithm), [])
        rounds.append((_predicted_s(study, layer, parts) if complete else None, record))
    return [_outcome(*key, rounds) for key, rounds in groups.items()]


def _predicted_s(study: Study, layer: Layer, parts: Sequence[tuple[int, Point]]) -> float:
    # The first gradient is written where it belongs, the others are added.
    times = [_as_part(study, layer, point, place > 0)[0] for place, (_, point) in enumerate(parts)]
    return math.fsum(times) + _changes_s(parts)


def _outcome(
    layer: Layer, batch: int, library: str, algorithm: str, rounds: Sequence[tuple[float | None, Record]]
) -> Outcome:
    good = [(predicted, record) for predicted, record in rounds if predicted and usable(record)]
    measured = [record.median_s for _, record in good if record.median_s]
    predicted = [time for time, _ in good if time]
    reasons = [f"{record.status}: {record.reason}" for _, record in rounds if not usable(record)]
    return Outcome(
        layer,
        batch,
        library,
        algorithm,
        statistics.median(predicted) if good else None,
        statistics.median(measured) if good else None,
        good[0][1].workspace_bytes if good else None,
        tuple(time / record.median_s for time, record in good if time and record.median_s),
        "" if good else (reasons or ["its kernels were not measured beside it"])[0],
    )


def undivided_times(study: Study) -> dict[tuple[Layer, int, str, str], float]:
    """Median times over the rounds of what was measured undivided beside divisions."""
    times: dict[tuple[Layer, int, str, str], list[float]] = {}
    for record in study.divisions.records() if study.divisions else ():
        if usable(record) and record.median_s and not record.algorithm.startswith(DIVISION):
            key = (Layer.of(record), int(record.problem["n"]), record.library, record.algorithm)
            times.setdefault(key, []).append(record.median_s)
    return {key: statistics.median(values) for key, values in times.items()}


@dataclass(frozen=True)
class Gain:
    """The best undivided batch beside the best division, with workspaces strictly below one limit.

    ``base_s`` and ``time_s`` were measured beside each other where ``measured``, else they come from the kernels'.
    """

    limit_bytes: float
    base: Chosen
    best: Chosen
    base_s: float
    time_s: float
    measured: bool

    @property
    def layer_title(self) -> str:
        """The layer with its batch, in few characters."""
        return self.base.layer.title(self.base.batch)

    @property
    def speedup(self) -> float:
        """Time of the undivided batch over that of the division."""
        return self.base_s / self.time_s


def gains(
    study: Study, limits: Sequence[float], policy: str = "all", max_error: float | None = None
) -> list[Gain]:
    """For each limit and layer that was measured with several batch sizes.

    Left out where no undivided batch fits: there is no base then.
    """
    times = undivided_times(study)
    times |= {
        (one.layer, one.batch, one.library, one.algorithm): one.measured_s
        for one in outcomes(study)
        if one.measured_s is not None
    }
    found = []
    for layer, batch, _ in study.whole():
        if len(study.points[layer]) == 1:
            continue
        undivided = options(study, layer, "undivided", max_error)
        divided = options(study, layer, policy, max_error)
        for limit in limits:
            base, best = best_under(undivided, limit), best_under(divided, limit)
            if base is None or best is None:
                continue
            both = [times.get((layer, batch, one.library, one.algorithm)) for one in (base, best)]
            if both[0] is not None and both[1] is not None:
                found.append(Gain(limit, base, best, both[0], both[1], measured=True))
            else:
                found.append(Gain(limit, base, best, base.time_s, best.time_s, measured=False))
    return found
