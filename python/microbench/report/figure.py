"""A figure as data: what is drawn, in which units; how is the business of those who draw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["points", "line", "steps", "violin"]


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        title: with the unit, unless that is the ``suffix`` of each tick.
        ticks: places and texts; None where who draws chooses them.
        suffix: of the chosen ticks, after an SI prefix.
        plain: chosen ticks are numbers without SI prefixes.
        share: from 0 to 1, shown in percent.
    """

    title: str
    log: bool = False
    ticks: tuple[tuple[float, str], ...] | None = None
    suffix: str = ""
    plain: bool = False
    share: bool = False


@dataclass(frozen=True)
class Series:
    """One entry of the legend; without a name it has none.

    Attributes:
        kind: ``violin`` draws the density of ``x`` around the one height that is all of ``y``.
        style: number of its colour and symbol; None: the ink of the text.
        entries: for each point the place of its record in the report, for whoever hovers over it.
        low, high: ends of each point's interval along ``Figure.interval_axis``, None where there is none.
        hollow: for each point whether it is drawn as an outline.
        dashed: of a line.
        label: written beside an end of a line instead of a name in the legend.
        band: from here up to the line a band is shaded.
        bandwidth: of a violin's density, in units of ``x``.
        label_at: the end of the line with the label: below the ``start``, above the ``end``.
    """

    name: str
    kind: Kind
    x: Sequence[float]
    y: Sequence[float]
    style: int | None = None
    entries: Sequence[int] = ()
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    hollow: Sequence[bool] = ()
    dashed: bool = False
    label: str = ""
    band: Sequence[float] = ()
    bandwidth: float = 0.0
    label_at: Literal["start", "end"] = "end"


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        key: its name in the page and among files.
        section: where the report shows it.
        caption: how to read it.
        conditions: device, threads, mode, precision and intervals: what must stand wherever the figure does.
        limits: sentences about what it shows, which must be near it.
        rows: how many lines of text its y axis holds; 0 where it is as high as usual.
    """

    key: str
    section: str
    title: str
    caption: str
    conditions: str
    limits: tuple[str, ...]
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    interval_axis: Literal["x", "y"] = "y"
    rows: int = 0
