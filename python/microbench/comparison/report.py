"""A comparison of two or more sides, put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from microbench.comparison.judging import CONFIDENCE, RELEVANT, Row, Total, judge, total
from microbench.comparison.matching import Refusal, Side, match, require_two, sides
from microbench.comparison.setup import Factor, factors
from microbench.errors import InputError
from microbench.sources import Source


class Conditions(NamedTuple):
    """What all rows of one table share; ``ways`` is "" where rows differ in it."""

    kernel: str
    precision: str
    mode: str
    ways: tuple[str, str]


@dataclass(frozen=True)
class Table:
    """Rows under the same conditions, and their total."""

    conditions: Conditions
    rows: tuple[Row, ...]
    total: Total


@dataclass(frozen=True)
class Contrast:
    """One side set against the base; ``best``: the fastest way of each, not the same way on both."""

    other: Side
    best: bool
    tables: tuple[Table, ...]
    refusals: tuple[Refusal, ...]
    factors: tuple[Factor, ...]


@dataclass(frozen=True)
class Report:
    """A base case and what was set against it; ``tests`` is the number of problems that verdicts are corrected for."""

    base: Side
    contrasts: tuple[Contrast, ...]
    confidence: float
    relevant: float
    tests: int

    @property
    def limits(self) -> dict[str, tuple[str, ...]]:
        """What must be known of each source to read the tables, by its name."""
        shown = [self.base, *(contrast.other for contrast in self.contrasts)]
        return {side.source.name: side.source.limits for side in shown if side.source.limits}


def compare(
    sources: Sequence[Source],
    *,
    by: str | None = None,
    best: bool = False,
    confidence: float = CONFIDENCE,
    relevant: float = RELEVANT,
) -> Report:
    """Sets every source but the first against the first.

    Args:
        by: a factor (`matching.FACTORS`) whose values are set against each other within the sources.
        best: compare the fastest library and algorithm of each side instead of the same ones, which is always done
            where a side is published.
        confidence: of all verdicts together, and of each interval.
        relevant: smallest relevant difference, as a share.

    Raises:
        InputError: there is nothing to compare, or nothing that is comparable; or a number is out of range.
    """
    if not 0 < confidence < 1:
        raise InputError(f"--confidence {confidence:g}: it must lie between 0 and 1, such as 0.95")
    if not 0 < relevant < 1:
        raise InputError(f"--relevant {relevant:g}: it must be a share between 0 and 1, such as 0.01")
    base, *others = require_two(sides(sources, by))
    # Published figures are of one library each, which was no choice of those who publish others.
    fastest = [best or base.source.published or other.source.published for other in others]
    matched = [match(base, other, each) for other, each in zip(others, fastest, strict=True)]
    families = [pairs for pairs, _ in matched]
    if not any(families):
        refusals = sorted(
            (refusal for _, refused in matched for refusal in refused),
            key=lambda refusal: refusal.reason.startswith("only in"),
        )
        why = refusals[0].sentence() if refusals else "there is no record in either"
        raise InputError(f"{base.name} and {others[0].name} have nothing that may be compared: {why}")
    judged = judge(families, confidence, relevant)
    return Report(
        base,
        tuple(
            Contrast(
                other,
                each,
                _tables(rows, each, confidence),
                tuple(refused),
                tuple(factors(base, other, pairs)),
            )
            for other, each, rows, (pairs, refused) in zip(others, fastest, judged, matched, strict=True)
        ),
        confidence,
        relevant,
        sum(row.p_value is not None for rows in judged for row in rows),
    )


def _tables(rows: Sequence[Row], best: bool, confidence: float) -> tuple[Table, ...]:
    groups: dict[Conditions, list[Row]] = {}
    for row in rows:
        key, (a, b) = row.pair.key, row.pair.ways
        ways = ("", "") if best else (a.title(), b.title())  # the best of any problem may be another one
        groups.setdefault(Conditions(key.kernel, key.precision, key.mode, ways), []).append(row)
    tables = []
    for shared, group in groups.items():
        titles = {(a.title(), b.title()) for a, b in (row.pair.ways for row in group)}
        ways = titles.pop() if len(titles) == 1 else ("", "")
        figures = total([row.pair for row in group], confidence)
        tables.append(Table(shared._replace(ways=ways), tuple(group), figures))
    return tuple(tables)
