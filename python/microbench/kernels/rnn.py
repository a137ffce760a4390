"""Recurrent layers: vanilla, LSTM and GRU, forward and backward over all time steps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from microbench.errors import InputError
from microbench.filling import fill_random
from microbench.kernels.rnn_reference import EXACT, Roundings, Weights, stack_backward, stack_forward
from microbench.problem import ITEM_BYTES, Case, Precision
from microbench.verification import Check, Comparison, array_module, decoded, unit_roundoff

if TYPE_CHECKING:
    from numpy.random import Generator

    from microbench.problem import Operands

Array = NDArray[Any]

# Gates of each cell, in the order in which their weights lie in memory.
GATES = {
    "vanilla": ("h",),
    "vanilla_tanh": ("h",),
    "lstm": ("i", "f", "g", "o"),
    "gru": ("u", "r", "o"),
    "gru_original": ("u", "r", "o"),
}
PASSES = ("forward", "forward_training", "backward")
LAYOUTS = ("tnc",)

_FORWARD_OUTPUTS = frozenset({"y", "hn", "cn"})
OUTPUTS = {
    "forward": _FORWARD_OUTPUTS,
    "forward_training": _FORWARD_OUTPUTS,
    "backward": frozenset({"dx", "dh0", "dc0", "dw_input", "dw_recurrent", "dbias"}),
}
_SUMMED_OVER_BATCH = ("dw_input", "dw_recurrent", "dbias")
# The axes along which errors are alike: all of a step's, else one unit's; each bias stands for itself. The gradients
# at the steps where the final states' come in are larger than elsewhere.
_LIKE_AXES: dict[str, tuple[int, ...]] = {"y": (1, 2), "dx": (1, 2), "dbias": ()}
# What int8 quantises, q = 127 value + 128 in unsigned bytes.
_DATA = ("x", "h0", "y", "hn")
_QUANTUM = 1 / 127

_RELU_DAMPING = 1 / 8
# Standard deviations that an element may be off.
_DEVIATIONS = 12.0
_FP16_SPACING = 2.0**-24  # of numbers below fp16's normal range
# How many state elements, and at most how many runs, tell the size of rounding errors.
_ERRORS_SEEN = 1024
_ROWS_SEEN = 16
_MAX_RUNS = 16
_BLOCK_BYTES = 2 << 30


@dataclass(frozen=True)
class RnnProblem:
    """A stack of recurrent layers over a sequence: y = rnn(x), x of shape (time_steps, batch_size, input_size).

    ``cell``: "vanilla" (ReLU, cuDNN's CUDNN_RNN_RELU), "vanilla_tanh", "lstm", "gru" (linear before reset: cuDNN's
    form) or "gru_original" (Cho et al. 2014: reset before linear). ``input_size`` 0 stands for the hidden size.
    In a bidirectional stack the second and later layers read both directions of the one before.
    Raises InputError for an unknown cell and for sizes below 1.
    """

    kernel: ClassVar[str] = "rnn"

    cell: str
    hidden_size: int
    batch_size: int
    time_steps: int
    input_size: int = 0
    layers: int = 1
    bidirectional: bool = False

    def __post_init__(self) -> None:
        if self.cell not in GATES:
            raise InputError(f"cell is '{self.cell}'; it must be one of {', '.join(GATES)}")
        for name in ("hidden_size", "batch_size", "time_steps", "layers"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.input_size < 0:
            raise InputError(
                f"input_size is {self.input_size}; it must be at least 1, or 0 for the hidden size"
            )

    @property
    def gates(self) -> int:
        return len(GATES[self.cell])

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    def width(self, layer: int) -> int:
        """Features that ``layer`` reads at each step."""
        return (self.input_size or self.hidden_size) if layer == 0 else self.directions * self.hidden_size

    def input_flops(self) -> int:
        """Multiply-adds, counted as two, of the products with the layers' inputs."""
        widths = sum(self.width(layer) for layer in range(self.layers))
        return 2 * self._gate_values() * widths

    def recurrent_flops(self) -> int:
        """Multiply-adds, counted as two, of the products with the previous state: DeepBench's count."""
        return 2 * self._gate_values() * self.layers * self.hidden_size

    def flops(self) -> int:
        """Both products of one forward execution; biases, activations and gate arithmetic are not counted."""
        return self.input_flops() + self.recurrent_flops()

    def _gate_values(self) -> int:
        return self.time_steps * self.batch_size * self.directions * self.gates * self.hidden_size

    def bytes(self, precision: Precision) -> int:
        """Compulsory traffic of the forward: inputs, states and weights read once, outputs written once."""
        return _traffic(self, precision, "forward")

    def shapes(self, pass_: str) -> dict[str, tuple[int, ...]]:
        """Shapes of a pass's operands in memory order; weights are one-dimensional, layer after layer."""
        steps = (self.time_steps, self.batch_size)
        state = (self.layers, self.directions, self.batch_size, self.hidden_size)
        columns = self.directions * self.gates * self.hidden_size
        biases = self.gates + (self.cell == "gru")
        inputs = {
            "x": (*steps, self.width(0)),
            "h0": state,
            "c0": state,
            "w_input": (columns * sum(self.width(layer) for layer in range(self.layers)),),
            "w_recurrent": (columns * self.layers * self.hidden_size,),
            "bias": (self.layers, self.directions, biases, self.hidden_size),
        }
        outputs = {"y": (*steps, self.directions * self.hidden_size), "hn": state, "cn": state}
        if self.cell != "lstm":
            del inputs["c0"], outputs["cn"]
        if pass_ == "backward":
            return inputs | {f"d{name}": shape for name, shape in (outputs | inputs).items()}
        return inputs | outputs


PROBLEM = RnnProblem


def _problem(case: Case) -> RnnProblem:
    assert isinstance(case.problem, RnnProblem)
    return case.problem


def flops_of(case: Case) -> int:
    """Operations of the case's pass: backward is two forwards, one product for the data, one for the weights."""
    return _problem(case).flops() * (2 if case.pass_ == "backward" else 1)


def counts_of(case: Case) -> dict[str, int]:
    """DeepBench's count: the products with the previous state alone."""
    passes = 2 if case.pass_ == "backward" else 1
    return {"recurrent_flops": _problem(case).recurrent_flops() * passes}


def bytes_of(case: Case) -> int:
    """Compulsory traffic of the case's pass.

    What the forward saved for the backward depends on the library and is not counted.
    """
    return _traffic(_problem(case), case.precision, case.pass_)


def streamed_bytes_of(case: Case) -> int:
    """With the weights read anew at every step; backward does so twice."""
    problem, passes = _problem(case), 2 if case.pass_ == "backward" else 1
    shapes = problem.shapes(case.pass_)
    weights = sum(
        math.prod(shapes[name]) * ITEM_BYTES[element_type(name, case.precision)]
        for name in ("w_input", "w_recurrent")
    )
    return bytes_of(case) + passes * (problem.time_steps - 1) * weights


def _traffic(problem: RnnProblem, precision: Precision, pass_: str) -> int:
    return sum(
        math.prod(shape) * ITEM_BYTES[element_type(name, precision)]
        for name, shape in problem.shapes(pass_).items()
    )


def element_type(operand: str, precision: Precision) -> str:
    """How an operand is stored: beside bf16 and int8, biases, cell states and gradients are float32."""
    if precision.storage in ("bfloat16", "int8") and operand not in (*_DATA, "w_input", "w_recurrent"):
        return "float32"
    return precision.storage


def weights_scale(problem: RnnProblem, layer: int) -> float:
    """int8: what a weight of 1 is in the signed bytes of w_input and w_recurrent of one layer."""
    return 127 * math.sqrt(max(problem.width(layer), problem.hidden_size))


def exact(case: Case) -> bool:
    """Never: activation functions round."""
    del case
    return False


def fill(case: Case, operands: Operands, rng: Generator, exact: bool) -> None:
    """Writes inputs uniform on +-[0.25, 1], weights divided by the root of the number that a unit reads.

    So neither states nor gradients grow with the time steps. ReLU's derivative jumps at 0, where rounding would
    decide which way it goes: for "vanilla" weights are smaller still and biases +-[1.25, 2], so that each unit
    keeps its side.
    """
    del exact
    problem, quantised = _problem(case), case.precision.storage == "int8"
    relu = problem.cell == "vanilla"
    for name in problem.shapes(case.pass_):
        if name in OUTPUTS[case.pass_]:
            continue
        values = operands[name]
        if not quantised and name.startswith("w_"):
            for layer, weights in _weight_parts(problem, name, values):
                width = problem.width(layer) if name == "w_input" else problem.hidden_size
                fill_random(weights, rng, (_RELU_DAMPING if relu else 1.0) / math.sqrt(width))
            continue
        fill_random(values, rng)
        if quantised and name in _DATA:
            values.view(np.uint8)[:] ^= 0x80  # adds the shift of 128
        if relu and name == "bias":
            np.add(values, np.copysign(values.dtype.type(1), values), out=values)


def check(case: Case, operands: Operands, exact: bool) -> Check:
    """Compares every output with float64, batch rows in blocks.

    The scale of an element is the standard deviation of rounding errors in its part of the operand (one layer and
    direction of states and weights), as random roundings in the reference show it, in units of the roundoff of
    stored states; the tolerance is a number of such deviations. See docs/recurrent.md.
    """
    del exact
    problem, outputs = _problem(case), OUTPUTS[case.pass_]
    roundoff = _state_roundoff(case.precision)
    tolerance = _DEVIATIONS * roundoff
    fp16 = case.precision.storage == "float16"
    types = {name: _type_in_memory(case, name, operands[name]) for name in problem.shapes(case.pass_)}
    operands = {name: decoded(operands[name], type_) for name, type_ in types.items()}
    # Cell states and gradients in 16 bits are rounded once more than the reference's.
    others = (outputs & {*types}) - {*_DATA}
    narrow = fp16 or any(ITEM_BYTES[types[name]] == 2 for name in others)
    comparison = Comparison(tolerance, unit_roundoff(case.precision.storage) if narrow else 0.0)
    floor = _FP16_SPACING / 2 / tolerance if fp16 else 0.0
    weights = _weights(case, operands)
    first, first_results, found = _deviations(case, operands, weights)
    scales = {
        name: [deviation / roundoff + floor for deviation in deviations] for name, deviations in found.items()
    }

    def compare(name: str, references: list[Array], rows: slice) -> None:
        parts = _parts(problem, name, operands[name], rows)
        for part, reference, scale in zip(parts, references, scales[name], strict=True):
            xp = array_module(reference)
            comparison.add(_values(case, name, part), reference, xp.broadcast_to(scale, reference.shape))

    totals: dict[str, list[Array]] = {}
    for rows in (first, *_row_blocks(problem, case.pass_ == "backward", first.stop)):
        results = first_results if rows == first else _results(case, operands, weights, rows, EXACT)
        for name, references in results.items():
            if name not in _SUMMED_OVER_BATCH:
                compare(name, references, rows)
            elif name in totals:
                for total, reference in zip(totals[name], references, strict=True):
                    total += reference
            else:
                totals[name] = references
    for name, references in totals.items():
        compare(name, references, slice(None))
    assert {*totals, *scales} == outputs & {*problem.shapes(case.pass_)}
    return comparison.result()


def _type_in_memory(case: Case, name: str, array: Array) -> str:
    """Libraries differ in what they store in float32 beside narrower types."""
    elements = math.prod(_problem(case).shapes(case.pass_)[name])
    storage = case.precision.storage
    return storage if array.nbytes == elements * ITEM_BYTES[storage] else "float32"


def _state_roundoff(precision: Precision) -> float:
    """Largest rounding error of a stored state: relative, or absolute where states are quantised."""
    return unit_roundoff(precision.compute) or _QUANTUM / 2


def _weight_parts(problem: RnnProblem, name: str, array: Array) -> Iterator[tuple[int, Array]]:
    """Each layer and direction of input or recurrent weights or their gradients, (features, gates, hidden)."""
    start = 0
    for layer in range(problem.layers):
        width = problem.width(layer) if name.endswith("w_input") else problem.hidden_size
        for _ in range(problem.directions):
            shape = (width, problem.gates, problem.hidden_size)
            yield layer, array[start : start + math.prod(shape)].reshape(shape)
            start += math.prod(shape)


def _parts(problem: RnnProblem, name: str, array: Array, rows: slice) -> list[Array]:
    """An operand as views: sequences whole, all else by layer and direction; only some rows of the batch."""
    if "w_" in name:
        return [part for _, part in _weight_parts(problem, name, array)]
    plain = name.removeprefix("d")
    shaped = array.reshape(problem.shapes("forward")[plain])
    if plain in ("x", "y"):
        return [shaped[:, rows]]
    parts = [part for layer in shaped for part in layer]
    return parts if plain == "bias" else [part[rows] for part in parts]


def _values(case: Case, name: str, array: Array) -> Array:
    """Data, states, biases and gradients as float64."""
    if case.precision.storage == "int8" and name in _DATA:
        return (array.view(np.uint8).astype(np.float64) - 128) * _QUANTUM
    return array.astype(np.float64)


def _weights(case: Case, operands: Operands) -> list[list[Weights]]:
    problem = _problem(case)
    biases = _parts(problem, "bias", operands["bias"], slice(None))
    quantised = case.precision.storage == "int8"
    stack: list[list[Weights]] = [[] for _ in range(problem.layers)]
    for (layer, w_input), (_, w_recurrent), bias in zip(
        _weight_parts(problem, "w_input", operands["w_input"]),
        _weight_parts(problem, "w_recurrent", operands["w_recurrent"]),
        biases,
        strict=True,
    ):
        scale = weights_scale(problem, layer) if quantised else 1.0
        from_input, from_state, constant = (
            array.astype(np.float64) / divisor
            for array, divisor in ((w_input, scale), (w_recurrent, scale), (bias, 1.0))
        )
        stack[layer].append(Weights(from_input, from_state, constant))
    return stack


def _results(
    case: Case, operands: Operands, weights: list[list[Weights]], rows: slice, rounds: Roundings
) -> dict[str, list[Array]]:
    """The outputs of the reference for some rows of the batch, in the parts that ``_parts`` makes."""
    problem = _problem(case)

    def sequence(name: str) -> Array:
        return _values(case, name, _parts(problem, name, operands[name], rows)[0])

    def states(name: str) -> Array:
        if name not in operands:
            return np.empty(0)
        values = [_values(case, name, part) for part in _parts(problem, name, operands[name], rows)]
        parts: Array = array_module(values[0]).stack(values)
        return parts.reshape(problem.layers, problem.directions, *parts.shape[1:])

    run = stack_forward(
        problem.cell,
        weights,
        sequence("x"),
        states("h0"),
        states("c0"),
        rounds,
        keep=case.pass_ == "backward",
    )
    lstm = problem.cell == "lstm"
    if case.pass_ != "backward":
        results = {"y": [run.y], "hn": [h for layer in run.hn for h in layer]}
        return results | ({"cn": [c for layer in run.cn for c in layer]} if lstm else {})
    dx, gradients = stack_backward(
        problem.cell, weights, run.traces, sequence("dy"), states("dhn"), states("dcn"), rounds
    )
    flat = [gradient for layer in gradients for gradient in layer]
    return {
        "dx": [dx],
        "dh0": [gradient.h0 for gradient in flat],
        "dw_input": [gradient.input for gradient in flat],
        "dw_recurrent": [gradient.recurrent for gradient in flat],
        "dbias": [gradient.bias for gradient in flat],
    } | ({"dc0": [gradient.c0 for gradient in flat]} if lstm else {})


def _deviations(
    case: Case, operands: Operands, weights: list[list[Weights]]
) -> tuple[slice, dict[str, list[Array]], dict[str, list[Array]]]:
    """Some first rows of the batch, their exact results, and each output part's standard deviation of rounding errors.

    The mean square of the errors in the whole part and that of the errors in one unit, or at one step, are added. In
    sums over the batch the part's grows with the batch, the unit's with its square: these may all have one sign.
    """
    problem, precision = _problem(case), case.precision
    enough = min(problem.batch_size, max(_ROWS_SEEN, math.ceil(_ERRORS_SEEN / problem.hidden_size)))
    rows = min(enough, _rows_that_fit(problem, case.pass_ == "backward"))
    # Where memory limits the rows, more runs see as many errors.
    runs = min(_MAX_RUNS, math.ceil(max(enough / rows, _ERRORS_SEEN / (rows * problem.hidden_size))))
    copies = problem.batch_size / rows
    tf32 = precision.compute == "tfloat32"
    unit = unit_roundoff("float32" if tf32 else precision.compute)
    rounds = Roundings(
        rng=np.random.default_rng(0),
        storage=("float32" if tf32 else precision.compute) if unit else "",
        unit=unit,
        quantum=0.0 if unit else _QUANTUM,
        accumulator=unit_roundoff(precision.accumulator) or unit_roundoff("float32"),
        operands=unit_roundoff("tfloat32") if tf32 else 0.0,
        copies=copies,
    )
    first = slice(0, rows)
    exact_results = _results(case, operands, weights, first, EXACT)
    squares: dict[str, list[Array]] = {}
    for _ in range(runs):
        for name, parts in _results(case, operands, weights, first, rounds).items():
            growth = copies if name in _SUMMED_OVER_BATCH else 1.0
            own = [
                _mean_squares(part - true, _LIKE_AXES.get(name, (0,)), growth)
                for part, true in zip(parts, exact_results[name], strict=True)
            ]
            before = squares.get(name)
            squares[name] = own if before is None else [a + b for a, b in zip(before, own, strict=True)]
    deviations = {name: [(total / runs) ** 0.5 for total in totals] for name, totals in squares.items()}
    return first, exact_results, deviations


def _mean_squares(errors: Array, along: tuple[int, ...], growth: float) -> Array:
    """Over the whole part, plus over what is alike."""
    squares = errors**2
    alike = squares.mean(axis=along, keepdims=True) if along else squares
    result: Array = growth * squares.mean() + growth**2 * alike
    return result


def _rows_that_fit(problem: RnnProblem, backward: bool) -> int:
    """Rows of the batch whose float64 intermediates fit into ``_BLOCK_BYTES`` together, at least one."""
    kept = problem.layers * (2 * problem.gates + 4) if backward else 4
    features = problem.directions * kept * problem.hidden_size
    return max(1, _BLOCK_BYTES // (8 * problem.time_steps * (features + 2 * problem.width(0))))


def _row_blocks(problem: RnnProblem, backward: bool, start: int) -> Iterator[slice]:
    """The batch's rows from ``start`` on."""
    rows = _rows_that_fit(problem, backward)
    for begin in range(start, problem.batch_size, rows):
        yield slice(begin, min(begin + rows, problem.batch_size))
