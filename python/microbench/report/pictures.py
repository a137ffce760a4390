"""Figures as matplotlib draws them: SVG, PDF and PNG for publications."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microbench.errors import InputError
from microbench.figures import fit
from microbench.report.figure import Axis, Figure, Series
from microbench.report.style import colour, dash, symbol

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("svg", "pdf", "png")
_WIDTH_IN = 7.0  # two columns of a paper
_HEIGHT_IN = 3.6
_ROW_IN = 0.15
_LEGEND_ROW_IN = 0.16
_NOTE_ROW_IN = 0.11
_NOTE_WIDTH = 150
_INK = "#333333"
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.edgecolor": "#555555",
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "pdf.fonttype": 42,  # outlines that editors and publishers keep as text
    "svg.hashsalt": "microbench",  # the same figure is the same file
    "savefig.dpi": 300,
}


def write(figures: Sequence[Figure], folder: Path) -> list[Path]:
    """Draws each figure into ``folder`` as ``<key>.svg``, ``.pdf`` and ``.png`` and returns the files.

    Raises:
        InputError: matplotlib is missing, or the folder cannot be written to.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise InputError(
            f"--pictures needs matplotlib ({error}): pip install 'microbench[report]'"
        ) from error
    from matplotlib.figure import Figure as Canvas

    written = []
    with _explained(folder), matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # A character that the font does not have is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        folder.mkdir(parents=True, exist_ok=True)
        for figure in figures:
            # What must stand beside the figure is part of the picture, which is passed on without the report.
            notes = [line for text in (figure.conditions, *figure.limits) for line in _note_lines(text)]
            canvas = Canvas(layout="constrained")
            grid = canvas.add_gridspec(2, 1)
            plot, foot = (canvas.add_subfigure(grid[row]) for row in range(2))
            _draw(figure, plot.add_subplot())
            height = max(_HEIGHT_IN, 0.8 + _ROW_IN * figure.rows) + _LEGEND_ROW_IN * _legend(plot)
            below = 0.05 + _NOTE_ROW_IN * len(notes)
            foot.text(0.01, 1, "\n".join(notes), fontsize=5.5, color=_INK, va="top", linespacing=1.3)
            grid.set_height_ratios((height, below))
            canvas.set_size_inches(_WIDTH_IN, height + below)
            for suffix in FORMATS:
                path = folder / f"{figure.key}.{suffix}"
                canvas.savefig(
                    path, metadata={"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(suffix)
                )
                written.append(path)
    return written


def _note_lines(text: str) -> list[str]:
    return textwrap.wrap(text, _NOTE_WIDTH, subsequent_indent="  ", break_on_hyphens=False)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{folder}: cannot write pictures here ({error.strerror}): choose another folder by --pictures"
        ) from error


def _draw(figure: Figure, axes: Axes) -> None:
    axes.set_title("\n".join(textwrap.wrap(figure.title, 90)), loc="left")
    for series in figure.series:
        if series.kind == "violin":
            _violin(axes, series)
        elif series.kind == "points":
            _points(axes, series, figure.interval_axis)
        else:
            _line(axes, series)
    axes.margins(y=0.08)
    _axis(axes.xaxis, figure.x, axes.set_xscale, axes.set_xlabel)
    _axis(axes.yaxis, figure.y, axes.set_yscale, axes.set_ylabel)
    if figure.rows:
        places = [place for place, _ in figure.y.ticks or ()]
        axes.set_ylim(min(places) - 0.7, max(places) + 0.7)


def _points(axes: Axes, series: Series, interval_axis: str) -> None:
    kind: dict[str, Any] = {
        "color": colour(series.style),
        "linestyle": "none",
        "markersize": 4,
        "alpha": 0.85,
    }
    hollow = series.hollow or [False] * len(series.x)
    known = [
        place for place, low in enumerate(series.low) if low is not None and series.high[place] is not None
    ]
    if known:
        middle = series.x if interval_axis == "x" else series.y
        ends = [
            [max(0.0, middle[place] - (series.low[place] or 0)) for place in known],
            [max(0.0, (series.high[place] or 0) - middle[place]) for place in known],
        ]
        axes.errorbar(
            [series.x[place] for place in known],
            [series.y[place] for place in known],
            xerr=ends if interval_axis == "x" else None,
            yerr=ends if interval_axis == "y" else None,
            fmt="none",
            ecolor=colour(series.style),
            elinewidth=0.7,
            capsize=1.5,
        )
    for outline in sorted(set(hollow)):
        chosen = [place for place in range(len(series.x)) if hollow[place] == outline]
        axes.plot(
            [series.x[place] for place in chosen],
            [series.y[place] for place in chosen],
            marker=symbol(series.style)[1],
            markerfacecolor="none" if outline else colour(series.style),
            label=_label(series.name),
            **kind,
        )


def _line(axes: Axes, series: Series) -> None:
    if series.band:
        axes.fill_between(series.x, series.band, series.y, color=_INK, alpha=0.15, linewidth=0)
    axes.plot(
        series.x,
        series.y,
        color=colour(series.style) or _INK,
        linestyle=dash(series.style, series.dashed)[1],
        linewidth=1,
        drawstyle="steps-post" if series.kind == "steps" else "default",
        label="_nolegend_" if series.label else _label(series.name),
    )
    if series.label:
        start = series.label_at == "start"
        place = 0 if start else -1
        axes.annotate(
            series.label,
            (series.x[place], series.y[place]),
            xytext=(4, -2) if start else (-2, 2),
            textcoords="offset points",
            ha="left" if start else "right",
            va="top" if start else "bottom",
            fontsize=6.5,
            color=_INK,
        )


def _violin(axes: Axes, series: Series) -> None:
    height = series.y[0]
    tint = colour(series.style)
    if series.bandwidth:  # of samples that are all the same there is no density
        from numpy import std

        parts = axes.violinplot(
            [list(series.x)],
            positions=[height],
            orientation="horizontal",
            widths=0.9,
            showextrema=False,
            points=300,
            bw_method=series.bandwidth
            / float(std(series.x, ddof=1)),  # matplotlib takes it in standard deviations
        )
        for body in parts["bodies"]:  # type: ignore[attr-defined]
            body.set(facecolor=tint, edgecolor=tint, alpha=0.45)
    axes.boxplot(
        [list(series.x)],
        positions=[height],
        orientation="horizontal",
        widths=0.18,
        showfliers=False,
        whis=(0, 100),
        manage_ticks=False,
        medianprops={"color": _INK},
        boxprops={"linewidth": 0.6},
        whiskerprops={"linewidth": 0.6},
        capprops={"linewidth": 0},
    )


def _axis(axis: Any, shown: Axis, set_scale: Any, set_title: Any) -> None:
    from matplotlib.ticker import EngFormatter, FormatStrFormatter, NullFormatter, PercentFormatter

    if shown.log:
        set_scale("log")
    set_title(shown.title)
    if shown.ticks is not None:
        axis.set_ticks([place for place, _ in shown.ticks], [text for _, text in shown.ticks], minor=False)
        axis.set_minor_formatter(NullFormatter())
    elif shown.share:
        axis.set_major_formatter(PercentFormatter(1.0))
    elif shown.log:
        formatter: Any = FormatStrFormatter("%g")
        if not shown.plain:
            formatter = EngFormatter(unit=shown.suffix, sep=" " if shown.suffix else "")
        low, high = sorted(axis.get_view_interval())
        axis.set_major_formatter(formatter)
        axis.set_minor_formatter(NullFormatter() if high / low > 10 else formatter)


def _label(name: str) -> str:
    # matplotlib leaves names that begin so out of the legend.
    return f" {name}" if name.startswith("_") else name


def _legend(canvas: Any) -> int:
    """Below the axes, each name once; returns the number of its rows."""
    handles, names = canvas.axes[0].get_legend_handles_labels()
    known: dict[str, Any] = {}
    for handle, name in zip(handles, names, strict=True):
        known.setdefault(fit(name, 90), handle)
    if not known:
        return 0
    columns = max(1, min(len(known), 130 // (max(map(len, known)) + 8)))
    canvas.legend(list(known.values()), list(known), loc="outside lower left", ncols=columns)
    return -(-len(known) // columns)
