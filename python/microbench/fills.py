"""What the operands hold while a kernel is timed: power and clocks, and so times, can depend on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator
    from numpy.typing import NDArray

FILLS = ("random", "normal", "uniform", "integer", "zero")
"""``random``: as verified, uniform on +-[0.25, 1]. The others are those of `refill`."""

_BLOCK = 1 << 16
# Normal deviates and shares of 1 become integers of this scale in integer types.
_INTEGER_SCALE = {"normal": 42.0, "uniform": 127.0, "integer": 1.0}


def refill(array: NDArray[np.generic], fill: str, rng: Generator) -> None:
    """Fills a one-dimensional array in place.

    Args:
        fill: ``normal`` (mean 0, standard deviation 1), ``uniform`` (0 to 1), ``integer`` (-4 to 4) or ``zero``.
            Integer types get normal deviates times 42 and uniform ones times 127, rounded and cut to -127..127.

    Raises:
        ValueError: there is no such fill.
    """
    import numpy as np

    values: NDArray[Any]
    for start in range(0, array.size, _BLOCK):
        block = array[start : start + _BLOCK]
        if fill == "normal":
            values = rng.standard_normal(block.size, dtype=np.float32)
        elif fill == "uniform":
            values = rng.random(block.size, dtype=np.float32)
        elif fill == "integer":
            values = rng.integers(-4, 5, block.size).astype(np.float32)
        elif fill == "zero":
            values = np.zeros(block.size, dtype=np.float32)
        else:
            raise ValueError(f"no fill {fill!r}; there are {', '.join(FILLS[1:])}")
        if block.dtype.kind in "iu":
            values = np.clip(np.rint(values * _INTEGER_SCALE.get(fill, 1.0)), -127, 127)
        block[:] = values.astype(block.dtype)
