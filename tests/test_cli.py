"""The commands as a person types them, on the real libraries of this machine."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import microbench
from microbench.store import Run
from microbench.topology import physical_cores

ROOT = Path(__file__).parents[1]
PACKAGE = Path(microbench.__file__).parents[1]
QUICK = ["--min-time", "0", "--max-time", "0.05", "--max-samples", "30"]


def call(arguments: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "microbench", *arguments],
        env={**os.environ, "PYTHONPATH": str(PACKAGE), "COLUMNS": "100", **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the smoke set in every precision with every library that is here."""
    folder = tmp_path_factory.mktemp("real")
    precisions = ["fp64", "fp32", "bf16", "fp16", "int8"]
    process = call(
        ["gemm", "--problems", "smoke", *QUICK, "--output", "run", "--precision", *precisions], folder
    )
    assert process.returncode in (0, 1), process.stderr
    assert "Traceback" not in process.stderr
    return folder / "run"


def test_every_problem_library_and_precision_is_right_or_has_a_reason(run_folder: Path) -> None:
    records = list(Run.load(run_folder).records())
    libraries = {record.library for record in records}
    assert "openblas" in libraries
    assert len(records) == 8 * 5 * len(libraries)
    for record in records:
        # A disturbed machine may leave some unstable; none may be wrong, crash or hang.
        assert record.status in ("ok", "unstable", "unsupported"), record.reason
        if record.status == "unsupported":
            assert record.precision in record.reason or record.precision in ("fp16", "bf16", "int8")
        else:
            assert record.max_error is not None
            assert record.tolerance is not None
            assert record.max_error <= record.tolerance
            assert record.facts["implementation"]
            assert len(record.samples_s) == record.summary["n"]
    supported = {(r.library, r.precision) for r in records if r.status != "unsupported"}
    assert {("openblas", "fp32"), ("openblas", "fp64")} <= supported
    assert all(record.precision != "fp16_in_fp32_math" or record.library for record in records)


@pytest.mark.parametrize(
    "arguments",
    [
        ["conv", "--algorithm", "all", "--pass", "all", "--where", "n=1"],
        ["conv", "--layout", "nhwc", "--precision", "bf16", "int8", "fp16", "--algorithm", "best"],
        ["rnn", "--pass", "all", "--precision", "fp32", "bf16", "int8"],
    ],
    ids=" ".join,
)
def test_convolution_and_recurrent_layers_are_right_or_have_a_reason(
    arguments: list[str], tmp_path: Path
) -> None:
    process = call([*arguments, "--problems", "smoke", *QUICK, "--output", "run"], tmp_path)
    assert process.returncode in (0, 1), process.stderr
    assert "Traceback" not in process.stderr
    records = list(Run.load(tmp_path / "run").records())
    assert records
    for record in records:
        assert record.status in ("ok", "unstable", "unsupported"), (
            record.algorithm,
            record.problem,
            record.reason,
        )
        if record.status == "unsupported":
            assert record.reason
        else:
            assert record.max_error is not None
            assert record.workspace_bytes is not None
    if "best" not in arguments and arguments[0] == "conv":
        algorithms = {record.algorithm for record in records if record.library == "microbench"}
        assert algorithms == {"im2col", "implicit_gemm", "winograd_2x2", "winograd_4x4", "fft", "fft_tiled"}


def test_best_shows_one_algorithm_for_each_library_and_problem(tmp_path: Path) -> None:
    problem = "w=13,h=13,c=8,n=2,k=8,filter_w=3,filter_h=3,pad_w=1,pad_h=1,stride_w=1,stride_h=1"
    process = call(["conv", "--problem", problem, "--algorithm", "best", *QUICK, "--output", "run"], tmp_path)
    shown = call(["show", "run", "--format", "csv"], tmp_path).stdout
    rows = list(csv.DictReader(io.StringIO(shown)))
    records = list(Run.load(tmp_path / "run").records())
    assert len(records) > len(rows) == len({record.library for record in records})
    assert "Traceback" not in process.stderr
    for row in rows:
        times = [r.median_s for r in records if r.library == row["library"] and r.median_s is not None]
        assert float(row["median_s"]) == min(times)


def test_a_time_budget_measures_part_and_says_which(tmp_path: Path) -> None:
    arguments = ["rnn", "--problems", "smoke", *QUICK, "--time-budget", "1", "--seed", "3", "--output", "run"]
    process = call(arguments, tmp_path)
    assert process.returncode in (0, 1), process.stderr
    run = Run.load(tmp_path / "run")
    assert 0 < len(list(run.records())) < 9
    assert run.info.plan["left_out"] == 9 - len(list(run.records()))
    assert "random order" in run.info.plan["chosen_by"]
    assert "left out" in process.stderr


def test_a_run_prints_again_in_every_format(run_folder: Path) -> None:
    count = len(list(Run.load(run_folder).records()))
    table = call(["show", str(run_folder)], run_folder)
    assert table.returncode == 0
    assert max(map(len, table.stdout.splitlines())) <= 100
    rows = list(
        csv.DictReader(io.StringIO(call(["show", str(run_folder), "--format", "csv"], run_folder).stdout))
    )
    assert len(rows) == count
    text = call(["show", str(run_folder), "--format", "json"], run_folder).stdout
    assert sum(1 for _ in re.finditer(r'"index":', text)) == count
    json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines()]
    markdown = call(["show", str(run_folder), "--format", "markdown"], run_folder).stdout
    assert markdown.count("\n|") >= count


def test_a_run_loads_into_pandas(run_folder: Path) -> None:
    table = microbench.load(run_folder)
    assert len(table) == len(list(Run.load(run_folder).records()))
    assert (table["max_error"].dropna() >= 0).all()


def test_python_runs_a_sweep_as_the_command_line_does(tmp_path: Path) -> None:
    run = microbench.run(
        "gemm",
        tmp_path / "run",
        problem=("m=32,n=32,k=32",),
        library=("openblas",),
        max_time=0.05,
        min_time=0.0,
    )
    (record,) = run.records()
    assert record.problem["m"] == 32
    assert record.status in ("ok", "unstable")


def test_threads_are_as_many_as_asked_for_and_bound(tmp_path: Path) -> None:
    process = call(
        ["gemm", "--problem", "m=64,n=64,k=64", "--threads", "1", *QUICK, "--output", "run"], tmp_path
    )
    assert process.returncode in (0, 1)
    run = Run.load(tmp_path / "run")
    assert run.info.plan["threads"] == 1
    assert len(run.info.plan["cpus"]) == 1
    assert {record.threads for record in run.records()} == {1}


def test_variables_of_openmp_change_neither_threads_nor_results(tmp_path: Path) -> None:
    arguments = ["gemm", "--problem", "m=65,n=64,k=63", *QUICK, "--output", "run"]
    process = call(arguments, tmp_path, OMP_PROC_BIND="true", OMP_NUM_THREADS="1", OMP_THREAD_LIMIT="1")
    assert process.returncode in (0, 1), process.stderr
    run = Run.load(tmp_path / "run")
    assert run.info.plan["cpus"] == list(physical_cores())
    assert {record.status for record in run.records()} <= {"ok", "unstable"}


def test_a_library_chosen_by_variable_must_be_there(tmp_path: Path) -> None:
    process = call(["gemm", "--problems", "smoke"], tmp_path, MICROBENCH_OPENBLAS_LIBRARY="/nonexistent.so")
    assert process.returncode == 2
    assert "MICROBENCH_OPENBLAS_LIBRARY" in process.stderr
    assert process.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_that_cannot_be_written_is_one_sentence(run_folder: Path) -> None:
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "microbench", "show", str(run_folder)],
            env={**os.environ, "PYTHONPATH": str(PACKAGE)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert process.returncode == 1
    assert process.stderr.count("\n") == 1
    assert "No space left" in process.stderr


def test_a_reader_that_leaves_does_not_end_the_sweep(tmp_path: Path) -> None:
    command = f"{sys.executable} -m microbench gemm --problems smoke {' '.join(QUICK)} --output run | head -1"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    process = subprocess.run(
        command, shell=True, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in process.stderr
    run = Run.load(tmp_path / "run")
    assert len(list(run.records())) == run.info.planned_records


def test_list_and_device_say_what_is_here(tmp_path: Path) -> None:
    overview = call(["list"], tmp_path)
    assert overview.returncode == 0
    assert "deepbench (248)" in overview.stdout
    problems = call(["list", "gemm", "--problems", "smoke", "--where", "n<=16"], tmp_path)
    assert problems.returncode == 0
    assert "GFLOP" in problems.stdout
    for kernel in ("conv", "rnn", "sparse_gemm", "allreduce"):
        text = call(["list", kernel], tmp_path).stdout
        assert max(map(len, text.splitlines())) <= 100
    device = call(["device"], tmp_path)
    assert device.returncode == 0
    assert "openblas" in device.stdout
    assert max(map(len, device.stdout.splitlines())) <= 100
