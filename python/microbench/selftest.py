"""A/A comparison: the same kernels measured as two sides, to see what this machine calls a difference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from microbench.errors import InputError
from microbench.figures import RecordSummary, measured, percent_text, record_title, time_text
from microbench.options import Options
from microbench.stats import compare_medians
from microbench.store import Run

# Sizes that take from some 20 us to some milliseconds on a few cores.
PROBLEMS = (
    "m=64,n=64,k=64",
    "m=96,n=96,k=96,a_transposed=true",
    "m=128,n=128,k=128",
    "m=192,n=64,k=256",
    "m=256,n=256,k=256",
    "m=256,n=16,k=1024",
    "m=384,n=384,k=384,b_transposed=true",
    "m=512,n=32,k=512",
    "m=512,n=512,k=512",
    "m=1024,n=128,k=256",
    "m=768,n=768,k=768",
    "m=1024,n=1024,k=1024",
)
_DIFFERENCES = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)
_POWER = 0.8


@dataclass(frozen=True)
class Outcome:
    """What A/A comparisons said, both sides being the same.

    Attributes:
        comparisons: number of problems compared, each with its runs dealt alternately to the two sides.
        false_alarms: how many were called faster or slower from run medians.
        drift_alarms: how many were when the first half of the runs was compared with the second.
        naive_false_alarms: how many would have been by intervals of one run a side that do not overlap.
        naive_comparisons: number of such pairs of runs.
        between_run_spread: per problem, the interquartile range of run medians as a share of their median.
        resolvable: per problem, the smallest slow-down of those tried that was noticed in at least four of five
            ways to deal the runs; None where none was.
    """

    runs_a_side: int
    comparisons: int
    false_alarms: int
    drift_alarms: int
    naive_false_alarms: int
    naive_comparisons: int
    between_run_spread: tuple[float, ...]
    resolvable: tuple[float | None, ...]


def options(*, runs: int, max_time: float, seed: int | None) -> Options:
    """The sweep that a self test of ``runs`` runs a side measures. Raises InputError for fewer than 2."""
    if runs < 2:
        raise InputError(
            f"--runs {runs}: two runs a side are the least that can be compared; 8 the least that prove"
        )
    return Options(
        kernel="gemm",
        problem=PROBLEMS,
        repeat=2 * runs,
        max_time=max_time,
        min_time=min(0.1, max_time),
        seed=seed,
    )


def evaluate(
    medians: Sequence[Sequence[float]],
    intervals: Sequence[Sequence[tuple[float, float] | None]],
    *,
    seed: int,
) -> Outcome:
    """Compares every configuration with itself.

    Args:
        medians: per configuration its run medians in seconds, in the order of the runs; an even number each.
        intervals: per configuration the interval of the median within each run, None where there is none.
        seed: of the ways in which runs are dealt to the two sides when differences are looked for.
    """
    rng = np.random.default_rng(seed)
    alarms = drift_alarms = 0
    spreads, resolvable = [], []
    for values in medians:
        runs = np.asarray(values, dtype=np.float64)
        alarms += _differs(runs[0::2], runs[1::2])
        drift_alarms += _differs(runs[: len(runs) // 2], runs[len(runs) // 2 :])
        q1, middle, q3 = np.quantile(runs, (0.25, 0.5, 0.75))
        spreads.append(float((q3 - q1) / middle))
        deals = [rng.permutation(len(runs)) for _ in range(20)]
        resolvable.append(_smallest_difference(runs, deals))
    pairs = [
        pair
        for of_runs in intervals
        for pair in zip(of_runs[0::2], of_runs[1::2], strict=True)
        if None not in pair
    ]
    return Outcome(
        runs_a_side=len(medians[0]) // 2,
        comparisons=len(medians),
        false_alarms=alarms,
        drift_alarms=drift_alarms,
        naive_false_alarms=sum(a[1] < b[0] or b[1] < a[0] for a, b in pairs if a and b),
        naive_comparisons=len(pairs),
        between_run_spread=tuple(spreads),
        resolvable=tuple(resolvable),
    )


def _differs(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    return compare_medians(a, b).verdict in ("faster", "slower")


def _smallest_difference(runs: NDArray[np.float64], deals: Iterable[NDArray[np.intp]]) -> float | None:
    half = len(runs) // 2
    sides = [(runs[deal[:half]], runs[deal[half:]]) for deal in deals]
    for difference in _DIFFERENCES:
        noticed = sum(_differs(a, b * (1 + difference)) for a, b in sides)
        if noticed >= _POWER * len(sides):
            return difference
    return None


def report(run: Run) -> str:
    """The outcome of a stored self test in words. Raises InputError where too little of it was measured."""
    by_problem: dict[int, list[RecordSummary]] = defaultdict(list)
    for record in run.summaries():
        if measured(record):
            by_problem[record.index].append(record)
    complete = [
        sorted(records, key=lambda record: record.repeat)
        for records in by_problem.values()
        if len(records) == run.info.options["repeat"]
    ]
    if not complete:
        raise InputError(f"{run.folder}: no problem was measured in every run: raise --max-time")
    outcome = evaluate(
        [[record.median_s or 0.0 for record in records] for records in complete],
        [[_interval(record) for record in records] for records in complete],
        seed=run.info.seed or 0,
    )
    rows = [
        (
            record_title(records[0]),
            records[0].library,
            time_text(records[0].median_s),
            percent_text(spread) + " %",
            "more than 50 %" if smallest is None else percent_text(smallest) + " %",
        )
        for records, spread, smallest in zip(
            complete, outcome.between_run_spread, outcome.resolvable, strict=True
        )
    ]
    ordered = sorted(outcome.resolvable, key=lambda value: value or np.inf)
    middle = ordered[len(ordered) // 2]
    typical = "more than 50 %" if middle is None else f"{percent_text(middle)} %"
    return "\n".join(
        (
            "",
            f"A/A comparison: {outcome.runs_a_side} runs a side, each a fresh process; both sides are the same code.",
            "",
            tabulate(
                rows,
                ("problem", "library", "median", "spread of run medians", "smallest difference"),
                "simple",
            ),
            "",
            f"False alarms, runs dealt alternately:        {outcome.false_alarms} of {outcome.comparisons}",
            f"False alarms, first half against second:     {outcome.drift_alarms} of {outcome.comparisons}",
            f"Had single runs' intervals been compared:    {outcome.naive_false_alarms} of "
            f"{outcome.naive_comparisons}",
            f"Smallest difference this machine resolves:   {typical} (median over the problems; noticed in 4 of 5)",
        )
    )


def _interval(record: RecordSummary) -> tuple[float, float] | None:
    if record.ci_low_s is None or record.ci_high_s is None:
        return None
    return record.ci_low_s, record.ci_high_s
