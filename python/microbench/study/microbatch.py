"""Micro-batching: a batch divided among several kernels that share one workspace.

Oyama, Ben-Nun, Hoefler and Matsuoka, "Accelerating Deep Learning Frameworks with Micro-batches", IEEE CLUSTER 2018
(mu-cuDNN). The kernels of a division run one after another, so times add up and the workspace is the largest one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

POLICIES = ("undivided", "powerOfTwo", "all")
"""Which micro-batch sizes may be used: the whole batch, powers of two (and the whole batch), every size measured."""


@dataclass(frozen=True)
class Division:
    """A batch as a sequence of micro-batches, the largest first.

    Attributes:
        time_s: sum of the kernels' times, and of their preparations where kernels differ.
        workspace_bytes: the largest of the kernels' workspaces.
        sizes: images of each micro-batch.
        kernels: for each micro-batch the place of its kernel in the sequence given for its size.
    """

    time_s: float
    workspace_bytes: int
    sizes: tuple[int, ...]
    kernels: tuple[int, ...]


Kernels = Mapping[int, Sequence[tuple[float, int]]]
"""For each micro-batch size the kernels that can do it: time in seconds and workspace in bytes of each."""


def allowed(kernels: Kernels, batch: int, policy: str) -> Kernels:
    """The kernels of the sizes that ``policy``, one of `POLICIES`, lets a batch be divided into."""
    if policy not in POLICIES:
        raise ValueError(f"no policy {policy!r}; there are {', '.join(POLICIES)}")
    return {
        size: choices
        for size, choices in kernels.items()
        if size == batch or policy == "all" or (policy == "powerOfTwo" and size & (size - 1) == 0)
    }


Preparations = Mapping[int, Sequence[float]]
"""Like `Kernels`: seconds of bringing weights to each kernel's own form."""


class _Usable(NamedTuple):
    workspace: int
    size: int
    time_s: float
    place: int
    prepare_s: float


def desirable_set(
    kernels: Kernels, batch: int, workspace_limit: float, preparations: Preparations | None = None
) -> list[Division]:
    """The Pareto-optimal divisions of ``batch`` images: none is beaten in time and workspace at once.

    Args:
        kernels: see `Kernels`; sizes above ``batch`` are left out.
        workspace_limit: in bytes; only workspaces strictly below it count. `math.inf` for none.
        preparations: taken once by each kernel of a division into different ones, never where all are the same one:
            its weights stay in the workspace. None: no kernel has any.

    Returns:
        Sorted by time; the workspaces fall as the times rise. Empty where no division fits.

    Raises:
        ValueError: a batch or size below 1, or a time or workspace that is negative or not a number.

    Instead of sets of divisions for every part of the batch, as in the paper's section III-B, the kernels are taken in
    order of their workspaces: the best times of all parts of the batch, a knapsack in which a kernel costs a fixed
    charge once and its time each time, are brought up to date with each kernel that is faster than what the kernels
    before it can do together. Divisions into one kernel, which pay no charge, are held against these.
    """
    import numpy as np

    if batch < 1:
        raise ValueError(f"a batch has at least 1 image, not {batch}")
    usable = sorted(
        _Usable(workspace, size, time, place, preparations[size][place] if preparations else 0.0)
        for size, choices in _checked(kernels).items()
        if size <= batch
        for place, (time, workspace) in enumerate(choices)
        if workspace < workspace_limit
    )
    best = np.full(batch + 1, math.inf)
    best[0] = 0.0
    steps: list[tuple[_Usable, NDArray[np.int64]]] = []  # how often each kernel is used last, by images
    found = []
    for _, group in itertools.groupby(usable, key=lambda one: one.workspace):
        before = best[batch]
        for one in group:
            if batch % one.size == 0:
                found.append(_division([(one, batch // one.size)]))
            if not one.time_s < best[one.size]:
                continue
            times, counts = _extended(best, one)
            better = times < best
            best[better] = times[better]
            steps.append((one, np.where(better, counts, 0)))
        if best[batch] < before:
            found.append(_division(_traced(steps, batch)))
    kept: list[Division] = []
    for division in sorted(found, key=lambda one: (one.time_s, one.workspace_bytes, len(one.sizes))):
        if not kept or division.workspace_bytes < kept[-1].workspace_bytes:
            kept.append(division)
    return kept


def _extended(best: NDArray[np.float64], one: _Usable) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """For all parts of the batch the least time with ``one`` used at least once, after ``best``, and how often it is.

    By images modulo its size: t(q) = min over r < q of best(r) + (q - r) time + preparation.
    """
    import numpy as np

    images = len(best)
    rows = math.ceil(images / one.size)
    padded = np.full(rows * one.size, math.inf)
    padded[:images] = best
    uses = np.arange(rows)[:, None]
    relative = padded.reshape(rows, one.size) - uses * one.time_s
    least = np.minimum.accumulate(relative, axis=0)
    origin = np.maximum.accumulate(np.where(relative == least, uses, 0), axis=0)
    times = np.full((rows, one.size), math.inf)
    counts = np.zeros((rows, one.size), dtype=np.int64)
    counts[1:] = uses[1:] - origin[:-1]
    # Added up anew: differences of times would round.
    times[1:] = np.take_along_axis(padded.reshape(rows, one.size), origin[:-1], axis=0)
    times[1:] += counts[1:] * one.time_s + one.prepare_s
    return times.reshape(-1)[:images], counts.reshape(-1)[:images]


def _traced(steps: Sequence[tuple[_Usable, NDArray[np.int64]]], batch: int) -> list[tuple[_Usable, int]]:
    """The kernels that led to the best time of the batch, each with how often it is used."""
    used = []
    rest = batch
    for one, counts in reversed(steps):
        if count := int(counts[rest]):
            used.append((one, count))
            rest -= count * one.size
    return used


def _checked(kernels: Kernels) -> Kernels:
    for size, choices in kernels.items():
        if size < 1:
            raise ValueError(f"a micro-batch has at least 1 image, not {size}")
        for time, workspace in choices:
            if not (0 <= time < math.inf and workspace >= 0):
                raise ValueError(f"a kernel of {size} images cannot take {time} s and {workspace} bytes")
    return kernels


def _division(used: Sequence[tuple[_Usable, int]]) -> Division:
    ordered = sorted(used, key=lambda item: (-item[0].size, item[0].place))
    micro_batches = [one for one, count in ordered for _ in range(count)]
    prepared = [one.prepare_s for one, _ in used] if len(used) > 1 else []
    return Division(
        math.fsum([*(one.time_s for one in micro_batches), *prepared]),
        max(one.workspace for one, _ in used),
        tuple(one.size for one in micro_batches),
        tuple(one.place for one in micro_batches),
    )
