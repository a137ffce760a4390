"""Benchmark of the basic operations of deep learning: verified results, whole timing distributions.

From Python::

    import microbench

    run = microbench.run("gemm", problems="smoke", precision=("fp32", "int8"))
    table = microbench.load(run.folder)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from microbench.comparison import Report
    from microbench.store import Run

__version__ = "0.1.0"


def run(kernel: str, output: str | Path | None = None, *, resume: bool = False, **options: Any) -> Run:
    """Runs a sweep as the command line does and returns the stored run.

    Args:
        kernel: one of `microbench.arguments.MEASURED`, such as ``gemm``.
        output: folder of the run; by default a new one under ``runs``.
        resume: go on with the run in ``output``, started with the same options.
        options: those of `microbench.options.Options`, for instance ``precision=("fp32", "int8")``.

    Raises:
        InputError: something asked for does not exist, or the folder cannot be used.
    """
    from microbench.options import Options
    from microbench.runner import Face, sweep

    return sweep(Options.of({"kernel": kernel, **options}), output, resume=resume, command=[], face=Face())


def compare(*sources: str, **options: Any) -> Report:
    """Runs, or published results such as ``deepbench:V100``, held against the first.

    See `microbench.comparison.compare`, whose ``options`` these are.
    """
    from microbench import comparison
    from microbench.sources import load_all

    return comparison.compare(load_all(sources), **options)


def load(folder: str | Path) -> pd.DataFrame:
    """A stored run as a table, one row per record; see `microbench.store.frame`."""
    from microbench.store import Run, frame

    return frame(Run.load(folder))
