"""What the commands that measure have in common, and the sweep of a kernel."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microbench.arguments import given_options
from microbench.collective import COLLECTIVES
from microbench.errors import InputError
from microbench.mpi import launcher

if TYPE_CHECKING:
    from microbench.figures import Row
    from microbench.options import Options
    from microbench.store import Run


def sweep(kernel: str, given: dict[str, Any], command: list[str]) -> int:
    """Measures ``kernel`` as the command line asks; returns the exit code."""
    if given.get("fleet"):
        from microbench.mpi import fleet

        return fleet.sweep(kernel, given, command)
    if (ranks := launcher.ranks()) > 1:
        raise InputError(
            f"{kernel} was started as {ranks} ranks, which would all measure the same into one folder: add --fleet "
            "(each rank on its own device, in a folder of its own), or start one process"
        )
    from microbench.options import Options
    from microbench.resuming import check_options
    from microbench.store import Run

    asked = given_options(given)
    resume = given.get("resume", False)
    if resume:
        if "output" not in given:
            raise InputError("--resume: say which run goes on by --output DIR")
        stored = Run.load(given["output"]).info
        if stored.kernel != kernel:
            raise InputError(f"--resume: {given['output']} is a run of {stored.kernel}, not of {kernel}")
        check_options(Path(given["output"]), asked, stored.options)
        asked = stored.options | asked
    options = Options.of(asked | {"kernel": kernel})
    return exit_code(measure(options, given.get("output"), resume, command, given.get("format", "table")))


def measure(options: Options, output: str | None, resume: bool, command: list[str], form: str) -> Run:
    """Runs the sweep under the eyes of the terminal and prints its result in ``form``."""
    from microbench import runner
    from microbench.face import Terminal

    # Which algorithm is the best is known at the end.
    rows_as_they_come = form == "table" and options.algorithm != ("best",)
    with Terminal(sys.stdout if rows_as_they_come else None, options.confidence) as face:
        measured = runner.sweep(options, output, resume=resume, command=["microbench", *command], face=face)
    print_run(measured, form, rows=not rows_as_they_come)
    return measured


def print_run(run: Run, form: str, *, rows: bool = True) -> None:
    """Prints rows, of ``--algorithm best`` only the best, and for people a summary; collectives in their own table.

    Raises InputError where ``form`` is one of collectives and the run is not.
    """
    if run.info.kernel in COLLECTIVES:
        from microbench.mpi.table import write_run

        write_run(run, form, sys.stdout)
        return
    if form == "nccl":
        raise InputError(f"--format nccl: is for collectives, and {run.folder} is a run of {run.info.kernel}")
    from microbench.figures import fastest, shows_unicode
    from microbench.formats import FORMATS, write
    from microbench.summarise import summarise

    def chosen() -> Iterable[Row]:
        stored: Iterable[Row] = run.records() if form == "json" else run.summaries()
        return fastest(stored) if run.info.options.get("algorithm") == ["best"] else stored

    if rows and form in FORMATS:
        write(chosen(), form, sys.stdout)
    if form == "table":
        print("\n".join(["", *summarise(chosen(), unicode=shows_unicode(sys.stdout))]))


def exit_code(run: Run, *accepted: str) -> int:
    """0 where every record is ok, unsupported or one of ``accepted``, else 1."""
    return int(any(record.status not in ("ok", "unsupported", *accepted) for record in run.summaries()))
