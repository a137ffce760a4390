"""One total workspace divided among the layers of a network, each of which keeps its part."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Protocol

# Rows of the programme are scaled to this, so that the solver's absolute tolerances are far below a byte.
_SCALE = 1e6
_INFEASIBLE = 2


class Option(Protocol):
    """What a layer may do, such as a `microbatch.Division`."""

    @property
    def time_s(self) -> float:
        """Seconds it takes."""
        ...

    @property
    def workspace_bytes(self) -> int:
        """Bytes it needs."""
        ...


def divide_workspace(
    options: Sequence[Sequence[Option]], total_bytes: int, counts: Sequence[int] | None = None
) -> list[tuple[int, ...]] | None:
    """The choice for each layer that minimises the sum of all times, the sum of all workspaces at most ``total_bytes``.

    Args:
        options: for each layer what it may do.
        counts: how often each layer is there, once by default; each of them has a workspace of its own.

    Returns:
        For each layer the places of the options chosen, as many as the layer is there, ascending; None where the total
        does not suffice.

    Raises:
        ValueError: ``counts`` and ``options`` differ in length, or a count is below 1.
        RuntimeError: the solver gave up.

    The integer programme of Oyama et al. 2018, section III-C, solved by HiGHS: a variable for each option says how many
    of the equal layers choose it (0 or 1 where the layer is there once).
    """
    import numpy as np
    from scipy import optimize, sparse

    repeats = [1] * len(options) if counts is None else list(counts)
    if len(repeats) != len(options) or min(repeats, default=1) < 1:
        raise ValueError("each layer needs a count of at least 1")
    if not options:
        return []
    if not all(options):
        return None
    flat = [option for layer in options for option in layer]
    layer_of = np.repeat(np.arange(len(options)), [len(layer) for layer in options])
    bounds = np.asarray(repeats)[layer_of]
    times = np.array([option.time_s for option in flat])
    workspaces = np.array([option.workspace_bytes for option in flat], dtype=np.float64)
    chosen_once = sparse.csr_array(
        (np.ones(len(flat)), (layer_of, np.arange(len(flat)))), shape=(len(options), len(flat))
    )
    allowed = total_bytes
    while allowed >= 0:
        unit = max(allowed, 1) / _SCALE
        solution = optimize.milp(
            times * (_SCALE / max(times.max(), 1e-300)),
            integrality=np.ones(len(flat), dtype=np.int64),
            bounds=optimize.Bounds(0, bounds),
            constraints=[
                optimize.LinearConstraint(chosen_once, repeats, repeats),
                optimize.LinearConstraint((workspaces / unit)[None, :], -np.inf, allowed / unit),
            ],
            options={"mip_rel_gap": 0},
        )
        if solution.status == _INFEASIBLE:
            return None
        if solution.x is None:
            raise RuntimeError(f"the division of {total_bytes} bytes was not solved: {solution.message}")
        amounts = np.rint(solution.x).astype(int)
        needed = sum(int(n) * option.workspace_bytes for n, option in zip(amounts, flat, strict=True))
        if needed <= total_bytes:
            break
        allowed -= needed - total_bytes  # what the solver's tolerance let through, some millionths at most
    else:
        return None
    places = iter(amounts)
    return [
        tuple(itertools.chain.from_iterable([place] * int(next(places)) for place in range(len(layer))))
        for layer in options
    ]
