"""A captured environment in words: what is wrong with it, and what it is."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import Any

# 100 columns less the widest label and the space between.
_VALUE_WIDTH = 84
# Swap in use below this share of the memory is what idle processes leave behind.
_SWAP_SHARE = 0.01
# Clock sources of virtual machines that cost as little as the time-stamp counter itself.
_FAST_CLOCK_SOURCES = ("tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "timebase")
# Variables that hold a library to the kernels, or to the arithmetic, of another processor.
_OVERRIDES = (
    "OPENBLAS_CORETYPE",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "MKL_ENABLE_INSTRUCTIONS",
    "LD_PRELOAD",
)


def warnings(environment: Mapping[str, Any]) -> list[str]:
    """Return one sentence, with consequence and remedy, for each thing that makes numbers less certain here.

    Takes what `capture` returned, or its JSON read back; what is unknown causes no warning.
    """
    checks = (_platform_warnings, _clock_warnings, _memory_warnings, _sharing_warnings, _software_warnings)
    return [sentence for check in checks for sentence in check(environment)]


def _platform_warnings(environment: Mapping[str, Any]) -> list[str]:
    found = []
    if _at(environment, "virtualisation.virtual_machine"):
        found.append(
            "virtual machine: the real clock, the neighbours and often the core a virtual CPU runs on are "
            "hidden, so times can shift between boots; compare only runs of one instance, look at each record's "
            "steal time, and publish numbers from bare metal"
        )
    if _at(environment, "system.on_battery"):
        found.append("on battery: the firmware lowers clocks to save power; plug the machine in")
    return found


def _clock_warnings(environment: Mapping[str, Any]) -> list[str]:
    found = []
    governor = _at(environment, "clock.governor")
    # "userspace" holds the clock somebody chose.
    if governor not in (None, "performance", "userspace"):
        found.append(
            f"frequency governor {governor}: the clock rises only some milliseconds into the work, so short "
            "kernels look slow; set it with: cpupower frequency-set --governor performance"
        )
    if _at(environment, "clock.boost"):
        intel = "intel" in (_at(environment, "clock.driver") or "")
        remedy = (
            "echo 1 > /sys/devices/system/cpu/intel_pstate/no_turbo"
            if intel
            else "echo 0 > /sys/devices/system/cpu/cpufreq/boost"
        )
        found.append(
            "boost clocks are on: the clock depends on temperature and on how many cores are busy, so small "
            f"differences may be the clock's; for close comparisons switch them off with: {remedy}"
        )
    source = _at(environment, "clock.clock_source")
    if source not in (None, *_FAST_CLOCK_SOURCES):
        found.append(
            f"clock source {source}: reading the time takes about a microsecond, which samples of short "
            "kernels contain; boot with tsc=reliable where the processor's time-stamp counter can be trusted"
        )
    return found


def _memory_warnings(environment: Mapping[str, Any]) -> list[str]:
    found = []
    used, total = _at(environment, "memory.swap_used_bytes"), _at(environment, "memory.total_bytes")
    if used and total and used > _SWAP_SHARE * total:
        found.append(
            f"{size_text(used)} of swap in use: pages that come back from it stall whoever touches them; close "
            "what needs the memory, then: swapoff -a && swapon -a"
        )
    if _at(environment, "memory.numa_balancing") and len(_at(environment, "numa") or ()) > 1:
        found.append(
            "automatic NUMA balancing is on: the kernel unmaps and moves pages while they are being timed; "
            "switch it off with: sysctl kernel.numa_balancing=0"
        )
    return found


def _sharing_warnings(environment: Mapping[str, Any]) -> list[str]:
    found = []
    quota, cores = _at(environment, "limits.cgroup_cpus"), _at(environment, "affinity.cores")
    if quota is not None and cores is not None and quota < cores:
        found.append(
            f"the control group grants {quota:g} CPUs' time but {cores} cores may be used: with more threads "
            "than that all of them are stopped for part of every period; use --threads "
            f"{max(1, int(quota))} or raise the quota"
        )
    siblings = _at(environment, "affinity.siblings_outside")
    if siblings:
        found.append(
            f"CPUs {siblings} share cores with this process's CPUs but are not among them: what others run "
            "there takes part of each core without showing as steal time; ask for whole cores"
        )
    averages = _at(environment, "load.averages")
    if averages and averages[0] >= 1:
        smt = " or their SMT siblings" if _at(environment, "processor.smt_active") else ""
        found.append(
            f"load average {averages[0]:.2f} at the start: other work may take cores{smt}, caches and memory "
            "bandwidth; wait until the machine is idle (a benchmark that has just ended still counts for some "
            "minutes)"
        )
    return found


def _software_warnings(environment: Mapping[str, Any]) -> list[str]:
    variables = _at(environment, "variables") or {}
    found = [
        f"{name}={variables[name]} is set: libraries may run other code than this processor would get; unset "
        "it unless that is what is being measured"
        for name in _OVERRIDES
        if name in variables
    ]
    if _at(environment, "git.project.dirty"):
        found.append(
            "microbench runs from a tree with uncommitted changes: no commit names the code that measured; "
            "commit before measuring anything to be kept"
        )
    return found


def describe(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (label, value) pairs for a terminal of 100 columns, in human units; libraries are left out."""
    pairs = (
        ("Processor", _processor(environment)),
        ("Cores", _cores(environment)),
        ("Caches", _caches(environment)),
        ("Memory", _memory(environment)),
        ("Clock", _clock(environment)),
        ("System", _joined(environment, "system.distribution", "system.kernel_release", "system.libc")),
        ("Virtualisation", _virtualisation(environment)),
        ("Python", _python(environment)),
        ("Compiler", _joined(environment, "build.compiler", "build.flags")),
    )
    return [
        (label, textwrap.shorten(value, _VALUE_WIDTH, placeholder=" ...") or "unknown")
        for label, value in pairs
    ]


def size_text(size: float) -> str:
    """Return a number of bytes in binary units, three digits: ``1.25 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"


def _processor(environment: Mapping[str, Any]) -> str:
    name = _at(environment, "processor.model_name") or _at(environment, "processor.architecture") or "unknown"
    numbers = {
        key: _at(environment, f"processor.{key}") for key in ("family", "model", "stepping", "microcode")
    }
    known = [f"{key} {value}" for key, value in numbers.items() if value is not None]
    return ", ".join([re.sub(r"\((R|TM)\)| CPU| Processor", "", name), *known])


def _cores(environment: Mapping[str, Any]) -> str:
    parts = [
        _count(_at(environment, "processor.cores"), "core"),
        _count(_at(environment, "processor.threads"), "thread"),
        _count(_at(environment, "processor.sockets"), "socket"),
        _count(len(_at(environment, "numa") or ()) or None, "NUMA node"),
    ]
    usable = _at(environment, "affinity.cpus")
    cores = _count(_at(environment, "affinity.cores"), "core")
    return ", ".join([*filter(None, parts), *([f"usable: CPUs {usable} ({cores})"] if usable else [])])


def _caches(environment: Mapping[str, Any]) -> str:
    kinds = {"Data": "d", "Instruction": "i"}
    return ", ".join(
        f"L{cache['level']}{kinds.get(cache['type'], '')} {cache['instances']} x "
        + (size_text(cache["size_bytes"]) if cache["size_bytes"] is not None else "unknown")
        for cache in _at(environment, "caches") or ()
    )


def _memory(environment: Mapping[str, Any]) -> str:
    parts = []
    for name, words in (("total", ""), ("available", " available"), ("swap", " swap")):
        value = _at(environment, f"memory.{name}_bytes")
        if value is not None:
            parts.append(size_text(value) + words if value or name != "swap" else "no swap")
    pages = _at(environment, "memory.transparent_huge_pages")
    return ", ".join([*parts, *([f"transparent huge pages: {pages}"] if pages else [])])


def _clock(environment: Mapping[str, Any]) -> str:
    low, high = _at(environment, "clock.hardware_minimum_mhz"), _at(environment, "clock.hardware_maximum_mhz")
    parts = [f"{low:.0f}-{high:.0f} MHz"] if low is not None and high is not None else []
    now, nominal = _at(environment, "clock.current_mhz"), _at(environment, "clock.cpuinfo_mhz")
    if now is not None:
        parts.append(f"now {now:.0f} MHz")
    elif nominal is not None:
        parts.append(f"{nominal:.0f} MHz (/proc/cpuinfo)")
    governor, driver = _at(environment, "clock.governor"), _at(environment, "clock.driver")
    parts += [f"governor {governor}"] if governor else ["governor unknown"]
    parts += [f"driver {driver}"] if driver else []
    boost = _at(environment, "clock.boost")
    return ", ".join([*parts, *([f"boost {'on' if boost else 'off'}"] if boost is not None else [])])


def _virtualisation(environment: Mapping[str, Any]) -> str:
    machine = {True: "virtual machine", False: "bare metal"}.get(
        _at(environment, "virtualisation.virtual_machine"), "unknown whether a virtual machine"
    )
    container, quota = _at(environment, "virtualisation.container"), _at(environment, "limits.cgroup_cpus")
    memory = _at(environment, "limits.cgroup_memory_bytes")
    parts = [machine]
    parts += [f"{container} container"] if container else []
    parts += [f"limited to {quota:g} CPUs"] if quota is not None else []
    parts += [f"limited to {size_text(memory)}"] if memory is not None else []
    return ", ".join(parts)


def _python(environment: Mapping[str, Any]) -> str:
    interpreter = _joined(environment, "python.implementation", "python.version", separator=" ")
    names = ("numpy", "scipy")
    versions = {name: _at(environment, f"packages.{name}") for name in names}
    return ", ".join([interpreter, *(f"{name} {version}" for name, version in versions.items() if version)])


def _joined(environment: Mapping[str, Any], *paths: str, separator: str = ", ") -> str:
    return separator.join(str(value) for path in paths if (value := _at(environment, path)))


def _count(number: int | None, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}" if number is not None else ""


def _at(environment: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; None where the environment, perhaps an older one, does not have it."""
    value: Any = environment
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
