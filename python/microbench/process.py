"""A worker process as its parent sees it: started, asked, timed out, mourned."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import cast

import msgspec

from microbench.protocol import Failure, Job, Reply, Stage
from microbench.record import Status

_TAIL_BYTES = 2000
# Number and places of threads are the run's options; from outside they would be changed without a record of it.
_OVERRIDDEN = frozenset(
    {
        *(
            "OMP_NUM_THREADS",
            "OMP_THREAD_LIMIT",
            "OMP_DYNAMIC",
            "OMP_PLACES",
            "OMP_PROC_BIND",
            "OMP_WAIT_POLICY",
        ),
        *("GOMP_CPU_AFFINITY", "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS"),
    }
)
_CLOSING_S = 2.0


class WorkerDied(Exception):
    """The worker is gone, or had to be killed; ``status`` and ``reason`` are what the record says."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def _memory_kills() -> int:
    """How many processes the system has killed since it started because memory ran out; 0 where it does not say."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


class Worker:
    """One live worker process.

    Args:
        environment: variables that its libraries need, on top of this process's own.
        memory_limit_bytes: of data that it may allocate.
    """

    def __init__(self, environment: Mapping[str, str], memory_limit_bytes: int) -> None:
        self._replies, descriptor = os.pipe()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._pending = b""
        self._memory_kills_before = _memory_kills()
        arguments = (str(descriptor), str(os.getpid()), str(memory_limit_bytes))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "microbench.worker", *arguments],
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=self._output,
            pass_fds=[descriptor],
            env={name: value for name, value in os.environ.items() if name not in _OVERRIDDEN}
            | dict(environment),
            start_new_session=True,  # Ctrl-C at the terminal is for the parent alone
        )
        os.close(descriptor)

    def ask(
        self,
        job: Job,
        timeout_s: float,
        stage: Callable[[str], None] = lambda _: None,
        tick: Callable[[], None] = lambda: None,
    ) -> Reply:
        """Sends ``job`` and waits for its answer.

        ``stage`` hears what the worker begins to do, ``tick`` is called every second or so.

        Raises:
            WorkerDied: it crashed, took longer than ``timeout_s``, or failed; it is gone afterwards.
        """
        doing = "starting"
        deadline = time.monotonic() + timeout_s
        try:
            stdin = self._process.stdin
            assert stdin is not None
            stdin.write(msgspec.json.encode(job) + b"\n")
            stdin.flush()
            while True:
                reply = self._next(deadline, tick)
                if not isinstance(reply, Stage):
                    break
                doing = reply.name
                stage(doing)
        except (EOFError, BrokenPipeError):
            raise self._crashed(doing) from None
        except TimeoutError:
            self.kill()
            raise WorkerDied(
                "timeout",
                f"no result after {timeout_s:.4g} s (while {doing}): raise --timeout if it is only slow",
            ) from None
        if isinstance(reply, Failure):
            self.kill()
            raise WorkerDied("crashed", f"while {doing}: {reply.reason}")
        return reply

    def _next(self, deadline: float, tick: Callable[[], None]) -> Reply:
        while b"\n" not in self._pending:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            ready, _, _ = select.select([self._replies], [], [], min(left, 1.0))
            if not ready:
                tick()
                continue
            chunk = os.read(self._replies, 1 << 20)
            if not chunk:
                raise EOFError
            self._pending += chunk
        line, self._pending = self._pending.split(b"\n", 1)
        return cast(Reply, msgspec.json.decode(line, type=Reply))

    def _crashed(self, doing: str) -> WorkerDied:
        try:
            code = self._process.wait(_CLOSING_S)
        except subprocess.TimeoutExpired:  # it closed its descriptor and lives on
            self.kill()
            code = self._process.wait()
        said = self._last_words()
        self.close()
        if code == -signal.SIGKILL and _memory_kills() > self._memory_kills_before:
            return WorkerDied(
                "out_of_memory",
                f"killed by the system while {doing} because memory ran out: free some or lower --memory-limit{said}",
            )
        if code == -signal.SIGKILL:
            return WorkerDied("crashed", f"killed from outside while {doing}{said}")
        cause = _signal_name(-code) if code < 0 else f"exit code {code}"
        return WorkerDied("crashed", f"{cause} while {doing}{said}")

    def _last_words(self) -> str:
        self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, self._output.tell() - _TAIL_BYTES))
        lines = self._output.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1].strip()[:300]}" if lines else ""

    def kill(self) -> None:
        """Ends the process whatever it is doing."""
        self._process.kill()
        self.close()

    def close(self) -> None:
        """Lets the process end by itself, for a moment. May be called twice."""
        if self._replies < 0:
            return
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it is gone already
                self._process.stdin.close()
        try:
            self._process.wait(_CLOSING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._replies)
        self._replies = -1
        self._output.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.kill()


def _signal_name(number: int) -> str:
    names = {
        signal.SIGSEGV: "segmentation fault",
        signal.SIGABRT: "abort",
        signal.SIGILL: "illegal instruction",
        signal.SIGFPE: "arithmetic fault",
        signal.SIGBUS: "bus error",
    }
    try:
        known = signal.Signals(number)
    except ValueError:
        return f"signal {number}"
    return f"{names[known]} ({known.name})" if known in names else known.name
