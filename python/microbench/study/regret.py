"""What a library's own pick costs against the best of all its algorithms, at each workspace limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from microbench.study.fronts import within
from microbench.study.layers import Layer, Point, Study

# Algorithms that stand for a choice of the library's, by how their names begin.
_PICKS = ("auto", "heuristic", "find")


@dataclass(frozen=True)
class Regret:
    """One pick beside the best, both with workspaces strictly below ``limit_bytes`` (infinite: no limit)."""

    layer: Layer
    batch: int
    library: str
    limit_bytes: float
    chooser: str
    pick: Point
    best: Point

    @property
    def ratio(self) -> float:
        """Time of the pick over time of the best."""
        return self.pick.time_s / self.best.time_s

    @property
    def separate(self) -> bool:
        """Whether the intervals of the two times lie apart."""
        return (
            self.best.high_s is not None
            and self.pick.low_s is not None
            and self.best.high_s < self.pick.low_s
        )


def picks(points: Sequence[Point]) -> list[tuple[str, Point]]:
    """How each of one library's choosers decides, with its name.

    Choices that were measured by their names (``auto``, heuristics); where there are none, the first of the library's
    own order, as ``first``.
    """
    named = [(point.algorithm, point) for point in points if point.algorithm.startswith(_PICKS)]
    return named or [("first", min(points, key=lambda point: point.index))]


def regrets(study: Study, limits: Sequence[float]) -> list[Regret]:
    """For each layer at its whole batch, library and limit; left out where nothing, or no pick, fits the limit."""
    found = []
    for layer, batch, points in study.whole():
        for library in dict.fromkeys(point.library for point in points):
            own = [point for point in points if point.library == library]
            for limit in limits:
                fitting = within(own, limit)
                if not fitting:
                    continue
                best = min(fitting, key=lambda point: point.time_s)
                for chooser, pick in picks(fitting):
                    found.append(Regret(layer, batch, library, limit, chooser, pick, best))
    return found


@dataclass(frozen=True)
class Distribution:
    """Regrets of one chooser at one limit over the layers.

    ``total_ratio`` is the sum of the picks' times over that of the best: ratios are not averaged. ``quartiles`` are
    the 25th, 50th and 75th percentile of the ratios, ``best_picked`` counts the layers where the pick is the best.
    """

    library: str
    chooser: str
    limit_bytes: float
    layers: int
    best_picked: int
    quartiles: tuple[float, float, float]
    worst: Regret
    picks: tuple[Point, ...]
    bests: tuple[Point, ...]

    @property
    def pick_s(self) -> float:
        """Sum of the picks' times."""
        return math.fsum(point.time_s for point in self.picks)

    @property
    def best_s(self) -> float:
        """Sum of the best times."""
        return math.fsum(point.time_s for point in self.bests)

    @property
    def total_ratio(self) -> float:
        """Sum of the picks' times over the sum of the best times."""
        return self.pick_s / self.best_s


def distributions(found: Sequence[Regret]) -> list[Distribution]:
    """By library, chooser and limit."""
    groups: dict[tuple[str, str, float], list[Regret]] = {}
    for regret in found:
        groups.setdefault((regret.library, regret.chooser, regret.limit_bytes), []).append(regret)
    return [
        Distribution(
            library,
            chooser,
            limit,
            len(group),
            sum(regret.pick == regret.best for regret in group),
            _quartiles([regret.ratio for regret in group]),
            max(group, key=lambda regret: regret.ratio),
            tuple(regret.pick for regret in group),
            tuple(regret.best for regret in group),
        )
        for (library, chooser, limit), group in sorted(groups.items(), key=lambda item: item[0])
    ]


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    import numpy as np

    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return low, middle, high
