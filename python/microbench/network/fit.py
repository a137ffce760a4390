"""Fits the cost of messages to measured all-reduces, with intervals.

Every algorithm's time is linear in the parameters: T = sum over classes of message sizes of A alpha + B beta, where A
counts the messages on the critical path and B their bytes. Residuals are of logarithms, because times span five
decades and are known to so many percent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from microbench.errors import InputError
from microbench.network.algorithms import legs
from microbench.network.machine import Level, Link, Machine
from microbench.network.points import Point, of_series

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

CONFIDENCE = 0.95
_HUBER = 1.345  # 95 % efficient for normal residuals
_CLASSES = 3
_POINTS_A_CLASS = 5
_FEWEST = 4  # points: two parameters, and two more for an interval
_KNOWN = 1.0  # a parameter whose logarithm has a larger standard error is not known


@dataclass(frozen=True)
class Parameter:
    """One fitted parameter with its interval at `CONFIDENCE`; without one where the measurements do not determine it.

    ``name`` is ``alpha``, ``beta`` or ``gamma``; ``from_bytes`` the smallest message of its class.
    """

    name: str
    from_bytes: float
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Fit:
    """A series' parameters and how well they describe it.

    ``misfit`` is the standard deviation of log(measured / predicted) beyond the error of measurement: by how much
    straight lines miss this network. ``ranks_per_node`` is that of the most ranks measured.
    ``covariance`` is of the logarithms of ``values``: all alphas, then
    all betas.
    """

    series: str
    algorithm: str
    ranks_per_node: int
    from_bytes: tuple[float, ...]
    values: Floats
    covariance: Floats
    misfit: float
    points: tuple[Point, ...]

    @cached_property
    def machine(self) -> Machine:
        """The network as this algorithm saw it: gamma is part of beta, and o part of L."""
        half = len(self.from_bytes)
        links = tuple(
            Link(float(alpha), float(beta))
            for alpha, beta in zip(self.values[:half], self.values[half:], strict=True)
        )
        return Machine(
            self.series, Level(links, self.from_bytes), ranks_per_node=self.ranks_per_node, source="fitted"
        )

    def parameters(self) -> list[Parameter]:
        """Every parameter with its interval."""
        names = ["alpha"] * len(self.from_bytes) + ["beta"] * len(self.from_bytes)
        return _parameters(names, self.from_bytes * 2, self.values, self.covariance, self.freedom)

    @property
    def freedom(self) -> int:
        """By how many the points outnumber what was chosen to fit them."""
        return len(self.points) - _fitted(self.from_bytes)

    def interval(
        self, predicted_s: float, ranks: int, nbytes: float, error: float = 0.0
    ) -> tuple[float, float]:
        """Where a median measured with ``error`` (of its logarithm) lies with `CONFIDENCE`, in seconds.

        It covers the uncertainty of the parameters, the misfit of the lines and the error of the measurement. Beyond
        the ranks and sizes measured it holds as far as the network stays as it was there.
        """
        from scipy import stats

        terms = _terms(self.algorithm, ranks, nbytes, self.ranks_per_node, self.from_bytes) * self.values
        slope = terms / terms.sum()
        spread = math.sqrt(float(slope @ self.covariance @ slope) + self.misfit**2 + error**2)
        factor = math.exp(float(stats.t.ppf((1 + CONFIDENCE) / 2, self.freedom)) * spread)
        return predicted_s / factor, predicted_s * factor


def _fitted(from_bytes: Sequence[float]) -> int:
    """How many numbers were chosen: two a class, and where classes begin."""
    return 3 * len(from_bytes) - 1


def _terms(algorithm: str, ranks: int, nbytes: float, per_node: int, from_bytes: Sequence[float]) -> Floats:
    """A of every class of message sizes, then B of every one."""
    messages, volume = np.zeros(len(from_bytes)), np.zeros(len(from_bytes))
    for leg in legs(algorithm, ranks, nbytes, per_node):
        which = int(np.searchsorted(from_bytes, leg.nbytes, "right")) - 1
        messages[which] += leg.rounds
        volume[which] += leg.rounds * leg.nbytes
    return np.concatenate([messages, volume])


def _reduced(algorithm: str, ranks: int, nbytes: float, per_node: int) -> float:
    return sum(leg.rounds * leg.reduced for leg in legs(algorithm, ranks, nbytes, per_node))


def fit_series(points: Sequence[Point], from_bytes: Sequence[float] | None = None) -> Fit:
    """Fits one series.

    Args:
        from_bytes: where the classes of message sizes begin, the first at 0; None chooses up to three by Schwarz's
            criterion with a Laplace likelihood, at powers of two, five points a class at least.

    Raises:
        InputError: too few measurements for two parameters and an interval.
    """
    points = sorted(points)
    first = points[0]
    if _scarce(points, _FEWEST):
        raise InputError(f"{_counted(points)}; a fit needs at least {_FEWEST} of at least 2 sizes")
    if from_bytes is None:
        from_bytes = _classes(points)
    values, covariance, misfit, _ = _solve(_design(points, from_bytes), points, _fitted(from_bytes))
    return Fit(
        first.series,
        first.algorithm,
        points[-1].ranks_per_node,
        tuple(from_bytes),
        values,
        covariance,
        misfit,
        tuple(points),
    )


def _scarce(points: Sequence[Point], fewest: int) -> bool:
    return len(points) < fewest or len({point.nbytes for point in points}) < 2


def _counted(points: Sequence[Point]) -> str:
    sizes = len({point.nbytes for point in points})
    return f"{points[0].series}: {len(points)} measurement{'s' * (len(points) > 1)} of {sizes} size{'s' * (sizes > 1)}"


def fit_all(points: Iterable[Point]) -> tuple[dict[str, Fit], tuple[str, ...]]:
    """A fit for every series that can be fitted and judged, and in words which have too few measurements for that.

    Raises:
        InputError: none has enough.
    """
    series = of_series(points)
    # One more than a fit takes, because each is predicted by a fit without it.
    few = {name: its for name, its in series.items() if _scarce(its, _FEWEST + 1)}
    left_out = tuple(f"{_counted(its)}, too few to be fitted" for its in few.values())
    if len(few) == len(series):
        raise InputError(
            f"nothing can be fitted, which takes {_FEWEST + 1} measurements of 2 sizes of one series: give runs of "
            "many sizes (allreduce --library microbench --algorithm all --min-bytes 8 --max-bytes 64MiB); here are "
            f"{'; '.join(map(_counted, few.values()))}"
        )
    return {name: fit_series(its) for name, its in series.items() if name not in few}, left_out


def fit_together(points: Sequence[Point]) -> list[Parameter] | None:
    """alpha, beta and gamma that all series share, one straight line for all sizes.

    An algorithm alone cannot tell gamma from beta, because it adds a fixed part of the bytes that it sends: a half
    (ring, Rabenseifner, tree, torus) or all (recursive doubling). None where only one such part is there.
    """
    points = sorted(points)
    design = np.array(
        [
            [
                *_terms(point.algorithm, point.ranks, point.nbytes, point.ranks_per_node, (0.0,)),
                _reduced(point.algorithm, point.ranks, point.nbytes, point.ranks_per_node),
            ]
            for point in points
        ]
    )
    parts = design[:, 2] / design[:, 1]
    if len(points) < 6 or np.ptp(parts) < 0.1:
        return None
    values, covariance, _, _ = _solve(design, points, 3)
    return _parameters(["alpha", "beta", "gamma"], [0.0] * 3, values, covariance, len(points) - 3)


def _parameters(
    names: Sequence[str], from_bytes: Sequence[float], values: Floats, covariance: Floats, freedom: int
) -> list[Parameter]:
    from scipy import stats

    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
    found = []
    for name, start, value, error in zip(
        names, from_bytes, values, np.sqrt(np.diag(covariance)), strict=True
    ):
        factor = math.exp(quantile * error) if error <= _KNOWN else None
        found.append(
            Parameter(
                name, start, float(value), factor and float(value) / factor, factor and float(value) * factor
            )
        )
    return found


def _design(points: Sequence[Point], from_bytes: Sequence[float]) -> Floats:
    return np.array([_terms(p.algorithm, p.ranks, p.nbytes, p.ranks_per_node, from_bytes) for p in points])


def _classes(points: Sequence[Point]) -> tuple[float, ...]:
    """Where messages of another protocol begin, one more as long as Schwarz's criterion falls by 10."""
    largest = [
        max(leg.nbytes for leg in legs(p.algorithm, p.ranks, p.nbytes, p.ranks_per_node)) for p in points
    ]
    low, high = (math.log2(max(1.0, edge)) for edge in (min(largest), max(largest)))
    candidates = [2.0**power for power in range(math.ceil(low) + 1, math.floor(high) + 1)]
    chosen: tuple[float, ...] = (0.0,)
    score = _schwarz(points, chosen)
    while len(chosen) < _CLASSES:
        longer = [tuple(sorted((*chosen, edge))) for edge in candidates if edge not in chosen]
        counts = [np.histogram(largest, [*edges, math.inf])[0].min() for edges in longer]
        longer = [edges for edges, count in zip(longer, counts, strict=True) if count >= _POINTS_A_CLASS]
        scores = [_schwarz(points, edges) for edges in longer]
        if not scores or min(scores) > score - 10:
            break
        score = min(scores)
        chosen = longer[scores.index(score)]
    return chosen


def _schwarz(points: Sequence[Point], from_bytes: tuple[float, ...]) -> float:
    residuals = _solve(_design(points, from_bytes), points, _fitted(from_bytes))[3]
    parameters = _fitted(from_bytes)
    deviation = max(float(np.abs(residuals).mean()), 1e-9)
    return 2 * len(points) * math.log(deviation) + parameters * math.log(len(points))


def _solve(design: Floats, points: Sequence[Point], fitted: int) -> tuple[Floats, Floats, float, Floats]:
    """Robust regression of log(median) on log(design @ values): values, covariance of their logs, misfit, residuals.

    ``fitted`` is how many numbers were chosen to fit. Every point weighs 1 / (misfit^2 + error^2), with the misfit
    for which half of the standardised residuals lie within the quartiles of a normal (Paule & Mandel's estimate,
    J. Res. NBS 87 (1982), made robust); Huber's function bounds the influence of single points, and the covariance
    is Huber's (Robust Statistics, 1981, 7.6).
    """
    from scipy import linalg, optimize

    times = np.array([point.median_s for point in points])
    errors = np.array([point.error for point in points])
    n, k = design.shape
    typical = 1 / np.maximum(design / times[:, None], 1e-300).max(axis=0)
    logs = np.log(np.maximum(optimize.nnls(design / times[:, None], np.ones(n))[0], 1e-3 * typical))
    misfit = 0.1

    def residuals(logs: Floats) -> Floats:
        return np.asarray(np.log(design @ np.exp(logs) / times))

    def jacobian(logs: Floats) -> Floats:
        terms = design * np.exp(logs)
        return np.asarray(terms / terms.sum(axis=1, keepdims=True))

    for _ in range(20):
        scale = np.hypot(misfit, errors)
        logs = _least(residuals, jacobian, scale, logs, np.log(typical))
        before, misfit = misfit, _misfit(residuals(logs), errors, (n - fitted) / n)
        if abs(misfit - before) <= 1e-3 * misfit:
            break
    scale = np.hypot(misfit, errors)
    standard = residuals(logs) / scale
    slopes = jacobian(logs) / scale[:, None]
    kept = float(np.mean(np.abs(standard) <= _HUBER))
    correction = 1 + k / n * (1 - kept) / kept
    variance = correction**2 * float(np.sum(np.clip(standard, -_HUBER, _HUBER) ** 2)) / (n - fitted) / kept**2
    covariance = variance * linalg.pinvh(slopes.T @ slopes + 1e-9 * np.eye(k))
    return np.exp(logs), covariance, misfit, -residuals(logs)


def _least(
    residuals: Callable[[Floats], Floats],
    jacobian: Callable[[Floats], Floats],
    scale: Floats,
    start: Floats,
    typical: Floats,
) -> Floats:
    """Where the Huber loss of the residuals over ``scale`` is least."""
    from scipy import optimize

    def scaled(logs: Floats) -> Floats:
        return residuals(logs) / scale

    def slopes(logs: Floats) -> Floats:
        return jacobian(logs) / scale[:, None]

    # Bounds keep a parameter that does not matter from running away to 0.
    bounds = (typical - 14, typical + 1)
    found = optimize.least_squares(scaled, start, slopes, bounds=bounds, loss="huber", f_scale=_HUBER)
    return np.asarray(found.x)


def _misfit(residuals: Floats, errors: Floats, part: float) -> float:
    from scipy import optimize, special

    quartile = float(special.ndtri(0.75)) ** 2 * part

    def excess(misfit: float) -> float:
        return float(np.median(residuals**2 / (misfit**2 + errors**2 + 1e-18))) - quartile

    floor, top = 1e-6, 10.0
    if excess(floor) <= 0:
        return floor
    return float(optimize.brentq(excess, floor, top, rtol=1e-6)) if excess(top) < 0 else top
