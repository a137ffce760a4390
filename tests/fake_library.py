"""A library in Python with the interface of an extension module: times are made up, faults are real.

The algorithm chosen says what happens: see ``_FAULTS``.
"""
# ruff: noqa: ARG001, ARG002 - the interface is the extension modules', whatever is used of it here

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ALGORITHMS = ("auto", "second")


class Unsupported(RuntimeError):
    pass


class WorkspaceExceeded(RuntimeError):
    pass


@dataclass(frozen=True, kw_only=True)
class Request:
    kernel: str
    library: str
    library_path: str
    algorithm: str
    precision: str
    problem: dict[str, Any]
    threads: int
    workspace_limit: int


@dataclass
class CacheFlusher:
    bytes: int


def _segfault() -> None:
    ctypes.string_at(0)


def _hang() -> None:
    time.sleep(3600)


def _exhaust_memory() -> None:
    np.ones(1 << 40, dtype=np.uint8)


def _be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _say_last_words() -> None:
    print("fake: cannot go on", file=sys.stderr, flush=True)
    os._exit(3)


def _shout() -> None:
    print("x" * 100_000)
    sys.stdout.flush()


_FAULTS = {
    "segfault": _segfault,
    "hang": _hang,
    "abort": os.abort,
    "memory": _exhaust_memory,
    "killed": _be_killed,
    "exit": _say_last_words,
    "shout": _shout,
}


@dataclass
class Session:
    request: Request
    implementation: str = "fake"
    workspace_bytes: int = 64
    launches: int = 0
    arrays: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problem = self.request.problem
        if self.request.algorithm == "unsupported" or self.request.precision != "fp32":
            raise Unsupported(f"the fake has no {self.request.precision} {self.request.algorithm}")
        if self.request.workspace_limit < self.workspace_bytes:
            raise WorkspaceExceeded(f"needs {self.workspace_bytes} bytes", self.workspace_bytes)
        m, n, k = (problem[name] for name in "mnk")
        self.arrays = {
            name: np.zeros(size, np.float32) for name, size in (("a", m * k), ("b", k * n), ("c", m * n))
        }

    @property
    def operands(self) -> dict[str, tuple[str, bool]]:
        return {name: ("float32", name == "c") for name in self.arrays}

    def memory(self, name: str) -> Any:
        return self.arrays[name].view(np.uint8)

    @property
    def doubts(self) -> list[str]:
        return []

    @property
    def facts(self) -> dict[str, float]:
        return {}

    def prepare(self) -> None:
        pass

    def collect(self) -> None:
        pass

    def measure(self, samples: int, executions: int = 1, flusher: CacheFlusher | None = None) -> Any:
        algorithm, problem = self.request.algorithm, self.request.problem
        self._note_launch()
        if self.launches > 0 and algorithm in _FAULTS:
            _FAULTS[algorithm]()
        if algorithm == "slow":
            time.sleep(0.05 * samples)
        m, n, k = (problem[name] for name in "mnk")
        a = self.arrays["a"].reshape((k, m) if problem["a_transposed"] else (m, k), order="F")
        b = self.arrays["b"].reshape((n, k) if problem["b_transposed"] else (k, n), order="F")
        product = (a.T if problem["a_transposed"] else a) @ (b.T if problem["b_transposed"] else b)
        self.arrays["c"][:] = product.ravel(order="F")
        wrong_from = {"wrong": 0, "wrong_later": 1}.get(algorithm)
        if wrong_from is not None and self.launches >= wrong_from:
            self.arrays["c"][0] += 1
        if algorithm == "nan":
            self.arrays["c"][-1] = np.nan
        self.launches += samples * executions
        rng = np.random.default_rng(self.launches)
        spread = 0.5 if algorithm == "noisy" else 1e-3
        once = 1e-7 if algorithm == "short" else 1e-3
        return once * (1 + spread * rng.random(samples))

    def _note_launch(self) -> None:
        """Tells tests which configurations were measured, by a line in the file that they name."""
        log = os.environ.get("FAKE_LIBRARY_LOG")
        if log and self.launches == 0:
            with Path(log).open("a") as file:
                file.write(f"{os.getpid()} {self.request.algorithm} {self.request.problem['m']}\n")


def calibrate_timer() -> tuple[float, float]:
    return 20e-9, 30e-9


def registered() -> list[tuple[str, str]]:
    return [("gemm", "fake")]


def algorithms(request: Request) -> list[str]:
    """Those that are always offered, and the fault asked for by name."""
    return list(dict.fromkeys((*ALGORITHMS, request.algorithm)))


def describe(kernel: str, library: str, path: str) -> dict[str, str]:
    return {"version": "1.0"}
