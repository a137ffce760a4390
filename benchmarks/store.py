"""How long a big run takes to open and to print as a table, in a fresh process, interpreter start included.

Writes a made-up run to a temporary folder and times ``Run.load`` and ``formats.write`` on it. The aim for
10,000 records of 100 samples is under 2 s. Usage: ``python benchmarks/store.py [--records N] [--samples N]``.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from microbench.record import Record
from microbench.store import RECORDS_FILE, RunInfo, RunWriter, encode

PRINT = """
import sys
from microbench.formats import write
from microbench.store import Run
run, form = Run.load(sys.argv[1]), sys.argv[2]
write(run.records() if form == "json" else run.summaries(), form, sys.stdout)
"""


def made_up_record(index: int, samples: int, rng: random.Random) -> Record:
    """About the bulk that a measured record has."""
    times = [rng.lognormvariate(-7, 0.02) for _ in range(samples)]
    median = statistics.median(times)
    m = 16 * (1 + index)
    return Record(
        kernel="gemm",
        library=("onednn", "openblas")[index % 2],
        algorithm="auto",
        precision=("fp32", "bf16", "fp16_in_fp32_math", "int8")[index // 2 % 4],
        pass_="forward",
        layout="column_major",
        problem={"m": m, "n": 64, "k": 2560, "a_transposed": False, "b_transposed": True},
        labels={"suite": "training", "application": "made up"},
        backend="cpu",
        mode="cold",
        threads=4,
        repeat=0,
        index=index,
        status="ok",
        reason="",
        samples_s=times,
        median_s=median,
        ci_low_s=0.995 * median,
        ci_high_s=1.004 * median,
        confidence=0.99,
        effective_n=float(samples),
        flops=2 * m * 64 * 2560,
        bytes=4 * (m * 2560 + 2560 * 64 + m * 64),
        workspace_bytes=0,
        peak_flops_per_s=2.5e11,
        max_error=1e-7 * rng.random(),
        frobenius_error=1e-8 * rng.random(),
        tolerance=1e-6,
        first_execution_s=10 * median,
        warmup={"reached": True, "executions": 30, "seconds": 0.1},
        summary={name: rng.random() for name in ("minimum", "q1", "median", "q3", "maximum", "mean", "mad")},
        diagnostics={"autocorrelation": [rng.random() for _ in range(10)], "effective_n": float(samples)},
        facts={"implementation": "brg_matmul:avx512_core", "fp32_probe_flops_per_s": [2.4e11, 2.5e11]},
        seed=index,
        started_at="2025-01-02T03:04:05.678+00:00",
        measuring_s=0.5,
        python_s=0.01,
    )


def write_run(folder: Path, records: int, samples: int) -> None:
    """Writes a run of made-up records, all at once: how long appending takes is the disk's affair."""
    info = RunInfo(
        microbench_version="0",
        created="2025-01-02T03:04:05+00:00",
        command=[],
        kernel="gemm",
        problem_set="made up",
        planned_records=records,
    )
    RunWriter.create(folder, info).close()
    rng = random.Random(0)
    with (folder / RECORDS_FILE).open("wb") as file:
        for index in range(records):
            file.write(encode(made_up_record(index, samples, rng)) + b"\n")


def seconds_to_print(folder: Path, form: str) -> float:
    """Wall time of a process that opens the run and prints it."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", PRINT, folder, form], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=100, help="per record")
    parser.add_argument("--processes", type=int, default=7, help="fresh processes timed for each format")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "run"
        write_run(folder, options.records, options.samples)
        size = (folder / RECORDS_FILE).stat().st_size
        print(f"{options.records} records of {options.samples} samples, {size / 1e6:.0f} MB")
        for form in ("table", "markdown", "csv", "json"):
            times = sorted(seconds_to_print(folder, form) for _ in range(options.processes))
            print(f"{form:>8}: median {statistics.median(times):.2f} s, {times[0]:.2f} to {times[-1]:.2f} s")


if __name__ == "__main__":
    main()
