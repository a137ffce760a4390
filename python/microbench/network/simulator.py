"""Steps every message of an all-reduce, all ranks at once, with or without noise.

A rank's state is the time up to which it is busy. In a round a sender works for o (its processor), holds the message
until it has left, and the message arrives L + G m after o; a receiver that is there works for o and gamma m.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from microbench.errors import InputError
from microbench.network.algorithms import MAX_RANKS, Rings, Round, messages, possible
from microbench.network.machine import Machine
from microbench.network.noise import Detours, NoiseProfile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Index = NDArray[np.intp]

LONGEST_RING = 2**14
"""Rings of more ranks are not stepped to the end; see `_quiet_rings` and `_long_rings`."""
_WINDOW = 4096
_WINDOW_ROUNDS = 2**15
_BLOCK = 512
_STRIDE = 64
_CACHED = 2**15  # ranks whose state stays in a processor's cache


@dataclass(frozen=True)
class Prediction:
    """Time in seconds from the common start to the last rank's end.

    ``low_s`` and ``high_s`` bound it where a long ring with noise was not stepped to its end; else all are equal.
    """

    time_s: float
    low_s: float
    high_s: float


@dataclass(frozen=True)
class _Costs:
    """What a message costs, one value for all ranks or one for each: to the sender, on the wire, to the receiver."""

    send: float | Floats
    hold: float | Floats
    wire: float | Floats
    receive: float | Floats

    def arrays(self) -> tuple[float | Floats, ...]:
        """All four."""
        return self.send, self.hold, self.wire, self.receive

    def of(self, part: tuple[Index | slice, ...]) -> _Costs:
        """Those of some ranks."""
        return _Costs(*(value[part] if isinstance(value, np.ndarray) else value for value in self.arrays()))


def simulate(
    machine: Machine,
    algorithm: str,
    ranks: int,
    nbytes: float,
    noise: NoiseProfile | None = None,
    seed: int = 0,
) -> Prediction:
    """Predicts one all-reduce of ``nbytes`` bytes on ``ranks`` ranks that all start at once.

    Raises:
        InputError: ranks or bytes that cannot be, or `hierarchical` on nodes that would not all be full.
    """
    if not 1 <= ranks <= MAX_RANKS:
        raise InputError(f"{ranks} ranks: the simulator takes 1 to {MAX_RANKS}")
    if not nbytes >= 0:
        raise InputError(f"{nbytes} bytes: a message has at least 0")
    if not possible(algorithm, ranks, machine.ranks_per_node):
        raise InputError(
            f"{algorithm} on {ranks} ranks, {machine.ranks_per_node} a node: there are no two levels; take several "
            "full nodes of several ranks, for a torus no prime"
        )
    rng = np.random.default_rng([seed, ranks])
    run = _Run(machine, np.zeros(ranks), Detours(noise, ranks, rng) if noise else None)
    for step in messages(algorithm, ranks, nbytes, machine.ranks_per_node):
        if isinstance(step, Round):
            run.round(step)
        else:
            run.rings(step)
    time = float(run.time.max())
    return Prediction(time, time - run.below, time + run.above)


class _Run:
    """The state of one simulation.

    Attributes:
        time: of every rank, up to which it is busy.
        below, above: how far the true end may lie from the latest of these, in seconds.
    """

    def __init__(self, machine: Machine, time: Floats, detours: Detours | None) -> None:
        self.machine = machine
        self.time = time
        self.detours = detours
        self.below = self.above = 0.0

    def round(self, step: Round) -> None:
        """One round of messages between any ranks."""
        costs = self._costs(step.senders, step.receivers, step.nbytes, step.reduced)
        sent = self._worked(self.time[step.senders], costs.send, step.senders)
        arrival = sent + costs.wire
        self.time[step.senders] = sent + costs.hold
        ready = np.maximum(self.time[step.receivers], arrival)
        self.time[step.receivers] = self._worked(ready, costs.receive, step.receivers)

    def rings(self, step: Rings) -> None:
        """All rounds of a phase on rings."""
        members = step.members
        costs = self._costs(members, np.roll(members, -1, axis=1), step.nbytes, step.reduced)
        if self.detours is None:
            self.time[members] = _quiet_rings(
                self.time[members], costs, step.count, self.machine.ranks_per_node
            )
        elif members.shape[1] > LONGEST_RING:
            self._long_rings(members, costs, step.count)
        else:
            chunk = max(1, _CACHED // members.shape[1])
            for first in range(0, members.shape[0], chunk):
                rows = slice(first, first + chunk)
                part = members[rows]
                detours = self.detours.part(part.ravel())
                self.time[part] = _step_rings(self.time[part], costs.of((rows,)), step.count, detours)
                self.detours.put(part.ravel(), detours)

    def _worked(self, ready: Floats, work: float | Floats, ranks: Index) -> Floats:
        if self.detours is None:
            return ready + work
        return self.detours.worked(ready, work, ranks)

    def _costs(self, senders: Index, receivers: Index, nbytes: float, reduced: float) -> _Costs:
        machine = self.machine
        adding = machine.reduce_s_per_byte * reduced
        outer = machine.between.link(nbytes)
        if machine.inside is None:
            return _Costs(
                outer.overhead_s, outer.held_s(nbytes), outer.wire_s(nbytes), outer.overhead_s + adding
            )
        inner = machine.inside.link(nbytes)
        k = machine.ranks_per_node
        leaves = senders // k != receivers // k
        share = int(np.bincount((senders // k)[leaves]).max(initial=1))

        def either(between: float, within: float) -> float | Floats:
            if leaves.all() or not leaves.any():
                return between if leaves.any() else within
            return np.where(leaves, between, within)

        send = either(outer.overhead_s, inner.overhead_s)
        # A ring's receiver is the next rank, so that its costs are those of the message before its own.
        shifted = isinstance(send, np.ndarray) and send.ndim == 2
        return _Costs(
            send,
            either(outer.held_s(nbytes, share), inner.held_s(nbytes)),
            either(outer.wire_s(nbytes, share), inner.wire_s(nbytes)),
            (np.roll(send, 1, axis=1) if shifted else send) + adding,
        )

    def _long_rings(self, members: Index, costs: _Costs, count: int) -> None:
        """A phase on rings too long to be stepped to the end: see `_long_rings`. All leave it together."""
        assert self.detours is not None
        begin = self.time[members].max()
        width = _WINDOW - _WINDOW % self.machine.ranks_per_node
        detours = self.detours.part(members.ravel())
        growth = _long_rings(members.shape, width, costs, count, detours)
        self.time[members] = begin + growth.time_s
        self.below += growth.time_s - growth.low_s
        self.above += growth.high_s - growth.time_s


def _step_rings(time: Floats, costs: _Costs, count: int, detours: Detours | None) -> Floats:
    """``count`` rounds on rings, one a row, with detours of the ranks in the order of ``time.ravel()``."""
    shape = time.shape
    arrival = np.empty(shape)
    zero_send = not np.any(costs.send)
    for _ in range(count):
        sent = time
        if detours is None:
            sent = time + costs.send
        elif not zero_send:
            sent = detours.worked(time.ravel(), _flat(costs.send)).reshape(shape)
        leaving = sent + costs.wire
        arrival[:, 1:] = leaving[:, :-1]
        arrival[:, 0] = leaving[:, -1]
        ready = np.maximum(sent + costs.hold, arrival)
        if detours is None:
            time = ready + costs.receive
        else:
            time = detours.worked(ready.ravel(), _flat(costs.receive)).reshape(shape)
    return time


def _flat(value: float | Floats) -> float | Floats:
    return value.ravel() if isinstance(value, np.ndarray) else value


def _quiet_rings(time: Floats, costs: _Costs, count: int, per_node: int) -> Floats:
    """The same without noise, exact, in much less time.

    Rings that start alike stay alike, and so do ranks of a ring that lie a whole number of nodes apart. What is left
    is a linear system in the (max, +) algebra: once all its ranks have grown by the same in as many rounds as it has
    ranks, they grow so for ever (Baccelli, Cohen, Olsder, Quadrat, Synchronization and Linearity, 1992, section 3.7).

    Raises:
        InputError: a long ring on which nothing repeats.
    """
    length = time.shape[1]
    arrays = [value for value in (time, *costs.arrays()) if isinstance(value, np.ndarray)]
    kinds: dict[bytes, int] = {}
    kind = np.array([kinds.setdefault(row.tobytes(), len(kinds)) for row in np.hstack(arrays)])
    first = np.unique(kind, return_index=True)[1]
    repeats = [width for width in (1, per_node) if length % width == 0 and _repeat(arrays, first, width)]
    width = repeats[0] if repeats else length
    if width > LONGEST_RING:
        raise InputError(
            f"a ring of {length} ranks whose last node is not full is too long to simulate: take a multiple of "
            f"{per_node} ranks"
        )
    narrow = costs.of((first, slice(0, width)))
    state = time[first, :width]
    left = count
    while left >= width:
        after = _step_rings(state, narrow, width, None)
        left -= width
        growth = after - state
        state = after
        if (np.ptp(growth, axis=1) <= 1e-12 * growth.max()).all():
            state = state + (left // width) * growth
            left %= width
    state = _step_rings(state, narrow, left, None)
    return np.asarray(np.tile(state, length // width)[kind])


def _repeat(arrays: list[Floats], rows: Index, width: int) -> bool:
    """Whether those rows of all arrays are the same ``width`` columns over and over."""
    return all((each[rows, width:] == each[rows, :-width]).all() for each in arrays)


def _long_rings(
    shape: tuple[int, ...], width: int, costs: _Costs, count: int, detours: Detours
) -> Prediction:
    """How long ``count`` noisy rounds on long rings take, from windows of ``width`` ranks.

    With s rounds done, the latest rank is the longest of all paths through (rank, round) that stay or go on to the
    next rank: directed last-passage percolation, whose length grows as v s with a v that neither the size of the
    ring nor the start changes (Kingman's subadditive ergodic theorem), up to terms of lower order. v is measured on
    a ring of ``width`` ranks in the second half of at most `_WINDOW_ROUNDS` rounds.

    The bounds follow from monotony: starting later never ends earlier. Above: a barrier of all ranks after every
    `_BLOCK` rounds, of which one block is stepped on the whole ring. Below: only paths through the latest rank of
    each block count. Both are widened by three standard errors of what was stepped.
    """
    blocks = min(count, _WINDOW_ROUNDS) // _BLOCK
    window = costs.of((slice(0, 1), slice(0, width)))

    free = np.zeros((1, width))
    own = Detours(detours.profile, width, detours.rng)
    ends = []
    for block in range(blocks):
        free = _step_along(free, window, own, block)
        ends.append(float(free.mean()))
    speed, error = _mean(np.diff(ends)[blocks // 2 :] / _BLOCK)

    alone = np.zeros((1, width))
    own = Detours(detours.profile, width, detours.rng)
    ends = [0.0]
    for block in range(blocks):
        alone = _step_along(alone, window, own, block)
        ends.append(float(alone.max()))
        alone[alone < ends[-1]] = -np.inf
    slowest, its_error = _mean(np.diff(ends) / _BLOCK)

    together = float(_step_rings(np.zeros(shape), costs, _BLOCK, detours).max()) / _BLOCK
    return Prediction(
        float(free.max()) + speed * (count - blocks * _BLOCK),
        min(slowest - 3 * its_error, speed - 3 * error) * count,
        max(together, speed + 3 * error) * count,
    )


def _step_along(time: Floats, costs: _Costs, detours: Detours, block: int) -> Floats:
    """The rounds of one block on a window that goes along the ring with the messages, one rank a round.

    The rank that it leaves behind becomes the one ahead, with detours of its own: on a long ring a message does not
    meet the same rank again.
    """
    for first in range(block * _BLOCK, (block + 1) * _BLOCK, _STRIDE):
        time = _step_rings(time, costs, _STRIDE, detours)
        left = np.arange(first, first + _STRIDE) % time.shape[1]
        now = time[0, left]
        detours.renew(left, np.where(np.isfinite(now), now, time.max()))
    return time


def _mean(values: Floats) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1)) / values.size**0.5
