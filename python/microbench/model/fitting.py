"""Least squares on logarithms, refitted without each group in turn: coefficients, intervals, analysis of variance.

The refits serve three ends: the covariance of the coefficients (the cluster jackknife CV3, of which HC3 is the case
of groups of one; MacKinnon, Nielsen & Webb, *Journal of Applied Econometrics* 38, 2023), the errors of predicting what
was not measured, and prediction intervals (`microbench.model.prediction`). None of them takes residuals to be normal,
of equal spread or independent within a group.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microbench.errors import InputError
from microbench.model.data import Observation
from microbench.model.design import Array, Design, seen

_SINGULAR = 1e-12
_SURELY_REGULAR = 1e-4
_NO_SPREAD = 1e-12


@dataclass(frozen=True)
class Fit:
    """One fitted model.

    Attributes:
        times: logarithms of the observed times in seconds.
        matrix: of the design, all columns.
        coefficients: of all columns; 0 of those that are not kept.
        groups: for each observation the number of its group.
        without: coefficients (groups, columns) with each group left out.
        unseen: for each group the directions, in scaled columns, that the other groups do not show.
    """

    design: Design
    observations: tuple[Observation, ...]
    times: Array
    matrix: Array
    coefficients: Array
    groups: NDArray[np.intp]
    names: tuple[Hashable, ...]
    without: Array
    unseen: tuple[Array, ...]

    @functools.cached_property
    def results(self) -> Any:
        """statsmodels' results of the same fit, on the kept columns."""
        from statsmodels.regression.linear_model import OLS  # type: ignore[import-untyped]

        return OLS(self.times, self.matrix[:, self.design.kept]).fit()

    @property
    def rank(self) -> int:
        """Coefficients that were fitted."""
        return int(self.design.kept.sum())

    @property
    def residuals(self) -> Array:
        """Logarithms of observed over fitted time."""
        found: Array = self.times - self.matrix @ self.coefficients
        return found

    @property
    def r_squared(self) -> float | None:
        """Share of the variance of log(time) that is explained; None where times do not vary."""
        return float(self.results.rsquared) if float(np.ptp(self.times)) > _NO_SPREAD else None

    @functools.cached_property
    def left_out_residuals(self) -> Array:
        """Logarithms of observed time over that predicted without the observation's group; NaN: not predictable."""
        found = np.empty(len(self.times))
        for number in range(len(self.names)):
            members = self.groups == number
            rows = self.matrix[members]
            found[members] = self.times[members] - rows @ self.without[number]
            found[np.flatnonzero(members)[self._unseen_without(number, rows)]] = np.nan
        return found

    def predicted_without(self, rows: Array) -> Array:
        """Predicted logarithms of times (groups, rows), each without one group; NaN where the others say nothing."""
        found: Array = self.without @ rows.T
        for number in range(len(self.names)):
            found[number, self._unseen_without(number, rows)] = np.nan
        return found

    def _unseen_without(self, number: int, rows: Array) -> NDArray[np.bool_]:
        """For each row whether all groups but this one say nothing about it."""
        if not self.unseen[number].shape[1]:
            return np.zeros(len(rows), bool)
        return ~seen(rows / self.design.scale, self.unseen[number])

    def interval(self, combination: Array, confidence: float) -> tuple[float, tuple[float, float] | None]:
        """Value and interval of a linear combination (columns,) of coefficients: Student's t with groups - 1 degrees.

        None where the combination rests on a single group.
        """
        from scipy.stats import t

        value = float(combination @ self.coefficients)
        others = self.predicted_without(combination[None, :])[:, 0]
        if np.isnan(others).any():
            return value, None
        count = len(self.names)
        error = np.sqrt((count - 1) / count * np.sum((others - value) ** 2))
        half = float(t.ppf((1 + confidence) / 2, count - 1) * error)
        return value, (value - half, value + half)


def logarithms(observations: Sequence[Observation]) -> Array:
    """Of the times in seconds."""
    found: Array = np.log(np.array([each.seconds for each in observations], dtype=float))
    return found


def fit(observations: Sequence[Observation], terms: Sequence[str], groups: Sequence[Hashable]) -> Fit:
    """Fits ``terms`` to the observations, all of which have a time.

    Args:
        groups: for each observation what is left out together with it.

    Raises:
        InputError: there are no more observations than coefficients, or no two groups.
    """
    design = Design.of(observations, terms)
    matrix = design.matrix(observations)
    names = tuple(dict.fromkeys(groups))
    places = {name: number for number, name in enumerate(names)}
    numbers = np.array([places[group] for group in groups], dtype=np.intp)
    rank = int(design.kept.sum())
    if len(observations) <= rank or len(names) < 2:
        raise InputError(
            f"model: {len(observations)} times are too few for {rank} coefficients: give runs of more problems, or "
            "fewer devices, precisions, libraries and modes"
        )
    times = logarithms(observations)
    without, unseen = _without(matrix, times, design, numbers, len(names))
    return Fit(
        design,
        tuple(observations),
        times,
        matrix,
        least_squares(design, matrix, times),
        numbers,
        names,
        without,
        unseen,
    )


def least_squares(design: Design, matrix: Array, times: Array) -> Array:
    """Coefficients of all columns of ``matrix``, 0 of those that are not kept."""
    scaled = _scaled(design, matrix)
    found = np.zeros(matrix.shape[1])
    found[design.kept] = _solve(scaled.T @ scaled, scaled.T @ times)[0] / design.scale[design.kept]
    return found


def _scaled(design: Design, matrix: Array) -> Array:
    """The kept columns, about as long as each other: then their products lose no accuracy."""
    found: Array = matrix[:, design.kept] / design.scale[design.kept]
    return found


def _solve(gram: Array, moments: Array) -> tuple[Array, Array]:
    """The shortest solution of the normal equations, and the directions (columns) that they do not determine.

    They are solved hundreds of times, each with few equations: a decomposition of all rows would take seconds.
    """
    from scipy.linalg import cho_solve

    try:
        factor = np.linalg.cholesky(gram)
    except np.linalg.LinAlgError:
        factor = np.zeros((1, 1))
    if factor.diagonal().min() > _SURELY_REGULAR:
        return cho_solve((factor, True), moments), np.empty((len(gram), 0))
    values, vectors = np.linalg.eigh(gram)
    known = values > _SINGULAR * len(values)
    return vectors[:, known] @ ((vectors[:, known].T @ moments) / values[known]), vectors[:, ~known]


def _without(
    matrix: Array, times: Array, design: Design, groups: NDArray[np.intp], count: int
) -> tuple[Array, tuple[Array, ...]]:
    """Coefficients without each group, from X'X and X'y less its share, and what is not determined without it."""
    kept = design.kept
    scaled = _scaled(design, matrix)
    gram, moments = scaled.T @ scaled, scaled.T @ times
    without = np.zeros((count, matrix.shape[1]))
    unseen = []
    order = np.argsort(groups, kind="stable")
    for number, members in enumerate(np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)):
        own = scaled[members]
        solution, undetermined = _solve(gram - own.T @ own, moments - own.T @ times[members])
        without[number, kept] = solution / design.scale[kept]
        directions = np.zeros((matrix.shape[1], undetermined.shape[1]))
        directions[kept] = undetermined
        unseen.append(directions)
    return without, tuple(unseen)


@dataclass(frozen=True)
class Variance:
    """One line of the analysis of variance.

    Attributes:
        degrees: coefficients that the term adds to the others.
        untold: levels that were measured, but cannot be told from others.
        sum_of_squares: type II: what the term explains beside all terms that do not contain it.
        share: of what those leave unexplained.
        statistic, p_value: of Hotelling's test that all its coefficients are 0, on the cluster jackknife's covariance;
            None where the groups are too few for it or one coefficient rests on a single group.
    """

    term: str
    degrees: int
    untold: tuple[str, ...]
    sum_of_squares: float | None
    share: float | None
    statistic: float | None
    p_value: float | None


def analyse_variance(full: Fit) -> list[Variance]:
    """The type II table of a fit; terms that add nothing to the others have no degrees of freedom, and no sum."""
    found = []
    told = full.design.estimable(np.eye(full.matrix.shape[1]))
    measured = np.any(full.matrix, axis=0)
    groups = [full.names[number] for number in full.groups]
    for term in full.design.terms:
        others = [each for each in full.design.terms if each != term and not _contains(each, term)]
        # Last, so that what it shares with the others is theirs.
        extended = fit(full.observations, [*others, term], groups)
        own = extended.design.of_term(term)
        untold = tuple(
            name
            for place, (name_of, name) in enumerate(full.design.columns)
            if name_of == term and measured[place] and not told[place]
        )
        if not own:
            found.append(Variance(term, 0, untold, None, None, None, None))
            continue
        explained = _explained(extended, own)
        unexplained = explained + float(extended.residuals @ extended.residuals)
        statistic, p_value = _hotelling(extended, own)
        found.append(
            Variance(
                term,
                len(own),
                untold,
                explained,
                explained / unexplained if unexplained else None,
                statistic,
                p_value,
            )
        )
    return found


def _contains(term: str, part: str) -> bool:
    """Whether ``part`` is marginal to the interaction ``term``."""
    return set(part.split(":")) < set(term.split(":"))


def _explained(extended: Fit, columns: Sequence[int]) -> float:
    """By how much the sum of squared residuals grows without these kept columns.

    b' V^-1 b, where V is their part of (X'X)^-1.
    """
    scaled = _scaled(extended.design, extended.matrix)
    places = np.searchsorted(np.flatnonzero(extended.design.kept), columns)
    part = np.linalg.inv(scaled.T @ scaled)[np.ix_(places, places)]
    values = (extended.coefficients * extended.design.scale)[list(columns)]
    return float(values @ np.linalg.solve(part, values))


def _hotelling(extended: Fit, columns: Sequence[int]) -> tuple[float | None, float | None]:
    from scipy.stats import f

    count, degrees = len(extended.names), len(columns)
    combinations = np.eye(extended.matrix.shape[1])[list(columns)]
    if degrees >= count:
        return None, None
    others = extended.predicted_without(combinations)
    if np.isnan(others).any():
        return None, None
    values = extended.coefficients[list(columns)]
    deviations = others - values
    covariance = (count - 1) / count * deviations.T @ deviations
    try:
        distance = float(values @ np.linalg.solve(covariance, values))
    except np.linalg.LinAlgError:
        return None, None
    statistic = distance * (count - degrees) / ((count - 1) * degrees)
    return statistic, float(f.sf(statistic, degrees, count - degrees))
