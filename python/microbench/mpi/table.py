"""Records of collectives as text: the table for terminals, and nccl-tests' columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TextIO

from microbench import kernels
from microbench.collective import ELEMENT_TYPES, FORMS, OPERATIONS, PLACES
from microbench.figures import (
    WIDTH,
    Row,
    ascii_text,
    fit,
    measured,
    number_text,
    one_line,
    percent_text,
    relative_half_width,
    shows_unicode,
    time_text,
    wrapped,
)
from microbench.formats import FORMATS, Notes, write
from microbench.problem import ITEM_BYTES
from microbench.store import Run

_COLUMNS = "{:>10} {:<18} {:<5} {:>8} {:>5} {:>7} {:>7} {:<9} {}"
_HEADINGS = ("bytes", "algorithm", "type", "median", "±%", "algbw", "busbw", "status", "how")
_DEFAULTS = {OPERATIONS[0], PLACES[0], FORMS[0]}
_REPORTED = {
    "window": "from the ranks' common start to the last rank's end",
    "barrier": "of the slowest rank, each from its own start after a barrier",
}
_MEMORY = {
    "cpu": "",
    "cuda": ", buffers in GPUs' memory (launching is in the times; a rank ends when its host sees that its GPU has)",
}
# nccl-tests' names of types and operations, where they are others than here.
_NCCL_TYPES = {"fp64": "double", "fp32": "float", "fp16": "half", "bf16": "bfloat16", "int32": "int32"}


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
    """Writes the table row by row while a run is going on, at most `WIDTH` characters wide.

    Args:
        start: how repetitions started, as in a run's options.
        hosts: number of nodes.
        confidence: of the intervals.
    """

    def __init__(self, stream: TextIO, start: str, hosts: int, confidence: float) -> None:
        self._stream = stream
        self._start = start
        self._hosts = hosts
        self._confidence = confidence
        self._notes = Notes()
        self._begun = False

    def row(self, record: Row) -> None:
        """Writes one row."""
        if not self._begun:
            self._header(record)
            self._begun = True
        self._notes.add(record)
        names = (message_bytes(record), algorithm_title(record), record.precision)
        if measured(record):
            rates = (number_text(None if rate is None else rate / 1e9) for rate in bandwidths(record))
            width = percent_text(relative_half_width(record))
            status = record.status + "*" * bool(record.warnings)
            line = _COLUMNS.format(*names, time_text(record.median_s), width, *rates, status, how(record))
        else:
            reason = f"{how(record)} {record.status}: {record.reason}".strip()
            line = f"{names[0]:>10} {names[1]:<18} {names[2]:<5} {reason}"
        self._write(one_blank(line))

    def finish(self) -> None:
        """Writes the notes below the table."""
        notes = [line for note in self._notes.lines() for line in wrapped(note)]
        self._write(*([""] if notes else []), *notes)

    def _header(self, record: Row) -> None:
        ranks = int(record.problem["ranks"])
        nodes = f"{self._hosts} host{'s' * (self._hosts != 1)}"
        caption = (
            f"{record.kernel} of {ranks} rank{'s' * (ranks != 1)} on {nodes}{_MEMORY[record.backend]}. "
            f"Median time {_REPORTED[self._start]}, with its "
            f"{100 * self._confidence:g}% interval (larger side, in % of the median); algorithm and bus bandwidth "
            "in GB/s at the median, as nccl-tests defines them; no element was wrong where a row shows a time."
        )
        self._write(*wrapped(caption, indent=""), _COLUMNS.format(*_HEADINGS), "-" * WIDTH)

    def _write(self, *lines: str) -> None:
        if not shows_unicode(self._stream):
            lines = tuple(fit(ascii_text(line), dots="...") for line in lines)
        self._stream.write("".join(fit(line.rstrip()) + "\n" for line in lines))
        self._stream.flush()


def write_run(run: Run, form: str, stream: TextIO) -> None:
    """Writes a whole run of a collective in any of the formats, ``nccl`` among them."""
    if form == "nccl":
        write_nccl(run.summaries(), stream)
    elif form == "table":
        options = run.info.options
        printer = CollectivePrinter(stream, options["start"], run.info.plan["hosts"], options["confidence"])
        for record in run.summaries():
            printer.row(record)
        printer.finish()
    elif form in FORMATS:
        write(run.records() if form == "json" else run.summaries(), form, stream)


def one_blank(line: str) -> str:
    """The line without control characters; its blanks stay, they align it."""
    return "".join(char if char.isprintable() else " " for char in line)


def algorithm_title(record: Row) -> str:
    """The algorithm where one was asked for, otherwise whose choice it was."""
    return one_line(record.library if record.algorithm == "auto" else record.algorithm)


def how(record: Row) -> str:
    """Operation, place and form where they are not the usual ones, and the root where it is not rank 0."""
    words = [str(record.problem[name]) for name in ("op", "place", "form") if name in record.problem]
    root = [f"root={record.problem['root']}"] if record.problem.get("root") else []
    return " ".join([*(word for word in words if word not in _DEFAULTS), *root])


def write_nccl(records: Iterable[Row], stream: TextIO) -> None:
    """Writes ``records`` under nccl-tests' headings: times in microseconds, bandwidths in GB/s, 10^9 bytes.

    Out of place and in place stand side by side, where the run has both of what is otherwise the same. The time is the
    median; ``#wrong`` counts the wrong elements of exact inputs, N/A where that is unknown.
    """
    rows: dict[tuple[object, ...], dict[str, Row]] = {}
    for record in records:
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
        named = (message_bytes(first), first.problem["elements"], _NCCL_TYPES[first.precision], redop, root)
        lines.append(_nccl(*named, *figures, f"# {algorithm_title(first)}"))
    stream.write("".join(line.rstrip() + "\n" for line in lines))


def _nccl(*cells: object) -> str:
    return "{:>10} {:>10} {:>8} {:>5} {:>4} {:>9} {:>7} {:>7} {:>6} {:>9} {:>7} {:>7} {:>6}  {}".format(
        *cells
    )


def _nccl_figures(record: Row | None) -> tuple[str, str, str, str]:
    if record is None or not measured(record) or record.median_s is None:
        return ("N/A",) * 4
    algorithm, bus = (None if rate is None else f"{rate / 1e9:.2f}" for rate in bandwidths(record))
    # What may be used was right: see the status of records.
    return f"{1e6 * record.median_s:.2f}", algorithm or "N/A", bus or "0.00", "0"
