"""Judging pairs: the ratio of times with its interval, and a verdict that many problems do not make wrong.

Verdicts are of the whole family of problems: the share of comparisons in which any problem is wrongly called faster or
slower stays below 1 - confidence (Holm), and so does that in which any is wrongly called unchanged (Bonferroni).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from microbench.comparison.matching import Measurement, Pair
from microbench.stats import Comparison, Verdict, compare_medians, holm, median_interval

CONFIDENCE = 0.95
RELEVANT = 0.01


@dataclass(frozen=True)
class Row:
    """One problem judged; ratios are time of the other side over time of the base.

    ``ratio`` is the Hodges-Lehmann estimate over all pairs of runs. ``ratio_low`` and ``ratio_high`` bound it at the
    confidence asked for, for this problem alone; where a side is published, by what rounding leaves open. ``p_value``
    is Mann-Whitney's, ``p_adjusted`` the same after Holm; ``probability_less`` is P(other < base) for one run of
    each, from two runs a side on. ``detectable`` is the smallest difference that these runs could have shown, as a
    share: that from which on the other side, its runs moved as a whole in the direction found (of a one-sided test: to
    more time; where none was found: the harder one), would have been called faster or slower, all other problems as
    they are. So ``ratio`` of a row called faster or slower is never nearer to 1. ``runs_needed`` are the runs a side
    that would settle an undecided problem. What is unknown, or does not exist, is None.
    """

    pair: Pair
    ratio: float
    ratio_low: float | None
    ratio_high: float | None
    p_value: float | None
    p_adjusted: float | None
    probability_less: float | None
    detectable: float | None
    verdict: Verdict
    reason: str
    runs_needed: int | None


@dataclass(frozen=True)
class Total:
    """The problems of one table together: sums of times in seconds, rates in operations per second.

    ``rates`` are total work over total time, ``harmonic_means`` those of the rates; None where work is unknown.
    The interval of the ratio is that of the totals of process runs; None where too few runs have every problem. Where
    a side is published it is what rounding leaves open.
    """

    problems: int
    base_s: float
    other_s: float
    ratio: float
    ratio_low: float | None
    ratio_high: float | None
    rates: tuple[float, float] | None
    harmonic_means: tuple[float, float] | None


def judge(
    families: Sequence[Sequence[Pair]], confidence: float = CONFIDENCE, relevant: float = RELEVANT
) -> list[list[Row]]:
    """A row for each pair of each comparison; all pairs together are one family of tests.

    Args:
        confidence: of the family of verdicts, and of each interval shown.
        relevant: smallest relevant difference, as a share.
    """
    return _rows(families, confidence, relevant, one_sided=False)


def judge_slowdowns(pairs: Sequence[Pair], confidence: float, allowed: float) -> list[Row]:
    """The same with one-sided tests of whether the other side takes more time: no row says "faster"."""
    (rows,) = _rows([pairs], confidence, allowed, one_sided=True)
    return rows


def total(pairs: Sequence[Pair], confidence: float = CONFIDENCE) -> Total:
    """Sums over the problems of one table, at least one. Means of ratios are not formed (Hoefler & Belli, rule 4)."""
    base, other = ([side.median() for side in column] for column in _columns(pairs))
    work = [pair.base.flops for pair in pairs]
    rates = means = None
    if len(known := [flops for flops in work if flops]) == len(work):
        rates = (sum(known) / sum(base), sum(known) / sum(other))
        inverse = [sum(s / flops for s, flops in zip(side, known, strict=True)) for side in (base, other)]
        means = (len(known) / inverse[0], len(known) / inverse[1])
    low = high = None
    first, second = _columns(pairs)
    if first[0].published or second[0].published:
        (base_low, base_high), (other_low, other_high) = (
            _total_bounds(column, confidence) for column in (first, second)
        )
        low, high = other_low / base_high, other_high / base_low
    elif (totals := _run_totals(first)) and (rivals := _run_totals(second)):
        result = compare_medians(totals, rivals, confidence)
        low, high = result.ratio_low, result.ratio_high
    return Total(
        len(pairs),
        sum(base),
        sum(other),
        sum(other) / sum(base),
        low,
        high,
        rates=rates,
        harmonic_means=means,
    )


def _columns(pairs: Sequence[Pair]) -> tuple[list[Measurement], list[Measurement]]:
    return [pair.base for pair in pairs], [pair.other for pair in pairs]


def _run_totals(column: Sequence[Measurement]) -> list[float]:
    """The sum over the problems for each process run that has them all."""
    repeats = set.intersection(*(set(side.times) for side in column))
    return [sum(statistics.median(side.times[repeat]) for side in column) for repeat in sorted(repeats)]


def _total_bounds(column: Sequence[Measurement], confidence: float) -> tuple[float, float]:
    """`_bounds` of the sum over the problems."""
    if column[0].published:
        lows, highs = zip(*(_bounds(side, confidence) for side in column), strict=True)
        return sum(lows), sum(highs)
    value = sum(side.median() for side in column)
    totals = _run_totals(column)
    return (median_interval(totals, confidence) if totals else None) or (value, value)


def _rows(
    families: Sequence[Sequence[Pair]],
    confidence: float,
    relevant: float,
    *,
    one_sided: bool,
) -> list[list[Row]]:
    tested = [pair for pairs in families for pair in pairs if not _published(pair)]
    alone = [compare_medians(pair.base.runs(), pair.other.runs(), confidence, relevant) for pair in tested]
    if one_sided:
        p_values = [each.p_value / 2 if each.ratio > 1 else 1.0 for each in alone]
    else:
        p_values = [each.p_value for each in alone]
    adjusted = holm(p_values).tolist() if tested else []
    # A one-sided test at some level is half of a two-sided one at twice that level.
    sides = 1 + one_sided
    least = sides * (1 - confidence) / max(1, len(tested))
    levels = [sides * level for level in _holm_levels(p_values, 1 - confidence)]
    results = iter(zip(alone, adjusted, levels, strict=True))
    return [
        [
            _published_row(pair, confidence)
            if _published(pair)
            else _row(pair, *next(results), least, confidence, relevant, one_sided=one_sided)
            for pair in pairs
        ]
        for pairs in families
    ]


def _holm_levels(p_values: Sequence[float], level: float) -> list[float]:
    """For each test the level that Holm's method holds it to, all others as they are.

    It is significant exactly if its p-value is below ``level`` / (number of tests - k), where k of the others are
    significant when it is left for last.
    """
    count = len(p_values)
    order = sorted(range(count), key=lambda index: p_values[index])
    # Without one test before it, the one at `place` is held to a share that is larger by one place.
    significant = next((n for n, index in enumerate(order) if p_values[index] >= level / (count - n)), count)
    levels = [0.0] * count
    others = count - 1
    for place in reversed(range(count)):
        index = order[place]
        levels[index] = level / (count - (others if place < significant else significant))
        if place and p_values[index] >= level / (count - place + 1):
            others = place - 1
    return levels


def _detectable(own: Comparison, relevant: float, verdict: Verdict, *, one_sided: bool) -> float | None:
    """`Row.detectable`; ``own`` is the problem judged at the level that it is held to.

    Moved by d, runs are significant exactly if the end of the interval moves past 1. Ties change the test a little:
    then what it said of the difference found is a bound.
    """
    if own.ratio_low is None or own.ratio_high is None:
        return None
    found = math.log(own.ratio)
    up = one_sided or found >= 0
    upwards, downwards = math.log(own.ratio / own.ratio_low), math.log(own.ratio_high / own.ratio)
    shift = upwards if up else downwards
    if found == 0 and not one_sided:
        shift = max(upwards, downwards)
    if up == (found >= 0):
        shift = (min if verdict in ("faster", "slower") else max)(shift, abs(found))
    shift = max(shift, math.log1p(relevant))
    return abs(math.expm1(shift if up else -shift))


def _row(
    pair: Pair,
    alone: Comparison,
    p_adjusted: float,
    level: float,
    least: float,
    confidence: float,
    relevant: float,
    *,
    one_sided: bool,
) -> Row:
    """``alone`` is the problem judged by itself; Holm holds it to ``level``, Bonferroni to ``least``."""
    base, other = pair.base.runs(), pair.other.runs()
    among = compare_medians(base, other, 1 - least, relevant)
    verdict, reason, needed = among.verdict, among.reason, among.runs_needed
    corrected = f"{alone.ratio - 1:+.2%}, p = {p_adjusted:.2g} after correction for all problems"
    if p_adjusted < 1 - confidence and abs(math.log(alone.ratio)) >= math.log1p(relevant):
        verdict, reason, needed = ("faster" if alone.ratio < 1 else "slower"), corrected, None
    elif verdict in ("faster", "slower"):
        # At the edge of the level, or faster where only slower was asked for.
        verdict, reason = "undecided", corrected
    own = among if level == least else compare_medians(base, other, 1 - level, relevant)
    return Row(
        pair,
        ratio=alone.ratio,
        ratio_low=alone.ratio_low,
        ratio_high=alone.ratio_high,
        p_value=alone.p_value,
        p_adjusted=p_adjusted,
        probability_less=alone.probability_less if min(len(base), len(other)) > 1 else None,
        detectable=_detectable(own, relevant, verdict, one_sided=one_sided),
        verdict=verdict,
        reason=reason,
        runs_needed=needed,
    )


def _published(pair: Pair) -> bool:
    return pair.base.published or pair.other.published


def _published_row(pair: Pair, confidence: float) -> Row:
    (base_low, base_high), (other_low, other_high) = (
        _bounds(side, confidence) for side in (pair.base, pair.other)
    )
    return Row(
        pair,
        ratio=pair.other.median() / pair.base.median(),
        ratio_low=other_low / base_high,
        ratio_high=other_high / base_low,
        p_value=None,
        p_adjusted=None,
        probability_less=None,
        detectable=None,
        verdict="undecided",
        reason="a published figure has no distribution",
        runs_needed=None,
    )


def _bounds(side: Measurement, confidence: float) -> tuple[float, float]:
    """Of a published figure what rounding leaves open; of runs the interval of their median, where there is one."""
    if side.bounds:
        lows, highs = zip(*side.bounds, strict=True)
        return statistics.median(lows), statistics.median(highs)
    return median_interval(side.runs(), confidence) or (side.median(), side.median())
