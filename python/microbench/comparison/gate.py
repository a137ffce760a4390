"""The regression gate: is a new run slower than a baseline anywhere, or worse in another way?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, TextIO

from microbench.comparison.judging import CONFIDENCE, Row, judge_slowdowns
from microbench.comparison.matching import Key, Refusal, Side, match, no_time, sides
from microbench.comparison.setup import Factor, factors
from microbench.comparison.text import aligned, factor_text, ratio_text, seconds_text
from microbench.errors import InputError
from microbench.figures import one_line, percent_text, wrapped
from microbench.sources import Source

MAX_SLOWDOWN = 0.01
_HEADINGS = ("regressed", "baseline", "new", "ratio", "p")
_WIDTHS = (60, -8, -8, -7, -8)


@dataclass(frozen=True)
class Outcome:
    """What the gate found.

    Attributes:
        rows: every problem judged; those that say "slower" regressed.
        missing: what the baseline has a time of and the new run has not, with the reason.
        failures: records of the new run that failed though the baseline's did not: problem and reason.
        unjudged: problems with too few runs for any verdict.
        factors: in what else the two differ.
    """

    baseline: Side
    new: Side
    confidence: float
    max_slowdown: float
    rows: tuple[Row, ...]
    missing: tuple[Refusal, ...]
    failures: tuple[str, ...]
    unjudged: tuple[Row, ...]
    factors: tuple[Factor, ...]

    @property
    def regressed(self) -> tuple[Row, ...]:
        """Significantly slower, and by more than is allowed as measured: the test is of any slow-down."""
        return tuple(row for row in self.rows if row.verdict == "slower")

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return not (self.regressed or self.missing or self.failures or self.unjudged)


def check(
    baseline: Source, new: Source, *, max_slowdown: float = MAX_SLOWDOWN, confidence: float = CONFIDENCE
) -> Outcome:
    """Judges ``new`` against ``baseline`` by one-sided tests.

    Args:
        max_slowdown: largest slow-down that passes, as a share.
        confidence: 1 minus the share of checks of equal runs that may fail by chance.

    Raises:
        InputError: a side is published, nothing is comparable, no problem has enough runs, or a number is out of range.
    """
    if not 0 < max_slowdown < 1:
        raise InputError(f"--max-slowdown {max_slowdown:g}: it must be a share between 0 and 1, such as 0.01")
    if not 0.5 < confidence < 1:
        raise InputError(f"--confidence {confidence:g}: it must lie between 0.5 and 1, such as 0.95")
    for source in (baseline, new):
        if source.published:
            raise InputError(
                f"{source.name} has means without a distribution, which no test can judge: give a run"
            )
    first, second = (sides([source])[0] for source in (baseline, new))
    pairs, refusals = match(first, second)
    failures = dict(_failures(first, second))
    if not pairs and not failures:
        why = f": {refusals[0].sentence()}" if refusals else ""
        raise InputError(
            f"{first.name} and {second.name} have no problem in common that may be compared{why}"
        )
    rows = judge_slowdowns(pairs, confidence, max_slowdown)
    few = [row for row in rows if _smallest_p(row) * len(rows) > 1 - confidence]
    if rows and len(few) == len(rows):
        needed = next(n for n in count(2) if len(rows) / math.comb(2 * n, n) <= 1 - confidence)
        columns = {
            first.name: [len(pair.base.times) for pair in pairs],
            second.name: [len(pair.other.times) for pair in pairs],
        }
        have = " and ".join(f"{name} has {_range_text(counts)}" for name, counts in columns.items())
        short = " and ".join(name for name, counts in columns.items() if min(counts) < needed)
        raise InputError(
            f"{_problems(len(rows))} can be judged at {100 * confidence:g}% from {needed} runs a side, but {have}: "
            f"measure {short} with --repeat {needed}"
        )
    return Outcome(
        first,
        second,
        confidence,
        max_slowdown,
        tuple(rows),
        tuple(_missing(refusals, failures)),
        tuple(failures.values()),
        tuple(few),
        tuple(factors(first, second, pairs)),
    )


def _smallest_p(row: Row) -> float:
    """What the one-sided test gives at best: 1 over the ways to deal the runs to two sides."""
    base, other = len(row.pair.base.times), len(row.pair.other.times)
    return 1 / math.comb(base + other, base)


def _range_text(counts: Sequence[int]) -> str:
    few, many = min(counts), max(counts)
    return str(few) if few == many else f"{few} to {many}"


def _problems(number: int) -> str:
    return f"{number} problem{'s' * (number != 1)}"


def _missing(refusals: Sequence[Refusal], failures: Container[tuple[Key, str]]) -> Iterator[Refusal]:
    """What is lost, but for what is lost because it failed: that is named among the failures."""
    for refusal in refusals:
        left = [
            (key, title)
            for key, title in zip(refusal.keys, refusal.titles, strict=True)
            if refusal.lost and (key, refusal.reason) not in failures
        ]
        if left:
            keys, titles = zip(*left, strict=True)
            yield replace(refusal, keys=keys, titles=titles)


def _failures(baseline: Side, new: Side) -> Iterator[tuple[tuple[Key, str], str]]:
    """By the problem and the reason for which it is not compared where it failed in all runs."""
    for key, ways in new.found.items():
        for way, measurement in ways.items():
            known = baseline.found.get(key, {}).get(way)
            failures = [text for text in measurement.failures if not text.startswith("unsupported")]
            if failures and not (known and known.failures):
                text = one_line(f"{key.title()} {key.precision} {way.title()}: {failures[0]}")
                yield (key, no_time(new, failures[0])), text


def write(outcome: Outcome, form: str, stream: TextIO) -> None:
    """Writes what was found, as ``table`` or ``json``."""
    if form == "json":
        import msgspec

        stream.write(msgspec.json.format(msgspec.json.encode(_object(outcome)), indent=1).decode() + "\n")
    else:
        stream.write("\n".join(_lines(outcome)) + "\n")


def _lines(outcome: Outcome) -> Iterator[str]:
    if outcome.regressed:
        yield from aligned([_cells(row) for row in outcome.regressed], _HEADINGS, _WIDTHS)
        yield ""
    findings = [f"missing: {refusal.sentence()}" for refusal in outcome.missing]
    findings += [f"failed: {failure}" for failure in outcome.failures]
    findings += [f"too few runs to be judged: {_name(row)}" for row in outcome.unjudged]
    for finding in findings:
        yield from wrapped(one_line(finding))
    missing = sum(len(refusal.titles) for refusal in outcome.missing)
    yield from wrapped(
        f"{'passed' if outcome.passed else 'FAILED'}: {_problems(len(outcome.rows))} of {outcome.new.name} against "
        f"{outcome.baseline.name}: {len(outcome.regressed)} slower "
        f"(one-sided Mann-Whitney on run medians, {100 * outcome.confidence:g}% for all together) and "
        f"measured to be so by more than {percent_text(outcome.max_slowdown)}%, "
        f"{missing} missing, {len(outcome.failures)} failed, {len(outcome.unjudged)} with too few runs. These runs "
        f"could have shown a slow-down of {_seen(outcome.rows)}."
    )
    if outcome.factors:
        yield from wrapped(f"The set-ups differ ({outcome.baseline.name} | {outcome.new.name}):", indent="")
        for factor in outcome.factors:
            yield from wrapped(factor_text(factor))


def _seen(rows: Sequence[Row]) -> str:
    sensitive = [(row.detectable, row) for row in rows if row.detectable is not None]
    if not sensitive:
        return "no size"
    worst, row = max(sensitive, key=lambda each: each[0])
    if len(sensitive) == 1:
        return f"{percent_text(worst)}%"
    middle = statistics.median(share for share, _ in sensitive)
    return f"{percent_text(middle)}% (median of the problems), at worst {percent_text(worst)}% ({_name(row)})"


def _name(row: Row) -> str:
    pair = row.pair
    return one_line(f"{pair.key.title()} {pair.key.precision} {pair.key.mode} {pair.ways[1].title()}")


def _cells(row: Row) -> tuple[str, ...]:
    return (
        _name(row),
        seconds_text(row.pair.base),
        seconds_text(row.pair.other),
        ratio_text(row.ratio),
        f"{row.p_adjusted:.2g}",
    )


def _object(outcome: Outcome) -> dict[str, Any]:
    def problems(rows: Sequence[Row]) -> list[dict[str, Any]]:
        return [
            {
                "problem": _name(row),
                "baseline_s": row.pair.base.median(),
                "new_s": row.pair.other.median(),
                "ratio": row.ratio,
                "p_adjusted": row.p_adjusted,
                "detectable": row.detectable,
            }
            for row in rows
        ]

    return {
        "passed": outcome.passed,
        "baseline": outcome.baseline.name,
        "new": outcome.new.name,
        "confidence": outcome.confidence,
        "max_slowdown": outcome.max_slowdown,
        "judged": len(outcome.rows),
        "regressed": problems(outcome.regressed),
        "too_few_runs": problems(outcome.unjudged),
        "missing": [{"reason": refusal.reason, "problems": refusal.titles} for refusal in outcome.missing],
        "failures": outcome.failures,
        "factors": [factor._asdict() for factor in outcome.factors],
    }
