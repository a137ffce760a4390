"""``compare``: which of two or more runs is faster at what, by how much, and how sure that is."""

from __future__ import annotations

import sys
from typing import Any

from microbench.formats import FORMATS


def add(commands: Any) -> None:
    compare = commands.add_parser(
        "compare",
        help="set runs or published results against each other",
        description="Sets every SOURCE but the first against the first; a single one is shown as it is. A SOURCE is a "
        "run's folder, a folder of runs of one device, or published results such as deepbench:V100.",
    )
    compare.add_argument("sources", nargs="*", metavar="SOURCE", help="the first is the base case")
    compare.add_argument("--list", action="store_true", help="list the published results")
    compare.add_argument(
        "--by",
        choices=("library", "algorithm", "layout", "threads"),
        help="set the values of this factor against each other within the sources",
    )
    compare.add_argument(
        "--best",
        action="store_true",
        help="the fastest library and algorithm of each side, not the same ones",
    )
    compare.add_argument(
        "--recipe", choices=("coral2",), help="a fixed list of problems beside published ratios"
    )
    compare.add_argument(
        "--confidence",
        type=float,
        default=0.95,
        metavar="SHARE",
        help="of all verdicts together, and of each interval (default: 0.95)",
    )
    compare.add_argument(
        "--relevant",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="smallest difference that matters (default: 0.01)",
    )
    compare.add_argument("--format", choices=FORMATS, default="table", help="default: table")


def run(given: dict[str, Any], _: list[str]) -> int:
    from microbench import comparison, sources
    from microbench.comparison import listing, recipes, text
    from microbench.errors import InputError

    if given["list"]:
        print(listing.published_text())
        return 0
    if not given["sources"]:
        raise InputError(
            "compare: say what to compare, runs or published results; --list lists the published ones"
        )
    chosen = sources.load_all(given["sources"])
    sources.refuse_copies(chosen)
    levels = {"confidence": given["confidence"], "relevant": given["relevant"]}
    if given["recipe"]:
        recipes.write(recipes.coral2(chosen, **levels), given["format"], sys.stdout)
    elif len(chosen) == 1 and given["by"] is None:
        listing.write_times(chosen[0], given["format"], sys.stdout)
    else:
        report = comparison.compare(chosen, by=given["by"], best=given["best"], **levels)
        text.write(report, given["format"], sys.stdout)
    return 0
