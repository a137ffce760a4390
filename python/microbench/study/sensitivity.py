"""The same kernels on several fills: time, power and clock."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from microbench.record import Record
from microbench.stats import Comparison, compare_medians
from microbench.study.layers import Layer, Study, usable

BASE = "normal"
"""The fill that the others are compared with."""


@dataclass(frozen=True)
class Sensitivity:
    """One kernel on one fill; ``comparison`` with `BASE` is by the medians of the rounds, None for the base itself.

    ``power_w`` and ``clock_hz`` are medians of what was read beside the samples, None where nothing was.
    """

    layer: Layer
    batch: int
    library: str
    algorithm: str
    fill: str
    rounds: int
    time_s: float
    base_s: float
    comparison: Comparison | None
    power_w: float | None
    clock_hz: float | None


def sensitivities(study: Study) -> list[Sensitivity]:
    """Of every kernel that was measured on `BASE` and other fills, a line for each fill."""
    groups: dict[tuple[Layer, int, str, str], dict[str, list[Record]]] = {}
    for run in study.fills:
        for record in run.records():
            if usable(record):
                key = (Layer.of(record), int(record.problem["n"]), record.library, record.algorithm)
                fill = str(record.facts.get("fill") or "")
                groups.setdefault(key, {}).setdefault(fill, []).append(record)
    found = []
    for key, fills in groups.items():
        base = _times(fills.get(BASE, []))
        if not base:
            continue
        for fill, records in fills.items():
            times = _times(records)
            found.append(
                Sensitivity(
                    *key,
                    fill,
                    len(times),
                    statistics.median(times),
                    statistics.median(base),
                    None if fill == BASE else compare_medians(base, times),
                    _read(records, "power_w"),
                    _clock_hz(records),
                )
            )
    return found


def _times(records: Sequence[Record]) -> list[float]:
    return [record.median_s for record in records if record.median_s is not None]


def _read(records: Sequence[Record], name: str) -> float | None:
    """Median of what a device's sensors said before and after each batch."""
    values = [
        float(reading[name])
        for record in records
        for batch in record.facts.get("device_batches") or ()
        for reading in (batch["before"], batch["after"])
        if reading.get(name) is not None
    ]
    return statistics.median(values) if values else None


def _clock_hz(records: Sequence[Record]) -> float | None:
    """Median of the clocks of what computed: beside a GPU's the records hold the host's."""
    values = [
        float(batch["measured_sm_clock_hz"])
        for record in records
        for batch in record.facts.get("device_batches") or ()
    ]
    values += [
        1e6 * record.facts["clock_mhz"]
        for record in records
        if record.facts.get("clock_mhz") and "device_batches" not in record.facts
    ]
    return statistics.median(values) if values else None
