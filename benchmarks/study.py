"""Speed of the study: divisions of 94 layers' batches of 256 under every policy, and of one total workspace.

    python benchmarks/study.py

Times are made up: eight algorithms with a fixed and a proportional part, workspaces that grow with the batch and 1 % of
noise, on every micro-batch size from 1 to 256.
"""

from __future__ import annotations

import math
import time

import numpy as np

from microbench.study.microbatch import POLICIES, Division, allowed, desirable_set
from microbench.study.workspaces import divide_workspace

LAYERS, BATCH, ALGORITHMS = 94, 256, 8
TOTAL_BYTES = 1 << 30


def kernels(rng: np.random.Generator) -> dict[int, list[tuple[float, int]]]:
    """Times and workspaces of one layer's algorithms by micro-batch size."""
    each = rng.uniform(1e-5, 1e-3, ALGORITHMS)
    fixed = rng.uniform(0, 2e-3, ALGORITHMS)
    image_bytes = rng.uniform(1e4, 1e6, ALGORITHMS)
    return {
        size: [
            (float((fixed[a] + each[a] * size) * rng.normal(1, 0.01)), int(image_bytes[a] * size))
            for a in range(ALGORITHMS)
        ]
        for size in range(1, BATCH + 1)
    }


def main() -> None:
    """Prints the seconds of each step and their sum."""
    rng = np.random.default_rng(0)
    layers = [kernels(rng) for _ in range(LAYERS)]
    total = 0.0
    for policy in POLICIES:
        began = time.perf_counter()
        fronts: list[list[Division]] = [
            desirable_set(allowed(layer, BATCH, policy), BATCH, math.inf) for layer in layers
        ]
        solved = time.perf_counter()
        shared = divide_workspace(fronts, TOTAL_BYTES)
        done = time.perf_counter()
        total += done - began
        print(
            f"{policy:<11} {sum(map(len, fronts)):>5} divisions in {solved - began:.2f} s; one total of "
            f"{TOTAL_BYTES >> 20} MiB {'divided' if shared else 'found too little'} in {done - solved:.2f} s"
        )
    print(f"{LAYERS} layers, all policies: {total:.2f} s")


if __name__ == "__main__":
    main()
