"""The MPI library that mpi4py has loaded, as the compiled module needs it: functions by address, handles by value."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from typing import Any

from microbench import extensions
from microbench.errors import InputError
from microbench.mpi import launcher

_FUNCTIONS = (
    *("Barrier", "Send", "Recv", "Isend", "Irecv", "Wait", "Start", "Request_free", "Op_create", "Op_free"),
    *("Allreduce", "Iallreduce", "Allreduce_init"),
    *("Reduce_scatter_block", "Ireduce_scatter_block", "Reduce_scatter_block_init"),
    *("Allgather", "Iallgather", "Allgather_init", "Bcast", "Ibcast", "Bcast_init"),
    *("Alltoall", "Ialltoall", "Alltoall_init"),
)
_HANDLES = (
    *("DOUBLE", "FLOAT", "INT32_T", "UINT16_T"),
    *("SUM", "MAX", "MIN", "INFO_NULL"),
)


# MPIX_GPU_SUPPORT_CUDA of MPICH's mpi.h.
_GPU_SUPPORT_CUDA = 0


@dataclass(frozen=True)
class Mpi:
    """An initialised MPI: mpi4py's module, the compiled module and what the latter knows of the library."""

    MPI: Any
    compiled: Any
    library: Any

    def blind_to_gpus(self) -> str:
        """Why this MPI cannot be given GPUs' memory; "" where it says that it can."""
        loaded = ctypes.CDLL(self.MPI.__file__)
        answer = ctypes.c_int(0)
        if (asked := getattr(loaded, "MPIX_Query_cuda_support", None)) is not None:  # Open MPI
            answer.value = asked()
        elif (asked := getattr(loaded, "MPIX_GPU_query_support", None)) is not None:  # MPICH
            asked(_GPU_SUPPORT_CUDA, ctypes.byref(answer))
        else:
            return "this MPI library does not say whether it can be given GPUs' memory: --backend cpu measures it"
        if answer.value:
            return ""
        return "this MPI library was built without support of CUDA: take another one, or --backend cpu"

    def communicator(self, group: Any, parts: int = 1, part: int = 0) -> Any:
        """mpi4py's communicator ``group`` for the compiled module; ``group`` must live as long.

        Where each of its ranks stands for several ``parts``, as which ``part`` of this one it is seen.
        """
        rank, size = parts * group.Get_rank() + part, parts * group.Get_size()
        return self.compiled.Communicator(self.library, self.MPI._handleof(group), rank, size)


def load() -> Mpi:
    """Loads and initialises MPI.

    Raises:
        InputError: mpi4py, an MPI library or the compiled module is missing.
    """
    # The ranks' own threads would take processors from other ranks; must stand before OpenMP's library is loaded.
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        import mpi4py
    except ImportError as error:
        raise InputError(f"collectives need mpi4py and an MPI library: {launcher.HOW_TO_GET}") from error
    mpi4py.rc.initialize = False
    mpi4py.rc.threads = False  # one thread of each rank calls MPI; locks would be timed
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"mpi4py finds no MPI library ({reason}): {launcher.HOW_TO_GET}") from error
    try:
        compiled: Any = extensions.load("microbench._mpi")
    except ImportError as error:
        raise InputError(f"microbench._mpi cannot be imported ({error}): install microbench again") from error
    if not MPI.Is_initialized():
        MPI.Init()
    loaded = ctypes.CDLL(MPI.__file__)
    addresses = {}
    for name in (f"MPI_{function}" for function in _FUNCTIONS):
        function = getattr(loaded, name, None)  # those of MPI 4 are not in every library
        if function is not None:
            addresses[name] = ctypes.cast(function, ctypes.c_void_p).value
    handles = {f"MPI_{name}": MPI._handleof(getattr(MPI, name)) for name in _HANDLES}
    in_place = int(MPI.IN_PLACE) % 2**64
    return Mpi(MPI, compiled, compiled.Library(addresses, handles, in_place))
