"""Rows of cells as csv and markdown, whatever they are about."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

from microbench.figures import markdown_text

_FORMULA = re.compile(r"[\t\r]|\s*([=@]|[+\-](?![\d.]+(e[+-]?\d+)?$))", re.IGNORECASE)


def write_cells(rows: Sequence[Sequence[Mapping[str, object]]], stream: TextIO) -> None:
    """Writes as csv ``rows``, each the named cells of one column after the other."""
    # Column by column, because records differ in their labels and summaries.
    names = dict.fromkeys(name for cells in zip(*rows, strict=True) for cell in cells for name in cell)
    merged = [{name: value for cells in row for name, value in cells.items()} for row in rows]
    write_csv(merged, list(names), stream)


def write_csv(rows: Iterable[Mapping[str, object]], names: Sequence[str], stream: TextIO) -> None:
    """Writes a header line and ``rows``, each the values of some of the columns ``names``.

    A text that begins like a formula gets an apostrophe in front: a spreadsheet would calculate it.
    """
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(map(_csv_cell, names))
    for row in rows:
        writer.writerow(_csv_cell(row.get(name)) for name in names)


def _csv_cell(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def write_markdown_table(
    caption: str,
    headings: Sequence[str],
    alignment: Sequence[str],
    rows: Iterable[Sequence[str]],
    notes: Iterable[str],
    stream: TextIO,
) -> None:
    """Writes a table of plain texts under its caption, and the notes below it."""
    import tabulate

    cells = [[markdown_text(text) for text in row] for row in rows]
    table = tabulate.tabulate(cells, headings, tablefmt="pipe", disable_numparse=True, colalign=alignment)
    stream.write(f"{markdown_text(caption)}\n\n{table}\n")
    items = "".join(f"- {markdown_text(note)}\n" for note in notes)
    stream.write(f"\n{items}" if items else "")
