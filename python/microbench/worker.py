"""The worker process: takes jobs, verifies and times them, and may die of them without harm to the run.

Started by ``microbench.process``; reads jobs from standard input and writes replies to the file descriptor named on
its command line, because libraries print to standard output as they please.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from typing import IO

import msgspec

from microbench.pinning import Pinning
from microbench.protocol import Ceilings, CeilingsJob, Failure, Job, MeasureJob, Reply, Stage

_PR_SET_PDEATHSIG = 1


def _die_with_parent(parent: int) -> None:
    """A worker whose parent was killed would go on disturbing whoever measures next."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit(1)


def _be_the_first_victim(memory_limit: int) -> None:
    """Should memory run out, the allocation fails here, or the kernel's choice falls on this process."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory_limit, memory_limit))
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass  # not this system's way; the limit above stands


def serve(jobs: IO[bytes], reply: Callable[[Reply], None]) -> None:
    """Answers jobs until the input ends."""
    decoder = msgspec.json.Decoder(Job)
    pinnings: dict[tuple[tuple[int, ...], bool], Pinning] = {}
    for line in jobs:
        job: MeasureJob | CeilingsJob = decoder.decode(line)
        key = (job.cpus, job.pin)
        if key not in pinnings:
            pinnings[key] = Pinning(job.cpus, enabled=job.pin)
        pinning = pinnings[key]
        pinning.release()
        if isinstance(job, CeilingsJob):
            from microbench.ceilings import measure_ceilings

            reply(Stage("measuring the processor's peaks"))
            reply(Ceilings(measure_ceilings(job, pinning)))
        else:
            from microbench.measuring import measure

            reply(measure(job, pinning, lambda name: reply(Stage(name))))


def main(arguments: list[str]) -> int:
    """``arguments``: reply descriptor, parent's process id, memory limit in bytes."""
    descriptor, parent, memory_limit = (int(argument) for argument in arguments)
    _die_with_parent(parent)
    _be_the_first_victim(memory_limit)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    gc.disable()  # a collection in the middle of a batch would be timed
    encoder = msgspec.json.Encoder()

    def send(message: Reply) -> None:
        os.write(descriptor, encoder.encode(message) + b"\n")

    try:
        serve(sys.stdin.buffer, send)
    except Exception as error:
        traceback.print_exc()
        send(Failure(f"{type(error).__name__}: {error}"))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
