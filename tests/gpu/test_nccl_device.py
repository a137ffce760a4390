"""NCCL on devices: every collective and element type against exact integers, by one rank, by as many as there are
GPUs, and by two that share one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from on_device import NEEDS_A_DEVICE

import microbench
from microbench.backends import cuda
from microbench.collective import COLLECTIVES, ELEMENT_TYPES
from microbench.mpi.devices import SHARING
from microbench.record import Record
from microbench.store import Run

pytestmark = NEEDS_A_DEVICE

QUICK = ("--min-time", "0", "--max-time", "0.05", "--max-samples", "10", "--output", "run")
SIZE = ("--problem", "elements=1000002")
SHARING_SINCE = (2, 30)


def start(
    ranks: int, collective: str, *arguments: str, cwd: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    mpiexec = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if mpiexec is None:
        pytest.skip("no mpiexec here: pip install mpi4py mpich")
    if reason := cuda.library_status("nccl").missing:
        pytest.skip(reason)
    command = (
        sys.executable,
        "-m",
        "microbench",
        collective,
        "--library",
        "nccl",
        *SIZE,
        *arguments,
        *QUICK,
    )
    as_root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    package = {"PYTHONPATH": str(Path(microbench.__file__).parents[1])}
    return subprocess.run(
        [mpiexec, "-n", str(ranks), *command],
        env={**os.environ, **as_root, **package, **variables},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )


def verified(process: subprocess.CompletedProcess[str], folder: Path) -> list[Record]:
    """The records, of which none may be wrong, refused or without a time."""
    assert process.returncode in (0, 1), process.stderr
    stored = list(Run.load(folder / "run").records())
    for record in stored:
        assert record.status in ("ok", "unstable"), record.reason
        assert record.facts["wrong_elements"] == 0
        assert record.median_s
    return stored


def ways(collective: str) -> tuple[str, ...]:
    operations = ("--op", "sum", "max", "min") if collective in ("allreduce", "reduce_scatter") else ()
    places = () if collective in ("broadcast", "alltoall") else ("--place", "in_place", "out_of_place")
    return ("--precision", *ELEMENT_TYPES, *operations, *places)


@pytest.mark.parametrize("collective", COLLECTIVES)
def test_one_rank(collective: str, tmp_path: Path) -> None:
    verified(start(1, collective, *ways(collective), cwd=tmp_path), tmp_path)
    found = Run.load(tmp_path / "run").info.environment
    assert found["libraries"]["nccl"]["version"]
    assert found["mpi"]["gpus"][0]["pci_bus_id"] == cuda.device()["pci_bus_id"]


@pytest.mark.parametrize("collective", COLLECTIVES)
def test_two_ranks_on_one_gpu(collective: str, tmp_path: Path) -> None:
    version = cuda.library_status("nccl").facts.get("version", "0.0")
    if tuple(map(int, version.split(".")[:2])) < SHARING_SINCE:
        pytest.skip(f"NCCL {version} gives every rank a GPU of its own; 2.30 can do otherwise")
    one = {SHARING: "1", "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]}
    verified(start(2, collective, *ways(collective), cwd=tmp_path, **one), tmp_path)


def test_two_ranks_on_one_gpu_are_refused_where_nobody_has_said_so(tmp_path: Path) -> None:
    one = {SHARING: "0", "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]}
    process = start(2, "allreduce", cwd=tmp_path, **one)
    assert process.returncode == 2
    assert "ranks 0 and 1" in process.stderr


@pytest.mark.parametrize("collective", COLLECTIVES)
@pytest.mark.parametrize("together", [False, True], ids=["a process each", "one process"])
def test_a_rank_on_every_gpu(collective: str, together: bool, tmp_path: Path) -> None:
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    gpus = sum(line.startswith("GPU ") for line in listed.splitlines())
    if gpus < 2:
        pytest.skip("one GPU here")
    processes, each = (1, gpus) if together else (gpus, 1)
    process = start(processes, collective, *ways(collective), "--gpus-per-rank", str(each), cwd=tmp_path)
    for record in verified(process, tmp_path):
        assert record.problem["ranks"] == gpus
        assert record.facts["bus_bandwidth_bytes_per_s"] > 0
