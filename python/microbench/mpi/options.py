"""Everything a sweep of a collective can be asked for, with the defaults; checked once, stored with the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from microbench.collective import ELEMENT_TYPES, FORMS, OPERATIONS, PLACES
from microbench.errors import InputError
from microbench.options import MIN_TIME_S, between, check_times

STARTS = ("window", "barrier")
BACKENDS = ("auto", "cpu", "cuda")
# What there is for buffers in the memory of hosts and of GPUs, and what of it is measured where none is named.
LIBRARIES = {"cpu": ("mpi", "microbench"), "cuda": ("nccl", "mpi")}
DEFAULT_LIBRARIES = {"cpu": ("mpi", "microbench"), "cuda": ("nccl",)}
MEMORIES = {"cpu": "the host's memory", "cuda": "the GPU's memory"}
DEFAULT_PROBLEMS = "deepbench"
# Of a sweep of sizes of which only one end is given, in bytes.
_SMALLEST = 8
_LARGEST = 64 << 20


class CollectiveOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of one sweep of a collective: the command line's, under the same names.

    Times in seconds, sizes in bytes. ``problem``, ``problems`` and sizes from ``min_bytes`` to ``max_bytes`` by
    ``factor`` exclude each other; by default DeepBench's sizes are measured.
    ``op``, ``place`` and ``form`` stand for the columns of that name: empty leaves them as the problems have them.
    ``gpus_per_rank`` GPUs of each MPI rank are as many ranks of NCCL's collectives. ``start`` is how repetitions
    start together. ``timeout`` None lets the size of the problem decide, ``seed`` None is
    a fresh one.
    """

    kernel: str
    problems: str = ""
    problem: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    min_bytes: int | None = None
    max_bytes: int | None = None
    factor: int = 2
    backend: str = BACKENDS[0]
    library: tuple[str, ...] = ()
    algorithm: tuple[str, ...] = ("auto",)
    precision: tuple[str, ...] = ("fp32",)
    op: tuple[str, ...] = ()
    place: tuple[str, ...] = ()
    form: tuple[str, ...] = ()
    gpus_per_rank: int = 1
    start: str = "window"
    pin: bool = True
    confidence: float = 0.99
    relative_width: float = 0.01
    max_samples: int = 10_000
    max_time: float = 10.0
    min_time: float = MIN_TIME_S
    timeout: float | None = None
    repeat: int = 1
    seed: int | None = None

    def __post_init__(self) -> None:
        offered = {
            "precision": tuple(ELEMENT_TYPES),
            "op": OPERATIONS,
            "place": PLACES,
            "form": FORMS,
            "library": tuple(dict.fromkeys(name for names in LIBRARIES.values() for name in names)),
        }
        for option, names in offered.items():
            for name in getattr(self, option):
                if name not in names:
                    raise InputError(f"--{option} {name}: there is none such; there are {', '.join(names)}")
        for option, choices in (("start", STARTS), ("backend", BACKENDS)):
            if (name := getattr(self, option)) not in choices:
                raise InputError(f"--{option} {name}: there is none such; there are {', '.join(choices)}")
        for name in self.library:
            if name not in LIBRARIES[self.device]:
                raise InputError(
                    f"--library {name}: is not for buffers in {MEMORIES[self.device]} (--backend {self.device}); for "
                    f"these there are {', '.join(LIBRARIES[self.device])}"
                )
        between("--gpus-per-rank", self.gpus_per_rank, 1, 1024)
        if self.gpus_per_rank > 1 and (self.device != "cuda" or "mpi" in self.library):
            raise InputError(
                f"--gpus-per-rank {self.gpus_per_rank}: only NCCL takes several GPUs of a process: ask for --library "
                "nccl alone"
            )
        if "all" in self.algorithm and len(self.algorithm) > 1:
            raise InputError("--algorithm all: stands for every algorithm: give it alone, or names")
        between("--confidence", self.confidence, 0.5, 0.9999)
        between("--relative-width", self.relative_width, 1e-6, 1.0)
        check_times(self.min_time, self.max_time)
        between("--max-samples", self.max_samples, 8, 1_000_000)
        between("--repeat", self.repeat, 1, 1000)
        between("--factor", self.factor, 2, 2**30)
        if self.timeout is not None:
            between("--timeout", self.timeout, 0.1, 864_000)
        if self.seed is not None:
            between("--seed", self.seed, 0, 2**63 - 1)
        if sum((bool(self.problem), bool(self.problems), self.swept)) > 1:
            raise InputError(
                "--problem, --problems and --min-bytes/--max-bytes exclude each other: give single problems, a set or "
                "sizes"
            )
        if self.swept:
            low, high, _ = self.sizes
            between("--min-bytes", low, 1, 2**40)
            between("--max-bytes", high, low, 2**40)

    @property
    def device(self) -> str:
        """The backend that is meant: GPUs only where they or NCCL were asked for, whatever the machine has.

        How many GPUs there are for how many ranks must not change what the same command measures.
        """
        if self.backend == "auto":
            return "cuda" if "nccl" in self.library else "cpu"
        return self.backend

    @property
    def swept(self) -> bool:
        """Whether sizes were asked for by their bytes."""
        return self.min_bytes is not None or self.max_bytes is not None

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Smallest and largest size in bytes and the factor between sizes."""
        high = max(self.min_bytes or 0, _LARGEST) if self.max_bytes is None else self.max_bytes
        low = min(high, _SMALLEST) if self.min_bytes is None else self.min_bytes
        return low, high, self.factor

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> CollectiveOptions:
        """Options from plain values, such as a stored run's. Raises InputError where one is not as it must be."""
        try:
            return msgspec.convert(dict(values), cls)
        except msgspec.ValidationError as error:
            raise InputError(str(error)) from error

    def plain(self) -> dict[str, Any]:
        """The options as JSON has them."""
        values: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return values
