"""Our own lowering on a device: every convolution, pass, layout and precision against float64."""

from __future__ import annotations

import pytest
from on_device import BASIC, CONV_PRECISIONS, CONVOLUTIONS, NEEDS_A_DEVICE, verdicts

from microbench.kernels import conv
from microbench.problem import PRECISIONS, Case

pytestmark = NEEDS_A_DEVICE


@pytest.mark.parametrize("problem", CONVOLUTIONS)
@pytest.mark.parametrize("layout", conv.LAYOUTS)
@pytest.mark.parametrize("pass_", conv.PASSES)
@pytest.mark.parametrize("precision", CONV_PRECISIONS)
def test_im2col_does_every_convolution(precision: str, pass_: str, layout: str, problem: str) -> None:
    case = Case(CONVOLUTIONS[problem], PRECISIONS[precision], pass_, layout)
    found = verdicts("microbench", case, ("auto", "im2col"))
    assert not found.wrong, "\n".join(found.wrong)
    if precision in (*BASIC, "fp64"):
        assert not found.refused
    elif not found.ran:
        pytest.skip(f"this device and cuBLASLt have no {precision} {pass_} in {layout}")
