"""What the parent process and a worker say to each other: one JSON object a line, jobs down, replies up."""

from __future__ import annotations

from typing import Any

import msgspec

from microbench.problem import Scalar
from microbench.record import Status

# Of a workspace or of memory, in bytes: as much as a signed 64-bit integer says.
NO_LIMIT = 2**63 - 1


class MeasureJob(msgspec.Struct, frozen=True, kw_only=True, tag="measure"):
    """One configuration to verify and time. Sizes in bytes, times in seconds."""

    backend: str
    kernel: str
    module: str
    library: str
    library_path: str
    algorithm: str
    precision: str
    pass_: str
    layout: str
    problem: dict[str, Scalar]
    mode: str
    fill: str
    threads: int
    cpus: tuple[int, ...]
    pin: bool
    workspace_limit: int
    flush_bytes: int
    confidence: float
    relative_width: float
    max_samples: int
    max_time_s: float
    min_time_s: float
    seed: int


class AlgorithmsJob(msgspec.Struct, frozen=True, kw_only=True, tag="algorithms"):
    """Which algorithms a library offers for each of these problems.

    Those that it offers only to who names them (reference implementations) are left out but for ``algorithm``.
    """

    kernel: str
    module: str
    library: str
    library_path: str
    algorithm: str
    precision: str
    pass_: str
    layout: str
    problems: list[dict[str, Scalar]]
    threads: int


class CeilingsJob(msgspec.Struct, frozen=True, kw_only=True, tag="ceilings"):
    """The measured peaks of a device, or of the processors on these threads.

    ``array_bytes`` is more than the caches hold; ``cached_bytes`` fits into the last-level cache but not into
    those before it, 0 where there is no such size.
    """

    backend: str
    threads: int
    cpus: tuple[int, ...]
    pin: bool
    array_bytes: int
    cached_bytes: int


class Stage(msgspec.Struct, frozen=True, tag="stage"):
    """What the worker begins to do now; kept as the place where it died, should it die."""

    name: str


class Measurement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="measurement"):
    """The answer to a MeasureJob. Every field but the tag is a field of Record and means the same."""

    status: Status
    reason: str = ""
    samples_s: list[float] = msgspec.field(default_factory=list)
    samples_per_batch: int = 1
    median_s: float | None = None
    ci_low_s: float | None = None
    ci_high_s: float | None = None
    effective_n: float | None = None
    workspace_bytes: int | None = None
    max_error: float | None = None
    frobenius_error: float | None = None
    tolerance: float | None = None
    first_execution_s: float | None = None
    warmup: dict[str, Any] = msgspec.field(default_factory=dict)
    facts: dict[str, Any] = msgspec.field(default_factory=dict)
    warnings: list[str] = msgspec.field(default_factory=list)
    measuring_s: float | None = None
    python_s: float | None = None


class Ceilings(msgspec.Struct, frozen=True, tag="ceilings"):
    """The answer to a CeilingsJob."""

    values: dict[str, Any]


class Algorithms(msgspec.Struct, frozen=True, tag="algorithms"):
    """The answer to an AlgorithmsJob: per problem the names, the library's own choice first, or none."""

    names: list[list[str]]


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """The worker itself went wrong; it can take no further job."""

    reason: str


Job = MeasureJob | AlgorithmsJob | CeilingsJob
Reply = Stage | Measurement | Algorithms | Ceilings | Failure
