"""The CUDA backend: where NVIDIA's libraries lie, whether a device can be used, and what bounds its rates."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microbench import extensions
from microbench.backends.library import Library, LibraryStatus

if TYPE_CHECKING:
    from microbench.backends.watch import Watch
    from microbench.protocol import CeilingsJob, MeasureJob

BACKEND = "cuda"
MODES = ("hot", "cold", "graph")
ON_PROCESSORS = False
# CUDA reserves far more addresses than it uses: a limit of data would refuse what costs nothing.
LIMITS_MEMORY = False
MODULE = "microbench._cuda"

_QUERY_TIMEOUT_S = 120.0
# Their version is CUDA's: those of another CUDA, which wheels of other packages bring along, are not taken.
_NUMBERED_AS_CUDA = ("libcublas", "libcublasLt")
_NOT_BUILT = "it was left out when microbench was built"
_REBUILD = "do what `python -m microbench device` says of the build"
_FROM_WHEELS = "pip install '.[cuda13]' (or '.[cuda12]' where microbench was built with CUDA 12)"


def _wheel_folders() -> list[Path]:
    """``nvidia`` in site-packages: below it each CUDA 12 wheel has a folder, all CUDA 13 wheels share cu13."""
    namespace = importlib.util.find_spec("nvidia")
    if namespace is None or namespace.submodule_search_locations is None:
        return []
    return [Path(folder) for folder in namespace.submodule_search_locations]


def _library_path(variable: str, stem: str) -> str:
    """The user's choice, the newest copy in a wheel, or "": what the system's loader finds."""
    chosen = os.environ.get(variable)
    if chosen:
        return chosen
    name = f"{stem}.so.{_cuda_major()}*" if stem in _NUMBERED_AS_CUDA else f"{stem}.so.[0-9]*"
    found = [file for folder in _wheel_folders() for file in folder.glob(f"*/lib/{name}")]
    return str(max(found, key=_version)) if found else ""


def _cuda_major() -> str:
    """Of the CUDA that microbench was built with; a pattern for any where it was built without."""
    try:
        module: Any = extensions.load(MODULE)
    except ImportError:
        return "[0-9]"
    return str(module.CUDA_MAJOR)


def _version(file: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in file.name.split(".so.")[1].split(".") if part.isdigit())


def _library(name: str, stem: str, module: str = MODULE) -> Library:
    variable = f"MICROBENCH_{stem.removeprefix('lib').upper()}_LIBRARY"
    return Library(
        name,
        module,
        partial(_library_path, variable, stem),
        f"{_FROM_WHEELS}, or set {variable} to a {stem}.so",
        variable=variable,
    )


LIBRARIES: dict[str, Library] = {
    library.name: library
    for library in (
        _library("cublaslt", "libcublasLt"),
        _library("cublas", "libcublas"),
        _library("cudnn", "libcudnn"),
        # Our own kernels around cuBLASLt.
        _library("microbench", "libcublasLt"),
        # The collectives', under mpiexec.
        _library("nccl", "libnccl", "microbench._mpi"),
    )
}


def left_out() -> str:
    """What the build left out of the package, and how to get it; "" where nothing was."""
    note = Path(__file__).parents[1] / "left_out.txt"
    return note.read_text().strip() if note.is_file() else ""


def _not_built(library: Library) -> LibraryStatus:
    return LibraryStatus(dataclasses.replace(library, how_to_get=_REBUILD), (), {}, _NOT_BUILT)


@cache
def library_status(name: str) -> LibraryStatus:
    """What is known of one library on this machine; loads its extension module and the library itself."""
    library = LIBRARIES[name]
    try:
        module: Any = extensions.load(library.module)
    except ImportError as error:
        if left_out():
            return _not_built(library)
        return LibraryStatus(library, (), {}, f"{MODULE} cannot be imported: {error}")
    kernels = tuple(kernel for kernel, registered in module.registered() if registered == name)
    if not kernels:
        return _not_built(library)
    try:
        facts: dict[str, str] = module.describe(kernels[0], name, library.path())
    except module.Unsupported as error:
        return LibraryStatus(library, kernels, {}, str(error))
    return LibraryStatus(library, kernels, facts)


def unseen() -> str:
    """Why this process sees no device, and what to do; "" where it sees one, which is not occupied."""
    try:
        module: Any = extensions.load(MODULE)
    except ImportError as error:
        return left_out() or f"{MODULE} cannot be imported: {error}"
    return str(module.missing_device())


@cache
def missing() -> str:
    """Why no device can be used here, and what to do; "" where one can."""
    if reason := unseen():
        return reason
    found = _query()
    if isinstance(found, str):
        return found
    if all(library_status(name).missing for name in LIBRARIES):
        return f"none of NVIDIA's libraries can be loaded: {_FROM_WHEELS}"
    return ""


def device() -> dict[str, Any]:
    """The device's properties, as they are stored with a run; empty where there is none."""
    if missing():
        return {}
    found = _query()
    assert isinstance(found, dict)
    return found


@cache
def _query() -> dict[str, Any] | str:
    """Properties, or why there are none, asked in another process: this one must not occupy the device."""
    code = f"import json, {MODULE} as module; print(json.dumps(module.device_properties()))"
    try:
        process = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=False,
            timeout=_QUERY_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return f"the device does not answer ({_QUERY_TIMEOUT_S:.0f} s)"
    if process.returncode != 0:
        lines = process.stderr.strip().splitlines()
        return lines[-1].split(": ", 1)[-1] if lines else f"exit code {process.returncode}"
    properties: dict[str, Any] = json.loads(process.stdout)
    return properties


def facts() -> dict[str, str]:
    """What ``device`` prints of the device itself."""
    here = device()
    built = {"build": note} if (note := left_out()) else {}
    if not here:
        return built if missing() == note else {"device": f"none: {missing()}"} | built
    capability = here["compute_capability"]
    from microbench.backends.cuda_watch import Nvml

    sensor = Nvml.open(here)
    settings = {} if sensor is None else sensor.settings()
    return {
        "device": f"{here['name']} ({here['multiprocessors']} multiprocessors, compute capability "
        f"{capability // 100}.{capability // 10 % 10}, {here['memory_bytes'] / 2**30:.0f} GiB)",
        "driver": f"for CUDA {here['driver_cuda']}; microbench was built with {here['runtime_cuda']}",
        **(
            {"settings": ", ".join(f"{name} {value}" for name, value in settings.items())} if settings else {}
        ),
        **built,
    }


def cache_bytes(_: tuple[int, ...]) -> int | None:
    """Of the L2 cache."""
    size: int | None = device().get("l2_cache_bytes")
    return size


def precision_here(precision: str) -> str:
    """Devices have units of their own for every precision, or refuse it."""
    return precision


def ceiling_precision(precision: str) -> str | None:
    """Every precision has a peak of its own: the best that our probes and cuBLASLt reached in it."""
    return precision


def ceilings(job: CeilingsJob) -> dict[str, Any]:
    """Measured peaks of the device and its theoretical ones; in the worker."""
    from microbench.backends import cuda_peaks

    return cuda_peaks.ceilings(extensions.load(MODULE), LIBRARIES["cublaslt"].path(), job)


def watch(_: MeasureJob) -> Watch:
    """What looks at the device beside the samples; in the worker."""
    from microbench.backends.cuda_watch import DeviceWatch

    return DeviceWatch.open(extensions.load(MODULE))


def device_arrays() -> tuple[Any, str]:
    """CuPy, where it can compute references on the device, and what to know of it where not; in the worker."""
    from microbench.backends import cuda_reference

    return cuda_reference.arrays()
