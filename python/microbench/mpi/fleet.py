"""Fleet mode: every rank runs the same sweep on its own device, and rank 0 names those that are unlike the rest.

A device is held against the median of all others, problem by problem: Wilcoxon's signed-rank test of the logarithms of
the ratios (two-sided, exact for few problems), Holm's correction over the devices. It is an outlier where that is
significant at 1 % and the median ratio is off by 3 % or more: with many problems the smallest difference is
significant. Nodes are tested likewise, by the mean of the logarithms of their devices.
"""

from __future__ import annotations

import math
import os
import secrets
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from microbench import plugins
from microbench.arguments import given_options
from microbench.backends import backend, cuda
from microbench.errors import InputError, StoreError
from microbench.figures import measured, number_text, wrapped
from microbench.mpi import library
from microbench.mpi.watch import watched
from microbench.store import Run
from microbench.topology import allowed_cpus, physical_cores

if TYPE_CHECKING:
    from microbench.options import Options

LEVEL = 0.01
RELEVANT = 0.03
# The fewest problems for which the exact test can reach the level after Holm's correction over a handful of devices.
FEWEST = 10
_LINE = "{:<8} {:<28} {:>8} {:>15} {:>8}  {}"
_WAITING_S = 0.05
_VISIBLE = "CUDA_VISIBLE_DEVICES"

_Found = TypeVar("_Found")

Times = Mapping[Hashable, float]
"""Median seconds by what was measured."""


@dataclass(frozen=True)
class Standing:
    """One device or node beside the others.

    Attributes:
        problems: how many it and all others have measured.
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
    problems: dict[str, int] = {}
    for name, own in logs.items():
        others = [other for beside, other in logs.items() if beside != name]
        common = [key for key in own if all(key in other for other in others)]
        problems[name] = len(common)
        ratios[name] = np.array(
            [own[key] - float(np.median([other[key] for other in others])) for key in common if others]
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
            problems[name],
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

    All ranks draw from the same seed and measure the same problems: of those asked for, what fits a time budget by the
    first rank's peaks.

    Raises:
        InputError: MPI is missing, or it is not said which fleet goes on.
    """
    resume = given.get("resume", False)
    if resume and "output" not in given:
        raise InputError("--resume: say which fleet goes on by --output DIR")
    from microbench.options import Options
    from microbench.runner import Face
    from microbench.runner import sweep as measure

    mpi = library.load()
    world = mpi.MPI.COMM_WORLD
    rank = world.Get_rank()
    folder = given.get("output") or f"runs/{kernel}-fleet-{int(time.time())}"
    folder, seed = world.bcast((folder, secrets.randbits(32)), root=0)
    own = _folder(folder, rank)
    outcome: _Outcome
    with watched(world, folder):
        # A rank that died before it had a run starts one by the options of the others'.
        stored = world.allgather(_stored_options(own) if resume else None)
        first = next((place for place, each in enumerate(stored) if each is not None), 0)
        agreement = _Agreement(world, first)

        def prepare() -> tuple[Options, Device]:
            _take_share(mpi, world)
            before = stored[first] or {}
            if resume and not before:
                raise InputError(f"{folder} holds no fleet's runs to resume: start it without --resume")
            options = Options.of({"seed": seed} | before | {"kernel": kernel} | given_options(given))
            return options, _device(options)

        try:
            prepared = _together(world, prepare)
            check_devices([device for _, device in prepared])
            run = measure(
                prepared[rank][0],
                own,
                resume=stored[rank] is not None,
                command=["microbench", *command],
                face=Face(),
                agree=agreement,
            )
            outcome = _Outcome(socket.gethostname(), times_of(run), _not_ok(run))
        except _NoFleet as error:
            outcome = _failed(str(error), 2)
        except InputError as error:
            outcome = _failed(agreement.missed(error) or f"rank {rank}: {error}", 2)
        except StoreError as error:
            outcome = _failed(f"rank {rank}: {error}", 1)
        _wait_for_all(world)
        outcomes = world.gather(outcome, root=0)
        code = 0
        if rank == 0:
            code = _report(kernel, folder, outcomes)
    mpi.MPI.Finalize()
    return code


class _NoFleet(InputError):
    """Why no rank measures anything; raised on all of them alike."""


class Device(NamedTuple):
    """What a rank measures: the GPU called ``uuid``, or processors of ``node``."""

    node: str
    uuid: str | None


class _Outcome(NamedTuple):
    """What came of a rank's sweep: its node, its times, how many records have which status other than ok."""

    node: str
    times: Times
    not_ok: Counter[str]
    error: str = ""
    exit_code: int = 0


def _failed(error: str, exit_code: int) -> _Outcome:
    return _Outcome(socket.gethostname(), {}, Counter(), error, exit_code)


def _together(world: Any, step: Callable[[], _Found]) -> list[_Found]:
    """What ``step`` finds, by rank. Raises _NoFleet on every rank where it raises InputError on one."""
    found: _Found | None = None
    error = ""
    try:
        found = step()
    except InputError as raised:
        error = str(raised)
    _wait_for_all(world)
    all_found: list[tuple[Any, str]] = world.allgather((found, error))
    for rank, (_, said) in enumerate(all_found):
        if said:
            raise _NoFleet(f"rank {rank}: {said}")
    return [each for each, _ in all_found]


class _Agreement:
    """Has every rank measure the problems that rank ``first`` chooses; no rank goes on where one has failed before."""

    def __init__(self, world: Any, first: int) -> None:
        self._world = world
        self._first = first
        self._met = False

    def __call__(self, choose: Callable[[], list[int] | None]) -> list[int] | None:
        self._met = True
        chooses = self._world.Get_rank() == self._first
        return _together(self._world, choose if chooses else lambda: None)[self._first]

    def missed(self, error: InputError) -> str:
        """Tells the ranks that wait to agree why this one will not; what all say then, "" where all had agreed."""

        def fail() -> None:
            raise error

        if not self._met:
            try:
                _together(self._world, fail)
            except _NoFleet as told:
                return str(told)
        return ""


def _report(kernel: str, folder: str, found: Sequence[_Outcome]) -> int:
    for error in dict.fromkeys(outcome.error for outcome in found if outcome.error):
        print(f"microbench: {error}", file=sys.stderr)
    if failed := max(outcome.exit_code for outcome in found):
        return failed
    ranks = len(found)
    nodes = [outcome.node for outcome in found]
    devices = {f"{rank}": outcome.times for rank, outcome in enumerate(found)}
    hosts = len(set(nodes))
    print(
        f"{kernel} on {ranks} device{'s' * (ranks != 1)} of {hosts} host{'s' * (hosts != 1)}; a run of each is in "
        f"{folder}"
    )
    print("\n".join(_table("device", standings(devices), nodes)))
    if hosts > 1:
        of_nodes = standings(by_node([outcome.times for outcome in found], nodes))
        print("\n".join(["", *_table("node", of_nodes, [""] * len(of_nodes))]))
    for line in wrapped(
        f"time / others': median over the problems of a device's time over the median of all others'. p: Wilcoxon's "
        f"signed-rank test over the problems, corrected by Holm's method; outlier: p < {LEVEL:g} and off by "
        f"{100 * RELEVANT:g} % or more. Untested (n/a) with fewer than 3 devices or {FEWEST} problems.",
        indent="",
    ):
        print(line)
    not_ok = sum((outcome.not_ok for outcome in found), Counter())
    if not_ok:
        counts = ", ".join(f"{count} {status}" for status, count in not_ok.items())
        first = next(rank for rank, outcome in enumerate(found) if outcome.not_ok)
        print(f"records neither ok nor unsupported: {counts}; reasons: show {_folder(folder, first)}")
    return int(bool(not_ok))


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


def times_of(run: Run) -> Times:
    """What ``run`` has measured: the same key means the same measurement in every run, in whatever order."""
    return {
        (
            *sorted(record.problem.items()),
            record.library,
            record.algorithm,
            record.precision,
            record.pass_,
            record.layout,
            record.repeat,
        ): record.median_s
        for record in run.summaries()
        if measured(record) and record.median_s
    }


def _not_ok(run: Run) -> Counter[str]:
    return Counter(record.status for record in run.summaries() if record.status not in ("ok", "unsupported"))


def _folder(fleet: str, rank: int) -> Path:
    return Path(fleet) / f"rank-{rank:04}"


def _stored_options(folder: Path) -> dict[str, Any] | None:
    """The options of the run in ``folder``; None where there is none."""
    try:
        return Run.load(folder).info.options
    except InputError:
        return None


def _take_share(mpi: library.Mpi, world: Any) -> None:
    """Leaves each rank of a machine its own processors, and its own GPU where there are enough."""
    node = world.Split_type(mpi.MPI.COMM_TYPE_SHARED)
    place, count = node.Get_rank(), node.Get_size()
    masks = node.allgather(allowed_cpus())
    visible = node.allgather(os.environ.get(_VISIBLE))
    node.Free()
    if (gpu := own_gpu(visible, place, len(list(Path("/dev").glob("nvidia[0-9]*"))))) is not None:
        os.environ[_VISIBLE] = gpu
    if count == 1 or any(mask != masks[0] for mask in masks):
        return  # the launcher has dealt them out
    cores = physical_cores()
    if len(cores) < count:
        raise InputError(f"--fleet: {count} ranks share {len(cores)} cores: start at most as many")
    os.sched_setaffinity(0, cores[len(cores) * place // count : len(cores) * (place + 1) // count])


def own_gpu(visible: Sequence[str | None], place: int, gpus: int) -> str | None:
    """Which GPU the rank at ``place`` of its machine is to see; None leaves it those that it sees.

    Args:
        visible: each of the machine's ranks' CUDA_VISIBLE_DEVICES. Ranks that were given the same deal it out among
            themselves where it is enough for all; where not, each may still see another GPU under the same number.
        gpus: how many the machine has, for ranks that were given none.
    """
    own = visible[place]
    entries = [str(number) for number in range(gpus)] if own is None else own.split(",")
    sharing = [rank for rank, its in enumerate(visible) if its == own]
    return entries[sharing.index(place)] if len(entries) >= len(sharing) > 1 else None


def _device(options: Options) -> Device:
    """What this rank is going to measure. Raises InputError where the backend asked for cannot be used."""
    plugins.register(options.plugin)
    chosen = backend(options.backend, options.kernel, options.library)
    uuid = cuda.device()["uuid"] if chosen.BACKEND == cuda.BACKEND else None
    return Device(socket.gethostname(), uuid)


def check_devices(devices: Sequence[Device]) -> None:
    """Raises InputError where two ranks measure the same GPU, which then is no device of its own for either."""
    users: dict[Device, int] = {}
    for rank, device in enumerate(devices):
        other = users.setdefault(device, rank)
        if device.uuid is not None and other != rank:
            raise _NoFleet(
                f"--fleet: ranks {other} and {rank} on {device.node} share {device.uuid}: start at most as many ranks "
                f"as there are GPUs, and give each another {_VISIBLE}, or all the same list of as many"
            )


def _wait_for_all(world: Any) -> None:
    """Waits without taking a processor from ranks that still measure."""
    request = world.Ibarrier()
    while not request.Test():
        time.sleep(_WAITING_S)
