"""The factors in which two sides were set up differently, each with both values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from microbench.comparison.matching import Pair, Side
from microbench.environment import differences

# Options that say what was measured, which the records show, and those whose value in force the plan holds.
_SHOWN = {
    *("problem", "problems", "where", "pass", "precision", "layout", "mode"),
    *("kernel", "seed", "repeat", "time_budget"),
}


class Factor(NamedTuple):
    """One difference; None: not recorded, or absent."""

    name: str
    base: Any
    other: Any


def factors(base: Side, other: Side, pairs: Sequence[Pair]) -> list[Factor]:
    """Every recorded factor in which ``other`` differs from ``base``: what was measured of the problems that both have,
    how it was computed, options, environment.

    Where one side is published, hardly anything was recorded of it: then only its device is given.
    """
    found = [*_of_keys(base, other), *_of_values(base, other), *_of_pairs(pairs)]
    if base.source is other.source:
        return found
    if base.source.published or other.source.published:
        return [Factor("device", base.source.device, other.source.device), *found]
    first, second = base.source.info, other.source.info
    options = (
        {name: value for name, value in info.options.items() if name not in _SHOWN}
        for info in (first, second)
    )
    found += [Factor(f"options.{name}", a, b) for name, a, b in differences(*options)]
    return found + [Factor(*each) for each in differences(first.environment, second.environment)]


def _of_keys(base: Side, other: Side) -> Iterator[Factor]:
    common = {key[:2] for key in base.found} & {key[:2] for key in other.found}
    for name in ("pass_", "precision", "layout", "mode"):
        a, b = (
            sorted({getattr(key, name) for key in side.found if key[:2] in common}) for side in (base, other)
        )
        if a != b:
            yield Factor(name.rstrip("_"), a, b)


def _of_values(base: Side, other: Side) -> Iterator[Factor]:
    """The factor that sets the sides against each other; of a library also what was recorded of it."""
    if base.by is None or other.by is None or base.by == other.by:
        return
    name = base.by[0]
    yield Factor(name, base.by[1], other.by[1])
    if name == "library":
        first, second = (
            (side.source.info.environment.get("libraries") or {}).get(side.by and side.by[1]) or {}
            for side in (base, other)
        )
        for path, a, b in differences(first, second):
            yield Factor(f"{name}.{path}", a, b)


def _of_pairs(pairs: Sequence[Pair]) -> Iterator[Factor]:
    for name in ("library", "algorithm", "backend", "threads"):
        values = {
            (getattr(a, name) or None, getattr(b, name) or None): None for a, b in (p.ways for p in pairs)
        }
        for a, b in values:
            if a != b:
                yield Factor(name, a, b)
