"""The record of one measurement: what a run's records.jsonl holds, one object a line. No I/O here."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from microbench.problem import Scalar

SCHEMA_VERSION = 1

Status = Literal[
    "ok",
    "unsupported",
    "out_of_memory",
    "workspace_exceeded",
    "wrong_result",
    "timeout",
    "crashed",
    "unstable",
    "interrupted",
]


class RecordHead(msgspec.Struct, frozen=True, kw_only=True):
    """What of a record a table needs; see `Record`."""

    kernel: str
    library: str
    algorithm: str
    precision: str
    pass_: str = msgspec.field(name="pass")
    layout: str
    problem: dict[str, Scalar]
    labels: dict[str, str]
    backend: str
    mode: str
    threads: int
    repeat: int
    index: int
    status: Status
    reason: str
    samples_per_batch: int = 1
    median_s: float | None = None
    ci_low_s: float | None = None
    ci_high_s: float | None = None
    confidence: float | None = None
    effective_n: float | None = None
    flops: int | None = None
    counts: dict[str, int] = msgspec.field(default_factory=dict)
    bytes: int | None = None
    workspace_bytes: int | None = None
    peak_flops_per_s: float | None = None
    max_error: float | None = None
    frobenius_error: float | None = None
    tolerance: float | None = None
    first_execution_s: float | None = None
    summary: dict[str, float] = msgspec.field(default_factory=dict)
    warnings: list[str] = msgspec.field(default_factory=list)
    started_at: str | None = None
    measuring_s: float | None = None


class Record(RecordHead, frozen=True, kw_only=True):
    """One measured (or not measurable) configuration. Times in seconds, sizes in bytes, None for unknown.

    ``index`` is the place in the plan; ``repeat`` the number of the fresh process (0-based) that measured it.
    ``problem`` holds the problem's own columns; ``labels`` the table's other columns (suite, application).
    ``samples_s`` are in the order taken; each is the mean of ``samples_per_batch`` executions.
    ``ci_low_s`` and ``ci_high_s`` bound the median at ``confidence``; ``effective_n`` is the number of
    independent samples that the samples are worth. ``counts`` holds other counts of operations than ``flops``, such
    as DeepBench's of recurrent layers. ``summary`` holds minimum, quartiles, mean ...;
    ``diagnostics`` the tests made. ``peak_flops_per_s`` is the measured ceiling of this precision.
    ``facts`` is whatever else is known: implementation, pinned threads, steal time, probes beside the batch.
    ``measuring_s`` is the wall time from the first warm-up execution to the last sample, ``python_s`` the
    part of it spent outside the timing loop.
    """

    samples_s: list[float] = msgspec.field(default_factory=list)
    warmup: dict[str, Any] = msgspec.field(default_factory=dict)
    diagnostics: dict[str, Any] = msgspec.field(default_factory=dict)
    facts: dict[str, Any] = msgspec.field(default_factory=dict)
    seed: int | None = None
    python_s: float | None = None
