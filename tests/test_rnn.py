"""Recurrent layers: the reference held against the cells' equations and finite differences, then oneDNN against it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from microbench.errors import InputError
from microbench.kernels import rnn, rnn_reference
from microbench.kernels.rnn import GATES, OUTPUTS, PASSES, RnnProblem
from microbench.kernels.rnn_reference import EXACT, Weights, stack_backward, stack_forward
from microbench.problem import PRECISIONS, Case
from microbench.tables import load_problems
from microbench.verification import Check, numpy_type

Array = NDArray[Any]

CELLS = sorted(GATES)
cells = st.sampled_from(CELLS)
seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 4)


# ---------------------------------------------------------------------------------------------- the problem


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"cell": "rnn"}, "must be one of vanilla"),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"layers": 0}, "layers is 0"),
        ({"input_size": -1}, "input_size is -1"),
    ],
)
def test_bad_sizes_are_refused(change: dict[str, Any], says: str) -> None:
    good: dict[str, Any] = {"cell": "lstm", "hidden_size": 2, "batch_size": 2, "time_steps": 2}
    RnnProblem(**good)
    with pytest.raises(InputError, match=says):
        RnnProblem(**(good | change))


def test_deepbench_loads_and_its_count_is_the_recurrent_one() -> None:
    rows = load_problems("rnn", "deepbench")
    assert len(rows) == 125
    for row in rows:
        problem = row.problem
        assert isinstance(problem, RnnProblem)
        per_state = {"vanilla": 2, "lstm": 8, "gru": 6}[problem.cell]
        steps = problem.time_steps * problem.batch_size
        assert problem.recurrent_flops() == per_state * steps * problem.hidden_size**2
        assert problem.flops() == 2 * problem.recurrent_flops()
        for precision in PRECISIONS.values():
            assert problem.bytes(precision) > 0


def test_flops_count_both_products_of_every_layer_and_direction() -> None:
    problem = RnnProblem("gru", 5, 3, 7, input_size=11, layers=2, bidirectional=True)
    per_row = 3 * 5 * ((11 + 5) + (2 * 5 + 5))
    assert problem.flops() == 2 * 2 * 7 * 3 * per_row
    for pass_, factor in (("forward", 1), ("forward_training", 1), ("backward", 2)):
        assert rnn.flops_of(Case(problem, PRECISIONS["fp32"], pass_)) == factor * problem.flops()


def test_bytes_count_every_operand_once() -> None:
    problem = RnnProblem("lstm", 2, 3, 5, input_size=7)
    data = 5 * 3 * 7 + 3 * 2 + 5 * 3 * 2 + 3 * 2  # x h0 y hn
    weights = 4 * 2 * (7 + 2)
    plain = 2 * 3 * 2 + 4 * 2  # c0 cn bias
    assert problem.bytes(PRECISIONS["fp32"]) == 4 * (data + weights + plain)
    assert problem.bytes(PRECISIONS["bf16"]) == 2 * (data + weights) + 4 * plain
    assert problem.bytes(PRECISIONS["int8"]) == (data + weights) + 4 * plain
    backward = Case(problem, PRECISIONS["fp32"], "backward")
    inputs = 5 * 3 * 7 + 2 * 3 * 2 + weights + 4 * 2
    assert rnn.bytes_of(backward) == 4 * (2 * inputs + 5 * 3 * 2 + 2 * 3 * 2)


# -------------------------------------------------------------------------------------------- the reference


@dataclasses.dataclass
class Stack:
    cell: str
    weights: list[list[Weights]]
    x: Array
    h0: Array
    c0: Array


def random_stack(
    rng: np.random.Generator,
    cell: str,
    hidden: int,
    batch: int,
    steps: int,
    width: int,
    layers: int,
    directions: int,
) -> Stack:
    gates = len(GATES[cell])

    def one(reads: int) -> Weights:
        return Weights(
            rng.normal(size=(reads, gates, hidden)),
            rng.normal(size=(hidden, gates, hidden)),
            rng.normal(size=(gates + (cell == "gru"), hidden)),
        )

    weights = [
        [one(width if layer == 0 else directions * hidden) for _ in range(directions)]
        for layer in range(layers)
    ]
    state = (layers, directions, batch, hidden)
    x = rng.normal(size=(steps, batch, width))
    return Stack(cell, weights, x, rng.normal(size=state), rng.normal(size=state))


stacks = st.builds(
    random_stack,
    st.builds(np.random.default_rng, seeds),
    cells,
    sizes,
    sizes,
    sizes,
    sizes,
    st.integers(1, 3),
    st.integers(1, 2),
)


def sigmoid(a: float) -> float:
    return float(1 / (1 + np.exp(-a)))


def step(cell: str, w: Weights, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """One step of one sequence, unit by unit, from the equations of docs/recurrent.md."""
    new_h, new_c = np.empty_like(h), np.empty_like(c)

    def product(matrix: Array, gate: int, unit: int, values: Array) -> float:
        return float(sum(matrix[index, gate, unit] * value for index, value in enumerate(values)))

    def linear(gate: int, unit: int) -> float:
        return (
            product(w.input, gate, unit, x) + product(w.recurrent, gate, unit, h) + float(w.bias[gate, unit])
        )

    for j in range(len(h)):
        if cell == "vanilla":
            new_h[j] = max(linear(0, j), 0.0)
        elif cell == "vanilla_tanh":
            new_h[j] = np.tanh(linear(0, j))
        elif cell == "lstm":
            i, f, o = (sigmoid(linear(gate, j)) for gate in (0, 1, 3))
            new_c[j] = f * c[j] + i * np.tanh(linear(2, j))
            new_h[j] = o * np.tanh(new_c[j])
        else:
            u = sigmoid(linear(0, j))
            from_input = product(w.input, 2, j, x) + float(w.bias[2, j])
            if cell == "gru":
                r = sigmoid(linear(1, j))
                candidate = np.tanh(from_input + r * (product(w.recurrent, 2, j, h) + float(w.bias[3, j])))
            else:
                reset = np.array([sigmoid(linear(1, unit)) for unit in range(len(h))])
                candidate = np.tanh(from_input + product(w.recurrent, 2, j, reset * h))
            new_h[j] = u * h[j] + (1 - u) * candidate
    return new_h, new_c


@given(stack=stacks)
@settings(deadline=None, max_examples=60)
def test_forward_follows_the_equations(stack: Stack) -> None:
    run = stack_forward(stack.cell, stack.weights, stack.x, stack.h0, stack.c0, EXACT)
    steps, batch, _ = stack.x.shape
    sequence = stack.x
    for layer, directions in enumerate(stack.weights):
        outputs = []
        for d, w in enumerate(directions):
            out = np.empty((steps, batch, w.recurrent.shape[0]))
            for n in range(batch):
                h, c = stack.h0[layer, d, n], stack.c0[layer, d, n]
                for t in range(steps) if d == 0 else reversed(range(steps)):
                    h, c = step(stack.cell, w, sequence[t, n], h, c)
                    out[t, n] = h
                np.testing.assert_allclose(run.hn[layer, d, n], h, rtol=1e-9, atol=1e-12)
                if stack.cell == "lstm":
                    np.testing.assert_allclose(run.cn[layer, d, n], c, rtol=1e-9, atol=1e-12)
            outputs.append(out)
        sequence = np.concatenate(outputs, axis=2)
    np.testing.assert_allclose(run.y, sequence, rtol=1e-9, atol=1e-12)


@given(stack=stacks, ahead_bytes=st.integers(0, 2000))
@settings(deadline=None, max_examples=60)
def test_a_forward_that_keeps_no_trace_gives_the_same(stack: Stack, ahead_bytes: int) -> None:
    arguments = (stack.cell, stack.weights, stack.x, stack.h0, stack.c0, EXACT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rnn_reference, "_AHEAD_BYTES", ahead_bytes)
        kept, run = (stack_forward(*arguments, keep=keep) for keep in (True, False))
    whole = stack_forward(*arguments)
    assert run.traces == []
    for name in ("y", "hn", "cn"):
        np.testing.assert_allclose(getattr(run, name), getattr(whole, name), rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(getattr(kept, name), getattr(whole, name), rtol=1e-12, atol=1e-15)


@given(stack=stacks, seed=seeds)
@settings(deadline=None, max_examples=60)
def test_backward_is_the_derivative_of_forward(stack: Stack, seed: int) -> None:
    """Along a random direction in all inputs at once: central differences against the gradients' product with it."""
    rng = np.random.default_rng(seed)
    lstm = stack.cell == "lstm"
    run = stack_forward(stack.cell, stack.weights, stack.x, stack.h0, stack.c0, EXACT)
    dy, dhn, dcn = (rng.normal(size=values.shape) for values in (run.y, run.hn, stack.c0))

    def moved(by: float, direction: Stack) -> Stack:
        weights = [
            [
                Weights(w.input + by * v.input, w.recurrent + by * v.recurrent, w.bias + by * v.bias)
                for w, v in zip(ws, vs, strict=True)
            ]
            for ws, vs in zip(stack.weights, direction.weights, strict=True)
        ]
        return Stack(
            stack.cell,
            weights,
            stack.x + by * direction.x,
            stack.h0 + by * direction.h0,
            stack.c0 + by * direction.c0,
        )

    def loss(by: float, direction: Stack) -> float:
        at = moved(by, direction)
        out = stack_forward(at.cell, at.weights, at.x, at.h0, at.c0, EXACT)
        total = np.sum(out.y * dy) + np.sum(out.hn * dhn)
        return float(total + np.sum(out.cn * dcn) if lstm else total)

    hidden, layers, directions = stack.h0.shape[3], len(stack.weights), len(stack.weights[0])
    steps, batch, width = stack.x.shape
    direction = random_stack(rng, stack.cell, hidden, batch, steps, width, layers, directions)
    dx, gradients = stack_backward(stack.cell, stack.weights, run.traces, dy, dhn, dcn, EXACT)
    products = [np.sum(dx * direction.x)]
    for layer, of_layer in enumerate(gradients):
        for d, g in enumerate(of_layer):
            v = direction.weights[layer][d]
            pairs = [
                (g.input, v.input),
                (g.recurrent, v.recurrent),
                (g.bias, v.bias),
                (g.h0, direction.h0[layer, d]),
            ]
            if lstm:
                pairs.append((g.c0, direction.c0[layer, d]))
            products += [np.sum(a * b) for a, b in pairs]
    derivative = float(np.sum(products))
    size = float(np.sum(np.abs(products)))
    slopes = [(loss(by, direction) - loss(-by, direction)) / (2 * by) for by in (1e-4, 1e-6)]
    if stack.cell == "vanilla" and abs(slopes[0] - slopes[1]) > 1e-6 * (1 + size):
        return  # a kink of ReLU lies between: no derivative to compare with
    assert min(abs(slope - derivative) for slope in slopes) <= 1e-5 * (1 + size)


# ------------------------------------------------------------------------------------------------- oneDNN

_onednn = pytest.importorskip("microbench._onednn", reason="the package is built without oneDNN")

PRECISIONS_TRIED = ("fp32", "bf16", "int8", "fp16_in_fp32_math")
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"input_size": 11, "layers": 2, "bidirectional": True},
    {"input_size": 40, "layers": 3},
    {"layers": 2},
)


def quantisable(cell: str, pass_: str) -> bool:
    """What oneDNN has in int8."""
    return cell in ("lstm", "gru_original") and pass_ == "forward"


class Run:
    """A session whose operands are poisoned, filled and prepared."""

    def __init__(
        self, problem: RnnProblem, precision: str, pass_: str, seed: int = 0, **request: Any
    ) -> None:
        asked = {"algorithm": "auto", "workspace_limit": 2**62, "threads": 2} | request
        self.session = _onednn.Session(request_for(problem, precision, pass_, **asked))
        self.case = Case(problem, PRECISIONS[precision], pass_)
        self.operands: dict[str, Array] = {}
        for name, (element_type, is_output) in self.session.operands.items():
            memory = self.session.memory(name)
            assert is_output == (name in OUTPUTS[pass_])
            assert element_type == rnn.element_type(name, self.case.precision)
            self.operands[name] = memory.view(numpy_type(element_type))
            memory[:] = 0xFF
        self.fill(seed)
        self.session.prepare()

    def fill(self, seed: int) -> None:
        rnn.fill(self.case, self.operands, np.random.default_rng(seed), False)

    def launch(self, times: int = 1) -> Run:
        self.session.measure(times)
        return self

    def check(self) -> Check:
        return rnn.check(self.case, self.operands, False)


def request_for(problem: RnnProblem, precision: str, pass_: str, **asked: Any) -> Any:
    return _onednn.Request(
        kernel="rnn",
        library="onednn",
        library_path="",
        precision=precision,
        problem={**dataclasses.asdict(problem), "pass": pass_, "layout": "tnc"},
        **asked,
    )


def run_or_skip(problem: RnnProblem, precision: str, pass_: str, **request: Any) -> Run:
    """Skips what this processor lacks; int8's combinations that no processor has are tested apart."""
    try:
        return Run(problem, precision, pass_, **request)
    except _onednn.Unsupported as error:
        if precision == "fp32":
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("precision", PRECISIONS_TRIED)
@pytest.mark.parametrize("pass_", PASSES)
@pytest.mark.parametrize("cell", CELLS)
def test_every_combination_is_right(cell: str, pass_: str, precision: str, variant: dict[str, Any]) -> None:
    problem = RnnProblem(cell, 33, 5, 9, **variant)
    if precision == "int8" and not quantisable(cell, pass_):
        with pytest.raises(_onednn.Unsupported, match=f"no int8 {cell} {pass_}"):
            Run(problem, precision, pass_)
        return
    run = run_or_skip(problem, precision, pass_)
    assert set(run.operands) == set(problem.shapes(pass_))
    check = run.launch(2).check()  # twice: gradients must not add up
    assert check.ok, check.reason
    assert check.elements == sum(run.operands[name].size for name in OUTPUTS[pass_] & set(run.operands))


@given(
    cell=cells,
    pass_=st.sampled_from(PASSES),
    precision=st.sampled_from(PRECISIONS_TRIED),
    hidden=st.integers(1, 70),
    batch=st.integers(1, 9),
    steps=st.integers(1, 12),
    width=st.integers(0, 70),
    layers=st.integers(1, 3),
    bidirectional=st.booleans(),
    seed=seeds,
)
@settings(deadline=None, max_examples=80)
def test_any_shape_is_right(
    cell: str,
    pass_: str,
    precision: str,
    hidden: int,
    batch: int,
    steps: int,
    width: int,
    layers: int,
    bidirectional: bool,
    seed: int,
) -> None:
    problem = RnnProblem(cell, hidden, batch, steps, width, layers, bidirectional)
    try:
        run = Run(problem, precision, pass_, seed)
    except _onednn.Unsupported:
        assert precision in ("bf16", "int8", "fp16_in_fp32_math")
        return
    check = run.launch().check()
    assert check.ok, check.reason


@pytest.mark.parametrize(
    ("problem", "pass_"),
    [
        (RnnProblem("vanilla", 256, 1, 30), "forward"),
        (RnnProblem("lstm", 256, 16, 25), "backward"),
        (RnnProblem("gru", 512, 2, 25), "forward"),
    ],
    ids=str,
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_sizes_like_deepbenchs_are_right(problem: RnnProblem, pass_: str, precision: str) -> None:
    check = run_or_skip(problem, precision, pass_).launch().check()
    assert check.ok, check.reason


def swap_gates(run: Run) -> None:
    problem = run.case.problem
    assert isinstance(problem, RnnProblem)
    weights = run.operands["w_input"].reshape(-1, problem.gates, problem.hidden_size)
    weights[:, [0, 1]] = weights[:, [1, 0]]


def forget_bias(run: Run) -> None:
    run.operands["bias"][:] = 0


def reverse_time(run: Run) -> None:
    problem = run.case.problem
    assert isinstance(problem, RnnProblem)
    x = run.operands["x"].reshape(problem.shapes("forward")["x"])
    x[:] = x[::-1].copy()


def forget_initial_state(run: Run) -> None:
    run.operands["h0"][:] = -128 if run.operands["h0"].dtype == np.int8 else 0


def transpose_recurrent_weights(run: Run) -> None:
    problem = run.case.problem
    assert isinstance(problem, RnnProblem)
    shape = (problem.hidden_size, problem.gates, problem.hidden_size)
    weights = run.operands["w_recurrent"].reshape(shape)
    weights[:] = weights.transpose(2, 1, 0).copy()


@pytest.mark.parametrize(
    "mutate", [swap_gates, forget_bias, reverse_time, forget_initial_state, transpose_recurrent_weights]
)
@pytest.mark.parametrize("precision", PRECISIONS_TRIED)
@pytest.mark.parametrize("pass_", PASSES)
@pytest.mark.parametrize("cell", CELLS)
def test_a_kernel_that_computes_something_else_is_found(
    cell: str, pass_: str, precision: str, mutate: Callable[[Run], None]
) -> None:
    """The reference is given the inputs that such a kernel would have used in effect."""
    if precision == "int8" and not quantisable(cell, pass_):
        return
    if mutate is swap_gates and cell.startswith("vanilla"):
        return
    run = run_or_skip(RnnProblem(cell, 33, 5, 9), precision, pass_).launch()
    assert run.check().ok
    mutate(run)
    check = run.check()
    assert not check.ok
    assert check.reason


@pytest.mark.parametrize("precision", PRECISIONS_TRIED)
@pytest.mark.parametrize("pass_", PASSES)
def test_one_bad_element_in_any_output_is_found(pass_: str, precision: str) -> None:
    if precision == "int8" and pass_ != "forward":
        return
    run = run_or_skip(RnnProblem("lstm", 33, 5, 9, layers=2), precision, pass_).launch()
    for name in OUTPUTS[pass_]:
        output = run.operands[name]
        kept = output.copy()
        if output.dtype == np.int8:
            output.view(np.uint8)[7] ^= 0x10
        else:
            output[7] = np.nan
        assert not run.check().ok, name
        output[:] = kept
        if output.dtype == np.int8:
            output.view(np.uint8)[7] ^= 0x80  # half of the range away
        else:
            output[7] = 0.5 * float(np.abs(kept).max()) + 2 * float(kept[7])
        assert not run.check().ok, name
        output[:] = kept
    assert run.check().ok


@pytest.mark.parametrize("cell", CELLS)
def test_backward_consumes_what_the_training_forward_saved(cell: str) -> None:
    run = Run(RnnProblem(cell, 33, 5, 9, layers=2), "fp32", "backward").launch()
    assert run.check().ok
    run.fill(seed=1)
    assert not run.launch().check().ok  # what was saved belongs to the old inputs
    run.session.prepare()
    assert run.launch().check().ok


def test_training_keeps_more_than_inference_and_the_limit_is_held() -> None:
    problem = RnnProblem("lstm", 33, 5, 9, input_size=12, layers=2, bidirectional=True)
    needed = {pass_: Run(problem, "fp32", pass_).session.workspace_bytes for pass_ in PASSES}
    assert 0 < needed["forward"] < needed["forward_training"] <= needed["backward"]
    for pass_, limit in needed.items():
        assert Run(problem, "fp32", pass_, workspace_limit=limit).launch().check().ok
        with pytest.raises(_onednn.WorkspaceExceeded, match=f"needs {limit} bytes"):
            Run(problem, "fp32", pass_, workspace_limit=limit - 1)


@pytest.mark.parametrize("precision", PRECISIONS_TRIED)
@pytest.mark.parametrize("pass_", PASSES)
def test_algorithms_are_those_that_open(pass_: str, precision: str) -> None:
    problem = RnnProblem("gru_original", 16, 4, 3)
    chosen = run_or_skip(problem, precision, pass_).session.implementation
    request = request_for(problem, precision, pass_, algorithm="auto", threads=1, workspace_limit=2**62)
    names = _onednn.algorithms(request)
    assert chosen.endswith(names[0])
    for name in names:
        assert Run(problem, precision, pass_, algorithm=name).launch().check().ok
    with pytest.raises(_onednn.Unsupported, match="no implementation 'fastest'"):
        Run(problem, precision, pass_, algorithm="fastest")


def test_precisions_that_onednn_lacks_say_so() -> None:
    with pytest.raises(_onednn.Unsupported, match="no fp64 recurrent layers"):
        Run(RnnProblem("lstm", 4, 2, 3), "fp64", "forward")
