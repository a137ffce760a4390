"""The processors beside the samples: nothing is put aside, a probe before and after shows a slow minute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import microbench._probe as _probe
from microbench.backends.machine_counters import MachineCounters
from microbench.backends.watch import Times

# Of shorter runs the counters, which move once a millisecond, and other processes' share say too much.
_COUNTED_S = 0.1


class ProcessorWatch:
    """Implements `microbench.backends.watch.Watch`.

    Args:
        counters: None where what the machine counts is not the kernel's, as with the cache flushed between executions.
    """

    max_executions: int | None = None

    def __init__(self, threads: int, counters: MachineCounters | None) -> None:
        self._threads = threads
        self._counters = counters
        self._counted: dict[str, float] = {}
        self._executed_s = 0.0
        self._executions = 0

    def peak(self) -> float:
        """Best fp32 rate of a few milliseconds, FLOP/s."""
        return max(_probe.compute_rates("fp32", self._threads, 3, 0.002))

    def batch(self, take: Callable[[], Times], executions: int) -> Times:
        before = self._read()
        times = take()
        for name, count in self._read().items():
            self._counted[name] = self._counted.get(name, 0.0) + count - before[name]
        self._executed_s += float(times.sum()) * executions
        self._executions += len(times) * executions
        return times

    def _read(self) -> dict[str, float]:
        return {} if self._counters is None else self._counters.read()

    def facts(self) -> dict[str, Any]:
        """``memory_bytes_per_execution`` and ``energy_per_execution_j`` of the whole machine, where it counts them."""
        if self._executed_s < _COUNTED_S:
            return {}
        counted = {name: count / self._executions for name, count in self._counted.items()}
        names = {"memory_bytes": "memory_bytes_per_execution", "energy_j": "energy_per_execution_j"}
        return {names[name]: value for name, value in counted.items()}

    def warnings(self) -> list[str]:
        return []
