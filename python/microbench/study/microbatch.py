"""Micro-batching: a batch divided among several kernels that share one workspace.

Oyama, Ben-Nun, Hoefler and Matsuoka, "Accelerating Deep Learning Frameworks with Micro-batches", IEEE CLUSTER 2018
(mu-cuDNN). The kernels of a division run one after another, so times add up and the workspace is the largest one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

POLICIES = ("undivided", "powerOfTwo", "all")
"""Which micro-batch sizes may be used: the whole batch, powers of two (and the whole batch), every size measured."""


@dataclass(frozen=True)
class Division:
    """A batch as a sequence of micro-batches, the largest first.

    Attributes:
        time_s: sum of the kernels' times.
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


def desirable_set(kernels: Kernels, batch: int, workspace_limit: float) -> list[Division]:
    """The Pareto-optimal divisions of ``batch`` images: none is beaten in time and workspace at once.

    Args:
        kernels: see `Kernels`; sizes above ``batch`` are left out.
        workspace_limit: in bytes; only workspaces strictly below it count. `math.inf` for none.

    Returns:
        Sorted by time; the workspaces fall as the times rise. Empty where no division fits.

    Raises:
        ValueError: a batch or size below 1, or a time or workspace that is negative or not a number.

    Instead of sets of divisions for every part of the batch, as in the paper's section III-B, the kernels are taken in
    order of their workspaces: the best times of all parts of the batch, an unbounded knapsack, are brought up to date
    with each kernel that is faster than what the kernels before it can do together.
    """
    import numpy as np

    if batch < 1:
        raise ValueError(f"a batch has at least 1 image, not {batch}")
    usable = sorted(
        (workspace, size, time, place)
        for size, choices in _checked(kernels).items()
        if size <= batch
        for place, (time, workspace) in enumerate(choices)
        if workspace < workspace_limit
    )
    best = np.full(batch + 1, math.inf)
    best[0] = 0.0
    last = np.zeros(batch + 1, dtype=np.int64)  # which of the usable kernels does the last micro-batch
    found: list[Division] = []
    for workspace, group in itertools.groupby(enumerate(usable), key=lambda numbered: numbered[1][0]):
        before = best[batch]
        for number, (_, size, time, _) in group:
            if not time < best[size]:
                continue
            # A stretch of `size` parts depends on the stretch before it alone.
            for start in range(size, batch + 1, size):
                stop = min(start + size, batch + 1)
                times = best[start - size : stop - size] + time
                better = times < best[start:stop]
                best[start:stop][better] = times[better]
                last[start:stop][better] = number
        if best[batch] < before:
            found.append(_division(usable, last.tolist(), batch, workspace))
    return found[::-1]


def _checked(kernels: Kernels) -> Kernels:
    for size, choices in kernels.items():
        if size < 1:
            raise ValueError(f"a micro-batch has at least 1 image, not {size}")
        for time, workspace in choices:
            if not (0 <= time < math.inf and workspace >= 0):
                raise ValueError(f"a kernel of {size} images cannot take {time} s and {workspace} bytes")
    return kernels


def _division(
    usable: Sequence[tuple[int, int, float, int]], last: Sequence[int], batch: int, workspace: int
) -> Division:
    micro_batches = []
    rest = batch
    while rest:
        _, size, time, place = usable[last[rest]]
        micro_batches.append((size, place, time))
        rest -= size
    micro_batches.sort(key=lambda one: (-one[0], one[1]))
    sizes, places, times = zip(*micro_batches, strict=True)
    return Division(math.fsum(times), workspace, sizes, places)
