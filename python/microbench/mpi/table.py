"""Records of collectives as text: the table for terminals and markdown, csv, and nccl-tests' columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from microbench import kernels
from microbench.collective import ELEMENT_TYPES, FORMS, OPERATIONS, PLACES
from microbench.figures import (
    WIDTH,
    Row,
    ascii_text,
    fit,
    library_title,
    measured,
    number_text,
    one_line,
    percent_text,
    relative_half_width,
    shows_unicode,
    time_text,
    wrapped,
)
from microbench.formats import COLUMNS, FORMATS, Notes, write
from microbench.mpi.plan import LOSSY
from microbench.problem import ITEM_BYTES, Scalar
from microbench.record import Record
from microbench.store import Run, RunInfo
from microbench.writers import write_cells, write_markdown_table

_COLUMNS = "{:>10} {:<18} {:<5} {:>8} {:>5} {:>7} {:>7} {:<9} {}"
_HEADINGS = ("bytes", "algorithm", "type", "median", "±%", "algbw", "busbw", "status", "how")
_ALIGNMENT = ("right", "left", "left", *("right",) * 4, "left", "left")
_HOW = len(_COLUMNS.format(*_HEADINGS[:-1], ""))  # where the last column begins
_DEFAULTS = {OPERATIONS[0], PLACES[0], FORMS[0]}
_REPORTED = {
    "window": "from the ranks' common start to the last rank's end (window start)",
    "barrier": "of the slowest rank, each from its own start after a barrier (barrier start)",
}
_MEMORY = {
    "cpu": "",
    "cuda": ", buffers in GPUs' memory (launching is in the times; a rank ends when its host sees that its GPU has)",
}
# nccl-tests' names of types and operations, where they are others than here.
_NCCL_TYPES = {"fp64": "double", "fp32": "float", "fp16": "half", "bf16": "bfloat16", "int32": "int32"}
_LOSSY_NOTE = (
    "error, of algorithms that lose something: norm of the error over the norm of the result, of dense random "
    "numbers; on inputs of which they lose nothing no element was wrong"
)


@dataclass(frozen=True)
class Conditions:
    """What all rows of a run share.

    Attributes:
        start: how repetitions started, as in a run's options.
        hosts: number of nodes.
        confidence: of the intervals.
        libraries: what MPI, and NCCL, say of themselves.
    """

    start: str
    hosts: int
    confidence: float
    libraries: tuple[str, ...] = ()

    @classmethod
    def of(cls, info: RunInfo) -> Conditions:
        """Those of a run."""
        found = info.environment.get("libraries", {})
        titles = {"mpi": "", "nccl": "NCCL "}
        said = [
            title + str(found[name]["version"]).split(", ", 1)[0]
            for name, title in titles.items()
            if name in found
        ]
        return cls(info.options["start"], info.plan["hosts"], info.options["confidence"], tuple(said))

    def caption(self, record: Row) -> str:
        """What must be known to read the rows, ``record``'s among them."""
        ranks = int(record.problem["ranks"])
        where = [f"{self.hosts} host{'s' * (self.hosts != 1)}", *self.libraries]
        return (
            f"{record.kernel} of {ranks} rank{'s' * (ranks != 1)} on {', '.join(where)}{_MEMORY[record.backend]}. "
            f"Median time {_REPORTED[self.start]}, with its "
            f"{100 * self.confidence:g}% interval (larger side, in % of the median); algorithm and bus bandwidth "
            "in GB/s at the median, as nccl-tests defines them; where a row of an algorithm that loses nothing shows "
            "a time, no element was wrong."
        )

    def cells(self, record: Record) -> dict[str, Scalar | None]:
        """What csv gives of collectives beside the columns of all kernels, by the names that it has there."""
        algorithm, bus = bandwidths(record)
        over, overlap = record.facts.get("over_ranks", {}), record.facts.get("overlap", {})
        return {
            "start": self.start,
            "hosts": self.hosts,
            "message_bytes": message_bytes(record),
            "algorithm_bandwidth_bytes_per_s": algorithm,
            "bus_bandwidth_bytes_per_s": bus,
            "wrong_elements": record.facts.get("wrong_elements"),
            **{f"over_ranks_{name}": over.get(name) for name in ("min_s", "median_s", "mean_s", "max_s")},
            **{
                f"overlap_{name}": overlap.get(name)
                for name in ("share", "share_low", "share_high", "alone_s", "compute_s", "together_s")
            },
        }


class _Notes(Notes):
    """Those of all kernels, and what only collectives show."""

    def __init__(self, conditions: Conditions) -> None:
        super().__init__()
        self._confidence = conditions.confidence

    def add(self, record: Row) -> None:
        super().add(record)
        if loses(record) and measured(record):
            self.explain(_LOSSY_NOTE)
        if record.problem.get("form") == "nonblocking" and measured(record):
            self.explain(
                "overlap: (alone + computation - together) / min(alone, computation), with the "
                f"{100 * self._confidence:g}% interval of the median together, alone and computation taken as measured"
            )


def message_bytes(record: Row) -> int:
    """nccl-tests' size of the record's problem, in bytes."""
    return int(record.problem["elements"]) * ITEM_BYTES[ELEMENT_TYPES[record.precision].storage]


def bandwidths(record: Row) -> tuple[float | None, float | None]:
    """Algorithm and bus bandwidth at the median, in bytes per second, as nccl-tests defines them.

    None where there is no usable time; the latter also where one rank sends nothing.
    """
    if record.median_s is None or not measured(record):
        return None, None
    algorithm = message_bytes(record) / record.median_s
    problem_type: Any = kernels.kernel(record.kernel).PROBLEM
    share: float | None = problem_type(elements=1).bus_share(int(record.problem["ranks"]))
    return algorithm, None if share is None else share * algorithm


class CollectivePrinter:
    """Writes the table row by row while a run is going on, at most `WIDTH` characters wide."""

    def __init__(self, stream: TextIO, conditions: Conditions) -> None:
        self._stream = stream
        self._conditions = conditions
        self._notes = _Notes(conditions)
        self._begun = False

    def row(self, record: Record) -> None:
        """Writes one row."""
        if not self._begun:
            self._header(record)
            self._begun = True
        self._notes.add(record)
        *texts, last = _texts(record)
        if measured(record):
            first, *others = textwrap.wrap(last, WIDTH - _HOW) or [""]
            lines = [_COLUMNS.format(*texts, first), *(" " * _HOW + other for other in others)]
        else:
            reason = f"{how(record)} {record.status}: {record.reason}".strip()
            lines = [f"{texts[0]:>10} {texts[1]:<18} {texts[2]:<5} {reason}"]
        self._write(*map(one_blank, lines))

    def finish(self) -> None:
        """Writes the notes below the table."""
        notes = [line for note in self._notes.lines() for line in wrapped(note)]
        self._write(*([""] if notes else []), *notes)

    def _header(self, record: Row) -> None:
        caption = wrapped(self._conditions.caption(record), indent="")
        self._write(*caption, _COLUMNS.format(*_HEADINGS), "-" * WIDTH)

    def _write(self, *lines: str) -> None:
        if not shows_unicode(self._stream):
            lines = tuple(fit(ascii_text(line), dots="...") for line in lines)
        self._stream.write("".join(fit(line.rstrip()) + "\n" for line in lines))
        self._stream.flush()


def write_run(run: Run, form: str, stream: TextIO) -> None:
    """Writes a whole run of a collective in any of the formats, ``nccl`` among them."""
    conditions = Conditions.of(run.info)
    if form == "nccl":
        write_nccl(run.records(), conditions, stream)
    elif form == "table":
        printer = CollectivePrinter(stream, conditions)
        for record in run.records():
            printer.row(record)
        printer.finish()
    elif form == "markdown":
        _write_markdown(run.records(), conditions, stream)
    elif form == "csv":
        cells = [
            [*(column.cells(record) for column in COLUMNS), conditions.cells(record)]
            for record in run.records()
        ]
        write_cells(cells, stream)
    elif form in FORMATS:
        write(run.records(), form, stream)


def _write_markdown(records: Iterable[Record], conditions: Conditions, stream: TextIO) -> None:
    notes, rows, caption = _Notes(conditions), [], ""
    for record in records:
        notes.add(record)
        rows.append(_texts(record))
        caption = caption or conditions.caption(record)
    if rows:
        write_markdown_table(caption, _HEADINGS, _ALIGNMENT, rows, notes.lines(), stream)


def _texts(record: Record) -> list[str]:
    """A row's cells; figures are empty where there are none."""
    names = [str(message_bytes(record)), algorithm_title(record), record.precision]
    if not measured(record):
        return [*names, *[""] * 4, record.status, how(record)]
    rates = [number_text(None if rate is None else rate / 1e9) for rate in bandwidths(record)]
    times = [time_text(record.median_s), percent_text(relative_half_width(record))]
    status = record.status + "*" * bool(record.warnings)
    return [*names, *times, *rates, status, " ".join([how(record), *_beside(record)]).strip()]


def _beside(record: Record) -> list[str]:
    """What came out beside the time: the error of algorithms that lose something, and overlap."""
    said = []
    if loses(record) and record.frobenius_error is not None:
        said.append(f"error {record.frobenius_error:.2g}")
    if overlap := record.facts.get("overlap"):
        low, high = overlap.get("share_low"), overlap.get("share_high")
        interval = "" if low is None or high is None else f"[{100 * low:.0f}, {100 * high:.0f}] "
        said.append(f"overlap {100 * overlap['share']:.0f} {interval}%")
    return said


def loses(record: Row) -> bool:
    """Whether the record's algorithm loses something, so that right elements say nothing of its error."""
    return record.algorithm in LOSSY.get(record.kernel, ())


def one_blank(line: str) -> str:
    """The line without control characters; its blanks stay, they align it."""
    return "".join(char if char.isprintable() else " " for char in line)


def algorithm_title(record: Row) -> str:
    """The algorithm where one was asked for, otherwise whose choice it was."""
    return one_line(record.library if record.algorithm == "auto" else record.algorithm)


def how(record: Row) -> str:
    """Operation, place and form where they are not the usual ones, root where not rank 0, repeat after the first."""
    words = [str(record.problem[name]) for name in ("op", "place", "form") if name in record.problem]
    root = [f"root={record.problem['root']}"] if record.problem.get("root") else []
    repeat = [f"#{record.repeat}"] * bool(record.repeat)
    return " ".join([*(word for word in words if word not in _DEFAULTS), *root, *repeat])


def write_nccl(records: Iterable[Record], conditions: Conditions, stream: TextIO) -> None:
    """Writes ``records`` under nccl-tests' headings: times in microseconds, bandwidths in GB/s, 10^9 bytes.

    Out of place and in place stand side by side, where the run has both of what is otherwise the same. The time is the
    median; ``#wrong`` counts the wrong elements of exact inputs, N/A where that is unknown or the algorithm loses
    something. Comments, which begin with ``#``, say what nccl-tests has no column for.
    """
    rows: dict[tuple[object, ...], dict[str, Record]] = {}
    notes = _Notes(conditions)
    comments: list[str] = []
    for record in records:
        comments = comments or wrapped(conditions.caption(record), indent="")
        notes.add(record)
        place = str(record.problem.get("place", PLACES[0]))
        same = {name: value for name, value in record.problem.items() if name != "place"}
        key = (
            record.kernel,
            record.library,
            record.algorithm,
            record.precision,
            record.repeat,
            *same.items(),
        )
        rows.setdefault(key, {})[place] = record
    lines = [
        *(f"# {line}" for line in comments),
        "#" + " " * 50 + "out-of-place" + " " * 22 + "in-place",
        _nccl(
            "#     size", "count", "type", "redop", "root", *(2 * ("time", "algbw", "busbw", "#wrong")), ""
        ),
        _nccl("#      (B)", "(elements)", "", "", "", *(2 * ("(us)", "(GB/s)", "(GB/s)", "")), ""),
    ]
    for places in rows.values():
        first = next(iter(places.values()))
        redop = str(first.problem.get("op", "none"))
        root = first.problem.get("root", -1)
        figures = [text for place in PLACES for text in _nccl_figures(places.get(place))]
        named = (message_bytes(first), _nccl_count(first), _NCCL_TYPES[first.precision], redop, root)
        lines.append(_nccl(*named, *figures, one_blank(_nccl_comment(places))))
    lines += [f"# {line}" for note in notes.lines() for line in wrapped(note)]
    if not shows_unicode(stream):
        lines = [ascii_text(line) for line in lines]
    stream.write("".join(line.rstrip() + "\n" for line in lines))


def _nccl(*cells: object) -> str:
    return "{:>10} {:>10} {:>8} {:>5} {:>4} {:>9} {:>7} {:>7} {:>6} {:>9} {:>7} {:>7} {:>6}  {}".format(
        *cells
    )


def _nccl_count(record: Row) -> int:
    """Elements as nccl-tests counts them: of each rank's share, where it has one."""
    problem_type: Any = kernels.kernel(record.kernel).PROBLEM
    return int(record.problem["elements"]) // (int(record.problem["ranks"]) if problem_type.shares else 1)


def _nccl_comment(places: Mapping[str, Record]) -> str:
    """Algorithm and form of a row, then of each place the status, the interval and what else came out."""
    first = next(iter(places.values()))
    form = str(first.problem.get("form", FORMS[0]))
    repeat = f"#{first.repeat}" if first.repeat else ""
    named = " ".join(filter(None, [library_title(first), form if form != FORMS[0] else "", repeat]))
    said = []
    for place in filter(places.get, PLACES):
        record = places[place]
        outcome = [record.status + "*" * bool(record.warnings)]
        if measured(record):
            width = relative_half_width(record)
            outcome += ["no interval" if width is None else f"±{percent_text(width)} %", *_beside(record)]
        said.append((f"{place} " if len(places) > 1 else "") + ", ".join(outcome))
    return f"# {named}: {'; '.join(said)}"


def _nccl_figures(record: Row | None) -> tuple[str, str, str, str]:
    if record is None or not measured(record) or record.median_s is None:
        return ("N/A",) * 4
    algorithm, bus = (None if rate is None else f"{rate / 1e9:.2f}" for rate in bandwidths(record))
    # What may be used was right: see the status of records.
    wrong = "N/A" if loses(record) else "0"
    return f"{1e6 * record.median_s:.2f}", algorithm or "N/A", bus or "0.00", wrong
