"""What a library's own pick costs against the best of all its algorithms, at each workspace limit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from microbench.study.fronts import within
from microbench.study.layers import Layer, Pick, Point, Study, is_choice


@dataclass(frozen=True)
class Unknown:
    """A pick that was not measured, or of which that cannot be told."""

    layer: Layer
    library: str
    limit_bytes: float
    chooser: str


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
    def best_picked(self) -> bool:
        """Whether the pick is the best; one measured as a choice also where the intervals of both times overlap."""
        known = self.best.high_s is not None and self.pick.low_s is not None
        return self.ratio <= 1 or (is_choice(self.pick.algorithm) and known and not self.separate)

    @property
    def separate(self) -> bool:
        """Whether the intervals of the two times lie apart."""
        return (
            self.best.high_s is not None
            and self.pick.low_s is not None
            and self.best.high_s < self.pick.low_s
        )


def picks(
    study: Study, layer: Layer, library: str, points: Sequence[Point], named: Sequence[Pick], limit: float
) -> dict[str, Point | None]:
    """What each of one library's choosers decides under the limit; None: it was not measured.

    Choices that were measured by their names (``auto``, ``find``, heuristics) count under the smallest workspace that
    allowed all that the limit does, and where they fit it. Where a run tried every algorithm, the pick of a heuristic
    is the one of the best place that fits. Where there is neither, the first of the library's own order is, as
    ``first``; in a study only if all before it were measured on the whole batch or cannot fit.
    """
    found: dict[str, Point | None] = {}
    for chooser in dict.fromkeys(pick.chooser for pick in named):
        runs = sorted((pick for pick in named if pick.chooser == chooser), key=lambda pick: pick.limit_bytes)
        pick = next((pick for pick in runs if pick.limit_bytes >= limit - 1), runs[-1])
        if not pick.refused:
            fits = pick.point is not None and pick.point.workspace_bytes < limit
            found[chooser] = pick.point if fits else None
    fitting = within(points, limit)
    if study.everything:
        for name in dict.fromkeys(name for point in fitting for name, _ in point.places):
            ranked = [point for point in fitting if name in dict(point.places)]
            best = min(ranked, key=lambda point: dict(point.places)[name])
            found.setdefault(f"heuristic_{name}", best)
    if named or found or not fitting:
        return found
    first = min(fitting, key=lambda point: point.index)
    for probed in study.probed.get((layer, library), ()):
        if probed.algorithm == first.algorithm:
            break
        if not probed.measured and probed.workspace_bytes < limit:
            return {"first": None}
    return {"first": first}


def regrets(study: Study, limits: Sequence[float]) -> tuple[list[Regret], list[Unknown]]:
    """For each layer at its whole batch, library and limit; left out where nothing, or no pick, fits the limit.

    Apart from them the picks that are not known.
    """
    found, unknown = [], []
    for layer, batch, points in study.whole():
        all_named = study.picks.get((layer, batch), ())
        for library in dict.fromkeys(point.library for point in points):
            own = [point for point in points if point.library == library]
            named = [pick for pick in all_named if pick.library == library]
            measured = [*own, *(pick.point for pick in named if pick.point)]
            for limit in limits:
                best = min(within(measured, limit), key=lambda point: point.time_s, default=None)
                if best is None:
                    continue
                for chooser, pick in picks(study, layer, library, own, named, limit).items():
                    if pick is None:
                        unknown.append(Unknown(layer, library, limit, chooser))
                    else:
                        found.append(Regret(layer, batch, library, limit, chooser, pick, best))
    return found, unknown


@dataclass(frozen=True)
class Distribution:
    """Regrets of one chooser at one limit over the layers of one setting.

    ``total_ratio`` is the sum of the picks' times over that of the best: ratios are not averaged. ``quartiles`` are
    the 25th, 50th and 75th percentile of the ratios, ``best_picked`` counts the layers where the pick is the best.
    """

    setting: str
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


def distributions(found: Sequence[Regret], settings: Mapping[Layer, str]) -> list[Distribution]:
    """By setting (see `Study.settings`), library, chooser and limit."""
    groups: dict[tuple[str, str, str, float], list[Regret]] = {}
    for regret in found:
        key = (settings[regret.layer], regret.library, regret.chooser, regret.limit_bytes)
        groups.setdefault(key, []).append(regret)
    return [
        Distribution(
            setting,
            library,
            chooser,
            limit,
            len(group),
            sum(regret.best_picked for regret in group),
            _quartiles([regret.ratio for regret in group]),
            max(group, key=lambda regret: regret.ratio),
            tuple(regret.pick for regret in group),
            tuple(regret.best for regret in group),
        )
        for (setting, library, chooser, limit), group in sorted(groups.items(), key=lambda item: item[0])
    ]


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    import numpy as np

    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return low, middle, high
