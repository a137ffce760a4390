"""The CUDA core on a fake device: the timing loop, GEMM through cuBLASLt and cuBLAS, what errors become."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.fake_cuda import FakeCuda
from microbench.kernels import gemm
from microbench.kernels.gemm import GemmProblem
from microbench.problem import PRECISIONS, Case
from microbench.verification import Check, numpy_type

NO_LIMIT = 2**63 - 1
# What the fake device is like: see tests/fake_cuda/device.hpp.
LAUNCH_S = 4e-6
FLOPS_PER_S = 1e10
TICK_S = 32e-9
SMALL = GemmProblem(24, 16, 32, True, False)
SECONDS = SMALL.flops() / FLOPS_PER_S


@pytest.fixture(scope="module")
def fake() -> FakeCuda:
    return FakeCuda.built()


def request(
    fake: FakeCuda,
    problem: GemmProblem = SMALL,
    library: str = "cublaslt",
    algorithm: str = "auto",
    precision: str = "fp32",
    limit: int = NO_LIMIT,
) -> Any:
    return fake.module.Request(
        kernel="gemm",
        library=library,
        library_path=fake.library({"cublaslt": "cublasLt", "cublas": "cublas"}[library]),
        algorithm=algorithm,
        precision=precision,
        problem=dataclasses.asdict(problem) | {"pass": "forward", "layout": "column_major"},
        threads=1,
        workspace_limit=limit,
    )


def ready(fake: FakeCuda, **asked: Any) -> Any:
    """A session that has executed once: the first execution is not blocked."""
    session = fake.module.Session(request(fake, **asked))
    session.prepare()
    session.measure(1)
    return session


def product(fake: FakeCuda, problem: GemmProblem, precision: str, exact: bool, **asked: Any) -> Check:
    session = fake.module.Session(request(fake, problem, precision=precision, **asked))
    case = Case(problem, PRECISIONS[precision], layout="column_major")
    operands = {}
    for name, (element_type, is_output) in session.operands.items():
        operands[name] = session.memory(name).view(numpy_type(element_type))
        if is_output:
            session.memory(name)[:] = 0xFF if operands[name].dtype.kind != "i" else 0xAA
    gemm.fill(case, operands, np.random.default_rng(0), exact)
    session.prepare()
    session.measure(2)
    session.collect()
    return gemm.check(case, operands, exact)


# --------------------------------------------------------------------------------------------------- timing


@pytest.mark.parametrize("executions", [1, 7])
def test_a_blocked_sample_is_the_time_of_the_execution_without_its_launch(
    fake: FakeCuda, executions: int
) -> None:
    times = ready(fake).measure(5, executions)
    # Two ticks of the event itself, once in each sample.
    np.testing.assert_allclose(times, SECONDS + 2 * TICK_S / executions, rtol=1e-4)


def test_the_first_execution_is_not_blocked(fake: FakeCuda) -> None:
    session = fake.module.Session(request(fake))
    session.prepare()
    assert session.measure(1)[0] > LAUNCH_S
    assert session.measure(1)[0] < LAUNCH_S


def test_launching_that_waits_for_the_device_is_timed_unblocked_and_said(fake: FakeCuda) -> None:
    session = ready(fake, algorithm="algo99_tile0_stages0")
    times = session.measure(3)
    assert times.shape == (3,)
    assert (times < 0.1).all()  # the blocker's limit is in none of them
    assert (times > LAUNCH_S).all()
    assert "could not be queued" in session.doubts[0]


def test_more_launches_than_the_queue_holds_are_timed_unblocked_and_said(fake: FakeCuda) -> None:
    session = ready(fake)
    assert not session.doubts
    session.measure(1, 2000)
    assert session.doubts


def test_one_launch_that_waits_is_taken_again_and_blocking_goes_on(fake: FakeCuda) -> None:
    session = ready(fake, algorithm="algo96_tile0_stages0")
    np.testing.assert_allclose(session.measure(3), SECONDS + 2 * TICK_S, rtol=1e-4)
    assert session.doubts == []


def test_what_cannot_be_captured_is_unsupported_and_does_no_harm(fake: FakeCuda) -> None:
    session = ready(fake, algorithm="algo99_tile0_stages0")
    with pytest.raises(fake.module.Unsupported, match="cannot be captured into a CUDA graph: cublasLtMatmul"):
        session.capture()
    assert session.measure(1)[0] > 0
    assert ready(fake).measure(1)[0] > 0


def test_memory_that_ran_out_is_not_reported_by_the_next_launch(
    fake: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CUDA_MEMORY", "1")
    with pytest.raises(MemoryError):
        fake.module.Session(request(fake))
    monkeypatch.delenv("FAKE_CUDA_MEMORY")
    assert fake.module.calibrate_timer()[0] > 0
    assert ready(fake).measure(1)[0] > 0


@pytest.mark.parametrize("library_s_own", [True, False])
def test_parts_of_sums_are_not_added_up_in_a_narrower_type(fake: FakeCuda, library_s_own: bool) -> None:
    """The fake ranks the split first, added up in place where it may."""
    for precision, scheme in (("fp32", 1), ("fp16_acc16", 1), ("fp16", 2), ("bf16", 2)):
        name = "auto" if library_s_own else f"algo2_tile15_stages0_splitk2_reduction{scheme}"
        session = fake.module.Session(request(fake, precision=precision, algorithm=name))
        assert session.implementation.startswith(f"algo2_tile15_stages0_splitk2_reduction{scheme} ")
    for scheme in (1, 4):
        asked = request(fake, precision="fp16", algorithm=f"algo2_tile15_stages0_splitk2_reduction{scheme}")
        with pytest.raises(fake.module.Unsupported, match="parts of sums in the result's type"):
            fake.module.Session(asked)


def test_a_graph_replays_the_execution_with_the_inputs_of_now(fake: FakeCuda) -> None:
    session = ready(fake)
    session.capture()
    for name in ("a", "b"):
        session.memory(name).view(np.float32)[:] = 2
    session.memory("c")[:] = 0xFF
    session.prepare()
    times = session.measure(4)
    session.collect()
    np.testing.assert_allclose(times, SECONDS + 2 * TICK_S, rtol=1e-4)
    assert (session.memory("c").view(np.float32) == 4 * SMALL.k).all()


def test_cold_samples_flush_outside_the_time_and_rotate_equal_inputs(fake: FakeCuda) -> None:
    session = fake.module.Session(request(fake))
    for value in (1, 3):  # the copies follow what is written anew
        for name in ("a", "b"):
            session.memory(name).view(np.float32)[:] = value
        session.prepare()
        session.measure(1)
        flusher = fake.module.CacheFlusher(1 << 16)
        times = session.measure(3, 1, flusher)
        session.collect()
        np.testing.assert_allclose(times, SECONDS + 2 * TICK_S, rtol=1e-4)
        assert (session.memory("c").view(np.float32) == value * value * SMALL.k).all()
    with pytest.raises(ValueError, match="cold sample is one execution"):
        session.measure(1, 2, flusher)


def test_inputs_without_room_for_a_copy_are_not_rotated_and_that_is_said(
    fake: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = ready(fake)
    flusher = fake.module.CacheFlusher(1 << 16)
    monkeypatch.setenv("FAKE_CUDA_MEMORY", "1")
    assert session.measure(2, 1, flusher).shape == (2,)
    assert "not rotated" in session.doubts[0]


def test_inputs_whose_addresses_were_given_away_are_not_rotated_and_that_is_said(fake: FakeCuda) -> None:
    asked = request(fake, dataclasses.replace(SMALL, batch=3), library="cublas", algorithm="batched")
    session = fake.module.Session(asked)
    session.prepare()
    session.measure(2)
    assert session.doubts == []
    session.measure(2, 1, fake.module.CacheFlusher(1 << 16))
    assert session.doubts == ["inputs were not rotated: their addresses were given away before"]


def test_the_host_s_share_of_a_launch_is_a_fact(fake: FakeCuda) -> None:
    session = fake.module.Session(request(fake))
    assert session.facts == {}
    session.prepare()
    session.measure(3)
    assert session.facts["host_launch_s"] > 0


def test_the_timer_is_that_of_events(fake: FakeCuda) -> None:
    resolution, overhead = fake.module.calibrate_timer()
    assert overhead == pytest.approx(2 * TICK_S, rel=1e-3)
    assert 0 < resolution <= 0.5e-6


# ------------------------------------------------------------------------------------------------ products


@pytest.mark.parametrize("library", ["cublaslt", "cublas"])
@pytest.mark.parametrize("precision", [name for name in PRECISIONS if name != "fp16_in_fp32_math"])
def test_products_are_right_in_every_precision_and_transposition(
    fake: FakeCuda, library: str, precision: str
) -> None:
    fp8 = precision.startswith("fp8")
    if fp8 and library == "cublas":
        with pytest.raises(fake.module.Unsupported, match="no fp8"):
            product(fake, SMALL, precision, False, library=library)
        return
    for a_transposed, b_transposed, batch in itertools.product((False, True), (False, True), (1, 3)):
        problem = GemmProblem(5, 7, 40, a_transposed, b_transposed, batch)
        if fp8 and not (a_transposed and not b_transposed):
            with pytest.raises(fake.module.Unsupported, match="these transposes"):
                product(fake, problem, precision, False, library=library)
            continue
        for exact in (False, True):
            check = product(fake, problem, precision, exact, library=library)
            assert check.ok, f"{problem}: {check.reason}"


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(1, 20),
    st.booleans(),
    st.booleans(),
    st.integers(1, 3),
)
def test_batched_products_over_pointers(
    m: int, n: int, k: int, a_transposed: bool, b_transposed: bool, batch: int
) -> None:
    fake = FakeCuda.built()
    problem = GemmProblem(m, n, k, a_transposed, b_transposed, batch)
    for algorithm in fake.module.algorithms(request(fake, problem, "cublas")):
        check = product(fake, problem, "fp32", True, library="cublas", algorithm=algorithm)
        assert check.ok, f"{algorithm}: {check.reason}"


def test_the_interfaces_of_cublas_go_by_the_batch(fake: FakeCuda) -> None:
    single, several = SMALL, dataclasses.replace(SMALL, batch=2)
    assert fake.module.algorithms(request(fake, single, "cublas")) == ["gemm"]
    assert fake.module.algorithms(request(fake, several, "cublas")) == ["strided_batched", "batched"]
    with pytest.raises(fake.module.Unsupported, match="it has strided_batched and batched"):
        fake.module.Session(request(fake, several, "cublas", "gemm"))


# ------------------------------------------------------------------------------------ cuBLASLt's algorithms

RANKED = ["algo2_tile15_stages0_splitk2_reduction1", "algo1_tile20_stages8_cluster2"]
OTHERS = ["algo1_tile18_stages8", "algo1_tile20_stages8", "algo2_tile15_stages0"]


def test_the_ranking_comes_first_then_every_configuration_that_is_accepted(fake: FakeCuda) -> None:
    assert fake.module.algorithms(request(fake)) == RANKED + OTHERS


def test_a_product_of_two_types_has_them_in_memory_and_in_its_algorithms(fake: FakeCuda) -> None:
    asked = request(fake, precision="fp8_e5m2")
    session = fake.module.Session(asked)
    types = {name: type_ for name, (type_, _) in session.operands.items()}
    assert types == {"a": "float8_e5m2", "b": "float8_e4m3fn", "c": "bfloat16"}
    # Parts of sums are not added up in the result's bf16.
    names = [name.replace("reduction1", "reduction2") for name in RANKED + OTHERS]
    assert fake.module.algorithms(asked) == names
    for name in names:
        assert product(fake, SMALL, "fp8_e5m2", True, algorithm=name).ok


def test_the_ranking_keeps_to_the_workspace_limit(fake: FakeCuda) -> None:
    assert fake.module.algorithms(request(fake, limit=0)) == RANKED[1:] + OTHERS
    session = fake.module.Session(request(fake, limit=0))
    assert (session.workspace_bytes, session.implementation.split()[0]) == (0, RANKED[1])


def test_a_configuration_by_name_is_what_runs(fake: FakeCuda) -> None:
    for name in RANKED + OTHERS:
        session = fake.module.Session(request(fake, algorithm=name))
        assert session.implementation.split()[0] == name
    unlisted = "algo2_tile15_stages0_splitk3"
    assert unlisted in fake.module.algorithms(request(fake, algorithm=unlisted))
    assert fake.module.Session(request(fake, algorithm=unlisted)).workspace_bytes == 3 << 20


def test_a_workspace_over_the_limit_is_said_before_it_is_allocated(fake: FakeCuda) -> None:
    with pytest.raises(
        fake.module.WorkspaceExceeded, match="needs 3145728 bytes of workspace, the limit is 1024"
    ):
        fake.module.Session(request(fake, algorithm="algo2_tile15_stages0_splitk3", limit=1024))


@pytest.mark.parametrize("name", ["algo1_tile19_stages8", "algo2_tile15_stages0_splitk9"])
def test_what_the_library_does_not_accept_is_unsupported(fake: FakeCuda, name: str) -> None:
    assert name not in fake.module.algorithms(request(fake, algorithm=name))
    with pytest.raises(fake.module.Unsupported, match="does not accept"):
        fake.module.Session(request(fake, algorithm=name))


@pytest.mark.parametrize(
    "name", ["", "winograd", "algo", "algo1_", "tile20_algo1", "algo1_colour3", "algo1_tile99999999999"]
)
def test_names_that_are_none_are_unsupported(fake: FakeCuda, name: str) -> None:
    with pytest.raises(fake.module.Unsupported, match="no algorithm of cuBLASLt"):
        fake.module.Session(request(fake, algorithm=name))


# --------------------------------------------------------------------------------------------------- errors


def test_too_little_memory_is_out_of_memory(fake: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MemoryError, match="cudaMalloc: cudaErrorMemoryAllocation"):
        fake.module.Session(request(fake, algorithm="algo97_tile0_stages0"))
    monkeypatch.setenv("FAKE_CUDA_MEMORY", "1000")
    with pytest.raises(MemoryError):
        fake.module.Session(request(fake))


def test_a_failing_execution_is_neither_unsupported_nor_silent(fake: FakeCuda) -> None:
    session = fake.module.Session(request(fake, algorithm="algo98_tile0_stages0"))
    with pytest.raises(RuntimeError, match="cublasLtMatmul: CUBLAS_STATUS_EXECUTION_FAILED") as raised:
        session.measure(1)
    assert not isinstance(raised.value, fake.module.Unsupported)


def test_a_failing_execution_does_not_spoil_the_capture_of_the_next(fake: FakeCuda) -> None:
    session = fake.module.Session(request(fake, algorithm="algo98_tile0_stages0"))
    with pytest.raises(RuntimeError):
        session.capture()
    other = ready(fake)
    other.capture()
    assert other.measure(1).shape == (1,)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("FAKE_CUDA_DRIVER", "0", "no NVIDIA driver is installed"),
        ("FAKE_CUDA_DRIVER", "11080", "too old: it supports CUDA 11.8"),
        ("FAKE_CUDA_DEVICES", "0", "shows no device"),
    ],
)
def test_a_machine_without_a_usable_device_says_which_part_is_missing(
    fake: FakeCuda, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    assert fake.module.missing_device() == ""
    monkeypatch.setenv(variable, value)
    assert said in fake.module.missing_device()
    with pytest.raises(fake.module.Unsupported, match=said):
        fake.module.device_properties()


def test_a_library_that_is_not_there_is_said_with_the_path_tried(fake: FakeCuda) -> None:
    import subprocess
    import sys

    code = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('_cuda', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "module.describe('gemm', 'cublaslt', '/nowhere/libcublasLt.so')\n"
    )
    (file,) = fake.folder.glob("_cuda.*so")
    process = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=False
    )
    assert "Unsupported: cannot load /nowhere/libcublasLt.so: " in process.stderr


# ----------------------------------------------------------------------------------------------- the device


def test_properties_and_probes(fake: FakeCuda) -> None:
    properties = fake.module.device_properties()
    assert properties["name"] == "Fake device"
    assert properties["uuid"] == "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f"
    assert (properties["compute_capability"], properties["multiprocessors"]) == (900, 4)
    assert fake.module.sm_clock_hz() == pytest.approx(1.5e9)
    # The fake's rates, less a launch and the events: the sizes grow until these are small.
    assert fake.module.compute_rates("fp32", 3, 0.01) == pytest.approx([1e10] * 3, rel=0.01)
    assert fake.module.compute_rates("fp64", 3, 0.01) == pytest.approx([5e9] * 3, rel=0.01)
    for kind in ("read", "write", "copy"):
        rates = fake.module.memory_rates(kind, 1 << 24, 1, 2)
        assert rates == pytest.approx([1e12] * 2, rel=0.3)
    with pytest.raises(fake.module.Unsupported):
        fake.module.compute_rates("fp16", 1, 0.01)
    with pytest.raises(ValueError, match="kind"):
        fake.module.memory_rates("triad", 1 << 10, 1, 1)
