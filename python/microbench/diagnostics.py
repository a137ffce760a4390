"""Checks of what the numbers of one record rest on: is there one steady distribution of independent samples?

Called by the process that writes records, never by the one that measures: ``scipy.stats`` is loaded here.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from microbench.stats import (
    LAGS,
    OUTLIER_Z,
    TRUSTED_EFFECTIVE_N,
    Interval,
    autocorrelation,
    effective_sample_size,
    ljung_box,
    modified_z_scores,
)

Samples = NDArray[np.float64]

_SHAPIRO_LIMIT = 5000
_BLOCKS = 10
_DRIFT_LEVEL = 0.01
_RELEVANT_DRIFT = 0.005
_MODES_FROM = 30
_MODE_LEVEL = 0.001
_MODE_SHARE = 0.05
_FEW_VALUES = 10
_MANY_OUTLIERS = 0.05


def diagnose(
    samples_s: ArrayLike,
    resolution_s: float | None,
    interval: Interval | None = None,
    samples_per_batch: int = 1,
) -> tuple[dict[str, Any], list[str]]:
    """Tests the samples of one record, and says what follows for who reads its numbers.

    Args:
        samples_s: times in seconds in the order taken, each the mean of ``samples_per_batch`` executions.
        resolution_s: smallest step of the timer in seconds, None if unknown.
        interval: the interval of the median given with the record; its effective n is reported.

    Returns:
        The findings, ready for JSON (finite numbers, None for what these samples cannot tell): normality,
        autocorrelation at lags 1 to 10 with the Ljung-Box p-value, effective_n, drift, modes, quantisation,
        outliers; and one sentence for each finding that changes what the record means. That times are not
        normally distributed is a finding and no warning: nothing here assumes it.

    Raises:
        ValueError: samples empty, not one-dimensional or not finite.
    """
    samples = np.asarray(samples_s, dtype=np.float64)
    n = samples.size
    effective_n = effective_sample_size(samples) if interval is None else interval.effective_n
    correlations = autocorrelation(samples, LAGS)
    median = float(np.median(samples))
    findings = {
        "normality": _normality(samples),
        "autocorrelation": None if correlations is None else correlations.tolist(),
        "ljung_box_p": None if correlations is None else ljung_box(correlations, n),
        "effective_n": effective_n,
        "drift": _drift(samples, median),
        "modes": _modes(samples, (resolution_s or 0.0) / samples_per_batch),
        "quantisation": {
            "distinct": int(np.unique(samples).size),
            "median_over_resolution": median * samples_per_batch / resolution_s if resolution_s else None,
        },
        "outliers": _outliers(samples),
    }
    return findings, _warnings(findings, n)


def _warnings(findings: dict[str, Any], n: int) -> list[str]:
    warnings = []
    effective_n, drift, modes = findings["effective_n"], findings["drift"], findings["modes"]
    if effective_n < n:
        consequence = (
            "the interval is widened accordingly"
            if effective_n >= TRUSTED_EFFECTIVE_N
            else "too few for an interval from one run, so sample longer or repeat the run"
        )
        warnings.append(f"samples are correlated, effective n = {effective_n:.0f} of {n}: {consequence}")
    if drift and drift["p_value"] < _DRIFT_LEVEL and abs(drift["relative"]) > _RELEVANT_DRIFT:
        warnings.append(
            f"times drift by {drift['relative']:+.1%} while sampling (p = {drift['p_value']:.1g}): no single "
            "number describes them, so look at the series"
        )
    if modes and len(modes) > 1:
        places = ", ".join(f"{mode['center_s']:.4g} s ({mode['share']:.0%})" for mode in modes)
        warnings.append(
            f"times have {len(modes)} modes, at {places}: the median may jump between them from run to run"
        )
    distinct = findings["quantisation"]["distinct"]
    if distinct < _FEW_VALUES and n >= _MODES_FROM:
        warnings.append(
            f"distinct values among {n} samples: only {distinct}, so differences below the timer's step are "
            "invisible"
        )
    outliers = findings["outliers"]
    if outliers["modified_z"] > _MANY_OUTLIERS * n:
        warnings.append(
            f"{outliers['modified_z']} of {n} samples are outliers, kept in every figure: the mean and the upper "
            "percentiles describe them more than the typical execution"
        )
    return warnings


def _normality(samples: Samples) -> dict[str, Any] | None:
    n = samples.size
    deviations = samples - np.median(samples)
    scale = float(np.abs(deviations).max())
    if n < 3 or scale == 0:
        return None
    if n >= _SHAPIRO_LIMIT:
        statistic, p_value = _anderson_darling(deviations / scale)
        return {"test": "Anderson-Darling", "statistic": statistic, "p_value": p_value}
    from scipy import stats

    result = stats.shapiro(deviations / scale)
    return {"test": "Shapiro-Wilk", "statistic": float(result.statistic), "p_value": float(result.pvalue)}


def _anderson_darling(samples: Samples) -> tuple[float, float]:
    """Statistic A^2 and p-value for normality with estimated mean and variance.

    Source: D'Agostino & Stephens, Goodness-of-Fit Techniques, 1986, tables 4.7 and 4.9.
    """
    n = samples.size
    z = np.sort(samples - samples.mean()) / samples.std(ddof=1)
    weights = np.arange(1, 2 * n, 2) / n
    statistic = float(-n - weights @ (special.log_ndtr(z) + special.log_ndtr(-z[::-1])))
    a = statistic * (1 + 0.75 / n + 2.25 / n**2)
    if a < 0.2:
        p_value = 1 - math.exp(-13.436 + 101.14 * a - 223.73 * a**2)
    elif a < 0.34:
        p_value = 1 - math.exp(-8.318 + 42.796 * a - 59.938 * a**2)
    elif a < 0.6:
        p_value = math.exp(0.9177 - 4.279 * a - 1.38 * a**2)
    else:
        # The fitted parabola turns upwards at a = 153, where p is below 1e-180.
        a = min(a, 153.0)
        p_value = math.exp(1.2937 - 5.709 * a + 0.0186 * a**2)
    return statistic, p_value


def _drift(samples: Samples, median: float) -> dict[str, float] | None:
    """Trend of ten block medians: Kendall's p-value, and Theil and Sen's slope from first to last block."""
    if samples.size < 2 * _BLOCKS or median <= 0:
        return None
    medians = np.array([np.median(block) for block in np.array_split(samples, _BLOCKS)])
    if medians.min() == medians.max():
        return {"p_value": 1.0, "relative": 0.0}
    from scipy import stats

    blocks = np.arange(_BLOCKS)
    slope = stats.theilslopes(medians / median, blocks)[0]
    p_value = stats.kendalltau(blocks, medians).pvalue
    return {"p_value": float(p_value), "relative": float(slope) * (_BLOCKS - 1)}


def _modes(samples: Samples, step_s: float) -> list[dict[str, float]] | None:
    """Modes that a valley of significant depth parts from the others, each with at least 5 % of the samples.

    Candidates are the maxima of a Gaussian kernel density (Silverman's bandwidth, 1986, equation 3.31). Were
    the density unimodal, it would be at least as high in the valley as at the lower of the two maxima beside
    it: so of the samples within windows of equal width around both, those around the maximum would be
    Bin(total, p <= 1/2). A valley stays if that has probability below 0.001.

    Steps of the timer (if unknown, the smallest difference) are filled evenly, and the lowest and highest 2 %
    left out, for this test only.
    """
    if samples.size < _MODES_FROM:
        return None
    distinct = np.unique(samples)
    if distinct.size == 1:
        return [{"center_s": float(distinct[0]), "share": 1.0}]
    step_s = step_s or float(np.diff(distinct).min())
    filled = np.sort(samples + np.random.default_rng(0).uniform(-step_s / 2, step_s / 2, samples.size))
    low, q1, q3, high = np.quantile(filled, [0.02, 0.25, 0.75, 0.98])
    filled = filled[(filled >= low) & (filled <= high)]
    spread = min(float(filled.std(ddof=1)), float(q3 - q1) / 1.34)
    bandwidth = max(0.9 * spread * filled.size**-0.2, float(high - low) / 512)
    pitch = bandwidth / 8
    bins = math.ceil((high - low) / pitch) + 64
    edges = low + pitch * (np.arange(bins + 1) - 32)
    counts = np.histogram(filled, edges)[0]
    kernel = np.exp(-0.5 * (np.arange(-32, 33) / 8) ** 2)
    density = np.convolve(counts, kernel, "same")
    peaks, valleys = _separate(density, np.concatenate([[0], np.cumsum(counts)]))
    bounds = edges[[0, *valleys, bins]]
    shares = np.histogram(filled, bounds)[0] / filled.size
    centers = (edges[peaks] + edges[np.add(peaks, 1)]) / 2
    kept = shares >= _MODE_SHARE
    return [
        {"center_s": float(center), "share": float(share)}
        for center, share in zip(centers[kept], shares[kept], strict=True)
    ]


def _separate(density: Samples, below: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Bins of the maxima and of the valleys between them, after merging over every insignificant valley.

    ``below[i]`` is the number of samples below bin i.
    """
    rises = np.diff(density, prepend=-1.0, append=-1.0)
    peaks = np.flatnonzero((rises[:-1] > 0) & (rises[1:] <= 0)).tolist()
    while True:
        valleys = [left + _lowest(density[left:right]) for left, right in pairwise(peaks)]
        if not valleys:
            return peaks, valleys
        chances = []
        for (left, right), valley in zip(pairwise(peaks), valleys, strict=True):
            peak = min(left, right, key=density.__getitem__)
            half = max(abs(peak - valley) // 2, 1)
            around_peak, around_valley = (
                int(below[min(at + half, below.size - 1)] - below[max(at - half, 0)]) for at in (peak, valley)
            )
            # P(Bin(total, 1/2) >= around_peak)
            chances.append(float(special.bdtrc(around_peak - 1, around_peak + around_valley, 0.5)))
        shallowest = int(np.argmax(chances))
        if chances[shallowest] <= _MODE_LEVEL:
            return peaks, valleys
        peaks.remove(min(peaks[shallowest : shallowest + 2], key=density.__getitem__))


def _lowest(density: Samples) -> int:
    # The middle of an empty stretch, not its edge.
    return int(np.median(np.flatnonzero(density == density.min())))


def _outliers(samples: Samples) -> dict[str, float]:
    q1, q3 = np.quantile(samples, [0.25, 0.75])
    fence = 1.5 * (q3 - q1)
    modified_z = int(np.count_nonzero(np.abs(modified_z_scores(samples)) > OUTLIER_Z))
    return {
        "modified_z": modified_z,
        "share": modified_z / samples.size,
        "below_1_5_iqr": int(np.count_nonzero(samples < q1 - fence)),
        "above_1_5_iqr": int(np.count_nonzero(samples > q3 + fence)),
    }
