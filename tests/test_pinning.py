"""Threads of this process are bound where they should be, and others are left alone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import microbench
from microbench.pinning import Pinning, openmp_binding

needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system has no thread affinity"
)


def start_thread(done: threading.Event) -> int:
    ready = threading.Event()
    numbers = []

    def body() -> None:
        numbers.append(threading.get_native_id())
        ready.set()
        done.wait()

    threading.Thread(target=body, daemon=True).start()
    ready.wait()
    return numbers[0]


def _binds() -> None:
    cpus = sorted(os.sched_getaffinity(0))
    done = threading.Event()
    before = start_thread(done)
    pinning = Pinning(cpus, enabled=True)
    old = start_thread(done)
    pinning.forget_new()
    new = start_thread(done)
    pinning.bind_new()
    pinning.bind_caller()
    assert os.sched_getaffinity(0) == {cpus[0]}
    assert os.sched_getaffinity(new) == {cpus[1 % len(cpus)]}
    assert pinning.bound() == sorted([cpus[0], cpus[1 % len(cpus)]])
    assert pinning.strays() == 0
    start_thread(done)  # born of the bound caller, whose processor it inherits
    assert pinning.strays() == (len(cpus) > 1)
    for left_alone in (before, old):
        assert os.sched_getaffinity(left_alone) == set(cpus)
    pinning.release()
    assert os.sched_getaffinity(0) == set(cpus)


def _does_not_bind() -> None:
    cpus = sorted(os.sched_getaffinity(0))
    done = threading.Event()
    pinning = Pinning(cpus, enabled=False)
    new = start_thread(done)
    pinning.bind_new()
    pinning.bind_caller()
    assert os.sched_getaffinity(0) == os.sched_getaffinity(new) == set(cpus)
    assert pinning.bound() == []
    assert pinning.strays() == 0


def _openmp_binds_what_it_makes_anew() -> None:
    cpus = sorted(os.sched_getaffinity(0))
    os.environ |= openmp_binding(cpus)
    from microbench import _probe  # loads OpenMP, which reads its variables

    pinning = Pinning(cpus, enabled=True)
    for threads in (len(cpus), 1, len(cpus)):  # OpenMP ends the threads that a smaller team does not need
        _probe.wake_threads(threads)
        pinning.bind_new()
        pinning.bind_caller()
    assert pinning.bound() == cpus
    _probe.wake_threads(1)
    _probe.wake_threads(len(cpus))
    assert pinning.bound() == cpus
    assert pinning.strays() == 0


@needs_affinity
@pytest.mark.parametrize("check", ["_binds", "_does_not_bind", "_openmp_binds_what_it_makes_anew"])
def test_new_threads_get_processors_of_their_own(check: str) -> None:
    # Affinity is changed in a process that ends afterwards.
    environment = {**os.environ, "PYTHONPATH": str(Path(microbench.__file__).parents[1])}
    process = subprocess.run(
        [sys.executable, __file__, check], env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr


def test_no_processors_is_an_error() -> None:
    with pytest.raises(ValueError, match="no processors"):
        Pinning([], enabled=True)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
