"""The workers of a sweep, one for each library, and what they are asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from microbench import plan
from microbench.backends import Backend
from microbench.errors import InputError
from microbench.options import Options
from microbench.pinning import openmp_binding
from microbench.placement import Placement
from microbench.plan import Item
from microbench.process import Worker, WorkerDied
from microbench.protocol import (
    NO_LIMIT,
    Algorithms,
    AlgorithmsJob,
    Ceilings,
    CeilingsJob,
    MeasureJob,
    Measurement,
)
from microbench.tables import Row
from microbench.topology import available_memory_bytes, caches, last_level_cache_bytes

# Where the size of the last-level cache is unknown it is taken to be this: more than most processors have.
_CACHE_BYTES = 256 << 20
_CEILINGS_TIMEOUT_S = 120.0
_ENUMERATION_TIMEOUT_S = 600.0

Tick = Callable[[], None]


def _cached_bytes(cpus: Sequence[int]) -> int:
    """Half the last-level cache; 0 where that is unknown or the caches before it hold half of that."""
    levels = [cache for cache in caches(cpus) if cache.type != "Instruction"]
    last = max((cache.level for cache in levels), default=0)
    before = sum(cache.size_bytes or 0 for cache in levels if cache.level == last - 1)
    half = (last_level_cache_bytes(cpus=cpus) or 0) // 2
    return half if last > 1 and half >= 2 * before else 0


class Crew:
    """Starts workers when they are needed and replaces those that died.

    Attributes:
        memory_limit_bytes: of data that one worker may allocate.
        cache_bytes: last-level cache that the placement can reach.
    """

    def __init__(self, options: Options, backend: Backend, placement: Placement) -> None:
        self._options = options
        self._backend = backend
        self._placement = placement
        self._workers: dict[str, Worker] = {}
        self._free_bytes = available_memory_bytes() if backend.LIMITS_MEMORY else None
        self.memory_limit_bytes = options.memory_limit or self._free_bytes or NO_LIMIT
        self.cache_bytes = backend.cache_bytes(placement.cpus) or _CACHE_BYTES

    def ceilings(self, tick: Tick) -> dict[str, Any]:
        """The measured peaks of the placement's threads."""
        job = CeilingsJob(
            backend=self._backend.BACKEND,
            threads=self._placement.threads,
            cpus=self._placement.cpus,
            pin=self._placement.pin,
            array_bytes=4 * self.cache_bytes,  # so that nothing of it stays in the cache
            cached_bytes=_cached_bytes(self._placement.cpus),
        )
        # What a kernel may allocate is no matter of the probes, whose arrays are large.
        environment = openmp_binding(self._placement.cpus if self._placement.pin else ())
        with Worker(environment, self._free_bytes or NO_LIMIT) as worker:
            try:
                reply = worker.ask(job, _CEILINGS_TIMEOUT_S, tick=tick)
            except WorkerDied as died:
                raise InputError(f"the peaks of this machine cannot be measured: {died.reason}") from died
        assert isinstance(reply, Ceilings)
        return reply.values

    def algorithms(
        self,
        library: str,
        precision: str,
        pass_: str,
        layout: str,
        rows: Sequence[Row],
        named: str,
        tick: Tick,
    ) -> list[list[str]]:
        """Names of the algorithms that ``library`` offers for each problem; none where it has no choice.

        What is offered only to who names it is left out but for ``named``.
        """
        chosen = self._backend.LIBRARIES[library]
        job = AlgorithmsJob(
            kernel=self._options.kernel,
            module=chosen.module,
            library=library,
            library_path=chosen.path(),
            algorithm=named,
            precision=precision,
            pass_=pass_,
            layout=layout,
            problems=[plan.columns(row) for row in rows],
            threads=self._placement.threads,
        )
        try:
            reply = self._worker(library).ask(job, _ENUMERATION_TIMEOUT_S, tick=tick)
        except WorkerDied as died:
            raise InputError(f"--algorithm: {library} cannot list its algorithms: {died.reason}") from died
        assert isinstance(reply, Algorithms)
        return reply.names

    def measure(
        self, item: Item, seed: int, timeout_s: float, stage: Callable[[str], None], tick: Tick
    ) -> Measurement:
        """Measures one configuration; a worker that dies of it is replaced for the next."""
        options, library = self._options, self._backend.LIBRARIES[item.library]
        job = MeasureJob(
            backend=self._backend.BACKEND,
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
            fill=options.fill,
            threads=self._placement.threads,
            cpus=self._placement.cpus,
            pin=self._placement.pin,
            workspace_limit=NO_LIMIT if options.workspace_limit is None else options.workspace_limit,
            flush_bytes=2 * self.cache_bytes,
            confidence=options.confidence,
            relative_width=options.relative_width,
            max_samples=options.max_samples,
            max_time_s=options.max_time,
            min_time_s=min(options.min_time, options.max_time),
            seed=seed,
        )
        try:
            reply = self._worker(item.library).ask(job, timeout_s, stage, tick)
        except WorkerDied as died:
            del self._workers[item.library]
            return Measurement(status=died.status, reason=died.reason)
        assert isinstance(reply, Measurement)
        return reply

    def _worker(self, library: str) -> Worker:
        if library not in self._workers:
            chosen = self._backend.LIBRARIES[library]
            binds = self._placement.pin and chosen.openmp
            environment = openmp_binding(self._placement.cpus if binds else ())
            self._workers[library] = Worker({**environment, **chosen.environment}, self.memory_limit_bytes)
        return self._workers[library]

    def close(self) -> None:
        """Ends all workers; those asked next are fresh."""
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()

    def kill(self) -> None:
        """Ends all workers, whatever they are doing."""
        for worker in self._workers.values():
            worker.kill()
        self._workers.clear()
