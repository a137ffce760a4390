"""Sweeps over a fake library in real worker processes: faults cost one record each, nothing is lost or repeated."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import microbench
from microbench.record import Record
from microbench.store import Run

HERE = Path(__file__).parent
PACKAGE = Path(microbench.__file__).parents[1]
QUICK = ["--min-time", "0", "--max-time", "0.5", "--threads", "1"]
PROBLEMS = [
    "--problem",
    "m=8,n=4,k=16",
    "--problem",
    "m=9,n=4,k=16,a_transposed=true",
    "--problem",
    "m=10,n=4,k=16",
]


def start(arguments: list[str], log: Path | None = None) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    if log is not None:
        environment["FAKE_LIBRARY_LOG"] = str(log)
    return subprocess.Popen(
        [sys.executable, str(HERE / "fake_main.py"), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def sweep(arguments: list[str], folder: Path, log: Path | None = None) -> tuple[int, str, str, list[Record]]:
    process = start(["gemm", *QUICK, *arguments, "--output", str(folder)], log)
    output, errors = process.communicate(timeout=120)
    records = list(Run.load(folder).records()) if (folder / "run.json").exists() else []
    return process.returncode, output, errors, records


def wait_for_records(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    path = folder / "records.jsonl"
    while time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.02)
    raise AssertionError(f"no {count} records within a minute")


def test_a_sweep_measures_every_problem_and_stores_what_it_found(tmp_path: Path) -> None:
    code, output, errors, records = sweep(PROBLEMS, tmp_path / "run")
    assert (code, errors.count("Traceback")) == (0, 0)
    assert [record.problem["m"] for record in records] == [8, 9, 10]
    for record in records:
        assert record.status == "ok"
        assert record.flops == 2 * record.problem["m"] * 4 * 16
        assert record.median_s == pytest.approx(1e-3, rel=2e-3)
        assert record.ci_low_s <= record.median_s <= record.ci_high_s
        assert len(record.samples_s) == record.summary["n"]
        assert record.max_error <= record.tolerance
        assert record.measuring_s >= record.python_s >= 0
        assert record.facts["verified"] == ["random", "integer, exact"]
        assert record.confidence == 0.99
        assert "median" in output
    info = Run.load(tmp_path / "run").info
    assert info.environment["libraries"] == {"fake": {"version": "1.0"}}
    assert info.ceilings["compute_flops_per_s"]["fp32"]["best"] > 0
    assert info.planned_records == 3
    assert len({record.seed for record in records}) == 3


@pytest.mark.parametrize(
    ("algorithm", "status", "said"),
    [
        ("segfault", "crashed", "segmentation fault (SIGSEGV) while warming up"),
        ("abort", "crashed", "abort (SIGABRT)"),
        ("exit", "crashed", "exit code 3 while warming up: fake: cannot go on"),
        ("killed", "crashed", "killed from outside while warming up"),
        ("memory", "out_of_memory", "--memory-limit"),
        ("hang", "timeout", "no result after 3 s (while warming up)"),
        ("wrong", "wrong_result", "before timing"),
        ("wrong_later", "wrong_result", "after timing"),
        ("nan", "wrong_result", "before timing"),
        ("unsupported", "unsupported", "the fake has no fp32 unsupported"),
        ("noisy", "unstable", "% interval of the median"),
    ],
)
def test_a_fault_costs_one_record_with_its_reason(
    algorithm: str, status: str, said: str, tmp_path: Path
) -> None:
    code, output, errors, records = sweep(
        [*PROBLEMS[:2], "--algorithm", algorithm, "auto", "--timeout", "3", "--max-samples", "50"],
        tmp_path / "run",
    )
    assert errors.count("Traceback") == 0
    assert [record.status for record in records] == [status, "ok"]
    assert said in records[0].reason
    assert code == (0 if status == "unsupported" else 1)
    assert status in output


def test_output_of_libraries_does_not_disturb(tmp_path: Path) -> None:
    code, output, _, records = sweep([*PROBLEMS[:2], "--algorithm", "shout"], tmp_path / "run")
    assert code == 0
    assert records[0].status == "ok"
    assert "xxxx" not in output


def test_a_workspace_over_the_limit_is_a_status(tmp_path: Path) -> None:
    _, _, _, records = sweep([*PROBLEMS[:2], "--workspace-limit", "63"], tmp_path / "run")
    assert records[0].status == "workspace_exceeded"
    assert "64 bytes" in records[0].reason


def test_kernels_too_short_for_the_timer_are_batched_and_say_so(tmp_path: Path) -> None:
    _, _, _, records = sweep([*PROBLEMS[:2], "--algorithm", "short"], tmp_path / "run")
    assert records[0].samples_per_batch == pytest.approx(120, abs=2)  # 400 readings of 30 ns over 100 ns
    assert any("mean of" in warning for warning in records[0].warnings)


def test_cold_executions_are_not_batched(tmp_path: Path) -> None:
    _, _, _, records = sweep([*PROBLEMS[:2], "--algorithm", "short", "--mode", "cold"], tmp_path / "run")
    assert records[0].samples_per_batch == 1
    assert any("cannot be batched" in warning for warning in records[0].warnings)


def test_all_algorithms_are_enumerated(tmp_path: Path) -> None:
    _, _, _, records = sweep([*PROBLEMS[:2], "--algorithm", "all"], tmp_path / "run")
    assert [record.algorithm for record in records] == ["auto", "second"]


def test_repeats_are_fresh_processes_in_shuffled_order(tmp_path: Path) -> None:
    log = tmp_path / "log"
    problems = [part for m in range(1, 9) for part in ("--problem", f"m={m},n=2,k=2")]
    _, _, _, records = sweep([*problems, "--repeat", "3", "--seed", "5"], tmp_path / "run", log)
    assert sorted((record.repeat, record.index) for record in records) == [
        (r, i) for r in range(3) for i in range(8)
    ]
    orders = [[record.index for record in records if record.repeat == repeat] for repeat in range(3)]
    assert len({tuple(order) for order in orders}) == 3
    assert len({line.split()[0] for line in log.read_text().splitlines()}) == 3


def test_an_interrupt_is_recorded_and_resume_goes_on_without_repeating(tmp_path: Path) -> None:
    folder, log = tmp_path / "run", tmp_path / "log"
    arguments = ["gemm", *QUICK, *PROBLEMS, "--algorithm", "auto", "slow", "--output", str(folder)]
    process = start(arguments, log)
    wait_for_records(folder, 1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in errors
    before = list(Run.load(folder).records())
    assert before[-1].status == "interrupted"
    assert "--resume" in before[-1].reason

    process = start(["gemm", "--resume", "--output", str(folder)], log)
    process.communicate(timeout=120)
    assert process.returncode == 0
    after = list(Run.load(folder).records())
    assert after[: len(before) - 1] == before[:-1]
    assert sorted(record.index for record in after) == list(range(6))
    assert {record.status for record in after} == {"ok"}


def test_a_killed_run_loses_at_most_the_record_being_measured(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(["gemm", *QUICK, *PROBLEMS, "--algorithm", "auto", "slow", "--output", str(folder)])
    wait_for_records(folder, 2)
    process.kill()
    process.communicate(timeout=60)
    kept = list(Run.load(folder).records())
    assert len(kept) >= 2
    code, _, _, records = sweep(["--resume"], folder)
    assert code == 0
    assert records[: len(kept)] == kept
    assert sorted(record.index for record in records) == list(range(6))


def test_resume_refuses_other_options(tmp_path: Path) -> None:
    sweep(PROBLEMS[:2], tmp_path / "run")
    code, _, errors, _ = sweep(["--resume", "--confidence", "0.95"], tmp_path / "run")
    assert code == 2
    assert "--confidence 0.99, not 0.95" in errors
    code, _, errors, _ = sweep(["--resume", "--problems", "smoke"], tmp_path / "run")
    assert code == 2
    assert "was started with --problems" in errors


def test_resume_refuses_another_kernels_run(tmp_path: Path) -> None:
    sweep(PROBLEMS[:2], tmp_path / "run")
    process = start(["conv", "--resume", "--output", str(tmp_path / "run")])
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "is a run of gemm, not of conv" in errors


def test_two_runs_never_share_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = start(["gemm", *QUICK, *PROBLEMS, "--algorithm", "slow", "--output", str(folder)])
    wait_for_records(folder, 1)
    code, _, errors, _ = sweep(["--resume"], folder)
    first.communicate(timeout=120)
    assert code == 2
    assert "another process" in errors
    code, _, errors, records = sweep(PROBLEMS, folder)
    assert code == 2
    assert "--resume" in errors
    assert len(records) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gemm", "--precision", "fp31"], "--precision fp31"),
        (["gemm", "--library", "blas"], "--library blas"),
        (["gemm", "--backend", "tpu"], "--backend tpu"),
        (["gemm", "--mode", "warm"], "--mode warm"),
        (["gemm", "--threads", "0"], "--threads 0"),
        (["gemm", "--threads", "4000"], "--threads 4000"),
        (["gemm", "--cpus", "0-"], "--cpus"),
        (["gemm", "--cpus", "9999"], "--cpus 9999"),
        (["gemm", "--memory-limit", "64MiB"], "--memory-limit"),
        (["gemm", "--algorithm", "all", "auto"], "--algorithm all"),
        (["gemm", "--confidence", "1.5"], "--confidence 1.5"),
        (["gemm", "--relative-width", "nan"], "--relative-width nan"),
        (["gemm", "--min-time", "5", "--max-time", "1"], "--min-time 5: longer than --max-time 1"),
        (["gemm", "--problems", "nowhere.csv"], "nowhere.csv"),
        (["gemm", "--problem", "m=1,n=2"], "k"),
        (["gemm", "--where", "z=1"], "--where"),
        (["gemm", "--problem", "m=1,n=1,k=1", "--problems", "smoke"], "--problem"),
        (["gemm", "--resume"], "--output"),
        (["gemm", "--workspace-limit", "much"], "much"),
        (["gemm", "--layout", "row_major"], "layout"),
        (["show", "nowhere"], "nowhere"),
        (["list", "sort"], "sort"),
        (["sort"], "sort"),
        ([], "COMMAND"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments: list[str], said: str, tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, str(HERE / "fake_main.py"), *arguments],
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2
    assert process.stdout == ""
    assert said in process.stderr
    assert process.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
