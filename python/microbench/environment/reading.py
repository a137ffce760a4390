"""Everything about this machine and this process that could explain a number, as plain data for run.json.

`capture` reads it; it starts no process but git. Unknown is None.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import resource
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from microbench import __version__, extensions, topology
from microbench.environment import git
from microbench.environment.activity import counters
from microbench.topology import CPU_DIRECTORY, SYSTEM, read_int, read_text

# Of the user's environment only what changes the libraries' behaviour is kept: the rest may hold secrets.
_VARIABLES = re.compile(
    r"(OMP|KMP|GOMP|OPENBLAS|MKL|DNNL|ONEDNN|CUDA|NCCL|MALLOC|MICROBENCH)_.*|LD_PRELOAD", re.DOTALL
)
# Likewise the kernel's command line: parameters about clocks, idling, isolation, memory and mitigations.
_KERNEL_PARAMETERS = re.compile(
    r"(mitigations|spectre_|spec_|nospec|nopti|pti|l1tf|mds|tsx|retbleed|srbds|mmio_stale_data|gather_data|"
    r"isolcpus|nohz|rcu_nocbs|irqaffinity|nosmt|maxcpus|nr_cpus|intel_pstate|amd_pstate|cpufreq|cpuidle|"
    r"processor\.max_cstate|intel_idle|idle|clocksource|tsc|hpet|preempt|skew_tick|hugepage|default_hugepagesz|"
    r"transparent_hugepage|numa|threadirqs|norandmaps)"
)
_ARITHMETIC_FLAGS = re.compile(
    r"sse|ssse|avx|fma|f16c|amx|asimd|sve|sme(?!p)|fphp|bf16|i8mm|fp$|(hypervisor|constant_tsc|nonstop_tsc)$"
)
# Run-time dependencies as pyproject.toml lists them; a test compares the two.
PACKAGES = (
    "numpy",
    "scipy",
    "pandas",
    "scipy-openblas32",
    "ml_dtypes",
    "msgspec",
    "rich",
    "tabulate",
)
# Names of server cores by (implementer, part), from Arm's reference manuals and Linux's cputype.h: unlike an x86
# processor, an Arm one does not know its name.
_ARM_CORES = {
    ("0x41", "0xd0c"): "Arm Neoverse N1",
    ("0x41", "0xd40"): "Arm Neoverse V1",
    ("0x41", "0xd49"): "Arm Neoverse N2",
    ("0x41", "0xd4f"): "Arm Neoverse V2",
    ("0x41", "0xd84"): "Arm Neoverse V3",
    ("0x43", "0x0af"): "Marvell ThunderX2",
    ("0x46", "0x001"): "Fujitsu A64FX",
    ("0x48", "0xd01"): "HiSilicon Kunpeng 920",
    ("0xc0", "0xac3"): "Ampere AmpereOne",
}
# DMI names of virtual machines on Arm, where no processor flag tells.
_VIRTUAL_PRODUCTS = re.compile(
    r"KVM|QEMU|VMware|VirtualBox|Virtual Machine|Xen|Amazon EC2|Google|OpenStack|BHYVE"
)
_CONTAINERS = re.compile(r"docker|libpod|kubepods|containerd|lxc|apptainer|singularity")


def capture(
    command: Sequence[str], cpus: Collection[int] | None = None, root: Path = SYSTEM
) -> dict[str, Any]:
    """Return the environment of a run started as ``command``, ready for JSON; what is missing is None.

    ``cpus`` are the logical CPUs the process may use (default: `topology.allowed_cpus`). ``root`` stands for
    the directory / where /proc, /sys and /etc are read; what Python itself knows (its version, packages,
    variables, the kernel's name) is always this process's. Takes 0.02 s, importing numpy aside.
    """
    project, current = git.start(git.project_tree()), git.start(Path())
    allowed = topology.allowed_cpus() if cpus is None else tuple(sorted(cpus))
    now = datetime.now(timezone.utc)
    flags = topology.processor_flags(root)
    return {
        "time": {
            "utc": now.isoformat(timespec="seconds"),
            "local": now.astimezone().isoformat(timespec="seconds"),
            "zone": now.astimezone().tzname(),
            "uptime_s": _first_float(read_text(root / "proc/uptime")),
        },
        "command": [_decodable(argument) for argument in command],
        "microbench": __version__,
        "processor": _processor(root, flags),
        "affinity": _affinity(root, allowed),
        "caches": _caches(root),
        "numa": {
            f"node{node.number}": {
                "cpus": topology.format_cpu_list(node.cpus),
                "memory_bytes": node.memory_bytes,
                "distances": read_text(root / f"sys/devices/system/node/node{node.number}/distance"),
            }
            for node in topology.numa_nodes(root)
        },
        "clock": _clock(root),
        "memory": _memory(root),
        "system": _system(root),
        "vulnerabilities": {
            path.name: read_text(path)
            for path in sorted((root / CPU_DIRECTORY / "vulnerabilities").glob("*"))
        },
        "virtualisation": _virtualisation(root, flags),
        "limits": _limits(root),
        "load": _load(root),
        "variables": {
            name: _decodable(value)
            for name, value in sorted(os.environ.items())
            if _VARIABLES.fullmatch(name)
        },
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "compiler": platform.python_compiler(),
            "build_flags": sysconfig.get_config_var("OPT"),
            "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
            "optimize": sys.flags.optimize,
            "dev_mode": sys.flags.dev_mode,
        },
        "packages": _package_versions(),
        "numpy_blas": _numpy_blas(),
        "build": _build(),
        # The project's tree is small and its commit a factor; the current directory's may be huge and is none.
        "git": {"project": git.state(project, 5.0), "current_directory": git.state(current, 0.2)},
    }


def _processor(root: Path, flags: frozenset[str] | None) -> dict[str, Any]:
    fields = topology.cpuinfo(root)
    cpus = topology.online_cpus(root)
    cores = {topology.thread_siblings(cpu, root) for cpu in cpus}
    packages = {topology.package(cpu, root) for cpu in cpus} - {None}
    part = (fields.get("CPU implementer", ""), fields.get("CPU part", ""))
    smt = read_int(root / CPU_DIRECTORY / "smt/active")
    return {
        "architecture": platform.machine(),
        # "cpu" is what POWER calls it.
        "model_name": fields.get("model name") or _ARM_CORES.get(part) or fields.get("cpu"),
        "vendor": fields.get("vendor_id") or fields.get("CPU implementer"),
        "family": fields.get("cpu family"),
        "model": fields.get("model") or fields.get("CPU part"),
        "stepping": fields.get("stepping") or fields.get("CPU revision") or fields.get("revision"),
        "variant": fields.get("CPU variant"),
        "microcode": fields.get("microcode"),
        "sockets": len(packages) or None,
        "cores": len(cores) or None,
        "threads": len(cpus) or os.cpu_count(),
        "smt_active": bool(smt) if smt is not None else None,
        "smt_control": read_text(root / CPU_DIRECTORY / "smt/control"),
        "arithmetic_flags": sorted(filter(_ARITHMETIC_FLAGS.match, flags)) if flags is not None else None,
    }


def _affinity(root: Path, allowed: tuple[int, ...]) -> dict[str, Any]:
    siblings = {sibling for cpu in allowed for sibling in topology.thread_siblings(cpu, root)}
    return {
        "cpus": topology.format_cpu_list(allowed),
        "cores": len(topology.physical_cores(allowed, root)),
        "siblings_outside": topology.format_cpu_list(siblings.difference(allowed)),
    }


def _caches(root: Path) -> list[dict[str, Any]]:
    """Like caches counted: a list of each one would be hundreds long on a server."""
    kinds = Counter(
        (cache.level, cache.type, cache.size_bytes, len(cache.shared_cpus))
        for cache in topology.caches(None, root)
    )
    names = ("level", "type", "size_bytes", "cpus_each")
    return [dict(zip(names, kind, strict=True)) | {"instances": count} for kind, count in kinds.items()]


def _clock(root: Path) -> dict[str, Any]:
    """Clocks in MHz: limits over all CPUs, the current one a median; drivers and policies in words."""
    cpus = root / CPU_DIRECTORY
    policies = sorted((cpus / "cpufreq").glob("policy[0-9]*"))
    now = counters(root)
    no_turbo = read_int(cpus / "intel_pstate/no_turbo")
    boost = read_int(cpus / "cpufreq/boost")
    return {
        "driver": _each(policies, "scaling_driver"),
        "governor": _each(policies, "scaling_governor"),
        "energy_preference": _each(policies, "energy_performance_preference"),
        "hardware_minimum_mhz": _mhz(min, policies, "cpuinfo_min_freq"),
        "hardware_maximum_mhz": _mhz(max, policies, "cpuinfo_max_freq"),
        "base_mhz": _mhz(max, policies, "base_frequency"),
        "policy_minimum_mhz": _mhz(min, policies, "scaling_min_freq"),
        "policy_maximum_mhz": _mhz(max, policies, "scaling_max_freq"),
        "current_mhz": now.clock_mhz,
        # On virtual machines this is the nominal clock and never changes.
        "cpuinfo_mhz": _first_float(topology.cpuinfo(root).get("cpu MHz")),
        "boost": not no_turbo if no_turbo is not None else bool(boost) if boost is not None else None,
        "temperature_c": now.temperature_c,
        "idle_driver": read_text(cpus / "cpuidle/current_driver"),
        "clock_source": read_text(root / "sys/devices/system/clocksource/clocksource0/current_clocksource"),
    }


def _memory(root: Path) -> dict[str, Any]:
    sizes = topology.meminfo_bytes(root)
    swap, free = sizes.get("SwapTotal"), sizes.get("SwapFree")
    pages = root / "sys/kernel/mm/transparent_hugepage"
    return {
        "total_bytes": sizes.get("MemTotal"),
        "available_bytes": topology.available_memory_bytes(root),
        "swap_bytes": swap,
        "swap_used_bytes": swap - free if swap is not None and free is not None else None,
        "page_bytes": os.sysconf("SC_PAGE_SIZE"),
        "transparent_huge_pages": _chosen(pages / "enabled"),
        "transparent_huge_pages_defrag": _chosen(pages / "defrag"),
        "reserved_huge_pages": read_int(root / "proc/sys/vm/nr_hugepages"),
        "huge_page_bytes": sizes.get("Hugepagesize"),
        "swappiness": read_int(root / "proc/sys/vm/swappiness"),
        "numa_balancing": read_int(root / "proc/sys/kernel/numa_balancing"),
    }


def _system(root: Path) -> dict[str, Any]:
    name = os.uname()
    release = dict(
        line.replace('"', "").split("=", 1)
        for line in (read_text(root / "etc/os-release") or "").splitlines()
        if "=" in line
    )
    parameters = (read_text(root / "proc/cmdline") or "").split()
    return {
        "hostname": name.nodename,
        "kernel": name.sysname,
        "kernel_release": name.release,
        "kernel_version": name.version,
        "kernel_parameters": [parameter for parameter in parameters if _KERNEL_PARAMETERS.match(parameter)],
        "isolated_cpus": read_text(root / CPU_DIRECTORY / "isolated"),
        "distribution": release.get("PRETTY_NAME"),
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "address_space_randomisation": read_int(root / "proc/sys/kernel/randomize_va_space"),
        "vendor": read_text(root / "sys/class/dmi/id/sys_vendor"),
        "product": read_text(root / "sys/class/dmi/id/product_name"),
        "firmware": read_text(root / "sys/class/dmi/id/bios_version"),
        "firmware_date": read_text(root / "sys/class/dmi/id/bios_date"),
        "on_battery": _on_battery(root),
    }


def _on_battery(root: Path) -> bool | None:
    supplies = root / "sys/class/power_supply"
    if not supplies.is_dir():
        return None
    # Scope "Device" is a mouse's or a keyboard's battery.
    return any(
        read_text(supply / "type") == "Battery"
        and read_text(supply / "scope") != "Device"
        and read_text(supply / "status") == "Discharging"
        for supply in supplies.iterdir()
    )


def _virtualisation(root: Path, flags: frozenset[str] | None) -> dict[str, Any]:
    return {
        "virtual_machine": _virtual_machine(root, flags),
        "hypervisor": read_text(root / "sys/hypervisor/type"),
        "container": _container(root),
    }


def _virtual_machine(root: Path, flags: frozenset[str] | None) -> bool | None:
    if "flags" in topology.cpuinfo(root) and flags is not None:
        return "hypervisor" in flags
    if (root / "proc/device-tree/hypervisor").exists() or (root / "sys/hypervisor/type").exists():
        return True
    dmi = root / "sys/class/dmi/id"
    names = [name for name in (read_text(dmi / "sys_vendor"), read_text(dmi / "product_name")) if name]
    # Amazon's bare-metal instances differ from its virtual machines by this ending alone.
    return (
        bool(_VIRTUAL_PRODUCTS.search(" ".join(names))) and not names[-1].endswith(".metal")
        if names
        else None
    )


def _container(root: Path) -> str | None:
    """The kind of container, None where there is no sign of one."""
    for mark, kind in (
        (".dockerenv", "docker"),
        ("run/.containerenv", "podman"),
        (".singularity.d", "apptainer"),
    ):
        if (root / mark).exists():
            return kind
    named = _CONTAINERS.search(read_text(root / "proc/self/cgroup") or "")
    return read_text(root / "run/systemd/container") or (named[0] if named else None)


def _limits(root: Path) -> dict[str, Any]:
    kinds = {
        "address_space_bytes": resource.RLIMIT_AS,
        "data_bytes": resource.RLIMIT_DATA,
        "stack_bytes": resource.RLIMIT_STACK,
        "locked_memory_bytes": resource.RLIMIT_MEMLOCK,
        "open_files": resource.RLIMIT_NOFILE,
        "processes": resource.RLIMIT_NPROC,
    }
    soft = {name: resource.getrlimit(kind)[0] for name, kind in kinds.items()}
    return {
        "cgroup_cpus": topology.cpu_quota(root),
        "cgroup_memory_bytes": topology.memory_limit_bytes(root),
        "resources": {
            name: "unlimited" if value == resource.RLIM_INFINITY else value for name, value in soft.items()
        },
    }


def _load(root: Path) -> dict[str, Any]:
    # "0.20 0.18 0.12 1/80 11206": averages over 1, 5 and 15 minutes, runnable and all threads, last process.
    fields = (read_text(root / "proc/loadavg") or "").split()
    runnable = topology.to_int(fields[3].split("/")[0]) if len(fields) == 5 else None
    processes = sum(entry.name.isdigit() for entry in (root / "proc").glob("[0-9]*"))
    return {
        "averages": [float(field) for field in fields[:3]] if len(fields) == 5 else None,
        "other_runnable_threads": max(0, runnable - 1) if runnable is not None else None,
        "other_processes": processes - 1 if processes else None,
    }


def _package_versions() -> dict[str, str | None]:
    from importlib import metadata

    versions: dict[str, str | None] = dict.fromkeys(PACKAGES)
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _numpy_blas() -> dict[str, Any]:
    import numpy as np

    configuration: Any = np.show_config(mode="dicts")
    blas = configuration.get("Build Dependencies", {}).get("blas", {})
    # The rest are folders of the machine that built the wheel.
    names = {"name": "name", "version": "version", "configuration": "openblas configuration"}
    return {name: blas.get(theirs) for name, theirs in names.items()}


def _build() -> dict[str, str] | None:
    try:
        module = extensions.load("microbench._cpu")
    except ImportError:
        return None
    return dict(module.build())


def _each(directories: Iterable[Path], name: str) -> str | None:
    """What a file says in all directories, each different answer once."""
    answers = {read_text(directory / name) for directory in directories} - {None}
    return ", ".join(sorted(map(str, answers))) or None


def _mhz(choose: Callable[[list[int]], int], directories: Iterable[Path], name: str) -> float | None:
    """The lowest or highest of a file's values, which the kernel gives in kHz."""
    values = [value for directory in directories if (value := read_int(directory / name)) is not None]
    return choose(values) / 1e3 if values else None


def _chosen(path: Path) -> str | None:
    """The word in brackets, as in ``always [madvise] never``."""
    match = re.search(r"\[(.+)\]", read_text(path) or "")
    return match[1] if match else None


def _decodable(text: str) -> str:
    """Arguments and variables may hold bytes that are no text, which JSON cannot."""
    return os.fsencode(text).decode(errors="replace")


def _first_float(text: str | None) -> float | None:
    try:
        return float((text or "").split()[0])
    except (ValueError, IndexError):
        return None
