"""``device``: what is on this machine."""

from __future__ import annotations

from typing import Any


def add(commands: Any) -> None:
    commands.add_parser("device", help="what is on this machine, what is missing and how to get it")


def run(_: dict[str, Any], command: list[str]) -> int:
    from microbench import listing

    print(listing.device(command))
    return 0
