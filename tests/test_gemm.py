"""GEMM: problems, fills and the check, held against loops written from the definition; then the real libraries."""

from __future__ import annotations

import dataclasses
import importlib
import platform
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from microbench.kernels import gemm
from microbench.kernels.gemm import GemmProblem
from microbench.problem import PRECISIONS, Case
from microbench.verification import Check, numpy_type, unit_roundoff

Array = NDArray[Any]

precisions = st.sampled_from(sorted(PRECISIONS))
seeds = st.integers(0, 2**32 - 1)


def case_of(m: int, n: int, k: int, a_t: bool, b_t: bool, precision: str, batch: int = 1) -> Case:
    return Case(GemmProblem(m, n, k, a_t, b_t, batch), PRECISIONS[precision], layout="column_major")


def problem_of(case: Case) -> GemmProblem:
    assert isinstance(case.problem, GemmProblem)
    return case.problem


def poison(array: Array) -> None:
    """NaN in floating-point types, a large negative number in integers."""
    array.view(np.uint8)[:] = 0x80 if array.dtype.kind == "i" else 0xFF


def filled_operands(case: Case, seed: int, exact: bool) -> dict[str, Array]:
    problem = problem_of(case)
    a, b, c = (numpy_type(name) for name in (*case.precision.inputs, case.precision.output))
    operands = {
        "a": np.zeros(problem.m * problem.k, a),
        "b": np.zeros(problem.k * problem.n, b),
        "c": np.zeros(problem.m * problem.n, c),
    }
    poison(operands["c"])
    gemm.fill(case, operands, np.random.default_rng(seed), exact)
    return operands


def inputs(case: Case, operands: dict[str, Array]) -> tuple[Array, Array]:
    """op(A) and op(B), element by element as the BLAS standard addresses them."""
    m, n, k = problem_of(case).m, problem_of(case).n, problem_of(case).k
    i, p = np.indices((m, k))
    a = operands["a"][p + i * k if problem_of(case).a_transposed else i + p * m]
    p, j = np.indices((k, n))
    b = operands["b"][j + p * n if problem_of(case).b_transposed else p + j * k]
    return a, b


def in_order(a: Array, b: Array, accumulator: Any) -> Array:
    """The product, accumulated term after term in one type."""
    total = np.zeros((a.shape[0], b.shape[1]), accumulator)
    for p in range(a.shape[1]):
        total += a[:, p : p + 1].astype(accumulator) * b[p : p + 1].astype(accumulator)
    return total


def write(operands: dict[str, Array], product: Array) -> None:
    operands["c"][:] = product.astype(operands["c"].dtype).ravel(order="F")


def honest(case: Case, operands: dict[str, Array]) -> Check:
    """Writes the product as a library that keeps its word makes it, and checks it."""
    accumulator = (
        np.int64 if case.precision.accumulator == "int32" else numpy_type(case.precision.accumulator)
    )
    write(operands, in_order(*inputs(case, operands), accumulator))
    return gemm.check(case, operands, exact=False)


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 50), precisions)
def test_operations_and_bytes(m: int, n: int, k: int, precision: str) -> None:
    case = case_of(m, n, k, False, True, precision)
    assert gemm.flops_of(case) == case.problem.flops() == sum(2 for _ in range(m * n * k))
    operands = filled_operands(case, 0, exact=False)
    assert gemm.bytes_of(case) == sum(array.nbytes for array in operands.values())


@given(precisions, st.integers(1, 2**24), st.booleans())
def test_integers_are_exact_in_every_partial_sum(precision: str, k: int, transposed: bool) -> None:
    case = case_of(1, 1, k, transposed, False, precision)
    largest = {"fp64": 2**53, "int8": 2**31 - 1, "fp16_acc16": 2**11}.get(precision, 2**24)
    assert gemm.exact(case) == (k <= largest)
    assume(k <= largest)
    limit = gemm._integer_range(case)
    in_operands = {"bf16": 256, "int8": 127, "tf32": 2**11, "fp8_e4m3": 16, "fp8_e5m2": 8}
    assert 1 <= limit <= in_operands.get(precision, largest)
    assert k * limit**2 <= largest
    assert precision != "fp16" or limit > 1 or k > 2**22


def test_sums_too_long_for_the_accumulator_are_not_called_exact() -> None:
    assert not gemm.exact(case_of(1, 1, 2**24 + 1, False, False, "fp32"))
    assert gemm.exact(case_of(1, 1, 2**24 + 1, False, False, "fp64"))
    assert gemm.exact(case_of(1, 1, 2**24 + 1, False, False, "int8"))


@given(
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(1, 9),
    st.booleans(),
    st.booleans(),
    precisions,
    st.booleans(),
    seeds,
)
def test_the_reference_is_the_exact_product(
    m: int, n: int, k: int, a_t: bool, b_t: bool, precision: str, exact: bool, seed: int
) -> None:
    """With blocks of three, so that small products have several in each direction."""
    case = case_of(m, n, k, a_t, b_t, precision)
    operands = filled_operands(case, seed, exact)
    a, b = (matrix.astype(np.float64).tolist() for matrix in inputs(case, operands))
    product = [
        [float(sum(Fraction(a[i][p]) * Fraction(b[p][j]) for p in range(k))) for j in range(n)]
        for i in range(m)
    ]
    write(operands, np.array(product))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gemm, "_BLOCK", 3)
        check = gemm.check(case, operands, exact)
        assert check.ok, check.reason
        assert check.elements == m * n
        if exact or precision == "int8":
            assert check.tolerance == check.max_error == check.frobenius_error == 0
        # One element that is off by more than rounding.
        scale = sum(abs(x * y[n - 1]) for x, y in zip(a[m - 1], b, strict=True))
        if exact or precision == "int8":
            last = operands["c"][-1]
            operands["c"][-1] = (
                last + 1 if precision == "int8" else np.nextafter(last, last.dtype.type(np.inf))
            )
        else:
            last, output = float(operands["c"][-1]), case.precision.output
            narrowing = 0.0 if output == case.precision.accumulator else unit_roundoff(output)
            summing = (k + 2) * unit_roundoff(case.precision.accumulator)
            if precision == "tf32":
                summing += 4 * unit_roundoff("tfloat32")
            operands["c"][-1] = last + 3.1 * narrowing * abs(product[-1][-1]) + 5 * summing * scale
        wrong = gemm.check(case, operands, exact)
        assert not wrong.ok
        assert wrong.wrong_elements == 1
        error = abs(float(operands["c"][-1]) - product[-1][-1]) / scale
        largest = max(error, check.max_error)  # another element's rounding may be larger
        assert wrong.max_error == pytest.approx(largest, rel=1e-4, abs=1e-15)


products = given(
    st.integers(8, 24),
    st.integers(8, 24),
    st.integers(64, 600),
    st.booleans(),
    st.booleans(),
    precisions,
    seeds,
)


@products
@settings(deadline=None)
def test_accumulation_as_claimed_is_accepted(
    m: int, n: int, k: int, a_t: bool, b_t: bool, precision: str, seed: int
) -> None:
    case = case_of(m, n, k, a_t, b_t, precision)
    check = honest(case, filled_operands(case, seed, exact=False))
    assert check.ok, check.reason
    assert check.max_error <= check.tolerance


def tf32(matrix: Array) -> Array:
    """Rounded to 11 significand bits."""
    bits = matrix.astype(np.float32).view(np.uint32)
    return ((bits + (1 << 12)) & ~np.uint32((1 << 13) - 1)).view(np.float32)


def bfloat16(matrix: Array) -> Array:
    return matrix.astype(numpy_type("bfloat16"))


# What a library may do that is cheaper than what it was asked for: precision, and the product that it makes.
CHEAPER: dict[str, tuple[str, Callable[[Array, Array], Array]]] = {
    "fp64 summed in fp32": ("fp64", lambda a, b: in_order(a, b, np.float32)),
    "fp32 as TF32": ("fp32", lambda a, b: in_order(tf32(a), tf32(b), np.float32)),
    "fp32 as bf16": ("fp32", lambda a, b: in_order(bfloat16(a), bfloat16(b), np.float32)),
    "fp32 summed in fp16": ("fp32", lambda a, b: in_order(a, b, np.float16)),
    "fp16 summed in fp16": ("fp16", lambda a, b: in_order(a, b, np.float16)),
    "fp16 summed in bf16": ("fp16", lambda a, b: in_order(a, b, numpy_type("bfloat16"))),
    "bf16 summed in bf16": ("bf16", lambda a, b: in_order(a, b, numpy_type("bfloat16"))),
    "tf32 as bf16": ("tf32", lambda a, b: in_order(bfloat16(a), bfloat16(b), np.float32)),
    "int8 summed in 16 bits": ("int8", lambda a, b: in_order(a, b, np.int16)),
}


@pytest.mark.parametrize("cheaper", CHEAPER)
@pytest.mark.parametrize("k", [64, 1000, 20_000])
def test_cheaper_arithmetic_than_claimed_is_caught(cheaper: str, k: int) -> None:
    precision, multiply = CHEAPER[cheaper]
    case = case_of(12, 11, k, False, True, precision)
    operands = filled_operands(case, k, exact=False)
    with np.errstate(over="ignore", invalid="ignore"):
        write(operands, multiply(*inputs(case, operands)))
    check = gemm.check(case, operands, exact=False)
    assert not check.ok
    assert check.reason


@pytest.mark.parametrize("k", [64, 1000, 20_000])
@pytest.mark.parametrize("truncated", [False, True])
def test_tf32_products_are_accepted_as_tf32(k: int, truncated: bool) -> None:
    case = case_of(12, 11, k, False, True, "tf32")
    operands = filled_operands(case, k, exact=False)
    a, b = inputs(case, operands)
    if truncated:
        kept = ~np.uint32((1 << 13) - 1)
        a, b = ((matrix.view(np.uint32) & kept).view(np.float32) for matrix in (a, b))
    else:
        a, b = tf32(a), tf32(b)
    write(operands, in_order(a, b, np.float32))
    check = gemm.check(case, operands, exact=False)
    assert check.ok, check.reason


def transpose_a(case: Case, operands: dict[str, Array]) -> None:
    problem = problem_of(case)
    other = case_of(problem.m, problem.n, problem.k, not problem.a_transposed, problem.b_transposed, "fp32")
    write(operands, in_order(*inputs(other, operands), np.float64))


def transpose_b(case: Case, operands: dict[str, Array]) -> None:
    problem = problem_of(case)
    other = case_of(problem.m, problem.n, problem.k, problem.a_transposed, not problem.b_transposed, "fp32")
    write(operands, in_order(*inputs(other, operands), np.float64))


def transpose_c(case: Case, operands: dict[str, Array]) -> None:
    operands["c"][:] = operands["c"].reshape(problem_of(case).n, problem_of(case).m).ravel(order="F")


def leave_one_out(_: Case, operands: dict[str, Array]) -> None:
    poison(operands["c"][3:4])


def leave_all_out(_: Case, operands: dict[str, Array]) -> None:
    poison(operands["c"])


def zero(_: Case, operands: dict[str, Array]) -> None:
    operands["c"][:] = 0


def forget_a_term(case: Case, operands: dict[str, Array]) -> None:
    a, b = inputs(case, operands)
    write(operands, in_order(a[:, :-1], b[:-1], np.float64))


def add_to_what_was_there(_: Case, operands: dict[str, Array]) -> None:
    operands["c"][:] = operands["c"] + operands["c"]


def spoil_one(case: Case, operands: dict[str, Array]) -> None:
    operands["c"][5] = operands["c"][5] + operands["c"].dtype.type(max(1, problem_of(case).k // 10))


@pytest.mark.parametrize(
    "fault",
    [
        transpose_a,
        transpose_b,
        transpose_c,
        leave_one_out,
        leave_all_out,
        zero,
        forget_a_term,
        add_to_what_was_there,
        spoil_one,
    ],
)
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_wrong_results_are_caught(
    fault: Callable[[Case, dict[str, Array]], None], exact: bool, precision: str
) -> None:
    for a_t, b_t in ((False, False), (False, True), (True, False), (True, True)):
        # Of 70 terms one is less than what sums in 11 bits may lose.
        case = case_of(17, 19, 20 if precision == "fp16_acc16" else 70, a_t, b_t, precision)
        operands = filled_operands(case, 5, exact)
        assert honest(case, operands).ok
        assert gemm.check(case, operands, exact).ok
        fault(case, operands)
        check = gemm.check(case, operands, exact)
        assert not check.ok
        assert check.wrong_elements >= 1
        assert check.tolerance == 0 or not exact


def test_the_check_leaves_the_operands_alone_and_the_fill_the_output() -> None:
    case = case_of(5, 6, 7, True, False, "bf16")
    operands = filled_operands(case, 1, exact=False)
    assert np.isnan(operands["c"].astype(np.float32)).all()
    before = {name: array.tobytes() for name, array in operands.items()}
    gemm.check(case, operands, exact=False)
    assert before == {name: array.tobytes() for name, array in operands.items()}


def processor_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    return set(text.split())


FLAGS = processor_flags()
# Precisions that a library may refuse here; it must do every other one.
MAY_REFUSE = {
    "openblas": {"bf16", "fp16", "int8", "tf32", "fp16_acc16", "fp8_e4m3", "fp8_e5m2"},
    "onednn": {"fp64", "tf32", "fp16_acc16", "fp8_e4m3", "fp8_e5m2"}
    | (set() if "avx512bw" in FLAGS else {"bf16"})
    | (set() if "avx512_fp16" in FLAGS else {"fp16"}),
}
# oneDNN documents that its int8 products saturate in 16 bits on x86 processors without these instructions.
INT8_IS_EXACT = platform.machine() != "x86_64" or bool(FLAGS & {"avx512_vnni", "avx_vnni", "amx_int8"})


def openblas_path() -> str:
    import scipy_openblas32

    return str(Path(scipy_openblas32.get_lib_dir()) / f"lib{scipy_openblas32.get_library()}.so")


def extension(library: str) -> Any:
    if library == "openblas":
        return importlib.import_module("microbench._cpu")
    return pytest.importorskip("microbench._onednn", reason="the oneDNN module was not built")


def request_for(module: Any, library: str, case: Case, threads: int, algorithm: str = "auto") -> Any:
    problem = problem_of(case)
    return module.Request(
        kernel="gemm",
        library=library,
        library_path=openblas_path() if library == "openblas" else "",
        algorithm=algorithm,
        precision=case.precision.name,
        problem=dataclasses.asdict(problem) | {"pass": "forward", "layout": "column_major"},
        threads=threads,
        workspace_limit=2**40,
    )


def execute(session: Any, case: Case, rng: np.random.Generator, exact: bool) -> Check:
    operands = {name: session.memory(name) for name in ("a", "b", "c")}
    poison(operands["c"].view(numpy_type(case.precision.output)))
    gemm.fill(case, operands, rng, exact)
    session.prepare()
    assert not gemm.check(case, operands, exact).ok  # nothing is right before it was computed
    session.measure(1)
    return gemm.check(case, operands, exact)


@pytest.mark.parametrize("library", MAY_REFUSE)
@given(
    m=st.integers(1, 70),
    n=st.integers(1, 70),
    k=st.integers(1, 130),
    a_t=st.booleans(),
    b_t=st.booleans(),
    precision=precisions,
    batch=st.integers(1, 3),
    threads=st.integers(1, 2),
    seed=seeds,
)
@example(m=1, n=1, k=1, a_t=False, b_t=False, precision="fp32", batch=1, threads=1, seed=0)
@example(m=129, n=257, k=1511, a_t=True, b_t=False, precision="fp32", batch=1, threads=2, seed=0)
@example(m=129, n=257, k=1511, a_t=False, b_t=True, precision="fp16_in_fp32_math", batch=1, threads=2, seed=0)
@example(m=129, n=257, k=1511, a_t=True, b_t=True, precision="fp64", batch=1, threads=2, seed=0)
@example(m=257, n=33, k=1511, a_t=False, b_t=False, precision="int8", batch=1, threads=2, seed=0)
@example(m=257, n=33, k=1511, a_t=False, b_t=False, precision="bf16", batch=1, threads=2, seed=0)
@example(m=512, n=1, k=3000, a_t=True, b_t=False, precision="fp32", batch=1, threads=2, seed=0)
@settings(deadline=None, max_examples=60)
def test_libraries_multiply(
    library: str,
    m: int,
    n: int,
    k: int,
    a_t: bool,
    b_t: bool,
    precision: str,
    batch: int,
    threads: int,
    seed: int,
) -> None:
    module = extension(library)
    assume(precision != "int8" or INT8_IS_EXACT)
    case = case_of(m, n, k, a_t, b_t, precision, batch)
    try:
        session = module.Session(request_for(module, library, case, threads))
    except module.Unsupported:
        if precision not in MAY_REFUSE[library]:
            raise
        return
    assert {name: tuple(facts) for name, facts in session.operands.items()} == {
        "a": (case.precision.inputs[0], False),
        "b": (case.precision.inputs[1], False),
        "c": (case.precision.output, True),
    }
    rng = np.random.default_rng(seed)
    # Twice each: what a library keeps of old inputs would show in the second execution.
    for exact in (False, True, False, True):
        check = execute(session, case, rng, exact)
        assert check.ok, check.reason
        assert check.tolerance == 0 or not (exact or precision == "int8")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_algorithm_multiplies(precision: str) -> None:
    module = extension("onednn")
    case = case_of(37, 41, 65, False, True, precision)
    if precision == "int8" and not INT8_IS_EXACT:
        pytest.skip("int8 products saturate on this processor")
    try:
        names = module.algorithms(request_for(module, "onednn", case, 2))
    except module.Unsupported:
        if precision not in MAY_REFUSE["onednn"]:
            raise
        return
    assert names
    for name in names:
        session = module.Session(request_for(module, "onednn", case, 2, name))
        for exact in (False, True):
            check = execute(session, case, np.random.default_rng(0), exact)
            assert check.ok, f"{name}: {check.reason}"
