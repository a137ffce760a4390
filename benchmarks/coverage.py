"""How often the interval of the median holds the true median, measured by simulation.

    python benchmarks/coverage.py [--repeats 2000] [--seed 1] [--json]

For every distribution: at fixed numbers of samples, and where sampling stops by its rule (interval within
+-1 % of the median, at most 10,000 samples). Times are simulated, nothing is measured.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.random import Generator
from scipy import optimize, signal, special
from tabulate import tabulate

from microbench.sampling import Limits, Times, sample
from microbench.stats import Interval, corrected_median_interval, effective_sample_size, median_interval

CONFIDENCE = 0.99
SIZES = (8, 10, 30, 100, 518)

Draw = Callable[[Generator, int], Times]


@dataclass(frozen=True)
class Distribution:
    """Times in seconds around 1, their true median, and whether they are independent."""

    name: str
    draw: Draw
    median: float = 1.0
    independent: bool = True


@dataclass(frozen=True)
class Coverage:
    """Shares of the repeats; ``n`` is None where the rule decided it, ``median_n`` is what was taken.

    ``plain`` is ``median_interval``, ``corrected`` the interval given with a record, both of the repeats that
    have one; ``none`` is the share without, ``wrong`` the share given an interval without the true median.
    ``flagged`` is the share found to be correlated.
    """

    distribution: str
    independent: bool
    n: int | None
    median_n: float
    plain: float | None
    corrected: float | None
    none: float
    wrong: float
    flagged: float
    converged: float | None


def _bimodal(rng: Generator, n: int) -> Times:
    return 1 + 0.02 * rng.standard_normal(n) + 0.2 * (rng.random(n) < 0.3)


def _bimodal_median() -> float:
    def excess(x: float) -> float:
        return float(0.7 * special.ndtr((x - 1) / 0.02) + 0.3 * special.ndtr((x - 1.2) / 0.02) - 0.5)

    return float(optimize.brentq(excess, 1.0, 1.2))


def _autoregressive(rho: float, deviation: float = 0.05) -> Draw:
    def draw(rng: Generator, n: int) -> Times:
        settle = 200
        noise = rng.standard_normal(n + settle) * np.sqrt(1 - rho**2)
        return 1 + deviation * signal.lfilter([1.0], [1.0, -rho], noise)[settle:]

    return draw


def _quantised(draw: Draw, step: float) -> Draw:
    return lambda rng, n: np.round(draw(rng, n) / step) * step


def _normal(rng: Generator, n: int) -> Times:
    return 1 + 0.05 * rng.standard_normal(n)


DISTRIBUTIONS = (
    Distribution("normal, sd 0.05", _normal),
    Distribution("normal, sd 0.015", lambda rng, n: 1 + 0.015 * rng.standard_normal(n)),
    Distribution("log-normal, sigma 0.3", lambda rng, n: rng.lognormal(0, 0.3, n)),
    Distribution("bimodal, 70 % and 30 %", _bimodal, _bimodal_median()),
    Distribution("Student t, 2 degrees", lambda rng, n: 1 + 0.03 * rng.standard_t(2, n)),
    Distribution("Cauchy", lambda rng, n: 1 + 0.02 * rng.standard_cauchy(n)),
    Distribution("Pareto, index 1", lambda rng, n: 0.9 + 0.1 * rng.pareto(1, n)),
    Distribution("normal in steps of 0.4 sd", _quantised(_normal, 0.02)),
    Distribution("normal in steps of 2 sd", _quantised(_normal, 0.1)),
    Distribution("autoregressive, rho 0.3, sd 0.05", _autoregressive(0.3), independent=False),
    Distribution("autoregressive, rho 0.5, sd 0.05", _autoregressive(0.5), independent=False),
    Distribution("autoregressive, rho 0.8, sd 0.05", _autoregressive(0.8), independent=False),
    Distribution("autoregressive, rho 0.8, sd 0.015", _autoregressive(0.8, 0.015), independent=False),
)


class Series:
    """Hands out the samples of one simulated run in order."""

    def __init__(self, samples: Times) -> None:
        self._left = samples

    def take(self, n: int) -> Times:
        taken, self._left = self._left[:n], self._left[n:]
        return taken


class _Count:
    """Adds up repeats of one line of the table."""

    def __init__(self, distribution: Distribution) -> None:
        self._distribution = distribution
        self._plain: list[bool] = []
        self._corrected: list[bool] = []
        self._sizes: list[int] = []
        self._flagged = 0

    def add(self, samples: Times, interval: Interval | None) -> None:
        median = self._distribution.median
        self._sizes.append(samples.size)
        bounds = median_interval(samples, CONFIDENCE)
        if bounds is not None:
            self._plain.append(bounds[0] <= median <= bounds[1])
        if interval is not None:
            self._corrected.append(interval.low <= median <= interval.high)
        self._flagged += effective_sample_size(samples) < samples.size

    def result(self, n: int | None, converged: int | None) -> Coverage:
        repeats = len(self._sizes)
        return Coverage(
            distribution=self._distribution.name,
            independent=self._distribution.independent,
            n=n,
            median_n=float(np.median(self._sizes)),
            plain=_share(self._plain),
            corrected=_share(self._corrected),
            none=1 - len(self._corrected) / repeats,
            wrong=self._corrected.count(False) / repeats,
            flagged=self._flagged / repeats,
            converged=None if converged is None else converged / repeats,
        )


def _share(hits: list[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None


def fixed(distribution: Distribution, n: int, repeats: int, rng: Generator) -> Coverage:
    """Coverage at n samples."""
    count = _Count(distribution)
    for _ in range(repeats):
        samples = distribution.draw(rng, n)
        count.add(samples, corrected_median_interval(samples, CONFIDENCE))
    return count.result(n, None)


def ruled(distribution: Distribution, repeats: int, rng: Generator) -> Coverage:
    """Coverage where the stop rule decides how many samples are taken."""
    limits = Limits(confidence=CONFIDENCE, max_time_s=1e6, min_time_s=0.0)
    count = _Count(distribution)
    converged = 0
    for _ in range(repeats):
        series = Series(distribution.draw(rng, limits.max_samples))
        result = sample(series.take, lambda: 0.0, limits)
        count.add(result.samples_s, result.interval)
        converged += result.converged
    return count.result(None, converged)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()

    rows = []
    for index, distribution in enumerate(DISTRIBUTIONS):
        rng = np.random.default_rng([arguments.seed, index])
        rows += [fixed(distribution, n, arguments.repeats, rng) for n in SIZES]
        rows.append(ruled(distribution, arguments.repeats, rng))
    if arguments.json:
        print(
            json.dumps(
                {"repeats": arguments.repeats, "seed": arguments.seed, "rows": [asdict(r) for r in rows]}
            )
        )
        return
    print(f"coverage of the {CONFIDENCE:.0%} interval, {arguments.repeats} repeats, seed {arguments.seed}")
    table = [
        {
            "distribution": row.distribution,
            "n": f"rule ({row.median_n:.0f})" if row.n is None else row.n,
            "plain": row.plain,
            "corrected": row.corrected,
            "no interval": row.none,
            "wrong": row.wrong,
            "flagged": row.flagged,
            "converged": row.converged,
        }
        for row in rows
    ]
    print(tabulate(table, headers="keys", tablefmt="github", floatfmt=".3f", missingval="", stralign="left"))


if __name__ == "__main__":
    main()
