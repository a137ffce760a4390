"""Collectives without any MPI: inputs, clocks, options, plans, tables, teams and fleets."""

from __future__ import annotations

import functools
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.installations import PACKAGE
from microbench import kernels
from microbench.collective import COLLECTIVES, ELEMENT_TYPES
from microbench.commands.measured import print_run
from microbench.errors import InputError
from microbench.figures import WIDTH
from microbench.mpi import launcher, plan
from microbench.mpi.clocks import aligned
from microbench.mpi.fleet import Standing, by_node, standings
from microbench.mpi.operands import PERIOD, Operands, comparison, merged
from microbench.mpi.options import CollectiveOptions
from microbench.mpi.table import CollectivePrinter, bandwidths, how, write_nccl
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
    printer = CollectivePrinter(stream, "window", 2, 0.99)
    printer.row(collective_record(library="microbench", algorithm="recursive_doubling"))
    unusual = {"op": "max", "place": "in_place", "form": "nonblocking", "elements": 2**31 - 1}
    printer.row(collective_record(problem=unusual, precision="int32", warnings=["slow"]))
    printer.row(collective_record(status="crashed", reason="rank 1 died " * 20, median_s=None))
    printer.finish()
    text = raw.getvalue().decode(encoding)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "4 ranks on 2 hosts" in text
    assert "last rank's end" in text
    assert "recursive_doubling" in text
    assert "1.500" not in text.splitlines()[0]
    row = next(line for line in text.splitlines() if "recursive_doubling" in line)
    assert {"4000000", "4.000", "6.000"} <= {*row.split()}


def test_how_names_only_what_is_unusual() -> None:
    assert how(collective_record()) == ""
    assert how(collective_record(problem={"op": "max", "place": "in_place"})) == "max in_place"
    assert how(collective_record(kernel="broadcast", problem={"root": 2})) == "root=2"


def test_nccl_columns_put_both_places_into_one_row() -> None:
    stream = io.StringIO()
    in_place = collective_record(problem={"place": "in_place"}, median_s=2e-3)
    other = collective_record(problem={"elements": 3}, status="timeout", reason="hung")
    write_nccl([collective_record(), in_place, other], stream)
    rows = [line.split() for line in stream.getvalue().splitlines() if not line.startswith("#")]
    figures = ["1000.00", "4.00", "6.00", "0", "2000.00", "2.00", "3.00", "0"]
    assert rows[0][:13] == ["4000000", "1000000", "float", "sum", "-1", *figures]
    assert rows[1][:13] == ["12", "3", "float", "sum", "-1", *["N/A"] * 8]


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
    assert standings({"0": {"a": 1.0}}) == [Standing("0", 0, None, None)]


def test_nodes_are_the_geometric_means_of_their_devices() -> None:
    found = by_node([{"a": 1.0, "b": 2.0}, {"a": 4.0}, {"a": 3.0, "b": 5.0}], ["x", "x", "y"])
    assert found == {"x": {"a": pytest.approx(2.0)}, "y": {"a": pytest.approx(3.0), "b": pytest.approx(5.0)}}
