"""References on a device, by a stand-in for CuPy: the same verdicts as the host's, and the host where it must be."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fixtures import fake_cupy
from microbench import kernels, reference
from microbench.backends import cuda_reference
from microbench.kernels import conv, gemm, rnn
from microbench.kernels.conv import ConvProblem
from microbench.kernels.gemm import GemmProblem
from microbench.kernels.rnn import RnnProblem
from microbench.problem import ITEM_BYTES, PRECISIONS, Case
from microbench.reference import Judge, worth_a_device
from microbench.verification import Check, decoded, numpy_type, rounded, scale_type

Array = NDArray[Any]

seeds = st.integers(0, 2**32 - 1)
on_the_device = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(autouse=True)
def cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Installed, with memory enough and right products; at the end all memory is the device's again."""
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy)
    monkeypatch.setattr(fake_cupy.state, "largest", 1 << 62)
    monkeypatch.setattr(fake_cupy.state, "precise", True)
    monkeypatch.setattr(reference, "_WORTH_FLOPS", 0.0)
    monkeypatch.setattr(reference, "_WORTH_FLOPS_A_STEP", 0.0)
    cuda_reference._tried.cache_clear()
    del fake_cupy.state.pools[2:]
    yield fake_cupy
    cuda_reference._tried.cache_clear()
    fake_cupy.get_default_memory_pool().free_all_blocks()  # of the tests' own arrays
    assert fake_cupy.state.held() == 0


def judged(case: Case, kernel: Any, operands: dict[str, Array], exact: bool) -> tuple[Check, Check]:
    """The host's verdict and the device's."""
    judge = Judge(kernel, case, cuda_reference.arrays)
    there = judge.check(operands, exact)
    fp64 = case.precision.compute == "float64"
    assert (judge.place, judge.warning) == ("host" if fp64 else "device", "")
    assert fake_cupy.state.held() == 0
    return kernel.check(case, operands, exact), there


def assert_same(host: Check, device: Check) -> None:
    same = ("wrong_elements", "elements", "tolerance", "frobenius_tolerance")
    assert [getattr(host, name) for name in same] == [getattr(device, name) for name in same]
    # The host's scales of errors are float32.
    assert device.max_error == pytest.approx(host.max_error, rel=1e-5, abs=1e-15)
    assert device.frobenius_error == pytest.approx(host.frobenius_error, rel=1e-7, abs=1e-15)


def spoil(output: Array, place: int) -> None:
    """One element becomes wrong, the last bits of its type at least."""
    at = place % output.size
    value = float(output[at])
    output[at] = -value if abs(value) >= 1 else value + 1


# ------------------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize("element_type", ITEM_BYTES)
def test_a_device_reads_memory_as_the_host_does(element_type: str) -> None:
    rng = np.random.default_rng(0)
    width = ITEM_BYTES[element_type]
    every = np.arange(1 << 8 * width, dtype=f"u{width}") if width <= 2 else None
    memory = rng.bytes(8000) if every is None else every.tobytes()
    host = np.frombuffer(memory, np.uint8)
    with np.errstate(invalid="ignore"):
        expected = decoded(host, element_type).astype(np.float64)
        found = decoded(fake_cupy.asarray(host), element_type).get()
        assert found.dtype.itemsize >= width
        np.testing.assert_array_equal(found.astype(np.float64), expected)


@pytest.mark.parametrize("element_type", [name for name in ITEM_BYTES if "float8" not in name])
@given(seed=seeds)
def test_a_device_rounds_as_the_host_does(element_type: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    magnitude = 2.0 ** rng.integers(-10, 7 if element_type == "int8" else 12, 200)
    values = (rng.uniform(-1, 1, 200) * magnitude).astype(np.float32).astype(np.float64)
    ties = np.arange(257, 1000, 2, dtype=np.float64) if element_type != "int8" else np.arange(9.0)
    for each in (values, ties, -ties):
        expected = rounded(each, element_type).astype(np.float64)
        found = rounded(fake_cupy.asarray(each), element_type).get()
        np.testing.assert_array_equal(found.astype(np.float64), expected)
        assert found.dtype == decoded(fake_cupy.asarray(np.zeros(8, np.uint8)), element_type).dtype


def test_nothing_is_rounded_to_8_bits() -> None:
    with pytest.raises(ValueError, match="float8_e5m2"):
        rounded(fake_cupy.asarray(np.ones(3)), "float8_e5m2")


def test_a_device_computes_in_float64_alone() -> None:
    assert scale_type(np.ones(2)) is np.float32
    assert scale_type(fake_cupy.asarray(np.ones(2))) is np.float64


# ---------------------------------------------------------------------------------------------- same verdicts


@on_the_device
@given(
    st.tuples(*[st.integers(1, 9)] * 3, st.integers(1, 3)),
    st.tuples(st.booleans(), st.booleans()),
    st.sampled_from(sorted(PRECISIONS)),
    st.booleans(),
    st.one_of(st.none(), st.integers(0, 10**6)),
    seeds,
)
def test_products(
    sizes: tuple[int, int, int, int],
    transposed: tuple[bool, bool],
    precision: str,
    exact: bool,
    wrong: int | None,
    seed: int,
) -> None:
    m, n, k, batch = sizes
    case = Case(GemmProblem(m, n, k, *transposed, batch), PRECISIONS[precision], layout="column_major")
    types = dict(zip("abc", (*case.precision.inputs, case.precision.output), strict=True))
    elements = {"a": batch * m * k, "b": batch * k * n, "c": batch * m * n}
    operands: dict[str, Array] = {name: np.zeros(elements[name], numpy_type(types[name])) for name in "abc"}
    gemm.fill(case, operands, np.random.default_rng(seed), exact)
    a, b = (operands[name].astype(np.float64).reshape(batch, -1) for name in "ab")
    for item in range(batch):
        left = a[item].reshape((m, k), order="C" if transposed[0] else "F")
        right = b[item].reshape((k, n), order="C" if transposed[1] else "F")
        operands["c"].reshape(batch, -1)[item] = (left @ right).ravel(order="F")
    if wrong is not None:
        spoil(operands["c"], wrong)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gemm, "_BLOCK", 4)
        host, device = judged(case, gemm, operands, exact)
    assert host.ok == (wrong is None)
    assert_same(host, device)


@st.composite
def convolutions(draw: st.DrawFn) -> ConvProblem:
    three = draw(st.booleans())  # what Winograd's magnitudes are for
    sizes: dict[str, int] = {}
    for axis in ("w", "h"):
        taps = 3 if three else draw(st.integers(1, 4))
        dilation = 1 if three else draw(st.integers(1, 2))
        sizes |= {
            axis: draw(st.integers(dilation * (taps - 1) + 1, 11)),
            f"filter_{axis}": taps,
            f"dilation_{axis}": dilation,
            f"pad_{axis}": draw(st.integers(0, 2)),
            f"stride_{axis}": 1 if three else draw(st.integers(1, 3)),
        }
    groups = draw(st.sampled_from((1, 1, 2)))
    c, k = (groups * draw(st.integers(1, 4)) for _ in range(2))
    return ConvProblem(c=c, k=k, n=draw(st.integers(1, 3)), groups=groups, **sizes)


ALGORITHMS = ("auto", "winograd_2x2", "winograd_4x4", "fft", "microbatch:fft@1,winograd_4x4@1")


@on_the_device
@given(
    convolutions(),
    st.sampled_from(conv.PASSES),
    st.sampled_from(conv.LAYOUTS),
    st.sampled_from(("fp64", "fp32", "tf32", "fp16", "bf16", "int8")),
    st.sampled_from(ALGORITHMS),
    st.booleans(),
    st.one_of(st.none(), st.integers(0, 10**6)),
    seeds,
)
def test_convolutions(
    problem: ConvProblem,
    pass_: str,
    layout: str,
    precision: str,
    algorithm: str,
    exact: bool,
    wrong: int | None,
    seed: int,
) -> None:
    case = Case(problem, PRECISIONS[precision], pass_, layout, algorithm)
    exact = exact and conv.exact(case)
    *inputs, result = conv._OPERANDS[pass_]
    types = dict.fromkeys(inputs, case.precision.storage) | {result: case.precision.output}
    operands: dict[str, Array] = {
        name: np.zeros(math.prod(problem.shapes()[name]), numpy_type(type_)) for name, type_ in types.items()
    }
    conv.fill(case, operands, np.random.default_rng(seed), exact)
    first, second = (conv._tensor(case, operands[name], name) for name in inputs)
    view = conv._tensor(case, operands[result], result)
    for index, values in conv.convolve(problem, pass_, first, second, np.float64):
        view[index] = values
    if wrong is not None:
        spoil(operands[result], wrong)
    host, device = judged(case, conv, operands, exact)
    assert host.ok or wrong is not None
    assert_same(host, device)


@on_the_device
@given(
    st.sampled_from(sorted(rnn.GATES)),
    st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 5), st.integers(0, 4)),
    st.integers(1, 2),
    st.booleans(),
    st.sampled_from(rnn.PASSES),
    st.sampled_from(("fp64", "fp32", "tf32", "fp16", "bf16", "int8")),
    st.booleans(),
    seeds,
)
def test_recurrent_layers(
    cell: str,
    sizes: tuple[int, int, int, int],
    layers: int,
    bidirectional: bool,
    pass_: str,
    precision: str,
    wide: bool,
    seed: int,
) -> None:
    if precision == "int8":  # biases and cell states beside it are always wide
        pass_, wide = "forward", True
    problem = RnnProblem(cell, *sizes, layers, bidirectional)
    case = Case(problem, PRECISIONS[precision], pass_, "tnc")
    operands: dict[str, Array] = {}
    for name, shape in problem.shapes(pass_).items():
        # Libraries differ in what they store in 16 bits.
        type_ = rnn.element_type(name, case.precision) if wide else case.precision.storage
        operands[name] = np.zeros(math.prod(shape), numpy_type(type_))
    rng = np.random.default_rng(seed)
    rnn.fill(case, operands, rng, False)
    for name in sorted(rnn.OUTPUTS[pass_] & {*operands}):
        operands[name][:] = rng.uniform(-1, 1, operands[name].size)  # all wrong, differently so
    assert_same(*judged(case, rnn, operands, False))


# --------------------------------------------------------------------------------- who makes the reference


LARGE = Case(GemmProblem(64, 48, 32), PRECISIONS["fp16"], layout="column_major")


def product(case: Case = LARGE) -> dict[str, Array]:
    """Operands with a right result."""
    sizes: Any = case.problem
    storage = numpy_type(case.precision.storage)
    operands: dict[str, Array] = {
        "a": np.zeros(sizes.m * sizes.k, storage),
        "b": np.zeros(sizes.k * sizes.n, storage),
        "c": np.zeros(sizes.m * sizes.n, numpy_type(case.precision.output)),
    }
    gemm.fill(case, operands, np.random.default_rng(0), False)
    a = operands["a"].reshape(sizes.k, sizes.m).T.astype(np.float64)
    b = operands["b"].reshape(sizes.n, sizes.k).T.astype(np.float64)
    operands["c"][:] = (a @ b).ravel(order="F")
    return operands


def test_the_operands_are_left_alone() -> None:
    operands = product()
    before = {name: array.tobytes() for name, array in operands.items()}
    assert Judge(gemm, LARGE, cuda_reference.arrays).check(operands, False).ok
    assert before == {name: array.tobytes() for name, array in operands.items()}


@pytest.mark.parametrize("largest", [1 << 10, 1 << 13])
def test_where_the_device_has_too_little_memory_the_host_does_it(
    largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Judge(gemm, LARGE, cuda_reference.arrays)
    assert judge.check(product(), False).ok
    assert judge.place == "device"
    monkeypatch.setattr(fake_cupy.state, "largest", largest)
    assert judge.check(product(), False).ok
    assert fake_cupy.state.held() == 0
    monkeypatch.setattr(fake_cupy.state, "largest", 1 << 62)
    assert judge.check(product(), False).ok
    assert (judge.place, judge.warning) == ("host", "")


def test_where_cupy_fails_the_host_does_it_and_the_record_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuBLAS's errors, the driver's, the compiler's are no MemoryErrors; what was taken is given back."""

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("\n====\nCUBLAS_STATUS_ALLOC_FAILED\nmore of it")

    judge = Judge(gemm, LARGE, cuda_reference.arrays)
    assert judge.check(product(), False).ok
    with monkeypatch.context() as patch:
        patch.setattr(fake_cupy.ndarray, "__matmul__", fail)
        assert judge.check(product(), False).ok
        assert fake_cupy.state.held() == 0
    assert judge.place == "host"
    assert judge.warning == (
        "references were computed on the host: CuPy cannot be used: RuntimeError: CUBLAS_STATUS_ALLOC_FAILED"
    )


def test_wrong_products_of_the_device_are_noticed_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_cupy.state, "precise", False)
    judge = Judge(gemm, LARGE, cuda_reference.arrays)
    assert judge.check(product(), False).ok
    assert judge.place == "host"
    assert "float64 products by CuPy are wrong" in judge.warning


def test_a_cupy_that_cannot_compute_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("CuPy failed to load libnvrtc.so.13\nmore of it")

    monkeypatch.setattr(fake_cupy, "asarray", fail)
    assert cuda_reference.arrays() == (
        None,
        "references were computed on the host: CuPy cannot be used: RuntimeError: CuPy failed to load libnvrtc.so.13",
    )


def test_a_cupy_that_lacked_memory_once_is_tried_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_cupy.state, "largest", 1 << 10)
    assert cuda_reference.arrays()[0] is None
    assert "OutOfMemoryError" in cuda_reference.arrays()[1]
    monkeypatch.setattr(fake_cupy.state, "largest", 1 << 62)
    assert cuda_reference.arrays() == (fake_cupy, "")


def test_a_cupy_that_is_installed_and_cannot_be_imported_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cupy.py").write_text("raise ImportError('\\n====\\nFailed to import CuPy.')")
    monkeypatch.delitem(sys.modules, "cupy")
    monkeypatch.syspath_prepend(tmp_path)
    assert cuda_reference.arrays() == (
        None,
        "references were computed on the host: CuPy cannot be used: ImportError: Failed to import CuPy.",
    )


def test_without_cupy_the_host_does_it_and_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    judge = Judge(gemm, LARGE, cuda_reference.arrays)
    assert judge.check(product(), False).ok
    assert (judge.place, judge.warning) == ("host", "")


def test_a_backend_without_device_and_a_problem_that_is_not_worth_it_need_no_cupy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Judge(gemm, LARGE, None).place == "host"
    monkeypatch.undo()

    def never() -> Any:
        raise AssertionError("CuPy was asked for")

    judge = Judge(gemm, LARGE, never)
    assert judge.check(product(), False).ok
    assert judge.place == "host"


def test_what_is_worth_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    gemm_kernel, rnn_kernel = kernels.kernel("gemm"), kernels.kernel("rnn")
    large = dataclasses.replace(LARGE, problem=GemmProblem(512, 512, 512))
    assert worth_a_device(gemm_kernel, large)
    assert not worth_a_device(gemm_kernel, LARGE)
    # cuBLAS's products in float64 are not judged by themselves.
    assert not worth_a_device(gemm_kernel, dataclasses.replace(large, precision=PRECISIONS["fp64"]))
    wide, narrow = RnnProblem("lstm", 1760, 32, 50), RnnProblem("gru", 64, 1, 20_000)
    assert worth_a_device(rnn_kernel, Case(wide, PRECISIONS["fp16"]))
    assert narrow.flops() > wide.flops() / 100
    assert not worth_a_device(rnn_kernel, Case(narrow, PRECISIONS["fp16"]))


def test_a_plug_in_s_memory_stays_its_own() -> None:
    pool = fake_cupy.get_default_memory_pool()
    used, unused = (fake_cupy.asarray(np.ones(size)) for size in (1000, 2000))
    del unused
    assert Judge(gemm, LARGE, cuda_reference.arrays).check(product(), False).ok
    assert (pool.used, pool.kept) == (8000, 16_000)
    del used
