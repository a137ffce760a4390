"""What a report shows: every record once, with its derived figures, and without its thousands of samples."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from microbench.comparison.judging import CONFIDENCE
from microbench.figures import (
    library_title,
    measured,
    one_line,
    peak_share,
    problem_title,
    relative_half_width,
    sample_count,
    threads,
)
from microbench.record import Record
from microbench.roofline import Ceiling, cache_bytes, ceilings, effective, intensity, roof
from microbench.sources import Source, time_s
from microbench.stats import median_interval
from microbench.store import Run, RunInfo

if TYPE_CHECKING:
    from microbench.study import Section as Study

LEVELS = tuple(level / 100 for level in range(101))
"""Shares at which quantiles of the samples are kept; of fewer samples all are."""
_SERIES_LENGTH = 1000

Interval = tuple[float, float]
"""The lower and the upper end."""


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
    def traffic_bytes(self) -> float | None:
        """Bytes of main memory that an execution moved, where the machine counted them."""
        return self.record.facts.get("memory_bytes_per_execution")

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

    Each interval is that of the median over the ``processes`` that measured every problem, at `CONFIDENCE`; None where
    these are too few.
    """

    side: int
    panel: tuple[str, str]
    series: str
    problems: frozenset[str]
    precision: str
    threads: str
    processes: int
    seconds: float
    interval: Interval | None
    unit: str
    rate: float | None
    rate_interval: Interval | None
    harmonic_mean: float | None
    harmonic_mean_interval: Interval | None
    effective: bool
    peak_share: float | None
    peak_share_interval: Interval | None


@dataclass(frozen=True)
class Report:
    """Everything that a report shows, in the order of the sources and of their records.

    ``studies`` holds what runs of convolution with several algorithms say, by the places of their sides.
    """

    sides: tuple[Side, ...]
    entries: tuple[Entry, ...]
    studies: tuple[tuple[int, Study], ...] = ()

    def processes(self) -> dict[tuple[int, tuple[int, int]], int]:
        """The processes of each side, numbered from 1, by the side's place and `Entry.process`."""
        numbers: dict[tuple[int, tuple[int, int]], int] = {}
        for entry in self.entries:
            if (entry.side, entry.process) not in numbers:
                numbers[entry.side, entry.process] = 1 + sum(side == entry.side for side, _ in numbers)
        return numbers

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
            if kernel in info.kernel.split(", "):
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
    return Report(
        sides, tuple(_with_series(entries, [side.name for side in sides])), tuple(_studies(sources))
    )


def _studies(sources: Sequence[Source]) -> Iterator[tuple[int, Study]]:
    from microbench.study import section

    for side, source in enumerate(sources):
        for part in source.parts:
            if isinstance(part, Run) and (found := section(part)) is not None:
                yield side, found


def totals(report: Report) -> list[Total]:
    """One for each series of each panel, in order of appearance."""
    groups: dict[tuple[int, tuple[str, str], str], list[Entry]] = {}
    for panel, numbers in report.panels().items():
        for entry in (report.entries[number] for number in numbers):
            groups.setdefault((entry.side, panel, entry.series), []).append(entry)
    return [_total(key, group) for key, group in groups.items()]


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 thread``, ``2 threads``; ``plural`` where that is not the noun with an s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def threads_text(record: Record) -> str:
    """The number of threads that computed; "" where a GPU did."""
    count = threads(record.backend, record.threads)
    return "" if count is None else str(count or "unknown")


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
        cache = cache_bytes(part.info)
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
            "threads": counted(count, "thread") if (count := threads(record.backend, record.threads)) else "",
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
    by_process: dict[tuple[int, int], dict[str, list[Entry]]] = {}
    for entry in group:
        by_problem.setdefault(entry.problem, []).append(entry)
        by_process.setdefault(entry.process, {}).setdefault(entry.problem, []).append(entry)
    times = _times(by_problem)
    whole = [_times(problems) for problems in by_process.values() if problems.keys() == times.keys()]
    first = {problem: same[0].record for problem, same in by_problem.items()}
    work: dict[str, float] = {problem: record.flops for problem, record in first.items() if record.flops}
    at_peak = [
        record.flops / record.peak_flops_per_s
        for record in first.values()
        if record.flops and record.peak_flops_per_s
    ]
    known = len(work) == len(times)

    def rate(measured: Mapping[str, float]) -> float:
        return sum(work.values()) / sum(measured.values())

    def harmonic_mean(measured: Mapping[str, float]) -> float:
        return len(work) / sum(measured[problem] / count for problem, count in work.items())

    def share(measured: Mapping[str, float]) -> float:
        return sum(at_peak) / sum(measured.values())

    def figure(
        of: Callable[[Mapping[str, float]], float], shown: bool
    ) -> tuple[float | None, Interval | None]:
        if not shown:
            return None, None
        return of(times), median_interval([of(each) for each in whole], CONFIDENCE) if whole else None

    rates, means, shares = (
        figure(of, shown)
        for of, shown in ((rate, known), (harmonic_mean, known), (share, len(at_peak) == len(times)))
    )
    sums = [sum(each.values()) for each in whole]
    return Total(
        side=side,
        panel=panel,
        series=series,
        problems=frozenset(times),
        precision=_shared(entry.record.precision for entry in group),
        threads=_shared(threads_text(entry.record) for entry in group),
        processes=len(whole),
        seconds=sum(times.values()),
        interval=median_interval(sums, CONFIDENCE) if sums else None,
        unit=group[0].unit,
        rate=rates[0],
        rate_interval=rates[1],
        harmonic_mean=means[0],
        harmonic_mean_interval=means[1],
        effective=any(entry.effective for entry in group),
        peak_share=shares[0],
        peak_share_interval=shares[1],
    )


def _times(by_problem: Mapping[str, Sequence[Entry]]) -> dict[str, float]:
    """The time of each problem: the median of what was measured of it."""
    return {
        problem: statistics.median(entry.time_s for entry in same if entry.time_s is not None)
        for problem, same in by_problem.items()
    }


def _shared(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(texts))
