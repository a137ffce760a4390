"""How long the network simulator takes on 2^20 ranks, and how far its windows of long rings are from all of it.

python benchmarks/network.py
"""

from __future__ import annotations

import time

from tabulate import tabulate

from microbench.network import simulator
from microbench.network.algorithms import ALGORITHMS
from microbench.network.machine import parse_machine
from microbench.network.noise import parse_noise
from microbench.network.simulator import Prediction, simulate

MACHINE = "alpha=2e-6,beta=1e-10,gamma=3e-11,inside_alpha=5e-7,inside_beta=2e-11,ranks_per_node=4"
MILD, HARD = "period=1ms,duration=25us,arrivals=random", "period=10ms,duration=1ms"
NBYTES = 1 << 20


def timed(algorithm: str, ranks: int, noise: str | None) -> tuple[Prediction, float]:
    """The prediction and the wall time that it took, in seconds."""
    begin = time.perf_counter()
    profile = parse_noise(noise) if noise else None
    return simulate(parse_machine(MACHINE), algorithm, ranks, NBYTES, profile), time.perf_counter() - begin


def main() -> None:
    """Prints both tables."""
    rows = []
    for algorithm in ALGORITHMS:
        for noise in (None, MILD, HARD):
            found, took = timed(algorithm, 2**20, noise)
            rows.append((algorithm, noise or "none", f"{found.time_s:.4g}", f"{took:.1f}"))
    print(
        tabulate(
            rows,
            ("2^20 ranks, 1 MiB", "noise", "predicted s", "simulated in s"),
            "pipe",
            disable_numparse=True,
        )
    )
    rows = []
    for noise in (MILD, HARD):
        window, _ = timed("ring", 32768, noise)
        simulator.LONGEST_RING = 32768
        whole, took = timed("ring", 32768, noise)
        simulator.LONGEST_RING = 2**14
        ratio = f"{window.time_s / whole.time_s:.3f}"
        bounds = f"[{window.low_s:.4g}, {window.high_s:.4g}]"
        rows.append((noise, f"{whole.time_s:.4g}", f"{window.time_s:.4g}", bounds, ratio, f"{took:.1f}"))
    headings = ("ring of 32768, noise", "all of it s", "windows s", "bounds s", "ratio", "all of it took s")
    print("\n" + tabulate(rows, headings, "pipe", disable_numparse=True))


if __name__ == "__main__":
    main()
