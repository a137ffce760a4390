"""Ceilings of devices as the model needs them: per precision a peak, and the bandwidth of the memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from microbench import roofline
from microbench.errors import InputError
from microbench.sources import Source
from microbench.store import RunInfo

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
        threads: for how many threads they hold; None: for the whole device.
    """

    compute: Mapping[str, tuple[float, Origin]] = field(default_factory=dict)
    memory: tuple[float, Origin] | None = None
    threads: int | None = None

    def roof(
        self, precision: str, threads: int, measured_peak: float | None = None
    ) -> tuple[float, float] | None:
        """Peak and bandwidth, per second; None where one is unknown for this precision and so many threads.

        Args:
            measured_peak: where the device has no peak of this precision.
        """
        peak, _ = self.compute.get(precision) or self.compute.get("") or (measured_peak, "measured")
        if not peak or self.memory is None or self.threads not in (None, threads):
            return None
        return peak, self.memory[0]


def bound_s(roof: tuple[float, float] | None, flops: float | None, nbytes: float | None) -> float | None:
    """Least time by the roofline, max(flops / peak, bytes / bandwidth), in seconds.

    Bytes that are unknown are taken to cost nothing. None where the roof or the number of operations is unknown.
    """
    return None if roof is None or not flops else max(flops / roof[0], (nbytes or 0) / roof[1])


def ceilings_of(source: Source) -> tuple[Ceilings, ...]:
    """Those of each part of a source: stated ones where there are any, as a device that is not here has no others."""
    return tuple(_recorded(part.info) for part in source.parts)


def _recorded(info: RunInfo) -> Ceilings:
    compute: dict[str, tuple[float, Origin]] = {}
    memory: tuple[float, Origin] | None = None
    for ceiling in roofline.ceilings(info):
        origin: Origin = "stated" if ceiling.origin == "theoretical" else "measured"
        better = origin == "stated"  # measured ones come first
        if ceiling.bounds == "compute" and (better or ceiling.unit not in compute):
            compute[ceiling.unit] = (ceiling.per_s, origin)
        elif ceiling.unit == roofline.MEMORY and (better or memory is None):
            memory = (ceiling.per_s, origin)
    return Ceilings(compute, memory, info.ceilings.get("threads"))


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
