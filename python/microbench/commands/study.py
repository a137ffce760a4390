"""``study``: how much workspace pays, which algorithm to choose at which limit, and whether to split the batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_OPTIONS = (
    "problems",
    "problem",
    "where",
    "pass",
    "precision",
    "library",
    "layout",
    "backend",
    "threads",
    "pin",
    "mode",
    "max_time",
    "time_budget",
)
_PLAN = ("batch", "sizes", "rounds", "fills")
_ROUNDS = 3


def add(commands: Any) -> None:
    from microbench.arguments import size

    study = commands.add_parser(
        "study",
        help="algorithms, workspaces and micro-batches of convolution",
        description="Says what a run of conv, or a study's folder of runs, knows of algorithms and workspaces. With "
        "--measure the study is measured first: every algorithm on several batch sizes, then the best divisions.",
    )
    study.add_argument("folder", metavar="FOLDER", help="a run of conv, or the folder of a study")
    asked = study.add_argument_group("what is asked")
    asked.add_argument(
        "--limits",
        nargs="+",
        type=size,
        metavar="SIZE",
        help="workspace limits (default: 64 128 256 512 MiB)",
    )
    asked.add_argument(
        "--max-error", type=float, metavar="E", help="largest Frobenius-relative error (default: any)"
    )
    asked.add_argument(
        "--policy", metavar="P", default="all", help="micro-batches: undivided, powerOfTwo or all (default)"
    )
    asked.add_argument(
        "--total-workspace",
        nargs="+",
        type=size,
        default=[],
        metavar="SIZE",
        help="to share among all layers",
    )
    asked.add_argument("--dominated", action="store_true", help="show algorithms that are beaten, too")
    out = study.add_argument_group("where to")
    out.add_argument("--export", metavar="FILE", help="the chosen configuration of each layer, as JSON")
    out.add_argument("--plots", metavar="DIR", help="pictures")
    out.add_argument("--plot-format", metavar="F", default="svg", help="svg (default), png or pdf")
    measuring = study.add_argument_group("measuring")
    measuring.add_argument("--measure", action="store_true", help="measure first, into FOLDER")
    measuring.add_argument("--resume", action="store_true", help="go on with the study in FOLDER")
    measuring.add_argument(
        "--batch", type=int, metavar="N", help="images of the whole batch (default: the table's)"
    )
    measuring.add_argument(
        "--sizes",
        nargs="+",
        type=int,
        metavar="N",
        help="micro-batches (default: the batch halved 4 times)",
    )
    measuring.add_argument("--rounds", type=int, metavar="N", help="of each division (default: 3)")
    measuring.add_argument(
        "--fills", action="store_true", default=None, help="measure the fastest kernels on several fills, too"
    )
    for name in ("problems", "backend", "mode"):
        measuring.add_argument(f"--{name}", metavar="X", help="as for conv")
    measuring.add_argument("--problem", action="append", metavar="k=v,...", help="as for conv")
    measuring.add_argument("--pass", nargs="+", metavar="X", help="as for conv (default: forward)")
    for name in ("where", "precision", "library", "layout"):
        measuring.add_argument(f"--{name}", nargs="+", metavar="X", help="as for conv")
    measuring.add_argument("--threads", type=int, metavar="N", help="as for conv")
    measuring.add_argument("--no-pin", dest="pin", action="store_false", default=None, help="as for conv")
    measuring.add_argument(
        "--max-time", type=float, metavar="S", help="of sampling, but 8 samples (default: 1)"
    )
    measuring.add_argument("--time-budget", type=float, metavar="S", help="measure as many layers as fit")


def run(given: dict[str, Any], command: list[str]) -> int:
    import sys

    from microbench import study
    from microbench.errors import InputError
    from microbench.study import export, plots
    from microbench.study.measure import Interrupted
    from microbench.study.section import DEFAULT_LIMITS, text

    _check(given)
    limits = tuple(given["limits"] or DEFAULT_LIMITS)
    if given["measure"] or given["resume"]:
        try:
            limits = _measure(given, command)
        except (Interrupted, KeyboardInterrupt):
            print(
                f"microbench: the study in {given['folder']} was stopped: go on with study {given['folder']} --resume",
                file=sys.stderr,
            )
            return 1
    found = study.load(given["folder"])
    if not found.points:
        raise InputError(found.unfinished[0]) if found.unfinished else _nothing_to_study(given["folder"])
    question = study.Question(
        limits, given["max_error"], given["policy"], tuple(given["total_workspace"]), given["dominated"]
    )
    print(text(study.section_of(found, question)))
    if given["plots"]:
        for path in plots.write(
            found, given["plots"], limits, given["policy"], given["plot_format"], given["max_error"]
        ):
            print(path)
    if given["export"]:
        totals = given["total_workspace"]
        export.write(
            given["export"],
            export.configurations(
                found, limits, totals[0] if totals else None, given["policy"], given["max_error"]
            ),
        )
    return 0


def _check(given: dict[str, Any]) -> None:
    """Raises InputError for all that can be known to be wrong before anything is read, measured or written."""
    import importlib.util
    import math

    from microbench.errors import InputError
    from microbench.study import plots
    from microbench.study.microbatch import POLICIES

    for option, value, choices in (
        ("--policy", given["policy"], POLICIES),
        ("--plot-format", given["plot_format"], plots.FORMATS),
    ):
        if value not in choices:
            raise InputError(f"{option} {value}: there is no such choice; there are {', '.join(choices)}")
    error = given["max_error"]
    if error is not None and not (math.isfinite(error) and error > 0):
        raise InputError(f"--max-error {error:g}: must be a number above 0")
    if not (given["measure"] or given["resume"]):
        for name in (*_OPTIONS, *_PLAN):
            if given[name] is not None:
                raise InputError(
                    f"--{_option(name)}: says what is measured: give it with --measure, or leave it out"
                )
    for name in ("batch", "rounds", "sizes"):
        values = given[name] if isinstance(given[name], list) else [given[name]]
        if any(value is not None and value < 1 for value in values):
            raise InputError(f"--{name}: must be at least 1")
    for name in ("limits", "total_workspace"):
        if any(size < 1 for size in given[name] or ()):
            raise InputError(f"--{_option(name)}: must be at least 1 byte")
    if given["export"]:
        if len(given["total_workspace"]) > 1:
            raise InputError("--export: give one --total-workspace to choose configurations for")
        _check_destination("--export", given["export"], folder=False)
    if given["plots"]:
        _check_destination("--plots", given["plots"], folder=True)
        if importlib.util.find_spec("matplotlib") is None:
            raise InputError("--plots needs matplotlib: pip install 'microbench[report]'")


def _option(name: str) -> str:
    return {"pin": "no-pin"}.get(name, name.replace("_", "-"))


def _check_destination(option: str, name: str, *, folder: bool) -> None:
    """Whether a file, or files in a folder that may have to be made, can be written there."""
    import os
    import tempfile
    from pathlib import Path

    from microbench.errors import InputError

    path = Path(name)
    other = "folder" if folder else "file"
    if path.exists() and path.is_dir() != folder:
        raise InputError(f"{option} {path}: is {'no' if folder else 'a'} folder: choose another {other}")
    there = path
    while folder and not there.exists():
        there = there.parent
    if not folder and not path.exists():
        there = path.parent
    if not there.exists():
        raise InputError(f"{option} {path}: there is no folder {there}: make it or choose another file")
    writable = os.access(there, os.W_OK) and (there == path or there.is_dir())
    if writable and there.is_dir():
        try:  # permissions do not say that of every file system
            with tempfile.TemporaryFile(dir=there):
                pass
        except OSError:
            writable = False
    if not writable:
        raise InputError(f"{option} {path}: cannot be written in {there}: choose another {other}")


def _nothing_to_study(folder: str) -> Exception:
    from pathlib import Path

    from microbench.errors import InputError
    from microbench.store import RUN_FILE, Run
    from microbench.study.layers import DIVISION, KERNELS

    run = Run.load(folder if (Path(folder) / RUN_FILE).is_file() else Path(folder) / KERNELS)
    names = [record.algorithm for record in run.summaries()]
    if names and all(name.startswith(DIVISION) for name in names):
        return InputError(
            f"{folder} holds divisions of batches only, which is not what a study starts from: measure the algorithms "
            "themselves by conv --algorithm all, or everything by study --measure"
        )
    return InputError(f"{folder} has no right result with a known workspace: measure conv --algorithm all")


def _measure(given: dict[str, Any], command: list[str]) -> tuple[int, ...]:
    """Measures, or goes on; returns the limits, which a resumed study has of its own."""
    import dataclasses

    import msgspec

    from microbench.errors import InputError
    from microbench.face import Terminal
    from microbench.options import Options
    from microbench.runner import Face
    from microbench.study import measure
    from microbench.study.section import DEFAULT_LIMITS

    @contextmanager
    def watched(name: str) -> Any:
        face: Face
        with Terminal(None) as face:
            print(f"study: measuring {name}", flush=True)
            yield face

    named = {name: given[name] for name in _OPTIONS if given[name] is not None}
    of_plan: dict[str, Any] = {
        name: tuple(given[name]) if isinstance(given[name], list) else given[name]
        for name in (*_PLAN, "limits")
        if given[name] is not None
    }
    if given["resume"]:
        asked = measure.stored_plan(given["folder"])
        before = msgspec.to_builtins(asked) | msgspec.to_builtins(asked.options)
        now = msgspec.to_builtins(Options.of({"kernel": "conv", **named})) | of_plan
        for name in (*named, *of_plan):
            if msgspec.to_builtins(now[name]) != msgspec.to_builtins(before[name]):
                raise InputError(
                    f"{given['folder']}: was started with another --{_option(name)}: resume it with the same options, "
                    "or none"
                )
    else:
        asked = dataclasses.replace(
            measure.Plan(
                Options.of({"kernel": "conv", "max_time": 1.0, **named}),
                limits=DEFAULT_LIMITS,
                rounds=_ROUNDS,
            ),
            **of_plan,
        )
    with _terminations():
        measure.measure(
            asked,
            given["folder"],
            resume=given["resume"],
            command=["microbench", *command],
            watched=watched,
        )
    return asked.limits


@contextmanager
def _terminations() -> Iterator[None]:
    """SIGTERM between two stages ends a study as SIGINT does."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():  # signals go to the main thread alone
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
