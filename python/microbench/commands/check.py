"""``check``: the regression gate, for continuous integration."""

from __future__ import annotations

import sys
from typing import Any


def add(commands: Any) -> None:
    check = commands.add_parser(
        "check",
        help="fail where a run is slower than a baseline",
        description="Exit code 0: nothing is slower than allowed, missing or failed; 1: something is; 2: bad input, "
        "such as too few runs to judge anything.",
    )
    check.add_argument("run", help="the folder of the new run")
    check.add_argument(
        "--baseline", required=True, metavar="RUN", help="the folder of the run it is held against"
    )
    check.add_argument(
        "--max-slowdown",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="largest slow-down, as measured, that passes; whether there is one is tested (default: 0.01)",
    )
    check.add_argument(
        "--confidence",
        type=float,
        default=0.95,
        metavar="SHARE",
        help="of all verdicts together: equal runs fail in one minus this share (default: 0.95)",
    )
    check.add_argument("--format", choices=("table", "json"), default="table", help="default: table")


def run(given: dict[str, Any], _: list[str]) -> int:
    from microbench import sources
    from microbench.comparison import gate

    baseline, new = sources.load_all([given["baseline"], given["run"]])
    sources.refuse_copies([baseline, new])
    levels = {"max_slowdown": given["max_slowdown"], "confidence": given["confidence"]}
    outcome = gate.check(baseline, new, **levels)
    gate.write(outcome, given["format"], sys.stdout)
    return int(not outcome.passed)
