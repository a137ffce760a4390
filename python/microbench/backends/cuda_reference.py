"""CuPy as the device's array library for references: whether it can be used, and whether its products are right."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import numpy as np

from microbench.reference import ON_THE_HOST, failed
from microbench.verification import Comparison

_SIZE = 192
# Sums of _SIZE products of such integers are exact in float64 but in nothing narrower.
_LIMIT = 2**22


def arrays() -> tuple[Any, str]:
    """CuPy and "", or None and what a reader of results should know: "" where it is just not installed.

    What failed is tried anew the next time: for want of memory, it may be had then.
    """
    try:
        return _tried()
    except Exception as error:  # whatever it lacks: a compiler at run time, a library, a newer driver
        if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
            return None, ""
        return None, failed(error)


@cache
def _tried() -> tuple[Any, str]:
    cupy: Any = importlib.import_module("cupy")
    if not _multiplies(cupy):
        return None, f"{ON_THE_HOST}: float64 products by CuPy are wrong here"
    return cupy, ""


def _multiplies(cupy: Any) -> bool:
    """Whether a product of matrices of integers is the exact one, and found to be.

    On the current device, which is the compiled module's, with all that checks need of CuPy: its run-time compiler too.
    """
    a, b = np.random.default_rng(0).integers(-_LIMIT, _LIMIT, (2, _SIZE, _SIZE))
    exact, comparison = a @ b, Comparison(0.0)
    pool = cupy.cuda.MemoryPool()
    try:
        with cupy.cuda.using_allocator(pool.malloc):
            left, right, expected = (cupy.asarray(matrix).astype(np.float64) for matrix in (a, b, exact))
            product = left @ right
            comparison.add(product, expected, cupy.ones(expected.shape))
            found = product.get()
            del left, right, expected, product
    finally:
        pool.free_all_blocks()
    return comparison.result().ok and bool((found == exact).all())
