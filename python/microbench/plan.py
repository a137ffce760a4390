"""What a sweep will measure, in which order, and about how long it will take."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import itertools
import random
import re
from collections.abc import Callable, Container, Sequence

import msgspec

from microbench import kernels
from microbench.errors import InputError
from microbench.options import Options
from microbench.problem import PRECISIONS, Case, Problem, Scalar
from microbench.tables import Row, distinct, filter_rows, load_problems, parse_problem


@dataclasses.dataclass(frozen=True)
class Item:
    """One configuration of the plan; ``index`` is its place there, the same in every repeat."""

    index: int
    row: Row
    library: str
    algorithm: str
    precision: str
    pass_: str
    layout: str

    @property
    def problem(self) -> dict[str, Scalar]:
        """The problem's columns."""
        return columns(self.row)


Enumerate = Callable[[str, str, str, str, Sequence[Row], str], list[list[str]]]
"""Algorithms per problem, for a library, precision, pass and layout; the last argument names one that is
offered only to who names it, or "auto"."""

# A division of the batch, "microbatch:im2col@64,fft@64", names algorithms itself.
_DIVISION = "@"
_DIVIDED = "microbatch:"
_PART = re.compile(r"(?:([1-9][0-9]*)\*)?([^\s,*]+)@([1-9][0-9]*)")


def columns(row: Row) -> dict[str, Scalar]:
    """The problem's columns as its table has them."""
    return dataclasses.asdict(row.problem)


def problems(options: Options) -> list[Row]:
    """The problems asked for, filtered, each once. Raises InputError where a table or filter is faulty."""
    if options.problem:
        rows = [parse_problem(options.kernel, text) for text in options.problem]
    else:
        rows = load_problems(options.kernel, options.problems)
    return distinct(filter_rows(rows, options.where))


def build(
    options: Options,
    rows: Sequence[Row],
    libraries: Sequence[str],
    precision_here: Callable[[str], str],
    enumerate_algorithms: Enumerate,
) -> list[Item]:
    """Every problem with every library, algorithm, precision, pass and layout asked for, by problem.

    ``precision_here`` names the mode in which a precision is measured on this device. A library that never
    offers an algorithm asked for by name is not asked to run it.

    Raises:
        InputError: a pass or layout does not exist, or an algorithm is offered by no library.
    """
    passes, layouts = choices(options)
    precisions = tuple(dict.fromkeys(precision_here(name) for name in options.precision))
    groups = list(itertools.product(libraries, precisions, passes, layouts))
    if options.algorithm in (("all",), ("best",)):
        offered = [enumerate_algorithms(*group, rows, "auto") for group in groups]
        names = [[algorithms or ["auto"] for algorithms in each] for each in offered]
    else:
        known = _known(options.algorithm, groups, rows, enumerate_algorithms)
        names = [[known[library]] * len(rows) for library, *_ in groups]
    items: list[Item] = []
    for place, row in enumerate(rows):
        for (library, precision, pass_, layout), algorithms in zip(groups, names, strict=True):
            for algorithm in algorithms[place]:
                items.append(Item(len(items), row, library, algorithm, precision, pass_, layout))
    return items


def choices(options: Options) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The passes and layouts asked for. Raises InputError where the kernel has no such."""
    kernel = kernels.kernel(options.kernel)
    return _chosen("--pass", options.pass_, kernel.PASSES), _chosen(
        "--layout", options.layout, kernel.LAYOUTS
    )


def _known(
    asked: Sequence[str],
    groups: Sequence[tuple[str, str, str, str]],
    rows: Sequence[Row],
    enumerate_algorithms: Enumerate,
) -> dict[str, list[str]]:
    """Of the algorithms asked for by name those that each library offers for some problem."""
    free = {name for name in asked if name == "auto" or _DIVISION in name}
    offered: dict[str, set[str]] = {library: set() for library, *_ in groups}
    for name in asked:
        if name.startswith(_DIVIDED):
            _check_division(name, groups, rows, enumerate_algorithms)
    for named in ["auto", *asked] if set(asked) - free else []:
        if not any(named in names for names in offered.values()):
            for group in groups:
                for names in enumerate_algorithms(*group, rows, named):
                    offered[group[0]].update(names)
    for name in asked:
        if name not in free and not any(name in names for names in offered.values()):
            everything = sorted(set().union(*offered.values()))
            near = difflib.get_close_matches(name, everything, 1)
            raise InputError(
                f"--algorithm {name}: offered by no library for any of these problems"
                + (f" (did you mean {near[0]}?)" if near else "")
                + (f"; there are {', '.join(everything)}" if everything else "; there is auto")
            )
    return {
        library: [name for name in dict.fromkeys(asked) if name in free or name in names]
        for library, names in offered.items()
    }


def _check_division(
    name: str,
    groups: Sequence[tuple[str, str, str, str]],
    rows: Sequence[Row],
    enumerate_algorithms: Enumerate,
) -> None:
    """Raises InputError for what is a division of none of the problems; what is one of some is for them alone."""
    parts = [_PART.fullmatch(part) for part in name.removeprefix(_DIVIDED).split(",")]
    if not all(parts):
        raise InputError(
            f"--algorithm {name!r}: is no division; write COUNT*ALGORITHM@IMAGES or ALGORITHM@IMAGES, numbers from 1, "
            f"separated by commas, as in {_DIVIDED}2*im2col@64,im2col@10"
        )
    found = [(int(part[1] or 1), part[2], int(part[3])) for part in parts if part]
    images = sum(count * size for count, _, size in found)
    fitting = [row for row in rows if columns(row).get("n") == images]
    if not fitting:
        batches = sorted({str(columns(row).get("n")) for row in rows}, key=lambda text: (len(text), text))
        raise InputError(
            f"--algorithm {name}: divides {images} images, which no problem has; there are {', '.join(batches)}"
        )
    for algorithm, size in dict.fromkeys((algorithm, size) for _, algorithm, size in found):
        if algorithm == "auto":
            continue
        resized = [
            dataclasses.replace(row, problem=dataclasses.replace(row.problem, n=size)) for row in fitting
        ]
        names = [each for group in groups for each in enumerate_algorithms(*group, resized, algorithm)]
        known = sorted({one for each in names for one in each})
        if known and algorithm not in known:
            near = difflib.get_close_matches(algorithm, known, 1)
            raise InputError(
                f"--algorithm {name}: {algorithm} is offered by no library for {size} images of any of these problems"
                + (f" (did you mean {near[0]}?)" if near else "")
                + f"; there are {', '.join(known)}"
            )


def _chosen(option: str, asked: tuple[str, ...], offered: tuple[str, ...]) -> tuple[str, ...]:
    if not asked:
        return offered[:1]
    if asked == ("all",):
        return offered
    for name in asked:
        if name not in offered:
            raise InputError(f"{option} {name}: not to be had here; there are {', '.join(offered)}")
    return tuple(dict.fromkeys(asked))


class NothingFits(InputError):
    """A time budget is too short for any problem; ``shortest_s`` is what the shortest takes."""

    def __init__(self, budget_s: float, shortest_s: float) -> None:
        super().__init__(
            f"--time-budget {budget_s:g}: no problem fits; the shortest takes about {shortest_s:.0f} s"
        )
        self.shortest_s = shortest_s


def within(items: Sequence[Item], cost: Callable[[Item], float], budget_s: float, seed: int) -> list[int]:
    """As many problems as fit into ``budget_s``, by their places among those of ``items``, ascending.

    Problems are taken in random order (by ``seed``) as long as all that is planned for them fits, so that the choice
    favours none but the shorter ones. Raises NothingFits where not one fits.
    """
    costs: dict[Problem, float] = {}
    for item in items:
        costs[item.row.problem] = costs.get(item.row.problem, 0.0) + cost(item)
    shuffled = list(costs)
    random.Random(f"{seed}/budget").shuffle(shuffled)
    chosen: set[Problem] = set()
    left = budget_s
    for problem in shuffled:
        if costs[problem] <= left:
            chosen.add(problem)
            left -= costs[problem]
    if not chosen:
        raise NothingFits(budget_s, min(costs.values()))
    return [place for place, problem in enumerate(costs) if problem in chosen]


def only(items: Sequence[Item], places: Container[int] | None) -> list[Item]:
    """The items of the problems at ``places``, as `within` counts them, renumbered; None takes all."""
    if places is None:
        return list(items)
    asked = dict.fromkeys(item.row.problem for item in items)
    chosen = {problem for place, problem in enumerate(asked) if place in places}
    kept = [item for item in items if item.row.problem in chosen]
    return [dataclasses.replace(item, index=place) for place, item in enumerate(kept)]


def order(items: Sequence[Item], repeat: int, repeats: int, seed: int) -> list[Item]:
    """The order in which one repeat measures: the table's for a single one, shuffled for several.

    Shuffling keeps slow drifts of the machine from falling on the same problems in every repeat.
    """
    if repeats == 1:
        return list(items)
    shuffled = list(items)
    random.Random(f"{seed}/{repeat}").shuffle(shuffled)
    return shuffled


def fingerprint(items: Sequence[Item]) -> str:
    """Changes when the plan does: a run is resumed with the plan that it was started with, or not at all."""
    plan = [
        (item.problem, item.library, item.algorithm, item.precision, item.pass_, item.layout)
        for item in items
    ]
    return hashlib.sha256(msgspec.json.encode(plan)).hexdigest()


def record_seed(seed: int, repeat: int, index: int) -> int:
    """The seed of one record's inputs: fresh for each, the same when a run is done again with the same seed."""
    digest = hashlib.sha256(f"{seed}/{repeat}/{index}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


def case(item: Item) -> Case:
    """What the item's kernel module needs to know of it."""
    return Case(item.row.problem, PRECISIONS[item.precision], item.pass_, item.layout, item.algorithm)
