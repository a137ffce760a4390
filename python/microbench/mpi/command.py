"""The commands of the collectives, called on every rank."""

from __future__ import annotations

from typing import Any

from microbench.errors import InputError
from microbench.mpi import library
from microbench.mpi import sweep as sweeping
from microbench.mpi.options import CollectiveOptions
from microbench.mpi.team import Team
from microbench.store import Run


def sweep(kernel: str, given: dict[str, Any], command: list[str]) -> int:
    """Measures the collective ``kernel`` as the command line asks; returns this rank's exit code.

    Raises:
        InputError: on rank 0, where something asked for does not exist; on all ranks, where there is no MPI.
    """
    mpi = library.load()

    def conduct(team: Team, _: int) -> int:
        options = _options(kernel, given)
        return sweeping.conduct(
            mpi,
            team,
            options,
            given.get("output"),
            resume=given.get("resume", False),
            command=command,
            form=given.get("format", "table"),
        )

    return sweeping.run(mpi, conduct)


def _options(kernel: str, given: dict[str, Any]) -> CollectiveOptions:
    asked = {name: value for name, value in given.items() if name in CollectiveOptions.__struct_fields__}
    if given.get("resume", False):
        if "output" not in given:
            raise InputError("--resume: say which run goes on by --output DIR")
        asked = Run.load(given["output"]).info.options | asked
    return CollectiveOptions.of({**asked, "kernel": kernel})
