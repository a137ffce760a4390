"""Speed of the study: divisions of 94 layers' batches of 256 under every policy, and of one total workspace.

    python benchmarks/study.py

Exits with 1 where all that takes more than 5 s of processor time. Times are made up: eight algorithms with a fixed
and a proportional part, workspaces that grow with the batch and 1 % of noise, on every micro-batch size from 1 to 256.
"""

from __future__ import annotations

import math
import sys
import time

import numpy as np

from microbench.study.microbatch import POLICIES, Division, allowed, desirable_set
from microbench.study.workspaces import divide_workspace

LAYERS, BATCH, ALGORITHMS = 94, 256, 8
TOTAL_BYTES = 1 << 30
LIMIT_S = 5.0


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


def main() -> int:
    """Prints the seconds of each step and their sum; 1 where that is more than it should be."""
    rng = np.random.default_rng(0)
    layers = [kernels(rng) for _ in range(LAYERS)]
    total = 0.0
    for policy in POLICIES:
        began = time.process_time()
        fronts: list[list[Division]] = [
            desirable_set(allowed(layer, BATCH, policy), BATCH, math.inf) for layer in layers
        ]
        solved = time.process_time()
        shared = divide_workspace(fronts, TOTAL_BYTES)
        done = time.process_time()
        total += done - began
        print(
            f"{policy:<11} {sum(map(len, fronts)):>5} divisions in {solved - began:.2f} s; one total of "
            f"{TOTAL_BYTES >> 20} MiB {'divided' if shared else 'found too little'} in {done - solved:.2f} s"
        )
    passed = total <= LIMIT_S
    print(
        f"{LAYERS} layers, all policies: {total:.2f} s of processor time, "
        f"{'within' if passed else 'MORE THAN'} the {LIMIT_S:g} s it may take"
    )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
