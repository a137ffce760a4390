"""Divisions of each layer's batch: predicted from its kernels' times, and held against what was measured."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
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
from microbench.study.microbatch import POLICIES, Kernels, allowed, desirable_set

# Libraries whose kernels add to the gradient that is there (beta is 1). Of others the gradient of one micro-batch goes
# to a buffer, which counts as workspace, and is added.
_ACCUMULATING = ("cudnn",)
# Libraries that can divide a batch, by backend; of others divisions are predicted only.
_DIVIDING = {"cpu": ("microbench", "onednn")}
# Workspaces are shared in whole cache lines.
_LINE_BYTES = 64


def divides(library: str, backend: str) -> bool:
    """Whether the library can divide a batch there; of others single micro-batches are measured."""
    return library in _DIVIDING.get(backend, ())


@dataclass(frozen=True)
class Chosen:
    """A division of one layer's batch, or the undivided batch, by one library.

    Attributes:
        micro_batches: size and kernel of each, the largest first.
        predicted_s: the kernels' times, what adding up gradients takes, and where kernels follow each other that bring
            weights to forms of their own in the shared workspace, that time too.
        time_s: what it is chosen by, see `options`.
        rounds_s: measured times of the rounds in which all of the layer's divisions were measured beside the undivided
            batch; empty where it was not among them.
    """

    layer: Layer
    batch: int
    micro_batches: tuple[tuple[int, Point], ...]
    predicted_s: float
    time_s: float
    workspace_bytes: int
    rounds_s: tuple[float, ...] = ()

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

    All times of a layer stand on one basis. Where divisions were measured in rounds beside an undivided batch it is
    that of the rounds: medians of what was measured in them; what was not is predicted and scaled by what the rounds
    showed of its kind (divided or not), the median of measured over predicted. Else all times are predicted.

    Args:
        policy: one of `microbatch.POLICIES`.
        max_error: kernels of larger, or unknown, Frobenius-relative error are left out.
    """
    return _optimal(candidates(study, layer, policy, max_error))


def candidates(study: Study, layer: Layer, policy: str, max_error: float | None = None) -> list[Chosen]:
    """Like `options`, with those that others beat: every undivided batch, and what smaller policies allow."""
    sizes = study.points[layer]
    batch = max(sizes)
    found: dict[tuple[str, str], Chosen] = {}
    asked: set[tuple[str, str]] = set()
    for library in dict.fromkeys(point.library for points in sizes.values() for point in points):
        own = {
            size: [point for point in within(points, max_error=max_error) if point.library == library]
            for size, points in sizes.items()
        }
        kernels: Kernels = {
            size: [_as_part(study, layer, point, size < batch) for point in points]
            for size, points in own.items()
        }
        preparations = {size: [point.prepare_s for point in points] for size, points in own.items()}
        whole = [
            Chosen(layer, batch, ((batch, point),), point.time_s, point.time_s, point.workspace_bytes)
            for point in own[batch]
        ]
        # All policies, whichever is asked for: what was measured says how far all predictions are off.
        for each in POLICIES:
            divided = [
                Chosen(
                    layer,
                    batch,
                    tuple(
                        (size, own[size][place]) for size, place in zip(one.sizes, one.kernels, strict=True)
                    ),
                    one.time_s,
                    one.time_s,
                    one.workspace_bytes,
                )
                for one in desirable_set(allowed(kernels, batch, each), batch, math.inf, preparations)
            ]
            for one in [*whole, *divided]:
                found.setdefault((library, one.algorithm), one)
            if POLICIES.index(each) <= POLICIES.index(policy):
                asked |= {(library, one.algorithm) for one in [*whole, *divided]}
    return [
        one
        for one in _rebased(list(found.values()), beside(study).get(layer, {}))
        if (one.library, one.algorithm) in asked
    ]


def _optimal(found: Iterable[Chosen]) -> list[Chosen]:
    return pareto(found, lambda chosen: (chosen.time_s, chosen.workspace_bytes))


def _rebased(found: Sequence[Chosen], rounds: Mapping[tuple[str, str], tuple[float, ...]]) -> list[Chosen]:
    measured = [
        dataclasses.replace(one, time_s=statistics.median(times), rounds_s=times)
        for one in found
        if (times := rounds.get((one.library, one.algorithm)))
    ]
    drift = {
        divided: statistics.median([one.time_s / one.predicted_s for one in kind])
        for divided in (False, True)
        if (kind := [one for one in measured if one.divided == divided and one.predicted_s > 0])
    }
    if len(drift) < 2:
        return list(found)
    known = {(one.library, one.algorithm): one for one in measured}
    return [
        known.get((one.library, one.algorithm))
        or dataclasses.replace(one, time_s=one.predicted_s * drift[one.divided])
        for one in found
    ]


def best_under(found: Iterable[Chosen], workspace_limit: float) -> Chosen | None:
    """The fastest with a workspace strictly below the limit."""
    fitting = [chosen for chosen in found if chosen.workspace_bytes < workspace_limit]
    return min(fitting, key=lambda chosen: chosen.time_s, default=None)


def to_measure(study: Study, layer: Layer, limits: Iterable[float]) -> tuple[list[Chosen], list[Chosen]]:
    """The divisions that are the fastest under a limit and can be measured, and the undivided batches beside them."""
    divided, undivided = options(study, layer, "all"), options(study, layer, "undivided")
    chosen: dict[str, Chosen] = {}
    bases: dict[str, Chosen] = {}
    for limit in limits:
        best, base = best_under(divided, limit), best_under(undivided, limit)
        if best is not None and best.divided and divides(best.library, layer.backend):
            chosen[best.library + best.algorithm] = best
            if base is not None:
                bases[base.library + base.algorithm] = base
    return list(chosen.values()), list(bases.values())


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
        chosen_s: what it was chosen by: predicted from its kernels as they were measured before all rounds; None where
            one of them was not.
        ratios: predicted over measured, by round.
        reason: status and reason, where it could not be measured.
    """

    layer: Layer
    batch: int
    library: str
    algorithm: str
    chosen_s: float | None
    predicted_s: float | None
    measured_s: float | None
    workspace_bytes: int | None
    ratios: tuple[float, ...]
    reason: str

    @property
    def ratio(self) -> float | None:
        """Median over the rounds of predicted over measured."""
        return statistics.median(self.ratios) if self.ratios else None

    @property
    def chosen_ratio(self) -> float | None:
        """What it was chosen by over the median measured."""
        return self.chosen_s / self.measured_s if self.chosen_s and self.measured_s else None


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
        own = {key[1:]: point for key, point in latest.items() if key[0] == layer}
        predicted = _predicted_s(study, layer, record, own)
        groups.setdefault((layer, batch, record.library, record.algorithm), []).append((predicted, record))
    return [_outcome(study, *key, rounds) for key, rounds in groups.items()]


def _predicted_s(
    study: Study, layer: Layer, record: Record, known: Mapping[tuple[int, str, str], Point]
) -> float | None:
    """A division's time from those of its kernels, by size, library and algorithm; None: one is unknown."""
    parts = []
    for repeats, algorithm, size in parts_of(record.algorithm):
        point = known.get((size, record.library, algorithm))
        if point is None:
            return None
        parts += [(size, point)] * repeats
    # The first gradient is written where it belongs, the others are added.
    times = [_as_part(study, layer, point, place > 0)[0] for place, (_, point) in enumerate(parts)]
    return math.fsum(times) + _changes_s(parts)


def _outcome(
    study: Study,
    layer: Layer,
    batch: int,
    library: str,
    algorithm: str,
    rounds: Sequence[tuple[float | None, Record]],
) -> Outcome:
    before = {
        (size, point.library, point.algorithm): point
        for size, points in study.points.get(layer, {}).items()
        for point in points
    }
    good = [(predicted, record) for predicted, record in rounds if predicted and usable(record)]
    measured = [record.median_s for _, record in good if record.median_s]
    predicted = [time for time, _ in good if time]
    reasons = [f"{record.status}: {record.reason}" for _, record in rounds if not usable(record)]
    return Outcome(
        layer,
        batch,
        library,
        algorithm,
        _predicted_s(study, layer, rounds[0][1], before),
        statistics.median(predicted) if good else None,
        statistics.median(measured) if good else None,
        good[0][1].workspace_bytes if good else None,
        tuple(time / record.median_s for time, record in good if time and record.median_s),
        "" if good else (reasons or ["its kernels were not measured beside it"])[0],
    )


def beside(study: Study) -> dict[Layer, dict[tuple[str, str], tuple[float, ...]]]:
    """Of each layer the whole batches, divided or not, that were measured beside each other, by library and algorithm.

    Seconds of the rounds in which all of them were measured, so that a slow minute falls on all; what was never
    measured is left out.
    """
    rounds: dict[Layer, dict[tuple[str, str], list[float | None]]] = {}
    for record in study.divisions.records() if study.divisions else ():
        layer = Layer.of(record)
        if int(record.problem["n"]) == max(study.points.get(layer, (0,))):
            times = rounds.setdefault(layer, {}).setdefault((record.library, record.algorithm), [])
            times.append(record.median_s if usable(record) else None)
    found = {}
    for layer, all_times in rounds.items():
        ever = {key: times for key, times in all_times.items() if any(times)}
        complete = [together for together in zip(*ever.values(), strict=False) if all(together)]
        if complete:
            found[layer] = {
                key: tuple(time for time in times if time is not None)
                for key, times in zip(ever, zip(*complete, strict=True), strict=True)
            }
    return found


@dataclass(frozen=True)
class Gain:
    """The fastest undivided batch beside a division, with workspaces strictly below one limit.

    ``division`` is the fastest one where that beats the undivided batch, else the fastest that was measured; None where
    there is none. Times stand on the basis that `options` describes.
    """

    limit_bytes: float
    base: Chosen
    division: Chosen | None

    @property
    def layer_title(self) -> str:
        """The layer with its batch, in few characters."""
        return self.base.layer.title(self.base.batch)

    @property
    def best(self) -> Chosen:
        """The faster of the two."""
        pays = self.division is not None and self.division.time_s < self.base.time_s
        return self.division if self.division is not None and pays else self.base

    @property
    def measured(self) -> bool:
        """Whether both were measured, in the same rounds."""
        return self.division is not None and bool(self.base.rounds_s and self.division.rounds_s)

    @property
    def speedup(self) -> float:
        """Time of the undivided batch over that of the division, 1 where there is none."""
        return 1.0 if self.division is None else self.base.time_s / self.division.time_s

    @property
    def range(self) -> tuple[float, float] | None:
        """The smallest and the largest speed-up of a round; None for fewer than two rounds."""
        if self.division is None or not self.measured or len(self.base.rounds_s) < 2:
            return None
        ratios = [
            base / divided for base, divided in zip(self.base.rounds_s, self.division.rounds_s, strict=True)
        ]
        return min(ratios), max(ratios)

    @property
    def settled(self) -> bool:
        """Whether all rounds, two or more, say the same: the division is faster, or it is not."""
        return self.range is not None and (self.range[0] > 1 or self.range[1] < 1)


def gains(
    study: Study, limits: Sequence[float], policy: str = "all", max_error: float | None = None
) -> list[Gain]:
    """For each limit and layer that was measured with several batch sizes.

    Left out where no undivided batch fits: there is no base then.
    """
    found = []
    for layer, _, _ in study.whole():
        if len(study.points[layer]) == 1:
            continue
        everything = candidates(study, layer, policy, max_error)
        for limit in limits:
            base = best_under((one for one in everything if not one.divided), limit)
            if base is None:
                continue
            division = best_under((one for one in everything if one.divided), limit)
            if division is not None and not division.time_s < base.time_s:
                division = best_under((one for one in everything if one.divided and one.rounds_s), limit)
            found.append(Gain(limit, base, division))
    return found
