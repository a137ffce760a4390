"""cuDNN's recurrent layers on a device: every cell, pass, precision and algorithm against float64."""

from __future__ import annotations

import pytest
from on_device import BASIC, NEEDS_A_DEVICE, algorithms, verdicts, verified

from microbench.kernels import rnn
from microbench.kernels.rnn import RnnProblem
from microbench.problem import PRECISIONS, Case

pytestmark = NEEDS_A_DEVICE

LAYERS = {
    "one": {"hidden_size": 128, "batch_size": 16, "time_steps": 12},
    "stack": {
        "hidden_size": 64, "batch_size": 5, "time_steps": 7, "input_size": 40, "layers": 2, "bidirectional": True,
    },
}  # fmt: skip


@pytest.mark.parametrize("mode", ["graph", "cold"])
@pytest.mark.parametrize("pass_", ["forward", "backward"])
def test_an_lstm_in_a_mode(pass_: str, mode: str) -> None:
    case = Case(RnnProblem("lstm", **LAYERS["one"]), PRECISIONS["fp16"], pass_, "tnc", "standard")
    assert verified("cudnn", case, mode) == ""


@pytest.mark.parametrize("pass_", rnn.PASSES)
@pytest.mark.parametrize("cell", ["vanilla", "vanilla_tanh", "lstm", "gru"])
@pytest.mark.parametrize("sizes", LAYERS)
@pytest.mark.parametrize("precision", ["fp16", "fp32", "bf16", "tf32"])
def test_every_recurrent_layer(precision: str, sizes: str, cell: str, pass_: str) -> None:
    case = Case(RnnProblem(cell, **LAYERS[sizes]), PRECISIONS[precision], pass_, "tnc")
    found = verdicts("cudnn", case, ("auto", *algorithms("cudnn", case)))
    assert not found.wrong, "\n".join(found.wrong)
    if precision in BASIC:
        assert "standard" in found.ran
    elif not found.ran:
        pytest.skip(f"this device and cuDNN have no {precision} {cell}")
