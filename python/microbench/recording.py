"""From a worker's measurement to the record: counts, peaks, diagnostics, doubts; and what a record will cost."""

from __future__ import annotations

from datetime import datetime
from importlib.util import find_spec
from typing import Any

from microbench import kernels, plan
from microbench.backends import Backend
from microbench.diagnostics import diagnose
from microbench.options import Options
from microbench.plan import Item
from microbench.protocol import Measurement
from microbench.record import Record
from microbench.reference import worth_a_device
from microbench.stats import summary
from microbench.topology import allowed_cpus

# A probe beside a measurement that reaches less than this share of the run's peak shows a disturbed machine.
_DISTURBED = 0.9
# So many processors busy with something else disturb a measurement.
_OTHERS = 0.5
# The time a record may take before it counts as hung: so much, and so many executions at a tenth of the peak.
_TIMEOUT_S = 120.0
_TIMEOUT_EXECUTIONS = 50
# What a record takes beside its sampling: starting and diagnosing, and two verifications in float64.
_HANDLING_S = 0.3
_VERIFYING_EXECUTIONS = 14
# Of a device's results: two products of each verification; a processor's float64 rate; a step of a recurrence there.
_VERIFYING_PRODUCTS = 4
_HOST_FLOPS_PER_S = 2e10
_STEP_S = 1e-3


class Recorder:
    """Makes the records of one run.

    Args:
        ceilings: measured peaks, as a run has them.
    """

    def __init__(
        self, options: Options, backend: Backend, threads: int, ceilings: dict[str, Any], seed: int
    ) -> None:
        self._options = options
        self._backend = backend
        self._threads = threads
        self._peaks: dict[str, Any] = ceilings["compute_flops_per_s"]
        self._bandwidth = max(float(kind["best"]) for kind in ceilings["memory_bytes_per_s"].values())
        self._seed = seed
        self._kernel = kernels.kernel(options.kernel)

    def _execution_s(self, item: Item) -> float:
        """Seconds of one execution at the peak of a device's precision, fp32 of processors, or the memory's."""
        case = plan.case(item)
        peak = self._peaks["fp32"]
        if not self._backend.ON_PROCESSORS:
            peak = self._peaks.get(self._backend.ceiling_precision(item.precision) or "", peak)
        return max(
            self._kernel.flops_of(case) / float(peak["best"]),
            self._kernel.streamed_bytes_of(case) / self._bandwidth,
        )

    def _verifying_s(self, item: Item) -> float:
        """Seconds of both verifications: of a device's results by the device itself or by this machine's processors."""
        if self._backend.ON_PROCESSORS:
            return _VERIFYING_EXECUTIONS * 2 * self._execution_s(item)
        case = plan.case(item)
        on_device = bool(find_spec("cupy")) and worth_a_device(self._kernel, case)
        steps = getattr(case.problem, "time_steps", 0)
        rate = float(self._peaks["fp64"]["best"]) if on_device else _HOST_FLOPS_PER_S * len(allowed_cpus())
        return _VERIFYING_PRODUCTS * self._kernel.flops_of(case) / rate + _STEP_S * steps * on_device

    def timeout_s(self, item: Item) -> float:
        """After how long the configuration counts as hung."""
        if self._options.timeout is not None:
            return self._options.timeout
        executing = _TIMEOUT_EXECUTIONS * 10 * self._execution_s(item)
        verifying = 0.0 if self._backend.ON_PROCESSORS else 10 * self._verifying_s(item)
        return _TIMEOUT_S + self._options.max_time + executing + verifying

    def cost_s(self, item: Item) -> float:
        """Estimated seconds of the whole record, at half of these peaks."""
        execution = 2 * self._execution_s(item)
        shortest = min(self._options.min_time, self._options.max_time)
        sampling = max(shortest, min(100 * execution, self._options.max_time), 8 * execution)
        return _HANDLING_S + sampling + self._verifying_s(item)

    def record(self, item: Item, repeat: int, started: datetime, measurement: Measurement) -> Record:
        """The record of one measurement."""
        case = plan.case(item)
        fields: dict[str, Any] = {name: getattr(measurement, name) for name in measurement.__struct_fields__}
        flops = self._kernel.flops_of(case)
        ceiling = self._backend.ceiling_precision(item.precision)
        peak = self._peaks[ceiling]["best"] if ceiling in self._peaks else None
        doubts = self._doubts(item, measurement, flops, peak)
        if self._peaks_too_low(measurement):
            peak = None
        diagnostics: dict[str, Any] = {}
        warnings = [*measurement.warnings, *doubts]
        if measurement.samples_s:
            diagnostics, found = diagnose(
                measurement.samples_s,
                measurement.facts["timer_resolution_s"],
                samples_per_batch=measurement.samples_per_batch,
            )
            warnings += found
        return Record(
            **(fields | {"warnings": warnings}),
            kernel=self._options.kernel,
            library=item.library,
            algorithm=item.algorithm,
            precision=item.precision,
            pass_=item.pass_,
            layout=item.layout,
            problem=item.problem,
            labels=dict(item.row.labels),
            backend=self._backend.BACKEND,
            mode=self._options.mode,
            threads=self._threads,
            repeat=repeat,
            index=item.index,
            confidence=self._options.confidence if measurement.ci_low_s is not None else None,
            flops=flops,
            counts=self._kernel.counts_of(case),
            bytes=self._kernel.bytes_of(case),
            peak_flops_per_s=peak,
            summary=summary(measurement.samples_s) if measurement.samples_s else {},
            diagnostics=diagnostics,
            seed=plan.record_seed(self._seed, repeat, item.index),
            started_at=started.isoformat(timespec="milliseconds"),
        )

    def _peaks_too_low(self, measurement: Measurement) -> bool:
        probes = measurement.facts.get("fp32_probe_flops_per_s", [])
        return bool(probes) and max(probes) > self._peaks["fp32"]["best"] / _DISTURBED

    def _doubts(self, item: Item, measurement: Measurement, flops: int, peak: float | None) -> list[str]:
        """What the probes before, beside and after say against the measurement."""
        doubts = []
        probes = measurement.facts.get("fp32_probe_flops_per_s", [])
        best = self._peaks["fp32"]["best"]
        # A device's own sensors say when it is slowed down; under a power cap its probe is slower, as it must be.
        if self._backend.ON_PROCESSORS and probes and min(probes) < _DISTURBED * best:
            doubts.append(
                f"the machine was disturbed: the fp32 probe beside this record reached "
                f"{100 * min(probes) / best:.0f} % of the run's peak; the time may be far too long"
            )
        if self._peaks_too_low(measurement):
            doubts.append(
                f"the run's peaks were measured on a disturbed machine: the fp32 probe beside this record reached "
                f"{max(probes) / best:.2f} times the peak, so no share of it is given"
            )
        others = measurement.facts.get("other_cpus")
        if self._backend.ON_PROCESSORS and others is not None and others > _OTHERS:
            doubts.append(
                f"other processes kept {others:.1f} processors busy during the samples: the time may be far too long"
            )
        if measurement.median_s and peak is not None and flops / measurement.median_s > peak:
            doubts.append(
                f"faster than the measured {item.precision} peak: the algorithm does fewer operations than counted, "
                "or the peak was measured on a disturbed machine"
            )
        return doubts
