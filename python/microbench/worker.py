"""The worker process: takes jobs, verifies and times them, and may die of them without harm to the run.

Started by ``microbench.process``; reads jobs from standard input and writes replies to the file descriptor named on
its command line, because libraries print to standard output as they please.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO

import msgspec

from microbench.pinning import Pinning
from microbench.protocol import (
    AlgorithmsJob,
    CeilingsJob,
    Failure,
    Job,
    Reply,
    Stage,
)

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
    with contextlib.suppress(OSError):  # not every system's way; the limit above stands
        Path("/proc/self/oom_score_adj").write_text("1000")


def serve(jobs: IO[bytes], reply: Callable[[Reply], None]) -> None:
    """Answers jobs until the input ends."""
    decoder: msgspec.json.Decoder[Job] = msgspec.json.Decoder(Job)
    pinnings: dict[tuple[tuple[int, ...], bool], Pinning] = {}
    for line in jobs:
        job = decoder.decode(line)
        # Imported here, so that what they load is charged to the first job and its time limit.
        from microbench import measuring

        if isinstance(job, AlgorithmsJob):
            reply(measuring.algorithms(job))
            continue
        key = (job.cpus, job.pin)
        if key not in pinnings:
            pinnings[key] = Pinning(job.cpus, enabled=job.pin)
        pinning = pinnings[key]
        pinning.release()
        if isinstance(job, CeilingsJob):
            reply(measuring.ceilings(job, pinning))
        else:
            reply(measuring.measure(job, pinning, lambda name: reply(Stage(name))))


def main(arguments: list[str]) -> int:
    """``arguments``: reply descriptor, parent's process id, memory limit in bytes."""
    descriptor, parent, memory_limit = (int(argument) for argument in arguments)
    _die_with_parent(parent)
    _be_the_first_victim(memory_limit)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    gc.disable()  # a collection in the middle of a batch would be timed
    encoder = msgspec.json.Encoder()
    with os.fdopen(descriptor, "wb") as replies:

        def send(message: Reply) -> None:
            replies.write(encoder.encode(message) + b"\n")
            replies.flush()

        try:
            serve(sys.stdin.buffer, send)
        except Exception as error:
            traceback.print_exc()
            send(Failure(f"{type(error).__name__}: {error}"))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
