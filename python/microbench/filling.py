"""What operands hold: random numbers for verification, and what may be asked for in their place while timing.

Arrays are filled by as many threads as this process has processors, part by part, each part from a generator of its
own: what they hold does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.random import Generator

from microbench.options import FILLS
from microbench.topology import allowed_cpus
from microbench.verification import Array, largest_integer

Draw = Callable[[Generator, int], Array]
"""Returns so many numbers, of any type that the array's can be assigned from."""

# What one thread fills of an array, and at a time, so that temporaries stay in the cache.
_PART = 1 << 21
_BLOCK = 1 << 15
# Narrow types are looked up: converting to them costs several times as much as drawing.
_TABLE = 1 << 16
_TABLES = 16
# Normal deviates and shares of 1 become integers of this scale in integer types.
_INTEGER_SCALE = {"normal": 42.0, "uniform": 127.0, "integer": 1.0}


def fill_random(array: Array, rng: Generator, scale: float = 1.0) -> None:
    """Fills in place with fresh random numbers, none of them zero or denormal.

    Floating-point types get the uniform distribution on +-[0.25, 1] times ``scale`` (rounding to 8 or 11 bits reaches
    the ends), integers that on -127..127 without 0. Raises ValueError where the array is not contiguous.
    """
    if array.dtype.kind == "i":
        fill_integers(array, rng, min(127, largest_integer(array.dtype.name)))
    elif array.dtype.itemsize <= 2:
        _fill(array, rng, _from_table(_uniform_table(array.dtype, scale)))
    else:
        _fill(array, rng, lambda generator, count: _uniform(generator.random(count, array.dtype.type), scale))


def fill_integers(array: Array, rng: Generator, limit: int) -> None:
    """Fills in place with random integers of -limit..limit without 0.

    Raises ValueError where ``limit`` is not in 1..largest_integer of the array's type, or the array not contiguous.
    """
    largest = largest_integer(array.dtype.name)
    if not 1 <= limit <= largest:
        raise ValueError(f"limit {limit} is not in 1..{largest}, the integers exact in {array.dtype.name}")
    if 2 * limit <= _TABLE:
        _fill(array, rng, _from_table(_integer_table(array.dtype, limit)))
        return

    def draw(generator: Generator, count: int) -> Array:
        values = generator.integers(-limit, limit, count)
        values += values >= 0
        return values

    _fill(array, rng, draw)


def refill(array: Array, fill: str, rng: Generator) -> None:
    """Fills an array in place.

    Args:
        fill: ``normal`` (mean 0, standard deviation 1), ``uniform`` (0 to 1), ``integer`` (-4 to 4) or ``zero``.
            Integer types get normal deviates times 42 and uniform ones times 127, rounded and cut to -127..127.

    Raises:
        ValueError: there is no such fill.
    """
    draws: dict[str, Draw] = {
        "normal": lambda generator, count: generator.standard_normal(count, np.float32),
        "uniform": lambda generator, count: generator.random(count, np.float32),
        "integer": lambda generator, count: generator.integers(-4, 5, count).astype(np.float32),
        "zero": lambda _, count: np.zeros(count, np.float32),
    }
    if fill not in draws:
        raise ValueError(f"no fill {fill!r}; there are {', '.join(FILLS[1:])}")
    draw = draws[fill]
    if array.dtype.kind not in "iu":
        _fill(array, rng, draw)
        return
    scale = _INTEGER_SCALE.get(fill, 1.0)
    _fill(array, rng, lambda generator, count: np.clip(np.rint(draw(generator, count) * scale), -127, 127))


def _fill(array: Array, rng: Generator, draw: Draw) -> None:
    if not array.flags.forc:
        raise ValueError("only contiguous arrays can be filled in place")
    flat = array.ravel(order="K")
    parts = [flat[start : start + _PART] for start in range(0, flat.size, _PART)]

    def fill_part(part: Array, generator: Generator) -> None:
        for start in range(0, part.size, _BLOCK):
            block = part[start : start + _BLOCK]
            block[:] = draw(generator, block.size)

    if len(parts) <= 1:
        for part in parts:
            fill_part(part, rng)
        return
    with ThreadPoolExecutor(min(len(parts), len(allowed_cpus()))) as threads:
        list(threads.map(fill_part, parts, rng.spawn(len(parts))))


def _uniform(shares: Array, scale: float) -> Array:
    """Shares of 1 in +-[0.25, 1] times ``scale``."""
    shares *= 1.5 * scale
    shares -= 0.75 * scale
    shares += np.copysign(shares.dtype.type(0.25 * scale), shares)
    return shares


def _from_table(table: Array) -> Draw:
    """Draws from a table of at most _TABLE entries, all with the same chance."""

    def draw(generator: Generator, count: int) -> Array:
        drawn: Array = table[generator.integers(0, table.size, count, np.uint16)]
        return drawn

    return draw


@lru_cache(_TABLES)
def _uniform_table(dtype: np.dtype[Any], scale: float) -> Array:
    values: Array = _uniform((np.arange(_TABLE) + 0.5) / _TABLE, scale).astype(dtype)
    return values


@lru_cache(_TABLES)
def _integer_table(dtype: np.dtype[Any], limit: int) -> Array:
    values = np.arange(-limit, limit)
    values[limit:] += 1
    return values.astype(dtype)
