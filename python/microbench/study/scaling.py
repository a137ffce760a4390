"""How time grows with the batch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

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
    """

    layer: Layer
    best: dict[int, Point]
    per_sample_s: dict[int, float]
    knees: tuple[Knee, ...]
    strong: dict[int, float]
    weak: dict[int, float]


def scalings(study: Study) -> list[Scaling]:
    """Of the layers measured with at least three batch sizes."""
    return [
        scaling(layer, {size: min(points, key=lambda point: point.time_s) for size, points in sizes.items()})
        for layer, sizes in study.points.items()
        if len(sizes) >= 3
    ]


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
