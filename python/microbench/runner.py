"""Runs a sweep: asks workers, one configuration at a time, and stores what they answer."""

from __future__ import annotations

import secrets
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from microbench import __version__, environment, kernels, plan
from microbench.backends import Backend, backend, libraries
from microbench.diagnostics import diagnose
from microbench.errors import InputError
from microbench.options import Options
from microbench.placement import placement
from microbench.plan import Item
from microbench.process import Worker, WorkerDied
from microbench.protocol import (
    Algorithms,
    AlgorithmsJob,
    Ceilings,
    CeilingsJob,
    MeasureJob,
    Measurement,
)
from microbench.record import Record
from microbench.stats import summary
from microbench.store import Run, RunInfo, RunWriter, default_folder
from microbench.tables import Row
from microbench.topology import available_memory_bytes, last_level_cache_bytes

# Where the size of the last-level cache is unknown it is taken to be this: more than most processors have.
_CACHE_BYTES = 256 << 20
_NO_LIMIT = 2**63 - 1
_CEILINGS_TIMEOUT_S = 120.0
_ENUMERATION_TIMEOUT_S = 600.0
# The time a record may take before it counts as hung: so much, and so many executions at a tenth of the peak.
_TIMEOUT_S = 120.0
_TIMEOUT_EXECUTIONS = 50
# A probe beside a measurement that reaches less than this share of the run's peak shows a disturbed machine.
_DISTURBED = 0.9


class Face:
    """Whoever watches a sweep; this one does not look."""

    def begin(self, info: RunInfo, folder: Path, total_cost: float, done: int) -> None:
        """The run exists; ``total_cost`` is the estimated seconds of all that is left to do."""

    def stage(self, item: Item | None, doing: str) -> None:
        """What is being done now, for which configuration."""

    def tick(self) -> None:
        """About a second passed."""

    def record(self, record: Record, cost: float) -> None:
        """A record was stored; ``cost`` is the seconds it was estimated to take."""


def sweep(
    options: Options, output: str | Path | None, *, resume: bool, command: Sequence[str], face: Face
) -> Run:
    """Measures everything that ``options`` ask for into the folder ``output`` and returns the run.

    Without ``output`` a new folder is made. With ``resume`` the run in ``output`` goes on; ``options`` must then be
    those that it was started with. SIGINT and SIGTERM end the sweep after a record that says so.

    Raises:
        InputError: something asked for does not exist or the folder cannot be used.
        StoreError: a record could not be written.
    """
    folder = Path(output) if output else default_folder(options.kernel, datetime.now(timezone.utc))
    with _Sweep(options, folder, resume, command, face) as running:
        running.run()
    return Run.load(folder)


class _Interrupted(Exception):
    pass


class _Sweep:
    def __init__(
        self, options: Options, output: Path, resume: bool, command: Sequence[str], face: Face
    ) -> None:
        self._options = options
        self._output = output
        self._resume = resume
        self._command = list(command)
        self._face = face
        self._backend: Backend = backend(options.backend)
        self._libraries = libraries(self._backend, options.kernel, options.library)
        self._placement = placement(options)
        self._memory_limit = options.memory_limit or available_memory_bytes() or 1 << 40
        self._cache_bytes = last_level_cache_bytes(cpus=self._placement.cpus) or _CACHE_BYTES
        self._workers: dict[str, Worker] = {}
        self._rows = plan.problems(options)

    def __enter__(self) -> _Sweep:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.kill()

    def run(self) -> None:
        items = plan.build(
            self._options, self._rows, self._libraries, self._backend.precision_here, self._enumerate
        )
        with _interrupts() as interrupted, self._writer(items) as writer:
            self._seed = writer.info.seed or 0
            self._peaks = writer.info.ceilings["compute_flops_per_s"]
            done = {(line.repeat, line.index) for line in Run.load(self._output).summaries()}
            repeats = self._options.repeat
            queue = [
                (repeat, item)
                for repeat in range(repeats)
                for item in plan.order(items, repeat, repeats, self._seed)
                if (repeat, item.index) not in done
            ]
            costs = {item.index: self._cost(item) for item in items}
            self._face.begin(
                writer.info, self._output, sum(costs[item.index] for _, item in queue), len(done)
            )
            current = 0
            for repeat, item in queue:
                if repeat != current:  # every repeat is measured by processes of its own
                    self._close_workers()
                    current = repeat
                started = datetime.now(timezone.utc)
                try:
                    record = self._record(item, repeat, started, self._ask(item, repeat, interrupted))
                except _Interrupted:
                    stopped = Measurement(
                        status="interrupted", reason="stopped by the user: go on with --resume"
                    )
                    writer.append(self._record(item, repeat, started, stopped))
                    return
                writer.append(record)
                self._face.record(record, costs[item.index])
            self._close_workers()

    def _writer(self, items: list[Item]) -> RunWriter:
        fingerprint = plan.fingerprint(items)
        if self._resume:
            writer = RunWriter.resume(self._output)
            try:
                self._compare_with(writer.info, fingerprint)
            except BaseException:
                writer.close()
                raise
            return writer
        here = environment.capture(self._command)
        here["libraries"] = {name: dict(self._backend.library_status(name).facts) for name in self._libraries}
        return RunWriter.create(
            self._output,
            RunInfo(
                microbench_version=__version__,
                created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                command=self._command,
                kernel=self._options.kernel,
                problem_set=" ".join(self._options.problem) or self._options.problems,
                planned_records=len(items) * self._options.repeat,
                seed=self._options.seed if self._options.seed is not None else secrets.randbits(32),
                options=_plain(self._options),
                plan={
                    "fingerprint": fingerprint,
                    "order": "table" if self._options.repeat == 1 else "shuffled in every repeat",
                    "threads": self._placement.threads,
                    "cpus": list(self._placement.cpus),
                    "pin": self._placement.pin,
                    "memory_limit_bytes": self._memory_limit,
                    "last_level_cache_bytes": self._cache_bytes,
                },
                environment=here,
                ceilings=self._measure_ceilings(),
            ),
        )

    def _compare_with(self, info: RunInfo, fingerprint: str) -> None:
        for name, value in _plain(self._options).items():
            before = info.options.get(name)
            if before != value:
                option = "--" + name.replace("_", "-")
                raise InputError(
                    f"{self._output}: was started with {option} {_said(before)}, not {_said(value)}: resume it with "
                    "the same options, or none"
                )
        if info.plan.get("fingerprint") != fingerprint:
            raise InputError(
                f"{self._output}: was started with another plan (its problem table, or what the libraries offer, has "
                "changed): start a new run"
            )
        now = environment.capture(self._command)
        now["libraries"] = {name: dict(self._backend.library_status(name).facts) for name in self._libraries}
        changed = [path for path, _, _ in environment.differences(info.environment, now)]
        if changed:
            raise InputError(
                f"{self._output}: was started on another set-up ({', '.join(changed[:5])} differ"
                f"{'s' if len(changed) == 1 else ''}): start a new run"
            )

    def _measure_ceilings(self) -> dict[str, Any]:
        self._face.stage(None, "measuring this machine's peaks")
        job = CeilingsJob(
            threads=self._placement.threads,
            cpus=self._placement.cpus,
            pin=self._placement.pin,
            array_bytes=4 * self._cache_bytes,  # so that nothing of it stays in the cache
        )
        with Worker({}, self._memory_limit) as worker:
            try:
                reply = worker.ask(job, _CEILINGS_TIMEOUT_S, tick=self._face.tick)
            except WorkerDied as died:
                raise RuntimeError(f"the peaks of this machine cannot be measured: {died.reason}") from died
        assert isinstance(reply, Ceilings)
        return reply.values

    def _worker(self, library: str) -> Worker:
        if library not in self._workers:
            self._workers[library] = Worker(self._backend.LIBRARIES[library].environment, self._memory_limit)
        return self._workers[library]

    def _close_workers(self) -> None:
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()

    def _enumerate(
        self, library: str, precision: str, pass_: str, layout: str, rows: Sequence[Row]
    ) -> list[list[str]]:
        self._face.stage(None, f"asking {library} for its {precision} algorithms")
        chosen = self._backend.LIBRARIES[library]
        job = AlgorithmsJob(
            kernel=self._options.kernel,
            module=chosen.module,
            library=library,
            library_path=chosen.path(),
            precision=precision,
            pass_=pass_,
            layout=layout,
            problems=[plan.columns(row) for row in rows],
            threads=self._placement.threads,
        )
        try:
            reply = self._worker(library).ask(job, _ENUMERATION_TIMEOUT_S, tick=self._face.tick)
        except WorkerDied as died:
            raise InputError(
                f"--algorithm all: {library} cannot list its algorithms: {died.reason}"
            ) from died
        assert isinstance(reply, Algorithms)
        return reply.names

    def _ask(self, item: Item, repeat: int, interrupted: Callable[[], bool]) -> Measurement:
        options, library = self._options, self._backend.LIBRARIES[item.library]
        job = MeasureJob(
            kernel=options.kernel,
            module=library.module,
            library=item.library,
            library_path=library.path(),
            algorithm=item.algorithm,
            precision=item.precision,
            pass_=item.pass_,
            layout=item.layout,
            problem=item.problem,
            mode=options.mode,
            threads=self._placement.threads,
            cpus=self._placement.cpus,
            pin=self._placement.pin,
            workspace_limit=_NO_LIMIT if options.workspace_limit is None else options.workspace_limit,
            flush_bytes=2 * self._cache_bytes,
            confidence=options.confidence,
            relative_width=options.relative_width,
            max_samples=options.max_samples,
            max_time_s=options.max_time,
            min_time_s=options.min_time,
            seed=plan.record_seed(self._seed, repeat, item.index),
        )

        def stage(doing: str) -> None:
            self._face.stage(item, doing)

        def tick() -> None:
            if interrupted():
                raise _Interrupted
            self._face.tick()

        try:
            reply = self._worker(item.library).ask(job, self._timeout(item), stage, tick)
        except WorkerDied as died:
            del self._workers[item.library]
            return Measurement(status=died.status, reason=died.reason)
        if interrupted():
            raise _Interrupted
        assert isinstance(reply, Measurement)
        return reply

    def _execution_s(self, item: Item) -> float:
        """Seconds of one execution at the fp32 peak: what estimates are made from."""
        case = plan.case(item)
        compute = kernels.kernel(self._options.kernel).flops_of(case) / self._peaks["fp32"]["best"]
        return float(compute)

    def _timeout(self, item: Item) -> float:
        options = self._options
        if options.timeout is not None:
            return options.timeout
        return _TIMEOUT_S + options.max_time + _TIMEOUT_EXECUTIONS * 10 * self._execution_s(item)

    def _cost(self, item: Item) -> float:
        """Estimated seconds: sampling until it is stable, two verifications in float64, some handling."""
        execution = 2 * self._execution_s(item)
        return (
            0.3 + max(self._options.min_time, min(100 * execution, self._options.max_time)) + 14 * execution
        )

    def _record(self, item: Item, repeat: int, started: datetime, measurement: Measurement) -> Record:
        options = self._options
        case = plan.case(item)
        kernel = kernels.kernel(options.kernel)
        fields: dict[str, Any] = {name: getattr(measurement, name) for name in measurement.__struct_fields__}
        ceiling = self._backend.ceiling_precision(item.precision)
        flops, peak = kernel.flops_of(case), self._peaks[ceiling]["best"] if ceiling in self._peaks else None
        rate = flops / measurement.median_s if measurement.median_s else None
        warnings = [*measurement.warnings, *self._doubts(item, measurement, rate, peak)]
        diagnostics: dict[str, Any] = {}
        if measurement.samples_s:
            diagnostics, found = diagnose(
                measurement.samples_s,
                measurement.facts["timer_resolution_s"],
                samples_per_batch=measurement.samples_per_batch,
            )
            warnings += found
        return Record(
            **(fields | {"warnings": warnings}),
            kernel=options.kernel,
            library=item.library,
            algorithm=item.algorithm,
            precision=item.precision,
            pass_=item.pass_,
            layout=item.layout,
            problem=item.problem,
            labels=dict(item.row.labels),
            backend=self._backend.BACKEND,
            mode=options.mode,
            threads=self._placement.threads,
            repeat=repeat,
            index=item.index,
            confidence=options.confidence if measurement.ci_low_s is not None else None,
            flops=flops,
            bytes=kernel.bytes_of(case),
            peak_flops_per_s=peak,
            summary=summary(measurement.samples_s) if measurement.samples_s else {},
            diagnostics=diagnostics,
            seed=plan.record_seed(self._seed, repeat, item.index),
            started_at=started.isoformat(timespec="milliseconds"),
        )

    def _doubts(
        self, item: Item, measurement: Measurement, rate: float | None, peak: float | None
    ) -> list[str]:
        """What the probes before, beside and after say against the measurement."""
        doubts = []
        probes = measurement.facts.get("fp32_probe_flops_per_s", [])
        best = self._peaks["fp32"]["best"]
        if probes and min(probes) < _DISTURBED * best:
            doubts.append(
                f"the machine was slow: the fp32 probe beside this record reached {100 * min(probes) / best:.0f} % of "
                "the run's peak, so the time may be too long by as much"
            )
        if rate is not None and peak is not None and rate > peak:
            doubts.append(
                f"faster than the {item.precision} peak measured at the start of the run: the machine was disturbed "
                "then, so shares of the peak are too high"
            )
        return doubts


def _plain(options: Options) -> dict[str, Any]:
    """The options as JSON has them."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(options))
    return plain


def _said(value: object) -> str:
    if value is None:
        return "left out"
    return " ".join(str(part) for part in value) if isinstance(value, list | tuple) else str(value)


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Turns SIGINT and SIGTERM into a flag; a second SIGINT acts as always."""
    if threading.current_thread() is not threading.main_thread():  # signals go to the main thread alone
        yield lambda: False
        return
    seen: list[int] = []

    def note(number: int, _: object) -> None:
        seen.append(number)
        signal.signal(number, previous[number])

    previous: dict[int, Any] = {
        number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
