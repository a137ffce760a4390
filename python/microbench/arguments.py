"""The command line's grammar. Imports little: ``--help`` is the first thing that anybody sees."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from microbench import __version__, commands
from microbench.collective import COLLECTIVES, ELEMENT_TYPES, FORMS, OPERATIONS, PLACES
from microbench.errors import InputError
from microbench.formats import FORMATS
from microbench.options import FILLS, MODES, Options
from microbench.problem import PRECISIONS

MEASURED = {
    "gemm": "matrix multiplication",
    "conv": "convolution",
    "rnn": "recurrent layers",
}
_EXAMPLES = """\
examples:
  python -m microbench gemm                                  DeepBench's GEMM problems, fp32, on this machine
  python -m microbench gemm --problems smoke                 a set that finishes in seconds
  python -m microbench gemm --precision fp32 bf16 int8       several precisions
  python -m microbench gemm --problem m=1760,n=16,k=1760     one problem
  python -m microbench gemm --problems my.csv --where 'n<=64' --library onednn
  python -m microbench gemm --repeat 8 --output runs/here    fit to be compared: eight fresh processes
  python -m microbench conv --pass backward_data --algorithm all --where filter_w=3
  python -m microbench rnn --time-budget 600                 as many of the problems as ten minutes allow
  python -m microbench gemm --resume --output runs/here      goes on where an interrupted run stopped
  python -m microbench show runs/here --format csv           prints a run again
  python -m microbench device                                what is here, and what is missing
"""
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?", re.IGNORECASE)
_PREFIXES = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


class _Parser(argparse.ArgumentParser):
    def __init__(self, **settings: Any) -> None:
        # Not abbreviations: a mistyped option is an error, and one added later changes no command.
        super().__init__(**settings, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message[:1].lower()}{message[1:]} (see {self.prog} --help)")


def size(text: str) -> int:
    """Bytes of a size such as ``64MiB`` (binary prefixes), ``1GB`` (decimal) or ``4096``."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write 64MiB, 2GB or a number of bytes")
    prefix = match[2] or ""
    base = 1024 if prefix.lower().endswith("i") else 1000
    number = float(match[1]) * base ** _PREFIXES[prefix[:1].upper()]
    if number != int(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of bytes")
    return int(number)


def parser() -> argparse.ArgumentParser:
    """The whole grammar. Options left out are absent from what it returns, so that a resumed run's own apply."""
    top = _Parser(
        prog="python -m microbench",
        description="Benchmark of the basic operations of deep learning: verified results, whole timing distributions.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"microbench {__version__}")
    subparsers = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for kernel, title in MEASURED.items():
        _add_sweep(subparsers, kernel, title)
    for kernel, title in COLLECTIVES.items():
        _add_collective(subparsers, kernel, title)
    for name in commands.NAMES:
        commands.load(name).add(subparsers)
    return top


def _add_sweep(subparsers: Any, kernel: str, title: str) -> None:
    sweep = subparsers.add_parser(
        kernel,
        help=f"measure {title}",
        description=f"Measures {title}: verified before and after, sampled until the median is known well enough.",
        argument_default=argparse.SUPPRESS,
    )
    what = sweep.add_argument_group("what")
    _add_problems(what, PRECISIONS)
    what.add_argument(
        "--backend", metavar="B", help="auto (default: a GPU where one can be used), cpu or cuda"
    )
    what.add_argument("--plugin", action="append", metavar="FILE", help="a kernel of your own, in Python")
    what.add_argument("--library", action="extend", nargs="+", metavar="L", help="default: all that are here")
    what.add_argument(
        "--algorithm",
        action="extend",
        nargs="+",
        metavar="NAME",
        help="auto (default), names, all, or best of all",
    )
    what.add_argument(
        "--pass", action="extend", nargs="+", metavar="P", help="forward (default), others, all"
    )
    what.add_argument("--layout", action="extend", nargs="+", metavar="L", help="of tensors; names, or all")
    what.add_argument("--time-budget", type=float, metavar="S", help="measure as many problems as fit")
    what.add_argument(
        "--workspace-limit", type=size, metavar="SIZE", help="for instance 64MiB (default: none)"
    )
    how = sweep.add_argument_group("how")
    how.add_argument("--mode", metavar="M", help=f"{', '.join(MODES)} (default: hot)")
    how.add_argument("--fill", metavar="F", help=f"of operands while timed: {', '.join(FILLS)}")
    how.add_argument("--threads", type=int, metavar="N", help="default: one on each physical core")
    how.add_argument("--cpus", metavar="LIST", help="processors to use, for instance 0-3,8")
    how.add_argument(
        "--no-pin", dest="pin", action="store_false", help="leave threads where the system puts them"
    )
    how.add_argument(
        "--fleet", action="store_true", help="under mpiexec: every rank on its own device, outliers named"
    )
    _add_sampling(how)
    how.add_argument("--memory-limit", type=size, metavar="SIZE", help="of a worker (default: what is free)")
    _add_output(sweep, kernel, FORMATS)


def _add_collective(subparsers: Any, kernel: str, title: str) -> None:
    sweep = subparsers.add_parser(
        kernel,
        help=f"measure {title}",
        description=f"Measures {title}: verified before and after, all ranks started together, sampled until the "
        "median is known well enough. Start it on every rank: mpiexec -n 4 python -m microbench " + kernel,
        argument_default=argparse.SUPPRESS,
    )
    what = sweep.add_argument_group("what")
    _add_problems(what, ELEMENT_TYPES)
    what.add_argument("--min-bytes", type=size, metavar="SIZE", help="sweep sizes from here (default: 8) ...")
    what.add_argument("--max-bytes", type=size, metavar="SIZE", help="... to here (default: 64MiB) ...")
    what.add_argument("--factor", type=int, metavar="N", help="... each N times the one before (default: 2)")
    what.add_argument("--backend", metavar="B", help="cpu (default) or cuda: where buffers lie")
    what.add_argument(
        "--library", action="extend", nargs="+", metavar="L", help="mpi, microbench (default: both), nccl"
    )
    what.add_argument(
        "--algorithm", action="extend", nargs="+", metavar="NAME", help="auto (default), names, or all"
    )
    what.add_argument(
        "--gpus-per-rank", type=int, metavar="N", help="NCCL: GPUs that each MPI rank drives (default: 1)"
    )
    for option, choices in (("op", OPERATIONS), ("place", PLACES), ("form", FORMS)):
        what.add_argument(
            f"--{option}",
            action="extend",
            nargs="+",
            metavar=option[0].upper(),
            help=f"{', '.join(choices)} (default: as the problems have it)",
        )
    how = sweep.add_argument_group("how")
    how.add_argument("--start", metavar="S", help="window (default) or barrier: how ranks start together")
    how.add_argument(
        "--no-pin", dest="pin", action="store_false", help="leave ranks where launcher and system put them"
    )
    _add_sampling(how)
    _add_output(sweep, kernel, (*FORMATS, "nccl"))


def _add_problems(what: Any, precisions: Iterable[str]) -> None:
    what.add_argument("--problems", metavar="SET_OR_FILE", help="deepbench (default), smoke, or a .csv file")
    what.add_argument(
        "--problem", action="append", metavar="k=v,...", help="a single problem; may be repeated"
    )
    what.add_argument(
        "--where",
        action="extend",
        nargs="+",
        metavar="COLUMN=VALUE",
        help="only such problems: = != < <= > >=",
    )
    what.add_argument(
        "--precision",
        action="extend",
        nargs="+",
        metavar="P",
        help=f"fp32 (default), {', '.join(precisions)}",
    )


def _add_sampling(how: Any) -> None:
    how.add_argument("--confidence", type=float, metavar="C", help="of the median's interval (default: 0.99)")
    how.add_argument(
        "--relative-width", type=float, metavar="W", help="stop at this half-width (default: 0.01)"
    )
    how.add_argument("--max-samples", type=int, metavar="N", help="of one record (default: 10000)")
    how.add_argument("--max-time", type=float, metavar="S", help="of sampling, but 8 samples (default: 10)")
    how.add_argument("--min-time", type=float, metavar="S", help="of sampling one record (default: 0.1)")
    how.add_argument(
        "--repeat", type=int, metavar="N", help="fresh processes, shuffled (default: 1; 8 to compare)"
    )
    how.add_argument("--seed", type=int, metavar="N", help="of inputs and of the order (default: fresh)")
    how.add_argument("--timeout", type=float, metavar="S", help="of one record (default: by its size)")


def _add_output(sweep: Any, kernel: str, formats: Sequence[str]) -> None:
    where = sweep.add_argument_group("where to")
    where.add_argument("--output", metavar="DIR", help=f"folder of the run (default: runs/{kernel}-TIME)")
    where.add_argument("--resume", action="store_true", help="go on with the run in --output")
    where.add_argument("--format", choices=formats, help="what is printed (default: table)")


def given_options(arguments: dict[str, Any]) -> dict[str, Any]:
    """The options of a sweep that the command line named, under the names of `Options`."""
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in arguments.items()
        if name in Options.__struct_encode_fields__
    }
