"""Detours: what keeps a rank's processor from its work (interrupts, daemons), and when.

A detour delays only work of the processor: overheads, reductions, and a message that arrives while it goes on. One
that falls into waiting and ends before the message arrives costs nothing (Hoefler, Schneider, Lumsdaine,
Characterizing the Influence of System Noise on Large-Scale Applications by Simulation, SC 2010).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from microbench.errors import InputError
from microbench.figures import time_text
from microbench.stats import OUTLIER_Z, modified_z_scores

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Index = NDArray[np.intp]

_USUAL = "write as in period=10ms,duration=25us or period=1s,duration=1ms,arrivals=random"
_MANY = 20
_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True)
class NoiseProfile:
    """Detours of one rank, those of different ranks being independent.

    Attributes:
        period_s: mean time from the start of one detour to that of the next.
        durations_s: lengths of detours, all equally likely.
        periodic: the time between two detours is constant, with a random phase per rank; otherwise exponential.
    """

    period_s: float
    durations_s: tuple[float, ...]
    periodic: bool
    source: str

    @property
    def mean_duration_s(self) -> float:
        """Mean length of a detour in seconds."""
        return math.fsum(self.durations_s) / len(self.durations_s)

    @property
    def share(self) -> float:
        """Share of the processor's time that detours take."""
        return self.mean_duration_s / self.period_s

    def text(self) -> str:
        """The profile in a few words, with the share of time it takes."""
        kind = "one every" if self.periodic else "at random, on average one every"
        return (
            f"detours of {time_text(self.mean_duration_s)} (longest {time_text(max(self.durations_s))}), {kind} "
            f"{time_text(self.period_s)} on each rank ({100 * self.share:.3g} % of its time); {self.source}"
        )


def _seconds(text: str, name: str, value: str) -> float:
    unit = next((unit for unit in _UNITS if value.endswith(unit)), "")
    try:
        number = float(value.removesuffix(unit)) * _UNITS[unit]
    except (KeyError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise InputError(f"--noise {text}: {name}={value} is no time with its unit; {_USUAL}")
    return number


def parse_noise(text: str) -> NoiseProfile:
    """The profile of ``period=10ms,duration=25us[,arrivals=periodic|random]``. Raises InputError."""
    values = dict(part.partition("=")[::2] for part in text.split(","))
    arrivals = values.pop("arrivals", "periodic")
    if values.keys() != {"period", "duration"} or arrivals not in ("periodic", "random"):
        raise InputError(f"--noise {text}: neither a folder of a run nor a profile; {_USUAL}")
    period, duration = (_seconds(text, name, values[name]) for name in ("period", "duration"))
    if duration >= period:
        raise InputError(f"--noise {text}: a detour must be shorter than the period; {_USUAL}")
    return NoiseProfile(period, (duration,), arrivals == "periodic", "given on the command line")


def profile_of_samples(series: Sequence[tuple[int, Sequence[float]]], source: str) -> NoiseProfile | None:
    """What measured repetitions of collectives tell of detours: ``series`` holds (ranks, seconds of each).

    A repetition whose modified z-score is over 3.5 on the long side is taken for one that a detour hit, of the
    length by which it exceeds the median. All ranks wait for the one that was hit, so that the rate is that of all
    of them together. Detours shorter than the spread of the other repetitions are not seen.

    Returns:
        The profile of one rank, arriving at random; None where there is no such repetition.
    """
    durations: list[float] = []
    observed = 0.0
    for ranks, samples in series:
        times = np.asarray(samples, dtype=np.float64)
        durations += (times - np.median(times))[modified_z_scores(times) > OUTLIER_Z].tolist()
        observed += ranks * float(times.sum())
    if not durations:
        return None
    return NoiseProfile(observed / len(durations), tuple(sorted(durations)), False, source)


class Detours:
    """The detours of ``ranks`` ranks as they come: for each rank the next one, renewed when it is over.

    A stationary renewal process: at time 0 a rank is in a detour with the probability of the share of time that
    they take, and then in a place of it that is equally likely.
    """

    def __init__(self, profile: NoiseProfile, ranks: int, rng: Generator) -> None:
        self.profile = profile
        self.rng = rng
        self._gap = profile.period_s - profile.mean_duration_s
        self._durations = np.asarray(profile.durations_s, dtype=np.float64)
        self.start, self.length = self._stationary(ranks)

    def _stationary(self, count: int) -> tuple[Floats, Floats]:
        """Starts, relative to now, and lengths of the detours that are going on or come next."""
        length = self._new_durations(count)
        start = self._new_gaps(count) * (self.rng.random(count) if self.profile.periodic else 1.0)
        within = np.flatnonzero(self.rng.random(count) < self.profile.share)
        # A detour that is met going on is more likely a long one.
        weights = self._durations / self._durations.sum()
        length[within] = self.rng.choice(self._durations, within.size, p=weights)
        start[within] = -length[within] * self.rng.random(within.size)
        return start, length

    def part(self, ranks: Index) -> Detours:
        """The detours of some ranks, to be put back with `put`."""
        part = object.__new__(Detours)
        part.__dict__ |= self.__dict__ | {"start": self.start[ranks], "length": self.length[ranks]}
        return part

    def put(self, ranks: Index, part: Detours) -> None:
        """Takes over how far a `part` has come."""
        self.start[ranks], self.length[ranks] = part.start, part.length

    def worked(self, ready: Floats, work: float | Floats, ranks: Index | None = None) -> Floats:
        """When work that could begin at ``ready`` is done; ``ready`` and the result in seconds, one a rank."""
        done = ready + work
        starts = self.start if ranks is None else self.start[ranks]
        hit = np.flatnonzero(done > starts)
        if hit.size:
            begin, finish = ready[hit], done[hit]
            which = hit if ranks is None else ranks[hit]
            self._skip_idle(which, begin)
            while (met := finish > self.start[which]).any():
                hit, which, begin, finish = hit[met], which[met], begin[met], finish[met]
                start, length = self.start[which], self.length[which]
                before = start <= begin
                delay = np.where(before, np.maximum(start + length - begin, 0.0), length)
                finish = finish + delay
                begin = np.where(before, begin + delay, begin)
                done[hit] = finish
                self.start[which] = start + length + self._new_gaps(which.size)
                self.length[which] = self._new_durations(which.size)
        return done

    def renew(self, ranks: Index, now: Floats) -> None:
        """Takes other ranks in place of these, one of each at its time ``now``."""
        start, self.length[ranks] = self._stationary(ranks.size)
        self.start[ranks] = now + start

    def _skip_idle(self, ranks: Index, until: Floats) -> None:
        """Passes over detours that ended long before ``until``, with nothing for them to delay."""
        period = self.profile.period_s
        long = until - self.start[ranks] > _MANY * period
        idle, now = ranks[long], until[long]
        if idle.size and self.profile.periodic and self._durations.size == 1:
            self.start[idle] += np.floor((now - self.start[idle]) / period) * period
        elif idle.size:
            # After so many renewals nothing is left of when the last one was.
            self.renew(idle, now)

    def _new_gaps(self, count: int) -> Floats:
        if self.profile.periodic:
            return np.full(count, self._gap)
        return self.rng.exponential(self._gap, count)

    def _new_durations(self, count: int) -> Floats:
        if self._durations.size == 1:
            return np.full(count, self._durations[0])
        return self.rng.choice(self._durations, count)
