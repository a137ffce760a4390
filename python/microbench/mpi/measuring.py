"""One measurement of a collective as rank 0 conducts it: open, verify, warm up, sample, verify again."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microbench.collective import ELEMENT_TYPES
from microbench.environment import counters, difference
from microbench.mpi import devices
from microbench.mpi.clocks import SHARED, Alignment, Estimate, aligned
from microbench.mpi.member import Job, Place, Repetitions, StartRule
from microbench.mpi.operands import merged
from microbench.mpi.options import CollectiveOptions
from microbench.mpi.plan import problem_of
from microbench.mpi.team import RankFailed, Team
from microbench.plan import Item, columns
from microbench.protocol import Measurement
from microbench.sampling import Limits, Sampling, WarmUp, sample, warm_up
from microbench.stats import corrected_median_interval
from microbench.verification import Check

Times = NDArray[np.float64]

# A repetition counts where the last rank started less than this, or this share of the collective's time, after the
# agreed start.
_LATE_S = 200e-9
_LATE_SHARE = 0.01
# Between the agreement on a start and the start: doubled while more than a share of the repetitions is late.
_SLACK_S = 20e-6
_LONGEST_SLACK_S = 20e-3
_LATE_RARELY = 0.05
# Repetitions are given up that late ones have multiplied by so many, or that last so many times longer than without;
# but not before there were so many late ones.
_ATTEMPTS = 10
_PATIENCE = 2
_WARMING_S = 3.0
_MORE_ATTEMPTS = 30
_EXCHANGES = 50
# Clocks run apart by up to some 50 us in a second: so often they are compared again.
_SYNCHRONISED_S = 1.0
_OVERLAPS = 31
# Reading the clock twice is in every time.
_OVERHEAD_SHARE = 0.01
_CALIBRATIONS = 3

# Read by NCCL when a process first uses it; null: NCCL decides.
_NCCL_SETTINGS = ("NCCL_ALGO", "NCCL_PROTO")

REPORTED = {
    "window": "last rank's end minus the common start",
    "barrier": "longest rank's own time after a barrier",
}


class TooLate(Exception):
    """Ranks start late so often that there is no sample to be had."""


@dataclass(frozen=True)
class Setting:
    """What is the same for all measurements of a run.

    Attributes:
        places: where each rank runs.
        nodes: the number of each rank's node.
        yielding: there are more ranks than processors somewhere.
        timer: resolution of the clock and duration of a reading, in seconds.
    """

    team: Team
    options: CollectiveOptions
    places: tuple[Place, ...]
    nodes: tuple[int, ...]
    yielding: bool
    timer: tuple[float, float]

    @property
    def ranks(self) -> int:
        """Those of the collectives: NCCL's, where an MPI rank has several GPUs."""
        return len(self.places) * self.options.gpus_per_rank

    @property
    def shared(self) -> list[bool]:
        """By rank, whether it reads the same clock as rank 0."""
        return [place.clock == self.places[0].clock for place in self.places]


def measure(setting: Setting, item: Item, seed: int, stage: Callable[[str], None]) -> Measurement:
    """Measures one configuration; what ranks refuse or get wrong is in the status."""
    try:
        return _Measuring(setting, item, seed, stage).run()
    except RankFailed as failed:
        if failed.kind == "Unsupported":
            return Measurement(status="unsupported", reason=failed.text)
        if failed.kind == "MemoryError":
            reason = (
                f"memory ran out on rank {failed.rank}: start fewer ranks a node or choose smaller problems"
            )
            return Measurement(status="out_of_memory", reason=reason)
        return Measurement(status="crashed", reason=str(failed))
    finally:
        setting.team.all("close")


class _Measuring:
    def __init__(self, setting: Setting, item: Item, seed: int, stage: Callable[[str], None]) -> None:
        self._setting = setting
        self._team = setting.team
        self._options = setting.options
        self._item = item
        self._seed = seed
        self._stage = stage
        self._ranks = setting.ranks
        self._window = self._options.start == "window"
        self._estimates: list[list[Estimate]] = [[] for _ in setting.places]
        self._alignments: tuple[Alignment, ...] = (SHARED,) * len(setting.places)
        self._slack_s = _SLACK_S
        self._tolerance_s = math.inf
        self._late = 0
        self._began = self._synchronised_at = 0.0
        self._kept: list[Repetitions] = []

    def run(self) -> Measurement:
        item, problem = self._item, problem_of(self._item)
        self._stage("opening")
        if item.library == "nccl":
            devices.connect(self._team, item.algorithm, self._setting.nodes)
        chosen = columns(item.row)
        implementation, workspace = self._team.all(
            "open",
            Job(
                kernel=problem.kernel,
                library=item.library,
                algorithm=item.algorithm,
                precision=item.precision,
                elements=problem.elements,
                form=problem.form,
                ranks=self._ranks,
                nodes=self._setting.nodes,
                op=str(chosen.get("op", "sum")),
                place=str(chosen.get("place", "out_of_place")),
                root=int(chosen.get("root", 0)),
                sparse=item.algorithm == "top_k",
                rounded_to="float16" if item.algorithm == "ring_fp16" else "",
            ),
        )[0]
        self._stage("verifying before timing")
        before, first_execution_s = self._verify(self._seed, exact=False)
        exact, _ = self._verify(self._seed + 1, exact=True)
        resolution_s, overhead_s = self._setting.timer
        facts: dict[str, Any] = {
            "ranks": self._ranks,
            "hosts": len(set(self._setting.nodes)),
            "message_bytes": problem.message_bytes(ELEMENT_TYPES[item.precision]),
            "start": self._options.start,
            "reported": REPORTED[self._options.start],
            "implementation": implementation,
            "wrong_elements": exact.wrong_elements,
            **self._about_device(),
            "timer_resolution_s": resolution_s,
            "timer_overhead_s": overhead_s,
        }
        known: dict[str, Any] = {
            "workspace_bytes": workspace,
            "first_execution_s": first_execution_s,
            "facts": facts,
            **_errors(before),
        }
        for check, which in ((before, "random"), (exact, "exact")):
            if not check.ok:
                reason = f"before timing, {which} inputs: {check.reason}"
                return Measurement(status="wrong_result", reason=reason, **known)

        self._stage("warming up")
        self._synchronise()
        counted, began = counters(), time.perf_counter()
        self._began = time.monotonic()
        warmth: WarmUp | None = None
        try:
            shortest = float(self._take(_CALIBRATIONS).min())
            self._tolerance_s = max(_LATE_S, _LATE_SHARE * shortest)
            warmth = warm_up(self._take, time.perf_counter)
            self._stage("sampling")
            self._kept.clear()
            self._late = 0
            doubt = self._instability(sample(self._take, time.perf_counter, self._limits()))
        except TooLate as late:
            doubt = str(late)
        self._synchronise()
        measuring_s = time.perf_counter() - began
        facts |= difference(counted, counters(), measuring_s)
        samples, of_ranks = self._final()
        if not samples.size:
            return Measurement(status="unstable", reason=doubt, **known)
        interval = corrected_median_interval(samples, self._options.confidence)
        facts |= self._about(of_ranks)
        median_s = float(np.median(samples))
        known |= {
            "samples_s": samples.tolist(),
            "median_s": median_s,
            "warmup": {} if warmth is None else dataclasses.asdict(warmth),
            "measuring_s": measuring_s,
            "warnings": self._doubts(median_s),
        }
        if interval is not None:
            known |= {
                "ci_low_s": interval.low,
                "ci_high_s": interval.high,
                "effective_n": interval.effective_n,
            }
        if problem.form == "nonblocking":
            self._stage("overlapping")
            facts["overlap"] = self._overlap(median_s)

        self._stage("verifying after timing")
        after, _ = self._verify(self._seed + 2, exact=True)
        facts["wrong_elements"] += after.wrong_elements
        if not after.ok:
            return Measurement(status="wrong_result", reason=f"after timing: {after.reason}", **known)
        return Measurement(status="unstable" if doubt else "ok", reason=doubt, **known)

    def _about_device(self) -> dict[str, Any]:
        if self._options.device == "cpu":
            return {}
        ends = "a rank ends when its host sees its streams finished or MPI returns: launching is in the time"
        facts = {"ends": ends, "gpus_per_rank": self._options.gpus_per_rank}
        settings = {name.lower(): os.environ.get(name) for name in _NCCL_SETTINGS}
        return {**facts, **(settings if self._item.library == "nccl" else {})}

    def _limits(self) -> Limits:
        options = self._options
        return Limits(
            confidence=options.confidence,
            relative_width=options.relative_width,
            max_samples=options.max_samples,
            max_time_s=options.max_time,
            min_time_s=min(options.min_time, options.max_time),
        )

    def _verify(self, seed: int, *, exact: bool) -> tuple[Check, float]:
        found = self._team.all("verify", seed % 2**63, exact)
        return merged([check for check, _ in found]), max(seconds for _, seconds in found)

    def _synchronise(self) -> None:
        """Takes one more estimate of every rank's clock and tells all ranks what follows."""
        if not self._window or all(self._setting.shared):
            return
        for rank, estimate in enumerate(self._team.all("estimate_offsets", _EXCHANGES)[0]):
            self._estimates[rank].append(estimate)
        self._alignments = tuple(
            SHARED if shared else aligned(estimates)
            for shared, estimates in zip(self._setting.shared, self._estimates, strict=True)
        )
        self._team.all("align", self._alignments)
        self._synchronised_at = time.monotonic()

    def _take(self, wanted: int) -> Times:
        """So many valid samples: repetitions that a rank started late are counted and made again."""
        if time.monotonic() - self._synchronised_at > _SYNCHRONISED_S:
            self._synchronise()
        taken: list[Times] = []
        missing, attempts = wanted, 0
        while missing > 0:
            long = time.monotonic() - self._began > _PATIENCE * (self._options.max_time + _WARMING_S)
            if attempts > wanted + _MORE_ATTEMPTS and (long or attempts > _ATTEMPTS * wanted):
                raise TooLate(
                    f"of {attempts} repetitions {attempts - wanted + missing} were started late by a rank: give every "
                    "rank a processor of its own, or ask for --start barrier"
                )
            found: list[Repetitions] = self._team.all(
                "measure", missing, StartRule(self._window, self._slack_s, self._setting.yielding)
            )
            attempts += missing
            target, start, end = found[0][0], _stack(found, 1), _stack(found, 2)
            valid = self._on_time(target, start)
            late = missing - int(np.count_nonzero(valid))
            self._late += late
            if late > _LATE_RARELY * missing:
                self._slack_s = min(2 * self._slack_s, _LONGEST_SLACK_S)
            kept = (target[valid], start[:, valid], end[:, valid])
            self._kept.append(kept)
            taken.append(self._of_ranks(kept).max(axis=0))
            missing = late
        return np.concatenate(taken)

    def _on_time(self, target: Times, start: Times) -> NDArray[np.bool_]:
        if not self._window:
            return np.ones(target.size, dtype=np.bool_)
        late: NDArray[np.bool_] = self._common(start).max(axis=0) - target <= self._tolerance_s
        return late

    def _common(self, local: Times) -> Times:
        return np.array([each.to_common(row) for each, row in zip(self._alignments, local, strict=True)])

    def _of_ranks(self, repetitions: Repetitions) -> Times:
        """Seconds by rank and repetition: from the common start, or from the rank's own."""
        target, start, end = repetitions
        return self._common(end) - target if self._window else end - start

    def _final(self) -> tuple[Times, Times]:
        """The samples, and those of each rank, by what is known of the clocks after the last one."""
        of_ranks = np.concatenate([self._of_ranks(kept) for kept in self._kept], axis=1)
        return of_ranks.max(axis=0), of_ranks

    def _about(self, of_ranks: Times) -> dict[str, Any]:
        over: dict[str, Any] = {
            "min_s": of_ranks.min(axis=0),
            "median_s": np.median(of_ranks, axis=0),
            "mean_s": of_ranks.mean(axis=0),
            "max_s": of_ranks.max(axis=0),
        }
        median_s = float(np.median(over["max_s"]))
        problem = problem_of(self._item)
        bandwidth = problem.message_bytes(ELEMENT_TYPES[self._item.precision]) / median_s
        share = problem.bus_share(self._ranks)
        facts: dict[str, Any] = {
            "algorithm_bandwidth_bytes_per_s": bandwidth,
            "bus_bandwidth_bytes_per_s": None if share is None else share * bandwidth,
            "rank_samples_s": [[round(value, 9) for value in row] for row in of_ranks.tolist()],
            "over_ranks": {name: float(np.median(values)) for name, values in over.items()},
        }
        if self._window:
            facts |= {
                "late": self._late,
                "late_tolerance_s": self._tolerance_s,
                "slack_s": self._slack_s,
                "clocks": {
                    "offset_s": [each.offset_s for each in self._alignments],
                    "drift_s_per_s": [each.drift for each in self._alignments],
                    "uncertainty_s": [each.uncertainty_s for each in self._alignments],
                    "points": len(self._estimates[0]),
                },
            }
        return facts

    def _doubts(self, median_s: float) -> list[str]:
        doubts = []
        overhead_s = self._setting.timer[1]
        if overhead_s > _OVERHEAD_SHARE * median_s:
            doubts.append(
                f"reading the clock takes {1e9 * overhead_s:.0f} ns of each time, {100 * overhead_s / median_s:.1g} %"
            )
        uncertainty_s = max(each.uncertainty_s for each in self._alignments)
        if uncertainty_s > _LATE_SHARE * median_s:
            doubts.append(
                f"the ranks' clocks are known to {1e6 * uncertainty_s:.2g} us only, "
                f"{100 * uncertainty_s / median_s:.1g} % of the time"
            )
        if self._ranks == 1:
            doubts.append("one rank has nobody to talk to: this is the time of a local copy, if that")
        if self._setting.yielding:
            doubts.append("there are more ranks than processors: ranks wait for each other's processors")
        return doubts

    def _overlap(self, alone_s: float) -> dict[str, float | None]:
        """How much of a computation as long as the collective is hidden behind it, or the reverse."""

        def share(together_s: float) -> float:
            hidden_s: float = alone_s + compute_s - together_s
            return hidden_s / min(alone_s, compute_s)

        rounds = max(self._team.all("computing_rounds", alone_s))
        compute_s: float = max(self._team.all("time_computing", rounds))
        rule = StartRule(self._window, self._slack_s, self._setting.yielding, rounds)
        found: list[Repetitions] = self._team.all("measure", _OVERLAPS, rule)
        together = self._of_ranks((found[0][0], _stack(found, 1), _stack(found, 2))).max(axis=0)
        together_s = float(np.median(together))
        interval = corrected_median_interval(together, self._options.confidence)
        return {
            "share": share(together_s),
            "share_low": None if interval is None else share(interval.high),
            "share_high": None if interval is None else share(interval.low),
            "alone_s": alone_s,
            "compute_s": compute_s,
            "together_s": together_s,
        }

    def _instability(self, sampling: Sampling) -> str:
        if sampling.converged:
            return ""
        n = len(sampling.samples_s)
        level = f"{100 * self._options.confidence:g} % interval of the median"
        limit = "--max-time" if sampling.stop == "max_time" else "--max-samples"
        if sampling.width is None:
            return f"after {n} samples there is no {level}: too few samples, or too correlated ones; raise {limit}"
        width = f"within {100 * sampling.width:.3g} % of it, not {100 * self._options.relative_width:g} %"
        return f"after {n} samples the {level} is {width}"


def _stack(found: list[Repetitions], which: int) -> Times:
    return np.stack([repetitions[which] for repetitions in found])


def _errors(check: Check) -> dict[str, float | None]:
    def known(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        "max_error": known(check.max_error),
        "frobenius_error": known(check.frobenius_error),
        "tolerance": check.tolerance,
    }
