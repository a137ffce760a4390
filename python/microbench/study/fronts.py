"""Time against workspace: Pareto fronts, the cliffs in them, and the error as a third axis."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from microbench.study.layers import Point, Study

_Any = TypeVar("_Any")

# A jump of the best time counts from here on.
CLIFF = 1.05


def pareto(points: Iterable[_Any], key: Callable[[_Any], tuple[float, ...]]) -> list[_Any]:
    """The points that no other one beats: at most as large in all parts of ``key``, smaller in one.

    Sorted by ``key``; of equal ones the first is kept.
    """
    kept: list[_Any] = []
    for point in sorted(points, key=key):
        # Whoever beats this one comes before it in the order.
        if not any(all(a <= b for a, b in zip(key(other), key(point), strict=True)) for other in kept):
            kept.append(point)
    return kept


def within(
    points: Iterable[Point], workspace_limit: float = math.inf, max_error: float | None = None
) -> list[Point]:
    """The points with a workspace strictly below the limit and an error known to be at most ``max_error``."""
    return [
        point
        for point in points
        if point.workspace_bytes < workspace_limit
        and (max_error is None or (point.error is not None and point.error <= max_error))
    ]


def accurate(study: Study, max_error: float | None) -> Study:
    """The study without the algorithms of a larger or unknown error; as it is where there is no bound."""
    if max_error is None:
        return study
    points = {
        layer: {
            size: tuple(kept) for size, all_ in sizes.items() if (kept := within(all_, max_error=max_error))
        }
        for layer, sizes in study.points.items()
    }
    return dataclasses.replace(study, points={layer: sizes for layer, sizes in points.items() if sizes})


def front(points: Iterable[Point]) -> list[Point]:
    """Pareto-optimal in time and workspace, the fastest first."""
    return pareto(points, lambda point: (point.time_s, point.workspace_bytes))


def front_with_error(points: Iterable[Point]) -> list[Point]:
    """Pareto-optimal in time, workspace and error, in `bits`; points of unknown error are left out."""
    return pareto(
        (point for point in points if point.error is not None),
        lambda point: (point.time_s, point.workspace_bytes, bits(point.error or 0.0)),
    )


def bits(error: float) -> float:
    """The error as a power of two, rounded: finer differences depend on the operands."""
    return round(math.log2(error)) if error > 0 else -math.inf


@dataclass(frozen=True)
class Cliff:
    """A workspace limit just below which the best time jumps.

    With more than ``limit_bytes`` the best is ``above``; with that or less it is ``below``, None where nothing fits.
    ``separate`` says whether the intervals of the two times lie apart.
    """

    limit_bytes: int
    above: Point
    below: Point | None

    @property
    def ratio(self) -> float | None:
        """The time below the cliff over the time above it."""
        return None if self.below is None else self.below.time_s / self.above.time_s

    @property
    def separate(self) -> bool:
        """Whether the intervals of the two times lie apart; where they are unknown they do not."""
        if self.below is None:
            return True
        high, low = self.above.high_s, self.below.low_s
        return high is not None and low is not None and high < low


def cliffs(optimal: Sequence[Point], least: float = CLIFF) -> list[Cliff]:
    """The cliffs of a `front`, the highest limit first, where the time jumps by ``least`` or more."""
    all_steps = [
        Cliff(point.workspace_bytes, point, below)
        for point, below in zip(optimal, [*optimal[1:], None], strict=True)
    ]
    return [step for step in all_steps if step.ratio is None or step.ratio >= least]
