"""Statistics of timing samples: pure functions over arrays, with no idea of what was timed.

``scipy.stats`` is imported only by the comparison of two sides: measuring processes import this module too,
and stay small.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

OUTLIER_Z = 3.5
LAGS = 10
TRUSTED_EFFECTIVE_N = 30
_LAG_ONE_Z = float(special.ndtri(0.95))
_FEW_SAMPLES = 1000
_EXACT_RUNS = 50
_AFFORDABLE_RUNS = 1000

Verdict = Literal["faster", "slower", "unchanged", "undecided"]


@dataclass(frozen=True)
class Interval:
    """Bounds of a median, and the number of independent samples that the samples are worth."""

    low: float
    high: float
    effective_n: float


def _checked(samples: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(samples, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"samples must be a one-dimensional array, not one of {array.ndim} dimensions")
    if array.size == 0:
        raise ValueError("samples must hold at least one value")
    if not np.isfinite(array).all():
        raise ValueError("samples must be finite, but at least one is NaN or infinite")
    return array


def sorted_median(ordered: NDArray[np.float64]) -> float:
    """Median of samples already in ascending order; for a few hundred ten times as fast as numpy's."""
    half = ordered.size // 2
    if ordered.size % 2:
        return float(ordered[half])
    return float(ordered[half - 1] / 2 + ordered[half] / 2)


def minimum_samples(confidence: float, q: float = 0.5) -> int:
    """The smallest n for which the q-quantile has an order-statistics interval: 8 for a median at 99 %."""
    _check_levels(q, confidence)
    return next(n for n in count(1) if max(q, 1 - q) ** n <= (1 - confidence) / 2)


def _check_levels(q: float, confidence: float) -> None:
    if not (0 < q < 1 and 0 < confidence < 1):
        raise ValueError(f"q = {q} and confidence = {confidence} must lie strictly between 0 and 1")


@cache
def _ranks(n: int, q: float, confidence: float) -> tuple[int, int] | None:
    # 1-based: the largest l with P(Bin(n, q) < l) <= alpha / 2, and by symmetry the smallest u with
    # P(Bin(n, q) >= u) = P(Bin(n, 1 - q) <= n - u) <= alpha / 2.
    _check_levels(q, confidence)
    tail = (1 - confidence) / 2

    def largest(p: float) -> int:
        return bisect_right(range(n), tail, key=lambda k: float(special.bdtr(k, n, p)))

    low, high = largest(q), n + 1 - largest(1 - q)
    return (low, high) if low >= 1 and high <= n else None


def quantile_interval(samples: ArrayLike, q: float, confidence: float) -> tuple[float, float] | None:
    """Distribution-free interval of the q-quantile from order statistics, for independent samples.

    With sorted samples x(1..n), the interval is [x(l), x(u)] for the largest l with P(Bin(n, q) < l) <=
    alpha/2 and the smallest u with P(Bin(n, q) >= u) <= alpha/2, alpha = 1 - confidence. Ties make it
    conservative.

    Args:
        samples: any one-dimensional array, in any unit; the interval is in the same one.

    Returns:
        (low, high), or None where n is too small for that confidence.

    Raises:
        ValueError: samples empty, not one-dimensional or not finite; q or confidence outside (0, 1).

    Source: Le Boudec, Performance Evaluation of Computer and Communication Systems, 2010, theorem 2.1.
    """
    array = _checked(samples)
    ranks = _ranks(array.size, q, confidence)
    if ranks is None:
        return None
    ordered = np.sort(array)
    return float(ordered[ranks[0] - 1]), float(ordered[ranks[1] - 1])


def median_interval(samples: ArrayLike, confidence: float) -> tuple[float, float] | None:
    """``quantile_interval`` of the median."""
    return quantile_interval(samples, 0.5, confidence)


def autocorrelation(samples: ArrayLike, lags: int) -> NDArray[np.float64] | None:
    """Sample autocorrelation at lags 1..lags (fewer where n is smaller), None for a constant series."""
    array = _checked(samples)
    if array.min() == array.max():
        return None
    deviations = array - array.mean()
    deviations /= np.abs(deviations).max()
    return _correlations(deviations, min(lags, array.size - 1))


def _correlations(deviations: NDArray[np.float64], lags: int) -> NDArray[np.float64]:
    n = deviations.size
    products = [deviations[lag:] @ deviations[: n - lag] for lag in range(1, lags + 1)]
    return np.array(products) / (deviations @ deviations)


def ljung_box(correlations: NDArray[np.float64], n: int) -> float:
    """p-value of the hypothesis that n samples with these autocorrelations (lags 1, 2, ...) are independent.

    Source: Ljung & Box, Biometrika 65 (1978): Q = n (n + 2) sum rho_k^2 / (n - k), chi-squared with as many
    degrees of freedom as there are lags.
    """
    lags = np.arange(1, correlations.size + 1)
    q = n * (n + 2) * np.sum(correlations**2 / (n - lags))
    return float(special.chdtrc(correlations.size, q))


def effective_sample_size(samples: ArrayLike) -> float:
    """How many independent samples the samples (in the order taken) are worth for knowing the median.

    What the median's error depends on is the autocorrelation rho_k of the series sign(x - median), which is
    defined for any distribution: n_e = n / (1 + 2 sum rho_k), the sum ended by Geyer's initial monotone
    sequence. n where no correlation is significant, where it is negative, and for a constant series.

    Source: Geyer, Practical Markov Chain Monte Carlo, Statistical Science 7 (1992), section 3.3.
    """
    array = _checked(samples)
    return _effective_size(array, np.sort(array))


def _effective_size(array: NDArray[np.float64], ordered: NDArray[np.float64]) -> float:
    n = array.size
    if ordered[0] == ordered[-1]:
        return float(n)
    signs = np.sign(array - sorted_median(ordered))
    signs -= signs.mean()
    if not _correlated(signs, array, ordered):
        return float(n)
    # All lags at once, by the Fourier transform of the zero-padded series.
    transform = np.fft.rfft(signs, 2 * n)
    covariances = np.fft.irfft(transform * transform.conj(), 2 * n)[: n - n % 2]
    pairs = (covariances / covariances[0]).reshape(-1, 2).sum(axis=1)
    ends = np.flatnonzero(pairs <= 0)
    positive = pairs[: ends[0]] if ends.size else pairs
    correlation_time = 2 * float(np.minimum.accumulate(positive).sum()) - 1
    return n / max(correlation_time, 1.0)


def _correlated(signs: NDArray[np.float64], array: NDArray[np.float64], ordered: NDArray[np.float64]) -> bool:
    # Lag 1 (one-sided, at 5 %; its mean is -1/n without correlation) finds short memory with few samples;
    # the first lags together (at 1 %) find slow changes under much noise.
    n = array.size
    lags = min(LAGS, n // 4)
    if lags < 1:
        return False
    if n <= _FEW_SAMPLES:
        # Ranks have more power than signs, and no outlier hides correlation from them; but they cost time.
        ranks = np.searchsorted(ordered, array, "left") + np.searchsorted(ordered, array, "right")
        correlations = _correlations((ranks - n).astype(np.float64), lags)
    else:
        correlations = _correlations(signs, lags)
    return bool((correlations[0] + 1 / n) * math.sqrt(n) > _LAG_ONE_Z) or ljung_box(correlations, n) < 0.01


def corrected_median_interval(samples: ArrayLike, confidence: float) -> Interval | None:
    """Interval of the median of samples (in the order taken) that may be correlated.

    The ranks of ``median_interval`` moved away from the middle by sqrt(n / effective_sample_size): equal to
    ``median_interval`` where no correlation is significant.

    Returns:
        The interval, in the samples' unit; None where n is too small, or the samples are correlated and worth
        less than 30 independent ones: then the effective size itself is not known well enough.

    Raises:
        ValueError: samples empty, not one-dimensional or not finite; confidence outside (0, 1).
    """
    array = _checked(samples)
    n = array.size
    ranks = _ranks(n, 0.5, confidence)
    if ranks is None:
        return None
    ordered = np.sort(array)
    effective_n = _effective_size(array, ordered)
    if effective_n < min(n, TRUSTED_EFFECTIVE_N):
        return None
    half_width = (ranks[1] - ranks[0]) / 2 * math.sqrt(n / effective_n)
    low = math.floor((n + 1) / 2 - half_width)
    if low < 1:
        return None
    return Interval(float(ordered[low - 1]), float(ordered[n - low]), effective_n)


def modified_z_scores(samples: ArrayLike) -> NDArray[np.float64]:
    """Distance from the median in robust standard deviations: 0.6745 (x - median) / MAD.

    Where more than half of the samples are equal the MAD is 0; then the mean absolute deviation takes its
    place, (x - median) / (1.2533 mean deviation). Zeros for a constant series.

    Source: Iglewicz & Hoaglin, How to Detect and Handle Outliers, 1993; they label |z| > 3.5 as outliers.
    """
    array = _checked(samples)
    deviations = array - np.median(array)
    distances = np.abs(deviations)
    scale = float(np.median(distances) / special.ndtri(0.75))
    if scale == 0:
        scale = float(distances.mean()) * math.sqrt(math.pi / 2)
    return deviations / scale if scale > 0 else deviations


def summary(samples: ArrayLike) -> dict[str, float]:
    """The distribution in numbers, in the samples' unit: extremes, quantiles, mean and spread.

    Quantiles are numpy's default (linear interpolation, type 7 of Hyndman & Fan, The American Statistician
    50 (1996)). ``mad`` is the median absolute deviation, unscaled; ``outliers`` counts modified z-scores over
    3.5; ``standard_deviation`` has n - 1 in its denominator and is absent for a single sample.

    Raises:
        ValueError: samples empty, not one-dimensional or not finite.
    """
    array = _checked(samples)
    probabilities = {"p05": 0.05, "q1": 0.25, "median": 0.5, "q3": 0.75, "p95": 0.95, "p99": 0.99}
    quantiles = np.quantile(array, list(probabilities.values()))
    result = {"n": float(array.size), "minimum": float(array.min())}
    result |= zip(probabilities, quantiles.tolist(), strict=True)
    result |= {"maximum": float(array.max()), "mean": float(array.mean())}
    if array.size > 1:
        result["standard_deviation"] = float(array.std(ddof=1))
    result["mad"] = float(np.median(np.abs(array - np.median(array))))
    result["outliers"] = float(np.count_nonzero(np.abs(modified_z_scores(array)) > OUTLIER_Z))
    return result


@dataclass(frozen=True)
class Comparison:
    """Side b judged against side a, from the run medians of both.

    ``ratio`` is the time of b over the time of a (below 1: b is faster), with its interval, None where there
    are too few runs for one; ``probability_less`` is P(B < A) + P(B = A) / 2 for one run of each;
    ``runs_needed`` estimates the runs a side that would settle an undecided one, None where none would.
    """

    ratio: float
    ratio_low: float | None
    ratio_high: float | None
    p_value: float
    probability_less: float
    verdict: Verdict
    reason: str
    runs_needed: int | None


def compare_medians(
    a: ArrayLike, b: ArrayLike, confidence: float = 0.99, relevant: float = 0.01
) -> Comparison:
    """Judges whether b takes less or more time than a, given the medians of independent process runs.

    The test is Mann-Whitney's, exact for up to 50 runs a side without ties, else the normal approximation.
    The ratio is exp of the Hodges-Lehmann estimate, the median of log b_j - log a_i over all pairs, and its
    interval the inversion of the test.

    Args:
        a, b: medians of the runs of each side, in the same unit, all positive.
        confidence: level of the interval; the test is significant below 1 - confidence.
        relevant: smallest relevant difference, as a share: 0.01 counts ratios from 1/1.01 to 1.01 as equal.

    Returns:
        "faster" or "slower" only where the test is significant and the ratio differs by ``relevant`` or more;
        "unchanged" where the whole interval lies inside the relevant difference; else "undecided".

    Raises:
        ValueError: a side empty, not one-dimensional, not finite or not positive; a level out of range.

    Source: Hollander, Wolfe & Chicken, Nonparametric Statistical Methods, 3rd ed., 2014, sections 4.1 to 4.3.
    """
    first, second = _checked(a), _checked(b)
    _check_levels(0.5, confidence)
    if min(first.min(), second.min()) <= 0:
        raise ValueError("run medians must be positive times")
    if relevant <= 0:
        raise ValueError(f"the smallest relevant difference must be positive, not {relevant}")
    differences = np.sort(np.subtract.outer(np.log(second), np.log(first)), axis=None)
    shift = sorted_median(differences)
    rank = _mann_whitney_rank(first.size, second.size, (1 - confidence) / 2)
    bounds = (float(differences[rank - 1]), float(differences[-rank])) if rank else None
    p_value = _mann_whitney_p(first, second)
    margin = math.log1p(relevant)
    verdict, reason = _judge(shift, bounds, p_value, 1 - confidence, margin)
    runs_needed = None
    if bounds is None:
        # The smallest exact p of equal sides.
        runs_needed = next(n for n in count(1) if 2 / math.comb(2 * n, n) <= 1 - confidence)
    elif verdict == "undecided":
        # The half-width falls as 1 / sqrt(runs): down to the shift, or to what the margin leaves beside it.
        target = abs(shift) if abs(shift) >= margin else margin - abs(shift)
        needed = min(first.size, second.size) * ((bounds[1] - bounds[0]) / 2 / target) ** 2
        runs_needed = math.ceil(needed) if needed <= _AFFORDABLE_RUNS else None
    return Comparison(
        ratio=math.exp(shift),
        ratio_low=math.exp(bounds[0]) if bounds else None,
        ratio_high=math.exp(bounds[1]) if bounds else None,
        p_value=p_value,
        probability_less=float(np.mean(differences < 0) + np.mean(differences == 0) / 2),
        verdict=verdict,
        reason=reason,
        runs_needed=runs_needed,
    )


def _judge(
    shift: float, bounds: tuple[float, float] | None, p_value: float, level: float, margin: float
) -> tuple[Verdict, str]:
    if bounds is None:
        return "undecided", f"too few runs for an interval at {1 - level:.4g} confidence"
    low, middle, high = (f"{math.expm1(value):+.2%}" for value in (bounds[0], shift, bounds[1]))
    found = f"{middle} [{low}, {high}], p = {p_value:.2g}"
    relevant = f"the smallest relevant difference of {math.expm1(margin):.2%}"
    if -margin <= bounds[0] and bounds[1] <= margin:
        return "unchanged", f"{found}: the whole interval lies within {relevant}"
    if p_value >= level:
        return "undecided", f"{found}: not significant, and the interval reaches beyond {relevant}"
    if abs(shift) < margin:
        return "undecided", f"{found}: significant, but below {relevant}"
    return ("faster" if shift < 0 else "slower"), found


@cache
def _mann_whitney_rank(m: int, n: int, tail: float) -> int:
    """The largest r with P(U < r) <= tail for m and n runs: of the sorted differences, r-th and r-th last.

    Exact up to 50 a side, where the counts of U are the coefficients of the Gaussian binomial (Mann & Whitney
    1947); beyond, the normal approximation with continuity correction.
    """
    if max(m, n) > _EXACT_RUNS:
        deviation = math.sqrt(m * n * (m + n + 1) / 12)
        return max(0, math.floor(m * n / 2 + 0.5 + float(special.ndtri(tail)) * deviation))
    counts = [1] + [0] * (m * n)
    for i in range(1, m + 1):
        for u in range(m * n, n + i - 1, -1):
            counts[u] -= counts[u - n - i]
        for u in range(i, m * n + 1):
            counts[u] += counts[u - i]
    limit, below = tail * math.comb(m + n, m), 0
    for rank, ways in enumerate(counts):
        below += ways
        if below > limit:
            return rank
    return m * n


def _mann_whitney_p(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    from scipy import stats

    pooled = np.concatenate([a, b])
    if pooled.min() == pooled.max():
        return 1.0
    exact = np.unique(pooled).size == pooled.size and max(a.size, b.size) <= _EXACT_RUNS
    return float(stats.mannwhitneyu(a, b, method="exact" if exact else "asymptotic").pvalue)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """p-values adjusted for the number of tests, in the order given: the family-wise error rate is kept.

    Raises:
        ValueError: p_values empty, not one-dimensional or outside [0, 1].

    Source: Holm, Scandinavian Journal of Statistics 6 (1979): the i-th smallest of m values times m - i + 1,
    made monotone.
    """
    array = _checked(p_values)
    if array.min() < 0 or array.max() > 1:
        raise ValueError("p-values must lie between 0 and 1")
    order = np.argsort(array)
    adjusted = np.empty_like(array)
    adjusted[order] = np.minimum(np.maximum.accumulate(array[order] * np.arange(array.size, 0, -1)), 1.0)
    return adjusted
