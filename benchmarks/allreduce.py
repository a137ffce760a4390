"""Is the loop across ranks as good as a bare one, and are our algorithms as good as the MPI library's own?

    mpiexec -n 4 python benchmarks/allreduce.py loops
    mpiexec -n 4 python benchmarks/allreduce.py algorithms

``loops`` times the MPI library's all-reduce by microbench's loop (barrier start) and by a bare loop in C as the OSU
micro-benchmarks have it, in turns, on the same buffers: medians over repetitions of the longest rank's time, and the
median over the rounds of their ratio with its 99 % interval, which is within 2 %, not, or undecided. It needs the MPI
library's compiler (mpicc) beside the interpreter or on the path. ``algorithms`` times ours over point-to-point
messages against the library's own, in turns (window start), gives the ratios with their 99 % intervals and names the
sizes at which each is within 1.3x, and those at which that is undecided.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microbench.mpi import library
from microbench.mpi.plan import LOSSLESS
from microbench.stats import median_interval

Times = NDArray[np.float64]

_ROUNDS = 20
_SECONDS_A_SIZE = 4.0
_MOST = 400
_FEWEST = 6
_LIMIT = 1.3
_APART = 0.02


def _compiled_loop(folder: str) -> Any:
    beside = Path(sys.executable).parent / "mpicc"
    compiler = str(beside) if beside.exists() else shutil.which("mpicc")
    if compiler is None:
        raise SystemExit("no mpicc beside this interpreter or on the path: the bare loop cannot be compiled")
    source, target = Path(__file__).parent / "osu_loop.c", Path(folder) / "osu_loop.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(target), str(source)], check=True)
    return ctypes.CDLL(str(target))


class Bench:
    """All ranks' sides of the comparison."""

    def __init__(self) -> None:
        self.mpi = library.load()
        self.world = self.mpi.MPI.COMM_WORLD
        self.rank, self.ranks = self.world.Get_rank(), self.world.Get_size()
        self.groups = (self.world.Dup(), self.world.Dup())
        self._measured, self._agreement = map(self.mpi.communicator, self.groups)
        base = self.world.bcast(self.mpi.compiled.RankClock.now_ns(), root=0)
        self._clock = self.mpi.compiled.RankClock(base)

    def collective(self, owner: str, algorithm: str, floats: int) -> Any:
        """An all-reduce of so many floats."""
        return self.mpi.compiled.Collective(
            self._measured,
            kernel="allreduce",
            library=owner,
            algorithm=algorithm,
            type="float32",
            op="sum",
            elements=floats,
            in_place=False,
            form="blocking",
            root=0,
            nodes=[0] * self.ranks,
            device=None,
        )

    def longest(self, collective: Any, repetitions: int, *, window: bool) -> Times:
        """By repetition, the longest time over ranks (barrier start), or from the common start (window)."""
        start = self.mpi.compiled.Start(window=window, slack_s=20e-6, yielding=False)
        target, began, ended = collective.measure(self._agreement, self._clock, repetitions, start)
        return self.maximum(ended - target if window else ended - began)

    def maximum(self, times: Times) -> Times:
        """Element by element the largest of all ranks."""
        result = np.empty_like(times)
        self.groups[1].Allreduce(times, result, op=self.mpi.MPI.MAX)
        return result

    def in_turns(self, sides: dict[str, Callable[[int], Times]]) -> dict[str, Times]:
        """Median seconds of each side by round; all take turns, so that a slow moment falls on all of them."""
        once = max(float(side(3).min()) for side in sides.values())
        repetitions = int(np.clip(_SECONDS_A_SIZE / (_ROUNDS * len(sides) * once), _FEWEST, _MOST))
        repetitions = self.world.bcast(repetitions, root=0)
        taken: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(_ROUNDS):
            for name in [*sides] if turn % 2 else [*sides][::-1]:
                taken[name].append(float(np.median(sides[name](repetitions))))
        return {name: np.asarray(times) for name, times in taken.items()}

    def say(self, line: str) -> None:
        """Prints on rank 0."""
        if self.rank == 0:
            print(line, flush=True)


def _sizes(low: int, high: int) -> list[int]:
    return [1 << power for power in range(low.bit_length() - 1, high.bit_length())]


def loops(bench: Bench, sizes: Sequence[int]) -> None:
    """Ours against the bare loop."""
    with tempfile.TemporaryDirectory() as folder:
        bare = _compiled_loop(folder)
        # The same communicator for both: libraries give each its own buffers, which are not equally fast.
        group = bench.groups[0]
        bench.say(f"{'bytes':>10} {'microbench':>13} {'bare loop':>13} {'ratio':>7} {'99 %':>13}  verdict")
        for size in sizes:
            ours = bench.collective("mpi", "auto", size // 4)
            sent, received = ours.input("float32"), ours.output("float32")

            def in_c(repetitions: int, sent: Any = sent, received: Any = received, size: int = size) -> Times:
                seconds = np.empty(repetitions)
                bare.osu_loop(
                    ctypes.c_int(group.py2f()),
                    ctypes.c_void_p(sent.ctypes.data),
                    ctypes.c_void_p(received.ctypes.data),
                    ctypes.c_int(size // 4),
                    ctypes.c_int(repetitions),
                    ctypes.c_void_p(seconds.ctypes.data),
                )
                return bench.maximum(seconds)

            medians = bench.in_turns(
                {"ours": functools.partial(bench.longest, ours, window=False), "bare": in_c}
            )
            ratios = medians["ours"] / medians["bare"]
            low, high = _interval(ratios)
            inside = low >= 1 - _APART and high <= 1 + _APART
            outside = high < 1 - _APART or low > 1 + _APART
            verdict = "within 2 %" if inside else "not" if outside else "undecided"
            bench.say(
                f"{size:>10} {_us(medians['ours'])} {_us(medians['bare'])} {np.median(ratios):>7.3f} "
                f"{low:>6.3f}-{high:.3f}  {verdict}"
            )


def algorithms(bench: Bench, sizes: Sequence[int]) -> None:
    """Our algorithms against the library's choice."""
    names = [name for name in LOSSLESS["allreduce"] if name not in ("hierarchical",)]
    within: dict[str, list[int]] = {name: [] for name in names}
    undecided: dict[str, list[int]] = {name: [] for name in names}
    headings = " ".join(f"{name:>18}" for name in names)
    bench.say(f"{'bytes':>10} {'library':>13} {headings}  (ratios, 99 %)")
    for size in sizes:
        sides: dict[str, Callable[[int], Times]] = {}
        for name in ("library", *names):
            chosen = ("mpi", "auto") if name == "library" else ("microbench", name)
            try:
                opened = bench.collective(*chosen, size // 4)
            except bench.mpi.compiled.Unsupported:
                continue
            sides[name] = functools.partial(bench.longest, opened, window=True)
        medians = bench.in_turns(sides)
        cells = []
        for name in names:
            if name not in medians:
                cells.append("n/a")
                continue
            ratios = medians[name] / medians["library"]
            low, high = _interval(ratios)
            if high <= _LIMIT:
                within[name].append(size)
            elif not low > _LIMIT:
                undecided[name].append(size)
            cells.append(f"{np.median(ratios):.2f} {low:.2f}-{high:.2f}")
        bench.say(f"{size:>10} {_us(medians['library'])} " + " ".join(f"{cell:>18}" for cell in cells))
    for name in names:
        bench.say(
            f"{name}: within {_LIMIT}x at {_listed(within[name])}; undecided at {_listed(undecided[name])}"
        )


def _listed(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes)) or "no size"


def _interval(ratios: Times) -> tuple[float, float]:
    return median_interval(ratios, 0.99) or (np.nan, np.nan)


def _us(seconds: Times) -> str:
    return f"{1e6 * float(np.median(seconds)):>10.2f} us"


def main() -> None:
    """Runs what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("loops", "algorithms"))
    parser.add_argument("--min-bytes", type=int, default=8)
    parser.add_argument("--max-bytes", type=int, default=64 << 20)
    given = parser.parse_args()
    bench = Bench()
    run = {"loops": loops, "algorithms": algorithms}[given.what]
    bench.say(f"{bench.mpi.MPI.Get_library_version().splitlines()[0].strip()}, {bench.ranks} ranks")
    run(bench, _sizes(given.min_bytes, given.max_bytes))
    bench.mpi.MPI.Finalize()


if __name__ == "__main__":
    main()
