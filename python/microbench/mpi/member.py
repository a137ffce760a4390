"""What every rank does of a measurement; `team.Team` calls these methods on all ranks at a time."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microbench.backends import cuda
from microbench.collective import ELEMENT_TYPES
from microbench.errors import InputError
from microbench.mpi.clocks import Alignment
from microbench.mpi.library import Mpi
from microbench.mpi.link import Link, Meeting
from microbench.mpi.operands import Operands, comparison, merged
from microbench.topology import allowed_cpus, physical_cores
from microbench.verification import Check, Comparison, numpy_type

# What no collective here leaves in an output: NaN in every floating-point type, a large negative int32.
_POISON = {"f": 0xFF, "V": 0xFF, "i": 0xAA}


@dataclass(frozen=True)
class Job:
    """One configuration.

    ``ranks`` are those of the collective: NCCL's, where an MPI rank has several GPUs. ``nodes`` has the number of
    each MPI rank's node; ``sparse`` says that only few elements of each rank count, and
    ``rounded_to`` as which type elements travel, where that is not their own.
    """

    kernel: str
    library: str
    algorithm: str
    precision: str
    elements: int
    form: str
    ranks: int
    nodes: tuple[int, ...]
    op: str = "sum"
    place: str = "out_of_place"
    root: int = 0
    sparse: bool = False
    rounded_to: str = ""


@dataclass(frozen=True)
class StartRule:
    """How repetitions start; see kernels/common/synchronised.hpp."""

    window: bool
    slack_s: float
    yielding: bool
    compute: int = -1


@dataclass(frozen=True)
class Place:
    """Where a rank runs. ``clock`` is the same for ranks of one machine: they read the same monotonic clock."""

    node: str
    clock: str
    pid: int
    cpus: tuple[int, ...]


Repetitions = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""Agreed start on rank 0's clock, own start and own end on the own clock, in seconds, by repetition."""


class Member:
    """One rank. ``measured`` carries the collectives, ``agreement`` what is said beside them."""

    def __init__(self, mpi: Mpi, agreement: Any) -> None:
        self._mpi = mpi
        self._groups = (mpi.MPI.COMM_WORLD.Dup(), agreement)
        self._agreement = mpi.communicator(self._groups[1])
        self.rank: int = agreement.Get_rank()
        self._clock: Any = None  # until set_clock
        self._parts: list[Any] = []  # the collective's, one a GPU
        self._executable: Any = None
        self._gpus: list[Any] = []  # until take_gpus
        self._job: Job | None = None
        self._link: Link | None = None

    def place(self) -> Place:
        """Where this rank runs."""
        return Place(socket.gethostname(), _clock(), os.getpid(), allowed_cpus())

    def number_of_node(self) -> int:
        """The number of this rank's node, counted by the first rank of each; ranks of a node can share memory."""
        group = self._mpi.MPI.COMM_WORLD
        node = group.Split_type(self._mpi.MPI.COMM_TYPE_SHARED)
        first = node.allreduce(self.rank, op=self._mpi.MPI.MIN)
        node.Free()
        return sorted(set(group.allgather(first))).index(first)

    def take_gpus(self, nodes: tuple[int, ...], count: int, with_nccl: bool) -> list[dict[str, Any]]:
        """Has collectives work on so many GPUs, by this rank's place among the ranks of its node; what each is.

        Raises InputError where this rank has no GPU, or no NCCL and is to have it.
        """
        if reason := cuda.unseen():
            raise InputError(reason)
        found = cuda.library_status("nccl")
        if with_nccl and found.missing:
            raise InputError(f"{found.missing}; to get it: {found.library.how_to_get}")
        first = nodes[: self.rank].count(nodes[self.rank]) * count
        self._gpus = [self._mpi.compiled.Gpu(number) for number in range(first, first + count)]
        return [{**gpu.facts, "nccl": dict(found.facts)} for gpu in self._gpus]

    def nccl_id(self, name: str, groups: tuple[int, ...]) -> bytes | None:
        """From the first rank of each group what the others need to connect to it, where they have not yet.

        ``groups`` has each rank's group, by the first rank in it.
        """
        if groups[self.rank] != self.rank or self._gpus[0].connected(name):
            return None
        identity: bytes = self._mpi.compiled.nccl_id()
        return identity

    def connect(self, name: str, groups: tuple[int, ...], identities: tuple[bytes, ...]) -> None:
        """Connects this rank's GPUs to those of its group by NCCL; ``identities`` are those of the ranks."""
        group, each = groups[self.rank], len(self._gpus)
        first = groups[: self.rank].count(group) * each
        self._mpi.compiled.connect(self._gpus, name, identities[group], groups.count(group) * each, first)

    def bind(self, places: tuple[int | None, ...]) -> None:
        """Binds this rank to the processor of its place among its machine's ranks, by rank; None leaves it alone."""
        place = places[self.rank]
        if place is not None:
            cores = physical_cores()
            cpus = (*cores, *(cpu for cpu in allowed_cpus() if cpu not in cores))
            os.sched_setaffinity(0, {cpus[place]})

    def meet(self, meeting: Meeting) -> bool:
        """Connects to the keeper of the run; whether it could be reached."""
        self._link = Link(meeting, self.rank)
        return self._link.connected

    def clock_base(self) -> int:
        """The monotonic clock now, in nanoseconds."""
        now: int = self._mpi.compiled.RankClock.now_ns()
        return now

    def set_clock(self, bases_ns: tuple[int, ...]) -> None:
        """Counts time from this rank's of ``bases_ns`` on the monotonic clock."""
        self._clock = self._mpi.compiled.RankClock(bases_ns[self.rank])

    def align(self, alignments: tuple[Alignment, ...]) -> None:
        """Brings this rank's clock to rank 0's."""
        mine = alignments[self.rank]
        self._clock.align(mine.offset_s, mine.drift, mine.reference_s)

    def estimate_offsets(self, rounds: int) -> list[tuple[float, float, float]]:
        """On rank 0 an exchange a rank; see kernels/common/synchronised.hpp."""
        found: list[tuple[float, float, float]] = self._mpi.compiled.estimate_offsets(
            self._agreement, self._clock, rounds
        )
        return found

    def open(self, job: Job) -> tuple[str, int]:
        """Makes one collective ready; returns its implementation and the bytes of its workspace."""
        self.close()
        unsupported = self._mpi.compiled.Unsupported
        if job.root >= job.ranks:
            raise unsupported(f"there is no rank {job.root} to be root of {job.ranks}")
        if self._gpus and job.library == "mpi" and (reason := self._mpi.blind_to_gpus()):
            raise unsupported(reason)
        if len(self._gpus) > 1 and job.algorithm == "hierarchical":
            raise unsupported(
                "several nodes are joined by ranks of one GPU each: start as many ranks as GPUs"
            )
        devices = self._gpus or [None]
        for number, device in enumerate(devices):
            self._parts.append(
                self._mpi.compiled.Collective(
                    self._mpi.communicator(self._groups[0], len(devices), number),
                    kernel=job.kernel,
                    library=job.library,
                    algorithm=job.algorithm,
                    type=ELEMENT_TYPES[job.precision].storage,
                    op=job.op,
                    elements=job.elements,
                    in_place=job.place == "in_place",
                    form=job.form,
                    root=job.root,
                    nodes=list(job.nodes),
                    device=device,
                )
            )
        several = len(devices) > 1
        self._executable = self._mpi.compiled.OfSeveralGpus(self._parts) if several else self._parts[0]
        self._job = job
        return self._parts[0].implementation, self._parts[0].workspace_bytes

    def close(self) -> None:
        """Gives the collective's memory back."""
        self._executable = None
        self._parts = []

    def leave(self) -> None:
        """Gives back what outlives collectives: the GPU and its connections."""
        self.close()
        self._gpus = []

    def verify(self, seed: int, exact: bool) -> tuple[Check, float]:
        """Executes once on fresh inputs, the output poisoned before; what came of it, and the seconds it took."""
        job = self._opened()
        storage = ELEMENT_TYPES[job.precision].storage
        operands = Operands(
            seed, storage, job.rounded_to or storage, job.ranks, job.op, exact, job.sparse and exact
        )
        parts = dict(enumerate(self._parts, self.rank * len(self._parts)))
        for number, part in parts.items():
            given = part.input(storage).view(numpy_type(storage))
            part.output(storage)[:] = _POISON[np.dtype(numpy_type(storage)).kind]
            if job.kernel != "broadcast" or number == job.root:
                operands.fill(given, number)
            part.upload()
        start = StartRule(window=False, slack_s=0.0, yielding=True)
        _, began, ended = self.measure(1, start)
        checks = []
        for number, part in parts.items():
            part.download()
            found = comparison(self._tolerance(operands))
            self._compare(operands, part.output(storage).view(numpy_type(storage)), number, found)
            checks.append(found.result())
        return merged(checks), float(ended[0] - began[0])

    def _compare(self, operands: Operands, result: NDArray[Any], number: int, found: Comparison) -> None:
        """Holds what the collective's rank ``number`` got against what it should have."""
        job = self._opened()
        share = job.elements // job.ranks
        if job.kernel == "allreduce":
            operands.compare_combined(result, 0, found)
        elif job.kernel == "reduce_scatter":
            operands.compare_combined(result, number * share, found)
        elif job.kernel == "broadcast":
            operands.compare_copied(result, job.root, 0, found)
        else:
            for rank in range(job.ranks):
                first = number * share if job.kernel == "alltoall" else 0
                operands.compare_copied(result[rank * share : (rank + 1) * share], rank, first, found)

    def measure(self, repetitions: int, start: StartRule) -> Repetitions:
        """Executes so often; see kernels/common/synchronised.hpp."""
        rule = self._mpi.compiled.Start(
            window=start.window, slack_s=start.slack_s, yielding=start.yielding, compute=start.compute
        )
        found: Repetitions = self._executable.measure(self._agreement, self._clock, repetitions, rule)
        return found

    def computing_rounds(self, seconds: float) -> int:
        """Rounds of the computation used for overlap that take about ``seconds`` on this rank."""
        probe = 100_000
        shortest_s: float = min(self._mpi.compiled.time_computing(probe) for _ in range(5))
        return max(1, round(probe * seconds / shortest_s))

    def time_computing(self, rounds: int) -> float:
        """Median seconds of the computation used for overlap, alone on this rank."""
        return float(np.median([self._mpi.compiled.time_computing(rounds) for _ in range(11)]))

    def _tolerance(self, operands: Operands) -> float:
        job = self._opened()
        if job.kernel not in ("allreduce", "reduce_scatter"):
            return 0.0
        if job.sparse:  # what is left out is at most everything
            return 0.0 if operands.exact else 1.0
        return operands.tolerance

    def _opened(self) -> Job:
        if self._job is None:
            raise InputError("nothing was opened")
        return self._job


def _clock() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/time")  # one of its own shifts the monotonic clock
        return f"{boot} {namespace.readlink()}" if namespace.is_symlink() else boot
    except OSError:  # not Linux: nobody shares a clock
        return f"{socket.gethostname()} {os.getpid()}"
