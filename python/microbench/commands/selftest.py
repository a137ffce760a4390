"""``selftest``: this machine compared with itself."""

from __future__ import annotations

from typing import Any


def add(commands: Any) -> None:
    selftest = commands.add_parser(
        "selftest",
        help="compare this machine with itself: false alarms and the smallest difference it can resolve",
    )
    selftest.add_argument(
        "--max-time",
        type=float,
        default=0.3,
        metavar="S",
        help="longest sampling of one problem (default: 0.3)",
    )
    selftest.add_argument("--runs", type=int, default=8, metavar="N", help="runs a side (default: 8)")
    selftest.add_argument("--output", metavar="DIR", help="folder of the run (default: runs/selftest-TIME)")
    selftest.add_argument("--seed", type=int, help="seed of inputs and of the order (default: fresh)")


def run(given: dict[str, Any], command: list[str]) -> int:
    from microbench import selftest
    from microbench.commands.measured import exit_code, measure

    options = selftest.options(runs=given["runs"], max_time=given["max_time"], seed=given["seed"])
    measured = measure(options, given["output"], False, command, "none")
    print(selftest.report(measured))
    # Unstable is no failure here: it is what the test is there to find out.
    return exit_code(measured, "unstable")
