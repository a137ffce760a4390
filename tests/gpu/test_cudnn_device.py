"""cuDNN's convolutions on a device: algorithms of both interfaces, passes, layouts and precisions against float64."""

from __future__ import annotations

import pytest
from on_device import (
    BASIC,
    CONV_PRECISIONS,
    CONVOLUTIONS,
    NEEDS_A_DEVICE,
    Verdicts,
    algorithms,
    some,
    verdicts,
    verified,
)

from microbench.kernels import conv
from microbench.problem import PRECISIONS, Case

pytestmark = NEEDS_A_DEVICE


def may_add_in_16_bits(case: Case, name: str) -> bool:
    """Whether cuDNN may add up 16-bit gradients by atomics in 16 bits, without saying so.

    Its nondeterministic engine for these is noted reduced_precision_reduction; the classic interface has no such notes.
    What these give is judged when they are measured, and a wrong result is theirs, no fault of our code.
    """
    atomic = {"backward_data": ("algo_0",), "backward_weights": ("algo_0", "algo_3")}
    return case.precision.name in ("fp16", "bf16") and name in atomic.get(case.pass_, ())


def right(case: Case, names: list[str]) -> Verdicts:
    """The verdicts, of which none may be bad."""
    found = verdicts("cudnn", case, ("auto", *(name for name in names if not may_add_in_16_bits(case, name))))
    assert not found.wrong, "\n".join(found.wrong)
    return found


@pytest.mark.parametrize("mode", ["graph", "cold"])
def test_a_convolution_in_a_mode(mode: str) -> None:
    case = Case(CONVOLUTIONS["3x3"], PRECISIONS["fp16"], "forward", "nhwc")
    assert verified("cudnn", case, mode) == ""


@pytest.mark.parametrize("problem", CONVOLUTIONS)
@pytest.mark.parametrize("layout", conv.LAYOUTS)
@pytest.mark.parametrize("pass_", conv.PASSES)
@pytest.mark.parametrize("precision", CONV_PRECISIONS)
def test_every_convolution_of_cudnn(precision: str, pass_: str, layout: str, problem: str) -> None:
    case = Case(CONVOLUTIONS[problem], PRECISIONS[precision], pass_, layout)
    found = right(case, some(algorithms("cudnn", case)))
    # cuDNN may have nothing in nhwc that multiplies in fp32 itself.
    if precision in BASIC and (precision, layout) != ("fp32", "nhwc"):
        assert "auto" in found.ran, found.refused["auto"]
        assert any(not name.startswith("engine_") for name in found.ran if name != "auto")
    elif not found.ran:
        pytest.skip(f"this device and cuDNN have no {precision} {pass_} in {layout}")


@pytest.mark.parametrize("pass_", conv.PASSES)
@pytest.mark.parametrize(("precision", "layout"), [("fp16", "nhwc"), ("fp32", "nchw")])
def test_all_algorithms_of_cudnn(precision: str, layout: str, pass_: str) -> None:
    case = Case(CONVOLUTIONS["3x3"], PRECISIONS[precision], pass_, layout)
    right(case, algorithms("cudnn", case))
