"""One measurement as a worker makes it: open, verify, warm up, sample, verify again.

Everything a library does happens between `measure` and its return; the caller only waits.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import microbench._probe as _probe
from microbench import kernels
from microbench.backends import known as known_backend
from microbench.environment import counters, difference
from microbench.filling import refill
from microbench.pinning import Pinning
from microbench.problem import PRECISIONS, Case, Kernel, Scalar
from microbench.protocol import (
    NO_LIMIT,
    Algorithms,
    AlgorithmsJob,
    Ceilings,
    CeilingsJob,
    MeasureJob,
    Measurement,
)
from microbench.reference import Judge
from microbench.sampling import Limits, Sampling, sample, warm_up
from microbench.verification import Check, numpy_type

# A sample shorter than this many timer resolutions, or readings, is a batch: its error would exceed 1 %, or 0.25 %.
_RESOLUTIONS_PER_SAMPLE = 100
_READINGS_PER_SAMPLE = 400
# For so long the threads of a BLAS (numpy's, which made the reference, or the one measured) spin after a product.
_SPINNING_S = 0.12
_CEILING_ROUNDS = 5
_CEILING_PAUSE_S = 0.2
# A pass over half a cache takes tens of microseconds: many of them, so that the best one was undisturbed.
_CACHED_PASSES = 40
# What no kernel writes: NaN in every floating-point type; a large negative int32; an int8 that is neither a limit nor
# zero, in either encoding.
_POISON = {"f": 0xFF, "i": 0xAA}

Times = NDArray[np.float64]


def wake_and_bind(threads: int, pinning: Pinning) -> None:
    """Brings OpenMP's threads to life and binds them; those that numpy made for itself are left alone."""
    pinning.forget_new()
    _probe.wake_threads(threads)
    pinning.bind_new()


def ceilings(job: CeilingsJob, pinning: Pinning) -> Ceilings:
    """Measured peaks: FLOP/s (operations/s for int8) per precision, bytes/s of memory traffic, every sample kept.

    Precisions that the probes have no instructions for are left out.
    """
    of_device = known_backend(job.backend).ceilings
    if of_device is not None:
        return Ceilings(of_device(job))
    wake_and_bind(job.threads, pinning)
    pinning.bind_caller()
    compute: dict[str, list[float]] = {}
    # In rounds with pauses between them: a neighbour on the same processor comes and goes.
    for _ in range(_CEILING_ROUNDS):
        for precision in ("fp32", "fp64", "bf16", "int8"):
            try:
                rates = _probe.compute_rates(precision, job.threads, 5, 0.01)
            except _probe.Unsupported:
                continue
            compute.setdefault(precision, []).extend(rates)
        time.sleep(_CEILING_PAUSE_S)
    memory = {
        kind: _rates(_probe.memory_rates(kind, job.array_bytes, job.threads, 8))
        for kind in ("read", "copy", "triad")
    }
    cached = {}
    if job.cached_bytes:
        cached = {"read": _rates(_probe.memory_rates("read", job.cached_bytes, job.threads, _CACHED_PASSES))}
    return Ceilings(
        {
            "threads": job.threads,
            "array_bytes": job.array_bytes,
            "compute_flops_per_s": {precision: _rates(rates) for precision, rates in compute.items()},
            "memory_bytes_per_s": memory,
            "cached_bytes": job.cached_bytes or None,
            "last_level_cache_bytes_per_s": cached,
        }
    )


def _rates(samples: list[float]) -> dict[str, Any]:
    return {"best": max(samples), "median": float(np.median(samples)), "samples": samples}


def algorithms(job: AlgorithmsJob) -> Algorithms:
    """The library's algorithms per problem; none where it refuses the problem, so that measuring says why."""
    module: Any = importlib.import_module(job.module)
    names = []
    for problem in job.problems:
        try:
            request = _request(module, job, problem, job.algorithm, NO_LIMIT)
            names.append(list(module.algorithms(request)))
        except module.Unsupported:
            names.append([])
    return Algorithms(names)


def _request(
    module: Any, job: MeasureJob | AlgorithmsJob, problem: dict[str, Scalar], algorithm: str, limit: int
) -> Any:
    return module.Request(
        kernel=job.kernel,
        library=job.library,
        library_path=job.library_path,
        algorithm=algorithm,
        precision=job.precision,
        problem={**problem, "pass": job.pass_, "layout": job.layout},
        threads=job.threads,
        workspace_limit=limit,
    )


def measure(job: MeasureJob, pinning: Pinning, stage: Callable[[str], None]) -> Measurement:
    """Measures one configuration. What the library refuses or gets wrong is in the status; see ``Record``."""
    module: Any = importlib.import_module(job.module)
    try:
        return _Measuring(job, module, pinning, stage).run()
    except module.Unsupported as error:
        return Measurement(status="unsupported", reason=str(error))
    except module.WorkspaceExceeded as error:
        reason, needed = error.args
        return Measurement(status="workspace_exceeded", reason=reason, workspace_bytes=needed)
    except MemoryError as error:
        return Measurement(
            status="out_of_memory",
            reason=f"memory ran out ({str(error).splitlines()[0] if str(error) else 'allocation failed'}): free some"
            f"{', raise --memory-limit' * known_backend(job.backend).LIMITS_MEMORY} or choose a smaller problem",
        )


class _Measuring:
    def __init__(self, job: MeasureJob, module: Any, pinning: Pinning, stage: Callable[[str], None]) -> None:
        self._job = job
        self._pinning = pinning
        self._stage = stage
        self._kernel: Kernel = kernels.kernel(job.kernel)
        wake_and_bind(job.threads, pinning)
        stage("opening")
        began = time.perf_counter()
        self._session: Any = module.Session(
            _request(module, job, job.problem, job.algorithm, job.workspace_limit)
        )
        self._open_s = time.perf_counter() - began
        pinning.bind_new()  # those of a library with threads of its own
        self._case = Case(
            self._kernel.PROBLEM(**job.problem),
            PRECISIONS[job.precision],
            job.pass_,
            job.layout,
            job.algorithm,
            self._session.implementation,
        )
        backend = known_backend(job.backend)
        self._judge = Judge(self._kernel, self._case, backend.device_arrays)
        self._watch = backend.watch(job)
        self._on_processors = backend.ON_PROCESSORS
        # The compiled one, also where the session is around a plug-in.
        timing: Any = importlib.import_module(type(self._session).__module__)
        self._flusher = timing.CacheFlusher(job.flush_bytes) if job.mode == "cold" else None
        self._timer: tuple[float, float] = timing.calibrate_timer()
        self._executions = 1
        self._loop_s = 0.0
        self._prepare_s = 0.0

    def run(self) -> Measurement:
        job = self._job
        rng = np.random.default_rng(job.seed)
        self._stage("verifying before timing")
        first_execution_s, before = self._verify(rng, exact=False)
        known: dict[str, Any] = {
            "workspace_bytes": self._session.workspace_bytes,
            "first_execution_s": first_execution_s,
            **_errors(before),
        }
        facts: dict[str, Any] = {"implementation": self._session.implementation, "prepare_s": self._prepare_s}
        facts |= {"open_s": self._open_s, "fill": job.fill, "reference": self._judge.place}
        warnings = [self._judge.warning] if self._judge.warning else []
        if not before.ok:
            known |= {"facts": facts, "warnings": warnings}
            return Measurement(status="wrong_result", reason=f"before timing: {before.reason}", **known)

        self._refill(rng)
        self._pinning.bind_caller()
        # Of all threads that live, also those that sleep: a BLAS has its own beside OpenMP's.
        facts["bound_cpus"] = self._pinning.bound()
        facts["timer_resolution_s"], facts["timer_overhead_s"] = self._timer
        self._stage("warming up")
        if self._on_processors:
            time.sleep(_SPINNING_S)
        if job.mode == "graph":
            self._session.capture()
        probe_before = self._watch.peak()
        counted, began = counters(cpus=job.cpus), time.perf_counter()
        shortest = float(self._take(3).min())
        warnings += self._choose_batch(shortest)
        warmth = warm_up(self._take, time.perf_counter)
        self._stage("sampling")
        sampling = sample(
            self._take,
            time.perf_counter,
            Limits(
                confidence=job.confidence,
                relative_width=job.relative_width,
                max_samples=job.max_samples,
                max_time_s=job.max_time_s,
                min_time_s=job.min_time_s,
            ),
        )
        measuring_s = time.perf_counter() - began
        facts |= difference(counted, counters(cpus=job.cpus), measuring_s)
        strays = self._pinning.strays()
        facts["fp32_probe_flops_per_s"] = [probe_before, self._watch.peak()]
        facts |= self._session.facts | self._watch.facts()
        warnings += [*self._session.doubts, *self._watch.warnings()]
        known |= {
            "samples_s": sampling.samples_s.tolist(),
            "samples_per_batch": self._executions,
            "median_s": float(np.median(sampling.samples_s)),
            "warmup": dataclasses.asdict(warmth),
            "measuring_s": measuring_s,
            "python_s": measuring_s - self._loop_s,
        }
        if sampling.interval is not None:
            known |= {
                "ci_low_s": sampling.interval.low,
                "ci_high_s": sampling.interval.high,
                "effective_n": sampling.interval.effective_n,
            }

        self._stage("verifying after timing")
        self._pinning.release()
        exact = self._kernel.exact(self._case)
        _, after = self._verify(rng, exact=exact)
        facts["verified"] = ["random", "integer, exact" if exact else "random"]
        facts["reference"] = self._judge.place
        if self._judge.warning and self._judge.warning not in warnings:
            warnings.append(self._judge.warning)
        known |= {"facts": facts, "warnings": warnings}
        if not after.ok:
            return Measurement(
                status="wrong_result", reason=f"after timing: {after.reason}", **(known | _errors(after))
            )
        if strays and self._on_processors:
            return Measurement(
                status="unstable",
                reason=f"{strays} threads that the library made while it was measured share processor {job.cpus[0]}: "
                "the times are far too long, measure it with --no-pin",
                **known,
            )
        if not sampling.converged:
            return Measurement(status="unstable", reason=_instability(sampling, job), **known)
        return Measurement(status="ok", **known)

    def _take(self, samples: int) -> Times:
        def take() -> Times:
            began = time.perf_counter()
            times: Times = self._session.measure(samples, self._executions, self._flusher)
            self._loop_s += time.perf_counter() - began
            return times

        return self._watch.batch(take, self._executions)

    def _choose_batch(self, shortest_s: float) -> list[str]:
        resolution_s, overhead_s = self._timer
        needed_s = max(_RESOLUTIONS_PER_SAMPLE * resolution_s, _READINGS_PER_SAMPLE * overhead_s)
        if shortest_s >= needed_s:
            return []
        if self._flusher is not None:
            return [
                f"one execution ({1e6 * shortest_s:.3g} us) is short beside the timer's resolution "
                f"({1e9 * resolution_s:.0f} ns) and overhead ({1e9 * overhead_s:.0f} ns), and cold executions cannot "
                f"be batched: times are good to {100 * (resolution_s + overhead_s) / shortest_s:.1g} % at best"
            ]
        self._executions = math.ceil(needed_s / max(shortest_s, resolution_s))
        if (most := self._watch.max_executions) is not None:
            # Two events cost as much as a short kernel: how long it takes, only several of them tell.
            self._executions = min(self._executions, most)
            together_s = float(self._take(3).min())
            self._executions = min(math.ceil(needed_s / max(together_s, needed_s / most)), most)
        return [
            f"each sample is the mean of {self._executions} executions, because one is too short for the timer: "
            "the tails of the distribution are hidden"
        ]

    def _refill(self, rng: np.random.Generator) -> None:
        """Puts in what is to be timed, where that is not what was verified."""
        if self._job.fill == "random":
            return
        for name, (element_type, is_output) in self._session.operands.items():
            if not is_output:
                refill(self._session.memory(name).view(numpy_type(element_type)), self._job.fill, rng)
        self._session.prepare()

    def _verify(self, rng: np.random.Generator, *, exact: bool) -> tuple[float, Check]:
        """Time of one execution on fresh inputs, its output poisoned before, and what came of it."""
        operands = {}
        for name, (element_type, is_output) in self._session.operands.items():
            memory = self._session.memory(name)
            operands[name] = memory.view(numpy_type(element_type))
            if is_output:
                memory[:] = _POISON["i" if operands[name].dtype.kind in "iu" else "f"]
        self._kernel.fill(self._case, operands, rng, exact)
        began = time.perf_counter()
        self._session.prepare()
        self._prepare_s = time.perf_counter() - began
        execution_s = float(self._session.measure(1)[0])
        self._session.collect()
        return execution_s, self._judge.check(operands, exact)


def _errors(check: Check) -> dict[str, float | None]:
    def known(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        "max_error": known(check.max_error),
        "frobenius_error": known(check.frobenius_error),
        "tolerance": check.tolerance,
    }


def _instability(sampling: Sampling, job: MeasureJob) -> str:
    n = len(sampling.samples_s)
    by_time = sampling.stop == "max_time"
    end = f"{job.max_time_s:g} s ({n} samples)" if by_time else f"{n} samples"
    level = f"{100 * job.confidence:g} % interval of the median"
    if sampling.width is None:
        remedy = "--max-time" if by_time else "--max-samples"
        return f"after {end} there is no {level}: too few samples, or too correlated ones; raise {remedy}"
    return f"after {end} the {level} is within {100 * sampling.width:.3g} % of it, not {100 * job.relative_width:g} %"
