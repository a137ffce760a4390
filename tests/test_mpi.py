"""Collectives without any MPI: inputs, clocks, options, plans, tables, teams and fleets."""

from __future__ import annotations

import csv
import functools
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures import hosts as several
from fixtures.installations import PACKAGE
from microbench import kernels
from microbench.arguments import parser
from microbench.collective import COLLECTIVES, ELEMENT_TYPES
from microbench.commands.measured import print_run
from microbench.errors import InputError
from microbench.figures import WIDTH, flat_columns
from microbench.mpi import launcher, plan
from microbench.mpi.clocks import aligned
from microbench.mpi.fleet import Device, Standing, by_node, check_devices, own_gpu, standings, times_of
from microbench.mpi.operands import PERIOD, Operands, comparison, merged
from microbench.mpi.options import CollectiveOptions
from microbench.mpi.table import CollectivePrinter, Conditions, bandwidths, how, write_nccl, write_run
from microbench.mpi.team import RankFailed, Team
from microbench.record import Record
from microbench.store import Run, RunWriter
from microbench.verification import numpy_type
from records import make_info, make_record

# --- inputs and what must come of them ----------------------------------------------------------------------


def contributions(operands: Operands, elements: int, first: int = 0) -> list[Any]:
    arrays = []
    for rank in range(operands.ranks):
        arrays.append(np.empty(elements, numpy_type(operands.element_type)))
        operands.fill(arrays[-1], rank, first)
    return arrays


operands_of_any_kind = st.builds(
    lambda seed, precision, ranks, op, exact: Operands(
        seed, ELEMENT_TYPES[precision].storage, ELEMENT_TYPES[precision].storage, ranks, op, exact
    ),
    st.integers(0, 2**63 - 1),
    st.sampled_from([*ELEMENT_TYPES]),
    st.sampled_from([1, 2, 3, 7, 16, 300]),
    st.sampled_from(["sum", "max", "min"]),
    st.booleans(),
)


@settings(max_examples=40, deadline=None)
@given(operands_of_any_kind, st.integers(1, 100), st.integers(0, 3 * PERIOD))
def test_the_right_combination_is_found_right_in_any_order(
    operands: Operands, elements: int, first: int
) -> None:
    arrays = contributions(operands, elements, first)
    combine: Any = {"sum": np.add, "max": np.maximum, "min": np.minimum}[operands.op]
    for order in (arrays, arrays[::-1]):
        result = functools.reduce(combine, order).astype(order[0].dtype)
        found = comparison(operands.tolerance)
        operands.compare_combined(result, first, found)
        assert found.result().ok, found.result().reason
        if operands.exact:
            assert found.result().max_error == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([2, 3, 8]), st.integers(0, 2), st.integers(1, 5000))
def test_a_rank_left_out_or_counted_twice_or_shifted_is_wrong(
    seed: int, ranks: int, kind: int, elements: int
) -> None:
    operands = Operands(seed, "float32", "float32", ranks)
    arrays = contributions(operands, elements)
    total = functools.reduce(np.add, arrays)
    wrong = [total - arrays[0], total + arrays[-1], np.roll(np.append(total, 0), 1)[:-1]][kind]
    found = comparison(operands.tolerance)
    operands.compare_combined(wrong, 0, found)
    assert found.result().wrong_elements >= 0.9 * elements
    assert not merged([found.result(), found.result()]).ok


def test_copies_are_held_against_their_source_and_place() -> None:
    operands = Operands(5, "bfloat16", "bfloat16", 3)
    given_ = contributions(operands, 3 * PERIOD)[1]
    for rank, first, wrong in ((1, 0, False), (2, 0, True), (1, 1, True)):
        found = comparison(0.0)
        operands.compare_copied(given_, rank, first, found)
        assert (found.result().wrong_elements > 0) == wrong


def test_long_vectors_have_no_short_repetition() -> None:
    operands = Operands(1, "float32", "float32", 2)
    array = contributions(operands, 200 * PERIOD)[0]
    assert np.array_equal(array[PERIOD : 2 * PERIOD], array[:PERIOD])
    assert not np.array_equal(array[4096 : 4096 + PERIOD], array[:PERIOD])
    assert np.all(array != 0)


def test_sparse_inputs_leave_the_largest_hundredth_complete() -> None:
    operands = Operands(1, "float32", "float32", 4, sparse=True)
    for elements in (1, 99, 201, 1000, 123_457):
        for array in contributions(operands, elements):
            assert np.count_nonzero(array) <= max(1, elements // 100)


# --- clocks -------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.floats(-1e3, 1e3), st.floats(-1e-4, 1e-4), st.integers(2, 10))
def test_offset_and_drift_are_recovered(offset: float, drift: float, count: int) -> None:
    local = np.linspace(5.0, 15.0, count)
    alignment = aligned([(t, offset + drift * (t - 5.0), 1e-6) for t in local])
    assert alignment.drift == pytest.approx(drift, abs=1e-9)
    np.testing.assert_allclose(alignment.to_common(local), local + offset + drift * (local - 5.0), atol=1e-8)
    assert alignment.uncertainty_s == 0.5e-6


def test_estimates_at_one_moment_tell_no_drift_and_the_quickest_counts() -> None:
    alignment = aligned([(1.0, 3.0, 4e-6), (1.001, 2.0, 2e-6), (1.002, 9.0, 8e-6)])
    assert (alignment.offset_s, alignment.drift, alignment.uncertainty_s) == (2.0, 0.0, 1e-6)


# --- options and plans --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"precision": ("int8",)}, "--precision int8"),
        ({"op": ("product",)}, "--op product"),
        ({"place": ("here",)}, "--place here"),
        ({"form": ("lazy",)}, "--form lazy"),
        ({"library": ("nccl2",)}, "--library nccl2"),
        ({"start": "now"}, "--start now"),
        ({"algorithm": ("all", "ring")}, "--algorithm all"),
        ({"factor": 1}, "--factor 1"),
        ({"min_bytes": 64, "max_bytes": 8}, "--max-bytes 8"),
        ({"problems": "smoke", "min_bytes": 8}, "exclude each other"),
        ({"max_samples": 1}, "--max-samples 1"),
    ],
)
def test_bad_options_are_said(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        CollectiveOptions(kernel="allreduce", **changes)


def test_a_sweep_has_the_sizes_asked_for_in_every_type() -> None:
    options = CollectiveOptions(
        kernel="allreduce",
        min_bytes=4,
        max_bytes=4096,
        factor=8,
        precision=("fp32", "fp64"),
        library=("mpi",),
    )
    sizes = [
        (item.precision, plan.problem_of(item).message_bytes(ELEMENT_TYPES[item.precision]))
        for item in plan.build(options, 4)
    ]
    assert sizes == [("fp32", size) for size in (4, 32, 256, 2048)] + [
        ("fp64", size) for size in (8, 32, 256, 2048)
    ]


def swept(kernel: str, low: int, high: int) -> list[int]:
    options = CollectiveOptions(kernel=kernel, min_bytes=low, max_bytes=high, library=("mpi",))
    return [4 * int(item.problem["elements"]) for item in plan.build(options, 4)]


@pytest.mark.parametrize(
    ("kernel", "low", "high", "sizes"),
    [
        ("allreduce", 1, 8, [4, 8]),
        ("allreduce", 6, 30, [8, 12, 24]),
        ("allgather", 4, 64, [16, 32, 64]),
    ],
)
def test_no_size_outside_the_range_is_measured(kernel: str, low: int, high: int, sizes: list[int]) -> None:
    assert swept(kernel, low, high) == sizes


@pytest.mark.parametrize(
    ("kernel", "low", "high", "said"),
    [
        ("allreduce", 1, 2, "--min-bytes 1 --max-bytes 2: .* multiples of 4 bytes"),
        ("allreduce", 5, 7, "multiples of 4 bytes"),
        ("allgather", 4, 8, "of 4 ranks in fp32 are multiples of 16 bytes"),
    ],
)
def test_a_range_without_a_whole_size_is_refused(kernel: str, low: int, high: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        swept(kernel, low, high)


def test_shares_are_the_same_for_every_rank() -> None:
    options = CollectiveOptions(kernel="reduce_scatter", problem=("elements=10",), library=("mpi",))
    assert [item.problem["elements"] for item in plan.build(options, 4)] == [8]
    assert [item.problem["elements"] for item in plan.build(options, 16)] == [16]


def test_choices_multiply_problems_and_where_filters_them() -> None:
    options = CollectiveOptions(
        kernel="allreduce",
        problem=("elements=10",),
        op=("sum", "max"),
        place=("in_place", "out_of_place"),
        library=("microbench",),
        algorithm=("all",),
        where=("op=max",),
    )
    items = plan.build(options, 4)
    assert len(items) == 2 * len(plan.LOSSLESS["allreduce"])
    assert {item.problem["op"] for item in items} == {"max"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kernel": "allreduce", "algorithm": ("quick",)}, "auto, all, ring"),
        ({"kernel": "broadcast", "op": ("max",)}, "broadcast has no such choice"),
        ({"kernel": "allreduce", "library": ("mpi",), "algorithm": ("ring",)}, "ask for auto"),
        ({"kernel": "allreduce", "problem": ("elements=1,op=xor",)}, "op"),
    ],
)
def test_what_cannot_be_planned_is_said(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        plan.build(CollectiveOptions(**options), 4)


@pytest.mark.parametrize("kernel", COLLECTIVES)
def test_algorithms_are_those_of_the_compiled_module(kernel: str) -> None:
    _mpi = pytest.importorskip("microbench._mpi", reason="the package is not built")
    assert tuple(_mpi.lossless_algorithms(kernel, "microbench")) == plan.LOSSLESS[kernel]
    assert tuple(_mpi.lossy_algorithms(kernel, "microbench")) == plan.LOSSY.get(kernel, ())


# --- bandwidths and tables ----------------------------------------------------------------------------------


def collective_record(**changes: Any) -> Record:
    problem = {"elements": 1_000_000, "form": "blocking", "op": "sum", "place": "out_of_place", "ranks": 4}
    problem |= changes.pop("problem", {})
    fields: dict[str, Any] = {
        "kernel": "allreduce",
        "library": "mpi",
        "layout": "",
        "pass_": "",
        "labels": {},
    }
    return make_record(**(fields | {"problem": problem, "median_s": 1e-3} | changes))


def not_measured_collective() -> Record:
    return collective_record(status="crashed", reason="gone", median_s=None, samples_s=[], summary={})


@pytest.mark.parametrize(
    ("kernel", "factor"),
    [
        ("allreduce", 1.5),
        ("reduce_scatter", 0.75),
        ("allgather", 0.75),
        ("alltoall", 0.75),
        ("broadcast", 1.0),
    ],
)
def test_bandwidths_are_nccl_tests(kernel: str, factor: float) -> None:
    """nccl-tests, doc/PERFORMANCE.md: algbw = size / time; busbw by collective, of 4 ranks."""
    algorithm, bus = bandwidths(collective_record(kernel=kernel))
    assert algorithm == pytest.approx(4e9)
    assert bus == pytest.approx(factor * 4e9)
    assert bandwidths(collective_record(kernel=kernel, problem={"ranks": 1}))[1] is None
    assert bandwidths(collective_record(status="wrong_result")) == (None, None)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_rows_fit_and_say_what_is_reported(encoding: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding)
    printer = CollectivePrinter(stream, Conditions("window", 2, 0.99, ("Open MPI v5.0.11",)))
    printer.row(collective_record(library="microbench", algorithm="recursive_doubling"))
    unusual = {"op": "max", "place": "in_place", "form": "nonblocking", "elements": 2**31 - 1}
    printer.row(collective_record(problem=unusual, precision="int32", warnings=["slow"]))
    printer.row(collective_record(status="crashed", reason="rank 1 died " * 20, median_s=None))
    printer.finish()
    text = raw.getvalue().decode(encoding)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "4 ranks on 2 hosts, Open MPI v5.0.11." in text
    assert "last rank's end" in text
    assert "recursive_doubling" in text
    assert "1.500" not in text.splitlines()[0]
    row = next(line for line in text.splitlines() if "recursive_doubling" in line)
    assert {"4000000", "4.000", "6.000"} <= {*row.split()}


def test_how_names_only_what_is_unusual() -> None:
    assert how(collective_record()) == ""
    assert how(collective_record(problem={"op": "max", "place": "in_place"})) == "max in_place"
    assert how(collective_record(kernel="broadcast", problem={"root": 2}, repeat=1)) == "root=2 #1"


def nccl_rows(*records: Record) -> list[list[str]]:
    stream = io.StringIO()
    write_nccl(records, Conditions("window", 1, 0.99), stream)
    return [line.split() for line in stream.getvalue().splitlines() if not line.startswith("#")]


def test_nccl_columns_put_both_places_into_one_row() -> None:
    in_place = collective_record(problem={"place": "in_place"}, median_s=2e-3)
    other = collective_record(problem={"elements": 3}, status="timeout", reason="hung")
    rows = nccl_rows(collective_record(), in_place, other)
    figures = ["1000.00", "4.00", "6.00", "0", "2000.00", "2.00", "3.00", "0"]
    assert rows[0][:13] == ["4000000", "1000000", "float", "sum", "-1", *figures]
    assert rows[1][:13] == ["12", "3", "float", "sum", "-1", *["N/A"] * 8]
    assert rows[1][13:] == ["#", "mpi:", "timeout"]


@pytest.mark.parametrize(
    ("kernel", "count"),
    [("allreduce", 8), ("broadcast", 8), ("allgather", 2), ("reduce_scatter", 2), ("alltoall", 2)],
)
def test_nccl_counts_elements_of_a_rank_as_nccl_tests_does(kernel: str, count: int) -> None:
    """nccl-tests, src/<collective>.cu: paramcount is the share of each rank, size the whole."""
    ((size, counted, *_),) = nccl_rows(collective_record(kernel=kernel, problem={"elements": 8}))
    assert (size, counted) == ("32", str(count))


def test_nccl_tells_forms_and_outcomes_apart() -> None:
    forms = ("blocking", "nonblocking", "persistent")
    rows = nccl_rows(
        *(collective_record(problem={"form": form}) for form in forms),
        collective_record(problem={"op": "max"}, status="unstable", reason="too wide", library="microbench"),
    )
    comments = [" ".join(row[13:]) for row in rows]
    assert comments == [
        "# mpi: ok, ±3.00 %",
        "# mpi nonblocking: ok, ±3.00 %",
        "# mpi persistent: ok, ±3.00 %",
        "# microbench: unstable, ±3.00 %",
    ]


def shown(folder: Path, form: str, *records: Record, start: str = "window") -> str:
    """What `show` prints of a run of ``records``."""
    info = make_info(
        kernel="allreduce",
        options={"start": start, "confidence": 0.95},
        plan={"hosts": 2},
        environment={"libraries": {"mpi": {"version": "Open MPI v5.0.11, package: here"}}},
    )
    with RunWriter.create(folder, info) as writer:
        for record in records:
            writer.append(record)
    stream = io.StringIO()
    write_run(Run.load(folder), form, stream)
    return stream.getvalue()


def unbroken(text: str) -> str:
    """Text without comment signs, markdown's escapes and line breaks."""
    return " ".join(re.sub(r"^#|\\", "", text, flags=re.MULTILINE).split())


@pytest.mark.parametrize("start", ["window", "barrier"])
@pytest.mark.parametrize("form", ["table", "markdown", "nccl"])
def test_every_table_says_which_time_it_shows(form: str, start: str, tmp_path: Path) -> None:
    text = unbroken(shown(tmp_path / "run", form, collective_record(), start=start))
    whose = {"window": "the last rank's end", "barrier": "of the slowest rank, each from its own start"}
    assert whose[start] in text
    assert f"({start} start)" in text
    for fact in ("4 ranks on 2 hosts, Open MPI v5.0.11.", "95% interval"):
        assert fact in text


def test_markdown_shows_what_the_terminal_does(tmp_path: Path) -> None:
    records = (
        collective_record(problem={"form": "persistent"}),
        collective_record(status="timeout", reason="hung", median_s=None),
    )
    lines = shown(tmp_path / "run", "markdown", *records).splitlines()
    heading, _, measured, hung = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line
    ]
    assert heading == ["bytes", "algorithm", "type", "median", "±%", "algbw", "busbw", "status", "how"]
    assert measured == ["4000000", "mpi", "fp32", "1.000 ms", "3.00", "4.000", "6.000", "ok", "persistent"]
    assert hung == ["4000000", "mpi", "fp32", "", "", "", "", "timeout", ""]
    assert "- timeout: elements=1000000" in lines[-1]
    assert lines[-1].endswith("hung")


OVERLAP = {
    "share": 0.85,
    "share_low": 0.8,
    "share_high": 0.9,
    "alone_s": 1e-3,
    "compute_s": 1e-3,
    "together_s": 1.15e-3,
}


@pytest.mark.parametrize("form", ["table", "markdown", "nccl"])
def test_overlap_error_and_warnings_are_shown(form: str, tmp_path: Path) -> None:
    top_k = {"library": "microbench", "algorithm": "top_k", "frobenius_error": 0.989}
    hidden = {"problem": {"form": "nonblocking", "place": "in_place"}, "facts": {"overlap": OVERLAP}}
    text = unbroken(
        shown(
            tmp_path / "run",
            form,
            collective_record(**top_k),
            collective_record(**hidden),
            collective_record(warnings=["the clock is coarse"], problem={"op": "max"}),
        )
    )
    assert "error 0.99" in text
    assert "error, of algorithms that lose something: norm of the error over the norm" in text
    assert "overlap 85 [80, 90] %" in text
    assert (
        "overlap: (alone + computation - together) / min(alone, computation), with the 95% interval" in text
    )
    assert "the clock is coarse" in text
    assert "in the summary" not in text
    assert "of an algorithm that loses nothing" in text


def test_what_loses_something_has_no_count_of_wrong_elements() -> None:
    lossless, lossy = nccl_rows(
        collective_record(),
        collective_record(library="microbench", algorithm="ring_fp16", problem={"op": "max"}),
    )
    assert (lossless[8], lossy[8]) == ("0", "N/A")


def test_csv_has_the_columns_of_collectives(tmp_path: Path) -> None:
    over = {"min_s": 1e-4, "median_s": 2e-4, "mean_s": 3e-4, "max_s": 4e-4}
    facts = {"overlap": OVERLAP, "over_ranks": over, "wrong_elements": 0}
    labelled = collective_record(facts=facts, labels={"start": "mine"})
    text = shown(tmp_path / "run", "csv", labelled, not_measured_collective(), start="barrier")
    full, unknown = csv.DictReader(io.StringIO(text))
    expected = {
        "start": "barrier",
        "label_start": "mine",
        "hosts": "2",
        "message_bytes": "4000000",
        "algorithm_bandwidth_bytes_per_s": "4000000000.0",
        "bus_bandwidth_bytes_per_s": "6000000000.0",
        "wrong_elements": "0",
        "over_ranks_min_s": "0.0001",
        "over_ranks_max_s": "0.0004",
        "overlap_share": "0.85",
        "overlap_share_low": "0.8",
        "overlap_together_s": "0.00115",
        "bytes": "12728320",
    }
    assert {name: full[name] for name in expected} == expected
    for name in ("algorithm_bandwidth_bytes_per_s", "wrong_elements", "over_ranks_min_s", "overlap_share"):
        assert unknown[name] == ""


def test_no_label_hides_a_column_of_csv() -> None:
    names = [*Conditions("window", 1, 0.99).cells(collective_record())]
    labels = dict.fromkeys(names, "mine")
    assert not {*names} & {*flat_columns(collective_record(labels=labels))}


def test_a_run_prints_again_as_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = make_info(kernel="allreduce", options={"start": "barrier", "confidence": 0.99}, plan={"hosts": 2})
    with RunWriter.create(tmp_path / "run", info) as writer:
        writer.append(collective_record())
    for form, words in (("table", "on 2 hosts"), ("nccl", "#wrong"), ("csv", "ranks"), ("json", '"ranks":4')):
        print_run(Run.load(tmp_path / "run"), form)
        assert words in capsys.readouterr().out
    with RunWriter.create(tmp_path / "gemm", make_info()) as writer:
        writer.append(make_record())
    with pytest.raises(InputError, match="--format nccl"):
        print_run(Run.load(tmp_path / "gemm"), "nccl")


@pytest.mark.parametrize("kernel", COLLECTIVES)
def test_compulsory_traffic_is_what_goes_in_and_comes_out(kernel: str) -> None:
    problem_type: Any = kernels.kernel(kernel).PROBLEM
    expected = {"allreduce": 96, "alltoall": 96, "broadcast": 48}.get(kernel, 48 + 48 // 4)
    assert problem_type(elements=12).bytes(ELEMENT_TYPES["fp32"], 4) == expected


# --- launchers, teams ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "rank"),
    [
        ({}, None),
        ({"OMPI_COMM_WORLD_RANK": "3", "PMIX_RANK": "3"}, 3),
        ({"PMI_RANK": "0"}, 0),
        ({"SLURM_PROCID": "12"}, 12),
        ({"PMI_RANK": "?"}, None),
    ],
)
def test_the_rank_is_known_before_mpi(variables: dict[str, str], rank: int | None) -> None:
    assert launcher.rank(variables) == rank


@pytest.mark.parametrize(
    ("variables", "ranks"),
    [
        ({}, 1),
        ({"OMPI_COMM_WORLD_SIZE": "3"}, 3),
        ({"PMI_SIZE": "2"}, 2),
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_NTASKS": "16"}, 8),
        ({"SLURM_NTASKS": "16"}, 1),
    ],
)
def test_how_many_ranks_there_are_is_known_before_mpi(variables: dict[str, str], ranks: int) -> None:
    assert launcher.ranks(variables) == ranks


@pytest.mark.parametrize(
    "arguments", [("allreduce", "--algorith", "ring"), ("gemm", "--prec", "fp32"), ("--vers",)]
)
def test_options_are_not_abbreviated(arguments: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        parser().parse_args(arguments)


class _Alone:
    """A communicator of one rank, as far as a team needs one."""

    def bcast(self, value: Any, root: int) -> Any:
        assert root == 0
        return value

    def gather(self, value: Any, root: int) -> list[Any]:
        assert root == 0
        return [value]


class _Member:
    def double(self, number: int) -> int:
        return 2 * number

    def fail(self) -> None:
        raise MemoryError("none left\nsecond line")


def test_a_team_returns_results_and_raises_what_a_member_raised() -> None:
    team = Team(_Alone(), _Member())
    assert team.all("double", 4) == [8]
    with pytest.raises(RankFailed) as failed:
        team.all("fail")
    assert (failed.value.rank, failed.value.kind, failed.value.text) == (0, "MemoryError", "none left")


def _without_mpi(tmp_path: Path, module: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "mpi4py").mkdir()
    (tmp_path / "mpi4py" / "__init__.py").write_text(module)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{PACKAGE}"}
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "microbench",
            "allreduce",
            "--problems",
            "smoke",
            "--output",
            str(tmp_path / "run"),
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "module",
    [
        "raise ImportError('no mpi4py')",
        "class rc: pass\ndef __getattr__(name): raise RuntimeError('cannot load MPI library')",
    ],
)
def test_without_mpi_one_sentence_says_how_to_get_it(module: str, tmp_path: Path) -> None:
    process = _without_mpi(tmp_path, module)
    assert process.returncode == 2
    assert process.stdout == ""
    assert process.stderr.count("\n") == 1
    assert "pip install mpi4py" in process.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--hosts", "0"), "'0' is not a whole number from 1 on"),
        (("--hosts", "251"), "251 are too many"),
        (("--ranks", "some"), "'some' is not a whole number"),
        (("--rate", "fast"), "'fast' is not a rate"),
        (("--rate", "0mbit"), "'0mbit' is not a rate"),
    ],
)
def test_hosts_that_cannot_be_are_refused(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        several.main(["--mpi", "mpich", *arguments, "--", "true"])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


# --- fleets -------------------------------------------------------------------------------------------------


def fleet(devices: int, problems: int, rng: np.random.Generator, slow: dict[int, float]) -> dict[str, Any]:
    usual = rng.uniform(1e-5, 1e-1, problems)
    return {
        str(device): {
            str(problem): float(time * slow.get(device, 1.0) * rng.normal(1.0, 0.01))
            for problem, time in enumerate(usual)
        }
        for device in range(devices)
    }


def test_a_slow_device_is_named_and_no_other() -> None:
    rng = np.random.default_rng(4)
    found = standings(fleet(8, 20, rng, {5: 1.06}))
    assert [each.name for each in found if each.outlier] == ["5"]
    assert found[5].ratio == pytest.approx(1.06, rel=0.01)


def test_devices_that_are_alike_are_rarely_accused() -> None:
    rng = np.random.default_rng(5)
    accused = sum(any(each.outlier for each in standings(fleet(4, 16, rng, {}))) for _ in range(100))
    assert accused == 0
    significant = sum(
        any(each.p_value is not None and each.p_value < 0.05 for each in standings(fleet(4, 16, rng, {})))
        for _ in range(200)
    )
    assert significant <= 22  # of 200 at 5 %: more with probability under 0.0005


def test_too_little_is_not_tested() -> None:
    rng = np.random.default_rng(6)
    for devices, problems in ((2, 20), (8, 9)):
        found = standings(fleet(devices, problems, rng, {0: 2.0}))
        assert {each.p_value for each in found} == {None}
        assert found[0].ratio == pytest.approx(2.0, rel=0.05)
        assert not any(each.outlier for each in found)
    assert standings({"0": {"a": 1.0}}) == [Standing("0", 1, None, None)]


@pytest.mark.parametrize(
    ("visible", "gpus", "own"),
    [
        ([None, None], 2, ["0", "1"]),
        ([None, None], 8, ["0", "1"]),
        ([None, None, None], 2, [None] * 3),  # too few: refused once their names are known
        ([None], 2, [None]),
        (["2,3", "2,3"], 8, ["2", "3"]),
        (["GPU-a,GPU-b", "GPU-a,GPU-b"], 0, ["GPU-a", "GPU-b"]),
        (["4,5", "4,5", "6,7", "6,7"], 8, ["4", "5", "6", "7"]),  # a list for each socket
        (["0", "1"], 8, [None, None]),
        (["0", "0"], 1, [None, None]),  # in containers of their own that may be two
        (["", ""], 2, [None, None]),
    ],
)
def test_ranks_deal_out_the_gpus_that_they_were_given(
    visible: list[str | None], gpus: int, own: list[str | None]
) -> None:
    assert [own_gpu(visible, place, gpus) for place in range(len(visible))] == own


def test_a_gpu_of_two_ranks_is_refused() -> None:
    check_devices([Device("x", None), Device("x", None), Device("x", "GPU-a"), Device("y", "GPU-a")])
    with pytest.raises(InputError, match="ranks 1 and 2 on y share GPU-a"):
        check_devices([Device("x", "GPU-a"), Device("y", "GPU-a"), Device("y", "GPU-a")])


def test_times_are_compared_by_what_was_measured(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"problem": {"m": 8}},
        {"repeat": 1},
        *({name: "other"} for name in ("library", "algorithm", "precision", "pass_", "layout")),
    ]
    measured = [change | {"median_s": 1e-3 * (1 + number)} for number, change in enumerate(changes)]
    found = []
    for name, order in (("one", measured), ("other", measured[::-1])):
        with RunWriter.create(tmp_path / name, make_info()) as writer:
            for index, change in enumerate(order):
                writer.append(make_record(index=index, **change))
        found.append(times_of(Run.load(tmp_path / name)))
    assert found[0] == found[1]
    assert sorted(found[0].values()) == [change["median_s"] for change in measured]


def test_nodes_are_the_geometric_means_of_their_devices() -> None:
    found = by_node([{"a": 1.0, "b": 2.0}, {"a": 4.0}, {"a": 3.0, "b": 5.0}], ["x", "x", "y"])
    assert found == {"x": {"a": pytest.approx(2.0)}, "y": {"a": pytest.approx(3.0), "b": pytest.approx(5.0)}}
