"""Our own convolution algorithms against oneDNN's, side by side: one process, the same threads, in turns.

Prints for every layer the median over the rounds of the ratio of two times of the same round, with its 99 % interval,
and judges three claims:

- winograd: the faster of winograd_2x2 and winograd_4x4 takes at most 1.25 times as long as oneDNN's fastest direct
  implementation (neither lowering nor Winograd's), reorders of its activations timed;
- im2col: takes at most 1.1 times as long as oneDNN's lowering implementation (gemm:jit);
- fft: the faster of fft and fft_tiled is faster than im2col.

The first two on DeepBench's 3x3 training layers of stride 1, the third on those with larger filters and at least 48
channels. A claim holds where the whole interval is within the limit, and fails where none of it is; else it is
undecided: more rounds, or a quieter machine. Exits 1 where one fails.

    python benchmarks/convolution.py --pass forward --layout nchw
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from tabulate import tabulate

from microbench.backends import backend
from microbench.kernels import conv
from microbench.kernels.conv import ConvProblem
from microbench.pinning import Pinning, openmp_binding
from microbench.problem import PRECISIONS, Case
from microbench.stats import median_interval
from microbench.tables import distinct, load_problems
from microbench.topology import physical_cores
from microbench.verification import numpy_type

Times = dict[str, list[float]]

WINOGRAD, FFT = ("winograd_2x2", "winograd_4x4"), ("fft", "fft_tiled")
LIMITS = {"winograd": 1.25, "im2col": 1.1, "fft": 1.0}


def layers(max_flops: float) -> list[ConvProblem]:
    """DeepBench's training layers that a claim is about, each once."""
    chosen = []
    for row in distinct(
        row for row in load_problems("conv", "deepbench") if row.labels["suite"] == "training"
    ):
        problem = row.problem
        assert isinstance(problem, ConvProblem)
        stride_one = problem.stride_w == problem.stride_h == 1
        if stride_one and problem.flops() <= max_flops and (is_winograd(problem) or is_fft(problem)):
            chosen.append(problem)
    return chosen


def is_winograd(problem: ConvProblem) -> bool:
    return problem.filter_w == problem.filter_h == 3


def is_fft(problem: ConvProblem) -> bool:
    return min(problem.filter_w, problem.filter_h) >= 5 and problem.c >= 48


class Sessions:
    """The algorithms of both libraries for one problem, by name."""

    def __init__(self, problem: ConvProblem, pass_: str, layout: str, threads: int) -> None:
        self._case = Case(problem, PRECISIONS["fp32"], pass_, layout)
        self._threads = threads
        self._sessions: dict[str, Any] = {}
        onednn: Any = importlib.import_module("microbench._onednn")
        for name in onednn.algorithms(self._request(onednn, "onednn", "auto")):
            self._open(onednn, "onednn", name)
        own: Any = importlib.import_module("microbench._cpu")
        for name in ("im2col", *(WINOGRAD if is_winograd(problem) else FFT)):
            self._open(own, "microbench", name)
        self._keep_fast()

    def _request(self, module: Any, library: str, algorithm: str) -> Any:
        assert isinstance(self._case.problem, ConvProblem)
        return module.Request(
            kernel="conv",
            library=library,
            library_path=backend("cpu").LIBRARIES[library].path(),
            algorithm=algorithm,
            precision="fp32",
            problem={
                **dataclasses.asdict(self._case.problem),
                "pass": self._case.pass_,
                "layout": self._case.layout,
            },
            threads=self._threads,
            workspace_limit=2**62,
        )

    def _open(self, module: Any, library: str, algorithm: str) -> None:
        session = module.Session(self._request(module, library, algorithm))
        operands = {
            name: session.memory(name).view(numpy_type(element_type))
            for name, (element_type, _) in session.operands.items()
        }
        conv.fill(self._case, operands, np.random.default_rng(1), False)
        session.prepare()
        self._sessions[algorithm] = session

    def _keep_fast(self) -> None:
        """Drops implementations that cannot be oneDNN's fastest: for older processors, mostly."""
        once = {name: float(session.measure(2).min()) for name, session in self._sessions.items()}
        limit = 2 * min(once[name] for name in direct(once))
        for name in direct(once):
            if once[name] > limit:
                del self._sessions[name]

    def measure(self, rounds: int) -> Times:
        """Seconds per algorithm and round; the order turns from round to round."""
        times: Times = {name: [] for name in self._sessions}
        for turn in range(rounds):
            for name in times if turn % 2 else reversed(times):
                times[name].append(float(self._sessions[name].measure(1)[0]))
        return times


def direct(names: Iterable[str]) -> list[str]:
    """oneDNN's implementations that are neither Winograd's nor a lowering."""
    return [name for name in names if ":" in name and "wino" not in name and "gemm" not in name]


def lowering(names: Iterable[str]) -> list[str]:
    return [name for name in names if ":" in name and "gemm" in name]


def fastest(times: Mapping[str, list[float]], names: Iterable[str]) -> str:
    return min(names, key=lambda name: float(np.median(times[name])))


def pairs_of(problem: ConvProblem, times: Times) -> dict[str, tuple[str, str]]:
    """Per claim the faster one of ours and what it is held against."""
    if is_winograd(problem):
        return {
            "winograd": (fastest(times, WINOGRAD), fastest(times, direct(times))),
            "im2col": ("im2col", fastest(times, lowering(times))),
        }
    return {"fft": (fastest(times, FFT), "im2col")}


def verdict(interval: tuple[float, float], limit: float) -> str:
    """``interval`` of the ratio held against what it may be at most."""
    low, high = interval
    return "holds" if high <= limit else "fails" if low > limit else "undecided"


def main() -> int:
    """Measures every layer and judges the claims."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pass", dest="pass_", choices=conv.PASSES, default="forward")
    parser.add_argument("--layout", choices=conv.LAYOUTS, default="nchw")
    parser.add_argument("--max-flops", type=float, default=1e12, help="leave larger layers out")
    parser.add_argument("--rounds", type=int, default=9, help="of all algorithms, at least 8 (default: 9)")
    parser.add_argument("--threads", type=int, default=len(physical_cores()))
    arguments = parser.parse_args()
    cores = physical_cores()[: arguments.threads]
    # Read when the modules are loaded; OpenMP binds the calling thread, too.
    os.environ |= {**openmp_binding(cores), "OPENBLAS_NUM_THREADS": "1"}
    pinning = Pinning(cores, enabled=True)
    rows = []
    verdicts = {"holds": 0, "undecided": 0, "fails": 0}
    for problem in layers(arguments.max_flops):
        times = Sessions(problem, arguments.pass_, arguments.layout, len(cores)).measure(arguments.rounds)
        if len(cores) > 1 and not set(cores) <= set(pinning.bound()):
            raise SystemExit(f"threads are bound to processors {pinning.bound()} and not to each of {cores}")
        p = problem
        for claim, (ours, theirs) in pairs_of(problem, times).items():
            found = np.divide(times[ours], times[theirs])
            interval = median_interval(found, 0.99)
            assert interval is not None
            judged = verdict(interval, LIMITS[claim])
            verdicts[judged] += 1
            milliseconds = [f"{1e3 * np.median(times[name]):.2f}" for name in (ours, theirs)]
            size = f"{p.w}x{p.h} c{p.c} n{p.n} k{p.k} {p.filter_w}x{p.filter_h}"
            rows.append(
                (
                    size,
                    claim,
                    ours,
                    milliseconds[0],
                    theirs,
                    milliseconds[1],
                    f"{np.median(found):.2f}",
                    f"{interval[0]:.2f}-{interval[1]:.2f}",
                    LIMITS[claim],
                    judged,
                )
            )
            print(*rows[-1], sep="\t", file=sys.stderr, flush=True)
    headers = ("layer", "claim", "ours", "ms", "against", "ms", "ratio", "99 %", "at most", "verdict")
    print(tabulate(rows, headers=headers, disable_numparse=True))
    counts = ", ".join(f"{count} {name}" for name, count in verdicts.items())
    print(f"{arguments.pass_}, {arguments.layout}, {len(rows)} claims: {counts}")
    return 1 if verdicts["fails"] else 0


if __name__ == "__main__":
    sys.exit(main())
