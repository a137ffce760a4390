"""When to stop warming up and when to stop sampling: logic only, the clock and the measuring are passed in.

Both functions call ``take(n)``, which takes n samples and returns their times in seconds, a few times with
large n: the interpreter stays out of the measured time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from microbench.errors import InputError
from microbench.stats import Interval, corrected_median_interval, minimum_samples, sorted_median

Times = NDArray[np.float64]
Take = Callable[[int], Times]
Clock = Callable[[], float]

# The fewest samples that are judged: the smallest n with a 99 % interval of the median.
MIN_SAMPLES = minimum_samples(0.99)
FIRST_LOOK = 30
LOOK_GROWTH = 1.5

# The smallest windows between which a rank test can find a difference at 1 %: 2 / C(10, 5) = 0.008.
_WINDOW_MINIMUM = 5
_WINDOW_COMPARED = 32
_WINDOW_GROWTH = 8
_CHI_SQUARED_99 = 6.635


@dataclass(frozen=True)
class Limits:
    """When sampling ends: the ``confidence`` interval of the median is within +-``relative_width`` of it.

    Or at ``max_samples`` samples, or after ``max_time_s`` of wall time, but not before the fewest samples that
    have an interval: a time without one could not be judged. However narrow the interval, sampling
    lasts ``min_time_s``, so that the samples have seen more than one moment of the machine.

    Raises:
        InputError: a limit outside its range.
    """

    confidence: float = 0.99
    relative_width: float = 0.01
    max_samples: int = 10_000
    max_time_s: float = 10.0
    min_time_s: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise InputError(f"confidence must lie strictly between 0 and 1, not be {self.confidence}")
        if not 0 < self.relative_width < 1:
            raise InputError(
                f"relative width must lie strictly between 0 and 1, not be {self.relative_width}"
            )
        if self.max_samples < 1:
            raise InputError(f"the limit of samples must be at least 1, not {self.max_samples}")
        if not self.max_time_s > 0:
            raise InputError(f"the limit of time must be positive, not {self.max_time_s} s")
        if not self.min_time_s >= 0:
            raise InputError(f"the least time must not be negative, but is {self.min_time_s} s")


@dataclass(frozen=True)
class WarmUp:
    """``stationary`` is None where executions are too slow for a test of it within the limit."""

    executions: int
    time_s: float
    stationary: bool | None


@dataclass(frozen=True)
class Sampling:
    """Samples in the order taken, and what ended the sampling.

    ``width`` is the larger distance of the interval's bounds from the median, as a share of the median; None
    where there is no interval. ``converged`` says whether it is within the limit, whatever ended the sampling.
    """

    samples_s: Times
    interval: Interval | None
    converged: bool
    stop: Literal["width", "max_samples", "max_time"]
    width: float | None


def warm_up(
    take: Take, clock: Clock, *, minimum_executions: int = 3, minimum_s: float = 0.1, limit_s: float = 3.0
) -> WarmUp:
    """Executes the kernel until its time has no trend: the last two windows of samples do not differ.

    A window lasts about half of ``minimum_s`` and holds at least five samples; the test is the rank-sum test
    at 1 %. Where two such windows do not fit into the limit, ``minimum_executions`` are made as far as the
    limit allows, but always one: a kernel of more than 1 s is executed once or twice.
    """
    start = clock()
    take(1)
    executions = 1
    elapsed = last = clock() - start
    previous: Times | None = None
    stationary: bool | None = None

    def execute(count: int) -> Times:
        nonlocal executions, elapsed, last
        times = take(count)
        now = clock() - start
        executions, elapsed, last = executions + count, now, (now - elapsed) / count
        return times

    # The first execution may include what is done once: it does not tell what a window will cost.
    if (count := min(minimum_executions - 1, _fitting(limit_s - elapsed, last))) > 0:
        execute(count)
    while not (stationary and elapsed >= minimum_s):
        affordable = _fitting(limit_s - elapsed, last)
        if affordable < (2 if previous is None else 1) * _WINDOW_MINIMUM:
            break
        wanted = min(_fitting(minimum_s / 2, last), _WINDOW_GROWTH * executions)
        window = execute(max(_WINDOW_MINIMUM, min(wanted, affordable)))
        if previous is not None:
            stationary = not _differ(previous, window)
        previous = window
    return WarmUp(executions, elapsed, stationary)


def _fitting(time_s: float, each_s: float) -> int:
    # A clock that has not moved says nothing about the cost: the other bounds decide.
    return int(min(time_s / each_s, 1e9)) if each_s > 0 else 10**9


def _differ(first: Times, second: Times) -> bool:
    """Rank-sum test at 1 %, normal approximation with tie correction, on at most 32 samples of each window.

    Samples are taken evenly from the whole window: thousands of neighbours are correlated, and would make a
    difference significant that is far too small to matter.
    """
    a, b = (window[:: -(-window.size // _WINDOW_COMPARED)] for window in (first, second))
    ordered = np.sort(np.concatenate([a, b]))
    n = ordered.size
    # Twice the mid-ranks: ties get the mean of their places.
    ranks = np.searchsorted(ordered, a, "left") + np.searchsorted(ordered, a, "right") + 1
    distance = float(ranks.sum()) / 2 - a.size * (n + 1) / 2
    ties = np.diff(np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1], [True]])))
    variance = a.size * b.size / 12 * (n + 1 - float((ties**3 - ties).sum()) / (n * (n - 1)))
    return variance > 0 and distance**2 / variance > _CHI_SQUARED_99


def sample(take: Take, clock: Clock, limits: Limits) -> Sampling:
    """Takes samples until the interval of the median is narrow enough or a limit is reached.

    Looks are few, at n = 30, 45, 68, ..., because every look is another chance to stop on a lucky interval;
    kernels of which 30 samples do not fit into the time limit are looked at from n = 8, which they get however
    long that takes. A batch ends at the next look, or where the time limit is expected from the samples so far.
    """
    start = clock()
    earliest = max(MIN_SAMPLES, minimum_samples(limits.confidence))
    first_look = max(FIRST_LOOK, earliest)
    batches = [take(1)]
    n = 1
    look = earliest
    while True:
        elapsed = clock() - start
        affordable = max(_affordable(limits, elapsed, n), earliest - n)
        ending: Literal["max_samples", "max_time"] | None = None
        if n >= limits.max_samples:
            ending = "max_samples"
        elif affordable < 1:
            ending = "max_time"
        if ending or n >= look:
            slow = first_look * elapsed / n > limits.max_time_s
            long_enough = elapsed >= limits.min_time_s
            if ending or (long_enough and (slow or n >= first_look)):
                samples = np.concatenate(batches)
                interval = corrected_median_interval(samples, limits.confidence)
                width = None if interval is None else _relative_width(samples, interval)
                converged = width is not None and width <= limits.relative_width
                if converged and long_enough:
                    return Sampling(samples, interval, converged, "width", width)
                if ending:
                    return Sampling(samples, interval, converged, ending, width)
            look = math.ceil(n * LOOK_GROWTH) if slow or n >= first_look else first_look
        batch = min(look - n, limits.max_samples - n, affordable)
        batches.append(take(batch))
        n += batch


def _affordable(limits: Limits, elapsed: float, n: int) -> int:
    # Rounded to the nearest: to run over by half a sample is better than to leave out one that nearly fits.
    each = elapsed / n
    return _fitting(limits.max_time_s - elapsed + each / 2, each)


def _relative_width(samples: Times, interval: Interval) -> float | None:
    median = sorted_median(np.sort(samples))
    if median <= 0:
        return None
    return max(interval.high - median, median - interval.low) / median
