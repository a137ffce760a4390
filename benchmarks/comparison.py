"""How often ``compare`` and ``check`` are wrong, and what they find: simulated runs, judged as stored ones are.

Run medians are log-normal around each problem's true time: 0.2 % from run to run, and what the median of 100 samples
with a spread of 0.5 % adds. A false alarm is a comparison of equal sides in which any problem is called faster or
slower (by ``check``: regressed). It is also counted as if no difference were too small to matter, so that only the
tests protect.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from microbench.comparison.judging import CONFIDENCE, RELEVANT, Row, judge, judge_slowdowns
from microbench.comparison.matching import Key, Measurement, Pair, Way

BETWEEN, WITHIN, SAMPLES = 0.002, 0.005, 100
TINY = 1e-9
_WAY = Way("library", "auto", "cpu", 1)


def run_medians(rng: Generator, times: NDArray[np.float64], runs: int, within: float) -> NDArray[np.float64]:
    """Medians, in seconds, of ``runs`` process runs (rows) of each problem (columns)."""
    medians = np.empty((runs, times.size))
    for run in range(runs):
        level = times * np.exp(rng.normal(0, BETWEEN, times.size))
        medians[run] = np.median(level * np.exp(rng.normal(0, within, (SAMPLES, times.size))), axis=0)
    return medians


def pairs(base: NDArray[np.float64], other: NDArray[np.float64]) -> list[Pair]:
    """Simulated medians (runs x problems) as what `judge` takes."""

    def side(column: NDArray[np.float64]) -> Measurement:
        return Measurement(times={run: [float(seconds)] for run, seconds in enumerate(column)})

    return [
        Pair(Key("gemm", (("m", number),), "forward", "fp32", "", "hot"), (_WAY, _WAY), side(a), side(b))
        for number, (a, b) in enumerate(zip(base.T, other.T, strict=True))
    ]


def simulate(
    rng: Generator, comparisons: int, problems: int, runs: int, ratio: float, slower: int | None = None
) -> dict[str, float]:
    """Shares over ``comparisons`` of which the first ``slower`` problems (all) truly take ``ratio`` times as long.

    ``alarms``: comparisons with any false verdict; ``significant``: the same with no smallest relevant difference;
    ``failed``: checks that fail; ``found``: of the problems that truly differ; ``unchanged``, ``undecided``: of all.
    """
    changed = problems if slower is None else slower
    factors = np.where(np.arange(problems) < changed, ratio, 1.0)
    counts = dict.fromkeys(("alarms", "significant", "failed", "found", "unchanged", "undecided"), 0.0)
    detectable = []
    for _ in range(comparisons):
        times = np.exp(rng.uniform(math.log(1e-5), math.log(1e-2), problems))
        sampled = pairs(
            run_medians(rng, times, runs, WITHIN), run_medians(rng, times * factors, runs, WITHIN)
        )
        (rows,) = judge([sampled])
        equal = rows if ratio == 1 else rows[changed:]
        counts["alarms"] += any_called(equal)
        counts["significant"] += any_called(judge([sampled], CONFIDENCE, TINY)[0][problems - len(equal) :])
        counts["failed"] += any(
            row.verdict == "slower" for row in judge_slowdowns(sampled, CONFIDENCE, RELEVANT)
        )
        counts["found"] += sum(row.verdict == "slower" for row in rows[:changed]) / max(1, changed)
        for verdict in ("unchanged", "undecided"):
            counts[verdict] += sum(row.verdict == verdict for row in rows) / problems
        detectable += [row.detectable for row in rows if row.detectable is not None]
    shares = {name: count / comparisons for name, count in counts.items()}
    return shares | {"detectable": float(np.median(detectable)) if detectable else math.nan}


def any_called(rows: Sequence[Row]) -> bool:
    """Whether any problem is said to differ."""
    return any(row.verdict in ("faster", "slower") for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparisons", type=int, default=1000)
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--runs", type=int, default=8)
    given = parser.parse_args()
    cases: list[tuple[str, int, float, int | None]] = [
        ("equal", given.runs, 1.0, None),
        ("equal, 1 run", 1, 1.0, None),
        ("all 3 % slower", given.runs, 1.03, None),
        ("one 3 % slower", given.runs, 1.03, 1),
        ("all 1.5 % slower", given.runs, 1.015, None),
        ("all 0.5 % slower", given.runs, 1.005, None),
    ]
    print(f"{given.comparisons} comparisons of {given.problems} problems, {given.runs} runs a side")
    names = ("alarms", "significant", "failed", "found", "unchanged", "undecided", "detectable")
    print(" ".join((f"{'':16}", *(f"{name:>11}" for name in names))))
    for title, runs, ratio, slower in cases:
        count = given.comparisons if ratio == 1 and runs > 1 else max(1, given.comparisons // 10)
        shares = simulate(np.random.default_rng(1), count, given.problems, runs, ratio, slower)
        print(" ".join((f"{title:16}", *(f"{shares[name]:11.4f}" for name in names))), flush=True)


if __name__ == "__main__":
    main()
