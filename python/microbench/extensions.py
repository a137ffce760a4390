"""Importing extension modules without side effects on this process."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

from microbench.topology import allowed_cpus


def load(name: str) -> ModuleType:
    """Imports the extension module ``name``; raises ImportError where it was not built.

    OpenMP's library, loaded with it, binds the calling thread to one processor where OMP_PROC_BIND or
    GOMP_CPU_AFFINITY say so: that is undone, or a run would find that it may use one processor only.
    """
    before = allowed_cpus()
    module = importlib.import_module(name)
    if allowed_cpus() != before:
        os.sched_setaffinity(0, before)
    return module
