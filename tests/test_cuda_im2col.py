"""Our own lowering on a fake device: index arithmetic, the products asked of a fake cuBLASLt, workspaces."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.fake_cuda import FakeCuda
from microbench.kernels import conv
from microbench.kernels.conv import ConvProblem
from microbench.problem import PRECISIONS, Case
from microbench.verification import numpy_type
from test_conv import problems

NO_LIMIT = 2**63 - 1
SPLIT_BYTES = 2 << 20  # what the fake cuBLASLt's first choice needs
SMALL = ConvProblem(w=7, h=6, c=4, n=5, k=6, filter_w=3, filter_h=2, pad_w=1, pad_h=0, stride_w=2, stride_h=1)


@pytest.fixture(scope="module")
def fake() -> FakeCuda:
    return FakeCuda.built()


def opened(fake: FakeCuda, case: Case, limit: int = NO_LIMIT) -> Any:
    request = fake.module.Request(
        kernel="conv",
        library="microbench",
        library_path=fake.library("cublasLt"),
        algorithm=case.algorithm,
        precision=case.precision.name,
        problem={**dataclasses.asdict(case.problem), "pass": case.pass_, "layout": case.layout},
        threads=1,
        workspace_limit=limit,
    )
    return fake.module.Session(request)


def assert_right(fake: FakeCuda, case: Case, exact: bool, seed: int = 0, limit: int = NO_LIMIT) -> None:
    session = opened(fake, case, limit)
    operands = {}
    for name, (element_type, is_output) in session.operands.items():
        operands[name] = session.memory(name).view(numpy_type(element_type))
        if is_output:
            session.memory(name)[:] = 0xAA if operands[name].dtype.kind == "i" else 0xFF
    conv.fill(case, operands, np.random.default_rng(seed), exact)
    session.prepare()
    session.measure(2)
    session.collect()
    check = conv.check(case, operands, exact)
    assert check.ok, f"{case}: {check.reason}"


def case_of(
    precision: str = "fp32",
    pass_: str = "forward",
    layout: str = "nchw",
    problem: ConvProblem = SMALL,
    algorithm: str = "im2col",
) -> Case:
    return Case(problem, PRECISIONS[precision], pass_, layout, algorithm)


@settings(max_examples=100, deadline=None)
@given(
    problems(largest=7, channels=3),
    st.sampled_from(conv.PASSES),
    st.sampled_from(conv.LAYOUTS),
    st.sampled_from(("fp64", "fp32", "tf32", "fp16", "bf16", "int8")),
    st.booleans(),
    st.integers(0, 99),
)
def test_every_convolution(
    problem: ConvProblem, pass_: str, layout: str, precision: str, exact: bool, seed: int
) -> None:
    if precision == "int8":
        pass_ = "forward"
    case = case_of(precision, pass_, layout, problem)
    assert_right(FakeCuda.built(), case, exact and conv.exact(case), seed)


@pytest.mark.parametrize("layout", conv.LAYOUTS)
@pytest.mark.parametrize("pass_", conv.PASSES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_images_are_lowered_in_parts_where_the_limit_asks_for_it(
    fake: FakeCuda, pass_: str, layout: str, precision: str
) -> None:
    case = case_of(precision, pass_, layout)
    taps, pixels = 4 * 6, SMALL.out_h * SMALL.out_w
    # A gradient of images is lowered, and one of weights summed up, in fp32.
    image = taps * pixels * (2 if precision == "bf16" and pass_ != "backward_data" else 4)
    sums = 6 * taps * 4 if precision == "bf16" and pass_ == "backward_weights" else 0
    whole = opened(fake, case)
    assert whole.implementation == "im2col of 5 images at a time, cublasLt"
    assert whole.workspace_bytes == 5 * image + sums + SPLIT_BYTES
    limit = 2 * image + sums  # the rest of two parts of two, and one of one image
    in_parts = opened(fake, case, limit)
    assert in_parts.workspace_bytes <= limit
    assert_right(fake, case, exact=False, limit=limit)
    assert_right(fake, case, exact=True, limit=limit)
    with pytest.raises(fake.module.WorkspaceExceeded, match=f"needs {image + sums} bytes"):
        opened(fake, case, image + sums - 1)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (case_of("int8", "backward_data"), "int8 is for inference"),
        (case_of("fp16_acc16"), "no fp16_acc16 on the device"),
        (case_of("fp8_e4m3"), "no fp8_e4m3 on the device"),
        (case_of("fp8_e5m2"), "no fp8_e5m2 on the device"),
        (case_of(algorithm="winograd_2x2"), "no convolution algorithm 'winograd_2x2' on this device"),
    ],
)
def test_refusals(fake: FakeCuda, case: Case, reason: str) -> None:
    with pytest.raises(fake.module.Unsupported, match=reason):
        opened(fake, case)
