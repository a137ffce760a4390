"""The processors and memory this process may use: cores, caches, NUMA nodes and cgroup limits.

Everything but the affinity is read from Linux's /proc and /sys below a given ``root``; where a file is
missing (another system, an old kernel, a directory hidden from a container) the answer is None or empty,
never an exception.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from microbench.errors import InputError

SYSTEM = Path("/")
CPU_DIRECTORY = "sys/devices/system/cpu"

# Linux can be built for at most 8192 CPUs; the bound keeps "0-999999999" from filling the memory.
_CPU_NUMBER_END = 65536
_CPU_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
# cgroup v1 writes "no limit" as the largest multiple of the page size in 63 bits.
_NO_LIMIT_BYTES = 1 << 60


def read_text(path: Path) -> str | None:
    """Return the stripped text of a small file, or None where it is missing, unreadable or empty."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - half the cost of Path.read_bytes, and read in every batch
            return file.read().decode(errors="replace").strip("\0 \t\n") or None
    except OSError:
        return None


def read_int(path: Path) -> int | None:
    """Return the one integer a file holds, or None."""
    return to_int(read_text(path))


def to_int(text: str | None) -> int | None:
    """Return a decimal or 0x-prefixed integer, or None where ``text`` is something else."""
    try:
        return int(text, 0) if text is not None else None
    except ValueError:
        return None


def read_table(path: Path) -> dict[str, str]:
    """Return the lines ``name: value`` or ``name value`` of a file such as /proc/meminfo as a mapping."""
    pairs = (line.split(maxsplit=1) for line in (read_text(path) or "").splitlines())
    return {pair[0].rstrip(":"): pair[1] for pair in pairs if len(pair) == 2}


def parse_cpu_list(text: str, option: str = "--cpus") -> tuple[int, ...]:
    """Return the CPU numbers named by a list such as ``0-3,8``, ascending and without repetition.

    Raises:
        InputError: the text is not such a list; the sentence names ``option``.
    """
    cpus: set[int] = set()
    for part in text.strip().split(","):
        match = _CPU_RANGE.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if not first <= last < _CPU_NUMBER_END:
            raise InputError(
                f"{option}: {part.strip()!r} in {text!r} is not a CPU number or an ascending range: write a "
                f"list such as 0-3,8 with numbers below {_CPU_NUMBER_END}"
            )
        cpus.update(range(first, last + 1))
    return tuple(sorted(cpus))


def format_cpu_list(cpus: Iterable[int]) -> str:
    """Return CPU numbers as Linux writes them, ``0-3,8``; the inverse of `parse_cpu_list`. Empty for none."""
    ranges: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if ranges and cpu == ranges[-1][1] + 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def read_cpu_list(path: Path) -> tuple[int, ...] | None:
    """Return the CPUs a file of the kernel lists, or None where it is missing or names none."""
    text = read_text(path)
    try:
        return parse_cpu_list(text, str(path)) if text is not None else None
    except InputError:
        return None


def allowed_cpus() -> tuple[int, ...]:
    """Return the logical CPUs this process may run on, ascending: its affinity, or else all CPUs."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def online_cpus(root: Path = SYSTEM) -> tuple[int, ...]:
    """Return the logical CPUs the kernel has brought up, ascending; empty where it does not say."""
    return read_cpu_list(root / CPU_DIRECTORY / "online") or ()


def cpuinfo(root: Path = SYSTEM) -> dict[str, str]:
    """Return what /proc/cpuinfo says of the first processor; empty where there is no such file."""
    fields: dict[str, str] = {}
    # Only the first processor's lines are read: the kernel takes milliseconds to write hundreds of them.
    with contextlib.suppress(OSError), (root / "proc/cpuinfo").open(errors="replace") as lines:
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                break
            fields[name.strip()] = value.strip()
    return fields


def processor_flags(root: Path = SYSTEM) -> frozenset[str] | None:
    """Return the instruction-set flags as /proc/cpuinfo spells them (flags on x86, Features on Arm)."""
    fields = cpuinfo(root)
    text = fields.get("flags", fields.get("Features"))
    return frozenset(text.split()) if text is not None else None


def thread_siblings(cpu: int, root: Path = SYSTEM) -> tuple[int, ...]:
    """Return the logical CPUs that share a physical core with ``cpu``; ``cpu`` alone where unknown."""
    return read_cpu_list(root / CPU_DIRECTORY / f"cpu{cpu}/topology/thread_siblings_list") or (cpu,)


def package(cpu: int, root: Path = SYSTEM) -> int | None:
    """Return the number of the socket that ``cpu`` is in."""
    return read_int(root / CPU_DIRECTORY / f"cpu{cpu}/topology/physical_package_id")


def physical_cores(cpus: Collection[int] | None = None, root: Path = SYSTEM) -> tuple[int, ...]:
    """Return the first logical CPU of each physical core in ``cpus`` (default: `allowed_cpus`).

    Ordered by socket, then NUMA node, then number: the first n of them are as near to each other as can be.
    """
    usable = set(allowed_cpus() if cpus is None else cpus)
    node_of = {cpu: node.number for node in numa_nodes(root) for cpu in node.cpus}
    first = {min(usable & {cpu, *thread_siblings(cpu, root)}) for cpu in usable}
    return tuple(sorted(first, key=lambda cpu: (package(cpu, root) or 0, node_of.get(cpu, 0), cpu)))


@dataclass(frozen=True)
class Node:
    """A NUMA node: its logical CPUs (none where it is memory alone) and the memory attached to it."""

    number: int
    cpus: tuple[int, ...]
    memory_bytes: int | None


def numa_nodes(root: Path = SYSTEM) -> list[Node]:
    """Return the NUMA nodes, ascending; empty where the kernel lists none."""
    directory = root / "sys/devices/system/node"
    nodes = []
    for number in read_cpu_list(directory / "online") or ():
        # "Node 0 MemTotal:  131754204 kB"
        total = re.search(r"MemTotal: +([0-9]+) kB", read_text(directory / f"node{number}/meminfo") or "")
        cpus = read_cpu_list(directory / f"node{number}/cpulist") or ()
        nodes.append(Node(number, cpus, int(total[1]) * 1024 if total else None))
    return nodes


@dataclass(frozen=True)
class Cache:
    """One cache; ``type`` is Data, Instruction or Unified, ``shared_cpus`` the logical CPUs that use it."""

    level: int
    type: str
    size_bytes: int | None
    shared_cpus: tuple[int, ...]


def caches(cpus: Collection[int] | None = None, root: Path = SYSTEM) -> list[Cache]:
    """Return each distinct cache in front of ``cpus`` (default: all) once, by level, type and first CPU.

    Empty where the kernel lists none. It never lists caches on the memory's side, such as the system-level
    cache of Arm servers.
    """
    found = {}
    for cpu in online_cpus(root) if cpus is None else cpus:
        for index in sorted((root / CPU_DIRECTORY / f"cpu{cpu}/cache").glob("index[0-9]*")):
            level, kind = read_int(index / "level"), read_text(index / "type")
            shared = read_cpu_list(index / "shared_cpu_list") or (cpu,)
            if level is not None and kind is not None and (level, kind, shared) not in found:
                found[level, kind, shared] = Cache(level, kind, _cache_size(index / "size"), shared)
    return [found[key] for key in sorted(found)]


def _cache_size(path: Path) -> int | None:
    match = re.fullmatch(r"([0-9]+)([KMG])", read_text(path) or "")
    return int(match[1]) << {"K": 10, "M": 20, "G": 30}[match[2]] if match else None


def last_level_cache_bytes(cpus: Collection[int] | None = None, root: Path = SYSTEM) -> int | None:
    """Return the total bytes of the distinct last-level caches behind ``cpus`` (default: `allowed_cpus`).

    The last level is found for each CPU on its own: processors with unlike cores differ in it. None where it
    is unknown for any one of them, since a flush of half the cache would pass for a whole one.
    """
    behind = allowed_cpus() if cpus is None else cpus
    holding_data = [cache for cache in caches(behind, root) if cache.type != "Instruction"]
    last: set[Cache] = set()
    for cpu in behind:
        reachable = [cache for cache in holding_data if cpu in cache.shared_cpus]
        if not reachable:
            return None
        last.add(max(reachable, key=lambda cache: cache.level))
    sizes = [cache.size_bytes for cache in last]
    return sum(size for size in sizes if size is not None) if sizes and None not in sizes else None


def cgroup_directories(root: Path, controller: str) -> tuple[Path, ...]:
    """Return the directories of this process's control group and its parents, innermost first.

    Limits hold at every level, so all are returned. Both versions of the hierarchy are looked at, 1 (one for
    each ``controller``) and 2 (one for all): a machine may have mounted both (cgroups(7)).
    """
    directories: list[Path] = []
    memberships = [line.split(":", 2) for line in (read_text(root / "proc/self/cgroup") or "").splitlines()]
    for line in (read_text(root / "proc/self/mountinfo") or "").splitlines():
        # "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw": root, mount point; type after the dash.
        place, _, filesystem = line.partition(" - ")
        before, after = place.split(), filesystem.split()
        if len(before) < 5 or not after:
            continue
        if after[0] == "cgroup2":
            named = ""
        elif after[0] == "cgroup" and controller in after[-1].split(","):
            named = controller
        else:
            continue
        for _, controllers, group in (entry for entry in memberships if len(entry) == 3):
            if named in controllers.split(","):
                directories += _levels(root / before[4].lstrip("/"), before[3], group)
    return tuple(directories)


def _levels(mount: Path, mount_root: str, group: str) -> list[Path]:
    inside = os.path.relpath(group, mount_root)
    # A group outside what is mounted (another cgroup namespace) is seen at the mount point itself.
    parts = () if inside == "." or inside.startswith("..") else Path(inside).parts
    return [mount.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def cpu_quota(root: Path = SYSTEM) -> float | None:
    """Return how many CPUs' worth of time the control group grants (quota / period); None where unlimited."""
    granted = []
    for directory in cgroup_directories(root, "cpu"):
        quota, _, period = (read_text(directory / "cpu.max") or "").partition(" ")
        pair = (to_int(quota), to_int(period))
        if not quota:
            pair = (read_int(directory / "cpu.cfs_quota_us"), read_int(directory / "cpu.cfs_period_us"))
        if pair[0] is not None and pair[0] > 0 and pair[1]:
            granted.append(pair[0] / pair[1])
    return min(granted, default=None)


def memory_limit_bytes(root: Path = SYSTEM) -> int | None:
    """Return the lowest memory limit of the control group and its parents in bytes; None where unlimited.

    memory.high counts as a limit: beyond it the kernel slows the process down to reclaim.
    """
    return min((limit for _, limit in _memory_limits(root)), default=None)


def available_memory_bytes(root: Path = SYSTEM) -> int | None:
    """Return the bytes that can be allocated without swapping; None where unknown.

    The smaller of MemAvailable and, at each level of the control group, limit - (usage - inactive file
    cache): that cache is charged to the group but given up under pressure.
    """
    headrooms = []
    for directory, limit in _memory_limits(root):
        statistics = read_table(directory / "memory.stat")
        usage = read_int(directory / "memory.current") or read_int(directory / "memory.usage_in_bytes") or 0
        reclaimable = to_int(statistics.get("total_inactive_file", statistics.get("inactive_file"))) or 0
        headrooms.append(max(0, limit - max(0, usage - reclaimable)))
    system = meminfo_bytes(root).get("MemAvailable")
    return min([*headrooms, *([] if system is None else [system])], default=None)


def _memory_limits(root: Path) -> list[tuple[Path, int]]:
    names = ("memory.max", "memory.high", "memory.limit_in_bytes")
    limits = (
        (directory, read_int(directory / name))
        for directory in cgroup_directories(root, "memory")
        for name in names
    )
    return [
        (directory, limit)
        for directory, limit in limits
        if limit is not None and 0 <= limit < _NO_LIMIT_BYTES
    ]


def meminfo_bytes(root: Path = SYSTEM) -> dict[str, int]:
    """Return the sizes of /proc/meminfo in bytes (the file calls 1024 bytes a kB)."""
    table = read_table(root / "proc/meminfo")
    fields = ((name, value.split()) for name, value in table.items())
    return {
        name: int(value[0]) * 1024 for name, value in fields if value[1:] == ["kB"] and value[0].isdigit()
    }
