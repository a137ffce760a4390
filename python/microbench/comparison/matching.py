"""What of two sides may be compared, and why the rest may not."""

from __future__ import annotations

import functools
import statistics
from collections import defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from microbench.collective import COLLECTIVES
from microbench.errors import InputError
from microbench.figures import choices, problem_title, threads
from microbench.problem import Scalar
from microbench.sources import Source, time_s

FACTORS = ("library", "algorithm", "layout", "threads")
"""What ``--by`` may set against each other. Another precision, mode or pass is another computation."""


class Key(NamedTuple):
    """What must be the same for two times to be comparable."""

    kernel: str
    problem: tuple[tuple[str, Scalar], ...]
    pass_: str
    precision: str
    layout: str
    mode: str

    def title(self) -> str:
        """The problem in few characters; precision and mode stand elsewhere."""
        return problem_title(self.kernel, dict(self.problem), self.pass_, self.layout)


class Way(NamedTuple):
    """How it was computed: may differ between two sides, and is then said."""

    library: str
    algorithm: str
    backend: str
    threads: int

    def title(self) -> str:
        """``library/algorithm``, without an algorithm that the library chose."""
        return "/".join(word for word in (self.library, self.algorithm) if word not in ("", "auto"))


@dataclass
class Measurement:
    """One problem computed in one way on one side.

    Attributes:
        times: seconds by process run (``repeat``); of a problem listed more than once, the times of each.
        bounds: of a published figure what rounding leaves open, in seconds, likewise.
        flops: arithmetic operations; None: unknown.
        failures: status and reason of records without a time.
        unstable: whether some record is.
        start: of a collective how repetitions start together, which decides what is timed; "" where it is unknown.
    """

    times: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    bounds: list[tuple[float, float]] = field(default_factory=list)
    flops: int | None = None
    failures: list[str] = field(default_factory=list)
    unstable: bool = False
    start: str = ""

    def runs(self) -> list[float]:
        """One time per process run, in seconds, in the order of the runs."""
        return [statistics.median(self.times[repeat]) for repeat in sorted(self.times)]

    @property
    def published(self) -> bool:
        """Whether it is a published figure, without a distribution."""
        return bool(self.bounds)

    def median(self) -> float:
        """The median over the process runs, in seconds."""
        return statistics.median(self.runs())


@dataclass(frozen=True)
class Side:
    """One column of a comparison; ``by`` is the factor with the value that sets it against others of its source."""

    name: str
    source: Source
    found: dict[Key, dict[Way, Measurement]]
    by: tuple[str, Any] | None = None


@dataclass(frozen=True)
class Pair:
    """One problem on two sides, comparable."""

    key: Key
    ways: tuple[Way, Way]
    base: Measurement
    other: Measurement


@dataclass(frozen=True)
class Refusal:
    """Problems that are not compared for the same reason.

    ``lost`` says whether the base has times of them, ``titles`` names them and what is peculiar to each.
    """

    reason: str
    lost: bool
    keys: tuple[Key, ...]
    titles: tuple[str, ...]

    def sentence(self) -> str:
        """Reason, number and the first problem."""
        if len(self.titles) == 1:
            return f"not compared: {self.titles[0]}: {self.reason}"
        return f"not compared: {len(self.titles)} problems, first {self.titles[0]}: {self.reason}"


class _Refused(NamedTuple):
    """Why one problem, or one way of it, is not compared."""

    reason: str
    lost: bool
    key: Key
    detail: str = ""


def sides(sources: Sequence[Source], by: str | None = None) -> list[Side]:
    """The columns of a comparison: one per source, or one per source and value of the factor ``by``.

    Raises:
        InputError: collectives of one source were timed in several ways.
    """
    result = []
    for source in sources:
        start = _start(source)
        found: dict[Any, dict[Key, dict[Way, Measurement]]] = {}
        for record in source.summaries():
            layout, library, algorithm = record.layout, record.library, record.algorithm
            count = threads(record.backend, record.threads) or 0
            value = None
            if by is not None:
                # The value that is set against others is in the name, and no longer what tells two times apart.
                value = getattr(record, by)
                layout = "" if by == "layout" else layout
                library = "" if by == "library" else library
                algorithm = "" if by == "algorithm" else algorithm
                count = 0 if by == "threads" else count
            problem = tuple(sorted((_defaults(record.kernel) | record.problem).items()))
            key = Key(record.kernel, problem, record.pass_, record.precision, layout, record.mode)
            way = Way(library, algorithm, record.backend, count)
            measurement = found.setdefault(value, {}).setdefault(key, {}).setdefault(way, Measurement())
            measurement.start = start if record.kernel in COLLECTIVES else ""
            seconds = time_s(record)
            if seconds is None:
                measurement.failures.append(f"{record.status}: {record.reason}")
                continue
            measurement.times[record.repeat].append(seconds)
            measurement.unstable |= record.status == "unstable"
            measurement.flops = record.flops
            if source.published:
                measurement.bounds.append((seconds, record.summary.get("mean_below", seconds)))
        result += [
            Side(source.name, source, keys)
            if by is None
            else Side(f"{source.name}:{value}", source, keys, (by, value))
            for value, keys in found.items()
        ]
        if not found:
            result.append(Side(source.name, source, {}))
    return result


def _start(source: Source) -> str:
    found = sorted({str(part.info.options["start"]) for part in source.parts if "start" in part.info.options})
    if len(found) > 1:
        raise InputError(
            f"{source.name} holds collectives of several starts ({', '.join(found)}), whose times are different ones: "
            "give these runs one by one"
        )
    return "".join(found)


@functools.cache
def _defaults(kernel: str) -> dict[str, Scalar]:
    """Columns that a run may lack because it is older than they are."""
    known = choices(kernel).defaults.items()
    return {name: value for name, value in known if isinstance(value, int | float | str)}


def match(base: Side, other: Side, best: bool = False) -> tuple[list[Pair], list[Refusal]]:
    """Pairs what is comparable, in the order of ``base``, and says why the rest is not.

    Args:
        best: compare the fastest way of each side instead of the same way on both.
    """
    pairs: list[Pair] = []
    refused: list[_Refused] = []
    unmatched = [key for key in other.found if key not in base.found]
    for key, ways in base.found.items():
        if key in other.found:
            for each in _pair(key, base, other, best):
                if isinstance(each, Pair):
                    pairs.append(each)
                else:
                    refused.append(each)
            continue
        reason = f"only in {base.name}"
        if rival := _rival(key, unmatched):
            unmatched.remove(rival)
            reason = _difference(key, rival)
        elif rival := _in_another_mode(key, other.found):
            reason = _difference(key, rival)
        refused.append(_Refused(reason, any(way.times for way in ways.values()), key))
    for key in unmatched:
        rival = _in_another_mode(key, base.found)
        refused.append(_Refused(_difference(rival, key) if rival else f"only in {other.name}", False, key))
    groups: dict[tuple[str, bool], list[_Refused]] = defaultdict(list)
    for refusal in refused:
        groups[refusal.reason, refusal.lost].append(refusal)
    return pairs, [
        Refusal(
            reason,
            lost,
            tuple(each.key for each in found),
            tuple(f"{each.key.title()} {each.key.precision}{each.detail}" for each in found),
        )
        for (reason, lost), found in groups.items()
    ]


def _rival(key: Key, unmatched: Sequence[Key]) -> Key | None:
    """What the other side has of the same problem: the same pass, or else all but the pass."""
    alike = [each for each in unmatched if (each.kernel, each.problem) == (key.kernel, key.problem)]
    same_pass = [each for each in alike if each.pass_ == key.pass_]
    candidates = same_pass or [each for each in alike if each._replace(pass_=key.pass_) == key]
    return min(candidates, key=lambda each: sum(a != b for a, b in zip(key, each, strict=True)), default=None)


def _in_another_mode(key: Key, found: Iterable[Key]) -> Key | None:
    """The same but for the mode, which titles do not show."""
    return next((each for each in found if each != key and each._replace(mode=key.mode) == key), None)


def _difference(key: Key, rival: Key) -> str:
    words = {"pass_": "pass"}
    return "; ".join(
        f"other {words.get(name, name)}: {a or 'unknown'} against {b or 'unknown'}"
        for name, a, b in zip(Key._fields, key, rival, strict=True)
        if a != b
    )


def _pair(key: Key, base: Side, other: Side, best: bool) -> Iterator[Pair | _Refused]:
    """The ways of one problem that are set against each other, and those that cannot be."""
    first, second = (
        {way: each for way, each in side.found[key].items() if each.times} for side in (base, other)
    )
    if best and first and second:
        found = [(_fastest(first), _fastest(second))]
    else:
        found = _same_ways(first, second, base.found[key], other.found[key])
        for way in first:
            if all(way != a for a, _ in found):
                yield _Refused(_absence(other, key, way), True, key, f" {way.title()}")
        for way in second:
            if all(way != b for _, b in found):
                yield _Refused(_absence(base, key, way), False, key, f" {way.title()}")
    for a, b in found:
        counts = (first[a].flops or None, second[b].flops or None)
        if counts[0] != counts[1]:
            detail = f" ({' against '.join(map(_count, counts))})"
            yield _Refused("other count of operations, so other work", True, key, detail)
        elif (one := first[a].start) and (another := second[b].start) and one != another:
            yield _Refused(f"other start ({one} against {another}), so another time", True, key)
        else:
            yield Pair(key, (a, b), first[a], second[b])
    if not first and not second:
        failures = [failure for each in base.found[key].values() for failure in each.failures]
        yield _Refused(f"no time in either: {failures[0]}", False, key)


def _absence(side: Side, key: Key, way: Way) -> str:
    """Why ``side`` has nothing to set against ``way`` of the other."""
    ways = side.found[key]
    known = ways.get(way)
    if known is not None or len(ways) == 1:
        failures = (known or next(iter(ways.values()))).failures
        if failures:
            return no_time(side, failures[0])
    modes = [each.mode for each in side.found if each != key and each._replace(mode=key.mode) == key]
    if known is None and (where := [mode for mode in modes if way in side.found[key._replace(mode=mode)]]):
        return f"{side.name} has {way.title() or 'it'} in another mode: {', '.join(where)}, not {key.mode}"
    others = ", ".join(each.title() or "unnamed" for each in ways)
    return f"another library or algorithm in {side.name} ({others}): --best compares the fastest of each side"


def no_time(side: Side, failure: str) -> str:
    """Why a problem that failed on ``side`` is not compared."""
    return f"no time in {side.name}: {failure}"


def _count(flops: int | None) -> str:
    return "unknown" if flops is None else f"{flops / 1e9:.4g} GFLOP"


def _fastest(ways: Mapping[Way, Measurement]) -> Way:
    return min(ways, key=lambda way: ways[way].median())


def _same_ways(
    first: Collection[Way], second: Collection[Way], base: Container[Way], other: Container[Way]
) -> list[tuple[Way, Way]]:
    """Pairs of ways with times: the same on both sides, else the same but for what is then said to differ.

    A way that the other side has too, but without a time (``base`` and ``other`` hold those as well), is paired with no
    other one.
    """
    found = [(way, way) for way in first if way in second]
    left = [way for way in first if way not in other]
    right = [way for way in second if way not in base]
    levels: tuple[Callable[[Way], object], ...] = (
        lambda way: (way.library, way.algorithm),
        lambda way: way.library,
    )
    for level in levels:
        for a in list(left):
            alike = [b for b in right if level(b) == level(a)]
            if len(alike) == 1 and sum(level(each) == level(a) for each in left) == 1:
                found.append((a, alike[0]))
                left.remove(a)
                right.remove(alike[0])
    if not found and len(left) == len(right) == 1:
        found.append((left[0], right[0]))
    return found


def require_two(sides_found: Sequence[Side]) -> Sequence[Side]:
    """The sides; raises InputError where there is nothing to set against the first."""
    if len(sides_found) < 2:
        raise InputError(
            f"{sides_found[0].name}: one side alone cannot be compared: give a second run, or --by with a factor "
            f"that has several values in it ({', '.join(FACTORS)})"
        )
    return sides_found
