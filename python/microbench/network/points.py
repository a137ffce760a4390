"""What stored runs measured of all-reduces, as the model needs it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from microbench.collective import OPERATIONS, PLACES
from microbench.errors import InputError
from microbench.figures import measured, one_line
from microbench.network.algorithms import ALGORITHMS, possible
from microbench.network.noise import NoiseProfile, profile_of_samples
from microbench.problem import ITEM_BYTES, PRECISIONS
from microbench.sources import device_name

if TYPE_CHECKING:
    from microbench.figures import Row
    from microbench.store import Run, RunInfo

# What a series is not named by.
_USUAL = {"precision": "fp32", "op": OPERATIONS[0], "place": PLACES[0]}


@dataclass(frozen=True, order=True)
class Point:
    """One measured all-reduce: median in seconds; ``error`` is the standard error of its logarithm, 0 if unknown.

    ``series`` is what one line may be fitted to: the algorithm, with element type, operation and place where they
    are not fp32, sum and out_of_place. It has the same name in all runs.
    """

    series: str
    algorithm: str
    ranks: int
    nbytes: int
    ranks_per_node: int
    median_s: float
    error: float


@dataclass(frozen=True)
class Points:
    """What of a run the model can use, ordered so that the order of records does not matter.

    ``left_out`` says in words which measured records it cannot use, and why.
    """

    points: tuple[Point, ...]
    left_out: tuple[str, ...]


def read_points(runs: Sequence[Run]) -> Points:
    """The measured, lossless, blocking all-reduces of runs whose algorithm is known.

    Raises:
        InputError: a record of a run cannot be read, or there is nothing that the model can use.
    """
    usable, left_out = [], set()
    for run in runs:
        hosts = len(run.info.environment.get("mpi", {}).get("hosts", ())) or 1
        for record in run.summaries():
            if record.kernel != "allreduce" or not measured(record):
                continue
            reason = _unusable(record, hosts)
            if reason:
                left_out.add(reason)
            else:
                usable.append((record, hosts))
    if not usable:
        why = f" ({'; '.join(sorted(left_out))})" if left_out else ""
        raise InputError(
            f"{', '.join(str(run.folder) for run in runs)}: no measured all-reduce of a known "
            f"algorithm{why}: measure some with allreduce --library microbench --algorithm all"
        )
    points = [
        Point(
            _series(record),
            record.algorithm,
            int(record.problem["ranks"]),
            int(record.problem["elements"]) * _item_bytes(record),
            max(1, int(record.problem["ranks"]) // hosts),
            record.median_s or 0.0,
            _error(record),
        )
        for record, hosts in usable
    ]
    return Points(tuple(sorted(points)), tuple(sorted(left_out)))


class _Setting(NamedTuple):
    """What must be the same for times to be of one network, and to be the same times of it."""

    start: str
    mpi_library: str
    hosts: str
    processor: str

    @classmethod
    def of(cls, info: RunInfo) -> _Setting:
        mpi = info.environment.get("mpi", {})
        counts = [len(host["ranks"]) for host in mpi.get("hosts", ())]
        hosts = "one" if len(counts) < 2 else f"several, {_span(counts)} ranks each"
        return cls(str(info.options.get("start", "")), str(mpi.get("library", "")), hosts, device_name(info))


def _span(counts: Sequence[int]) -> str:
    few, many = min(counts), max(counts)
    return str(few) if few == many else f"{few} to {many}"


def require_one_setting(runs: Sequence[Run]) -> None:
    """Window and barrier times, two MPI libraries, or one host and several, are not on one line.

    Raises:
        InputError: two runs of all-reduces differ in how times were taken or in the network.
    """
    first, *others = [run for run in runs if run.info.kernel == "allreduce"] or runs
    setting = _Setting.of(first.info)
    for run in others:
        differing = [
            f"{name.replace('_', ' ')}: {a or 'unknown'} against {b or 'unknown'}"
            for name, a, b in zip(setting._fields, setting, _Setting.of(run.info), strict=True)
            if a != b
        ]
        if differing:
            raise InputError(
                f"{first.folder} and {run.folder} cannot be fitted or judged together (other "
                f"{one_line('; '.join(differing))}): give runs that agree in this"
            )


def noise_of_run(run: Run) -> NoiseProfile:
    """The detours that the samples of a run's collectives show. Raises InputError where they show none."""
    series = []
    for record in run.records():
        if measured(record) and record.samples_per_batch == 1 and "ranks" in record.problem:
            series.append((int(record.problem["ranks"]), record.samples_s))
    profile = profile_of_samples([each for each in series if len(each[1]) > 1], f"from {run.folder}")
    if profile is None:
        raise InputError(
            f"{run.folder}: no sample of a collective stands out from the others: there is no noise to simulate; "
            "give a profile such as period=10ms,duration=25us"
        )
    return profile


def _unusable(record: Row, hosts: int) -> str:
    if record.library != "microbench" or record.algorithm not in ALGORITHMS:
        return f"{record.library}/{record.algorithm}: the model knows no formula"
    if record.problem.get("form", "blocking") != "blocking":
        return f"{record.problem['form']}: only blocking ones are modelled"
    ranks, elements = record.problem.get("ranks"), record.problem.get("elements")
    if not isinstance(ranks, int) or not isinstance(elements, int) or _item_bytes(record) == 0:
        return "records without ranks, elements or a known element type"
    if (
        ranks < 2
        or elements < 1
        or not record.median_s
        or not possible(record.algorithm, ranks, max(1, ranks // hosts))
    ):
        return f"{record.algorithm} on {ranks} ranks and {hosts} hosts: no messages or no two levels"
    return ""


def _item_bytes(record: Row) -> int:
    precision = PRECISIONS.get(record.precision)
    return ITEM_BYTES.get(precision.storage if precision else record.precision, 0)


def _series(record: Row) -> str:
    factors = {"precision": record.precision, **record.problem}
    unusual = [str(factors[name]) for name, usual in _USUAL.items() if factors.get(name, usual) != usual]
    return " ".join([record.algorithm, *unusual])


def _error(record: Row) -> float:
    """Of log(median), from the interval of the median: its width over that of a normal of the same confidence."""
    from scipy import special

    low, high, confidence = record.ci_low_s, record.ci_high_s, record.confidence
    if not low or not high or not confidence:
        return 0.0
    return float(np.log(high / low) / (2 * special.ndtri((1 + confidence) / 2)))


def of_series(points: Iterable[Point]) -> dict[str, list[Point]]:
    """Points by their series, sorted by name."""
    found: dict[str, list[Point]] = {}
    for point in sorted(points):
        found.setdefault(point.series, []).append(point)
    return found
