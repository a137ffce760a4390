"""The tables of a report, as data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from microbench.comparison.judging import CONFIDENCE
from microbench.environment import describe
from microbench.environment.text import size_text
from microbench.figures import error_text, fit, library_title, number_text, one_line, percent_text, time_text
from microbench.report.data import Entry, Interval, Report, Total, counted, threads_text, totals
from microbench.sources import accelerator, doubts_of
from microbench.stats import minimum_samples
from microbench.summarise import Tally
from microbench.topology import format_cpu_list

_LONGEST = 400


@dataclass(frozen=True)
class Cell:
    """What is shown and, of a number, the value that is sorted by and exported; None where it is unknown."""

    text: str
    value: float | None = None

    @classmethod
    def of(cls, text: str) -> Cell:
        """A text, on one line; one that nobody would read to its end is cut."""
        return cls(fit(one_line(text), _LONGEST))


@dataclass(frozen=True)
class Column:
    """A heading, its name in csv (units included), and whether its cells are numbers."""

    heading: str
    name: str
    number: bool = False


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        caption: all that must be known to read it, the limits of what it shows included.
        entries: for each row the place of its record in the report; empty where rows are no records.
        filtered: whether there are so many rows that they can be searched.
    """

    key: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    entries: tuple[int, ...] = ()
    filtered: bool = False


def plain(key: str, caption: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table of texts."""
    columns = tuple(Column(heading, heading) for heading in headings)
    return Table(key, caption, columns, tuple(tuple(Cell.of(text) for text in row) for row in rows))


@dataclass(frozen=True)
class _Field:
    column: Column
    cell: Callable[[Entry], Cell]


def _word(heading: str, text: Callable[[Entry], str]) -> _Field:
    return _Field(Column(heading, heading), lambda entry: Cell.of(text(entry)))


def _figure(
    heading: str, name: str, value: Callable[[Entry], float | None], text: Callable[[float | None], str]
) -> _Field:
    return _Field(Column(heading, name, True), lambda entry: Cell(text(number := value(entry)), number))


def _size(value: float | None) -> str:
    return "n/a" if value is None else size_text(value)


def _energy(value: float | None) -> str:
    return "n/a" if value is None else f"{number_text(value)} J"


def _giga(value: float | None) -> str:
    return number_text(None if value is None else value / 1e9)


def _of_summary(name: str) -> Callable[[Entry], float | None]:
    return lambda entry: entry.record.summary.get(name) if entry.time_s is not None else None


def records(report: Report) -> Table:
    """Every record; factors that all share are in the caption."""
    entries = report.entries
    processes = report.processes()
    factors = {
        "run": _word("run", lambda entry: report.sides[entry.side].name),
        "kernel": _word("kernel", lambda entry: entry.record.kernel),
        "mode": _word("mode", lambda entry: entry.record.mode),
        "backend": _word("backend", lambda entry: entry.record.backend),
        "threads": _word("threads", lambda entry: threads_text(entry.record)),
        "process": _word("process", lambda entry: str(processes[entry.side, entry.process])),
    }
    values = {name: {field.cell(entry).text for entry in entries} for name, field in factors.items()}
    if len({(entry.side, entry.panel, entry.series, entry.problem) for entry in entries}) == len(entries):
        del values["process"]  # nothing was measured twice
    varying = [name for name, texts in values.items() if len(texts) > 1]
    shared = [
        f"{name}: {next(iter(texts))}"
        for name, texts in values.items()
        if len(texts) == 1 and "" not in texts and name not in ("run", "process")
    ]
    confidences = dict.fromkeys(entry.record.confidence for entry in entries)
    level = " or ".join(f"{100 * each:g} %" for each in confidences if each is not None)
    fields = [factors[name] for name in varying]
    fields += [
        _word("problem", lambda entry: entry.problem),
        _word(
            "library", lambda entry: library_title(entry.record) + (" (effective)" if entry.effective else "")
        ),
        _word("precision", lambda entry: entry.record.precision),
        _figure("time", "time_s", lambda entry: entry.time_s, time_text),
        _figure("±%", "relative_half_width", lambda entry: entry.width, percent_text),
        _figure("p5", "p05_s", _of_summary("p05"), time_text),
        _figure("p95", "p95_s", _of_summary("p95"), time_text),
        _figure("maximum", "maximum_s", _of_summary("maximum"), time_text),
        _figure("samples", "samples", lambda entry: float(entry.samples), lambda value: f"{value or 0:.0f}"),
        *(
            _figure(f"G{unit}", name, _rate_in(unit), _giga)
            for unit, name in (("FLOP/s", "flop_per_s"), ("B/s", "bus_bandwidth_bytes_per_s"))
            if any(entry.unit == unit for entry in entries)
        ),
        _figure("%peak", "share_of_peak", lambda entry: entry.peak_share, percent_text),
        _figure("%roof", "share_of_roof", lambda entry: entry.roof_share, percent_text),
        _figure("workspace", "workspace_bytes", lambda entry: entry.record.workspace_bytes, _size),
    ]
    if any(entry.traffic_bytes is not None for entry in entries):
        fields.append(
            _figure("traffic", "memory_bytes_per_execution", lambda entry: entry.traffic_bytes, _size)
        )
    if any(entry.energy_j is not None for entry in entries):
        fields.append(_figure("energy", "energy_per_execution_j", lambda entry: entry.energy_j, _energy))
    fields += [
        _Field(
            Column("%tol", "max_error", True),
            lambda entry: Cell(error_text(entry.record), entry.record.max_error),
        ),
        _word("status", lambda entry: entry.record.status),
        _word("notes", _notes),
    ]
    caption = [
        f"{'; '.join(shared)}." if shared else "",
        "Time: the median, of published records the mean; ±%: the larger side of its interval, in % of it"
        f"{f' ({level} confidence)' if level else ''}; p5, p95, maximum: of the samples. Rates are at that time.",
        "%peak: of the measured compute peak; %roof: of the measured roof, the lower one of the peak and of what the "
        "memory that holds the operands allows at compulsory traffic; %tol: largest error in % of the tolerance. "
        "Unknown is n/a.",
        "Effective rates count operations of direct convolution that Winograd or FFT does not execute."
        if any(entry.effective for entry in entries)
        else "",
        *report.limits(),
    ]
    rows = tuple(tuple(field.cell(entry) for field in fields) for entry in entries)
    columns = tuple(field.column for field in fields)
    return Table(
        "records", " ".join(filter(None, caption)), columns, rows, tuple(range(len(entries))), filtered=True
    )


def _rate_in(unit: str) -> Callable[[Entry], float | None]:
    return lambda entry: entry.rate if entry.unit == unit else None


def _notes(entry: Entry) -> str:
    executions, count = entry.record.samples_per_batch, len(entry.record.warnings)
    notes = [f"samples are means of {executions}"] * (executions > 1) + [counted(count, "warning")] * (
        count > 0
    )
    return ", ".join(notes)


def overview(report: Report) -> Table:
    """A row for each run of each source."""
    rows = []
    for number, side in enumerate(report.sides):
        for run, info in enumerate(side.infos):
            own = [
                entry.record for entry in report.entries if entry.side == number and entry.process[0] == run
            ]
            counts = {
                status: sum(record.status == status for record in own)
                for status in dict.fromkeys(r.status for r in own)
            }
            spent = [record.measuring_s for record in own if record.measuring_s is not None]
            rows.append(
                (
                    side.name,
                    side.device or "unknown",
                    info.kernel,
                    info.problem_set,
                    info.created or "unknown",
                    f"{len(own)} of {info.planned_records}",
                    ", ".join(f"{count} {status}" for status, count in counts.items()) or "none",
                    time_text(sum(spent) if spent else None),
                    info.microbench_version,
                )
            )
    headings = (
        "run",
        "device",
        "kernel",
        "problems",
        "started",
        "records",
        "status",
        "measuring took",
        "microbench",
    )
    return plain("overview", "What was measured, and by which version.", headings, rows)


def sums(report: Report) -> Table:
    """Totals of the series: times are added, work is divided by time; ratios are never averaged."""
    found = totals(report)
    words: dict[str, Callable[[Total], str]] = {
        "kernel, mode": lambda total: ", ".join(total.panel),
        "series": lambda total: f"{total.series} (effective)" if total.effective else total.series,
        "precision": lambda total: total.precision,
        "threads": lambda total: total.threads,
        "intervals": _processes_text,
    }
    shared = {
        name: text(found[0])
        for name, text in words.items()
        if name != "series" and len({text(total) for total in found}) == 1
    }
    named = [name for name in words if name not in shared]
    headings = (
        *(Column(name, name) for name in named),
        Column("problems", "problems", True),
        Column("sum of times", "seconds", True),
        Column("GFLOP/s", "rate_per_s", True),
        Column("harmonic mean, GFLOP/s", "harmonic_mean_per_s", True),
        Column("%peak", "share_of_peak", True),
    )
    rows = tuple(
        (
            *(Cell.of(words[name](total)) for name in named),
            Cell(str(len(total.problems)), float(len(total.problems))),
            _bounded(total.seconds, total.interval, time_text),
            _bounded(total.rate, total.rate_interval, _giga),
            _bounded(total.harmonic_mean, total.harmonic_mean_interval, _giga),
            _bounded(total.peak_share, total.peak_share_interval, percent_text),
        )
        for total in found
    )
    unequal = {
        total.panel
        for total in found
        if any(total.panel == o.panel and total.problems != o.problems for o in found)
    }
    words_shared = "; ".join(f"{name}: {text}" for name, text in shared.items() if text)
    caption = (f"{words_shared}. " if words_shared else "") + (
        "Sum of the times of all problems of a series (of several processes the median); rate in GFLOP/s as total work "
        "over total time; harmonic mean of the rates; %peak: time at the measured compute peak over the time taken. "
        "In brackets the interval of the median of these figures over the processes that measured every problem."
    )
    if unequal:
        names = "; ".join(sorted(", ".join(panel) for panel in unequal))
        caption += f" Series of {names} are not over the same problems: their totals do not compare."
    return Table("totals", " ".join([caption, *report.limits()]), headings, rows)


def _bounded(value: float | None, interval: Interval | None, text: Callable[[float | None], str]) -> Cell:
    """``value`` with its interval in brackets, where it has one."""
    ends = "" if interval is None else f" [{text(interval[0])}, {text(interval[1])}]"
    return Cell(text(value) + ends, value)


def _processes_text(total: Total) -> str:
    """The intervals' confidence, or why there are none."""
    measured = counted(total.processes, "process", "processes")
    if total.interval is not None:
        return f"{100 * CONFIDENCE:g} %, {measured}"
    if not total.processes:
        return "none: no process measured every problem"
    return f"none: {measured} of the {minimum_samples(CONFIDENCE)} needed"


def environment(report: Report) -> Table:
    """The set-up of each side, a row for each factor."""
    described: list[dict[str, str]] = []
    for side in report.sides:
        info = side.infos[0]
        factors = {"Device": side.device or "unknown"}
        if not side.published:
            about = (info.environment.get("device") or {}).items()
            factors |= {name.capitalize(): str(fact) for name, fact in about} | dict(
                describe(info.environment)
            )
        libraries = info.environment.get("libraries") or {}
        for name, facts in libraries.items():
            factors[f"Library {name}"] = ", ".join(f"{key} {value}" for key, value in facts.items())
        by_host = " (the host's)" if accelerator(info) else ""
        for name, used in (
            ("Threads", info.plan.get("threads")),
            ("Processors used", format_cpu_list(info.plan.get("cpus") or ())),
        ):
            factors[name] = f"{used}{by_host}" if used else "unknown"
        factors["Command"] = "; ".join(" ".join(run.command) or "unknown" for run in side.infos)
        described.append(factors)
    labels = dict.fromkeys(label for factors in described for label in factors)
    rows = [[label, *(factors.get(label, "unknown") for factors in described)] for label in labels]
    headings = ["factor", *(side.name for side in report.sides)]
    return plain("environment", "What could explain a number.", headings, rows)


def doubts(report: Report) -> list[str]:
    """What the set-ups themselves say against the numbers, a sentence each."""
    return [
        f"{side.name}: {sentence}" if len(report.sides) > 1 else sentence
        for side in report.sides
        for sentence in dict.fromkeys(doubt for info in side.infos for doubt in doubts_of(info))
    ]


def roofs(report: Report) -> Table:
    """The ceilings of each side's kernels."""
    rows = []
    asked = dict.fromkeys((entry.side, entry.record.kernel) for entry in report.entries)
    for side, kernel in asked:
        for roof in report.roofs(side, kernel):
            unit = "B/s" if roof.bounds == "memory" else "FLOP/s"
            ends = [Cell("n/a", None)] * 2
            if roof.interval is not None:
                ends = [Cell(_giga(end), end) for end in roof.interval]
            name = report.sides[side].name
            words = (Cell.of(text) for text in (name, kernel, roof.unit, roof.origin, unit))
            numbers = (Cell(_giga(value), value) for value in (roof.per_s, roof.median))
            rows.append((*words, *numbers, *ends, Cell.of(roof.how)))
    names = ("run", "kernel", "ceiling", "origin", "unit")
    columns = tuple(Column(name, name) for name in names)
    columns += tuple(
        Column(f"{name}, G", f"{name}_per_s", True) for name in ("highest", "median", "99 % from", "99 % to")
    )
    caption = (
        "Ceilings in 10^9 per second: the highest repetition of each probe, which rates are held against, and the "
        "median of the repetitions with its 99 % interval."
    )
    if not any(roof.origin == "theoretical" for side, kernel in asked for roof in report.roofs(side, kernel)):
        caption += " No theoretical ceilings: the highest clock of the processor, or what its maker states, is unknown."
    return Table("ceilings", caption, (*columns, Column("how", "how")), tuple(rows))


def failures(report: Report) -> Table:
    """Every record that is not ok, with its reason."""
    chosen = [number for number, entry in enumerate(report.entries) if entry.record.status != "ok"]
    headings = (
        "status",
        *(("run",) if len(report.sides) > 1 else ()),
        "problem",
        "library",
        "precision",
        "reason",
    )
    rows = []
    for entry in (report.entries[number] for number in chosen):
        record = entry.record
        side = (report.sides[entry.side].name,) if len(report.sides) > 1 else ()
        what = (entry.problem, library_title(record), record.precision, record.reason or "no reason is known")
        rows.append(tuple(Cell.of(text) for text in (record.status, *side, *what)))
    columns = tuple(Column(heading, heading) for heading in headings)
    caption = (
        f"{len(chosen)} of {len(report.entries)} records are not ok. Unstable ones count in all figures; the others "
        "have no time."
    )
    return Table("failures", caption, columns, tuple(rows), tuple(chosen), filtered=True)


def cautions(report: Report) -> list[str]:
    """The warnings of records, each kind once."""
    tally = Tally()
    for entry in report.entries:
        for warning in entry.record.warnings:
            tally.add("warning", warning, entry.record)
    return [sentence.removeprefix("warning: ") for sentence in tally.sentences()]
