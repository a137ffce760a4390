"""A network's layers sharing one total workspace."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from microbench.study.divisions import Chosen, options
from microbench.study.layers import Study
from microbench.study.workspaces import divide_workspace


@dataclass(frozen=True)
class Shares:
    """The best division of ``total_bytes`` among all layers; each layer counts as often as the network has it.

    ``choices`` are None where the total does not suffice. ``used_bytes`` is the sum of the workspaces.
    """

    total_bytes: int
    policy: str
    layers: int
    choices: tuple[tuple[Chosen, int], ...] | None

    @property
    def time_s(self) -> float | None:
        """Sum of the times of all layers, on the basis that `divisions.options` describes."""
        return None if self.choices is None else math.fsum(one.time_s * count for one, count in self.choices)

    @property
    def measured(self) -> int:
        """How many layers' choices were measured in rounds; the others are predicted."""
        return sum(count for one, count in self.choices or () if one.rounds_s)

    @property
    def used_bytes(self) -> int | None:
        """Sum of the workspaces of all layers."""
        return (
            None if self.choices is None else sum(one.workspace_bytes * count for one, count in self.choices)
        )


def shares(
    study: Study, totals: Sequence[int], policy: str = "all", max_error: float | None = None
) -> list[Shares]:
    """For each total the division of least time, over all layers, passes and precisions measured."""
    layers = list(study.points)
    candidates = [options(study, layer, policy, max_error) for layer in layers]
    counts = [study.count(layer) for layer in layers]
    found = []
    for total in totals:
        places = divide_workspace(candidates, total, counts)
        choices = None
        if places is not None:
            choices = tuple(
                (candidates[layer][place], count)
                for layer, chosen in enumerate(places)
                for place, count in Counter(chosen).items()
            )
        found.append(Shares(total, policy, sum(counts), choices))
    return found
