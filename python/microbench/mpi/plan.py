"""What a sweep of a collective measures: the same on every process that is asked, so that none needs to be told."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, cast

from microbench import kernels
from microbench.collective import ELEMENT_TYPES, CollectiveProblem
from microbench.errors import InputError
from microbench.mpi.options import DEFAULT_LIBRARIES, DEFAULT_PROBLEMS, CollectiveOptions
from microbench.plan import Item
from microbench.problem import ITEM_BYTES
from microbench.tables import LARGEST_SIZE, Row, distinct, filter_rows, load_problems, parse_problem

# In the order in which `all` measures them; what a library offers for each collective.
LOSSLESS = {
    "allreduce": ("ring", "recursive_doubling", "rabenseifner", "tree", "torus_2d", "hierarchical"),
    "reduce_scatter": ("ring",),
    "allgather": ("ring",),
    "broadcast": ("tree",),
    "alltoall": ("pairwise",),
}
LOSSY = {"allreduce": ("ring_fp16", "top_k")}
# Libraries that choose for themselves, and what can be named all the same.
CHOOSING: dict[str, dict[str, tuple[str, ...]]] = {"mpi": {}, "nccl": {"allreduce": ("hierarchical",)}}


def build(options: CollectiveOptions, ranks: int) -> list[Item]:
    """Every problem with every library, algorithm and element type asked for.

    Raises InputError where a table, filter or algorithm is faulty.
    """
    kernel = options.kernel
    libraries = options.library or DEFAULT_LIBRARIES[options.device]
    known = (*LOSSLESS[kernel], *LOSSY.get(kernel, ()))
    for name in options.algorithm:
        if name not in ("auto", "all", *known):
            raise InputError(
                f"--algorithm {name}: there is none such for {kernel}; there are auto, all, {', '.join(known)}"
            )
    items: list[Item] = []
    for precision in options.precision:
        for row in _rows(options, precision, ranks):
            for library in libraries:
                for algorithm in _algorithms(options, library):
                    items.append(Item(len(items), row, library, algorithm, precision, "", ""))
    if not items:
        raise InputError(
            f"--algorithm {' '.join(options.algorithm)}: library {' and '.join(libraries)} chooses for itself: "
            "ask for auto"
        )
    return items


def _algorithms(options: CollectiveOptions, library: str) -> tuple[str, ...]:
    if library in CHOOSING:
        offered = ("auto", *CHOOSING[library].get(options.kernel, ()))
        return (
            offered if options.algorithm == ("all",) else tuple(n for n in options.algorithm if n in offered)
        )
    return LOSSLESS[options.kernel] if options.algorithm == ("all",) else options.algorithm


def problem_of(item: Item) -> CollectiveProblem:
    """The item's problem by its type."""
    return cast(CollectiveProblem, item.row.problem)


def _rows(options: CollectiveOptions, precision: str, ranks: int) -> list[Row]:
    rows = [fitted for row in _asked(options, precision, ranks) for fitted in _fitted(row, options, ranks)]
    return distinct(filter_rows(rows, options.where))


def _asked(options: CollectiveOptions, precision: str, ranks: int) -> Sequence[Row]:
    if options.problem:
        return [parse_problem(options.kernel, text) for text in options.problem]
    if options.problems or not options.swept:
        return load_problems(options.kernel, options.problems or DEFAULT_PROBLEMS)
    return [*_swept(options, precision, ranks)]


def _swept(options: CollectiveOptions, precision: str, ranks: int) -> Iterator[Row]:
    """The sizes asked for, each rounded down to what there is, but none below the smallest."""
    problem_type: Any = kernels.kernel(options.kernel).PROBLEM
    item_bytes = ITEM_BYTES[ELEMENT_TYPES[precision].storage]
    step = item_bytes * (ranks if problem_type.shares else 1)
    low, high, factor = options.sizes
    least = -(-low // step) * step
    if least > high:
        raise InputError(
            f"--min-bytes {low} --max-bytes {high}: sizes of {options.kernel} of {ranks} ranks in {precision} are "
            f"multiples of {step} bytes, and none is in this range"
        )
    size = low
    while size <= high:
        elements = max(least, size // step * step) // item_bytes
        if elements > LARGEST_SIZE:
            raise InputError(f"--max-bytes {high}: MPI counts up to {LARGEST_SIZE} elements")
        yield Row(problem_type(elements=elements), {}, "--min-bytes, --max-bytes")
        size *= factor


def _fitted(row: Row, options: CollectiveOptions, ranks: int) -> Iterator[Row]:
    """The row's problem for so many ranks, with every operation, place and form asked for that it has."""
    problem = cast(CollectiveProblem, row.problem)
    elements = problem.elements
    if problem.shares:  # the same share for each, as nccl-tests rounds
        elements = max(1, elements // ranks) * ranks
    columns = {field.name for field in dataclasses.fields(problem)}
    asked = {"op": options.op, "place": options.place, "form": options.form}
    for name, values in asked.items():
        if values and name not in columns:
            raise InputError(f"--{name} {' '.join(values)}: {problem.kernel} has no such choice")
    chosen = {name: values for name, values in asked.items() if values}
    for combination in product(*chosen.values()):
        changes = dict(zip(chosen, combination, strict=True))
        changed = dataclasses.replace(problem, elements=elements, **changes)
        yield Row(changed, row.labels, row.source)
