"""The CUDA core on a device: products against float64, times against bare loops of events, sensors, plug-ins."""

from __future__ import annotations

import dataclasses
import math
import random
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import on_device
import pytest

from microbench import extensions, plugins, reference
from microbench.backends import cuda, cuda_peaks, cuda_reference
from microbench.backends.cuda_watch import Nvml
from microbench.kernels import conv, gemm, rnn
from microbench.kernels.conv import ConvProblem
from microbench.kernels.gemm import GemmProblem
from microbench.kernels.rnn import RnnProblem
from microbench.problem import PRECISIONS, Case
from microbench.protocol import CeilingsJob
from microbench.reference import Judge
from microbench.verification import numpy_type

pytestmark = on_device.NEEDS_A_DEVICE

ROOT = Path(__file__).parents[2]
SIZE = 8192
SAMPLED = 40
# A driver takes and gives memory in slabs of 2 MiB.
SLABS = 4 * 2**21
# Refusing these would be our mistake on every device that is supported.
BASIC = ("fp64", "fp32", "fp16", "fp16_acc16", "int8")


@pytest.fixture(scope="module")
def module() -> Any:
    return extensions.load(cuda.MODULE)


def request(
    module: Any,
    library: str,
    problem: GemmProblem,
    precision: str,
    algorithm: str = "auto",
    limit: int = on_device.NO_LIMIT,
) -> Any:
    found = cuda.LIBRARIES[library]
    if reason := cuda.library_status(library).missing:
        pytest.skip(reason)
    return module.Request(
        kernel="gemm",
        library=library,
        library_path=found.path(),
        algorithm=algorithm,
        precision=precision,
        problem=dataclasses.asdict(problem) | {"pass": "forward", "layout": "column_major"},
        threads=1,
        workspace_limit=limit,
    )


def fill(session: Any, case: Case, exact: bool, seed: int = 0) -> dict[str, Any]:
    operands = {}
    for name, (element_type, is_output) in session.operands.items():
        operands[name] = session.memory(name).view(numpy_type(element_type))
        if is_output:
            session.memory(name)[:] = 0xFF if operands[name].dtype.kind not in "iu" else 0xAA
    gemm.fill(case, operands, np.random.default_rng(seed), exact)
    session.prepare()
    return operands


def assert_right(session: Any, case: Case) -> None:
    for exact in (False, gemm.exact(case)):
        operands = fill(session, case, exact)
        session.measure(2)
        session.collect()
        check = gemm.check(case, operands, exact)
        assert check.ok, f"{case}: {check.reason}"


def case_of(problem: GemmProblem, precision: str) -> Case:
    return Case(problem, PRECISIONS[precision], layout="column_major")


@pytest.mark.parametrize("precision", [name for name in PRECISIONS if name != "fp16_in_fp32_math"])
@pytest.mark.parametrize("library", ["cublaslt", "cublas"])
def test_products_in_every_transposition_and_batch(module: Any, library: str, precision: str) -> None:
    right = 0
    for transposes in range(4):
        for batch in (1, 3):
            problem = GemmProblem(96, 160, 224, bool(transposes & 1), bool(transposes & 2), batch)
            try:
                asked = request(module, library, problem, precision)
                names = module.algorithms(asked) if library == "cublas" else ["auto"]
                for name in names:
                    session = module.Session(request(module, library, problem, precision, name))
                    assert_right(session, case_of(problem, precision))
                    right += 1
            except module.Unsupported as error:
                assert precision not in BASIC or "int8" in precision, str(error)  # noqa: PT017
    assert right or precision not in BASIC


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_algorithms_of_cublaslt(module: Any, precision: str) -> None:
    """The library's ranking, and of what else it accepts a sample, the same every time.

    What its check accepts may still be refused when it is launched; its own choice may not.
    """
    problem = GemmProblem(256, 192, 320, True, False)
    asked = request(module, "cublaslt", problem, precision)
    names = module.algorithms(asked)
    first_of = re.search(r"first of (\d+)", module.Session(asked).implementation)
    assert first_of
    ranked, others = names[: int(first_of[1])], names[int(first_of[1]) :]
    if not on_device.ALL_ALGORITHMS:
        others = random.Random(0).sample(others, min(SAMPLED, len(others)))
    found = on_device.verdicts("cublaslt", case_of(problem, precision), ("auto", *ranked, *others))
    assert not found.wrong, "\n".join(found.wrong)
    assert "auto" in found.ran, found.refused["auto"]


def test_the_modes_agree_on_the_result_and_order_of_times(module: Any) -> None:
    problem = GemmProblem(1760, 128, 1760)
    session = module.Session(request(module, "cublaslt", problem, "fp16"))
    case = case_of(problem, "fp16")
    operands = fill(session, case, exact=False)
    session.measure(5)
    hot = statistics.median(session.measure(30, 100))
    flusher = module.CacheFlusher(2 * cuda.device()["l2_cache_bytes"])
    cold = statistics.median(session.measure(30, 1, flusher))
    session.capture()
    graph = statistics.median(session.measure(30, 100))
    session.collect()
    assert gemm.check(case, operands, exact=False).ok
    assert session.doubts == []
    assert hot < cold
    assert graph < 2 * hot


def test_launch_latency_stays_outside(module: Any) -> None:
    """A product that takes a few microseconds: launching it costs the host about as much."""
    session = module.Session(request(module, "cublaslt", GemmProblem(16, 16, 16), "fp32"))
    fill(session, case_of(GemmProblem(16, 16, 16), "fp32"), exact=True)
    session.measure(10)
    single, batched = statistics.median(session.measure(100)), statistics.median(session.measure(30, 400))
    assert batched <= single < 50e-6
    assert session.facts["host_launch_s"] > 0
    resolution, overhead = module.calibrate_timer()
    assert 0 < resolution <= 1e-6
    assert 0 <= overhead < 20e-6


def test_times_are_those_of_a_bare_loop_of_events_around_the_same_call(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    n = 4096
    file = tmp_path / "torch_gemm.py"
    file.write_text(
        "NAME, KERNEL, BACKEND, PRECISIONS = 'torch', 'gemm', 'cuda', ('fp16',)\n"
        "def open(case, operands):\n"
        "    import torch\n"
        "    n = case.problem.m\n"
        "    a, b, c = (torch.as_tensor(operands[x], device='cuda').view(n, n) for x in 'abc')\n"
        "    def launch(stream):\n"
        "        with torch.cuda.stream(torch.cuda.ExternalStream(stream)):\n"
        "            torch.mm(b, a, out=c)\n"
        "    return launch\n"
    )
    problem = GemmProblem(n, n, n)
    asked = plugins.Request(
        kernel="gemm",
        library="torch",
        library_path=str(file),
        algorithm="auto",
        precision="fp16",
        problem=dataclasses.asdict(problem) | {"pass": "forward", "layout": "column_major"},
        threads=1,
        workspace_limit=on_device.NO_LIMIT,
    )
    session = plugins.Session(asked)
    operands = fill(session, case_of(problem, "fp16"), exact=False)
    a, b = (torch.from_numpy(operands[name].copy()).cuda().view(n, n) for name in "ab")
    c = torch.empty_like(a)
    ours, bare = [], []
    session.measure(50)
    bare_loop(torch, lambda: torch.mm(b, a, out=c), 50)
    for _ in range(20):  # in turns, so that a change of the clock falls on both
        ours.append(float(session.measure(1, 50)[0]))
        bare.append(bare_loop(torch, lambda: torch.mm(b, a, out=c), 50))
    assert statistics.median(ours) == pytest.approx(statistics.median(bare), rel=0.01)


def bare_loop(torch: Any, call: Callable[[], Any], count: int) -> float:
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(count):
        call()
    stop.record()
    stop.synchronize()
    return float(1e-3 * start.elapsed_time(stop) / count)


def test_bf16_reaches_the_rate_of_pytorch(module: Any) -> None:
    torch = pytest.importorskip("torch")
    problem = GemmProblem(SIZE, SIZE, SIZE)
    session = module.Session(request(module, "cublaslt", problem, "bf16"))
    operands = fill(session, case_of(problem, "bf16"), exact=False)
    bits = [torch.from_numpy(operands[name].view(np.int16).copy()) for name in "ab"]
    a, b = (each.cuda().view(torch.bfloat16).view(SIZE, SIZE) for each in bits)
    c = torch.empty_like(a)
    session.measure(3, 10)
    bare_loop(torch, lambda: torch.mm(b, a, out=c), 20)
    ours, theirs = [], []
    for _ in range(10):
        ours.append(float(session.measure(1, 10)[0]))
        theirs.append(bare_loop(torch, lambda: torch.mm(b, a, out=c), 10))
    ours_rate, their_rate = (2 * SIZE**3 / statistics.median(times) / 1e12 for times in (ours, theirs))
    print(f"bf16 {SIZE}^3: {ours_rate:.0f} TFLOP/s, PyTorch {torch.__version__} {their_rate:.0f} TFLOP/s")
    assert ours_rate > 0.98 * their_rate


def test_the_peaks_are_within_those_of_the_data_sheet(module: Any) -> None:
    job = CeilingsJob(backend="cuda", threads=1, cpus=(0,), pin=False, array_bytes=0, cached_bytes=0)
    found = cuda_peaks.ceilings(module, cuda.LIBRARIES["cublaslt"].path(), job)
    theoretical = found["theoretical"]
    for precision, peak in theoretical["compute_flops_per_s"].items():
        if precision in found["compute_flops_per_s"]:
            assert 0.3 < found["compute_flops_per_s"][precision]["best"] / peak < 1.05, precision
    memory = found["memory_bytes_per_s"]
    if theoretical["memory_bytes_per_s"]:
        for kind in ("read", "write", "copy"):
            assert 0.5 < memory[kind]["best"] / theoretical["memory_bytes_per_s"] < 1.02, kind
    assert found["last_level_cache_bytes_per_s"]["read"]["best"] > memory["read"]["best"]


def test_clocks_by_counters_and_by_nvml_agree(module: Any) -> None:
    pytest.importorskip("pynvml")
    sensor = Nvml.open(module.device_properties())
    assert sensor is not None
    module.compute_rates("fp32", 3, 0.05)
    measured, read = module.sm_clock_hz(), sensor.read()
    assert read["power_w"] > 0
    assert 0 < read["temperature_c"] < 120
    assert measured == pytest.approx(read["sm_clock_hz"], rel=0.15)


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Usable, and used for problems of every size."""
    found = pytest.importorskip("cupy")
    monkeypatch.setattr(reference, "_WORTH_FLOPS", 0.0)
    monkeypatch.setattr(reference, "_WORTH_FLOPS_A_STEP", 0.0)
    assert cuda_reference.arrays() == (found, "")
    return found


def assert_same_verdicts(kernel: Any, case: Case, operands: dict[str, Any], exact: bool) -> bool:
    judge = Judge(kernel, case, cuda_reference.arrays)
    there, here = judge.check(operands, exact), kernel.check(case, operands, exact)
    assert judge.place == "device"
    for name in ("wrong_elements", "elements", "tolerance", "frobenius_tolerance"):
        assert getattr(there, name) == getattr(here, name), f"{case}: {name}"
    # The host's scales of errors are float32.
    assert there.max_error == pytest.approx(here.max_error, rel=1e-5, abs=1e-14)
    assert there.frobenius_error == pytest.approx(here.frobenius_error, rel=1e-6, abs=1e-14)
    return bool(there.ok)


@pytest.mark.usefixtures("cupy")
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16", "fp8_e4m3", "fp8_e5m2", "int8"])
def test_references_of_device_and_host_agree_on_products(module: Any, precision: str) -> None:
    problem = GemmProblem(2100, 260, 2300, True, False)
    case = case_of(problem, precision)
    try:
        session = module.Session(request(module, "cublaslt", problem, precision))
    except module.Unsupported as error:
        pytest.skip(str(error))
    for exact in (False, True):
        operands = fill(session, case, exact)
        session.measure(2)
        session.collect()
        assert assert_same_verdicts(gemm, case, operands, exact)
        operands["c"][7] = 2 * float(operands["c"][7]) + 100
        assert not assert_same_verdicts(gemm, case, operands, exact)


@pytest.mark.usefixtures("cupy")
@pytest.mark.parametrize("algorithm", ["auto", "winograd_4x4", "fft"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
@pytest.mark.parametrize("pass_", conv.PASSES)
def test_references_of_device_and_host_agree_on_convolutions(
    pass_: str, precision: str, algorithm: str
) -> None:
    problem = ConvProblem(
        w=29, h=23, c=12, n=3, k=10, filter_w=3, filter_h=3, pad_w=1, pad_h=0, stride_w=1, stride_h=1, groups=2
    )  # fmt: skip
    for layout in conv.LAYOUTS:
        case = Case(problem, PRECISIONS[precision], pass_, layout, algorithm)
        for exact in (False, True) if conv.exact(case) else (False,):
            *inputs, result = conv._OPERANDS[pass_]
            types = dict.fromkeys(inputs, case.precision.storage) | {result: case.precision.output}
            operands = {
                name: np.zeros(math.prod(problem.shapes()[name]), numpy_type(type_))
                for name, type_ in types.items()
            }
            conv.fill(case, operands, np.random.default_rng(1), exact)
            first, second = (conv._tensor(case, operands[name], name) for name in inputs)
            view = conv._tensor(case, operands[result], result)
            for index, values in conv.convolve(problem, pass_, first, second, np.float64):
                view[index] = values
            assert assert_same_verdicts(conv, case, operands, exact)
            operands[result][7] = 2 * float(operands[result][7]) + 100
            assert not assert_same_verdicts(conv, case, operands, exact)


@pytest.mark.usefixtures("cupy")
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
@pytest.mark.parametrize("pass_", ["forward", "backward"])
@pytest.mark.parametrize("cell", sorted(rnn.GATES))
def test_references_of_device_and_host_agree_on_recurrent_layers(
    cell: str, pass_: str, precision: str
) -> None:
    problem = RnnProblem(cell, 24, 20, 7, 16, 2, True)
    case = Case(problem, PRECISIONS[precision], pass_, "tnc")
    rng = np.random.default_rng(2)
    operands = {
        name: np.zeros(math.prod(shape), numpy_type(rnn.element_type(name, case.precision)))
        for name, shape in problem.shapes(pass_).items()
    }
    rnn.fill(case, operands, rng, False)
    for name in sorted(rnn.OUTPUTS[pass_] & {*operands}):
        operands[name][:] = rng.uniform(-1, 1, operands[name].size)
    assert not assert_same_verdicts(rnn, case, operands, False)


def test_references_give_the_device_s_memory_back(cupy: Any) -> None:
    case = case_of(GemmProblem(1024, 1024, 1024), "fp16")
    rng = np.random.default_rng(0)
    operands = {name: np.zeros(1 << 20, np.float16) for name in "abc"}
    gemm.fill(case, operands, rng, False)
    judge = Judge(gemm, case, cuda_reference.arrays)
    judge.check(operands, False)  # loads code, which stays
    free, _ = cupy.cuda.runtime.memGetInfo()
    judge.check(operands, False)
    assert abs(cupy.cuda.runtime.memGetInfo()[0] - free) <= SLABS
    assert cupy.get_default_memory_pool().total_bytes() == 0


@pytest.mark.parametrize(("example", "needs"), [("cupy", "cupy"), ("triton", "triton")])
def test_the_examples_of_plug_ins(example: str, needs: str) -> None:
    pytest.importorskip(needs)
    file = str(ROOT / "examples" / f"{example}_gemm.py")
    for precision in plugins.load(file).precisions:
        problem = GemmProblem(160, 96, 128, True, False)
        asked = plugins.Request(
            kernel="gemm",
            library=example,
            library_path=file,
            algorithm="auto",
            precision=precision,
            problem=dataclasses.asdict(problem) | {"pass": "forward", "layout": "column_major"},
            threads=1,
            workspace_limit=on_device.NO_LIMIT,
        )
        session = plugins.Session(asked)
        assert_right(session, case_of(problem, precision))
        session.capture()
        assert_right(session, case_of(problem, precision))
