"""How time grows with the batch."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from microbench import kernels
from microbench.problem import PRECISIONS, Case
from microbench.study.layers import Layer, Point, Study

# Where time grows with the batch to this power, a larger batch no longer pays; from the other power on it costs.
_SATURATED = 0.9
_DEGRADED = 1.1


@dataclass(frozen=True)
class Knee:
    """A batch size where the growth changes.

    ``saturated``: from here on time grows as the batch (to the power 0.9 or more), so time per sample hardly falls.
    ``degraded``: from here to the next size it grows faster (to the power 1.1 or more), so time per sample rises.
    """

    batch: int
    kind: Literal["saturated", "degraded"]


@dataclass(frozen=True)
class Scaling:
    """One layer's best algorithm at each batch size.

    Attributes:
        per_sample_s: seconds per image, by batch size.
        strong: by number of devices p that divide the largest batch B: efficiency t(B) / (p t(B / p)).
        weak: by batch size b of each device: the least time per sample over that at b.
        cached: whether the whole batch was timed in the last-level cache, while micro-batches were timed in turn over
            more images than it has, so that times compare unlike conditions.
    """

    layer: Layer
    best: dict[int, Point]
    per_sample_s: dict[int, float]
    knees: tuple[Knee, ...]
    strong: dict[int, float]
    weak: dict[int, float]
    cached: bool = False


def scalings(study: Study) -> list[Scaling]:
    """Of the layers measured with at least three batch sizes."""
    found = []
    for layer, sizes in study.points.items():
        if len(sizes) >= 3:
            best = {size: min(points, key=lambda point: point.time_s) for size, points in sizes.items()}
            found.append(dataclasses.replace(scaling(layer, best), cached=_cached(study, layer, best)))
    return found


def _cached(study: Study, layer: Layer, best: Mapping[int, Point]) -> bool:
    """Whether operands and workspace of the whole batch fit the last-level cache, and micro-batches were in turn."""
    if layer.mode == "cold" or not any(point.in_turn for point in best.values()):
        return False
    conv = kernels.kernel("conv")
    batch = max(best)
    case = Case(
        conv.PROBLEM(**{"n": batch, **dict(layer.columns)}),
        PRECISIONS[layer.precision],
        layer.pass_,
        layer.layout,
    )
    return conv.bytes_of(case) + best[batch].workspace_bytes < study.cache_bytes


def scaling(layer: Layer, best: Mapping[int, Point]) -> Scaling:
    """From the best algorithm of each batch size, sizes ascending.

    Strong scaling keeps the whole batch and spreads it over more devices, each of which gets less; weak scaling keeps
    each device's batch, so that what it costs is decided by that batch alone. Both without communication.
    """
    times = {size: point.time_s for size, point in best.items()}
    per_sample = {size: time / size for size, time in times.items()}
    largest, least = max(times), min(per_sample.values())
    strong = {
        largest // size: times[largest] / (largest // size * time)
        for size, time in reversed(times.items())
        if largest % size == 0 and size < largest
    }
    weak = {size: least / time for size, time in per_sample.items()}
    return Scaling(layer, dict(best), per_sample, tuple(knees(list(times.items()))), strong, weak)


def knees(times: Sequence[tuple[int, float]]) -> list[Knee]:
    """The knees of times at ascending batch sizes."""
    powers = [
        (small, math.log(slow / fast) / math.log(large / small))
        for (small, fast), (large, slow) in itertools.pairwise(times)
    ]
    found = []
    unsaturated = [place for place, (_, power) in enumerate(powers) if power < _SATURATED]
    saturated = unsaturated[-1] + 1 if unsaturated else 0
    if saturated < len(powers):
        found.append(Knee(powers[saturated][0], "saturated"))
    found += [Knee(size, "degraded") for size, power in powers if power > _DEGRADED]
    return found
