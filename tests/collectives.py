"""Runs of all-reduces made up for tests, timed by the model that they are to find again."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from microbench.network.algorithms import closed_form_s
from microbench.network.machine import Machine
from microbench.record import Record
from microbench.store import RunWriter
from records import make_info, make_record

SIZES = tuple(8 * 4**power for power in range(12))
ALGORITHMS = ("ring", "recursive_doubling", "rabenseifner")


def allreduce_record(
    algorithm: str, ranks: int, nbytes: int, median_s: float, error: float = 0.002
) -> Record:
    """A record as `allreduce` stores it; ``error`` is the standard error of the logarithm of the median."""
    width = math.exp(2.5758 * error)
    return make_record(
        kernel="allreduce",
        library="microbench",
        algorithm=algorithm,
        pass_="",
        layout="",
        mode="hot",
        threads=1,
        problem={
            "elements": nbytes // 4,
            "op": "sum",
            "place": "out_of_place",
            "form": "blocking",
            "ranks": ranks,
        },
        labels={},
        samples_s=[median_s] * 7 + [1.5 * median_s],
        median_s=median_s,
        ci_low_s=median_s / width,
        ci_high_s=median_s * width,
        flops=0,
        max_error=0.0,
        tolerance=0.0,
        facts={"message_bytes": nbytes, "ranks": ranks, "hosts": 1, "start": "window"},
    )


def made_up(machine: Machine, spread: float, seed: int, ranks: tuple[int, ...] = (2, 4, 8)) -> list[Record]:
    """Records of `ALGORITHMS` on ``machine``, whose times have a log-normal spread."""
    rng = np.random.default_rng(seed)
    return [
        allreduce_record(
            algorithm,
            p,
            nbytes,
            closed_form_s(machine, algorithm, p, nbytes) * math.exp(rng.normal(0, spread)),
        )
        for algorithm in ALGORITHMS
        for p in ranks
        for nbytes in SIZES
    ]


def store(folder: Path, records: list[Record]) -> Path:
    """Writes ``records`` as a run."""
    environment = {"mpi": {"hosts": [{"name": "here", "ranks": [0, 1, 2, 3]}]}}
    with RunWriter.create(folder, make_info(kernel="allreduce", environment=environment)) as writer:
        for record in records:
            writer.append(record)
    return folder
