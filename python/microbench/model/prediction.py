"""Predictions with intervals that assume no distribution.

Intervals are those of the hierarchical jackknife+ (Lee, Barber & Willett, *Distribution-free inference with
hierarchical data*, 2023; the jackknife+ is by Barber, Candès, Ramdas & Tibshirani, *Annals of Statistics* 49, 2021): a
case of a new group, exchangeable with those measured, lies in the interval of level 1 - alpha with a probability of
about that, and of at least 1 - 2 alpha whatever the distribution and however wrong the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microbench.model.design import Array
from microbench.model.fitting import Fit

_LEAST_GROUPS = 3


@dataclass(frozen=True)
class Interval:
    """Ends of a predicted logarithm of a time; the level is lower than asked for where groups are too few for it."""

    low: float
    high: float
    level: float


def interval(fitted: Fit, row: Array, calibrating: NDArray[np.bool_], confidence: float) -> Interval | None:
    """Interval of the logarithm of one case's time.

    Args:
        row: the case in the design's columns.
        calibrating: observations whose errors, without their group, the case's are taken to be like.

    Returns:
        None with fewer than three groups, or where the case rests on single groups.
    """
    present = np.unique(fitted.groups[calibrating])
    count = len(present)
    if count < _LEAST_GROUPS:
        return None
    level = level_of(count, confidence)
    errors = np.abs(fitted.left_out_residuals)
    centres = fitted.predicted_without(row[None, :])[:, 0]
    low, high, weights = [], [], []
    for number in present:
        members = calibrating & (fitted.groups == number)
        own = np.nan_to_num(errors[members], nan=np.inf)
        centre = centres[number]
        low.append(np.full(len(own), -np.inf) if np.isnan(centre) else centre - own)
        high.append(np.full(len(own), np.inf) if np.isnan(centre) else centre + own)
        weights.append(np.full(len(own), 1 / ((count + 1) * len(own))))
    weight = np.concatenate(weights)
    upper = _quantile(np.concatenate(high), weight, level)
    lower = -_quantile(-np.concatenate(low), weight, level)
    if not np.isfinite(lower) or not np.isfinite(upper):
        return None
    return Interval(lower, upper, level)


def _quantile(values: Array, weights: Array, level: float) -> float:
    """Least value at or below which a share ``level`` lies; what the weights lack to 1 lies at infinity."""
    order = np.argsort(values)
    place = int(np.searchsorted(np.cumsum(weights[order]), level - 1e-9))
    return float(values[order][place]) if place < len(values) else np.inf


def level_of(groups: int, confidence: float) -> float:
    """The level that so many groups allow, ``confidence`` at most: one of them may lie outside altogether."""
    return min(confidence, (groups - 1) / (groups + 1))


def most_alike(
    fitted: Fit, choices: Sequence[tuple[str, NDArray[np.bool_]]], confidence: float
) -> tuple[str, NDArray[np.bool_]]:
    """Of ``choices``, the most alike first, the first that reaches the level; else the one that comes closest."""
    return max(
        choices,
        key=lambda choice: level_of(len(np.unique(fitted.groups[choice[1]])), confidence),
    )
