"""cuDNN and our own lowering on a device: every algorithm, pass, layout and precision against float64."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from microbench import extensions, kernels
from microbench.backends import cuda
from microbench.kernels import conv, rnn
from microbench.kernels.conv import ConvProblem
from microbench.kernels.rnn import RnnProblem
from microbench.problem import PRECISIONS, Case, Problem
from microbench.verification import numpy_type

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(cuda.missing()), reason=cuda.missing() or "-")]

NO_LIMIT = 2**63 - 1
# For Winograd, for FFT, with stride and dilation, in groups, depthwise, and 1x1.
CONVOLUTIONS = {
    "3x3": ConvProblem(
        w=28, h=20, c=32, n=3, k=48, filter_w=3, filter_h=3, pad_w=1, pad_h=1, stride_w=1, stride_h=1
    ),
    "5x5": ConvProblem(
        w=17, h=30, c=8, n=2, k=16, filter_w=5, filter_h=5, pad_w=2, pad_h=2, stride_w=1, stride_h=1
    ),
    "strided": ConvProblem(
        w=31, h=29, c=16, n=2, k=24, filter_w=3, filter_h=2, pad_w=2, pad_h=0, stride_w=2, stride_h=3,
        dilation_w=2,
    ),
    "grouped": ConvProblem(
        w=14, h=14, c=32, n=2, k=64, filter_w=3, filter_h=3, pad_w=1, pad_h=1, stride_w=1, stride_h=1, groups=4
    ),
    "depthwise": ConvProblem(
        w=14, h=14, c=32, n=2, k=32, filter_w=3, filter_h=3, pad_w=1, pad_h=1, stride_w=1, stride_h=1, groups=32
    ),
    "1x1": ConvProblem(
        w=14, h=14, c=64, n=4, k=32, filter_w=1, filter_h=1, pad_w=0, pad_h=0, stride_w=1, stride_h=1
    ),
}  # fmt: skip
LAYERS = {
    "one": {"hidden_size": 128, "batch_size": 16, "time_steps": 12},
    "stack": {
        "hidden_size": 64, "batch_size": 5, "time_steps": 7, "input_size": 40, "layers": 2, "bidirectional": True,
    },
}  # fmt: skip
# What cuDNN and cuBLASLt must do on every device that is supported: refusing it would be our mistake.
BASIC = ("fp32", "fp16")


def request(library: str, case: Case) -> tuple[Any, Any]:
    found = cuda.LIBRARIES[library]
    if reason := cuda.library_status(library).missing:
        pytest.skip(reason)
    module: Any = extensions.load(found.module)
    return module, module.Request(
        kernel=case.problem.kernel,
        library=library,
        library_path=found.path(),
        algorithm=case.algorithm,
        precision=case.precision.name,
        problem={**dataclasses.asdict(case.problem), "pass": case.pass_, "layout": case.layout},
        threads=1,
        workspace_limit=NO_LIMIT,
    )


def verified(library: str, case: Case) -> str:
    """ "" where the result is right, else what is wrong. Raises the module's Unsupported."""
    module, asked = request(library, case)
    session = module.Session(asked)
    case = dataclasses.replace(case, implementation=session.implementation)
    kernel = kernels.kernel(case.problem.kernel)
    for exact in (False, True) if kernel.exact(case) else (False,):
        operands = {}
        for name, (element_type, is_output) in session.operands.items():
            operands[name] = session.memory(name).view(numpy_type(element_type))
            if is_output:
                session.memory(name)[:] = 0xAA if operands[name].dtype.kind in "iu" else 0xFF
        kernel.fill(case, operands, np.random.default_rng(1), exact)
        session.prepare()
        session.measure(1)
        session.collect()
        check = kernel.check(case, operands, exact)
        if not check.ok:
            return f"{case.algorithm} ({session.implementation}): {check.reason}"
    return ""


def all_verified(library: str, problem: Problem, precision: str, pass_: str, layout: str) -> list[str]:
    """Verifies every algorithm; returns those that ran."""
    case = Case(problem, PRECISIONS[precision], pass_, layout)
    module, asked = request(library, case)
    ran, wrong = [], []
    try:
        names = module.algorithms(asked)
    except module.Unsupported:
        names = []
    for name in ["auto", *names]:
        try:
            fault = verified(library, dataclasses.replace(case, algorithm=name))
        except module.Unsupported:
            continue
        ran.append(name)
        if fault:
            wrong.append(fault)
    assert not wrong, "\n".join(wrong)
    return ran


@pytest.mark.parametrize("precision", ["fp64", "fp32", "tf32", "fp16", "bf16", "int8"])
@pytest.mark.parametrize("layout", conv.LAYOUTS)
@pytest.mark.parametrize("pass_", conv.PASSES)
@pytest.mark.parametrize("problem", CONVOLUTIONS)
def test_every_convolution_of_cudnn(problem: str, pass_: str, layout: str, precision: str) -> None:
    ran = all_verified("cudnn", CONVOLUTIONS[problem], precision, pass_, layout)
    if precision in BASIC:
        assert "auto" in ran
        assert any(not name.startswith("engine_") for name in ran if name != "auto")
    elif not ran:
        pytest.skip(f"this device and cuDNN have no {precision} {pass_} in {layout}")


@pytest.mark.parametrize("precision", ["fp64", "fp32", "tf32", "fp16", "bf16", "int8"])
@pytest.mark.parametrize("layout", conv.LAYOUTS)
@pytest.mark.parametrize("pass_", conv.PASSES)
@pytest.mark.parametrize("problem", CONVOLUTIONS)
def test_im2col_does_every_convolution(problem: str, pass_: str, layout: str, precision: str) -> None:
    ran = all_verified("microbench", CONVOLUTIONS[problem], precision, pass_, layout)
    if precision in (*BASIC, "fp64"):
        assert ran == ["auto", "im2col"]
    elif not ran:
        pytest.skip(f"this device and cuBLASLt have no {precision} {pass_} in {layout}")


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
@pytest.mark.parametrize("pass_", rnn.PASSES)
@pytest.mark.parametrize("cell", ["vanilla", "vanilla_tanh", "lstm", "gru"])
@pytest.mark.parametrize("sizes", LAYERS)
def test_every_recurrent_layer(sizes: str, cell: str, pass_: str, precision: str) -> None:
    ran = all_verified("cudnn", RnnProblem(cell, **LAYERS[sizes]), precision, pass_, "tnc")
    if precision in BASIC:
        assert "standard" in ran
    elif not ran:
        pytest.skip(f"this device and cuDNN have no {precision} {cell}")
