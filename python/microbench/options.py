"""Everything a sweep can be asked for, with the defaults; checked once, stored with the run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from microbench.errors import InputError
from microbench.problem import PRECISIONS

MIN_TIME_S = 0.1
MODES = ("hot", "cold", "graph")
FILLS = ("random", "normal", "uniform", "integer", "zero")
"""``random``: as verified, uniform on +-[0.25, 1]. The others are those of `microbench.filling.refill`."""


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of one sweep: the command line's, under the same names. Times in seconds, sizes in bytes.

    ``plugin`` lists Python files with kernels of one's own, see `microbench.plugins`.
    ``problem`` lists single problems, used instead of the set ``problems``; ``where`` filters either. None lets
    the machine decide: ``threads`` physical cores of the affinity mask, ``memory_limit`` what is free,
    ``timeout`` by the size of the problem, ``seed`` fresh.
    """

    kernel: str
    plugin: tuple[str, ...] = ()
    problems: str = "deepbench"
    problem: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    backend: str = "auto"
    library: tuple[str, ...] = ()
    algorithm: tuple[str, ...] = ("auto",)
    precision: tuple[str, ...] = ("fp32",)
    pass_: tuple[str, ...] = msgspec.field(default=(), name="pass")
    layout: tuple[str, ...] = ()
    mode: str = "hot"
    fill: str = "random"
    threads: int | None = None
    cpus: str | None = None
    pin: bool = True
    workspace_limit: int | None = None
    time_budget: float | None = None
    confidence: float = 0.99
    relative_width: float = 0.01
    max_samples: int = 10_000
    max_time: float = 10.0
    min_time: float = MIN_TIME_S
    timeout: float | None = None
    memory_limit: int | None = None
    repeat: int = 1
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in self.precision:
            if name not in PRECISIONS:
                raise InputError(
                    f"--precision {name}: there is no such precision; there are {', '.join(PRECISIONS)}"
                )
        if self.mode not in MODES:
            raise InputError(f"--mode {self.mode}: there is no such mode; there are {', '.join(MODES)}")
        if self.fill not in FILLS:
            raise InputError(f"--fill {self.fill}: there is no such fill; there are {', '.join(FILLS)}")
        between("--confidence", self.confidence, 0.5, 0.9999)
        between("--relative-width", self.relative_width, 1e-6, 1.0)
        check_times(self.min_time, self.max_time)
        between("--max-samples", self.max_samples, 8, 1_000_000)
        between("--repeat", self.repeat, 1, 1000)
        if self.time_budget is not None:
            between("--time-budget", self.time_budget, 1.0, 31_536_000)
        for whole in ("all", "best"):
            if whole in self.algorithm and len(self.algorithm) > 1:
                raise InputError(f"--algorithm {whole}: stands for every algorithm: give it alone, or names")
        if self.threads is not None:
            between("--threads", self.threads, 1, 4096)
        if self.timeout is not None:
            between("--timeout", self.timeout, 0.1, 864_000)
        if self.memory_limit is not None:
            between("--memory-limit", self.memory_limit, 512 << 20, 1 << 60)
        if self.seed is not None:
            between("--seed", self.seed, 0, 2**63 - 1)
        if self.problem and self.problems != "deepbench":
            raise InputError("--problem and --problems exclude each other: give single problems or a set")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Options:
        """Options from plain values, such as a stored run's; ``pass_`` is ``pass``, which Python keeps for itself.

        Raises:
            InputError: one does not exist or is not as it must be.
        """
        given = {{"pass_": "pass"}.get(name, name): value for name, value in values.items()}
        for name in given:
            if name not in cls.__struct_encode_fields__:
                raise InputError(
                    f"{name}: there is no such option; there are {', '.join(cls.__struct_fields__)}"
                )
        try:
            return msgspec.convert({name: _listed(name, value) for name, value in given.items()}, cls)
        except msgspec.ValidationError as error:
            raise InputError(str(error)) from error


# Options that may be given several times; from Python a single one need not be put into a tuple.
_SEVERAL = ("plugin", "problem", "where", "library", "algorithm", "precision", "pass", "layout")


def _listed(name: str, value: Any) -> Any:
    return (value,) if name in _SEVERAL and isinstance(value, str) else value


def check_times(min_time: float, max_time: float) -> None:
    """Raises InputError for times of sampling that cannot be; the usual least time yields to a shorter limit."""
    between("--max-time", max_time, 1e-3, 86_400)
    between("--min-time", min_time, 0.0, 86_400)
    if min_time > max(max_time, MIN_TIME_S):
        raise InputError(f"--min-time {min_time:g}: longer than --max-time {max_time:g}")


def between(option: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise InputError(f"{option} {value:.10g}: must be from {low:.10g} to {high:.10g}")
