"""What disturbed a batch of samples: the system's and this process's counters, read before and after it.

Made to be read around every batch: no process is started, and files are looked up once for each ``root``.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from microbench import topology
from microbench.topology import SYSTEM

# Some drivers interrupt the processor whose clock is asked for: with hundreds that would take milliseconds.
_CLOCKS_READ = 8
# Sensors of the whole package, by driver: Intel's and AMD's, and the thermal zones that firmware calls so.
_PACKAGE_SENSORS = frozenset({"x86_pkg_temp", "cpu-thermal", "cpu_thermal", "k10temp", "zenpower"})


@dataclass(frozen=True)
class Counters:
    """One reading; every field but clock and temperature only ever grows. Times in seconds, None for unknown.

    Attributes:
        cpu_s: time of all logical CPUs of the machine together, idle time included (/proc/stat, proc(5)).
        idle_s: the part of it in which they had nothing to run, or waited for storage.
        steal_s: the part of it in which the hypervisor ran something else although they had.
        process_s: CPU time of this process, all threads.
        voluntary_switches: times a thread of this process waited for something; getrusage(2).
        involuntary_switches: times the kernel took the CPU from a thread of this process.
        minor_faults: page faults of this process served without storage.
        major_faults: page faults of this process that waited for storage.
        throttled_s: time the control group and its parents were stopped for having used up their quota,
            summed over CPUs.
        thermal_throttles: times the cores whose clock is read slowed down for heat (Intel).
        clock_mhz: median (the upper one) of the clocks of at most eight CPUs, spread over those asked for.
        temperature_c: highest temperature of a processor package.
    """

    cpu_s: float | None
    idle_s: float | None
    steal_s: float | None
    process_s: float
    voluntary_switches: int
    involuntary_switches: int
    minor_faults: int
    major_faults: int
    throttled_s: float | None
    thermal_throttles: int | None
    clock_mhz: float | None
    temperature_c: float | None


def counters(root: Path = SYSTEM, cpus: tuple[int, ...] = ()) -> Counters:
    """Return the counters as they are now; the clock is that of ``cpus`` (default: all)."""
    files = _files(root, cpus)
    cpu_s, idle_s, steal_s = _cpu_times(files.stat)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    clocks = _known(topology.read_int(path) for path in files.clocks)
    temperatures = _known(topology.read_int(path) for path in files.temperatures)
    throttles = _known(topology.read_int(path) for path in files.thermal_throttles)
    return Counters(
        cpu_s=cpu_s,
        idle_s=idle_s,
        steal_s=steal_s,
        process_s=usage.ru_utime + usage.ru_stime,
        voluntary_switches=usage.ru_nvcsw,
        involuntary_switches=usage.ru_nivcsw,
        minor_faults=usage.ru_minflt,
        major_faults=usage.ru_majflt,
        throttled_s=_throttled(files.cgroups),
        thermal_throttles=sum(throttles) if throttles else None,
        clock_mhz=sorted(clocks)[len(clocks) // 2] / 1e3 if clocks else None,
        temperature_c=max(temperatures) / 1e3 if temperatures else None,
    )


def difference(before: Counters, after: Counters, elapsed_s: float) -> dict[str, Any]:
    """Return what happened between two readings, ``elapsed_s`` of wall time apart, ready for JSON.

    ``steal_share`` is stolen time over all time in which a CPU had something to run, 0 to 1: idle CPUs do not
    dilute it. ``other_cpus`` is how many CPUs other processes kept busy. The kernel counts both in ticks of
    (mostly) 10 ms: None or coarse for shorter spans. ``clock_mhz`` and ``temperature_c`` are those at the
    end: before the batch the processor may have been idle.
    """
    cpu_s, idle_s, steal_s = (
        _growth(getattr(before, name), getattr(after, name)) for name in ("cpu_s", "idle_s", "steal_s")
    )
    steal_share = other_cpus = None
    if cpu_s is not None and idle_s is not None and steal_s is not None:
        wanted_s = cpu_s - idle_s
        steal_share = min(1.0, steal_s / wanted_s) if wanted_s > 0 else None
        own_s = after.process_s - before.process_s
        other_cpus = max(0.0, wanted_s - steal_s - own_s) / elapsed_s if elapsed_s > 0 else None
    return {
        "steal_share": steal_share,
        "other_cpus": other_cpus,
        "voluntary_switches": after.voluntary_switches - before.voluntary_switches,
        "involuntary_switches": after.involuntary_switches - before.involuntary_switches,
        "minor_faults": after.minor_faults - before.minor_faults,
        "major_faults": after.major_faults - before.major_faults,
        "throttled_s": _growth(before.throttled_s, after.throttled_s),
        "thermal_throttles": _growth(before.thermal_throttles, after.thermal_throttles),
        "clock_mhz": after.clock_mhz,
        "temperature_c": after.temperature_c,
    }


@dataclass(frozen=True)
class _Files:
    stat: Path
    clocks: tuple[Path, ...]
    thermal_throttles: tuple[Path, ...]
    temperatures: tuple[Path, ...]
    cgroups: tuple[Path, ...]


@cache
def _files(root: Path, cpus: tuple[int, ...]) -> _Files:
    asked = cpus or topology.online_cpus(root)
    step = -(-len(asked) // _CLOCKS_READ) or 1
    directories = [root / topology.CPU_DIRECTORY / f"cpu{cpu}" for cpu in asked[::step]]
    throttles = (directory / "thermal_throttle/core_throttle_count" for directory in directories)
    return _Files(
        stat=root / "proc/stat",
        clocks=tuple(path for path in map(_clock_file, directories) if path is not None),
        thermal_throttles=tuple(path for path in throttles if path.exists()),
        temperatures=_temperature_files(root),
        cgroups=tuple(
            path
            for directory in topology.cgroup_directories(root, "cpu")
            if (path := directory / "cpu.stat").exists()
        ),
    )


def _clock_file(cpu_directory: Path) -> Path | None:
    """Return the file with the clock (kHz) of one CPU: the measured one where readable, else the driver's."""
    names = ("cpuinfo_cur_freq", "scaling_cur_freq")
    paths = (cpu_directory / "cpufreq" / name for name in names)
    return next((path for path in paths if topology.read_int(path) is not None), None)


def _temperature_files(root: Path) -> tuple[Path, ...]:
    sensors = (("thermal", "thermal_zone*", "type", "temp"), ("hwmon", "hwmon*", "name", "temp1_input"))
    return tuple(
        device / temperature
        for kind, pattern, name, temperature in sensors
        for device in sorted((root / "sys/class" / kind).glob(pattern))
        if topology.read_text(device / name) in _PACKAGE_SENSORS
    )


def _cpu_times(stat: Path) -> tuple[float | None, float | None, float | None]:
    """All, idle and stolen time of: user, nice, system, idle, iowait, irq, softirq, steal (proc(5))."""
    line = (topology.read_text(stat) or "").partition("\n")[0].split()
    if len(line) < 9 or line[0] != "cpu":
        return None, None, None
    ticks = [int(field) for field in line[1:9]]
    per_second = os.sysconf("SC_CLK_TCK")
    return sum(ticks) / per_second, (ticks[3] + ticks[4]) / per_second, ticks[7] / per_second


def _throttled(files: tuple[Path, ...]) -> float | None:
    tables = [topology.read_table(path) for path in files]
    # Version 2 of control groups counts microseconds, version 1 nanoseconds.
    units = (("throttled_usec", 1e-6), ("throttled_time", 1e-9))
    times = [int(table[name]) * unit for table in tables for name, unit in units if name in table]
    return sum(times) if times else None


def _known(values: Iterable[int | None]) -> list[int]:
    return [value for value in values if value is not None]


def _growth(before: float | None, after: float | None) -> float | None:
    """The increase; None where unknown, or where a counter ran backwards as some hypervisors let steal do."""
    return after - before if before is not None and after is not None and after >= before else None
