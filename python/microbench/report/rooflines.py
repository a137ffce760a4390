"""The roofline of one source's records."""

from __future__ import annotations

import math
from collections.abc import Sequence

from microbench.report.data import Entry
from microbench.report.figure import Axis, Figure, Series
from microbench.report.panel import Panel
from microbench.roofline import Ceiling
from microbench.sources import accelerator

_ROOM = 0.4  # of the axis, which a name before the upper end of a rising line takes at most
_LINES = (
    "Lines are roofs: the best of a probe's repetitions, dashed where computed from the device's description; a band "
    "reaches down to the lower end of the 99 % interval of the probe's median."
)
_ABOVE = (
    "Points above every memory roof: their operands came from a cache nearer to the cores, whose bandwidth was not "
    "measured."
)
_TRAFFIC = "At measured traffic: the same executions over the bytes of main memory that the machine counted meanwhile."
_UNKNOWN_ALGORITHM = (
    "Which algorithm convolved was not published: Winograd's and Fourier's count operations that they do not execute, "
    "and may lie above a roof."
)
_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1.0, ""))


def roofline(panel: Panel) -> Figure | None:
    """Rates over arithmetic intensity, under the roofs of the source; None where no record has both."""
    shown = panel.where(lambda entry: entry.rate and entry.intensity)
    if not shown.numbers:
        return None
    entries = shown.entries()
    series = shown.points(
        lambda entry: entry.intensity, lambda entry: entry.rate, interval=lambda entry: entry.rate_interval
    )
    series += _at_measured_traffic(shown)
    roofs = _roofs(panel, entries)
    memory = max((roof.per_s for roof in roofs if roof.bounds == "memory"), default=None)
    above = memory and any(
        not entry.effective and (entry.rate or 0.0) > memory * (entry.intensity or 0.0) for entry in entries
    )
    missing = ""
    if not roofs:
        missing = "No ceiling of this device is known."
    elif not any(roof.bounds == "memory" for roof in roofs):
        missing = "No memory bandwidth of this device is known."
    return Figure(
        panel.key("roofline"),
        "roofline",
        panel.title("Roofline"),
        *shown.texts(
            "Rate over arithmetic intensity at compulsory traffic (inputs read once, outputs written once).",
            _LINES if roofs else "",
            _of_threads(panel, entries) if roofs else "",
            missing,
            _ABOVE if above else "",
            _TRAFFIC if any(entry.traffic_bytes for entry in entries) else "",
            _UNKNOWN_ALGORITHM
            if panel.kernel == "conv" and panel.report.sides[entries[0].side].published
            else "",
            rates=True,
        ),
        Axis("arithmetic intensity in FLOP/byte", log=True, plain=True),
        Axis("FLOP/s", log=True),
        (*_lines(roofs, *_ends(series)), *series),
    )


def _at_measured_traffic(shown: Panel) -> list[Series]:
    counted = shown.where(lambda entry: entry.traffic_bytes)
    if not counted.numbers:
        return []
    entries = counted.entries()
    intensities = [(entry.record.flops or 0) / (entry.traffic_bytes or 1.0) for entry in entries]
    rates = [entry.rate or 0.0 for entry in entries]
    hollow = [entry.effective for entry in entries]
    return [
        Series("at measured traffic", "points", intensities, rates, entries=counted.numbers, hollow=hollow)
    ]


def _ends(series: Sequence[Series]) -> tuple[float, float]:
    intensities = [x for each in series for x in each.x]
    return min(intensities), max(intensities)


def _of_threads(panel: Panel, entries: Sequence[Entry]) -> str:
    """Whose roofs are drawn, where runs with different numbers of threads were joined."""
    infos = panel.report.sides[entries[0].side].infos
    threads = {
        info.ceilings.get("threads")
        for info in infos
        if info.kernel == panel.kernel and not accelerator(info)
    }
    if len(threads) < 2:
        return ""
    numbers = ", ".join(sorted(str(number or "unknown") for number in threads))
    return (
        f"Roofs are the highest of runs with different threads ({numbers}); %peak and %roof of a record are of its own "
        "run's."
    )


def _roofs(panel: Panel, entries: Sequence[Entry]) -> list[Ceiling]:
    """Memory's, and those of the precisions that were measured or bound one that was."""
    peaks = {entry.record.peak_flops_per_s for entry in entries}
    precisions = {entry.record.precision for entry in entries}
    return [
        roof
        for roof in panel.report.roofs(entries[0].side, panel.kernel)
        if roof.bounds == "memory" or roof.per_s in peaks or roof.unit in precisions
    ]


def _lines(roofs: Sequence[Ceiling], low: float, high: float) -> list[Series]:
    """Memory's roofs rise up to the highest compute roof, which begin where the highest memory roof meets them."""
    compute = max((roof.per_s for roof in roofs if roof.bounds == "compute"), default=None)
    memory = max((roof.per_s for roof in roofs if roof.bounds == "memory"), default=None)
    # Room for the roofs' names beside the points.
    left, right = low / 2, 1.5 * high * (high / low) ** 0.25
    lowest = min((roof.per_s for roof in roofs if roof.bounds == "memory"), default=None)
    lines = []
    for roof in roofs:
        begin, end = left, right
        # Only below the lowest of memory's roofs and above the highest is there room for a name beside a rising line.
        at_start = roof.bounds == "memory" and roof.per_s == lowest
        if roof.bounds == "compute":
            begin = min(max(left, roof.per_s / memory), right / 2) if memory else left
        elif compute:
            end = min(right, compute / roof.per_s)
        if end <= begin:
            continue
        named = (
            roof.bounds == "compute"
            or at_start
            or (roof.per_s == memory and math.log(end / begin) > _ROOM * math.log(right / left))
        )
        x = (begin, end)
        interval = roof.interval
        band = [] if interval is None else [_height(roof, min(interval[0], roof.per_s), place) for place in x]
        name = f"{roof.unit} {_amount(roof)}" + " (theoretical)" * (roof.origin == "theoretical")
        y = [_height(roof, roof.per_s, place) for place in x]
        lines.append(
            Series(
                name,
                "line",
                x,
                y,
                dashed=roof.origin == "theoretical",
                label=name if named else "",
                label_at="start" if at_start else "end",
                band=band,
            )
        )
    return lines


def _height(roof: Ceiling, per_s: float, intensity: float) -> float:
    return per_s * intensity if roof.bounds == "memory" else per_s


def _amount(roof: Ceiling) -> str:
    scale, prefix = next(pair for pair in _PREFIXES if roof.per_s >= pair[0] or pair[0] == 1.0)
    return f"{roof.per_s / scale:.3g} {prefix}{'B/s' if roof.bounds == 'memory' else 'FLOP/s'}"
