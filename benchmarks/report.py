"""Time and size of a report of 2,000 records.

python benchmarks/report.py [--records 2000]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from microbench.diagnostics import diagnose
from microbench.record import Record
from microbench.stats import median_interval, summary
from microbench.store import RunInfo, RunWriter

_SAMPLES = 1000
_PEAK = 4.7e11


def run(folder: Path, count: int) -> None:
    """A run of ``count`` GEMM records of a thousand simulated samples each."""
    rng = np.random.default_rng(1)
    peaks = {"fp32": {"best": _PEAK, "median": _PEAK, "samples": [_PEAK] * 20}}
    info = RunInfo(
        microbench_version="0",
        created="2026-01-01T00:00:00+00:00",
        command=["microbench", "gemm"],
        kernel="gemm",
        problem_set="simulated",
        planned_records=count,
        ceilings={"compute_flops_per_s": peaks, "memory_bytes_per_s": {"read": {"best": 6e10}}},
        plan={"last_level_cache_bytes": 1 << 25, "threads": 4},
    )
    os.fsync = lambda _: None  # of 2,000 records this would be the most of the time
    with RunWriter.create(folder, info) as writer:
        for index in range(count):
            m, n, k = (int(size) for size in rng.integers(16, 4096, 3))
            flops = 2 * m * n * k
            samples = (flops / _PEAK + 1e-6) * (1.2 + 0.05 * rng.lognormal(size=_SAMPLES))
            found, warnings = diagnose(samples.tolist(), 2e-8)
            low, high = median_interval(samples, 0.99) or (None, None)
            writer.append(
                Record(
                    kernel="gemm",
                    library=("onednn", "openblas")[index % 2],
                    algorithm="auto",
                    precision="fp32",
                    pass_="forward",
                    layout="column_major",
                    problem={"m": m, "n": n, "k": k, "a_transposed": False, "b_transposed": False},
                    labels={},
                    backend="cpu",
                    mode="hot",
                    threads=4,
                    repeat=0,
                    index=index,
                    status="ok",
                    reason="",
                    samples_s=samples.tolist(),
                    median_s=float(np.median(samples)),
                    ci_low_s=low,
                    ci_high_s=high,
                    confidence=0.99,
                    flops=flops,
                    bytes=4 * (m * n + n * k + m * k),
                    workspace_bytes=int(rng.integers(0, 1 << 24)) if index % 2 else 0,
                    peak_flops_per_s=_PEAK,
                    max_error=1e-7,
                    tolerance=1e-5,
                    summary=summary(samples),
                    diagnostics=found,
                    warnings=warnings,
                    measuring_s=1.0,
                )
            )


def main() -> None:
    """Writes a run, makes its report in a process of its own and prints time and size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=2000)
    count = parser.parse_args().records
    with tempfile.TemporaryDirectory() as place:
        run(Path(place) / "run", count)
        for form in ("html", "markdown"):
            output = Path(place) / form
            command = [
                sys.executable,
                "-m",
                "microbench",
                "report",
                f"{place}/run",
                "--format",
                form,
                "--output",
                str(output),
            ]
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds = time.perf_counter() - start
            print(f"{count} records, {form}: {seconds:.2f} s, {output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
