"""What ``list`` and ``device`` print: kernels, problems, libraries, and what this machine has."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Sequence

from tabulate import tabulate

from microbench import kernels, plan
from microbench.arguments import MEASURED
from microbench.backends import BACKENDS, known
from microbench.collective import COLLECTIVES
from microbench.environment import capture, describe, warnings
from microbench.errors import InputError
from microbench.figures import problem_title
from microbench.options import Options
from microbench.problem import PRECISIONS
from microbench.tables import load_problems, problem_sets

_WIDTH = 100
_PLAIN = "simple"


def overview() -> str:
    """Kernels with their problem sets, libraries and precisions."""
    rows = []
    for name in kernels.KERNELS:
        sets = ", ".join(f"{known} ({len(load_problems(name, known))})" for known in problem_sets(name))
        rows.append((name, sets, _libraries(name)))
    precisions = [
        (p.name, " x ".join(dict.fromkeys(p.inputs)), p.compute, p.accumulator, p.output)
        for p in PRECISIONS.values()
    ]
    return "\n\n".join(
        (
            tabulate(rows, ("kernel", "problem sets (problems)", "libraries"), _PLAIN),
            tabulate(precisions, ("precision", "in memory", "products", "sums", "result"), _PLAIN),
            "`python -m microbench list KERNEL` lists a kernel's problems.",
        )
    )


def _libraries(kernel: str) -> str:
    if kernel in COLLECTIVES:
        return "cpu: mpi, microbench; cuda: nccl, mpi (under mpiexec)"
    if kernel not in MEASURED:
        return "problem tables only, so far"
    return "; ".join(f"{each}: {', '.join(names)}" for each in BACKENDS if (names := _serving(each, kernel)))


def _serving(backend: str, kernel: str) -> list[str]:
    chosen = known(backend)
    return [name for name in chosen.LIBRARIES if kernel in chosen.library_status(name).kernels]


def problems(kernel: str, chosen: str, where: tuple[str, ...]) -> str:
    """The problems of a set or file as a table. Raises InputError where there is no such kernel, set or file."""
    if kernel not in kernels.KERNELS:
        raise InputError(f"list {kernel}: there is no such kernel; there are {', '.join(kernels.KERNELS)}")
    rows = plan.problems(Options(kernel=kernel, problems=chosen, where=where))
    kernel_title = functools.partial(problem_title, kernel, pass_="", layout="")
    table = [
        (
            kernel_title(plan.columns(row)),
            f"{row.problem.flops() / 1e9:.4g}",
            ", ".join(filter(None, row.labels.values())),
        )
        for row in rows
    ]
    widths = (45, None, 40)
    text = tabulate(table, ("problem", "GFLOP", "from"), _PLAIN, maxcolwidths=widths, disable_numparse=True)
    return f"{text}\n\n{len(rows)} different problems"


def device(command: Sequence[str]) -> str:
    """What is here, which versions, what is missing and how to get it, and what makes timings doubtful."""
    here = capture(command)
    lines = [_pair(label, value) for label, value in describe(here)]
    for name in BACKENDS:
        chosen = known(name)
        lines += ["", f"Backend {name}"]
        lines += [_pair(f"  {label}", text) for label, text in chosen.facts().items()]
        for library in chosen.LIBRARIES:
            status = chosen.library_status(library)
            if status.missing:
                text = f"missing: {status.missing}; to get it: {status.library.how_to_get}"
            else:
                text = f"{', '.join(status.kernels)}; " + ", ".join(
                    f"{k} {v}" for k, v in status.facts.items()
                )
            lines.append(_pair(f"  {library}", text))
        modes = {p: chosen.precision_here(p) for p in PRECISIONS}
        lines.append(
            _pair("  precisions", ", ".join(p if p == m else f"{p} (as {m})" for p, m in modes.items()))
        )
    found = warnings(here)
    if found:
        lines += ["", "Makes timings doubtful"]
        lines += [
            textwrap.fill(text, _WIDTH, initial_indent="  ", subsequent_indent="    ") for text in found
        ]
    return "\n".join(lines)


def _pair(label: str, value: str) -> str:
    indent = 18
    return textwrap.fill(
        value,
        _WIDTH,
        initial_indent=f"{label:<{indent}}",
        subsequent_indent=" " * indent,
        break_long_words=False,
    )
