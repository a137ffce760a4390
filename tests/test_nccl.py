"""NCCL and CUDA-aware MPI on real ranks, with a fake device and a fake NCCL under them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from fixtures.fake_cuda import FakeCuda
from fixtures.installations import VARIABLES, Installation, installation
from microbench.collective import COLLECTIVES, ELEMENT_TYPES
from microbench.errors import InputError
from microbench.mpi import plan
from microbench.mpi.options import CollectiveOptions
from microbench.record import Record
from microbench.store import Run

QUICK = (
    "--min-time",
    "0",
    "--max-time",
    "0.05",
    "--max-samples",
    "8",
    "--start",
    "barrier",
    "--output",
    "run",
)
NCCL = ("--library", "nccl")
SMALL = ("--problem", "elements=1000")
MEASURED = ("ok", "unstable")


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables with which ranks find as many fake devices as there are ranks here, and a fake NCCL."""
    found = FakeCuda.built().environment(tmp_path_factory.mktemp("package"))
    return {**found, "FAKE_CUDA_DEVICES": "4"}


@pytest.fixture
def mpi() -> Installation:
    """One MPI: where NCCL does the work, it does not matter which."""
    for name in VARIABLES:
        try:
            return installation(name)
        except pytest.skip.Exception as error:
            reason = str(error)
    pytest.skip(reason)


def records(folder: Path) -> list[Record]:
    return list(Run.load(folder / "run").records())


def sweep(
    mpi: Installation, ranks: int, collective: str, *arguments: str, cwd: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    process = mpi.run(ranks, "-m", "microbench", collective, *arguments, *QUICK, cwd=cwd, **variables)
    assert "Traceback" not in process.stderr or "RuntimeError" in process.stderr, process.stderr
    return process


def patched(
    mpi: Installation, ranks: int, patch: str, *arguments: str, cwd: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """A sweep in which ranks are told something else than what is so here."""
    code = f"import sys\n{patch}\nfrom microbench.cli import main\nsys.exit(main())"
    return mpi.run(ranks, "-c", code, "allreduce", *arguments, *QUICK, cwd=cwd, **variables)


# --- right results ------------------------------------------------------------------------------------------


EVERY_WAY = (
    "--precision",
    *ELEMENT_TYPES,
    "--op",
    "sum",
    "max",
    "min",
    "--place",
    "in_place",
    "out_of_place",
)


@pytest.mark.parametrize(
    ("name", "ways", "count"), [("openmpi", EVERY_WAY, 5 * 3 * 2), ("mpich", ("--precision", "fp16"), 1)]
)
def test_allreduce_is_right(
    name: str, ways: tuple[str, ...], count: int, fake: dict[str, str], tmp_path: Path
) -> None:
    mpi = installation(name)
    process = sweep(mpi, 3, "allreduce", *NCCL, *SMALL, *ways, cwd=tmp_path, **fake, NCCL_ALGO="Ring")
    assert process.returncode in (0, 1), process.stderr
    stored = records(tmp_path)
    assert len(stored) == count
    for record in stored:
        assert record.status in MEASURED, record.reason
        assert (record.library, record.backend) == ("nccl", "cuda")
        assert record.facts["wrong_elements"] == 0
        assert record.facts["implementation"] == "ncclAllReduce"
        assert (record.facts["nccl_algo"], record.facts["nccl_proto"]) == ("Ring", None)
        assert len(record.facts["rank_samples_s"]) == 3
    here = Run.load(tmp_path / "run").info.environment
    assert here["libraries"]["nccl"] == {"version": "2.27.3", "path": fake["MICROBENCH_NCCL_LIBRARY"]}
    assert here["libraries"]["mpi"]["version"]
    assert here["mpi"]["gpus"] == [
        {"name": "Fake device", "pci_bus_id": f"0000:0{device}:00.0", "driver_cuda": "13.0"}
        for device in range(3)
    ]
    assert here["variables"]["NCCL_ALGO"] == "Ring"
    caption = " ".join(process.stdout.split())
    assert "3 ranks on 1 host, " in caption
    assert ", NCCL 2.27.3, buffers in GPUs' memory" in caption


@pytest.mark.parametrize("collective", [name for name in COLLECTIVES if name != "allreduce"])
def test_other_collectives_are_right(
    mpi: Installation, collective: str, fake: dict[str, str], tmp_path: Path
) -> None:
    places = () if collective == "broadcast" else ("--place", "in_place", "out_of_place")
    problem = "elements=999,root=2" if collective == "broadcast" else "elements=999"
    ways = ("--problem", problem, "--precision", "fp64", "bf16", *places)
    process = sweep(mpi, 3, collective, *NCCL, *ways, cwd=tmp_path, **fake)
    assert process.returncode in (0, 1), process.stderr
    stored = records(tmp_path)
    assert len(stored) == 2 * max(1, len(places) - 1)
    for record in stored:
        if collective == "alltoall" and record.problem["place"] == "in_place":
            assert (record.status, record.reason) == (
                "unsupported",
                "NCCL's alltoall works out of place only",
            )
            continue
        assert record.status in MEASURED, record.reason
        assert record.facts["wrong_elements"] == 0
    implementation = stored[-1].facts["implementation"]
    assert implementation == {
        "reduce_scatter": "ncclReduceScatter",
        "allgather": "ncclAllGather",
        "broadcast": "ncclBroadcast in place",
        "alltoall": "ncclSend and ncclRecv in a group",
    }.get(collective)


def test_a_wrong_result_is_found(mpi: Installation, fake: dict[str, str], tmp_path: Path) -> None:
    process = sweep(mpi, 2, "allreduce", *NCCL, *SMALL, cwd=tmp_path, **fake, FAKE_NCCL_SPOILS="AllReduce")
    assert process.returncode == 1
    (record,) = records(tmp_path)
    assert record.status == "wrong_result"
    assert record.samples_s == []


def test_two_nodes_are_joined_over_mpi(mpi: Installation, fake: dict[str, str], tmp_path: Path) -> None:
    two_nodes = "from microbench.mpi.member import Member\nMember.number_of_node = lambda self: self.rank % 2"
    problems = ("--problem", "elements=1001", "--problem", "elements=1")
    ways = (
        "--algorithm",
        "hierarchical",
        "--precision",
        "fp32",
        "fp16",
        "--place",
        "in_place",
        "out_of_place",
    )
    process = patched(mpi, 4, two_nodes, *NCCL, *problems, *ways, cwd=tmp_path, **fake)
    assert process.returncode in (0, 1), process.stderr
    stored = records(tmp_path)
    assert len(stored) == 2 * 2 * 2
    for record in stored:
        assert record.status in MEASURED, record.reason
        assert record.facts["wrong_elements"] == 0
        assert record.facts["implementation"].startswith("NCCL in 2 nodes of 2 ranks")


def test_mpi_works_on_the_devices_memory_where_it_can(
    mpi: Installation, fake: dict[str, str], tmp_path: Path
) -> None:
    ways = ("--backend", "cuda", "--library", "mpi", *SMALL, "--precision", "fp32", "bf16")
    aware = "from microbench.mpi.library import Mpi\nMpi.blind_to_gpus = lambda self: {!r}"
    patched(mpi, 2, aware.format(""), *ways, cwd=tmp_path, **fake)
    full, half = records(tmp_path)
    assert full.status in MEASURED, full.reason
    assert (full.backend, full.facts["wrong_elements"]) == ("cuda", 0)
    assert "nccl_algo" not in full.facts
    assert half.status == "unsupported"
    assert "MPI has no arithmetic of bfloat16" in half.reason
    (tmp_path / "blind").mkdir()
    patched(mpi, 2, aware.format("it was built without"), *ways, cwd=tmp_path / "blind", **fake)
    assert {(record.status, record.reason) for record in records(tmp_path / "blind")} == {
        ("unsupported", "it was built without")
    }


@pytest.mark.parametrize("name", VARIABLES)
def test_an_mpi_says_whether_it_knows_gpus(name: str, tmp_path: Path) -> None:
    code = "from microbench.mpi.library import load\nmpi = load()\nprint(mpi.blind_to_gpus())\nmpi.MPI.Finalize()"
    process = installation(name).run(1, "-c", code, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    said = process.stdout.strip()
    assert said == "" or said.startswith("this MPI library was built without support of CUDA")


@pytest.mark.parametrize("collective", COLLECTIVES)
@pytest.mark.parametrize(("ranks", "gpus"), [(1, 3), (2, 2)])
def test_a_process_drives_several_gpus(
    mpi: Installation, ranks: int, gpus: int, collective: str, fake: dict[str, str], tmp_path: Path
) -> None:
    problem = "elements=999,root=2" if collective == "broadcast" else "elements=999"
    places = () if collective in ("broadcast", "alltoall") else ("--place", "in_place", "out_of_place")
    ways = ("--problem", problem, "--gpus-per-rank", str(gpus), *places)
    process = sweep(mpi, ranks, collective, *NCCL, *ways, cwd=tmp_path, **fake)
    assert process.returncode in (0, 1), process.stderr
    assert "one rank" not in process.stderr
    assert f"{collective} of {ranks * gpus} ranks on 1 host" in process.stdout
    stored = records(tmp_path)
    assert len(stored) == max(1, len(places) - 1)
    for record in stored:
        assert record.status in MEASURED, record.reason
        assert record.problem["ranks"] == record.facts["ranks"] == ranks * gpus
        assert record.facts["gpus_per_rank"] == gpus
        assert record.facts["wrong_elements"] == 0
        assert len(record.facts["rank_samples_s"]) == ranks
    here = Run.load(tmp_path / "run").info.environment["mpi"]
    assert here["ranks"] == ranks
    assert len({gpu["pci_bus_id"] for gpu in here["gpus"]}) == ranks * gpus


@pytest.mark.parametrize(
    ("variables", "status", "reason"),
    [
        ({"FAKE_NCCL_SPOILS": "AllReduce"}, "wrong_result", "before timing"),
        ({"FAKE_NCCL_FAILS": "AllReduce=3"}, "crashed", "ncclAllReduce: internal error"),
        ({"FAKE_NCCL_FAILS": "CommInitRank=5"}, "unsupported", "ncclCommInitRank: invalid usage"),
    ],
)
def test_what_goes_wrong_on_one_of_several_gpus_is_a_record(
    mpi: Installation,
    variables: dict[str, str],
    status: str,
    reason: str,
    fake: dict[str, str],
    tmp_path: Path,
) -> None:
    ways = (*NCCL, *SMALL, "--problem", "elements=5", "--gpus-per-rank", "2")
    process = sweep(mpi, 1, "allreduce", *ways, cwd=tmp_path, **fake, **variables)
    assert process.returncode == int(status != "unsupported"), process.stderr
    assert [record.status for record in records(tmp_path)] == [status] * 2
    assert all(reason in record.reason for record in records(tmp_path))


def test_nodes_are_joined_by_ranks_of_one_gpu_only(
    mpi: Installation, fake: dict[str, str], tmp_path: Path
) -> None:
    ways = (*NCCL, *SMALL, "--gpus-per-rank", "2", "--algorithm", "hierarchical")
    sweep(mpi, 2, "allreduce", *ways, cwd=tmp_path, **fake)
    (record,) = records(tmp_path)
    assert (record.status, record.reason) == (
        "unsupported",
        "several nodes are joined by ranks of one GPU each: start as many ranks as GPUs",
    )


# --- what is refused, and what goes wrong -------------------------------------------------------------------


def test_forms_and_algorithms_that_nccl_has_not(
    mpi: Installation, fake: dict[str, str], tmp_path: Path
) -> None:
    ways = (*NCCL, *SMALL, "--algorithm", "all", "--form", "nonblocking", "persistent", "blocking")
    process = sweep(mpi, 2, "allreduce", *ways, cwd=tmp_path, **fake)
    assert process.returncode in (0, 1), process.stderr
    reasons = {(r.problem["form"], r.algorithm): r.reason for r in records(tmp_path)}
    for form in ("nonblocking", "persistent"):
        assert "blocking only" in reasons[form, "auto"]
    assert "all ranks are on one node" in reasons["blocking", "hierarchical"]
    assert len(reasons) == 6


@pytest.mark.parametrize(
    ("fails", "status", "reason"),
    [
        ("AllReduce=3", "crashed", "ncclAllReduce: internal error: said by the fake"),
        ("CommInitRank=5", "unsupported", "ncclCommInitRank: invalid usage: said by the fake"),
    ],
)
def test_an_error_of_nccl_is_a_record_with_its_reason(
    mpi: Installation, fails: str, status: str, reason: str, fake: dict[str, str], tmp_path: Path
) -> None:
    process = sweep(mpi, 2, "allreduce", *NCCL, *SMALL, cwd=tmp_path, **fake, FAKE_NCCL_FAILS=fails)
    assert process.returncode == int(status == "crashed"), process.stderr
    (record,) = records(tmp_path)
    assert record.status == status
    assert reason in record.reason


def test_more_gpus_than_there_are_is_one_sentence(
    mpi: Installation, fake: dict[str, str], tmp_path: Path
) -> None:
    process = sweep(mpi, 1, "allreduce", *NCCL, *SMALL, "--gpus-per-rank", "5", cwd=tmp_path, **fake)
    assert process.returncode == 2
    assert "ranks 0 and 4" in process.stderr
    assert "--gpus-per-rank" in process.stderr


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"MICROBENCH_NCCL_LIBRARY": "/nowhere/libnccl.so.2"}, "cannot load /nowhere/libnccl.so.2"),
        ({"FAKE_CUDA_DRIVER": "0"}, "no NVIDIA driver is installed"),
        ({"FAKE_CUDA_DEVICES": "2"}, "ranks 0 and 2"),
    ],
)
def test_without_nccl_or_enough_gpus_it_is_one_sentence(
    mpi: Installation, variables: dict[str, str], said: str, fake: dict[str, str], tmp_path: Path
) -> None:
    process = sweep(mpi, 3, "allreduce", *NCCL, *SMALL, cwd=tmp_path, **{**fake, **variables})
    assert process.returncode == 2
    (line,) = [line for line in process.stderr.splitlines() if line.startswith("microbench: ")]
    assert "--library nccl: " in line
    assert said in line
    assert not list(tmp_path.iterdir())


def test_all_else_goes_on_without_nccl(mpi: Installation, fake: dict[str, str], tmp_path: Path) -> None:
    missing = {**fake, "MICROBENCH_NCCL_LIBRARY": "/nowhere/libnccl.so.2"}
    process = sweep(mpi, 2, "allreduce", *SMALL, cwd=tmp_path, **missing)
    assert process.returncode in (0, 1), process.stderr
    assert {(r.library, r.backend) for r in records(tmp_path)} == {("mpi", "cpu"), ("microbench", "cpu")}


def test_ranks_share_a_gpu_where_the_user_lets_them(
    mpi: Installation, fake: dict[str, str], tmp_path: Path
) -> None:
    shared = {**fake, "FAKE_CUDA_DEVICES": "1", "NCCL_MULTI_RANK_GPU_ENABLE": "1"}
    process = sweep(mpi, 2, "allreduce", *NCCL, *SMALL, cwd=tmp_path, **shared)
    assert process.returncode in (0, 1), process.stderr
    (record,) = records(tmp_path)
    assert record.status in MEASURED
    assert len({gpu["pci_bus_id"] for gpu in Run.load(tmp_path / "run").info.environment["mpi"]["gpus"]}) == 1


def test_a_fleet_whose_ranks_share_a_gpu_is_one_sentence(
    mpi: Installation, fake: dict[str, str], tmp_path: Path
) -> None:
    arguments = ("gemm", "--fleet", "--problem", "m=4,n=3,k=8", "--output", "run")
    shared = {**fake, "CUDA_VISIBLE_DEVICES": "0"}
    process = mpi.run(2, "-m", "microbench", *arguments, cwd=tmp_path, **shared)
    assert process.returncode == 2
    (line,) = [line for line in process.stderr.splitlines() if line.startswith("microbench: ")]
    assert "--fleet: ranks 0 and 1 on " in line
    assert "share GPU-" in line
    assert not list(tmp_path.iterdir())


# --- options and plans --------------------------------------------------------------------------------------


def options(**changes: Any) -> CollectiveOptions:
    return CollectiveOptions(**({"kernel": "allreduce", "problem": ("elements=8",)} | changes))


@pytest.mark.parametrize(
    ("changes", "device", "libraries"),
    [
        ({}, "cpu", ["mpi", "microbench"]),
        ({"backend": "cuda"}, "cuda", ["nccl"]),
        ({"library": ("nccl",)}, "cuda", ["nccl"]),
        ({"library": ("nccl", "mpi")}, "cuda", ["nccl", "mpi"]),
        ({"library": ("mpi",)}, "cpu", ["mpi"]),
        ({"library": ("mpi",), "backend": "cuda"}, "cuda", ["mpi"]),
    ],
)
def test_gpus_are_used_where_they_or_nccl_are_asked_for(
    changes: dict[str, Any], device: str, libraries: list[str]
) -> None:
    asked = options(**changes)
    assert asked.device == device
    assert [item.library for item in plan.build(asked, 4)] == libraries


@pytest.mark.parametrize(
    "changes",
    [
        {"backend": "cpu", "library": ("nccl",)},
        {"backend": "cuda", "library": ("microbench",)},
        {"library": ("nccl", "microbench")},
        {"backend": "tpu"},
    ],
)
def test_libraries_and_backends_that_do_not_go_together_are_said(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"--library .*there are|--backend tpu"):
        options(**changes)


@pytest.mark.parametrize(
    "changes", [{}, {"backend": "cuda", "library": ("mpi",)}, {"library": ("nccl", "mpi")}]
)
def test_only_nccl_takes_several_gpus_of_a_process(changes: dict[str, Any]) -> None:
    assert options(library=("nccl",), gpus_per_rank=2).gpus_per_rank == 2
    with pytest.raises(InputError, match="--gpus-per-rank 2: only NCCL"):
        options(gpus_per_rank=2, **changes)


def test_nccl_chooses_and_can_be_told_to_work_by_node() -> None:
    def algorithms(*asked: str) -> list[str]:
        return [item.algorithm for item in plan.build(options(library=("nccl",), algorithm=asked), 4)]

    assert algorithms("auto") == ["auto"]
    assert algorithms("all") == ["auto", "hierarchical"]
    assert algorithms("hierarchical") == ["hierarchical"]
    with pytest.raises(InputError, match="library nccl chooses for itself"):
        algorithms("ring")


@pytest.mark.parametrize("kernel", COLLECTIVES)
def test_algorithms_are_those_of_the_compiled_module(kernel: str) -> None:
    _mpi = pytest.importorskip("microbench._mpi", reason="the package is not built")
    for library, named in plan.CHOOSING.items():
        assert tuple(_mpi.lossless_algorithms(kernel, library)) == ("auto", *named.get(kernel, ()))
