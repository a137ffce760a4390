"""Roofline model: what a device's peaks allow a kernel of given arithmetic intensity.

Williams, Waterman & Patterson, "Roofline: an insightful visual performance model for multicore architectures",
Communications of the ACM 52(4), 2009. The intensity here is that of the compulsory traffic: every input read
once, every output written once; real traffic is that or more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from microbench.figures import Row, flops_per_s
from microbench.stats import median_interval
from microbench.store import RunInfo

CONFIDENCE = 0.99
MEMORY = "DRAM"
CACHE = "last-level cache"

# Lanes of fp32 in the widest vector unit that a flag of /proc/cpuinfo promises.
_LANES = (("avx512f", 16), ("avx2", 8))
_VECTOR_PIPES = 2
# Zen 4 executes a 512-bit instruction in two halves (AMD, Software Optimization Guide 57647, section 2.11).
_HALF_WIDTH = {("AuthenticAMD", "25")}
_FAST_ALGORITHM = re.compile(r"wino|fft", re.IGNORECASE)


@dataclass(frozen=True)
class Ceiling:
    """One roof: what one unit of a device does at most.

    Attributes:
        unit: a precision, `MEMORY` or `CACHE`.
        bounds: what it limits.
        origin: whether a probe measured it or it follows from the device's description.
        per_s: operations or bytes per second; of a probe the best of its repetitions.
        median: of the probe's repetitions, None for a theoretical roof.
        interval: of that median at `CONFIDENCE`; None where there are too few repetitions.
        how: the probe, or the formula.
    """

    unit: str
    bounds: Literal["compute", "memory"]
    origin: Literal["measured", "theoretical"]
    per_s: float
    median: float | None = None
    interval: tuple[float, float] | None = None
    how: str = ""


def ceilings(info: RunInfo) -> list[Ceiling]:
    """The roofs that a run knows, measured ones first; compute roofs, then memory's."""
    found: list[Ceiling] = []
    compute = _mapping(info.ceilings, "compute_flops_per_s")
    for precision, rates in compute.items():
        found += _measured(precision, "compute", {"multiply-adds in registers": rates})
    found += _measured(MEMORY, "memory", _mapping(info.ceilings, "memory_bytes_per_s"))
    found += _measured(CACHE, "memory", _mapping(info.ceilings, "last_level_cache_bytes_per_s"))
    return found + _theoretical(info, compute)


def _mapping(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = values.get(name)
    return value if isinstance(value, Mapping) else {}


def _measured(unit: str, bounds: Literal["compute", "memory"], kinds: Mapping[str, Any]) -> list[Ceiling]:
    """The highest of the kinds of traffic, or of operations, that were probed."""
    known = {kind: rates for kind, rates in kinds.items() if isinstance(rates, Mapping) and rates.get("best")}
    if not known:
        return []
    kind = max(known, key=lambda name: float(known[name]["best"]))
    rates = known[kind]
    samples = rates.get("samples") or []
    how = str(rates.get("source") or kind)
    return [
        Ceiling(
            unit,
            bounds,
            "measured",
            float(rates["best"]),
            rates.get("median"),
            median_interval(samples, CONFIDENCE) if samples else None,
            f"{how}, best of {len(samples)}" if samples else how,
        )
    ]


def _theoretical(info: RunInfo, measured: Iterable[str]) -> list[Ceiling]:
    """Roofs that the device's maker states, as the backend recorded them, or an upper bound for x86 processors."""
    stated = _mapping(info.ceilings, "theoretical")
    how = str(stated.get("source") or "stated")
    found = [
        Ceiling(unit, "compute", "theoretical", float(rate), how=how)
        for unit, rate in _mapping(stated, "compute_flops_per_s").items()
        if rate
    ]
    if bandwidth := stated.get("memory_bytes_per_s"):
        found.append(Ceiling(MEMORY, "memory", "theoretical", float(bandwidth), how=how))
    return found if stated else _x86_bounds(info, measured)


def _x86_bounds(info: RunInfo, precisions: Iterable[str]) -> list[Ceiling]:
    """cores x pipes x lanes x 2 x highest clock, for fp32 and fp64: no x86 processor has more vector pipes."""
    processor = _mapping(info.environment, "processor")
    clock_mhz = _mapping(info.environment, "clock").get("hardware_maximum_mhz")
    flags = processor.get("arithmetic_flags") or ()
    lanes = next((lanes for flag, lanes in _LANES if flag in flags), None)
    threads = info.ceilings.get("threads")
    if clock_mhz is None or lanes is None or not threads or processor.get("architecture") != "x86_64":
        return []
    if (processor.get("vendor"), processor.get("family")) in _HALF_WIDTH:
        lanes = min(lanes, 8)
    cores = min(threads, processor.get("cores") or threads)
    widths = {"fp32": lanes, "fp64": lanes // 2}
    return [
        Ceiling(
            precision,
            "compute",
            "theoretical",
            cores * _VECTOR_PIPES * widths[precision] * 2 * clock_mhz * 1e6,
            how=f"{cores} cores x {_VECTOR_PIPES} pipes x {widths[precision]} lanes x 2 x {clock_mhz / 1e3:g} GHz",
        )
        for precision in precisions
        if precision in widths
    ]


def intensity(record: Row) -> float | None:
    """Operations per byte of compulsory traffic; None where one of them is unknown."""
    return record.flops / record.bytes if record.flops and record.bytes else None


def effective(record: Row) -> bool:
    """Whether the rate counts operations of the direct algorithm that Winograd or FFT does not execute.

    Such an effective rate says how fast the problem was solved, and may lie above every roof.
    """
    implementation = str(getattr(record, "facts", {}).get("implementation") or "")
    return bool(_FAST_ALGORITHM.search(record.algorithm) or _FAST_ALGORITHM.search(implementation))


def cache_bytes(info: RunInfo) -> int | None:
    """Up to which size operands are held against the last-level cache's roof; None where unknown.

    No more than twice what the probe read: a GPU's cache may keep copies of what lies in its other half.
    """
    size, probed = info.plan.get("last_level_cache_bytes"), info.ceilings.get("cached_bytes")
    return min(size, 2 * probed) if size and probed else size


def roof(record: Row, roofs: Iterable[Ceiling], cache_bytes: int | None) -> float | None:
    """The measured roof over a record in FLOP/s: the lower one of its precision's peak and of its memory's.

    Operands come from memory where the cache was flushed before (``cold``) or cannot hold them, else from the
    last-level cache. A hot record may find some of them nearer still: then it can lie above.

    Args:
        cache_bytes: as `cache_bytes` gives it.

    Returns:
        None where the peak, the intensity or the bandwidth is unknown.
    """
    ratio, peak = intensity(record), record.peak_flops_per_s
    if ratio is None or not peak or record.bytes is None:
        return None
    if record.mode == "cold":
        unit = MEMORY
    elif cache_bytes is None:
        return None
    else:
        unit = CACHE if record.bytes <= cache_bytes else MEMORY
    bandwidth = next((each.per_s for each in roofs if each.unit == unit and each.origin == "measured"), None)
    return None if bandwidth is None else min(peak, ratio * bandwidth)


def roof_share(record: Row, roofs: Iterable[Ceiling], cache_bytes: int | None) -> float | None:
    """The record's rate as a share of `roof`."""
    rate, bound = flops_per_s(record), roof(record, roofs, cache_bytes)
    return None if rate is None or bound is None else rate / bound
