"""Convolution: the reference held against loops written from the definition; then every algorithm of the libraries."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from microbench.errors import InputError
from microbench.kernels import conv
from microbench.kernels.conv import ConvProblem
from microbench.kernels.conv_reference import convolve, norm_products, winograd_magnitudes
from microbench.problem import PRECISIONS, Case
from microbench.verification import Check, numpy_type

Array = NDArray[Any]

NO_LIMIT = 2**63 - 1
TRANSFORMS = ("winograd_2x2", "winograd_4x4", "fft", "fft_tiled")
passes = st.sampled_from(conv.PASSES)
layouts = st.sampled_from(conv.LAYOUTS)


@st.composite
def problems(draw: st.DrawFn, largest: int = 20, channels: int = 20, stride_one: bool = False) -> ConvProblem:
    """Any convolution with an output, groups and depthwise ones among them."""
    axes: dict[str, int] = {}
    for axis in ("w", "h"):
        taps = draw(st.integers(1, 5))
        dilation = draw(st.integers(1, 2))
        pad = draw(st.integers(0, 3))
        extent = dilation * (taps - 1) + 1
        axes |= {
            axis: draw(st.integers(max(1, extent - 2 * pad), max(largest, extent))),
            f"filter_{axis}": taps,
            f"dilation_{axis}": dilation,
            f"pad_{axis}": pad,
            f"stride_{axis}": 1 if stride_one else draw(st.integers(1, 3)),
        }
    groups = draw(st.sampled_from((1, 1, 1, 2, 3)))
    c, k = (groups * draw(st.integers(1, channels)) for _ in range(2))
    return ConvProblem(c=c, k=k, n=draw(st.integers(1, 3)), groups=groups, **axes)


@st.composite
def winograd_problems(draw: st.DrawFn) -> ConvProblem:
    problem = draw(problems(stride_one=True))
    return dataclasses.replace(
        problem,
        w=draw(st.integers(3, 30)),
        h=draw(st.integers(3, 20)),
        filter_w=3,
        filter_h=3,
        dilation_w=1,
        dilation_h=1,
    )


def naive(problem: ConvProblem, pass_: str, first: Array, second: Array) -> Array:
    """The definition, one product after another."""
    p = problem
    result = np.zeros(p.shapes()[{"forward": "y", "backward_data": "dx", "backward_weights": "dw"}[pass_]])
    group_c, group_k = p.c // p.groups, p.k // p.groups
    for n, k, i, j in np.ndindex(p.n, p.k, p.out_h, p.out_w):
        for c, r, s in np.ndindex(group_c, p.filter_h, p.filter_w):
            y = i * p.stride_h + r * p.dilation_h - p.pad_h
            x = j * p.stride_w + s * p.dilation_w - p.pad_w
            if not (0 <= y < p.h and 0 <= x < p.w):
                continue
            channel = k // group_k * group_c + c
            if pass_ == "forward":
                result[n, k, i, j] += first[n, channel, y, x] * second[k, c, r, s]
            elif pass_ == "backward_data":
                result[n, channel, y, x] += first[n, k, i, j] * second[k, c, r, s]
            else:
                result[k, c, r, s] += first[n, channel, y, x] * second[n, k, i, j]
    return result


def inputs_of(problem: ConvProblem, pass_: str, rng: np.random.Generator) -> tuple[Array, Array]:
    names = {"forward": ("x", "w"), "backward_data": ("dy", "w"), "backward_weights": ("x", "dy")}[pass_]
    first, second = (rng.uniform(-1, 1, problem.shapes()[name]) for name in names)
    return first, second


def assembled(shape: tuple[int, ...], blocks: Any) -> Array:
    whole = np.full(shape, np.nan)
    for index, values in blocks:
        whole[index] = values
    return whole


@settings(max_examples=60, deadline=None)
@given(problems(largest=7, channels=3), passes, st.integers(0, 2**32 - 1))
def test_the_reference_follows_the_definition(problem: ConvProblem, pass_: str, seed: int) -> None:
    first, second = inputs_of(problem, pass_, np.random.default_rng(seed))
    expected = naive(problem, pass_, first, second)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("microbench.kernels.conv_reference._LOWERED_BYTES", 1)  # a block for each row
        actual = assembled(expected.shape, convolve(problem, pass_, first, second, np.float64))
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(winograd_problems(), passes, st.sampled_from((2, 4)), st.integers(0, 2**32 - 1))
def test_winograds_terms_are_at_least_the_results_own(
    problem: ConvProblem, pass_: str, tile: int, seed: int
) -> None:
    first, second = inputs_of(problem, pass_, np.random.default_rng(seed))
    direct = list(convolve(problem, pass_, abs(first), abs(second), np.float64))
    terms = list(winograd_magnitudes(problem, pass_, tile, first, second))
    assert [index for index, _ in direct] == [index for index, _ in terms]
    for (_, smaller), (_, larger) in zip(direct, terms, strict=True):
        assert (smaller <= larger * (1 + 1e-5)).all()


@settings(max_examples=30, deadline=None)
@given(problems(stride_one=True), passes, st.integers(0, 2**32 - 1))
def test_norms_bound_the_result(problem: ConvProblem, pass_: str, seed: int) -> None:
    first, second = inputs_of(problem, pass_, np.random.default_rng(seed))
    results = convolve(problem, pass_, first, second, np.float64)
    for (index, result), (other, norms) in zip(
        results, norm_products(problem, pass_, first, second), strict=True
    ):
        assert index == other
        assert (abs(result) <= norms * (1 + 1e-12)).all()


def test_sizes_operations_and_bytes() -> None:
    problem = ConvProblem(
        w=7, h=7, c=2048, n=8, k=512, filter_w=1, filter_h=1, pad_w=3, pad_h=3, stride_w=2, stride_h=2
    )
    assert (problem.out_h, problem.out_w) == (7, 7)
    assert problem.flops() == 2 * 8 * 512 * 2048 * 7 * 7
    x, w, y = 8 * 2048 * 49, 512 * 2048, 8 * 512 * 49
    assert problem.bytes(PRECISIONS["fp32"]) == 4 * (x + w + y)
    int8 = Case(problem, PRECISIONS["int8"], "forward", "nchw")
    assert conv.bytes_of(int8) == x + w + 4 * y
    weights = Case(problem, PRECISIONS["int8"], "backward_weights", "nchw")
    assert conv.bytes_of(weights) == x + y + 4 * w
    assert conv.flops_of(int8) == conv.flops_of(weights) == problem.flops()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"filter_w": 10}, "filter_w"),
        ({"dilation_h": 5}, "filter_h"),
        ({"groups": 3}, "groups"),
        ({"k": 5, "groups": 2}, "k=5"),
    ],
)
def test_impossible_problems_are_refused(change: dict[str, int], told: str) -> None:
    sizes = {
        "w": 7, "h": 7, "c": 4, "n": 1, "k": 4, "filter_w": 3, "filter_h": 3,
        "pad_w": 1, "pad_h": 1, "stride_w": 1, "stride_h": 1,
    }  # fmt: skip
    with pytest.raises(InputError, match=told):
        ConvProblem(**sizes | change)


# ---- the libraries -------------------------------------------------------------------------------------------------


def module_of(library: str) -> Any:
    name = {"onednn": "microbench._onednn", "microbench": "microbench._cpu"}[library]
    return pytest.importorskip(name, reason="the package is not built")


def refusals() -> tuple[type[Exception], ...]:
    """Unsupported of every module: pybind11 raises that of the one loaded last."""
    found = []
    for name in ("_onednn", "_cpu", "_probe"):
        try:
            found.append(importlib.import_module(f"microbench.{name}").Unsupported)
        except ImportError:
            continue
    return tuple(found)


def workspace_refusals() -> tuple[type[Exception], ...]:
    return tuple(
        importlib.import_module(refusal.__module__).WorkspaceExceeded
        for refusal in refusals()
        if hasattr(importlib.import_module(refusal.__module__), "WorkspaceExceeded")
    )


def request(
    library: str,
    case: Case,
    algorithm: str | None = None,
    threads: int = 2,
    limit: int = NO_LIMIT,
    path: str | None = None,
) -> Any:
    if path is None:
        path = ""
        if library == "microbench":
            blas = pytest.importorskip("scipy_openblas32")
            path = str(Path(blas.get_lib_dir()) / f"lib{blas.get_library()}.so")
    assert isinstance(case.problem, ConvProblem)
    return module_of(library).Request(
        kernel="conv",
        library=library,
        library_path=path,
        algorithm=algorithm or case.algorithm,
        precision=case.precision.name,
        problem={**dataclasses.asdict(case.problem), "pass": case.pass_, "layout": case.layout},
        threads=threads,
        workspace_limit=limit,
    )


def executed(session: Any, case: Case, exact: bool, seed: int = 0) -> dict[str, Array]:
    """Operands after two executions, the result poisoned before."""
    operands = {}
    for name, (element_type, is_output) in session.operands.items():
        operands[name] = session.memory(name).view(numpy_type(element_type))
        if is_output:
            session.memory(name)[:] = 0x80 if operands[name].dtype.kind == "i" else 0xFF
    conv.fill(case, operands, np.random.default_rng(seed), exact)
    session.prepare()
    assert (session.measure(2) > 0).all()
    return operands


def judged(library: str, case: Case, algorithm: str, seed: int, threads: int = 2) -> Check | None:
    """None where the library refuses the case, with a reason that other tests read."""
    try:
        session = module_of(library).Session(request(library, case, algorithm, threads))
    except refusals():
        return None
    case = dataclasses.replace(case, algorithm=algorithm, implementation=session.implementation)
    for exact in (False, True) if conv.exact(case) else (False,):
        check = conv.check(case, executed(session, case, exact, seed), exact)
        if not check.ok:
            return check
    return check


def assert_right(library: str, case: Case, algorithm: str, seed: int, threads: int = 2) -> bool:
    check = judged(library, case, algorithm, seed, threads)
    assert check is None or check.ok, f"{algorithm} {case}: {check.reason}"
    return check is not None


@settings(max_examples=60, deadline=None)
@given(
    problems(),
    passes,
    layouts,
    st.sampled_from(("fp32", "fp16_in_fp32_math", "bf16", "int8")),
    st.integers(0, 99),
)
def test_every_implementation_of_onednn(
    problem: ConvProblem, pass_: str, layout: str, precision: str, seed: int
) -> None:
    case = Case(problem, PRECISIONS[precision], pass_, layout)
    try:
        names = module_of("onednn").algorithms(request("onednn", case))
    except refusals():
        assert precision != "fp32"
        return
    assert not any(name.startswith("ref") for name in names)
    for name in [*names, "auto"]:
        # oneDNN 3.1's int8 lowering is wrong for some shapes (padded ones, filters as large as the image), which a
        # sweep records as wrong_result.
        if precision == "int8" and "gemm" in (names[0] if name == "auto" else name):
            continue
        assert_right("onednn", case, name, seed)


@settings(max_examples=100, deadline=None)
@given(
    problems(),
    passes,
    layouts,
    st.sampled_from(("fp32", "fp16_in_fp32_math")),
    st.sampled_from(("im2col", "implicit_gemm", "auto")),
    st.integers(1, 4),
    st.integers(0, 99),
)
def test_matrix_products_do_every_convolution(
    problem: ConvProblem, pass_: str, layout: str, precision: str, algorithm: str, threads: int, seed: int
) -> None:
    case = Case(problem, PRECISIONS[precision], pass_, layout)
    assert assert_right("microbench", case, algorithm, seed, threads)


@settings(max_examples=60, deadline=None)
@given(
    problems(stride_one=True),
    passes,
    layouts,
    st.sampled_from(("fp32", "fp16_in_fp32_math")),
    st.sampled_from(("fft", "fft_tiled")),
    st.integers(0, 99),
)
def test_fft_does_every_stride_one_convolution(
    problem: ConvProblem, pass_: str, layout: str, precision: str, algorithm: str, seed: int
) -> None:
    assert assert_right("microbench", Case(problem, PRECISIONS[precision], pass_, layout), algorithm, seed)


@settings(max_examples=60, deadline=None)
@given(
    winograd_problems(),
    passes,
    layouts,
    st.sampled_from(("fp32", "fp16_in_fp32_math")),
    st.sampled_from(("winograd_2x2", "winograd_4x4")),
    st.integers(0, 99),
)
def test_winograd_does_every_3x3_stride_one_convolution(
    problem: ConvProblem, pass_: str, layout: str, precision: str, algorithm: str, seed: int
) -> None:
    assert assert_right("microbench", Case(problem, PRECISIONS[precision], pass_, layout), algorithm, seed)


WIDE = ConvProblem(
    w=57, h=30, c=70, n=2, k=50, filter_w=3, filter_h=3, pad_w=1, pad_h=1, stride_w=1, stride_h=1
)
# More tiles than one block holds, and filters that no longer fit one thread's cache.
DEEP = ConvProblem(
    w=60, h=60, c=130, n=4, k=150, filter_w=3, filter_h=3, pad_w=1, pad_h=1, stride_w=1, stride_h=1
)

# Planes so small that several images are lowered together, the last time fewer of them.
SMALL = ConvProblem(
    w=7, h=7, c=33, n=17, k=40, filter_w=3, filter_h=3, pad_w=1, pad_h=1, stride_w=1, stride_h=1
)


@pytest.mark.parametrize("algorithm", ["im2col", "implicit_gemm", *TRANSFORMS])
@pytest.mark.parametrize("pass_", conv.PASSES)
@pytest.mark.parametrize("problem", [WIDE, DEEP, SMALL], ids=["wide", "deep", "small"])
def test_many_blocks(problem: ConvProblem, pass_: str, algorithm: str) -> None:
    layout = conv.LAYOUTS[len(algorithm) % 2]
    assert assert_right(
        "microbench", Case(problem, PRECISIONS["fp32"], pass_, layout), algorithm, 1, threads=3
    )


def test_winograd_of_onednn_is_offered() -> None:
    case = Case(WIDE, PRECISIONS["fp32"], "forward", "nchw")
    names = module_of("onednn").algorithms(request("onednn", case))
    if not any("avx512" in name for name in names):
        pytest.skip("oneDNN's Winograd needs AVX-512")
    (winograd,) = (name for name in names if "wino" in name)
    assert winograd.endswith("+reorder")
    assert assert_right("onednn", case, winograd, 0)


@pytest.mark.parametrize("pass_", conv.PASSES)
def test_direct_is_an_implementation_of_onednn_that_sums_directly(pass_: str) -> None:
    case = Case(WIDE, PRECISIONS["fp32"], pass_, "nchw", "direct")
    asked = request("onednn", case)
    assert module_of("onednn").algorithms(asked).count("direct") == 1
    implementation = module_of("onednn").Session(asked).implementation
    assert not any(part in implementation for part in ("gemm", "wino", "ref"))
    assert assert_right("onednn", case, "direct", 0)
    assert "direct" not in module_of("onednn").algorithms(request("onednn", case, "auto"))


@pytest.mark.parametrize("algorithm", ["auto", *TRANSFORMS, "implicit_gemm"])
@pytest.mark.parametrize("pass_", conv.PASSES)
def test_workspace_is_exact_and_limited(pass_: str, algorithm: str) -> None:
    case = Case(WIDE, PRECISIONS["fp32"], pass_, "nchw", algorithm)
    needed = module_of("microbench").Session(request("microbench", case)).workspace_bytes
    assert needed > 0
    module_of("microbench").Session(request("microbench", case, limit=needed))
    with pytest.raises(
        workspace_refusals(), match=f"needs {needed} bytes of workspace, the limit is {needed - 1}"
    ):
        module_of("microbench").Session(request("microbench", case, limit=needed - 1))


def test_workspace_of_onednn_is_limited() -> None:
    case = Case(WIDE, PRECISIONS["fp32"], "forward", "nchw")
    needed = module_of("onednn").Session(request("onednn", case)).workspace_bytes
    assert needed > 0
    with pytest.raises(workspace_refusals(), match=f"needs {needed} bytes"):
        module_of("onednn").Session(request("onednn", case, limit=needed - 1))


@pytest.mark.parametrize(
    ("algorithm", "change", "reason"),
    [
        ("winograd_4x4", {"filter_w": 5}, "3x3"),
        ("winograd_2x2", {"stride_h": 2}, "stride 1"),
        ("winograd_2x2", {"dilation_w": 2}, "dilation 1"),
        ("fft", {"stride_w": 2}, "stride 1"),
        ("fast", {}, "no convolution algorithm 'fast'"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_reason(
    algorithm: str, change: dict[str, int], reason: str
) -> None:
    case = Case(dataclasses.replace(WIDE, **change), PRECISIONS["fp32"], "forward", "nchw", algorithm)
    with pytest.raises(refusals(), match=reason):
        module_of("microbench").Session(request("microbench", case))


def test_other_precisions_and_passes_are_refused() -> None:
    for library, precision, pass_ in (
        ("microbench", "bf16", "forward"),
        ("onednn", "fp64", "forward"),
        ("onednn", "int8", "backward_data"),
    ):
        with pytest.raises(refusals(), match=precision):
            module_of(library).Session(request(library, Case(WIDE, PRECISIONS[precision], pass_, "nchw")))


@pytest.mark.parametrize(
    ("algorithm", "pass_", "layout"),
    list(itertools.product(("im2col", "winograd_4x4", "fft"), conv.PASSES, conv.LAYOUTS)),
)
def test_a_single_wrong_element_is_found(algorithm: str, pass_: str, layout: str) -> None:
    case = Case(WIDE, PRECISIONS["fp32"], pass_, layout, algorithm)
    operands = executed(module_of("microbench").Session(request("microbench", case)), case, exact=False)
    assert conv.check(case, operands, exact=False).ok
    result = operands[{"forward": "y", "backward_data": "dx", "backward_weights": "dw"}[pass_]]
    place = int(np.argmax(abs(result)))
    right = result[place]
    for wrong in (np.nan, -right, np.float32(0)):
        result[place] = wrong
        check = conv.check(case, operands, exact=False)
        assert check.wrong_elements == 1
        assert check.reason


def test_operands_in_the_wrong_layout_are_found() -> None:
    case = Case(WIDE, PRECISIONS["fp32"], "forward", "nchw", "im2col")
    operands = executed(module_of("microbench").Session(request("microbench", case)), case, exact=True)
    assert conv.check(case, operands, exact=True).ok
    swapped = conv.check(dataclasses.replace(case, layout="nhwc"), operands, exact=True)
    assert swapped.wrong_elements > swapped.elements / 2


def test_transforms_are_not_called_exact() -> None:
    case = Case(WIDE, PRECISIONS["fp32"], "forward", "nchw")
    assert conv.exact(case)
    assert conv.exact(dataclasses.replace(case, algorithm="implicit_gemm"))
    for algorithm in TRANSFORMS:
        assert not conv.exact(dataclasses.replace(case, algorithm=algorithm))
    assert not conv.exact(
        dataclasses.replace(case, implementation="jit_wino_4x3:avx512_core, reorders timed")
    )


def test_repeated_executions_give_the_same_bits() -> None:
    for algorithm, pass_ in itertools.product(("im2col", "implicit_gemm", *TRANSFORMS), conv.PASSES):
        case = Case(WIDE, PRECISIONS["fp32"], pass_, "nchw", algorithm)
        session = module_of("microbench").Session(request("microbench", case, threads=3))
        name = {"forward": "y", "backward_data": "dx", "backward_weights": "dw"}[pass_]
        first = executed(session, case, exact=False)[name].copy()
        session.measure(1)
        np.testing.assert_array_equal(first, session.memory(name).view(np.float32))
