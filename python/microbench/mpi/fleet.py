"""Fleet mode: every rank runs the same sweep on its own device, and rank 0 names those that are unlike the rest.

A device is held against the median of all others, problem by problem: Wilcoxon's signed-rank test of the logarithms of
the ratios (two-sided, exact for few problems), Holm's correction over the devices. It is an outlier where that is
significant at 1 % and the median ratio is off by 3 % or more: with many problems the smallest difference is
significant. Nodes are tested likewise, by the mean of the logarithms of their devices.
"""

from __future__ import annotations

import math
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microbench.arguments import given_options
from microbench.errors import InputError
from microbench.figures import measured, number_text, wrapped
from microbench.mpi import library
from microbench.store import Run
from microbench.topology import allowed_cpus, physical_cores

LEVEL = 0.01
RELEVANT = 0.03
# The fewest problems for which the exact test can reach the level after Holm's correction over a handful of devices.
FEWEST = 10
_LINE = "{:<8} {:<28} {:>8} {:>15} {:>8}  {}"
_WAITING_S = 0.05

Times = Mapping[str, float]
"""Median seconds by what was measured."""


@dataclass(frozen=True)
class Standing:
    """One device or node beside the others.

    Attributes:
        ratio: median over the problems of its time over the median of the others; None where nothing compares.
        p_value: of the signed-rank test, corrected by Holm's method; None with fewer than `FEWEST` problems.
    """

    name: str
    problems: int
    ratio: float | None
    p_value: float | None

    @property
    def outlier(self) -> bool:
        """Whether it differs significantly and by enough to matter."""
        if self.ratio is None or self.p_value is None:
            return False
        return self.p_value < LEVEL and abs(math.log(self.ratio)) >= math.log1p(RELEVANT)


def standings(times: Mapping[str, Times]) -> list[Standing]:
    """Each of ``times`` against the others, in their order; with fewer than three nobody can tell who is unlike."""
    import numpy as np
    from scipy.stats import wilcoxon

    from microbench.stats import holm

    logs = {name: {key: math.log(value) for key, value in own.items()} for name, own in times.items()}
    ratios: dict[str, Any] = {}
    for name, own in logs.items():
        others = [other for beside, other in logs.items() if beside != name]
        common = [key for key in own if others and all(key in other for other in others)]
        ratios[name] = np.array(
            [own[key] - float(np.median([other[key] for other in others])) for key in common]
        )
    tested = [name for name, ratio in ratios.items() if len(times) > 2 and ratio.size >= FEWEST]
    p_values = (
        dict(zip(tested, holm([float(wilcoxon(ratios[name]).pvalue) for name in tested]), strict=True))
        if tested
        else {}
    )
    return [
        Standing(
            name,
            ratio.size,
            float(np.exp(np.median(ratio))) if ratio.size else None,
            float(p_values[name]) if name in p_values else None,
        )
        for name, ratio in ratios.items()
    ]


def by_node(times: Sequence[Times], nodes: Sequence[str]) -> dict[str, Times]:
    """Of the devices of each node the geometric mean of the times of what all of them measured."""
    found: dict[str, Times] = {}
    for node in dict.fromkeys(nodes):
        own = [each for each, its in zip(times, nodes, strict=True) if its == node]
        common = [key for key in own[0] if all(key in each for each in own)]
        found[node] = {key: math.exp(sum(math.log(each[key]) for each in own) / len(own)) for key in common}
    return found


def sweep(kernel: str, given: dict[str, Any], command: list[str]) -> int:
    """Measures ``kernel`` on every rank's own device as the command line asks; returns this rank's exit code.

    Raises:
        InputError: MPI is missing, or something asked for does not exist.
    """
    from microbench.options import Options
    from microbench.runner import Face
    from microbench.runner import sweep as measure

    mpi = library.load()
    world = mpi.MPI.COMM_WORLD
    rank, ranks = world.Get_rank(), world.Get_size()
    folder = world.bcast(given.get("output") or f"runs/{kernel}-fleet-{int(time.time())}", root=0)
    outcome: tuple[str, Times, int] | InputError
    try:
        _take_share(mpi, world)
        options = Options.of({"kernel": kernel} | given_options(given))
        run = measure(
            options,
            Path(folder) / f"rank-{rank:04}",
            resume=given.get("resume", False),
            command=["microbench", *command],
            face=Face(),
        )
        outcome = socket.gethostname(), _times(run), _failed(run)
    except InputError as error:
        outcome = error
    _wait_for_all(world)
    outcomes = world.gather(outcome, root=0)
    code = 0
    if rank == 0:
        code = _report(kernel, folder, ranks, outcomes)
    mpi.MPI.Finalize()
    return code


def _report(kernel: str, folder: str, ranks: int, outcomes: list[tuple[str, Times, int] | InputError]) -> int:
    for rank, outcome in enumerate(outcomes):
        if isinstance(outcome, InputError):
            print(f"microbench: rank {rank}: {outcome}", file=sys.stderr)
    if any(isinstance(outcome, InputError) for outcome in outcomes):
        return 2
    found = [outcome for outcome in outcomes if not isinstance(outcome, InputError)]
    nodes = [node for node, _, _ in found]
    devices = {f"{rank}": times for rank, (_, times, _) in enumerate(found)}
    hosts = len(set(nodes))
    print(f"{kernel} on {ranks} devices of {hosts} host{'s' * (hosts != 1)}; a run of each is in {folder}")
    print("\n".join(_table("device", standings(devices), nodes)))
    if hosts > 1:
        of_nodes = standings(by_node([times for _, times, _ in found], nodes))
        print("\n".join(["", *_table("node", of_nodes, [""] * len(of_nodes))]))
    for line in wrapped(
        f"time / others': median over the problems of a device's time over the median of all others'. p: Wilcoxon's "
        f"signed-rank test over the problems, corrected by Holm's method; outlier: p < {LEVEL:g} and off by "
        f"{100 * RELEVANT:g} % or more. Untested (n/a) with fewer than 3 devices or {FEWEST} problems.",
        indent="",
    ):
        print(line)
    failed = sum(count for _, _, count in found)
    if failed:
        print(f"{failed} records are neither ok nor unsupported")
    return int(failed > 0)


def _table(what: str, rows: Sequence[Standing], hosts: Sequence[str]) -> list[str]:
    lines = [_LINE.format(what, "host", "problems", "time / others'", "p", "").rstrip()]
    for row, host in zip(rows, hosts, strict=True):
        p_value = "n/a" if row.p_value is None else number_text(row.p_value)
        name, place = (row.name, host) if host else ("", row.name)
        verdict = ("slow" if (row.ratio or 1) > 1 else "fast") + ": outlier" if row.outlier else ""
        lines.append(
            _LINE.format(name, place[:28], row.problems, number_text(row.ratio), p_value, verdict).rstrip()
        )
    return lines


def _times(run: Run) -> dict[str, float]:
    return {
        f"{record.index} {record.repeat}": record.median_s
        for record in run.summaries()
        if measured(record) and record.median_s
    }


def _failed(run: Run) -> int:
    return sum(record.status not in ("ok", "unstable", "unsupported") for record in run.summaries())


def _take_share(mpi: library.Mpi, world: Any) -> None:
    """Leaves each rank of a machine its own processors, and its own GPU where there are enough."""
    node = world.Split_type(mpi.MPI.COMM_TYPE_SHARED)
    place, count = node.Get_rank(), node.Get_size()
    masks = node.allgather(allowed_cpus())
    node.Free()
    gpus = len(list(Path("/dev").glob("nvidia[0-9]*")))
    if "CUDA_VISIBLE_DEVICES" not in os.environ and gpus >= count > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(place)
    if count == 1 or any(mask != masks[0] for mask in masks):
        return  # the launcher has dealt them out
    cores = physical_cores()
    if len(cores) < count:
        raise InputError(f"--fleet: {count} ranks share {len(cores)} cores: start at most as many")
    os.sched_setaffinity(0, cores[len(cores) * place // count : len(cores) * (place + 1) // count])


def _wait_for_all(world: Any) -> None:
    """Waits without taking a processor from ranks that still measure."""
    request = world.Ibarrier()
    while not request.Test():
        time.sleep(_WAITING_S)
