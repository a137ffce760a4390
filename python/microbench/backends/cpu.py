"""The CPU backend: its libraries, how their processes are set up, and which precisions the processor can do."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microbench import extensions
from microbench.backends.library import Library, LibraryStatus
from microbench.topology import last_level_cache_bytes, processor_flags

if TYPE_CHECKING:
    from microbench.backends.watch import Watch
    from microbench.protocol import MeasureJob

BACKEND = "cpu"
MODES = ("hot", "cold")
ON_PROCESSORS = True
LIMITS_MEMORY = True
MODULE = "microbench._cpu"
# Those of the processors that the worker itself runs on: it measures them with its own probes.
ceilings = None
device_arrays = None


_OPENBLAS_VARIABLE = "MICROBENCH_OPENBLAS_LIBRARY"


def _openblas_path() -> str:
    chosen = os.environ.get(_OPENBLAS_VARIABLE)
    if chosen:
        return chosen
    try:
        import scipy_openblas32
    except ImportError:
        return ""
    return str(Path(scipy_openblas32.get_lib_dir()) / f"lib{scipy_openblas32.get_library()}.so")


def _linked() -> str:
    return ""


_GET_OPENBLAS = "pip install scipy-openblas32, or set MICROBENCH_OPENBLAS_LIBRARY to a libopenblas.so"
# OpenBLAS has threads of its own: OpenMP's (cache flushing, probes, conversions) must not spin beside them.
_OPENBLAS_ENVIRONMENT = {"OMP_WAIT_POLICY": "passive"}

LIBRARIES = {
    library.name: library
    for library in (
        Library(
            "onednn",
            "microbench._onednn",
            _linked,
            "install on Linux x86-64 with pip, or build with DNNL_DIR pointing at an installed oneDNN >= 3.1",
            openmp=True,
        ),
        Library(
            "openblas",
            "microbench._cpu",
            _openblas_path,
            _GET_OPENBLAS,
            _OPENBLAS_ENVIRONMENT,
            _OPENBLAS_VARIABLE,
        ),
        # Our own algorithms: OpenMP threads that call OpenBLAS one by one.
        Library(
            "microbench",
            "microbench._cpu",
            _openblas_path,
            _GET_OPENBLAS,
            {"OPENBLAS_NUM_THREADS": "1"},
            _OPENBLAS_VARIABLE,
            openmp=True,
        ),
    )
}


def missing() -> str:
    """Nothing: every machine has processors."""
    return ""


def facts() -> dict[str, str]:
    """The environment says what the processors are."""
    return {}


def cache_bytes(cpus: tuple[int, ...]) -> int | None:
    """Of the last-level cache that ``cpus`` can reach."""
    return last_level_cache_bytes(cpus=cpus)


def watch(job: MeasureJob) -> Watch:
    """What looks at the processors beside the samples; in the worker."""
    from microbench.backends import machine_counters
    from microbench.backends.cpu_watch import ProcessorWatch

    return ProcessorWatch(job.threads, machine_counters.of_this_process() if job.mode == "hot" else None)


@cache
def library_status(name: str) -> LibraryStatus:
    """What is known of one library on this machine; loads its extension module and the library itself."""
    library = LIBRARIES[name]
    try:
        module: Any = extensions.load(library.module)
    except ImportError as error:
        return LibraryStatus(library, (), {}, f"{library.module} cannot be imported: {error}")
    kernels = tuple(kernel for kernel, registered in module.registered() if registered == name)
    if not kernels:
        return LibraryStatus(library, (), {}, f"{library.module} has no kernel of it")
    try:
        facts: dict[str, str] = module.describe(kernels[0], name, library.path())
    except module.Unsupported as error:
        return LibraryStatus(library, kernels, {}, str(error))
    return LibraryStatus(library, kernels, facts)


# The flags (as /proc/cpuinfo spells them) of which one must be there for arithmetic in a precision's own units.
NATIVE_FLAGS = {
    "bf16": frozenset({"avx512_bf16", "amx_bf16", "bf16"}),
    "fp16": frozenset({"avx512_fp16", "amx_fp16", "asimdhp"}),
    "int8": frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}),
}


def native(precision: str, flags: frozenset[str]) -> bool:
    """Whether a processor with these flags multiplies in ``precision`` by instructions of its own."""
    needed = NATIVE_FLAGS.get(precision)
    return needed is None or bool(needed & flags)


def precision_here(precision: str) -> str:
    """The mode that a request for ``precision`` is measured in: fp16 without fp16 units becomes fp32 arithmetic."""
    if precision == "fp16" and not native("fp16", processor_flags() or frozenset()):
        return "fp16_in_fp32_math"
    return precision


def ceiling_precision(precision: str) -> str | None:
    """The precision whose multiply-add rate bounds ``precision`` here, or None where no probe measures it."""
    return bounding_precision(precision, processor_flags() or frozenset())


def bounding_precision(precision: str, flags: frozenset[str]) -> str | None:
    """`ceiling_precision` for a processor with these flags."""
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
