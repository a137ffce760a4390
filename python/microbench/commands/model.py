"""``model``: log(time) = device + kernel + size + precision, how far that holds, and predictions with intervals."""

from __future__ import annotations

import sys
from typing import Any


def add(commands: Any) -> None:
    model = commands.add_parser(
        "model",
        help="fit times by device, kernel, size and precision; predict what was not measured",
        description="Fits log(time) = device + kernel + size + precision, with library, layout, mode and threads where "
        "they vary, and says how far it holds. A SOURCE is a run's folder, a folder of runs of one device, or "
        "published results such as deepbench:V100.",
    )
    model.add_argument("sources", nargs="+", metavar="SOURCE", help="runs or published results")
    model.add_argument(
        "--interactions",
        action="store_true",
        help="let a device's effect differ between kernels and precisions",
    )
    model.add_argument(
        "--predict",
        action="append",
        default=[],
        metavar="KERNEL:k=v,...",
        help="a problem's columns, and pass, precision, library, layout, mode or threads; may be repeated",
    )
    model.add_argument(
        "--device", action="append", default=[], metavar="NAME", help="for which to predict (default: all)"
    )
    model.add_argument(
        "--ceilings",
        metavar="C",
        help="predict for a device that has these: compute=125TFLOP/s,memory=900GB/s",
    )
    model.add_argument(
        "--confidence", type=float, default=0.95, metavar="SHARE", help="of intervals (default: 0.95)"
    )
    model.add_argument("--pictures", metavar="DIR", help="write figures of residuals and errors there")
    model.add_argument(
        "--format", choices=("table", "json", "markdown"), default="table", help="default: table"
    )


def run(given: dict[str, Any], _: list[str]) -> int:
    from pathlib import Path

    from microbench import model, sources
    from microbench.model import plots, text
    from microbench.model.ceilings import parse_ceilings
    from microbench.report import pictures

    ceilings = None if given["ceilings"] is None else parse_ceilings(given["ceilings"])
    given_sources = sources.load_all(given["sources"])
    sources.refuse_copies(given_sources)
    report = model.analyse(
        given_sources,
        interactions=given["interactions"],
        confidence=given["confidence"],
        predict=given["predict"],
        devices=given["device"],
        ceilings=ceilings,
    )
    text.write(report, given["format"], sys.stdout)
    if given["pictures"] is not None:
        for path in pictures.write(plots.figures(report), Path(given["pictures"])):
            print(path, file=sys.stderr)
    return 0
