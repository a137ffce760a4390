"""Judges predictions of the simulator, with a fit's parameters, by measurements that the fit did not see."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace

from microbench.errors import InputError
from microbench.network.fit import CONFIDENCE, Fit, fit_series
from microbench.network.points import Point, of_series
from microbench.network.simulator import simulate

WIDEST = 2.0
"""Intervals that reach further than this factor from the prediction would hold whatever was measured."""


@dataclass(frozen=True)
class Judged:
    """A measured point beside its prediction, times in seconds."""

    point: Point
    predicted_s: float
    low_s: float
    high_s: float

    @property
    def inside(self) -> bool:
        """Whether the measured median lies in the prediction's interval."""
        return self.low_s <= self.point.median_s <= self.high_s


@dataclass(frozen=True)
class Agreement:
    """How many measured medians lie inside the interval predicted for them.

    Attributes:
        p_value: probability that so few or fewer do, if the intervals held as often as they say.
    """

    judged: tuple[Judged, ...]
    p_value: float

    @property
    def inside(self) -> int:
        """Number of points inside."""
        return sum(each.inside for each in self.judged)

    @property
    def factor(self) -> float:
        """Upper end of an interval over the prediction, the median of all."""
        return statistics.median(each.high_s / each.predicted_s for each in self.judged)

    @property
    def reproduced(self) -> bool:
        """Whether the intervals hold, at 1 %, and are narrow enough for that to say something."""
        return self.p_value >= 0.01 and self.factor <= WIDEST


def judge(fits: dict[str, Fit], points: Iterable[Point]) -> Agreement:
    """Holds the simulator with ``fits`` against ``points`` that were not used for them; the order does not matter.

    Raises:
        InputError: no point belongs to a fitted series.
    """
    points = sorted(points)
    judged = [_judged(fits[point.series], point) for point in points if point.series in fits]
    if not judged:
        raise InputError(
            f"no measured all-reduce can be judged: of {', '.join(of_series(points))} none is a fitted series "
            f"({', '.join(fits)})"
        )
    return _agreement(judged)


def cross_validate(fits: dict[str, Fit]) -> Agreement:
    """Like `judge` with the points that `fit_all` fitted: each is predicted by a fit without it, classes kept."""
    judged = []
    for fit in fits.values():
        for number, point in enumerate(fit.points):
            others = [*fit.points[:number], *fit.points[number + 1 :]]
            if len({other.nbytes for other in others}) > 1 and len(others) > 3 and fit.freedom > 1:
                judged.append(_judged(fit_series(others, fit.from_bytes), point))
    return _agreement(judged)


def _judged(fit: Fit, point: Point) -> Judged:
    fit = replace(fit, ranks_per_node=point.ranks_per_node)
    predicted = simulate(fit.machine, point.algorithm, point.ranks, point.nbytes).time_s
    return Judged(point, predicted, *fit.interval(predicted, point.ranks, point.nbytes, point.error))


def _agreement(judged: list[Judged]) -> Agreement:
    from scipy import stats

    inside = sum(each.inside for each in judged)
    chance = stats.binomtest(inside, len(judged), CONFIDENCE, alternative="less").pvalue
    return Agreement(tuple(judged), float(chance))
