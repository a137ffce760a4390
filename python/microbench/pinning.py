"""Binding every thread of a process to a processor of its own, whatever library made the thread."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def openmp_binding(cpus: Sequence[int]) -> dict[str, str]:
    """Variables with which OpenMP binds its threads to ``cpus`` one by one, or leaves them alone where there are none.

    OpenMP's runtime may end and remake threads between regions of different sizes, also in the middle of a
    kernel: only the runtime itself can bind those. The variables do not suit a library with threads of its
    own: these would inherit the one processor that OpenMP gives the calling thread.
    """
    if not cpus:
        return {"OMP_PROC_BIND": "false"}
    return {"OMP_PROC_BIND": "true", "OMP_PLACES": ",".join(f"{{{cpu}}}" for cpu in cpus)}


class Pinning:
    """Binds this process's threads to ``cpus``, the calling thread to the first.

    Libraries place threads each in its own way, so the threads that appear are bound here one by one, in the
    order of their creation; unless the process was started with `openmp_binding`. Without ``enabled`` all
    threads share the set.
    """

    def __init__(self, cpus: Sequence[int], *, enabled: bool) -> None:
        if not cpus:
            raise ValueError("no processors to pin to")
        self._cpus = tuple(cpus)
        self._enabled = enabled and hasattr(os, "sched_setaffinity")
        self._by_openmp = os.environ.get("OMP_PROC_BIND") == "true"
        self._known = self._threads()
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
        if self._enabled and not self._by_openmp:
            fresh = [thread for thread in threads if thread not in self._known]
            for place, thread in enumerate(fresh, start=1):
                os.sched_setaffinity(thread, {self._cpus[place % len(self._cpus)]})
        self._known = threads

    def bind_caller(self) -> None:
        """Binds the calling thread to the first processor."""
        if self._enabled:
            os.sched_setaffinity(0, {self._cpus[0]})

    def bound(self) -> list[int]:
        """The processor of each live thread that is bound to a single one, sorted; [] without ``enabled``."""
        return sorted(cpu for (cpu,) in self._masks(self._threads())) if self._enabled else []

    def strays(self) -> int:
        """How many threads made since the last binding share the caller's processor, which they inherited."""
        if not self._enabled or len(self._cpus) == 1:
            return 0
        fresh = [thread for thread in self._threads() if thread not in self._known]
        return self._masks(fresh).count({self._cpus[0]})

    def _masks(self, threads: Sequence[int]) -> list[set[int]]:
        masks = []
        for thread in threads:
            try:
                masks.append(os.sched_getaffinity(thread))
            except ProcessLookupError:  # ended since it was listed
                continue
        return [mask for mask in masks if len(mask) == 1]
