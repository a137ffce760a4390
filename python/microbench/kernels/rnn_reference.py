"""Recurrent layers in float64, forward and backward, with or without the roundings of a lower precision.

Arrays are NumPy's or CuPy's. Random numbers are always NumPy's, so that both find the same errors.

Every function takes its roundings as an argument: ``EXACT`` makes none, other ``Roundings`` make random ones of
the size that a precision makes, wherever it makes them. The difference of the two runs tells how errors grow through
these very weights, steps and layers (Monte Carlo arithmetic: D. S. Parker, "Monte Carlo Arithmetic", UCLA
CSD-970002, 1997).

Shapes: T steps, N batch, I features read, H hidden, G gates. One direction of one layer has the weights ``input``
(I, G, H), ``recurrent`` (H, G, H) and ``bias`` (G, H), or (G + 1, H) for the linear-before-reset GRU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from microbench.verification import array_module, rounded

Array = NDArray[Any]

_ACTIVATION_ULPS = 4
# Products with the inputs are made for so many steps at once that they take about this much.
_AHEAD_BYTES = 64 << 20


@dataclass(frozen=True)
class Roundings:
    """The errors that a precision makes, and random ones of mean zero as large beside them; none without ``rng``.

    ``storage`` is the element type of stored values, its unit roundoff ``unit``; int8's have a spacing instead,
    ``quantum``. They are really rounded, because a gate that hardly changes is rounded the same way at every step and
    such errors add up. ``accumulator`` is the unit roundoff of sums: partial sums of n products of random sign are a
    random walk below |row| |column|, each rounded once, which gives sqrt(n) accumulator |row| |column| (the sqrt(n) of
    Higham and Mary, SIAM J. Sci. Comput. 41(5), 2019). ``operands`` is the unit roundoff of what products are made of,
    where a multiplier takes less than is stored (TF32). ``copies`` is how many batches like the one computed make up
    the whole.
    """

    rng: Generator | None = None
    storage: str = ""
    unit: float = 0.0
    quantum: float = 0.0
    accumulator: float = 0.0
    operands: float = 0.0
    copies: float = 1.0

    def _with_errors(self, values: Array, size: Array | float) -> Array:
        if self.rng is None:
            return values
        random = self.rng.uniform(-np.sqrt(3), np.sqrt(3), values.shape)
        noisy: Array = values + size * array_module(values).asarray(random)
        return noisy

    def stored(self, values: Array) -> Array:
        """Values as they are in memory in the storage type."""
        if self.storage:
            return self._with_errors(
                rounded(values, self.storage).astype(np.float64), self.unit * abs(values)
            )
        if self.quantum:
            steps = array_module(values).rint(values / self.quantum)
            return self._with_errors(steps * self.quantum, self.quantum / 2)
        return values

    def multiplied(self, values: Array) -> Array:
        """Operands of products as a multiplier takes them."""
        return self._with_errors(values, self.operands * abs(values)) if self.operands else values

    def evaluated(self, values: Array) -> Array:
        """Values of activation functions, which libraries approximate to a few units in the last place."""
        return self._with_errors(values, _ACTIVATION_ULPS * self.accumulator * abs(values))

    def summed(self, values: Array, terms: int, rows: Array, columns: Array, copies: float = 1.0) -> Array:
        """A product of matrices whose rows and columns have these norms, ``terms`` products in each element."""
        if self.rng is None:
            return values
        return self._with_errors(
            values, copies * math.sqrt(terms) * self.accumulator * rows[:, None] * columns
        )

    def summed_over_batch(self, values: Array, terms: int, rows: Array, columns: Array) -> Array:
        """The same for a product that sums over the batch too."""
        return self.summed(values, terms, rows, columns, self.copies)


EXACT = Roundings()


@dataclass(frozen=True)
class Weights:
    """One direction of one layer."""

    input: Array
    recurrent: Array
    bias: Array


@dataclass(frozen=True)
class Gradients:
    """What the backward of one direction of one layer computes; ``c0`` is zero where the cell has no such state."""

    x: Array
    h0: Array
    c0: Array
    input: Array
    recurrent: Array
    bias: Array


@dataclass(frozen=True)
class Trace:
    """What a forward leaves for its backward: states (T + 1, N, H), the first one given; gates (T, N, G, H).

    ``product`` (T, N, H) is what the reset gate multiplies in the linear-before-reset GRU, empty elsewhere. Where no
    backward follows, ``gates`` and ``product`` are empty and ``c`` (1, N, H) has the last state alone.
    """

    x: Array
    h: Array
    c: Array
    gates: Array
    product: Array


def _sigmoid(values: Array) -> Array:
    result: Array = 0.5 * (1 + array_module(values).tanh(0.5 * values))
    return result


def _norms(matrix: Array, axis: int) -> Array:
    xp = array_module(matrix)
    result: Array = xp.sqrt(xp.einsum("ij,ij->i" if axis == 1 else "ij,ij->j", matrix, matrix))
    return result


class _Matrix:
    """A weight matrix that many products use, with the norms of its columns."""

    def __init__(self, values: Array, rounds: Roundings) -> None:
        self._values = rounds.multiplied(values)
        self._columns = _norms(values, 0)
        self._rounds = rounds

    def times(self, left: Array) -> Array:
        """``left`` (rows, terms) times the matrix."""
        product: Array = self._rounds.multiplied(left) @ self._values
        if self._rounds is EXACT:
            return product
        return self._rounds.summed(product, left.shape[1], _norms(left, 1), self._columns)


def forward(
    cell: str, weights: Weights, x: Array, h0: Array, c0: Array, rounds: Roundings, *, keep: bool = True
) -> Trace:
    """One direction of one layer over ``x`` (T, N, I) in the order given; ``keep`` what a backward needs."""
    xp, (steps, batch, width) = array_module(x), x.shape
    hidden, gates, _ = weights.recurrent.shape
    ahead = max(1, _AHEAD_BYTES // (8 * batch * gates * hidden))
    from_input = _Matrix(weights.input.reshape(width, -1), rounds)
    pre = xp.empty((steps if keep else min(ahead, steps), batch, gates, hidden))
    h = xp.empty((steps + 1, batch, hidden))
    c = xp.empty((0 if cell != "lstm" else steps + 1 if keep else 1, batch, hidden))
    product = xp.empty((0 if cell != "gru" else steps if keep else 1, batch, hidden))
    h[0] = h0
    if cell == "lstm":
        c[0] = c0
    split = 2 if cell == "gru_original" else gates  # its candidate waits for the reset gate
    recurrent = _Matrix(weights.recurrent[:, :split].reshape(hidden, -1), rounds)
    candidate = _Matrix(weights.recurrent[:, -1], rounds)
    for t in range(steps):
        if t % ahead == 0:
            inputs = x[t : t + ahead]
            products = from_input.times(inputs.reshape(-1, width)).reshape(-1, batch, gates, hidden)
            pre[t if keep else 0 :][: len(inputs)] = products + weights.bias[:gates]
        a = pre[t if keep else t % ahead]
        from_state = recurrent.times(h[t]).reshape(batch, split, hidden)
        if cell == "lstm":
            a += from_state
            opened = rounds.evaluated(_sigmoid(xp.concatenate((a[:, :2], a[:, 3:]), axis=1)))
            a[:, :2], a[:, 3] = opened[:, :2], opened[:, 2]
            a[:, 2] = rounds.evaluated(xp.tanh(a[:, 2]))
            i, f, g, o = (a[:, gate] for gate in range(4))
            before, after = (t, t + 1) if keep else (0, 0)
            c[after] = rounds.evaluated(f * c[before] + i * g)
            h[t + 1] = rounds.stored(o * xp.tanh(c[after]))
        elif cell in ("gru", "gru_original"):
            a[:, :2] = rounds.evaluated(_sigmoid(a[:, :2] + from_state[:, :2]))
            u, r = a[:, 0], a[:, 1]
            if cell == "gru":
                reset = product[t if keep else 0]
                reset[:] = from_state[:, 2] + weights.bias[3]
                a[:, 2] += r * reset
            else:
                a[:, 2] += candidate.times(rounds.stored(r * h[t]))
            a[:, 2] = rounds.evaluated(xp.tanh(a[:, 2]))
            h[t + 1] = rounds.stored(u * h[t] + (1 - u) * a[:, 2])
        else:
            a += from_state
            a[:] = xp.maximum(a, 0) if cell == "vanilla" else rounds.evaluated(xp.tanh(a))
            h[t + 1] = rounds.stored(a[:, 0])
    if not keep:
        return Trace(x, h, c, xp.empty(0), xp.empty(0))
    return Trace(x, h, c, rounds.stored(pre), rounds.stored(product))


def backward(
    cell: str, weights: Weights, trace: Trace, dy: Array, dhn: Array, dcn: Array, rounds: Roundings
) -> Gradients:
    """Gradients of sum(y dy) + sum(hn dhn) + sum(cn dcn), y the states after each step, in the trace's order."""
    x, h, c, gates = trace.x, trace.h, trace.c, trace.gates
    xp, (steps, batch, count, hidden) = array_module(x), gates.shape
    da = xp.empty_like(gates)  # of the pre-activations
    da_recurrent = xp.empty_like(gates) if cell == "gru" else da  # of the products with the previous state
    reset_state = xp.empty((steps if cell == "gru_original" else 0, batch, hidden))
    split = 2 if cell == "gru_original" else count
    recurrent = _Matrix(weights.recurrent[:, :split].reshape(hidden, -1).T, rounds)
    candidate = _Matrix(weights.recurrent[:, -1].T, rounds)
    dh, dc = dhn, dcn
    for t in reversed(range(steps)):
        dh = dh + dy[t]
        direct: Array | float = 0.0  # what reaches the previous state without a product
        a, d = gates[t], da[t]
        if cell == "lstm":
            i, f, g, o = (a[:, gate] for gate in range(4))
            tanh_c = xp.tanh(c[t + 1])
            dc = dc + dh * o * (1 - tanh_c**2)
            d[:, 0] = dc * g * i * (1 - i)
            d[:, 1] = dc * c[t] * f * (1 - f)
            d[:, 2] = dc * i * (1 - g**2)
            d[:, 3] = dh * tanh_c * o * (1 - o)
            dc = dc * f
        elif cell in ("gru", "gru_original"):
            u, r, n = a[:, 0], a[:, 1], a[:, 2]
            d[:, 0] = dh * (h[t] - n) * u * (1 - u)
            d[:, 2] = rounds.stored(dh * (1 - u) * (1 - n**2))
            if cell == "gru":
                d[:, 1] = d[:, 2] * trace.product[t] * r * (1 - r)
                direct = dh * u
            else:
                reset_state[t] = rounds.stored(r * h[t])
                d_reset = candidate.times(d[:, 2])
                d[:, 1] = d_reset * h[t] * r * (1 - r)
                direct = dh * u + d_reset * r
        else:
            d[:, 0] = dh * ((a[:, 0] > 0) if cell == "vanilla" else 1 - a[:, 0] ** 2)
        d[:] = rounds.stored(d)
        if cell == "gru":
            da_recurrent[t] = d
            da_recurrent[t, :, 2] = rounds.stored(d[:, 2] * r)
        dh = direct + recurrent.times(da_recurrent[t, :, :split].reshape(batch, -1))
    columns = da.reshape(steps * batch, -1)
    dx = _Matrix(weights.input.reshape(x.shape[2], -1).T, rounds).times(columns)
    dw_recurrent = _over_batch(h[:-1], da_recurrent, rounds)
    if cell == "gru_original":
        dw_recurrent[:, 2:] = _over_batch(reset_state, da[:, :, 2:], rounds)
    dbias = _over_batch(xp.ones((steps, batch, 1)), da, rounds)[0]
    if cell == "gru":
        inner = _over_batch(xp.ones((steps, batch, 1)), da_recurrent[:, :, 2:], rounds)[0]
        dbias = xp.concatenate([dbias, inner])
    return Gradients(dx.reshape(x.shape), dh, dc, _over_batch(x, da, rounds), dw_recurrent, dbias)


def _over_batch(left: Array, da: Array, rounds: Roundings) -> Array:
    """``left`` (T, N, I) transposed times ``da`` (T, N, G, H): (I, G, H)."""
    rows = left.reshape(-1, left.shape[2])
    columns = da.reshape(len(rows), -1)
    product = rounds.multiplied(rows.T) @ rounds.multiplied(columns)
    product = rounds.summed_over_batch(product, len(rows), _norms(rows, 0), _norms(columns, 0))
    return product.reshape(left.shape[2], *da.shape[2:])


@dataclass(frozen=True)
class StackForward:
    """``traces[layer][direction]``, none where no backward follows.

    ``y`` (T, N, D H); ``hn`` and ``cn`` (L, D, N, H), ``cn`` empty without cells.
    """

    traces: Sequence[Sequence[Trace]]
    y: Array
    hn: Array
    cn: Array


def stack_forward(
    cell: str,
    weights: Sequence[Sequence[Weights]],
    x: Array,
    h0: Array,
    c0: Array,
    rounds: Roundings,
    *,
    keep: bool = True,
) -> StackForward:
    """All layers; ``weights[layer][direction]``, the second direction runs from the last step to the first.

    ``keep`` the traces for a backward.
    """
    xp = array_module(x)
    traces, hn, cn = [], [], []
    for layer, directions in enumerate(weights):
        runs = []
        for d, w in enumerate(directions):
            cell_state = c0[layer, d] if cell == "lstm" else c0
            runs.append(forward(cell, w, x[:: 1 - 2 * d], h0[layer, d], cell_state, rounds, keep=keep))
        x = xp.concatenate([run.h[1:][:: 1 - 2 * d] for d, run in enumerate(runs)], axis=2)
        hn.append(xp.stack([run.h[-1] for run in runs]))
        if cell == "lstm":
            cn.append(xp.stack([run.c[-1] for run in runs]))
        if keep:
            traces.append(runs)
    return StackForward(traces, x, xp.stack(hn), xp.stack(cn) if cn else xp.empty(0))


def stack_backward(
    cell: str,
    weights: Sequence[Sequence[Weights]],
    traces: Sequence[Sequence[Trace]],
    dy: Array,
    dhn: Array,
    dcn: Array,
    rounds: Roundings,
) -> tuple[Array, list[list[Gradients]]]:
    """The gradient of the stack's input, and ``gradients[layer][direction]``."""
    xp = array_module(dy)
    all_gradients: list[list[Gradients]] = []
    for layer in reversed(range(len(weights))):
        parts = xp.split(dy, len(weights[layer]), axis=2)
        runs = [
            backward(
                cell,
                w,
                traces[layer][d],
                parts[d][:: 1 - 2 * d],
                dhn[layer, d],
                dcn[layer, d] if cell == "lstm" else xp.zeros_like(dhn[layer, d]),
                rounds,
            )
            for d, w in enumerate(weights[layer])
        ]
        dy = reduce(add, (run.x[:: 1 - 2 * d] for d, run in enumerate(runs)))
        all_gradients.insert(0, runs)
    return dy, all_gradients
