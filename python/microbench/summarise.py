"""A run in a few lines: totals, what was slow, what was unstable, what failed and why, which warnings."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from microbench.figures import (
    Row,
    ascii_text,
    fit,
    flops_per_s,
    library_title,
    measured,
    number_text,
    one_line,
    peak_share,
    percent_text,
    record_title,
    relative_half_width,
    threads_phrase,
    time_text,
    wrapped,
)

_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?")
_TOTALS = "{:<44} {:>7} {:>14} {:>8} {:>13} {:>6}"
_NAMED = 3  # so many records are named of a kind that may have thousands
_REASONS = 10  # so many different reasons, and warnings, are given


@dataclass
class _Group:
    """Records of which the same is said."""

    kind: str
    text: str
    first: Row
    count: int = 0
    numbers_differ: bool = False

    def sentence(self) -> str:
        named = _name(self.first) if self.count == 1 else f"{self.count} records, first {_name(self.first)}"
        note = " (the others differ in the numbers)" if self.numbers_differ else ""
        return f"{self.kind}: {named}: {self.text}{note}"


class Tally:
    """Groups records by what is said of them, in order of appearance.

    Texts that differ in their numbers only make one group where the numbers are measured figures (the widths
    that unstable records reached, say); in errors, where a number may be a code, every difference counts.
    """

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], _Group] = {}

    def add(self, kind: str, text: str, record: Row) -> None:
        """Counts ``record`` under ``kind``, a status or ``warning``."""
        text = one_line(text) or "no reason is known"
        key = _NUMBER.sub("0", text) if kind in ("unstable", "warning") else text
        group = self._groups.setdefault((kind, key), _Group(kind, text, record))
        group.count += 1
        group.numbers_differ |= group.text != text

    def sentences(self) -> list[str]:
        """One for each group: kind, count, first record and text."""
        return [group.sentence() for group in self._groups.values()]


def summarise(rows: Iterable[Row], *, unicode: bool = True) -> list[str]:
    """What to know of a run, in lines of at most `WIDTH` characters.

    Totals are by library, algorithm and precision: the sum of the medians, the rate as total work over total
    time, the harmonic mean of the rates, and the time at the measured peak as a share of the total time
    (rates are never averaged otherwise: Hoefler & Belli 2015, rules 3 and 4). Records that were measured
    count, unstable ones included. Reasons are cut to a line each, because tables have them in full below.
    """
    records = list(rows)
    lines = [*wrapped(_head(records)), *_totals(records), *_slowest(records), *_unstable(records)]
    failed, refused, warned = Tally(), Tally(), Tally()
    for record in records:
        if record.status not in ("ok", "unstable"):
            (refused if record.status == "unsupported" else failed).add(record.status, record.reason, record)
        for warning in record.warnings:
            warned.add("warning", warning, record)
    lines += [fit(line) for tally in (failed, refused) for line in _first(tally.sentences())]
    lines += [line for sentence in _first(warned.sentences()) for line in wrapped(sentence)]
    return lines if unicode else [fit(ascii_text(line), dots="...") for line in lines]


def _first(sentences: list[str]) -> list[str]:
    if len(sentences) <= _REASONS:
        return sentences
    return [
        *sentences[:_REASONS],
        f"... and {len(sentences) - _REASONS} more: see the table's notes, csv or json",
    ]


def _name(record: Row) -> str:
    return f"{record_title(record)} {library_title(record)} {record.precision}"


def _head(records: Sequence[Row]) -> str:
    counts = Counter(record.status for record in records)
    statuses = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    times = [record.measuring_s for record in records if record.measuring_s is not None]
    spent = f"; measuring took {time_text(sum(times))}" if times else ""
    return f"{len(records)} record{'s' * (len(records) != 1)}{': ' * bool(statuses)}{statuses}{spent}"


def _totals(records: Sequence[Row]) -> list[str]:
    groups: dict[tuple[str, ...], list[Row]] = {}
    for record in filter(measured, records):
        conditions = (
            record.kernel,
            record.backend,
            record.mode,
            threads_phrase(record.backend, record.threads),
        )
        groups.setdefault((library_title(record), record.precision, *conditions), []).append(record)
    if not groups:
        return []
    varying = [len(set(values)) > 1 for values in zip(*groups, strict=True)]
    lines = [
        "",
        _TOTALS.format("total of", "records", "sum of medians", "GFLOP/s", "harmonic mean", "%peak"),
    ]
    for key, rows in groups.items():
        name = " ".join(
            text
            for index, (text, varies) in enumerate(zip(key, varying, strict=True))
            if text and (varies or index < 2)
        )
        lines.append(_total(name, rows))
    if len({frozenset(record_title(record) for record in rows) for rows in groups.values()}) > 1:
        lines.append("These totals are not over the same problems: they do not compare.")
    if not any(record.repeat for record in records):
        lines += wrapped(
            "Measured in one process: the next one may differ by more than the intervals say. For comparisons use "
            "--repeat 8."
        )
    return [*lines, ""]


def _total(name: str, rows: Sequence[Row]) -> str:
    seconds = sum(record.median_s for record in rows if record.median_s is not None)
    rates = [rate for record in rows if (rate := flops_per_s(record)) is not None]
    peaks = [record.peak_flops_per_s for record in rows if record.peak_flops_per_s]
    work = [record.flops for record in rows if record.flops is not None]
    total_rate = harmonic_mean = share = None
    if len(rates) == len(rows):
        total_rate = sum(work) / seconds
        harmonic_mean = len(rates) / sum(1 / rate for rate in rates)
        if len(peaks) == len(rows):
            share = sum(flops / peak for flops, peak in zip(work, peaks, strict=True)) / seconds
    figures = (None if rate is None else rate / 1e9 for rate in (total_rate, harmonic_mean))
    texts = (number_text(rate) for rate in figures)
    return _TOTALS.format(fit(name, 44), len(rows), time_text(seconds), *texts, percent_text(share))


def _slowest(records: Iterable[Row]) -> list[str]:
    shares = [(share, record) for record in records if (share := peak_share(record)) is not None]
    lowest = sorted(shares, key=lambda pair: pair[0])[:_NAMED]
    if len(shares) < 2:
        return []
    return [f"slowest of {len(shares)}, in % of the measured peak:"] + [
        fit(f"  {percent_text(share):>5}  {_name(record)}") for share, record in lowest
    ]


def _unstable(records: Iterable[Row]) -> list[str]:
    widths = [(relative_half_width(record), record) for record in records if record.status == "unstable"]
    if not widths:
        return []
    widest = sorted(widths, key=lambda pair: math.inf if pair[0] is None else pair[0], reverse=True)[:_NAMED]
    lines = [f"unstable: {len(widths)}, the widest intervals, in % of the median:"] + [
        fit(f"  {percent_text(width):>5}  {_name(record)}") for width, record in widest
    ]
    return lines + [f"         and {len(widths) - _NAMED} more"] * (len(widths) > _NAMED)
