"""Everything about MPI and its ranks that could explain a number, as plain data for run.json."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from microbench import environment
from microbench.mpi.member import Place
from microbench.topology import format_cpu_list

# What chooses transports, algorithms and binding; not what a launcher says of one start.
_VARIABLES = re.compile(
    r"(OMPI_MCA|PRTE_MCA|PMIX_MCA|MPIR_CVAR|MPICH|I_MPI|FI|UCX|PSM2|HYDRA|SLURM_CPU_BIND)(_.*)?", re.DOTALL
)
_OF_ONE_START = re.compile(r"OMPI_MCA_(initial_wdir|num_procs|PREFIXES|cpu_type)|HYDRA_.*(PORT|ID|FD).*")


def capture(
    mpi: Any,
    places: Sequence[Place],
    nodes: Sequence[int],
    command: Sequence[str],
    gpus: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """The set-up of rank 0's host, the MPI library (mpi4py's module ``mpi``), where every rank runs and its GPU."""
    hosts: dict[int, dict[str, Any]] = {}
    for rank, (place, node) in enumerate(zip(places, nodes, strict=True)):
        hosts.setdefault(node, {"name": place.node, "ranks": []})["ranks"].append(rank)
    here: dict[str, Any] = environment.capture(command)
    here["libraries"] = {"mpi": {"version": version(mpi), "path": _path()}}
    here["mpi"] = {
        "library": version(mpi),
        "standard": ".".join(map(str, mpi.Get_version())),
        "ranks": len(places),
        "hosts": list(hosts.values()),
        "binding": [format_cpu_list(place.cpus) for place in places],
        "variables": {
            name: value
            for name, value in sorted(os.environ.items())
            if _VARIABLES.fullmatch(name) and not _OF_ONE_START.fullmatch(name)
        },
    }
    if gpus:
        here["mpi"]["gpus"] = [{key: gpu[key] for key in gpu if key != "nccl"} for gpu in gpus]
        if nccl := gpus[0]["nccl"]:
            here["libraries"]["nccl"] = nccl
    return here


def version(mpi: Any) -> str:
    """The first line of what the library says of itself."""
    text: str = mpi.Get_library_version()
    return " ".join(text.strip("\0").splitlines()[0].split())


def _path() -> str | None:
    """The MPI library's file, as this process has mapped it."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:  # noqa: PTH123 - no file on a disk
            paths = (line.split(maxsplit=5)[-1].strip() for line in maps)
            return next((path for path in paths if re.search(r"/libmpi[^/]*\.so", path)), None)
    except OSError:
        return None
