"""A network's layers sharing one total workspace."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from microbench.study.divisions import Chosen, options
from microbench.study.layers import Layer, Study
from microbench.study.workspaces import divide_workspace


@dataclass(frozen=True)
class Shares:
    """The best division of ``total_bytes`` among all layers of one setting (see `Study.settings`).

    Each layer counts as often as the network has it; ``missing`` are those asked for that were not measured, which no
    sum holds; None: some, unknown how many. ``choices`` are None where the total does not suffice. ``used_bytes`` is
    the sum of the workspaces.
    """

    setting: str
    total_bytes: int
    policy: str
    layers: int
    missing: int | None
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
    """For each setting and total the division of least time, over all layers and passes measured."""
    networks: dict[str, list[Layer]] = {}
    settings = study.settings()
    for layer in study.points:
        networks.setdefault(settings[layer], []).append(layer)
    found = []
    for setting, layers in networks.items():
        candidates = [options(study, layer, policy, max_error) for layer in layers]
        counts = [study.count(layer) for layer in layers]
        for total in totals:
            places = divide_workspace(candidates, total, counts)
            choices = None
            if places is not None:
                choices = tuple(
                    (candidates[layer][place], count)
                    for layer, chosen in enumerate(places)
                    for place, count in Counter(chosen).items()
                )
            found.append(Shares(setting, total, policy, sum(counts), study.missing(layers), choices))
    return found
