"""Binding every thread of a process to a processor of its own, whatever library made the thread."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


class Pinning:
    """Binds this process's threads to ``cpus``, the calling thread to the first.

    Libraries place threads each in its own way (OpenMP's variables put all of a pthread OpenBLAS on one core), so
    the threads that appear are bound here one by one, in the order of their creation. Without ``enabled`` all
    threads share the set.
    """

    def __init__(self, cpus: Sequence[int], *, enabled: bool) -> None:
        if not cpus:
            raise ValueError("no processors to pin to")
        self._cpus = tuple(cpus)
        self._enabled = enabled and hasattr(os, "sched_setaffinity")
        self._known = self._threads()
        self.assigned: dict[int, int] = {}
        self.release()

    def _threads(self) -> list[int]:
        tasks = Path("/proc/self/task")
        return sorted(int(task.name) for task in tasks.iterdir()) if tasks.is_dir() else []

    def release(self) -> None:
        """Lets the calling thread run on the whole set: threads born now inherit all of it."""
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, self._cpus)

    def forget_new(self) -> None:
        """Leaves the threads made since the last call (those of other libraries) alone from now on."""
        self._known = self._threads()

    def bind_new(self) -> None:
        """Binds the threads made since the last call to the second, third ... processor."""
        threads = self._threads()
        if self._enabled:
            fresh = [thread for thread in threads if thread not in self._known]
            for place, thread in enumerate(fresh, start=1):
                cpu = self._cpus[place % len(self._cpus)]
                os.sched_setaffinity(thread, {cpu})
                self.assigned[thread] = cpu
        self._known = threads

    def bind_caller(self) -> None:
        """Binds the calling thread to the first processor."""
        if self._enabled:
            os.sched_setaffinity(0, {self._cpus[0]})
