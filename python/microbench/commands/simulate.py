"""``simulate``: fits measured all-reduces, and predicts what algorithms take on up to 2^20 ranks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from microbench.arguments import size
from microbench.formats import FORMATS

if TYPE_CHECKING:
    from microbench.store import Run


def add(commands: Any) -> None:
    simulate = commands.add_parser(
        "simulate",
        help="fit measured all-reduces and predict them on up to 2^20 ranks",
        description="Fits alpha and beta to runs of allreduce, holds the simulator against them and predicts, with "
        "or without noise, what each algorithm takes on more ranks.",
    )
    simulate.add_argument(
        "runs", nargs="*", metavar="RUN", help="folders of runs of allreduce on one network, fitted together"
    )
    simulate.add_argument(
        "--machine",
        metavar="M",
        help="instead of runs: tukey, c90-hippi, or alpha=2e-6,beta=1e-10[,gamma=...] or L, o, g, G in seconds",
    )
    simulate.add_argument(
        "--check", action="append", default=[], metavar="RUN", help="another run to hold the fit against"
    )
    simulate.add_argument(
        "--ranks", nargs="+", type=int, metavar="P", help="default: 16 256 4096 65536 1048576"
    )
    simulate.add_argument("--min-bytes", type=size, default=8, metavar="SIZE", help="default: 8")
    simulate.add_argument("--max-bytes", type=size, default=256 << 20, metavar="SIZE", help="default: 256MiB")
    simulate.add_argument("--factor", type=int, default=32, metavar="F", help="between sizes (default: 32)")
    simulate.add_argument(
        "--noise",
        metavar="N",
        help="period=10ms,duration=25us[,arrivals=random], or a run whose samples show it; for the least, middle and "
        "greatest size; minutes on a million ranks",
    )
    simulate.add_argument(
        "--overhead",
        type=float,
        metavar="S",
        help="o of fitted parameters, of which noise depends (default: 0)",
    )
    simulate.add_argument("--seed", type=int, default=0, metavar="N", help="of the noise (default: 0)")
    simulate.add_argument(
        "--picture",
        metavar="FILE",
        help=".svg, .png or .pdf of the fastest algorithm; needs microbench[report]",
    )
    simulate.add_argument("--format", choices=FORMATS, default="table", help="default: table")


def _sizes(least: int, most: int, factor: int) -> list[int]:
    from microbench.errors import InputError

    if not 1 <= least <= most <= 2**40 or factor < 2:
        raise InputError(
            f"--min-bytes {least} --max-bytes {most} --factor {factor}: sizes go from at least 1 to at most 1TiB by a "
            "factor of at least 2"
        )
    sizes = [least]
    while sizes[-1] * factor <= most:
        sizes.append(sizes[-1] * factor)
    return sizes


def _powers(least: int, most: int) -> list[int]:
    """The powers of two from ``least`` to ``most``, or those two where there is none between them."""
    powers = [2**power for power in range((least - 1).bit_length(), most.bit_length())]
    return powers or sorted({least, most})


def _load(fitted: Sequence[str], checked: Sequence[str]) -> tuple[list[Run], list[Run]]:
    """The runs to fit and those to check, all different and of one network."""
    from microbench.errors import InputError
    from microbench.network.points import require_one_setting
    from microbench.sources import load_all, refuse_copies
    from microbench.store import Run

    sources = load_all([*fitted, *checked])
    refuse_copies(sources)
    for source in sources:
        if source.published:
            raise InputError(f"{source.name}: published times cannot be fitted: give runs of allreduce")
    first, second = (
        [part for source in group for part in source.parts if isinstance(part, Run)]
        for group in (sources[: len(fitted)], sources[len(fitted) :])
    )
    require_one_setting([*first, *second])
    return first, second


def run(given: dict[str, Any], _: list[str]) -> int:
    from pathlib import Path

    from microbench.errors import InputError
    from microbench.network import landscape, picture, report
    from microbench.network.algorithms import MAX_RANKS
    from microbench.network.fit import fit_all, fit_together
    from microbench.network.judging import cross_validate, judge
    from microbench.network.machine import parse_machine
    from microbench.network.noise import parse_noise
    from microbench.network.points import noise_of_run, of_series, read_points
    from microbench.store import RUN_FILE, Run

    if bool(given["runs"]) == bool(given["machine"]):
        raise InputError("simulate: give either folders of runs of allreduce or --machine")
    for option, value in (("--check", given["check"]), ("--overhead", given["overhead"] is not None)):
        if given["machine"] and value:
            raise InputError(f"{option}: only for fitted runs; --machine says everything of its network")
    ranks = sorted(set(given["ranks"] or (16, 256, 4096, 65536, MAX_RANKS)))
    if not 2 <= ranks[0] <= ranks[-1] <= MAX_RANKS:
        raise InputError(f"--ranks: {ranks[0]} to {ranks[-1]}, but 2 to {MAX_RANKS} can be simulated")
    if given["seed"] < 0:
        raise InputError(f"--seed {given['seed']}: must not be negative")
    sizes = _sizes(given["min_bytes"], given["max_bytes"], given["factor"])
    if given["picture"]:
        picture.check_path(Path(given["picture"]))
    noise = None
    if given["noise"]:
        folder = Path(given["noise"])
        noise = (
            noise_of_run(Run.load(folder)) if (folder / RUN_FILE).exists() else parse_noise(given["noise"])
        )

    parts: list[str] = []
    measured_ranks: list[int] = []
    left_out: list[str] = []
    code = 0
    if given["machine"]:
        machine = parse_machine(given["machine"])
        contenders = landscape.contenders_of(machine)
        title = f"{machine.name}: {machine.source}"
        parts.append(report.paragraph(f"Machine {title}."))
    else:
        runs, runs_to_check = _load(given["runs"], given["check"])
        points = read_points(runs)
        fits, scarce = fit_all(points.points)
        fitted = [point for fit in fits.values() for point in fit.points]
        agreement = cross = cross_validate(fits)
        parts.append(report.fit_text(fits, fit_together(fitted), cross))
        left_out = [*points.left_out, *scarce]
        if runs_to_check:
            others = read_points(runs_to_check)
            agreement = judge(fits, others.points)
            parts.append(report.agreement_text(agreement, "of the runs to check, which were not fitted"))
            unfitted = of_series(others.points).keys() - fits.keys()
            left_out += [f"to check, {each}" for each in others.left_out]
            left_out += [f"to check, {series}: was not fitted" for series in sorted(unfitted)]
        contenders = landscape.contenders_of_fits(fits, given["overhead"] or 0.0)
        measured_ranks = [point.ranks for point in fitted]
        title = "fitted to " + ", ".join(given["runs"])
        code = 0 if cross.reproduced and agreement.reproduced else 1
    found = landscape.forecasts(contenders, ranks, sizes)
    costs = []
    if noise:
        noisy_sizes = sorted({sizes[0], sizes[len(sizes) // 2], sizes[-1]})
        costs = list(landscape.noise_costs(contenders, ranks, noisy_sizes, noise, given["seed"]))
    dense = landscape.forecasts(contenders, _powers(ranks[0], ranks[-1]), _powers(sizes[0], sizes[-1]))
    if left_out:
        parts.append(report.paragraph(f"Left out: {'; '.join(left_out)}."))
    if given["format"] == "table":
        parts += [report.forecast_text(found, measured_ranks), report.ranges_text(dense)]
        if noise:
            unknown = not given["machine"] and not given["overhead"]
            parts.append(report.noise_text(costs, noise.text(), unknown))
        print("\n\n".join(parts))
    else:
        if left_out:
            print(parts[-1], file=sys.stderr)
        print(report.rows_text(found, costs, given["format"]))
    if given["picture"]:
        picture.draw(Path(given["picture"]), dense, costs, title, noise.text() if noise else "")
    return code
