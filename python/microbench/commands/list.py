"""``list``: kernels, problem sets, libraries and precisions."""

from __future__ import annotations

from typing import Any


def add(commands: Any) -> None:
    listing = commands.add_parser("list", help="kernels, problem sets, libraries and precisions")
    listing.add_argument("kernel", nargs="?", help="list this kernel's problems instead")
    listing.add_argument(
        "--problems", default="deepbench", metavar="SET_OR_FILE", help="which (default: deepbench)"
    )
    listing.add_argument(
        "--where", action="extend", nargs="+", default=[], metavar="COLUMN=VALUE", help="only such problems"
    )


def run(given: dict[str, Any], _: list[str]) -> int:
    from microbench import listing

    if given["kernel"] is None:
        print(listing.overview())
    else:
        print(listing.problems(given["kernel"], given["problems"], tuple(given["where"])))
    return 0
