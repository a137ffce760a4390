"""Runs a sweep: one configuration at a time is measured by a worker and stored."""

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

from microbench import __version__, environment, plan, plugins
from microbench.backends import BACKENDS, Backend, backend, known, libraries
from microbench.crew import Crew
from microbench.errors import InputError
from microbench.options import Options
from microbench.placement import placement
from microbench.plan import Item
from microbench.protocol import Measurement
from microbench.record import Record
from microbench.recording import Recorder
from microbench.resuming import check_resumable
from microbench.store import Run, RunInfo, RunWriter, check_free, default_folder
from microbench.tables import Row

Agree = Callable[[Callable[[], list[int] | None]], list[int] | None]
"""The problems to be measured, from a way to choose them; see `microbench.plan.only`."""


def _alone(choose: Callable[[], list[int] | None]) -> list[int] | None:
    return choose()


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
    options: Options,
    output: str | Path | None,
    *,
    resume: bool,
    command: Sequence[str],
    face: Face,
    items: Sequence[Item] | None = None,
    ceilings_of: RunInfo | None = None,
    agree: Agree = _alone,
) -> Run:
    """Measures everything that ``options`` ask for into the folder ``output`` and returns the run.

    ``items`` is a plan made by the caller, numbered from 0, measured instead of what the options name. A new run takes
    over the ceilings of ``ceilings_of``, a run here of the same backend, threads and cpus, where that is given.
    Sweeps that are to measure the same problems ``agree`` on them before the first.

    Without ``output`` a new folder is made. With ``resume`` the run in ``output`` goes on; ``options`` must then be
    those that it was started with. SIGINT and SIGTERM end the sweep after a record that says so.

    Raises:
        InputError: something asked for does not exist or the folder cannot be used.
        StoreError: a record could not be written.
    """
    running = _Sweep(options, command, face, items, ceilings_of, agree)
    try:
        if resume:
            if output is None:
                raise InputError("--resume: say which run goes on by --output DIR")
            folder = Path(output)
            with RunWriter.resume(folder) as writer:
                running.resume(writer)
        else:
            folder = running.start(output)
    finally:
        running.crew.kill()
    return Run.load(folder)


def planned(options: Options, rows: Sequence[Row], face: Face) -> list[Item]:
    """All that ``options`` ask for of these problems in place of their own; nothing is measured, no budget heeded.

    Raises InputError where something asked for does not exist.
    """
    running = _Sweep(options, (), face)
    try:
        return running.everything(rows)
    finally:
        running.crew.kill()


class _Interrupted(Exception):
    pass


class _Sweep:
    def __init__(
        self,
        options: Options,
        command: Sequence[str],
        face: Face,
        items: Sequence[Item] | None = None,
        ceilings_of: RunInfo | None = None,
        agree: Agree = _alone,
    ) -> None:
        self._options = options
        self._items = items
        self._ceilings_of = ceilings_of
        self._agree = agree
        self._command = list(command)
        self._face = face
        plugins.register(options.plugin)
        self._backend: Backend = backend(options.backend, options.kernel, options.library)
        if options.mode not in self._backend.MODES:
            elsewhere = [each for each in map(known, BACKENDS) if options.mode in each.MODES]
            raise InputError(
                f"--mode {options.mode}: not on backend {self._backend.BACKEND}, which has "
                f"{', '.join(self._backend.MODES)}"
                + "".join(f"; backend {e.BACKEND} has it, but {w}" for e in elsewhere if (w := e.missing()))
            )
        self._libraries = libraries(self._backend, options.kernel, options.library)
        self._placement = placement(options)
        plan.choices(options)
        self._rows = plan.problems(options)
        self.crew = Crew(options, self._backend, self._placement)

    def start(self, output: str | Path | None) -> Path:
        """Measures the peaks, plans, and runs the plan into a new folder, which it returns."""
        if output is not None:  # said before anything is measured
            check_free(Path(output))
        seed = self._options.seed if self._options.seed is not None else secrets.randbits(32)
        ceilings, ceilings_measured = self._ceilings()
        recorder = self._recorder(ceilings, seed)
        full = self.everything()
        chosen = self._agree(lambda: self._fitting(full, recorder, seed))
        items = plan.only(full, chosen)
        info = RunInfo(
            microbench_version=__version__,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            command=self._command,
            kernel=self._options.kernel,
            problem_set=" ".join(self._options.problem) or self._options.problems,
            planned_records=len(items) * self._options.repeat,
            seed=seed,
            options=_plain(self._options),
            plan={
                "fingerprint": plan.fingerprint(items),
                "order": "table" if self._options.repeat == 1 else "shuffled in every repeat",
                "problems": chosen,
                "left_out": len(full) - len(items),
                "chosen_by": "everything asked for"
                if len(items) == len(full)
                else "problems in random order (by the seed) as long as their estimated cost fits the time budget",
                "threads": self._placement.threads,
                "cpus": list(self._placement.cpus),
                "pin": self._placement.pin,
                "memory_limit_bytes": self.crew.memory_limit_bytes,
                "last_level_cache_bytes": self.crew.cache_bytes,
                "ceilings_measured": ceilings_measured,
            },
            environment=self._environment(),
            ceilings=ceilings,
        )
        now = datetime.now(timezone.utc)
        folder = default_folder(self._options.kernel, now) if output is None else Path(output)
        with RunWriter.create(folder, info) as writer:
            self._run(writer, items, recorder)
        return folder

    def resume(self, writer: RunWriter) -> None:
        """Goes on with a run; raises InputError where it was another one's."""
        info = writer.info
        recorder = self._recorder(info.ceilings, info.seed or 0)
        full = self.everything()
        items = plan.only(full, self._agree(lambda: info.plan.get("problems")))
        check_resumable(writer, _plain(self._options), plan.fingerprint(items), self._environment())
        self._run(writer, items, recorder)

    def _recorder(self, ceilings: dict[str, Any], seed: int) -> Recorder:
        return Recorder(self._options, self._backend, self._placement.threads, ceilings, seed)

    def _ceilings(self) -> tuple[dict[str, Any], str]:
        """The peaks and when they were measured: now, unless those of another run are taken over."""
        if self._ceilings_of is not None:
            info = self._ceilings_of
            return info.ceilings, info.plan.get("ceilings_measured") or info.created
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._face.stage(None, "measuring this machine's peaks")
        return self.crew.ceilings(self._face.tick), now

    def everything(self, rows: Sequence[Row] | None = None) -> list[Item]:
        """All that is asked for, of these problems if given, whether or not it fits a time budget."""
        if self._items is not None:
            return list(self._items)

        def enumerate_algorithms(
            library: str, precision: str, pass_: str, layout: str, rows: Sequence[Row], named: str
        ) -> list[list[str]]:
            self._face.stage(None, f"asking {library} for its {precision} algorithms")
            return self.crew.algorithms(library, precision, pass_, layout, rows, named, self._face.tick)

        here = self._backend.precision_here
        return plan.build(self._options, rows or self._rows, self._libraries, here, enumerate_algorithms)

    def _fitting(self, items: list[Item], recorder: Recorder, seed: int) -> list[int] | None:
        budget = self._options.time_budget
        if budget is None:
            return None
        return plan.within(items, recorder.cost_s, budget / self._options.repeat, seed)

    def _environment(self) -> dict[str, Any]:
        here = environment.capture(self._command)
        here["device"] = self._backend.facts()
        here["libraries"] = {name: dict(self._backend.library_status(name).facts) for name in self._libraries}
        return here

    def _run(self, writer: RunWriter, items: list[Item], recorder: Recorder) -> None:
        done = {(line.repeat, line.index) for line in Run.load(writer.folder).summaries()}
        repeats, seed = self._options.repeat, writer.info.seed or 0
        queue = [
            (repeat, item)
            for repeat in range(repeats)
            for item in plan.order(items, repeat, repeats, seed)
            if (repeat, item.index) not in done
        ]
        total = sum(recorder.cost_s(item) for _, item in queue)
        self._face.begin(writer.info, writer.folder, total, len(done))
        current = 0
        with _interrupts() as interrupted:
            for repeat, item in queue:
                if repeat != current:  # every repeat is measured by processes of its own
                    self.crew.close()
                    current = repeat
                started = datetime.now(timezone.utc)
                try:
                    measurement = self._measure(item, repeat, seed, recorder, interrupted)
                except _Interrupted:
                    reason = "stopped by the user: go on with --resume"
                    measurement = Measurement(status="interrupted", reason=reason)
                record = recorder.record(item, repeat, started, measurement)
                writer.append(record)
                if record.status == "interrupted":
                    return
                self._face.record(record, recorder.cost_s(item))
        self.crew.close()

    def _measure(
        self, item: Item, repeat: int, seed: int, recorder: Recorder, interrupted: Callable[[], bool]
    ) -> Measurement:
        def tick() -> None:
            if interrupted():
                raise _Interrupted
            self._face.tick()

        tick()
        measurement = self.crew.measure(
            item,
            plan.record_seed(seed, repeat, item.index),
            recorder.timeout_s(item),
            lambda doing: self._face.stage(item, doing),
            tick,
        )
        tick()
        return measurement


def _plain(options: Options) -> dict[str, Any]:
    """The options as JSON has them."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(options))
    return plain


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Turns SIGINT and SIGTERM into a flag; a second one acts as always."""
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
