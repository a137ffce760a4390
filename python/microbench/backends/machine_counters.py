"""What the whole machine counts outside its cores: bytes of main memory and joules, by Linux's perf_event_open.

Memory controllers and packages are units ("PMUs") under /sys/bus/event_source/devices, whose folders say how their
events are asked for (the kernel's Documentation/ABI/testing/sysfs-bus-event_source-devices-format and -events).
Reading them takes CAP_PERFMON or kernel.perf_event_paranoid of 0 or less; virtual machines mostly hide them.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from microbench.topology import read_cpu_list

SOURCES = Path("/sys/bus/event_source/devices")

# Units by the beginning of their names, and the events that together make up the quantity. Of several families that
# count the same bytes the first is taken.
_QUANTITIES: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "memory_bytes": (
        ("uncore_imc_free_running", ("data_read", "data_write")),
        ("uncore_imc", ("cas_count_read", "cas_count_write")),
        ("uncore_imc", ("data_reads", "data_writes")),
    ),
    "energy_j": (("power", ("energy-pkg",)),),
}
_UNITS = {"MiB": float(1 << 20), "Joules": 1.0}
_SYSTEM_CALLS = {"x86_64": 298, "aarch64": 241}
_ATTRIBUTE_BYTES = 112  # PERF_ATTR_SIZE_VER5
_TIMES = 3  # PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING
_CLOSE_ON_EXEC = 8


@dataclass(frozen=True)
class Event:
    """One event of one unit: ``unit`` is its number, ``configs`` are perf_event_attr's config, config1, config2."""

    unit: int
    configs: tuple[int, int, int]
    cpus: tuple[int, ...]
    factor: float


def open_event(event: Event, cpu: int) -> int:
    """A file descriptor that counts ``event`` on all of a package, of which ``cpu`` is one.

    Raises:
        OSError: the kernel refuses.
    """
    number = _SYSTEM_CALLS.get(platform.machine())
    if number is None:
        raise OSError(f"no system call number is known for {platform.machine()}")
    config, *more = event.configs
    attribute = struct.pack(
        "=IIQQQQQIIQQ", event.unit, _ATTRIBUTE_BYTES, config, 0, 0, _TIMES, 0, 0, 0, *more
    ).ljust(_ATTRIBUTE_BYTES, b"\0")
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    everything, no_group = ctypes.c_int(-1), ctypes.c_int(-1)
    descriptor: int = call(
        ctypes.c_long(number),
        attribute,
        everything,
        ctypes.c_int(cpu),
        no_group,
        ctypes.c_ulong(_CLOSE_ON_EXEC),
    )
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return descriptor


def read_count(descriptor: int) -> float:
    """The count so far, extrapolated where the unit was shared in time."""
    count, enabled, running = struct.unpack("=QQQ", os.read(descriptor, 24))
    return float(count) * enabled / running if running else 0.0


class MachineCounters:
    """Open counters by quantity: ``memory_bytes``, ``energy_j``; those that are not to be had are missing."""

    def __init__(self, descriptors: Mapping[str, list[tuple[int, float]]]) -> None:
        self._descriptors = descriptors

    @classmethod
    def open(
        cls, sources: Path = SOURCES, opener: Callable[[Event, int], int] = open_event
    ) -> MachineCounters:
        """Opens all that this machine has and allows."""
        found: dict[str, list[tuple[int, float]]] = {}
        for quantity, families in _QUANTITIES.items():
            for family, names in families:
                if events := _events(sources, family, names):
                    if opened := _opened(events, opener):
                        found[quantity] = opened
                    break
        return cls(found)

    def read(self) -> dict[str, float]:
        """Sums over all units, in bytes and joules; only differences mean something."""
        return {
            quantity: sum(factor * read_count(descriptor) for descriptor, factor in opened)
            for quantity, opened in self._descriptors.items()
        }

    def close(self) -> None:
        for opened in self._descriptors.values():
            for descriptor, _ in opened:
                os.close(descriptor)
        self._descriptors = {}


@cache
def of_this_process() -> MachineCounters:
    """Opened at the first call and kept, because opening takes longer than a short measurement."""
    return MachineCounters.open()


def _opened(events: list[Event], opener: Callable[[Event, int], int]) -> list[tuple[int, float]]:
    """All, or none: a part of the bytes is no figure."""
    opened: list[tuple[int, float]] = []
    try:
        for event in events:
            for cpu in event.cpus:
                opened.append((opener(event, cpu), event.factor))
    except OSError:
        for descriptor, _ in opened:
            os.close(descriptor)
        return []
    return opened


def _events(sources: Path, family: str, names: tuple[str, ...]) -> list[Event]:
    """Those of every unit of the family that has them all."""
    numbered = re.compile(re.escape(family) + r"(_\d+)?")
    units = [unit for unit in sorted(sources.glob(f"{family}*")) if numbered.fullmatch(unit.name)]
    found = []
    for unit in units:
        events = [_event(unit, name) for name in names]
        found += [event for event in events if event is not None] if all(events) else []
    return found


def _event(unit: Path, name: str) -> Event | None:
    """None where a file is missing or says what is not understood."""
    try:
        scale = float((unit / "events" / f"{name}.scale").read_text())
        factor = scale * _UNITS[(unit / "events" / f"{name}.unit").read_text().strip()]
        configs = [0, 0, 0]
        for term in (unit / "events" / name).read_text().strip().split(","):
            field, _, value = term.partition("=")
            _place(configs, (unit / "format" / field).read_text().strip(), int(value or "1", 0))
        number = int((unit / "type").read_text())
    except (OSError, KeyError, ValueError):
        return None
    cpus = read_cpu_list(unit / "cpumask")
    config, config1, config2 = configs
    return Event(number, (config, config1, config2), cpus, factor) if cpus else None


def _place(configs: list[int], layout: str, value: int) -> None:
    """Puts ``value`` into the bits that ``layout`` names, lowest first: ``config1:0-7,21``."""
    field, _, ranges = layout.partition(":")
    place = ("config", "config1", "config2").index(field)
    for bits in ranges.split(","):
        first, _, last = bits.partition("-")
        width = int(last or first) - int(first) + 1
        configs[place] |= (value & ((1 << width) - 1)) << int(first)
        value >>= width
