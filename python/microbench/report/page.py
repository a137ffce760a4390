"""A report as one HTML file that needs nothing else: style, script, plotly and data are inside."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Sequence
from importlib import resources
from typing import Any

from microbench.errors import InputError
from microbench.figures import fit, library_title, number_text, one_line, percent_text, time_text
from microbench.report.data import LEVELS, Entry, Report
from microbench.report.interactive import plotly
from microbench.report.sections import Section
from microbench.report.tables import Table

# Quantiles are stored as whole parts of this, relative to the median.
_RESOLUTION = 100_000
_LONG_TAIL = 5.0
_HOVER_WIDTH = 120
# Characters of a column that are not broken into lines.
_WIDEST = 26
# Columns with few different words can be chosen from.
_CHOICES = ("run", "kernel", "mode", "library", "precision", "status")


def page(title: str, sections: Sequence[Section], report: Report) -> str:
    """The HTML of a report.

    Raises:
        InputError: plotly is missing.
    """
    try:
        from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]
    except ImportError as error:
        raise InputError(
            f"an HTML report needs plotly ({error}): pip install 'microbench[report]'"
        ) from error
    figures = [figure for section in sections for figure in section.figures]
    parts = {
        "title": _escaped(title),
        "style": _asset("page.css"),
        "nav": " ".join(f'<a href="#{section.key}">{_escaped(section.title)}</a>' for section in sections),
        "body": "\n".join(line for section in sections for line in _section(section)),
        "data": _json(_data(report) | {"figures": {figure.key: plotly(figure) for figure in figures}}),
        "plotly": get_plotlyjs(),
        "script": _asset("page.js"),
    }
    # In one pass, so that nothing in a part is taken for the place of another.
    return re.sub(r"@(\w+)@", lambda match: parts[match[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return resources.files("microbench.report").joinpath(name).read_text(encoding="utf-8").rstrip("\n")


def _escaped(text: str) -> str:
    return html.escape(one_line(text))


def _json(value: object) -> str:
    """JSON that ends no script element and no string, whatever it holds."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _data(report: Report) -> dict[str, Any]:
    quantiles = [_quantiles(entry) for entry in report.entries]
    return {
        "names": [_name(entry) for entry in report.entries],
        "quantiles": quantiles,
        "resolution": _RESOLUTION,
        "first": next((number for number, known in enumerate(quantiles) if known), None),
    }


def _name(entry: Entry) -> str:
    """What hovering over a point says; a bar begins a new line."""
    record = entry.record
    width = "" if entry.width is None else f" ± {percent_text(entry.width)} %"
    shares = [
        f"{percent_text(share)} % of the {what}"
        for share, what in ((entry.peak_share, "peak"), (entry.roof_share, "roof"))
        if share is not None
    ]
    effective = " (effective)" if entry.effective else ""
    rate = "" if entry.rate is None else f"{number_text(entry.rate / 1e9)} G{entry.unit}{effective}"
    lines = [
        entry.problem,
        f"{entry.series} {record.precision}"
        if record.precision not in entry.series.split()
        else entry.series,
        f"{time_text(entry.time_s)}{width}, {entry.samples} samples"
        if entry.time_s is not None
        else record.reason,
        ", ".join([rate, *shares] if rate else shares),
        f"{record.kernel}, {record.mode}, {library_title(record)}, {record.status}",
    ]
    return " | ".join(fit(one_line(line), _HOVER_WIDTH).replace(" | ", " / ") for line in lines if line)


def _quantiles(entry: Entry) -> dict[str, Any] | None:
    if not entry.quantiles or not entry.time_s:
        return None
    median = entry.time_s
    exact = entry.samples < len(LEVELS)
    kept = entry.quantiles if exact else entry.quantiles[::2]  # a screen shows no more of them
    known: dict[str, Any] = {
        "median": median,
        "exact": exact,
        "long": kept[-1] > _LONG_TAIL * median,
        "steps": [round((value / median - 1) * _RESOLUTION) for value in kept],
    }
    if entry.record.ci_low_s is not None and entry.record.ci_high_s is not None:
        known["interval"] = [entry.record.ci_low_s, entry.record.ci_high_s]
    return known


def _section(section: Section) -> Iterator[str]:
    yield f'<section id="{section.key}"><h2>{_escaped(section.title)}</h2>'
    yield from (f"<p>{_escaped(paragraph)}</p>" for paragraph in section.paragraphs)
    if points := (*section.points, *section.limits()):
        yield '<ul class="points">'
        yield from (f"<li>{_escaped(point)}</li>" for point in points)
        yield "</ul>"
    for figure in section.figures:
        yield f"<figure><h3>{_escaped(figure.title)}</h3>"
        yield f'<div class="plot" id="plot-{figure.key}" data-figure="{figure.key}"></div>'
        yield f"<figcaption>{_escaped(f'{figure.caption} {figure.conditions}')}</figcaption></figure>"
    if section.key == "samples" and section.figures:
        yield '<figure id="distribution"><h3>Distribution of one record</h3>'
        yield '<p class="caption" id="distribution-name"></p><div class="plot" id="distribution-plot"></div>'
        yield (
            "<figcaption>Share of the samples at or below a time, of the record last clicked in a plot or in a table; "
            "dotted: the median, shaded: its interval.</figcaption></figure>"
        )
    for table in section.tables:
        yield from _table(table)
    yield "</section>"


def _table(table: Table) -> Iterator[str]:
    yield f'<p class="caption">{_escaped(table.caption)}</p>'
    if table.filtered:
        yield f'<div class="tools" data-table="{table.key}-table">'
        yield '<input type="search" placeholder="all words of a row" aria-label="search">'
        for place, column in enumerate(table.columns):
            if column.name in _CHOICES:
                name = column.heading
                yield f'<select data-column="{place}" aria-label="{name}"><option value="">any {name}</option></select>'
        yield '<output></output><button type="button">save as CSV</button></div>'
    wide = "wide tall" if table.filtered else "wide"
    yield f'<div class="{wide}" tabindex="0"><table class="sortable" id="{table.key}-table"><thead><tr>'
    for place, column in enumerate(table.columns):
        width = min(_WIDEST, max((len(row[place].text) for row in table.rows), default=0))
        kind = ' class="number"' if column.number else ""
        name, heading = _escaped(column.name), _escaped(column.heading)
        yield f'<th scope="col"{kind} tabindex="0" data-name="{name}" style="--width:{width}ch">{heading}</th>'
    yield "</tr></thead><tbody>"
    naming = next((place for place, column in enumerate(table.columns) if column.name == "problem"), None)
    for number, row in enumerate(table.rows):
        entry = table.entries[number] if table.entries else None
        cells = []
        for place, (column, cell) in enumerate(zip(table.columns, row, strict=True)):
            text = _escaped(cell.text)
            if entry is not None and place == naming:
                text = f'<button type="button" data-entry="{entry}">{text}</button>'
            if column.number:
                value = "" if cell.value is None else f"{cell.value:.6g}"
                cells.append(f'<td data-v="{value}">{text}</td>')
            elif column.name == "state":
                cells.append(f'<td class="state-{cell.text.replace(" ", "-")}">{text}</td>')
            else:
                cells.append(f"<td>{text}</td>")
        place_of = "" if entry is None else f' data-entry="{entry}"'
        yield f"<tr{place_of}>{''.join(cells)}</tr>"
    yield "</tbody></table></div>"
