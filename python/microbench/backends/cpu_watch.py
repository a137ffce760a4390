"""The processors beside the samples: nothing is put aside, a probe before and after shows a slow minute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import microbench._probe as _probe
from microbench.backends.watch import Times


class ProcessorWatch:
    """Implements `microbench.backends.watch.Watch`."""

    max_executions: int | None = None

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def peak(self) -> float:
        """Best fp32 rate of a few milliseconds, FLOP/s."""
        return max(_probe.compute_rates("fp32", self._threads, 3, 0.002))

    def batch(self, take: Callable[[], Times]) -> Times:
        return take()

    def facts(self, _: int) -> dict[str, Any]:
        return {}

    def warnings(self) -> list[str]:
        return []
