"""What the records that are drawn together have in common: names, colours, captions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from microbench.figures import fit, one_line, threads
from microbench.report.data import Entry, Report, counted
from microbench.report.figure import Axis, Series

MODES = {"cold": "cold", "hot": "hot", "graph": "CUDA graph"}
_LEGEND_WIDTH = 120
_EFFECTIVE = (
    "Hollow: effective rates of Winograd or FFT, which count operations of direct convolution not executed."
)


@dataclass(frozen=True)
class Panel:
    """Records of one kernel in one mode, of one source or of all.

    Attributes:
        numbers: places of the records in the report; all have a time.
        styles: numbers of colour and symbol by series, the same in all figures.
        side: the source that is drawn alone; None for all.
    """

    report: Report
    kernel: str
    mode: str
    numbers: tuple[int, ...]
    styles: dict[str, int]
    side: int | None = None

    def where(self, fits: Callable[[Entry], object]) -> Panel:
        """The records that fit."""
        numbers = tuple(number for number in self.numbers if fits(self.report.entries[number]))
        return replace(self, numbers=numbers)

    def first(self, count: int, key: Callable[[Entry], float]) -> Panel:
        """The records with the highest ``key``, those first."""
        ranked = sorted(self.numbers, key=lambda number: key(self.report.entries[number]), reverse=True)
        return replace(self, numbers=tuple(ranked[:count]))

    def sides(self) -> list[Panel]:
        """One panel for each source."""
        found = sorted({entry.side for entry in self.entries()})
        alone = len(self.report.sides) == 1
        return [replace(self.of_side(side), side=None if alone else side) for side in found]

    def of_side(self, side: int) -> Panel:
        """The records of one source."""
        return self.where(lambda entry: entry.side == side)

    def entries(self, numbers: Iterable[int] | None = None) -> list[Entry]:
        """The records, or those at these places."""
        return [self.report.entries[number] for number in (self.numbers if numbers is None else numbers)]

    def by_series(self) -> dict[str, list[int]]:
        """Places of the records by their series, in order of appearance."""
        found: dict[str, list[int]] = {}
        for number in self.numbers:
            found.setdefault(self.report.entries[number].series, []).append(number)
        return found

    def key(self, name: str) -> str:
        """A figure's name among files."""
        words = (name, self.kernel, self.mode, "" if self.side is None else str(self.side + 1))
        return "-".join(re.sub(r"[^a-z0-9]+", "_", word.lower()) for word in words if word)

    def title(self, text: str) -> str:
        """A figure's title."""
        side = "" if self.side is None else f"{one_line(self.report.sides[self.side].name)}, "
        return f"{text}: {side}{one_line(self.kernel)}, {MODES.get(self.mode, one_line(self.mode))}"

    def texts(self, *caption: str, rates: bool = False) -> tuple[str, str, tuple[str, ...]]:
        """A figure's caption, conditions (what hollow points are included, where it shows ``rates``) and limits."""
        limits = tuple(self.report.limits([entry.side for entry in self.entries()]))
        hollow = _EFFECTIVE if rates and any(entry.effective for entry in self.entries()) else ""
        return " ".join(filter(None, caption)), " ".join(filter(None, (self.conditions(), hollow))), limits

    def conditions(self) -> str:
        """What the records were measured on and how, and which intervals their medians have."""
        entries = self.entries()
        devices: dict[str, list[Entry]] = {}
        for entry in entries:
            devices.setdefault(one_line(self.report.sides[entry.side].device) or "unknown device", []).append(
                entry
            )
        measured = "; ".join(f"{device}: {_settings(own)}" for device, own in devices.items())
        confidences = [entry.record.confidence for entry in entries]
        levels = dict.fromkeys(f"{100 * level:g} %" for level in confidences if level is not None)
        intervals = f"Intervals of the median: {', '.join(levels) or 'none'}"
        if levels and (without := confidences.count(None)):
            intervals += f"; {without} of {len(entries)} records have none"
        return f"{measured}. {intervals}."

    def points(
        self,
        x: Callable[[Entry], float | None],
        y: Callable[[Entry], float | None],
        *,
        interval: Callable[[Entry], tuple[float, float] | None] = lambda _: None,
        hollow: Callable[[int], bool] | None = None,
    ) -> list[Series]:
        """Each series as points; ``interval`` gives the ends of their intervals."""
        found = []
        for name, members in self.by_series().items():
            entries = self.entries(members)
            ends = [interval(entry) for entry in entries]
            found.append(
                Series(
                    label(name),
                    "points",
                    [x(entry) or 0.0 for entry in entries],
                    [y(entry) or 0.0 for entry in entries],
                    self.styles[name],
                    members,
                    [None if end is None else end[0] for end in ends],
                    [None if end is None else end[1] for end in ends],
                    [hollow(number) for number in members]
                    if hollow is not None
                    else [entry.effective for entry in entries],
                )
            )
        return found


def label(name: str) -> str:
    """A series' name as legends show it."""
    return fit(one_line(name), _LEGEND_WIDTH)


def rate_axis(entries: Sequence[Entry]) -> Axis:
    """The logarithmic axis of rates."""
    return Axis("FLOP/s" if entries[0].unit == "FLOP/s" else "bus bandwidth in B/s", log=True)


def _settings(entries: Sequence[Entry]) -> str:
    """Backend, threads of processors, mode and precisions, each once."""
    records = [entry.record for entry in entries]
    counts = [threads(record.backend, record.threads) for record in records]
    columns = (
        [record.backend for record in records],
        [counted(count, "thread") if count else "threads unknown" for count in counts if count is not None],
        [MODES.get(record.mode, record.mode) for record in records],
        [record.precision for record in records],
    )
    return one_line(
        ", ".join(fit("/".join(dict.fromkeys(texts)), _LEGEND_WIDTH) for texts in columns if texts)
    )
