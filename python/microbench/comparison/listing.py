"""What published results there are, and the times of one source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from microbench import published
from microbench.comparison.text import aligned, pipe_table
from microbench.figures import (
    ascii_text,
    markdown_text,
    number_text,
    one_line,
    record_title,
    shows_unicode,
    time_text,
    wrapped,
)
from microbench.formats import Format
from microbench.formats import write as write_records
from microbench.sources import PREFIX, Source, load, time_s

_HEADINGS = ("problem", "library", "precision", "mode", "time", "GFLOP/s")
_WIDTHS = (48, 9, 9, 4, -9, -9)


def published_text() -> str:
    """A table of the published results, a device a row."""
    rows = []
    for name in published.names():
        source = load(PREFIX + name)
        records = list(source.summaries())
        rows.append((PREFIX + name, source.device, str(len(records)), source.info.kernel))
    headings = ("source", "device", "times", "kernels")
    return "\n".join(aligned(rows, headings, (24, 28, -5, 40)))


def write_times(source: Source, form: Format, stream: TextIO) -> None:
    """Writes every time of one source, with the rate by microbench's own count of operations."""
    if form in ("csv", "json"):
        write_records(source.records() if form == "json" else source.summaries(), form, stream)
        return
    cells = []
    for record in source.summaries():
        seconds = time_s(record)
        rate = None if seconds is None or not record.flops else record.flops / seconds / 1e9
        title, names = one_line(record_title(record)), (record.library, record.precision, record.mode)
        outcome = (time_text(seconds), number_text(rate)) if seconds is not None else (record.status, "")
        cells.append((title, *map(one_line, names), *outcome))
    markdown = form == "markdown"
    if markdown:
        text = pipe_table(cells, _HEADINGS, _WIDTHS) + "\n\n"
        text += "".join(f"- {markdown_text(limit)}\n" for limit in source.limits)
    else:
        text = "\n".join((*aligned(cells, _HEADINGS, _WIDTHS), "", *_limit_lines(source), ""))
    stream.write(text if shows_unicode(stream) else ascii_text(text))


def _limit_lines(source: Source) -> Iterator[str]:
    for limit in source.limits:
        yield from wrapped(f"Limit of {one_line(source.name)}: {limit}")
