"""``report``: runs as one page, figures and tables, with all that must be known to believe them."""

from __future__ import annotations

from typing import Any


def add(commands: Any) -> None:
    report = commands.add_parser(
        "report", help="make one HTML page of runs: roofline, throughput, distributions, tables"
    )
    report.add_argument(
        "run",
        nargs="+",
        metavar="RUN",
        help="a run's folder, a folder of runs of one device, or deepbench:NAME",
    )
    report.add_argument("--output", metavar="FILE", help="default: report.html, or report.md")
    report.add_argument("--format", choices=("html", "markdown"), default="html", help="default: html")
    report.add_argument("--pictures", metavar="DIR", help="write each figure there too: SVG, PDF and PNG")


def run(given: dict[str, Any], _: list[str]) -> int:
    from pathlib import Path

    from microbench.report import SUFFIXES, write
    from microbench.sources import load_all, refuse_copies

    output = Path(given["output"] or f"report{SUFFIXES[given['format']]}")
    pictures = None if given["pictures"] is None else Path(given["pictures"])
    sources = load_all(given["run"])
    refuse_copies(sources)
    written = write(sources, output, given["format"], pictures)
    for path in [output] if pictures is None else [output, pictures]:
        print(path)
    if pictures is not None and len(written) == 1:
        print("no figure: no record has a time that may be used")
    return 0
