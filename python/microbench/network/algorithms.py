"""The all-reduce algorithms: closed forms of their cost, and every message that they send.

Both are needed: the closed form is what is fitted and what the docs explain, the messages are what is simulated.
p ranks hold n bytes each; where p is no power of two, recursive doubling and Rabenseifner's algorithm first fold
the ranks beyond the largest power of two into their neighbours, and hand them the result at the end.

Source: Thakur, Rabenseifner, Gropp, Optimization of Collective Communication Operations in MPICH, IJHPCA 19 (2005);
Rabenseifner, Optimization of Collective Reduction Operations, ICCS 2004; for the ring Patarasuk & Yuan, JPDC 69
(2009); for the torus Jain & Sabharwal, ICS 2010, of which this is the form with one dimension after the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from microbench.network.machine import Machine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Index = NDArray[np.intp]

MAX_RANKS = 2**20


class Leg(NamedTuple):
    """Messages that follow one another on the critical path.

    ``nbytes`` are sent and ``reduced`` bytes added to the receiver's own in each of ``rounds`` messages; ``inside``
    ones stay in a node; ``share`` ranks of a node send to others at the same time.
    """

    rounds: int
    nbytes: float
    reduced: float
    inside: bool = False
    share: int = 1


def _ring(p: int, n: float, _: int) -> list[Leg]:
    return [Leg(p - 1, n / p, n / p), Leg(p - 1, n / p, 0)]


def _recursive_doubling(p: int, n: float, _: int) -> list[Leg]:
    power = p.bit_length() - 1
    return [*_folded(p, n), Leg(power, n, n)]


def _folded(p: int, n: float) -> list[Leg]:
    return [Leg(1, n, n), Leg(1, n, 0)] if p & (p - 1) else []


def _rabenseifner(p: int, n: float, _: int) -> list[Leg]:
    parts = [n / 2**step for step in range(1, p.bit_length())]
    return [*_folded(p, n), *(Leg(1, part, part) for part in parts), *(Leg(1, part, 0) for part in parts)]


def _tree(p: int, n: float, _: int) -> list[Leg]:
    depth = (p - 1).bit_length()
    return [Leg(depth, n, n), Leg(depth, n, 0)]


def _torus_2d(p: int, n: float, _: int) -> list[Leg]:
    rows, columns = torus_shape(p)
    row = [Leg(columns - 1, n / columns, n / columns), Leg(columns - 1, n / columns, 0)]
    return [*row, *_ring(rows, n / columns, 1)]


def _hierarchical(p: int, n: float, per_node: int) -> list[Leg]:
    inner = [leg._replace(inside=True) for leg in _ring(per_node, n, 1)]
    return [*inner, *(leg._replace(share=per_node) for leg in _ring(p // per_node, n / per_node, 1))]


_LEGS: dict[str, Callable[[int, float, int], list[Leg]]] = {
    "ring": _ring,
    "recursive_doubling": _recursive_doubling,
    "rabenseifner": _rabenseifner,
    "tree": _tree,
    "torus_2d": _torus_2d,
    "hierarchical": _hierarchical,
}
ALGORITHMS = tuple(_LEGS)


def torus_shape(p: int) -> tuple[int, int]:
    """Rows and columns of the most nearly square torus of p ranks, rows <= columns; one row for a prime."""
    rows = next(rows for rows in range(math.isqrt(p), 0, -1) if p % rows == 0)
    return rows, p // rows


def possible(algorithm: str, p: int, per_node: int) -> bool:
    """Whether p ranks can do it: two levels need two rows, and several full nodes of several ranks."""
    if algorithm == "torus_2d":
        return torus_shape(p)[0] > 1
    return algorithm != "hierarchical" or (1 < per_node < p and p % per_node == 0)


def legs(algorithm: str, p: int, n: float, per_node: int = 1) -> list[Leg]:
    """The critical path of an all-reduce of ``n`` bytes on ``p`` ranks, the order of its legs left open.

    Exact for the algorithms made of rings, and for all where p is a power of two; otherwise an upper bound, because
    messages of ranks that need not wait for the others arrive early.
    """
    return [leg for leg in _LEGS[algorithm](p, n, per_node) if leg.rounds]


def closed_form_s(machine: Machine, algorithm: str, p: int, n: float) -> float:
    """Time of an all-reduce without noise, in seconds.

    Raises:
        ValueError: a machine of two levels and an algorithm that does not tell them apart: only `simulate` knows.
    """
    if machine.inside and algorithm != "hierarchical":
        raise ValueError(f"{algorithm} on a machine of two levels has no closed form here; simulate it")
    total = 0.0
    for leg in legs(algorithm, p, n, machine.ranks_per_node):
        inside = machine.inside if leg.inside else None
        link = (inside or machine.between).link(leg.nbytes)
        wire = link.wire_s(leg.nbytes, leg.share if machine.inside and not leg.inside else 1)
        total += leg.rounds * (2 * link.overhead_s + wire + machine.reduce_s_per_byte * leg.reduced)
    return total


@dataclass(frozen=True)
class Round:
    """Messages sent at the same time: ``senders[i]`` sends to ``receivers[i]``; no rank twice on one side."""

    senders: Index
    receivers: Index
    nbytes: float
    reduced: float


@dataclass(frozen=True)
class Rings:
    """``count`` rounds on rings: in each, ``members[i, j]`` sends to ``members[i, j + 1]``, the last to the first."""

    members: Index
    nbytes: float
    reduced: float
    count: int


Step = Round | Rings


def messages(algorithm: str, p: int, n: float, per_node: int = 1) -> Iterator[Step]:
    """Every message of an all-reduce of ``n`` bytes on ``p`` ranks, round by round."""
    return _MESSAGES[algorithm](np.arange(p), n, per_node)


def _ring_messages(ranks: Index, n: float, _: int) -> Iterator[Step]:
    yield from _on_rings(ranks[None, :], n)


def _on_rings(members: Index, n: float, inner: Iterable[Step] = ()) -> Iterator[Step]:
    """Reduce-scatter on rings, what is to be done with the parts, allgather."""
    p = members.shape[1]
    if p > 1:
        yield Rings(members, n / p, n / p, p - 1)
    yield from inner
    if p > 1:
        yield Rings(members, n / p, 0, p - 1)


def _with_fold(ranks: Index, n: float, inner: Callable[[Index, float], Iterator[Step]]) -> Iterator[Step]:
    """``inner`` on a power of two of ranks; the even ones of the first 2 r are folded into the odd ones."""
    power = 1 << (ranks.size.bit_length() - 1)
    extra = 2 * (ranks.size - power)
    idle, active = ranks[0:extra:2], np.concatenate([ranks[1:extra:2], ranks[extra:]])
    if idle.size:
        yield Round(idle, active[: idle.size], n, n)
    yield from inner(active, n)
    if idle.size:
        yield Round(active[: idle.size], idle, n, 0)


def _recursive_doubling_messages(ranks: Index, n: float, _: int) -> Iterator[Step]:
    yield from _with_fold(ranks, n, _doubling)


def _doubling(active: Index, n: float) -> Iterator[Step]:
    places = np.arange(active.size)
    distance = 1
    while distance < active.size:
        yield Round(active[places ^ distance], active, n, n)
        distance *= 2


def _rabenseifner_messages(ranks: Index, n: float, _: int) -> Iterator[Step]:
    yield from _with_fold(ranks, n, _halving_and_doubling)


def _halving_and_doubling(active: Index, n: float) -> Iterator[Step]:
    places = np.arange(active.size)
    steps = range(active.size.bit_length() - 1)
    for step in steps:
        part = n / 2 ** (step + 1)
        yield Round(active[places ^ (active.size >> (step + 1))], active, part, part)
    for step in reversed(steps):
        yield Round(active[places ^ (active.size >> (step + 1))], active, n / 2 ** (step + 1), 0)


def _tree_messages(ranks: Index, n: float, _: int) -> Iterator[Step]:
    rounds = []
    distance = 1
    while distance < ranks.size:
        upper = ranks[distance :: 2 * distance]
        rounds.append(Round(upper, upper - distance, n, n))
        distance *= 2
    yield from rounds
    for each in reversed(rounds):
        yield Round(each.receivers, each.senders, n, 0)


def _torus_2d_messages(ranks: Index, n: float, _: int) -> Iterator[Step]:
    grid = ranks.reshape(torus_shape(ranks.size))
    yield from _on_rings(grid, n, _on_rings(grid.T, n / grid.shape[1]))


def _hierarchical_messages(ranks: Index, n: float, per_node: int) -> Iterator[Step]:
    nodes = ranks.reshape(-1, per_node)
    yield from _on_rings(nodes, n, _on_rings(nodes.T, n / per_node))


_MESSAGES: dict[str, Callable[[Index, float, int], Iterator[Step]]] = {
    "ring": _ring_messages,
    "recursive_doubling": _recursive_doubling_messages,
    "rabenseifner": _rabenseifner_messages,
    "tree": _tree_messages,
    "torus_2d": _torus_2d_messages,
    "hierarchical": _hierarchical_messages,
}
