"""Results that others published, as read-only stores: DeepBench's, one store per device.

A published time is the mean of an unknown number of executions. Its record therefore has no median and no samples:
``summary["mean"]`` is the published figure in seconds and, where it was cut to whole microseconds,
``summary["mean_below"]`` the value that the mean stayed under. `microbench.sources.time_s` reads either kind.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from microbench import kernels
from microbench.errors import InputError
from microbench.figures import RecordSummary, shown_facts
from microbench.problem import PRECISIONS, Case, Problem, Scalar
from microbench.record import Record, RecordHead
from microbench.store import RunInfo

_FOLDER = Path(__file__).parent
_PRECISIONS = {"fp16_in_fp32_accumulate": "fp16"}
_LIBRARIES = {
    "cuda": {"gemm": "cublas", "conv": "cudnn", "rnn": "cudnn", "sparse_gemm": "cusparse"},
    "rocm": {"gemm": "rocblas", "conv": "miopen", "rnn": "miopen"},
}
_KERNELS = ("gemm", "conv", "rnn", "allreduce", "sparse_gemm")
_WHOLE_MICROSECONDS = ("gemm", "conv", "rnn", "sparse_gemm")
_MICROSECOND = 1e-6

_GEMM_FP16 = "fp16 gemm: whether sums are 32-bit, as published, is unclear: DeepBench's code asks for 16-bit arithmetic"
_PADDED = "a padded problem was timed, whose sizes were not published; the operations counted are the unpadded one's"
_MEAN = "each figure is the mean of a number of executions, back to back; neither distribution nor interval exists"
_UNVERIFIED = "results were not verified, and neither versions nor settings nor clocks were published"
_TRUNCATED = "times were cut to whole microseconds: the mean was up to 1 us longer"
_SKIPPED = (
    "recurrent layers were timed without the product with their input: less work than the same layer's here"
)
_ASSUMED = "memory layouts and numbers of threads were not published: the kernel's usual layout is assumed"


class Sheet(NamedTuple):
    """One sheet of a published workbook."""

    name: str
    device: str
    vendor: str
    backend: str
    suite: str
    file: str
    title: str


@dataclass(frozen=True)
class Published:
    """One device's published results; the duck type of `microbench.store.Run`."""

    info: RunInfo
    limits: tuple[str, ...]
    _records: tuple[Record, ...]

    def records(self) -> Iterator[Record]:
        """All records, in the order of the sheets."""
        return iter(self._records)

    def summaries(self) -> Iterator[RecordSummary]:
        """Like `records`, without what only a `Record` has."""
        for record in self._records:
            yield RecordSummary(
                **{name: getattr(record, name) for name in RecordHead.__struct_fields__},
                facts=shown_facts(record),
            )


@functools.cache
def sheets() -> dict[str, Sheet]:
    """Every sheet by its number in the tables."""
    return {row.pop("sheet"): Sheet(**row) for row in rows("deepbench/sheets")}


def names() -> tuple[str, ...]:
    """The devices by the names that follow ``deepbench:``, in alphabetical order."""
    return tuple(sorted({sheet.name for sheet in sheets().values()}, key=str.casefold))


def device(name: str) -> str:
    """The full name of the device called ``name``."""
    return next(sheet.device for sheet in sheets().values() if sheet.name == name)


@functools.cache
def load(name: str) -> Published:
    """The published results of the device called ``name``, in whatever case.

    Raises:
        InputError: there is no such device.
    """
    known = {each.casefold(): each for each in names()}
    if name.casefold() not in known:
        raise InputError(
            f"deepbench:{name}: no such published results; there are "
            + ", ".join(f"deepbench:{each}" for each in names())
        )
    name = known[name.casefold()]
    own = {number: sheet for number, sheet in sheets().items() if sheet.name == name}
    records: list[Record] = []
    for kernel in _KERNELS:
        for row in rows(f"deepbench/{kernel}"):
            if row["sheet"] in own:
                records.append(_record(kernel, own[row["sheet"]], row, len(records)))
    sheet = next(iter(own.values()))
    info = RunInfo(
        microbench_version="not measured by microbench",
        created="",
        command=[],
        kernel=", ".join(dict.fromkeys(record.kernel for record in records)),
        problem_set="deepbench",
        planned_records=len(records),
        environment={"device": {"name": sheet.device, "vendor": sheet.vendor}},
        ceilings=_peaks(name),
    )
    return Published(info, tuple(_limits(sheet, records)), tuple(records))


def rows(table: str) -> Iterator[dict[str, str]]:
    """The rows of a published table, by column."""
    with (_FOLDER / f"{table}.csv").open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(line for line in file if not line.startswith("#"))


def _peaks(name: str) -> dict[str, Any]:
    """What the device's maker states, as a run has it; empty where bandwidth or clock is not stated."""
    own = [row for row in rows("deepbench/peaks") if row["name"] == name]
    if not own:
        return {}
    compute = {
        row["precision"]: float(row["units"])
        * float(row["operations_per_clock"])
        * float(row["clock_mhz"])
        * 1e6
        for row in own
    }
    memory = float(own[0]["memory_gb_per_s"]) * 1e9
    return {
        "theoretical": {
            "compute_flops_per_s": compute,
            "memory_bytes_per_s": memory,
            "source": own[0]["source"],
        }
    }


def _limits(sheet: Sheet, records: list[Record]) -> Iterator[str]:
    yield _MEAN
    if any("mean_below" in record.summary for record in records):
        yield _TRUNCATED
    yield _UNVERIFIED
    if sheet.backend == "cpu":
        yield _ASSUMED
    if any(record.kernel == "rnn" for record in records):
        yield _SKIPPED
    for warning in (_GEMM_FP16, _PADDED):
        if count := sum(warning in record.warnings for record in records):
            yield f"{count} of the {len(records)} records: {warning}"


def _record(kernel: str, sheet: Sheet, row: dict[str, str], index: int) -> Record:
    module = kernels.kernel(kernel)
    fields = {field.name: field for field in dataclasses.fields(module.PROBLEM)}
    given: dict[str, Scalar] = {
        column: _scalar(str(fields[column].type), row[column]) for column in fields if column in row
    }
    problem = module.PROBLEM(**given)
    precision = _PRECISIONS.get(row["precision"], row["precision"])
    pass_ = row.get("pass", getattr(module, "PASSES", ("forward",))[0])
    if (kernel, pass_, sheet.suite) == ("rnn", "forward", "training"):
        pass_ = "forward_training"
    # Int8 convolutions of cuDNN need channels last.
    layouts = getattr(module, "LAYOUTS", ("",))
    layout = "nhwc" if (kernel, precision) == ("conv", "int8") else layouts[0]
    flops, traffic = _work(problem, Case(problem, PRECISIONS[precision], pass_, layout))
    seconds = float(f"{row['time_ms']}e-3")
    summary = {"mean": seconds}
    if sheet.backend != "cpu" and kernel in _WHOLE_MICROSECONDS:
        summary["mean_below"] = seconds + _MICROSECOND
    if row.get("std_dev_ms"):
        summary["standard_deviation"] = float(f"{row['std_dev_ms']}e-3")
    labels = {"suite": sheet.suite, "application": row.get("application", "")}
    labels |= {"source": f"{sheet.file}, {sheet.title}, row {row['row']}"}
    labels |= {name: row[name] for name in ("algorithm", "dense_time_ms", "nodes") if row.get(name)}
    return Record(
        kernel=kernel,
        library=row["algorithm"]
        if kernel == "allreduce"
        else _LIBRARIES.get(sheet.backend, {}).get(kernel, ""),
        algorithm="auto",
        precision=precision,
        pass_=pass_,
        layout=layout,
        problem={name: getattr(problem, name) for name in fields}
        # A collective's number of ranks is no size of the problem, but another number is another one.
        | ({"ranks": int(row["ranks"])} if "ranks" in row else {}),
        labels=labels,
        backend=sheet.backend,
        mode="hot",
        threads=0,
        repeat=0,
        index=index,
        status="ok",
        reason="",
        summary=summary,
        flops=flops,
        bytes=traffic,
        warnings=[
            *[_PADDED] * (row.get("padded") == "1"),
            *[_GEMM_FP16] * ((kernel, precision) == ("gemm", "fp16")),
        ],
    )


def _work(problem: Problem, case: Case) -> tuple[int | None, int | None]:
    """Operations and bytes of what was timed; None where that is not known."""
    if problem.kernel == "rnn":
        # Without the product with the input; a single column "backward" does not say what it covers.
        recurrent: Any = problem
        return (None if case.pass_ == "backward" else recurrent.recurrent_flops()), None
    if problem.kernel == "conv":
        module = kernels.kernel("conv")
        return module.flops_of(case), module.bytes_of(case)
    return problem.flops(), problem.bytes(case.precision)


def _scalar(annotation: str, text: str) -> Scalar:
    if annotation == "bool":
        return text == "true"
    return text if annotation == "str" else float(text) if annotation == "float" else int(text)


def decode_columns(text: str) -> dict[str, Scalar]:
    """``m=16,a_transposed=true`` as columns: numbers and truth values by their look."""

    def value(word: str) -> Any:
        try:
            return msgspec.json.decode(word)
        except msgspec.DecodeError:
            return word

    return {name: value(word) for name, _, word in (pair.partition("=") for pair in text.split(","))}
