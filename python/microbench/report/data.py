"""What a report shows: every record once, with its derived figures, and without its thousands of samples."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from microbench.figures import (
    library_title,
    measured,
    one_line,
    peak_share,
    problem_title,
    relative_half_width,
    sample_count,
)
from microbench.record import Record
from microbench.roofline import Ceiling, ceilings, effective, intensity, roof
from microbench.sources import Source, time_s
from microbench.store import RunInfo

LEVELS = tuple(level / 100 for level in range(101))
"""Shares at which quantiles of the samples are kept; of fewer samples all are."""
_SERIES_LENGTH = 1000


@dataclass(frozen=True)
class Side:
    """One source of the report.

    Attributes:
        name: told apart from the other sides' by `microbench.sources.load_all`.
        limits: sentences that go with everything which shows this side.
        published: whether its times are means that others published.
        infos: of the runs it consists of.
    """

    name: str
    device: str
    limits: tuple[str, ...]
    published: bool
    infos: tuple[RunInfo, ...]


@dataclass(frozen=True)
class Entry:
    """One record of one side.

    Attributes:
        record: without its samples.
        side: its place in `Report.sides`.
        process: which fresh process of the side measured it: place of the run and repeat.
        series: what it is a point of: all that differs between records of one problem.
        problem: names what was computed, without the repeat.
        samples: their number; 0 for a published mean.
        quantiles: of the samples in seconds, at `LEVELS`; of fewer samples all of them in ascending order.
        in_order: samples in the order taken, thinned to some thousand, where they drift; else empty.
        time_s: the median, of a published record the mean; None where no usable time is known.
        rate: operations per second or, of a collective, bus bandwidth in bytes per second.
        unit: of the rate, ``FLOP/s`` or ``B/s``.
        roof: measured roof over it in FLOP/s, see `microbench.roofline.roof`.
        effective: whether the rate counts operations that were not executed (Winograd, FFT).
    """

    record: Record
    side: int
    process: tuple[int, int]
    series: str
    problem: str
    samples: int
    quantiles: tuple[float, ...]
    in_order: tuple[float, ...]
    time_s: float | None
    rate: float | None
    unit: str
    roof: float | None
    effective: bool

    @property
    def width(self) -> float | None:
        """Half the median's interval, its larger side, as a share of the median."""
        return relative_half_width(self.record)

    @property
    def rate_interval(self) -> tuple[float, float] | None:
        """The median's interval as rates, the lower one first."""
        record = self.record
        if self.rate is None or self.time_s is None or not record.ci_low_s or not record.ci_high_s:
            return None
        return self.rate * self.time_s / record.ci_high_s, self.rate * self.time_s / record.ci_low_s

    @property
    def intensity(self) -> float | None:
        """Operations per byte of compulsory traffic."""
        return intensity(self.record)

    @property
    def peak_share(self) -> float | None:
        """Rate as a share of the peak measured beside it."""
        return peak_share(self.record)

    @property
    def roof_share(self) -> float | None:
        """Rate as a share of the measured roof."""
        return None if self.rate is None or self.roof is None else self.rate / self.roof

    @property
    def energy_j(self) -> float | None:
        """Joules of one execution, where the backend measured them."""
        return self.record.facts.get("energy_per_execution_j")

    @property
    def panel(self) -> tuple[str, str]:
        """Records of one panel are drawn together: those of one kernel in one mode."""
        return self.record.kernel, self.record.mode


@dataclass(frozen=True)
class Total:
    """What all problems of one series come to.

    The time of a problem measured by several processes is the median of theirs. ``rate`` is total work over total
    time, ``harmonic_mean`` that of the rates, ``peak_share`` the time at the peak over the time taken; None where one
    of the records lacks what is needed.
    """

    side: int
    panel: tuple[str, str]
    series: str
    problems: frozenset[str]
    seconds: float
    unit: str
    rate: float | None
    harmonic_mean: float | None
    effective: bool
    peak_share: float | None


@dataclass(frozen=True)
class Report:
    """Everything that a report shows, in the order of the sources and of their records."""

    sides: tuple[Side, ...]
    entries: tuple[Entry, ...]

    def panels(self) -> dict[tuple[str, str], list[int]]:
        """Places of the entries that have a time, by panel."""
        found: dict[tuple[str, str], list[int]] = {}
        for number, entry in enumerate(self.entries):
            if entry.time_s is not None:
                found.setdefault(entry.panel, []).append(number)
        return found

    def roofs(self, side: int, kernel: str) -> list[Ceiling]:
        """The ceilings of one side's runs of a kernel; of several runs the highest of each kind."""
        best: dict[tuple[str, str, str], Ceiling] = {}
        for info in self.sides[side].infos:
            if info.kernel == kernel:
                for ceiling in ceilings(info):
                    key = (ceiling.unit, ceiling.bounds, ceiling.origin)
                    if key not in best or ceiling.per_s > best[key].per_s:
                        best[key] = ceiling
        return list(best.values())

    def limits(self, sides: Sequence[int] | None = None) -> list[str]:
        """What must be known of the sides shown (default: all), a sentence each, named where there are several."""
        shown = range(len(self.sides)) if sides is None else sorted(set(sides))
        return [
            f"{self.sides[side].name}: {limit}."
            if len(self.sides) > 1
            else f"{limit[:1].upper()}{limit[1:]}."
            for side in shown
            for limit in self.sides[side].limits
        ]


def collect(sources: Sequence[Source]) -> Report:
    """Reads the sources, each record once.

    Raises:
        InputError: a line of a run is not a record.
    """
    sides = tuple(
        Side(
            source.name,
            source.device,
            source.limits,
            source.published,
            tuple(part.info for part in source.parts),
        )
        for source in sources
    )
    entries = [entry for side, source in enumerate(sources) for entry in _entries(side, source)]
    return Report(sides, tuple(_with_series(entries, [side.name for side in sides])))


def totals(report: Report) -> list[Total]:
    """One for each series of each panel, in order of appearance."""
    groups: dict[tuple[int, tuple[str, str], str], list[Entry]] = {}
    for panel, numbers in report.panels().items():
        for entry in (report.entries[number] for number in numbers):
            groups.setdefault((entry.side, panel, entry.series), []).append(entry)
    return [_total(key, group) for key, group in groups.items()]


def spread(entry: Entry) -> float:
    """From the 5th to the 95th percentile of the samples, as a share of the median; 0 without samples."""
    if not entry.quantiles or not entry.time_s:
        return 0.0
    last = len(entry.quantiles) - 1
    return (entry.quantiles[round(0.95 * last)] - entry.quantiles[round(0.05 * last)]) / entry.time_s


def drift(record: Record) -> float:
    """The relative drift that the diagnostics found and warned of; 0 where they did not."""
    found = record.diagnostics.get("drift")
    if not isinstance(found, Mapping) or not any("drift" in warning for warning in record.warnings):
        return 0.0
    return abs(float(found.get("relative") or 0))


def _entries(side: int, source: Source) -> Iterator[Entry]:
    for run, part in enumerate(source.parts):
        roofs = ceilings(part.info)
        cache = part.info.plan.get("last_level_cache_bytes")
        for record in part.records():
            yield _entry(record, side, run, roofs, cache)


def _entry(record: Record, side: int, run: int, roofs: Sequence[Ceiling], cache: int | None) -> Entry:
    import numpy as np

    quantiles: tuple[float, ...] = ()
    in_order: tuple[float, ...] = ()
    if record.samples_s and measured(record):
        samples = np.asarray(record.samples_s)
        kept = np.sort(samples) if samples.size <= len(LEVELS) else np.quantile(samples, LEVELS)
        quantiles = tuple(kept.tolist())
        if drift(record):
            in_order = tuple(samples[:: -(-samples.size // _SERIES_LENGTH)].tolist())
    seconds = time_s(record)
    work = record.flops
    bandwidth = record.facts.get("bus_bandwidth_bytes_per_s")
    rate = None if not seconds else work / seconds if work else bandwidth
    return Entry(
        record=msgspec.structs.replace(record, samples_s=[]),
        side=side,
        process=(run, record.repeat),
        series="",
        problem=problem_title(record.kernel, record.problem, record.pass_, record.layout),
        samples=sample_count(record),
        quantiles=quantiles,
        in_order=in_order,
        time_s=seconds,
        rate=rate,
        unit="B/s" if bandwidth is not None and not work else "FLOP/s",
        roof=roof(record, roofs, cache),
        effective=effective(record),
    )


def _with_series(entries: Sequence[Entry], sides: Sequence[str]) -> Iterator[Entry]:
    """Names the series by library and algorithm, and by every other factor that the side's name does not tell."""

    def factors(entry: Entry) -> dict[str, str]:
        record = entry.record
        return {
            "side": one_line(sides[entry.side]),
            "library": library_title(record) or "library unknown",
            "precision": record.precision,
            "threads": f"{record.threads} threads" if record.threads else "",
            "backend": record.backend,
        }

    def varying(chosen: Iterable[Entry]) -> set[str]:
        values: dict[str, set[str]] = {}
        for entry in chosen:
            for name, text in factors(entry).items():
                values.setdefault(name, set()).add(text)
        return {name for name, texts in values.items() if len(texts - {""}) > 1}

    shown = {"library"} | (varying(entries) & {"side", "precision"})
    for side in range(len(sides)):
        shown |= varying(entry for entry in entries if entry.side == side)
    for entry in entries:
        words = [text for name, text in factors(entry).items() if name in shown and text]
        yield replace(entry, series=" ".join(words))


def _total(key: tuple[int, tuple[str, str], str], group: Sequence[Entry]) -> Total:
    side, panel, series = key
    by_problem: dict[str, list[Entry]] = {}
    for entry in group:
        by_problem.setdefault(entry.problem, []).append(entry)
    times = {
        problem: statistics.median(entry.time_s for entry in same if entry.time_s is not None)
        for problem, same in by_problem.items()
    }
    first: Mapping[str, Any] = {problem: same[0].record for problem, same in by_problem.items()}
    seconds = sum(times.values())
    work = {problem: record.flops for problem, record in first.items() if record.flops}
    at_peak = [
        record.flops / record.peak_flops_per_s
        for record in first.values()
        if record.flops and record.peak_flops_per_s
    ]
    known = len(work) == len(times)
    return Total(
        side=side,
        panel=panel,
        series=series,
        problems=frozenset(times),
        seconds=seconds,
        unit=group[0].unit,
        rate=sum(work.values()) / seconds if known else None,
        harmonic_mean=len(times) / sum(times[problem] / count for problem, count in work.items())
        if known
        else None,
        effective=any(entry.effective for entry in group),
        peak_share=sum(at_peak) / seconds if len(at_peak) == len(times) else None,
    )
