"""Records as text: the table for terminals (as a run goes on, or whole), csv, markdown and json.

`COLUMNS` says once what every column is: the exact values that csv gets and the short text that a table shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TextIO, get_args

import msgspec

from microbench.figures import (
    WIDTH,
    Row,
    ascii_text,
    choices,
    error_text,
    fit,
    flat_columns,
    flops_per_s,
    layout_text,
    library_title,
    measured,
    number_text,
    one_line,
    peak_share,
    percent_text,
    record_title,
    relative_half_width,
    sample_count,
    shown_facts,
    shows_unicode,
    threads_phrase,
    time_text,
    wrapped,
)
from microbench.problem import PRECISIONS, Scalar
from microbench.store import encode
from microbench.summarise import Tally
from microbench.writers import write_cells, write_markdown_table

Format = Literal["table", "csv", "json", "markdown"]
FORMATS: tuple[Format, ...] = get_args(Format)

_MODES = {
    "cold": "cold (last-level cache flushed before each sample)",
    "hot": "hot (same buffers, back to back)",
    "graph": "graph (replayed from a CUDA graph)",
}
_SHORT_PRECISIONS = {"fp16_in_fp32_math": "fp16/32", "fp16_acc16": "fp16/16"}


class Conditions(NamedTuple):
    """What all rows under one caption share; ``confidence`` is None while nothing was measured."""

    kernel: str
    backend: str
    mode: str
    threads: int
    confidence: float | None

    @classmethod
    def of(cls, record: Row, confidence: float | None = None) -> Conditions:
        """Those of ``record``, with ``confidence`` where the record has none: it was not measured."""
        if record.confidence is not None:
            confidence = record.confidence
        return cls(record.kernel, record.backend, record.mode, record.threads, confidence)

    def caption(self) -> str:
        """What must be known to read the rows."""
        layouts = choices(self.kernel).layouts
        layout = f", {layout_text(layouts[0])} unless a row says otherwise" if len(layouts) > 1 else ""
        conditions = (
            f"{self.kernel} on {self.backend}",
            threads_phrase(self.backend, self.threads),
            _MODES.get(self.mode, self.mode),
        )
        interval = "interval" if self.confidence is None else f"{100 * self.confidence:g}% interval"
        return (
            f"{', '.join(filter(None, conditions))}{layout}. Median time with its {interval} (larger side, in % of "
            "the median); GFLOP/s and % of the measured peak at the median; largest error in % of the tolerance."
        )


def _giga(value: float | None) -> float | None:
    return None if value is None else value / 1e9


def _marks(record: Row) -> str:
    return "*" * bool(record.warnings) + "+" * (record.samples_per_batch > 1)


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        heading: over the column in tables; "": not in tables.
        width: characters in a terminal; negative: aligned right.
        text: what a table shows.
        cells: the exact values by the names that csv gives them, units included.
    """

    heading: str
    width: int
    text: Callable[[Row], str]
    cells: Callable[[Row], Mapping[str, Scalar | None]]


COLUMNS: tuple[Column, ...] = (
    Column(
        "problem",
        35,
        record_title,
        lambda record: {
            "kernel": record.kernel,
            **flat_columns(record),
            "pass": record.pass_,
            "layout": record.layout,
        },
    ),
    Column(
        "library",
        8,
        library_title,
        lambda record: {"library": record.library, "algorithm": record.algorithm},
    ),
    Column(
        "precision",
        9,
        lambda record: _SHORT_PRECISIONS.get(record.precision, record.precision),
        lambda record: {"precision": record.precision},
    ),
    Column(
        "",
        0,
        lambda _: "",
        lambda record: {
            "backend": record.backend,
            "mode": record.mode,
            "threads": record.threads,
            "repeat": record.repeat,
            "index": record.index,
        },
    ),
    Column(
        "median",
        -8,
        lambda record: time_text(record.median_s),
        lambda record: {
            "median_s": record.median_s,
            "samples": sample_count(record),
            "samples_per_batch": record.samples_per_batch,
            **{f"summary_{name}": value for name, value in record.summary.items()},
        },
    ),
    Column(
        "±%",
        -5,
        lambda record: percent_text(relative_half_width(record)),
        lambda record: {
            "ci_low_s": record.ci_low_s,
            "ci_high_s": record.ci_high_s,
            "confidence": record.confidence,
            "effective_n": record.effective_n,
        },
    ),
    Column(
        "GFLOP/s",
        -7,
        lambda record: number_text(_giga(flops_per_s(record))),
        lambda record: {
            "flops": record.flops,
            **record.counts,
            "bytes": record.bytes,
            "gflops_per_s": _giga(flops_per_s(record)),
        },
    ),
    Column(
        "%peak",
        -5,
        lambda record: percent_text(peak_share(record)),
        lambda record: {
            "peak_flops_per_s": record.peak_flops_per_s,
            "peak_percent": None if (share := peak_share(record)) is None else 100 * share,
        },
    ),
    Column(
        "%tol",
        -5,
        error_text,
        lambda record: {
            "max_error": record.max_error,
            "frobenius_error": record.frobenius_error,
            "tolerance": record.tolerance,
        },
    ),
    Column(
        "status",
        10,
        lambda record: record.status + _marks(record),
        lambda record: {
            "status": record.status,
            "reason": record.reason,
            "warnings": "; ".join(record.warnings),
            "workspace_bytes": record.workspace_bytes,
            **msgspec.structs.asdict(shown_facts(record)),
            "first_execution_s": record.first_execution_s,
            "started_at": record.started_at,
            "measuring_s": record.measuring_s,
        },
    ),
)
_SHOWN = [column for column in COLUMNS if column.heading]
_NAMING = 3  # the first columns shown say what was measured, the others what came out


class Notes:
    """What stands below a table: abbreviations, and the full reasons of all that is not ok.

    Args:
        summarised: a summary follows, which has the warnings; otherwise they are among the notes.
    """

    def __init__(self, *, summarised: bool = False) -> None:
        self._legend: dict[str, None] = {}
        self._reasons = Tally()
        self._summarised = summarised

    def add(self, record: Row) -> None:
        """Takes note of a row shown."""
        if record.precision in _SHORT_PRECISIONS:
            name = record.precision
            self.explain(f"{_SHORT_PRECISIONS[name]}: {name}, {PRECISIONS[name].note}")
        if record.warnings and self._summarised:
            self.explain("*: with warnings; their text is in the summary, csv and json")
        elif record.warnings:
            self.explain("*: with warnings")
            for warning in record.warnings:
                self._reasons.add("warning", warning, record)
        if record.samples_per_batch > 1:
            self.explain("+: each sample is the mean of several executions, which hides tails")
        if record.repeat:
            self.explain("#1, #2 ...: measured again in a fresh process")
        if record.status != "ok":
            self._reasons.add(record.status, record.reason, record)

    def explain(self, note: str) -> None:
        """Adds a note on what the rows show, once."""
        self._legend[note] = None

    def lines(self) -> list[str]:
        """The notes, a paragraph each."""
        return [*self._legend, *self._reasons.sentences()]


class RowPrinter:
    """Writes the table row by row while a run is going on, at most `WIDTH` characters wide.

    A record that was not measured has its status and reason in place of the figures; one whose names do not
    fit into their columns has them on a line of their own.

    Args:
        confidence: stated in the caption until a record says what its own is.
    """

    def __init__(self, stream: TextIO, confidence: float | None = None) -> None:
        self._stream = stream
        self._unicode = shows_unicode(stream)
        self._confidence = confidence
        self._conditions: Conditions | None = None
        self._notes = Notes(summarised=True)

    def row(self, record: Row) -> None:
        """Writes one row, under a new caption where its conditions are not those of the row before."""
        self._notes.add(record)
        conditions = Conditions.of(record, self._confidence)
        lines = []
        if conditions != self._conditions:
            lines = [*([""] if self._conditions else []), *self._header(conditions)]
            self._conditions, self._confidence = conditions, conditions.confidence
        names = self._texts(record, _SHOWN[:_NAMING])
        if any(len(name) > column.width for name, column in zip(names, _SHOWN, strict=False)):
            lines += wrapped("  ".join(names))
            names = [""] * _NAMING
        if measured(record):
            outcome = self._cells(self._texts(record, _SHOWN[_NAMING:]), _SHOWN[_NAMING:])
        else:
            outcome = self._shown(f"{_SHOWN[-1].text(record)}: {record.reason}")
        lines.append(f"{self._cells(names, _SHOWN[:_NAMING])} {outcome}")
        self._write(lines)

    def finish(self) -> None:
        """Writes the notes below the table; a further row would begin a new one."""
        notes = [line for note in self._notes.lines() for line in wrapped(self._shown(note))]
        if notes:
            self._write(["", *notes])
        self._conditions, self._notes = None, Notes(summarised=True)

    def _header(self, conditions: Conditions) -> list[str]:
        headings = self._cells([self._shown(column.heading) for column in _SHOWN], _SHOWN)
        return [*wrapped(self._shown(conditions.caption()), indent=""), headings, "-" * WIDTH]

    def _texts(self, record: Row, columns: Sequence[Column]) -> list[str]:
        return [self._shown(column.text(record)) for column in columns]

    def _cells(self, texts: list[str], columns: Sequence[Column]) -> str:
        return " ".join(
            self._fit(text, abs(column.width)).rjust(-column.width).ljust(column.width)
            for text, column in zip(texts, columns, strict=True)
        )

    def _shown(self, text: str) -> str:
        return one_line(text) if self._unicode else ascii_text(one_line(text))

    def _fit(self, text: str, width: int) -> str:
        return fit(text, width, "…" if self._unicode else "...")

    def _write(self, lines: Sequence[str]) -> None:
        self._stream.write("".join(self._fit(line.rstrip(), WIDTH) + "\n" for line in lines))
        self._stream.flush()


def write(records: Iterable[Row], form: Format, stream: TextIO) -> None:
    """Writes ``records`` whole; those of ``Run.summaries`` do for all formats but ``json``.

    Tables (``table``, ``markdown``) put all rows measured under the same conditions below one caption. ``csv``
    has the exact values of `COLUMNS` by `microbench.writers.write_csv`, without samples; open its file with
    ``newline=""``. ``json`` is an array of the records with the fields that they have.

    Raises:
        ValueError: a record holds NaN or an infinity (``json``).
    """
    _WRITERS[form](records, stream)


def _write_table(records: Iterable[Row], stream: TextIO) -> None:
    for number, (conditions, rows) in enumerate(_tables(records).items()):
        stream.write("\n" * (number > 0))
        printer = RowPrinter(stream, conditions.confidence)
        for row in rows:
            printer.row(row)
        printer.finish()


def _write_json(records: Iterable[Row], stream: TextIO) -> None:
    separator = "[\n"
    for record in records:
        stream.write(separator + encode(record).decode())
        separator = ",\n"
    stream.write("[]\n" if separator == "[\n" else "\n]\n")


def _write_csv(records: Iterable[Row], stream: TextIO) -> None:
    write_cells([[column.cells(record) for column in COLUMNS] for record in records], stream)


def _write_markdown(records: Iterable[Row], stream: TextIO) -> None:
    headings = [column.heading for column in _SHOWN]
    alignment = ["right" if column.width < 0 else "left" for column in _SHOWN]
    for number, (conditions, rows) in enumerate(_tables(records).items()):
        notes = Notes()
        cells = []
        for record in rows:
            notes.add(record)
            texts = [column.text(record) for column in _SHOWN]
            if not measured(record):
                texts[_NAMING:-1] = [""] * (len(_SHOWN) - _NAMING - 1)
            cells.append(texts)
        stream.write("\n" * (number > 0))
        write_markdown_table(conditions.caption(), headings, alignment, cells, notes.lines(), stream)


def _tables(records: Iterable[Row]) -> dict[Conditions, list[Row]]:
    """Rows by conditions, in order of appearance; what was not measured goes with what was."""
    rows = list(records)
    confidences: dict[Conditions, float] = {}
    for row in rows:
        if row.confidence is not None:
            confidences.setdefault(Conditions.of(row)._replace(confidence=None), row.confidence)
    tables: dict[Conditions, list[Row]] = {}
    for row in rows:
        tables.setdefault(Conditions.of(row, confidences.get(Conditions.of(row))), []).append(row)
    return tables


_WRITERS: dict[Format, Callable[[Iterable[Row], TextIO], None]] = {
    "table": _write_table,
    "csv": _write_csv,
    "json": _write_json,
    "markdown": _write_markdown,
}
