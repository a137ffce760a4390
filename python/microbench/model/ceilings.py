"""Ceilings of devices as the model needs them: per precision a peak, and the bandwidth of the memory."""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from microbench import roofline
from microbench.errors import InputError
from microbench.sources import PREFIX, Source

Origin = Literal["stated", "measured"]

_UNITS = {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "p": 1e15}
_AMOUNT = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)\s*([kmgtp])(flop|op|b)s?/s", re.IGNORECASE)
_FORM = "compute=125TFLOP/s,memory=900GB/s"


@dataclass(frozen=True)
class Ceilings:
    """What a device does at most.

    Attributes:
        compute: operations per second by precision, each with its origin; "": of whatever precision.
        memory: bytes per second and its origin; None: unknown.
    """

    compute: Mapping[str, tuple[float, Origin]] = field(default_factory=dict)
    memory: tuple[float, Origin] | None = None

    def bound_s(
        self,
        precision: str,
        flops: float | None,
        nbytes: float | None,
        measured_peak: float | None = None,
    ) -> float | None:
        """Least time by the roofline, max(flops / peak, bytes / bandwidth), in seconds.

        Bytes that are unknown are taken to cost nothing.

        Args:
            measured_peak: where the device has no peak of this precision.

        Returns:
            None where the peak, the bandwidth or the number of operations is unknown.
        """
        peak = self.compute.get(precision) or self.compute.get("") or (measured_peak, "measured")
        if not flops or not peak[0] or self.memory is None:
            return None
        return max(flops / peak[0], (nbytes or 0) / self.memory[0])


def ceilings_of(source: Source) -> Ceilings:
    """Those of a source: stated ones where there are any, because a device that is not here has no others."""
    if source.published:
        return _published().get(source.name.removeprefix(PREFIX), Ceilings())
    compute: dict[str, tuple[float, Origin]] = {}
    memory: tuple[float, Origin] | None = None
    for ceiling in roofline.ceilings(source.info):
        origin: Origin = "stated" if ceiling.origin == "theoretical" else "measured"
        better = origin == "stated"  # measured ones come first
        if ceiling.bounds == "compute" and (better or ceiling.unit not in compute):
            compute[ceiling.unit] = (ceiling.per_s, origin)
        elif ceiling.unit == roofline.MEMORY and (better or memory is None):
            memory = (ceiling.per_s, origin)
    return Ceilings(compute, memory)


@functools.cache
def _published() -> dict[str, Ceilings]:
    found: dict[str, Ceilings] = {}
    with (Path(__file__).parent / "peaks.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            peak = float(row["units"]) * float(row["operations_per_clock"]) * float(row["clock_mhz"]) * 1e6
            known = found.get(row["name"], Ceilings()).compute
            found[row["name"]] = Ceilings(
                {**known, row["precision"]: (peak, "stated")},
                (float(row["memory_gb_per_s"]) * 1e9, "stated"),
            )
    return found


def parse_ceilings(text: str) -> Ceilings:
    """``compute=125TFLOP/s,memory=900GB/s``.

    Raises:
        InputError: it says something else.
    """
    amounts: dict[str, float] = {}
    for part in text.split(","):
        name, _, amount = (word.strip() for word in part.partition("="))
        matched = _AMOUNT.fullmatch(amount)
        wanted = {"compute": ("flop", "op"), "memory": ("b",)}.get(name, ())
        if matched is None or matched[3].lower() not in wanted or name in amounts:
            raise InputError(f"--ceilings {text!r}: {part!r} is not right; write as in {_FORM}")
        amounts[name] = float(matched[1]) * _UNITS[matched[2].lower()]
    if set(amounts) != {"compute", "memory"} or not all(0 < each < 1e30 for each in amounts.values()):
        raise InputError(f"--ceilings {text!r}: both must be given and positive; write as in {_FORM}")
    return Ceilings({"": (amounts["compute"], "stated")}, (amounts["memory"], "stated"))
