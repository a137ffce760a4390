"""Figures as plotly draws them, as plain JSON values."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from microbench.report.figure import Axis, Figure, Series
from microbench.report.style import colour, dash, symbol

_HEIGHT = 460
_ROW = 17
_FRAME = 120
# Over so wide a range only powers of ten are named.
_DECADES = 100
_INK = "#808080"  # the page's style sheet gives it the colour of the text


def plotly(figure: Figure) -> dict[str, Any]:
    """``figure`` as ``{"data": ..., "layout": ...}``.

    Each point's ``customdata`` is the place of its record in the report, from which the page makes what is shown to
    whoever hovers over it. plotly reads markup in texts: all are escaped here.
    """
    shown: set[str] = set()
    traces = []
    for series in figure.series:
        traces += _traces(series, figure, first=series.name not in shown)
        shown.add(series.name)
    layout = {
        "height": _FRAME + max(_HEIGHT - _FRAME, _ROW * figure.rows),
        "margin": {"l": 60, "r": 20, "t": 10, "b": 50},
        "hovermode": "closest",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": _axis(figure.x, [value for series in figure.series for value in series.x]),
        "yaxis": _axis(figure.y, [value for series in figure.series for value in series.y]),
        "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
    }
    return {"data": traces, "layout": layout}


def _traces(series: Series, figure: Figure, *, first: bool) -> list[dict[str, Any]]:
    name = _text(series.name)
    trace: dict[str, Any] = {
        "name": name,
        "legendgroup": name,
        "showlegend": first and not series.label and series.kind != "violin",
        "x": _numbers(series.x),
        "y": _numbers(series.y),
        "hoverinfo": "text",
    }
    if series.entries:
        trace["customdata"] = list(series.entries)
    if series.kind == "violin":
        return [trace | _violin(series)]
    if series.kind == "points":
        return [trace | _points(series, figure)]
    line: dict[str, Any] = {"color": colour(series.style) or _INK, "width": 1.5}
    line["dash"] = dash(series.style, series.dashed)[0]
    if series.kind == "steps":
        return [trace | {"type": "scatter", "mode": "lines", "line": line | {"shape": "hv"}}]
    traces = []
    if series.band:
        lower = {
            "type": "scatter",
            "mode": "lines",
            "line": {"width": 0},
            "showlegend": False,
            "hoverinfo": "skip",
        }
        traces.append(lower | {"x": _numbers(series.x), "y": _numbers(series.band)})
        trace |= {"fill": "tonexty", "fillcolor": "rgba(128,128,128,0.25)"}
    label = _text(series.label)
    start = series.label_at == "start"
    texts = [label, ""] if start else ["", label]
    text: dict[str, Any] = {"text": texts, "textposition": "bottom right" if start else "top left"}
    return [
        *traces,
        trace | text | {"type": "scatter", "mode": "lines+text", "line": line, "hovertext": name},
    ]


def _points(series: Series, figure: Figure) -> dict[str, Any]:
    filled = symbol(series.style)[0]
    symbols: Any = [f"{filled}-open" if hollow else filled for hollow in series.hollow] or filled
    if len(set(symbols)) == 1:
        symbols = symbols[0]
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "marker": {"color": colour(series.style), "symbol": symbols, "size": 7, "opacity": 0.85},
    }
    if any(end is not None for end in series.low):
        middle = series.x if figure.interval_axis == "x" else series.y
        trace[f"error_{figure.interval_axis}"] = {
            "type": "data",
            "symmetric": False,
            "thickness": 1,
            "width": 2,
            "array": _lengths(series.high, middle),
            "arrayminus": _lengths(middle, series.low),
        }
    return trace


def _lengths(upper: Iterable[float | None], lower: Iterable[float | None]) -> list[float | None]:
    pairs = zip(upper, lower, strict=True)
    return _numbers(None if high is None or low is None else max(0.0, high - low) for high, low in pairs)


def _violin(series: Series) -> dict[str, Any]:
    return {
        "type": "violin",
        "orientation": "h",
        "line": {"color": colour(series.style), "width": 1},
        "bandwidth": series.bandwidth,
        "box": {"visible": True, "width": 0.15},
        "points": False,
        "spanmode": "hard",
        "width": 0.9,
        "hoverinfo": "x+name",
        "hoverlabel": {"namelength": -1},
    }


def _axis(axis: Axis, values: Sequence[float]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "title": {"text": _text(axis.title)},
        "type": "log" if axis.log else "linear",
        "automargin": True,
        "gridcolor": "rgba(128,128,128,0.25)",
        "zeroline": False,
    }
    if axis.ticks is not None:
        shown |= {
            "tickmode": "array",
            "tickvals": [place for place, _ in axis.ticks],
            "ticktext": [_text(text).replace("\n", "<br>") for _, text in axis.ticks],
        }
    elif axis.share:
        shown |= {"tickformat": ".0%", "range": [-0.01, 1.01]}
    elif axis.log:
        shown |= {"ticksuffix": axis.suffix, "minor": {"ticks": "inside", "dtick": "D1", "ticklen": 4}}
        shown |= {"exponentformat": "none" if axis.plain else "SI", "minexponent": 0}
        if max(values) > _DECADES * min(values):
            shown["dtick"] = 1
    return shown


def _text(text: str) -> str:
    # Between two dollars plotly would look for a formula.
    return html.escape(text, quote=False).replace("$", "&#36;")


def _numbers(values: Iterable[float | None]) -> list[float | None]:
    """Five digits, more than a screen can show: a page of thousands of records stays small."""
    return [None if value is None else float(f"{value:.5g}") for value in values]
