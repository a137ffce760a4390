"""Collectives on real ranks of the MPI libraries that are here: right results, records, deaths, several hosts."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fixtures import hosts as several
from fixtures.installations import Installation, installation
from microbench.mpi.plan import LOSSLESS
from microbench.record import Record
from microbench.store import Run

RANKS = Path(__file__).parent / "fixtures" / "ranks.py"
QUICK = ("--min-time", "0", "--max-time", "0.2", "--max-samples", "30")
COMMAND = ("-m", "microbench", "allreduce")
FLEET = ("-m", "microbench", "gemm", "--fleet")


@pytest.fixture(params=["openmpi", "mpich"])
def mpi(request: pytest.FixtureRequest) -> Installation:
    """Each MPI that is here."""
    return installation(request.param)


def records(folder: Path) -> list[Record]:
    return list(Run.load(folder).records())


@pytest.mark.parametrize("ranks", [4, 3])
def test_every_collective_is_right_in_every_way(mpi: Installation, ranks: int, tmp_path: Path) -> None:
    process = mpi.run(ranks, str(RANKS), "verify", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    assert found["wrong"] == []
    assert found["checked"] > 400
    reasons = {*found["refused"].values()}
    allowed = (
        "are blocking only",
        "is for sums of fp32",
        "out of place only",
        "no grid",
        "different numbers",
    )
    assert all(any(words in reason for words in allowed) for reason in reasons), reasons
    # fp16 has 11 bits: what is lost is about 2^-11 of the sum; of dense vectors a sparse sum loses nearly all.
    assert 1e-4 < found["errors"]["ring_fp16"] < ranks * 2**-11 * 1.01
    assert found["errors"]["top_k"] > 0.5


def test_clocks_that_run_apart_are_brought_together(mpi: Installation, tmp_path: Path) -> None:
    process = mpi.run(3, str(RANKS), "synchronise", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    for error, uncertainty in zip(found["errors"], found["uncertainties"], strict=True):
        assert abs(error) <= uncertainty


def test_records_hold_what_was_measured(mpi: Installation, tmp_path: Path) -> None:
    arguments = ("--problems", "smoke", "--algorithm", "all", *QUICK, "--output", "run")
    process = mpi.run(4, *COMMAND, *arguments, cwd=tmp_path)
    assert process.returncode in (0, 1), process.stderr
    assert "Traceback" not in process.stderr
    assert "of 4 ranks on 1 host" in process.stdout
    assert max(map(len, process.stdout.splitlines())) <= 100
    stored = records(tmp_path / "run")
    assert len(stored) == 5 * (1 + len(LOSSLESS["allreduce"]))
    for record in stored:
        assert record.status in ("ok", "unstable", "unsupported"), record.reason
        assert record.problem["ranks"] == 4
        if record.median_s is None:
            assert record.reason
            continue
        facts = record.facts
        of_ranks = np.array(facts["rank_samples_s"])
        assert of_ranks.shape == (4, len(record.samples_s))
        np.testing.assert_allclose(of_ranks.max(axis=0), record.samples_s, atol=1e-9)
        assert record.median_s == pytest.approx(np.median(record.samples_s))
        assert facts["wrong_elements"] == 0
        assert facts["message_bytes"] == 4 * int(record.problem["elements"])
        assert facts["bus_bandwidth_bytes_per_s"] == pytest.approx(
            1.5 * facts["message_bytes"] / record.median_s
        )
        assert facts["late"] >= 0
        assert 0 < facts["over_ranks"]["min_s"] <= facts["over_ranks"]["max_s"]
        if record.problem["form"] == "nonblocking":
            assert math.isfinite(facts["overlap"]["share"])
    of_mpi = [record for record in stored if record.library == "mpi"]
    assert {record.problem["form"] for record in of_mpi if record.median_s} >= {"blocking", "nonblocking"}
    here = Run.load(tmp_path / "run").info.environment["mpi"]
    assert here["ranks"] == 4
    assert [host["ranks"] for host in here["hosts"]] == [[0, 1, 2, 3]]
    assert len(here["binding"]) == 4
    assert here["library"]


@pytest.mark.parametrize("collective", ["reduce_scatter", "allgather", "broadcast", "alltoall"])
def test_other_collectives_are_measured_likewise(mpi: Installation, collective: str, tmp_path: Path) -> None:
    arguments = ("--problems", "smoke", "--start", "barrier", *QUICK, "--output", "run", "--format", "nccl")
    process = mpi.run(2, "-m", "microbench", collective, *arguments, cwd=tmp_path)
    assert process.returncode in (0, 1), process.stderr
    rows = [line.split() for line in process.stdout.splitlines() if not line.startswith("#")]
    stored = records(tmp_path / "run")
    assert {record.status for record in stored} <= {"ok", "unstable", "unsupported"}
    assert {record.facts["start"] for record in stored if record.median_s} == {"barrier"}
    assert rows
    assert all(len(row) >= 13 for row in rows)


def test_one_rank_explains_itself(mpi: Installation, tmp_path: Path) -> None:
    process = subprocess.run(
        [str(mpi.python), *COMMAND, "--problem", "elements=100", *QUICK, "--output", "run"],
        env=mpi.environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert process.returncode in (0, 1), process.stderr
    assert "mpiexec -n 4 python -m microbench allreduce" in process.stderr
    for record in records(tmp_path / "run"):
        assert record.problem["ranks"] == 1
        assert record.facts["bus_bandwidth_bytes_per_s"] is None
        assert any("nobody to talk to" in warning for warning in record.warnings)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--precision", "int8"), "--precision int8"),
        (("--no-such-option",), "--no-such-option"),
        (("--problems", "none"), "neither a problem set"),
    ],
)
def test_bad_input_is_said_by_one_rank(
    mpi: Installation, arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    process = mpi.run(3, *COMMAND, *arguments, cwd=tmp_path)
    assert process.returncode == 2
    own = [line for line in process.stderr.splitlines() if line.startswith("microbench: ")]
    assert len(own) == 1
    assert said in own[0]
    assert not list(tmp_path.iterdir())


def test_a_fleet_measures_the_same_on_every_rank(mpi: Installation, tmp_path: Path) -> None:
    arguments = ("gemm", "--problem", "m=64,n=64,k=64", "--library", "openblas", *QUICK, "--output", "run")
    process = mpi.run(2, "-m", "microbench", *arguments, "--fleet", cwd=tmp_path)
    assert process.returncode in (0, 1), process.stderr
    assert "gemm on 2 devices of 1 host" in process.stdout
    processors = []
    for rank in range(2):
        run = Run.load(tmp_path / "run" / f"rank-{rank:04}")
        assert next(run.records()).status in ("ok", "unstable")
        processors += run.info.plan["cpus"]
    assert len(processors) == len({*processors})
    shutil.rmtree(tmp_path / "run" / "rank-0001")  # as of a rank that died before it had a run
    resumed = mpi.run(2, *FLEET, "--resume", "--output", "run", cwd=tmp_path)
    statuses = [
        record.status
        for rank in range(2)
        for record in Run.load(tmp_path / "run" / f"rank-{rank:04}").records()
    ]
    assert resumed.returncode == int("unstable" in statuses), resumed.stderr
    (record,) = records(tmp_path / "run" / "rank-0001")
    assert (record.problem["m"], record.library) == (64, "openblas")


def test_a_fleet_measures_the_problems_that_one_rank_chooses(mpi: Installation, tmp_path: Path) -> None:
    problems = [word for m in range(64, 76) for word in ("--problem", f"m={m},n=64,k=64")]
    some = (*problems, "--library", "openblas", *QUICK, "--time-budget", "3", "--output", "run")
    ranks = [tmp_path / "run" / f"rank-{rank:04}" for rank in range(2)]

    def measured() -> tuple[int | None, list[object]]:
        runs = [Run.load(folder) for folder in ranks]
        (seed,) = {run.info.seed for run in runs}
        of_one, of_other = ([record.problem["m"] for record in run.summaries()] for run in runs)
        assert of_one == of_other
        assert 0 < len(of_one) < 12
        return seed, of_one

    assert mpi.run(2, *FLEET, *some, cwd=tmp_path).returncode in (0, 1)
    before = measured()
    shutil.rmtree(ranks[0])
    again = mpi.run(2, *FLEET, *some, cwd=tmp_path)
    assert again.returncode == 2
    (line,) = [line for line in again.stderr.splitlines() if line.startswith("microbench: ")]
    assert "rank 1: run/rank-0001 holds a run already" in line
    assert not ranks[0].exists()
    assert mpi.run(2, *FLEET, "--resume", "--output", "run", cwd=tmp_path).returncode in (0, 1)
    assert measured() == before


def test_a_fleet_ends_as_its_records_say(mpi: Installation, tmp_path: Path) -> None:
    never = ("--relative-width", "1e-6", "--max-samples", "8", "--min-time", "0")
    few = ("--problem", "m=64,n=64,k=64", "--library", "openblas", *never, "--output", "run")
    process = mpi.run(1, *FLEET, *few, cwd=tmp_path)
    assert process.returncode == 1, process.stderr
    assert "gemm on 1 device of 1 host" in process.stdout
    assert "records neither ok nor unsupported: 1 unstable" in process.stdout
    row = next(line.split() for line in process.stdout.splitlines() if line.startswith("0 "))
    assert row[2:] == ["1", "n/a", "n/a"]
    assert mpi.run(1, *FLEET, "--resume", cwd=tmp_path).returncode == 2
    nothing = mpi.run(1, *FLEET, "--resume", "--output", "none", cwd=tmp_path)
    assert nothing.returncode == 2
    assert "none holds no fleet's runs to resume" in nothing.stderr


def test_a_killed_rank_of_a_fleet_is_named_and_all_goes_on(mpi: Installation, tmp_path: Path) -> None:
    problems = [word for m in range(64, 70) for word in ("--problem", f"m={m},n=64,k=64")]
    slow = (*problems, "--library", "openblas", "--min-time", "1", "--max-time", "1", "--output", "run")
    command = mpi.command(2, *FLEET, *slow)
    with (
        (tmp_path / "said").open("w") as said,
        subprocess.Popen(command, env=mpi.environment(), cwd=tmp_path, stdout=said, stderr=said) as process,
    ):
        stored = tmp_path / "run" / "rank-0001"
        deadline = time.monotonic() + 60
        while not ((stored / "run.json").exists() and records(stored)):
            assert process.poll() is None, (tmp_path / "said").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(rank_process(process.pid, 1, b"--fleet"), signal.SIGKILL)
        assert process.wait(30) != 0
    deadline = time.monotonic() + 10
    while "rank 1 died" not in (text := (tmp_path / "said").read_text()):
        assert time.monotonic() < deadline, text
        time.sleep(0.1)
    assert "what every rank has measured is kept in run" in text
    before = records(stored)
    assert before
    process_again = mpi.run(2, *FLEET, "--resume", "--output", "run", cwd=tmp_path)
    assert process_again.returncode in (0, 1), process_again.stderr
    assert "gemm on 2 devices" in process_again.stdout
    for rank in range(2):
        found = records(tmp_path / "run" / f"rank-{rank:04}")
        assert [record.index for record in found] == [*range(6)]
        assert {record.status for record in found} <= {"ok", "unstable"}
    assert records(stored)[: len(before)] == before


# --- ranks that die, hang, or are stopped --------------------------------------------------------------------


@contextlib.contextmanager
def started(mpi: Installation, folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A sweep of three ranks that would last minutes; at least one record is stored."""
    sweep = ("--min-bytes", "8", "--max-bytes", "4MiB", "--max-time", "0.2", "--output", "run", *arguments)
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(
            mpi.command(3, *COMMAND, *sweep),
            env=mpi.environment(),
            cwd=folder,
            stdout=said,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with process:
            stored = folder / "run" / "records.jsonl"
            try:
                deadline = time.monotonic() + 60
                while not (stored.exists() and b"\n" in stored.read_bytes()):
                    assert process.poll() is None, (folder / "said").read_text()
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
                yield process
            finally:
                if process.poll() is None:
                    process.kill()


def rank_process(parent: int, rank: int, word: bytes = b"allreduce") -> int:
    """The process of a rank among the descendants of ``parent``, with ``word`` in its command."""
    descendants = [parent]
    for ancestor in descendants:
        children = Path(f"/proc/{ancestor}/task").glob("*/children")
        descendants += [int(child) for file in children for child in file.read_text().split()]
    for process in descendants:
        variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
        ranks = (f"OMPI_COMM_WORLD_RANK={rank}".encode(), f"PMI_RANK={rank}".encode())
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        if any(each in variables for each in ranks) and word in words:
            return process
    raise AssertionError(f"no rank {rank} among {descendants}")


def last_record(folder: Path) -> tuple[list[Record], Record]:
    """All records but the last, and the last, which a keeper has a moment to write."""
    deadline = time.monotonic() + 20
    while True:
        stored = records(folder / "run")
        if stored[-1].status in ("crashed", "timeout", "interrupted"):
            return stored[:-1], stored[-1]
        assert time.monotonic() < deadline, (folder / "said").read_text()
        time.sleep(0.1)


@pytest.mark.parametrize("rank", [0, 2])
def test_a_killed_rank_leaves_a_reason_and_all_before_it(
    mpi: Installation, rank: int, tmp_path: Path
) -> None:
    with started(mpi, tmp_path) as process:
        os.kill(rank_process(process.pid, rank), signal.SIGKILL)
        assert process.wait(30) != 0
        before, last = last_record(tmp_path)
    assert last.status == "crashed"
    assert f"rank {rank} died while " in last.reason
    assert before
    assert {record.status for record in before} <= {"ok", "unstable"}


def test_a_rank_that_hangs_ends_the_run_in_time(mpi: Installation, tmp_path: Path) -> None:
    with started(mpi, tmp_path, "--timeout", "6") as process:
        os.kill(rank_process(process.pid, 1), signal.SIGSTOP)
        assert process.wait(40) != 0
        _, last = last_record(tmp_path)
    assert last.status == "timeout"
    assert "no result after 6 s" in last.reason
    assert "and rank 1 did not answer" in last.reason


def test_a_run_that_was_stopped_goes_on(mpi: Installation, tmp_path: Path) -> None:
    with started(mpi, tmp_path) as process:
        process.send_signal(signal.SIGINT)  # Ctrl-C
        process.wait(30)
        before, last = last_record(tmp_path)
    assert last.status == "interrupted"
    with subprocess.Popen(
        mpi.command(3, *COMMAND, "--resume", "--output", "run"),
        env=mpi.environment(),
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 60
        while len(records(tmp_path / "run")) < len(before) + 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        os.kill(rank_process(process.pid, 1), signal.SIGTERM)  # as schedulers do it
    indices = [record.index for record in records(tmp_path / "run")]
    assert indices[: len(before) + 2] == [*range(len(before) + 2)]


# --- several hosts -------------------------------------------------------------------------------------------


def test_hosts_joined_by_a_slow_link(mpi: Installation, tmp_path: Path) -> None:
    if reason := several.missing():
        pytest.skip(reason)
    rate, size = 400e6 / 8, 1 << 19
    sizes = (
        "--min-bytes",
        str(size),
        "--max-bytes",
        str(size),
        "--algorithm",
        "auto",
        "ring",
        "hierarchical",
    )
    few = ("--min-time", "0", "--max-time", "0.1", "--max-samples", "8", "--start", "barrier")
    with several.hosts(2, "400mbit") as up:
        process = subprocess.run(
            [
                *(str(mpi.mpiexec), *up.mpiexec(mpi.name, 4), str(mpi.python)),
                *(*COMMAND, *sizes, *few, "--output", "run"),
            ],
            env=mpi.environment(**several.variables(mpi.name)),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
    assert process.returncode in (0, 1), process.stderr
    here = Run.load(tmp_path / "run").info.environment["mpi"]
    assert [host["ranks"] for host in here["hosts"]] == [[0, 1], [2, 3]]
    assert len({host["name"] for host in here["hosts"]}) == 2
    measured = [record for record in records(tmp_path / "run") if record.median_s is not None]
    assert {record.algorithm for record in measured} >= {"auto", "ring", "hierarchical"}
    for record in measured:
        assert record.facts["hosts"] == 2
        # Each host needs at least what the other one has added up, or half of it and the other half's sum: the vector
        # leaves each host once at least, but for what the link lets through at once.
        least_s = (size - several.BURST_BYTES) / rate
        assert record.median_s is not None
        assert record.median_s > 0.9 * least_s, record.algorithm


def test_the_script_for_hosts_runs_a_command(mpi: Installation, tmp_path: Path) -> None:
    if reason := several.missing():
        pytest.skip(reason)
    script = Path(several.__file__)
    process = subprocess.run(
        [str(mpi.python), str(script), "--mpi", mpi.name, "--ranks", "2", "--", "hostname"],
        env=mpi.environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert process.returncode == 0, process.stderr
    assert len({*process.stdout.split()}) == 2
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert not any(name in left for name in process.stdout.split())
