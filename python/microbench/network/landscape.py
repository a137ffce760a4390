"""Which algorithm is the fastest where, what it will take, and what noise costs."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from microbench.errors import InputError
from microbench.network.algorithms import ALGORITHMS, closed_form_s, possible
from microbench.network.fit import Fit
from microbench.network.machine import Level, Machine
from microbench.network.noise import NoiseProfile
from microbench.network.simulator import simulate


@dataclass(frozen=True)
class Contender:
    """An algorithm on the network as it sees it; ``fit`` where that was measured."""

    label: str
    algorithm: str
    machine: Machine
    fit: Fit | None = None

    def quiet_s(self, ranks: int, nbytes: int) -> float | None:
        """Time without noise in seconds; None where so many ranks cannot do it."""
        if not possible(self.algorithm, ranks, self.machine.ranks_per_node):
            return None
        if self.machine.inside is None and ranks & (ranks - 1) == 0:
            return closed_form_s(self.machine, self.algorithm, ranks, nbytes)
        return simulate(self.machine, self.algorithm, ranks, nbytes).time_s


@dataclass(frozen=True)
class Forecast:
    """One all-reduce predicted without noise; times in seconds, the interval where the parameters were fitted."""

    label: str
    ranks: int
    nbytes: int
    time_s: float
    low_s: float | None
    high_s: float | None


@dataclass(frozen=True)
class NoiseCost:
    """One all-reduce with noise: the mean of ``repetitions``, and the least and the most; times in seconds.

    Where a long ring was not stepped to its end, ``low_s`` and ``high_s`` are its bounds.
    """

    label: str
    ranks: int
    nbytes: int
    quiet_s: float
    noisy_s: float
    low_s: float
    high_s: float
    repetitions: int

    @property
    def slow_down(self) -> float:
        """With noise over without."""
        return self.noisy_s / self.quiet_s


def contenders_of(machine: Machine) -> list[Contender]:
    """Every algorithm on one machine, but for `hierarchical` where it has no two levels."""
    names = [name for name in ALGORITHMS if name != "hierarchical" or machine.ranks_per_node > 1]
    return [Contender(name, name, machine) for name in names]


def contenders_of_fits(fits: Mapping[str, Fit], overhead_s: float = 0.0) -> list[Contender]:
    """Every fitted series, of whose alpha 2 ``overhead_s`` keep processors busy.

    Raises:
        InputError: an overhead below 0 or over half of a fitted alpha.
    """
    found = []
    for label, fit in fits.items():
        links = fit.machine.between.links
        most = min(link.alpha_s for link in links) / 2
        if not 0 <= overhead_s <= most:
            raise InputError(
                f"--overhead {overhead_s:g}: 2 o are a part of alpha, so that o of {label} is 0 to {most:.3g} s"
            )
        split = [
            replace(link, latency_s=link.alpha_s - 2 * overhead_s, overhead_s=overhead_s) for link in links
        ]
        between = Level(tuple(split), fit.from_bytes)
        found.append(Contender(label, fit.algorithm, replace(fit.machine, between=between), fit))
    return found


def forecasts(contenders: Sequence[Contender], ranks: Sequence[int], sizes: Sequence[int]) -> list[Forecast]:
    """Every contender on every number of ranks with every size, without noise, where it can."""
    found = []
    for p in ranks:
        for nbytes in sizes:
            for each in contenders:
                time = each.quiet_s(p, nbytes)
                if time is not None:
                    interval = each.fit.interval(time, p, nbytes) if each.fit else (None, None)
                    found.append(Forecast(each.label, p, nbytes, time, *interval))
    return found


def fastest_of(found: Sequence[Forecast]) -> dict[tuple[int, int], Forecast]:
    """The fastest forecast for every (ranks, bytes)."""
    best: dict[tuple[int, int], Forecast] = {}
    for each in found:
        known = best.setdefault((each.ranks, each.nbytes), each)
        if each.time_s < known.time_s:
            best[each.ranks, each.nbytes] = each
    return best


def ranges(best: Mapping[tuple[int, int], Forecast]) -> dict[int, list[tuple[int, str]]]:
    """For every number of ranks where the fastest changes: the sizes, in ascending order, from which it is which."""
    found: dict[int, list[tuple[int, str]]] = {}
    for (ranks, nbytes), each in sorted(best.items()):
        starts = found.setdefault(ranks, [])
        if not starts or starts[-1][1] != each.label:
            starts.append((nbytes, each.label))
    return found


def noise_costs(
    contenders: Sequence[Contender],
    ranks: Sequence[int],
    sizes: Sequence[int],
    noise: NoiseProfile,
    seed: int,
) -> Iterator[NoiseCost]:
    """What noise costs each contender. Few ranks are repeated, because one repetition seldom meets a detour."""
    for p in ranks:
        repetitions = max(1, min(64, 2**14 // p))
        for nbytes in sizes:
            for each in contenders:
                quiet = each.quiet_s(p, nbytes)
                if quiet is None:
                    continue
                runs = [
                    simulate(each.machine, each.algorithm, p, nbytes, noise, seed + repetition)
                    for repetition in range(repetitions)
                ]
                yield NoiseCost(
                    each.label,
                    p,
                    nbytes,
                    quiet,
                    statistics.fmean(run.time_s for run in runs),
                    min(run.low_s for run in runs),
                    max(run.high_s for run in runs),
                    repetitions,
                )
