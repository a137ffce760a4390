"""``show``: prints a stored run again."""

from __future__ import annotations

from typing import Any

from microbench.formats import FORMATS


def add(commands: Any) -> None:
    show = commands.add_parser("show", help="print a run again")
    show.add_argument("run", help="the folder of a run")
    show.add_argument("--format", choices=(*FORMATS, "nccl"), default="table", help="default: table")


def run(given: dict[str, Any], _: list[str]) -> int:
    from microbench.commands.measured import print_run
    from microbench.store import Run

    print_run(Run.load(given["run"]), given["format"])
    return 0
