"""The twelve rules of Hoefler & Belli, computed from what a report shows.

"Scientific benchmarking of parallel computing systems", SC'15. A rule is met only where the data show it: what was not
recorded counts against the report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from microbench.comparison.judging import CONFIDENCE
from microbench.figures import threads
from microbench.report.data import Entry, Report, totals
from microbench.sources import accelerator
from microbench.stats import minimum_samples
from microbench.store import RunInfo

State = Literal["met", "not met", "not applicable"]

_COLLECTIVES = ("allreduce", "reduce_scatter", "allgather", "broadcast", "alltoall")
_NORMALITY_LEVEL = 0.01
_SKEWED = 0.05
# What of a set-up must be known, by its dotted path in a run's environment; more where processors computed.
_SET_UP = (
    "processor.model_name",
    "processor.cores",
    "memory.total_bytes",
    "system.product",
    "system.firmware",
    "system.kernel_release",
    "system.distribution",
    "build.compiler",
    "build.flags",
    "libraries",
    "packages",
    "python.version",
)
_OF_PROCESSORS = (
    "processor.microcode",
    "caches",
    "clock.driver",
    "clock.governor",
    "clock.boost",
    "clock.base_mhz",
    "clock.hardware_maximum_mhz",
    "memory.transparent_huge_pages",
)
# Where a GPU did: what somebody set, and its properties, which stand with the ceilings.
_GPU_SETTINGS = "device.settings"
_OF_GPU = (
    "device.memory_bytes",
    "device.l2_cache_bytes",
    "device.sm_clock_hz",
    "device.memory_clock_hz",
    "device.ecc",
    "device.driver_cuda",
    "device.runtime_cuda",
)


@dataclass(frozen=True)
class Rule:
    """One rule, whether this report meets it, and what of its data shows that."""

    number: int
    text: str
    state: State
    evidence: str


def rules(report: Report) -> list[Rule]:
    """All twelve, in order."""
    timed = [entry for entry in report.entries if entry.time_s is not None]
    return [
        Rule(number, text, *(judge(report, timed))) for number, (text, judge) in enumerate(_RULES, start=1)
    ]


_Judged = tuple[State, str]


def _all(found: Sequence[Entry], timed: Sequence[Entry], what: str, extra: str = "") -> _Judged:
    """Met where it holds for every record with a time."""
    if not timed:
        return "not applicable", "No record has a time."
    state: State = "met" if len(found) == len(timed) else "not met"
    return state, f"{len(found)} of {len(timed)} records with a time {what}.{extra}"


def _base_case(report: Report, timed: list[Entry]) -> _Judged:
    shares = [entry for entry in timed if entry.peak_share is not None]
    if not shares and not report.studies:
        return "not applicable", "No speed-up and no share of a peak is shown."
    shown = (
        "Ratios of the study of algorithms stand beside both of their times, and each table names what is divided."
        if report.studies
        else "No speed-up is shown."
    )
    return (
        "met",
        f"{shown} {len(shares)} shares of a peak stand beside their absolute times; their base, the measured peak, is "
        "among the ceilings.",
    )


def _subset(report: Report, _: list[Entry]) -> _Judged:
    missing, reasons = [], []
    for number, side in enumerate(report.sides):
        for run, info in enumerate(side.infos):
            there = sum(entry.side == number and entry.process[0] == run for entry in report.entries)
            if there < info.planned_records:
                missing.append(
                    f"{side.name}: {info.planned_records - there} of {info.planned_records} records are missing"
                )
            why = info.plan.get("chosen_by")
            gpu = accelerator(info)
            used = info.plan.get("threads")
            cores = (info.environment.get("processor") or {}).get("cores")
            if not why or not (gpu or used):
                missing.append(f"{side.name}: it is not recorded how problems and processors were chosen")
            elif not gpu and cores and used < cores:
                missing.append(
                    f"{side.name}: {info.kernel} used {used} of {cores} cores, and no reason is recorded"
                )
            else:
                left_out = info.plan.get("left_out") or 0
                where = " ".join(str(part) for part in info.options.get("where") or ())
                by = gpu or f"{used} threads"
                reasons.append(
                    f"{info.kernel} {info.problem_set}{' where ' + where if where else ''} on {by}: "
                    f"{why}; {left_out} left out"
                )
    if missing:
        return "not met", _sentences(missing)
    return "met", _sentences(reasons)


def _means(report: Report, _: list[Entry]) -> _Judged:
    found = totals(report)
    if not found:
        return "not applicable", "Nothing is summarised."
    means = sum(total.harmonic_mean is not None for total in found)
    return (
        "met",
        f"{len(found)} totals add times; their rates are total work over total time, {means} also as harmonic means. "
        "No rate is averaged arithmetically.",
    )


def _ratios(report: Report, _: list[Entry]) -> _Judged:
    found = totals(report)
    if not found:
        return "not applicable", "Nothing is summarised."
    if any(table.key == "regret" for _, study in report.studies for table in study.tables):
        return (
            "not met",
            "The study of algorithms gives the median and the worst of its layers' ratios, as their distribution; the "
            "ratio of the added times, which answers for all layers, stands beside them.",
        )
    shares = sum(total.peak_share is not None for total in found)
    return "met", f"{shares} shares of a peak are ratios of added times; no mean of ratios is shown."


def _intervals(report: Report, timed: list[Entry]) -> _Judged:
    found = [entry for entry in timed if entry.record.ci_low_s is not None]
    processes = {(entry.side, entry.process) for entry in timed}
    single = len(processes) == len(report.sides)
    note = (
        " Each side is one process: the intervals do not say what the next process will measure."
        if single
        else f" {len(processes)} processes measured."
    )
    sums = [total for total in totals(report) if len(total.problems) > 1]
    bounded = sum(total.interval is not None for total in sums)
    state, evidence = _all(
        found,
        timed,
        "have an interval of the median from order statistics; times are taken as nondeterministic",
        note,
    )
    if sums:
        evidence += (
            f" {bounded} of {len(sums)} totals of several problems have an interval, which needs "
            f"{minimum_samples(CONFIDENCE)} processes."
        )
    return "not met" if bounded < len(sums) else state, evidence


def _normality(_: Report, timed: list[Entry]) -> _Judged:
    tests = [(entry, entry.record.diagnostics.get("normality")) for entry in timed]
    tested = [(entry, test) for entry, test in tests if isinstance(test, Mapping)]
    rejected = sum((test.get("p_value") or 0) < _NORMALITY_LEVEL for _, test in tested)
    note = (
        f" Normality is rejected for {rejected} of them (p < {_NORMALITY_LEVEL:g}); nothing here assumes it."
    )
    return _all([entry for entry, _ in tested], timed, "were tested for normality", note if tested else "")


def _comparison(_: Report, timed: list[Entry]) -> _Judged:
    if not timed:
        return "not applicable", "No record has a time."
    series = {entry.series for entry in timed}
    if len(series) == 1:
        return "not applicable", "One series is shown and nothing compared."
    return (
        "not met",
        f"{len(series)} series stand side by side and none was tested against another: differences between them are "
        "not shown to be significant. The command compare tests medians of repeated runs.",
    )


def _summary(_: Report, timed: list[Entry]) -> _Judged:
    needed = ("p05", "q1", "median", "q3", "p95")
    found = [entry for entry in timed if all(name in entry.record.summary for name in needed)]
    skewed = sum(
        bool(
            entry.time_s and abs(entry.record.summary.get("mean", entry.time_s) / entry.time_s - 1) > _SKEWED
        )
        for entry in found
    )
    modes = sum(len(entry.record.diagnostics.get("modes") or ()) > 1 for entry in found)
    note = (
        f" The mean is over {100 * _SKEWED:g} % off the median in {skewed} of them; {modes} have several modes, where "
        "a median alone says little."
    )
    return _all(found, timed, "have quartiles, 5th and 95th percentile beside the median", note)


def _set_up(report: Report, _: list[Entry]) -> _Judged:
    unknown = []
    for side in report.sides:
        if missing := dict.fromkeys(path for info in side.infos for path in _missing(info)):
            unknown.append(f"{side.name}: unknown are {', '.join(missing)}")
    if unknown:
        return "not met", _sentences(unknown)
    return (
        "met",
        "Hardware, software, build, command, options and seed are recorded; factors and levels stand in each row.",
    )


def _missing(info: RunInfo) -> list[str]:
    gpu = accelerator(info)
    needed = [(info.environment, path) for path in _SET_UP + ((_GPU_SETTINGS,) if gpu else _OF_PROCESSORS)]
    needed += [(info.ceilings, path) for path in _OF_GPU if gpu]
    missing = []
    for known, path in needed:
        value: Any = known
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if not value and value is not False:
            missing.append(path)
    return missing + [
        name
        for name in ("command", "options", "seed")
        if not getattr(info, name) and getattr(info, name) != 0
    ]


def _parallel(_: Report, timed: list[Entry]) -> _Judged:
    parallel = [entry for entry in timed if _threads(entry) != 1 or entry.record.kernel in _COLLECTIVES]
    if not parallel:
        return "not applicable", "No record was computed in parallel." if timed else "No record has a time."
    collective = [entry for entry in parallel if entry.record.kernel in _COLLECTIVES]
    told = [
        entry
        for entry in collective
        if entry.record.facts.get("start") and entry.record.facts.get("over_ranks")
    ]
    alone = [entry for entry in parallel if entry.record.kernel not in _COLLECTIVES]
    sampled = [entry for entry in alone if entry.samples]
    told += sampled
    words = "parallel records say how they were timed"
    state: State = "met" if len(told) == len(parallel) else "not met"
    how = []
    if any(_threads(entry) is not None for entry in sampled):
        how.append("one clock, and a sample ends when the slowest thread has ended")
    if any(_threads(entry) is None for entry in sampled):
        how.append("on the GPU's clock, from an event before a sample's first kernel to one after its last")
    if collective:
        starts = sorted({str(entry.record.facts.get("start") or "unknown") for entry in collective})
        how.append(
            f"ranks started by {', '.join(starts)}; a sample spans all ranks, and minimum, median and maximum over "
            "them are kept"
        )
    return state, f"{len(told)} of {len(parallel)} {words}{': ' * bool(how)}{'; '.join(how)}."


def _threads(entry: Entry) -> int | None:
    return threads(entry.record.backend, entry.record.threads)


def _bounds(_: Report, timed: list[Entry]) -> _Judged:
    found = [entry for entry in timed if entry.record.peak_flops_per_s]
    roofs = sum(entry.roof is not None for entry in timed)
    return _all(
        found,
        timed,
        "have a measured compute peak beside them",
        f" {roofs} have a roof that includes memory.",
    )


def _distribution(_: Report, timed: list[Entry]) -> _Judged:
    found = [entry for entry in timed if entry.samples]
    note = " Lines join only the ends of ceilings and the steps of distribution functions."
    return _all(found, timed, "keep every sample, from which distributions are drawn", note)


_RULES: tuple[tuple[str, Callable[[Report, list[Entry]], _Judged]], ...] = (
    ("Speed-ups name their base case and its absolute performance.", _base_case),
    ("Using a subset of problems or resources is explained.", _subset),
    ("Costs are summarised by arithmetic, rates by harmonic means.", _means),
    ("Ratios are not summarised.", _ratios),
    ("It is said whether times are deterministic; if not, they have confidence intervals.", _intervals),
    ("Normality is tested and not assumed.", _normality),
    ("Comparisons are statistically sound.", _comparison),
    ("It is looked at whether the median is the right summary; other percentiles are given.", _summary),
    ("All factors, their levels and the complete set-up are recorded.", _set_up),
    ("How parallel time was measured, synchronised and summarised is said.", _parallel),
    ("Upper bounds stand beside the results.", _bounds),
    (
        "As much of the distribution is shown as is needed; lines only where they mean something.",
        _distribution,
    ),
)


def _sentences(texts: Sequence[str]) -> str:
    return " ".join(f"{text}." for text in dict.fromkeys(texts))
