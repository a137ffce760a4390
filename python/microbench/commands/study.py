"""``study``: how much workspace pays, which algorithm to choose at which limit, and whether to split the batch."""

from __future__ import annotations

from typing import Any

_MEASURING = (
    "problems",
    "problem",
    "where",
    "pass",
    "precision",
    "library",
    "layout",
    "backend",
    "threads",
    "mode",
    "max_time",
    "time_budget",
)


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
        default=[],
        metavar="N",
        help="micro-batches (default: the batch halved 4 times)",
    )
    measuring.add_argument("--rounds", type=int, default=3, metavar="N", help="of each division (default: 3)")
    measuring.add_argument(
        "--fills", action="store_true", help="measure the fastest kernels on several fills, too"
    )
    for name in ("problems", "backend", "mode"):
        measuring.add_argument(f"--{name}", metavar="X", help="as for conv")
    measuring.add_argument("--problem", action="append", metavar="k=v,...", help="as for conv")
    for name in ("where", "pass", "precision", "library", "layout"):
        measuring.add_argument(f"--{name}", nargs="+", metavar="X", help="as for conv")
    measuring.add_argument("--threads", type=int, metavar="N", help="as for conv")
    measuring.add_argument(
        "--max-time", type=float, metavar="S", help="of sampling, but 8 samples (default: 1)"
    )
    measuring.add_argument("--time-budget", type=float, metavar="S", help="measure as many layers as fit")


def run(given: dict[str, Any], command: list[str]) -> int:
    from microbench import study
    from microbench.errors import InputError
    from microbench.study import export, plots
    from microbench.study.microbatch import POLICIES
    from microbench.study.section import DEFAULT_LIMITS, text

    limits = tuple(given["limits"] or DEFAULT_LIMITS)
    for option, value, choices in (
        ("--policy", given["policy"], POLICIES),
        ("--plot-format", given["plot_format"], plots.FORMATS),
    ):
        if value not in choices:
            raise InputError(f"{option} {value}: there is no such choice; there are {', '.join(choices)}")
    if given["measure"] or given["resume"]:
        _measure(given, limits, command)
    found = study.load(given["folder"])
    if not found.points:
        raise InputError(
            f"{given['folder']} has no right result with a known workspace: measure conv --algorithm all"
        )
    question = study.Question(
        limits, given["max_error"], given["policy"], tuple(given["total_workspace"]), given["dominated"]
    )
    print(text(study.section_of(found, question)))
    if given["plots"]:
        for path in plots.write(found, given["plots"], limits, given["policy"], given["plot_format"]):
            print(path)
    if given["export"]:
        totals = given["total_workspace"]
        if len(totals) > 1:
            raise InputError("--export: give one --total-workspace to choose configurations for")
        export.write(
            given["export"],
            export.configurations(
                found, limits, totals[0] if totals else None, given["policy"], given["max_error"]
            ),
        )
    return 0


def _measure(given: dict[str, Any], limits: tuple[int, ...], command: list[str]) -> None:
    from contextlib import contextmanager

    from microbench.errors import InputError
    from microbench.face import Terminal
    from microbench.options import Options
    from microbench.runner import Face
    from microbench.study import measure

    @contextmanager
    def watched(name: str) -> Any:
        face: Face
        with Terminal(None) as face:
            print(f"study: measuring {name}", flush=True)
            yield face

    for option in ("batch", "rounds", *(["sizes"] if given["sizes"] else [])):
        values = given[option] if isinstance(given[option], list) else [given[option]]
        if any(value is not None and value < 1 for value in values):
            raise InputError(f"--{option}: must be at least 1")
    named = {name: given[name] for name in _MEASURING if given[name] is not None}
    options = Options.of({"kernel": "conv", "max_time": 1.0, **named})
    measure.measure(
        measure.Plan(options, given["batch"], tuple(given["sizes"]), limits, given["rounds"], given["fills"]),
        given["folder"],
        resume=given["resume"],
        command=["microbench", *command],
        watched=watched,
    )
