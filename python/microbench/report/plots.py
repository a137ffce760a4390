"""The figures of a report, as data."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from microbench.environment.text import size_text
from microbench.figures import fit, one_line, percent_text, time_text
from microbench.report.data import LEVELS, Entry, Report, drift, spread
from microbench.report.figure import Axis, Figure, Series
from microbench.report.panel import Panel, label, rate_axis
from microbench.report.rooflines import roofline

_NAMED_ROWS = 60
_NAME_WIDTH = 44
_VIOLINS = 12
_DRIFTING = 4


def figures(report: Report) -> list[Figure]:
    """Every figure that the report's records allow, in the order of its sections."""
    styles: dict[str, int] = {}
    for entry in report.entries:
        if entry.time_s is not None:
            styles.setdefault(entry.series, len(styles))
    panels = [
        Panel(report, kernel, mode, tuple(numbers), styles)
        for (kernel, mode), numbers in report.panels().items()
    ]
    drawn = [roofline(side) for panel in panels for side in panel.sides()]
    for draw in (_throughput, _cumulative, _violins, _in_order, _workspace, _energy):
        drawn += [draw(panel) for panel in panels]
    return [figure for figure in drawn if figure is not None]


def _throughput(panel: Panel) -> Figure | None:
    shown = panel.where(lambda entry: entry.rate)
    if not shown.numbers:
        return None
    # Small problems first: the order says something, and is the same for all series.
    sizes = {entry.problem: entry.record.flops or 0 for entry in shown.entries()}
    places = {
        problem: float(place) for place, problem in enumerate(sorted(sizes, key=lambda name: sizes[name]))
    }
    named = len(places) <= _NAMED_ROWS
    rows = f"{len(places)} problems, a row each, the one with the fewest operations at the bottom."
    series = shown.points(
        lambda entry: entry.rate,
        lambda entry: places[entry.problem],
        interval=lambda entry: entry.rate_interval,
    )
    return Figure(
        panel.key("throughput"),
        "throughput",
        panel.title("Throughput"),
        *shown.texts("Rate of each problem, with its interval.", "" if named else rows, rates=True),
        rate_axis(shown.entries()),
        Axis(
            "" if named else "problems, by number of operations",
            ticks=tuple((place, fit(problem, _NAME_WIDTH)) for problem, place in places.items() if named),
        ),
        tuple(series),
        interval_axis="x",
        rows=len(places) if named else 0,
    )


def _cumulative(panel: Panel) -> Figure | None:
    shown = panel.where(lambda entry: entry.rate)
    series = []
    for name, members in shown.by_series().items():
        if len(members) < 2:
            continue
        ordered = sorted(members, key=lambda number: panel.report.entries[number].rate or 0.0)
        entries = shown.entries(ordered)
        sums = list(itertools.accumulate(entry.time_s or 0.0 for entry in entries))
        rates = [entry.rate or 0.0 for entry in entries]
        shares = [0.0, *(each / sums[-1] for each in sums)]
        places = [ordered[0], *ordered]
        series.append(Series(label(name), "steps", [rates[0], *rates], shares, panel.styles[name], places))
    if not series:
        return None
    return Figure(
        panel.key("cumulative"),
        "cumulative",
        panel.title("Share of the time spent at or below a rate"),
        *shown.texts(
            "For each series the share of the total time of its records that is spent on those computed at this rate "
            "or a lower one. Series may cover different problems; see the totals."
        ),
        rate_axis(shown.entries()),
        Axis("share of the total time", share=True),
        tuple(series),
    )


def _violins(panel: Panel) -> Figure | None:
    known = panel.where(lambda entry: len(entry.quantiles) > 1)
    shown = known.first(_VIOLINS, spread)
    if not shown.numbers:
        return None
    ticks, series = [], []
    names = Counter((entry.problem, entry.series) for entry in known.entries())
    processes = panel.report.processes()
    for place, (number, entry) in enumerate(zip(shown.numbers, shown.entries(), strict=True)):
        x = _logarithms(entry)
        again = names[entry.problem, entry.series] > 1
        process = f", process {processes[entry.side, entry.process]}" if again else ""
        name = label(f"{entry.problem} {entry.series}{process}")
        height = [float(-place)] * len(x)
        series.append(Series(name, "violin", x, height, 0, [number] * len(x), bandwidth=_bandwidth(x)))
        below = f"{fit(one_line(entry.series), _NAME_WIDTH - 10)}{process}, {time_text(entry.time_s)}"
        ticks.append((float(-place), f"{fit(entry.problem, _NAME_WIDTH)}\n{below}"))
    few = len(known.numbers) == len(shown.numbers)
    chosen = (
        "All records" if few else f"The {len(shown.numbers)} of {len(known.numbers)} records that spread most"
    )
    return Figure(
        panel.key("samples"),
        "samples",
        panel.title("Distribution of the samples"),
        *shown.texts(
            "Density and quartiles of the sampled times over their median, which stands beside the name.",
            f"{chosen} between the 5th and 95th percentile, shown from the 1st to the 99th; the extremes are in the "
            "table.",
        ),
        Axis("time over the median", ticks=_ratio_ticks([value for each in series for value in each.x])),
        Axis("", ticks=tuple(ticks)),
        tuple(series),
        rows=3 * len(series),
    )


def _logarithms(entry: Entry) -> list[float]:
    """Decimal logarithms of the quantiles over the median, without the extremes where there are percentiles."""
    inner = entry.quantiles[1:-1] if len(entry.quantiles) == len(LEVELS) else entry.quantiles
    return [math.log10(value / (entry.time_s or value)) for value in inner]


def _bandwidth(values: Sequence[float]) -> float:
    """Silverman's rule of thumb (Density Estimation, 1986, equation 3.31); long tails do not widen it."""
    quartiles = statistics.quantiles(values, n=4)
    scales = [
        scale for scale in (statistics.pstdev(values), (quartiles[2] - quartiles[0]) / 1.34) if scale > 0
    ]
    return 0.9 * min(scales, default=0.0) / math.pow(len(values), 0.2)


def _ratio_ticks(logarithms: Sequence[float]) -> tuple[tuple[float, str], ...]:
    """Round ratios at their logarithms: tails may be hundreds of medians long."""
    low, high = min(logarithms), max(logarithms)
    width = max(high - low, 0.01)
    fine: tuple[float, ...] = (0.8, 0.9, 0.95, 1.05, 1.1, 1.25) if high - low < 0.4 else ()
    fine += (0.98, 0.99, 1.01, 1.02) if high - low < 0.06 else ()
    coarse = (0.1, 0.2, 0.5, 1, 2, 5) if high - low < 1.7 else (0.1, 1)
    ratios = sorted({*fine, *(value * 10**power for value in coarse for power in range(6))})
    ticks = [(math.log10(ratio), f"{ratio:g}") for ratio in ratios]
    return tuple(tick for tick in ticks if low - 0.1 * width <= tick[0] <= high + 0.1 * width)


def _in_order(panel: Panel) -> Figure | None:
    known = panel.where(lambda entry: entry.in_order)
    shown = known.first(_DRIFTING, lambda entry: drift(entry.record))
    if not shown.numbers:
        return None
    series: list[Series] = []
    for number, entry in zip(shown.numbers, shown.entries(), strict=True):
        count = len(entry.in_order)
        name = f"{fit(entry.problem, _NAME_WIDTH)} {entry.series}, {time_text(entry.time_s)}"
        series.append(
            Series(
                label(f"{percent_text(drift(entry.record))} %: {name}"),
                "points",
                [place / count for place in range(count)],
                [value / (entry.time_s or value) for value in entry.in_order],
                len(series),
                [number] * count,
            )
        )
    return Figure(
        panel.key("drift"),
        "samples",
        panel.title("Samples in the order taken"),
        *shown.texts(
            f"{len(series)} of {len(known.numbers)} records whose times drifted, the strongest drift first: no single "
            "number describes them. In the legend the drift and the median. At most a thousand samples of each, "
            "evenly spaced."
        ),
        Axis("place among the samples", share=True),
        Axis("time over the median", log=True, plain=True),
        tuple(series),
    )


def _workspace(panel: Panel) -> Figure | None:
    rivals: dict[tuple[object, ...], list[int]] = {}
    for number in panel.numbers:
        entry = panel.report.entries[number]
        if entry.record.workspace_bytes is not None:
            key = (entry.side, entry.process, entry.record.precision, entry.problem)
            rivals.setdefault(key, []).append(number)
    rivals = {key: members for key, members in rivals.items() if len(set(_sizes(panel, members))) > 1}
    if not rivals:
        return None
    chosen = {number for members in rivals.values() for number in members}
    best = {number for members in rivals.values() for number in _pareto(panel, members)}
    shown = replace(panel, numbers=tuple(number for number in panel.numbers if number in chosen))
    sizes = _sizes(panel, shown.numbers)
    smallest, largest = min(size for size in sizes if size), max(sizes)
    none = smallest / 16  # where no workspace at all stands on the logarithmic axis
    ticks = [(none, "none")] if 0.0 in sizes else []
    steps = (float(step << power) for power in range(0, 50, 10) for step in (1, 32))
    ticks += [(size, size_text(size)) for size in steps if smallest / 8 <= size <= largest * 8]
    return Figure(
        panel.key("workspace"),
        "workspace",
        panel.title("Time against workspace"),
        *shown.texts(
            "Problems for which algorithms differ in workspace. Filled: nothing measured solves the same problem in "
            "the same precision both faster and with less workspace."
        ),
        Axis("workspace", log=True, ticks=tuple(ticks)),
        Axis("median time", log=True, suffix="s"),
        tuple(
            shown.points(
                lambda entry: entry.record.workspace_bytes or none,
                lambda entry: entry.time_s,
                interval=_time_interval,
                hollow=lambda number: number not in best,
            )
        ),
    )


def _sizes(panel: Panel, numbers: Sequence[int]) -> list[float]:
    return [float(entry.record.workspace_bytes or 0) for entry in panel.entries(numbers)]


def _time_interval(entry: Entry) -> tuple[float, float] | None:
    low, high = entry.record.ci_low_s, entry.record.ci_high_s
    return None if low is None or high is None else (low, high)


def _pareto(panel: Panel, members: Sequence[int]) -> list[int]:
    """Those of which none other is at least as fast with less workspace, or faster with as much."""

    def cost(number: int) -> tuple[float, float]:
        entry = panel.report.entries[number]
        return entry.time_s or 0.0, float(entry.record.workspace_bytes or 0)

    found: list[int] = []
    for number in sorted(members, key=cost):
        if not found or cost(number)[1] < cost(found[-1])[1]:
            found.append(number)
    return found


def _energy(panel: Panel) -> Figure | None:
    shown = panel.where(lambda entry: entry.energy_j)
    if not shown.numbers:
        return None
    return Figure(
        panel.key("energy"),
        "energy",
        panel.title("Energy"),
        *shown.texts("Energy of one execution over its median time."),
        Axis("median time", log=True, suffix="s"),
        Axis("energy of one execution", log=True, suffix="J"),
        tuple(shown.points(lambda entry: entry.time_s, lambda entry: entry.energy_j, hollow=lambda _: False)),
    )
