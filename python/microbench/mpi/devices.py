"""GPUs of the ranks as rank 0 conducts them: which rank takes which, and who is connected to whom by NCCL.

Every GPU is one of NCCL's ranks: those of MPI's rank 0 are the first, and so on.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from microbench.errors import InputError
from microbench.mpi.member import Place
from microbench.mpi.options import DEFAULT_LIBRARIES, CollectiveOptions
from microbench.mpi.team import RankFailed, Team

# Since NCCL 2.30 more than one rank may use a GPU where this is 1.
SHARING = "NCCL_MULTI_RANK_GPU_ENABLE"


def take(
    team: Team, options: CollectiveOptions, places: Sequence[Place], nodes: Sequence[int]
) -> list[dict[str, Any]]:
    """Every rank takes its GPUs of its node; by NCCL's rank, what each is.

    Raises InputError where a rank has none, where NCCL is asked for and not there, or where ranks share one.
    """
    with_nccl = "nccl" in (options.library or DEFAULT_LIBRARIES[options.device])
    asked = "--library nccl" if with_nccl else "--backend cuda"
    try:
        taken: list[list[dict[str, Any]]] = team.all(
            "take_gpus", tuple(nodes), options.gpus_per_rank, with_nccl
        )
    except RankFailed as failed:
        raise InputError(
            f"{asked}: rank {failed.rank} on {places[failed.rank].node}: {failed.text}"
        ) from failed
    found = [gpu for gpus in taken for gpu in gpus]
    users: dict[tuple[int, str], int] = {}
    for number, gpu in enumerate(found):
        rank = number // options.gpus_per_rank
        other = users.setdefault((nodes[rank], gpu["pci_bus_id"]), number)
        if other != number and with_nccl and os.environ.get(SHARING) != "1":
            raise InputError(
                f"{asked}: ranks {other} and {number} on {places[rank].node} share GPU {gpu['pci_bus_id']}: start at "
                f"most as many ranks (times --gpus-per-rank) as there are GPUs, or set {SHARING}=1 (NCCL 2.30 and "
                "newer)"
            )
    return found


def connect(team: Team, algorithm: str, nodes: Sequence[int]) -> None:
    """Connects all ranks by NCCL, or those of each node where the algorithm is for these; once in a run.

    Raises RankFailed where NCCL fails.
    """
    by_node = algorithm == "hierarchical"
    name = "node" if by_node else "world"
    groups = tuple(nodes.index(node) if by_node else 0 for node in nodes)
    identities = team.all("nccl_id", name, groups)
    if any(identities):
        team.all("connect", name, groups, tuple(identities))
