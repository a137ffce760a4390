"""From a measurement of a collective to its record, and what a record will cost."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from microbench.collective import ELEMENT_TYPES
from microbench.diagnostics import diagnose
from microbench.mpi.options import CollectiveOptions
from microbench.mpi.plan import problem_of
from microbench.plan import Item, record_seed
from microbench.protocol import Measurement
from microbench.record import Record
from microbench.stats import summary

# What a record takes beside its sampling: opening, verifying, diagnosing.
_HANDLING_S = 0.5
# When a record counts as hung: so long, and so many executions at a rate that no network falls short of.
_TIMEOUT_S = 120.0
_TIMEOUT_EXECUTIONS = 50
_SLOWEST_BYTES_PER_S = 10e6
# For estimates only.
_USUAL_BYTES_PER_S = 1e9
_EXECUTIONS = 14


def timeout_s(item: Item, options: CollectiveOptions) -> float:
    """After how long the configuration counts as hung."""
    if options.timeout is not None:
        return options.timeout
    slowest_s = problem_of(item).message_bytes(ELEMENT_TYPES[item.precision]) / _SLOWEST_BYTES_PER_S
    return _TIMEOUT_S + options.max_time + _TIMEOUT_EXECUTIONS * slowest_s


def cost_s(item: Item, options: CollectiveOptions) -> float:
    """Estimated seconds of the whole record."""
    execution_s = problem_of(item).message_bytes(ELEMENT_TYPES[item.precision]) / _USUAL_BYTES_PER_S
    sampling_s = max(options.min_time, min(100 * execution_s, options.max_time))
    return _HANDLING_S + sampling_s + _EXECUTIONS * execution_s


def make_record(
    item: Item,
    options: CollectiveOptions,
    repeat: int,
    seed: int,
    ranks: int,
    started: datetime,
    measurement: Measurement,
) -> Record:
    """The record of one measurement over ``ranks`` ranks; ``seed`` is the run's."""
    fields: dict[str, Any] = {name: getattr(measurement, name) for name in measurement.__struct_fields__}
    problem = problem_of(item)
    precision = ELEMENT_TYPES[item.precision]
    diagnostics: dict[str, Any] = {}
    if measurement.samples_s:
        diagnostics, found = diagnose(measurement.samples_s, measurement.facts["timer_resolution_s"])
        fields["warnings"] = [*measurement.warnings, *found]
    return Record(
        **fields,
        kernel=options.kernel,
        library=item.library,
        algorithm=item.algorithm,
        precision=item.precision,
        pass_="",
        layout="",
        problem={**item.problem, "ranks": ranks},
        labels=dict(item.row.labels),
        backend=options.device,
        mode="hot",
        threads=1,
        repeat=repeat,
        index=item.index,
        confidence=options.confidence if measurement.ci_low_s is not None else None,
        flops=problem.flops(),
        bytes=problem.bytes(precision, ranks),
        summary=summary(measurement.samples_s) if measurement.samples_s else {},
        diagnostics=diagnostics,
        seed=record_seed(seed, repeat, item.index),
        started_at=started.isoformat(timespec="milliseconds"),
    )
