"""The command line: reads arguments, calls what does the work, says what went wrong in one sentence."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from microbench.arguments import MEASURED, given_options, parser
from microbench.errors import InputError, StoreError

if TYPE_CHECKING:
    from microbench.figures import Row
    from microbench.options import Options
    from microbench.store import Run


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. Returns 0, 1 (some records are neither ok nor unsupported) or 2 (bad input)."""
    command = list(sys.argv[1:] if arguments is None else arguments)
    warnings.showwarning = _one_line
    try:
        given = vars(parser().parse_args(command))
        name = given.pop("command")
        if name in MEASURED:
            return _sweep(name, given, command)
        commands = {"list": _list, "device": _device, "show": _show, "selftest": _selftest}
        return commands[name](given, command)
    except InputError as error:
        print(f"microbench: {error}", file=sys.stderr)
        return 2
    except StoreError as error:
        print(f"microbench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("microbench: interrupted before there was a run", file=sys.stderr)
        return 1
    except OSError as error:  # of standard output: all others are sentences by now
        return _output_lost(error)


def _output_lost(error: OSError) -> int:
    # What the interpreter still holds back for standard output would fail again when it exits.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):  # whoever closed the pipe has seen enough
        print(
            f"microbench: cannot write the output ({error.strerror}); the run itself is kept", file=sys.stderr
        )
    return 1


def _one_line(message: Warning | str, *_: object, **__: object) -> None:
    print(f"microbench: warning: {message}", file=sys.stderr)


def _sweep(kernel: str, given: dict[str, Any], command: list[str]) -> int:
    from microbench.options import Options
    from microbench.store import Run

    asked = {"kernel": kernel} | given_options(given)
    resume = given.get("resume", False)
    if resume:
        if "output" not in given:
            raise InputError("--resume: say which run goes on by --output DIR")
        asked = Run.load(given["output"]).info.options | asked
    options = Options.of(asked)
    run = _measure(options, given.get("output"), resume, command, given.get("format", "table"))
    return _exit_code(run)


def _measure(options: Options, output: str | None, resume: bool, command: list[str], form: str) -> Run:
    """Runs the sweep under the eyes of the terminal and prints its result in ``form``."""
    from microbench.face import Terminal
    from microbench.runner import sweep

    # Which algorithm is the best is known at the end.
    rows_as_they_come = form == "table" and options.algorithm != ("best",)
    with Terminal(sys.stdout if rows_as_they_come else None, options.confidence) as face:
        measured = sweep(options, output, resume=resume, command=["microbench", *command], face=face)
    _print(measured, form, rows=not rows_as_they_come)
    return measured


def _print(run: Run, form: str, *, rows: bool = True) -> None:
    """Prints rows, of ``--algorithm best`` only the best, and for people a summary."""
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


def _exit_code(run: Run, *accepted: str) -> int:
    return int(any(record.status not in ("ok", "unsupported", *accepted) for record in run.summaries()))


def _show(given: dict[str, Any], _: list[str]) -> int:
    from microbench.store import Run

    _print(Run.load(given["run"]), given["format"])
    return 0


def _list(given: dict[str, Any], _: list[str]) -> int:
    from microbench import listing

    if given["kernel"] is None:
        print(listing.overview())
    else:
        print(listing.problems(given["kernel"], given["problems"], tuple(given["where"])))
    return 0


def _device(_given: dict[str, Any], command: list[str]) -> int:
    from microbench import listing

    print(listing.device(command))
    return 0


def _selftest(given: dict[str, Any], command: list[str]) -> int:
    from microbench import selftest

    options = selftest.options(runs=given["runs"], max_time=given["max_time"], seed=given["seed"])
    run = _measure(options, given["output"], False, command, "none")
    print(selftest.report(run))
    # Unstable is no failure here: it is what the test is there to find out.
    return _exit_code(run, "unstable")
