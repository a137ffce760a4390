"""The kernels: one module each, with its problem, fill and check."""

from __future__ import annotations

import importlib
from typing import cast

from microbench.errors import InputError
from microbench.problem import Kernel

KERNELS = (
    *("gemm", "conv", "rnn", "allreduce", "sparse_gemm"),
    *("reduce_scatter", "allgather", "broadcast", "alltoall"),
)


def kernel(name: str) -> Kernel:
    """The module of one kernel, imported when first asked for; InputError where there is no such kernel."""
    if name not in KERNELS:
        raise InputError(f"no kernel '{name}'; there are {', '.join(KERNELS)}")
    return cast(Kernel, importlib.import_module(f"microbench.kernels.{name}"))
