"""The CPU backend: which libraries there are, how their processes are set up, and what the processor can do."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from microbench.errors import InputError
from microbench.problem import PRECISIONS

BACKEND = "cpu"


@dataclass(frozen=True)
class Library:
    """One library and the extension module that calls it.

    Attributes:
        module: import path of the extension module with ``Request``, ``Session``, ``algorithms``, ``describe``.
        path: returns the shared object to load at run time, "" where the module is linked to it.
        environment: variables a worker process must start with, for a given number of threads.
        how_to_get: what a person does where the library is missing.
    """

    name: str
    module: str
    path: Callable[[], str]
    how_to_get: str
    environment: Mapping[str, str] = field(default_factory=dict)


def _openblas_path() -> str:
    chosen = os.environ.get("MICROBENCH_OPENBLAS_LIBRARY")
    if chosen:
        return chosen
    try:
        import scipy_openblas32
    except ImportError:
        return ""
    return str(Path(scipy_openblas32.get_lib_dir()) / f"lib{scipy_openblas32.get_library()}.so")


def _linked() -> str:
    return ""


LIBRARIES = {
    library.name: library
    for library in (
        Library(
            "onednn",
            "microbench._onednn",
            _linked,
            "install on Linux x86-64 with pip, or build with DNNL_DIR pointing at an installed oneDNN >= 3.1",
            # Affinity is set per thread by the worker; a variable left over from the user's shell must not undo it.
            {"OMP_PROC_BIND": "false"},
        ),
        Library(
            "openblas",
            "microbench._cpu",
            _openblas_path,
            "pip install scipy-openblas32, or set MICROBENCH_OPENBLAS_LIBRARY to a libopenblas.so",
            # OpenBLAS has threads of its own: OpenMP's (cache flushing, probes, conversions) must not spin beside
            # them. OMP_PROC_BIND would put all of OpenBLAS's threads on one core.
            {"OMP_WAIT_POLICY": "passive", "OMP_PROC_BIND": "false"},
        ),
    )
}


@dataclass(frozen=True)
class LibraryStatus:
    """A library as found here: ``facts`` has version, path ...; ``missing`` says why it cannot be used."""

    library: Library
    kernels: tuple[str, ...]
    facts: Mapping[str, str]
    missing: str = ""


@cache
def library_status(name: str) -> LibraryStatus:
    """What is known of one library on this machine; loads its extension module and the library itself."""
    library = LIBRARIES[name]
    try:
        module = importlib.import_module(library.module)
    except ImportError as error:
        return LibraryStatus(library, (), {}, f"{library.module} cannot be imported: {error}")
    kernels = tuple(kernel for kernel, registered in module.registered() if registered == name)
    path = library.path()
    try:
        facts: dict[str, str] = module.describe(kernels[0], name, path)
    except module.Unsupported as error:
        return LibraryStatus(library, kernels, {}, str(error))
    return LibraryStatus(library, kernels, facts)


def libraries_for(kernel: str) -> list[str]:
    """Names of the libraries that can do ``kernel`` here, in the order in which they are listed."""
    return [name for name in LIBRARIES if not (s := library_status(name)).missing and kernel in s.kernels]


def require_library(name: str, kernel: str) -> None:
    """Raises InputError where ``name`` is no library of this backend, or is not to be had here for ``kernel``."""
    if name not in LIBRARIES:
        raise InputError(f"--library {name}: no such library; there are {', '.join(LIBRARIES)}")
    status = library_status(name)
    if status.missing:
        raise InputError(f"--library {name}: {status.missing}; to get it: {status.library.how_to_get}")
    if kernel not in status.kernels:
        raise InputError(f"--library {name}: does not do {kernel}; it does {', '.join(status.kernels)}")


# The flags (as /proc/cpuinfo spells them) of which one must be there for arithmetic in a precision's own units.
NATIVE_FLAGS = {
    "bf16": frozenset({"avx512_bf16", "amx_bf16", "bf16"}),
    "fp16": frozenset({"avx512_fp16", "amx_fp16", "asimdhp"}),
    "int8": frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}),
}


def native(precision: str, flags: frozenset[str]) -> bool:
    """Whether a processor with these flags multiplies in ``precision`` by instructions of its own."""
    needed = NATIVE_FLAGS.get(PRECISIONS[precision].name)
    return needed is None or bool(needed & flags)


def effective_precision(precision: str, flags: frozenset[str]) -> str:
    """The mode that a request for ``precision`` is measured in: fp16 without fp16 units becomes fp32 arithmetic."""
    if precision == "fp16" and not native("fp16", flags):
        return "fp16_in_fp32_math"
    return precision


def ceiling_precision(precision: str, flags: frozenset[str]) -> str | None:
    """The precision whose multiply-add rate bounds ``precision`` here, or None where no probe measures it."""
    if precision in ("fp32", "fp64"):
        return precision
    if precision == "fp16_in_fp32_math":
        return "fp32"
    if precision == "bf16" and not native("bf16", flags):
        return "fp32"
    # Tile units (AMX) are many times faster than the vector units that the probes measure.
    if precision == "bf16" and "avx512_bf16" in flags and "amx_bf16" not in flags:
        return "bf16"
    if precision == "int8" and "avx512_vnni" in flags and "amx_int8" not in flags:
        return "int8"
    return None


def measure_ceilings(threads: int, flags: frozenset[str], last_level_cache_bytes: int | None) -> dict[str, Any]:
    """Measured ceilings: FLOP/s (operations/s for int8) per precision and bytes/s of memory traffic, all samples.

    Memory arrays are four times the last-level cache each, so that they cannot stay in it.
    """
    probe = importlib.import_module("microbench._probe")
    compute: dict[str, Any] = {}
    for precision in ("fp32", "fp64", "bf16", "int8"):
        if ceiling_precision(precision, flags) == precision:
            compute[precision] = _samples(probe.compute_rates(precision, threads, 20, 0.01))
    array_bytes = 4 * (last_level_cache_bytes or 32 << 20)
    memory = {
        kind: _samples(probe.memory_rates(kind, array_bytes, threads, 8)) for kind in ("read", "copy", "triad")
    }
    return {"threads": threads, "compute_flops_per_s": compute, "memory_bytes_per_s": memory}


def _samples(rates: list[float]) -> dict[str, Any]:
    ordered = sorted(rates)
    return {"best": ordered[-1], "median": ordered[len(ordered) // 2], "samples": rates}
