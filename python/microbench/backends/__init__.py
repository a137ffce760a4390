"""Backends: which libraries a kind of device has, how they are run, and what bounds their rates."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from microbench.backends.library import Library, LibraryStatus
from microbench.errors import InputError

if TYPE_CHECKING:
    from microbench.backends.watch import Watch
    from microbench.protocol import CeilingsJob, MeasureJob


class Backend(Protocol):
    """What a module in ``microbench.backends`` offers."""

    BACKEND: str
    LIBRARIES: Mapping[str, Library]
    MODES: tuple[str, ...]
    # The extension module that times plug-ins.
    MODULE: str
    # Whether kernels run on this machine's processors: what else these do disturbs them.
    ON_PROCESSORS: bool
    # Whether a worker's memory can be limited by what its process may allocate.
    LIMITS_MEMORY: bool
    # In the worker: a device's measured peaks; None where they are those of the worker's own processors.
    ceilings: Callable[[CeilingsJob], dict[str, Any]] | None
    # In the worker: CuPy, where it can compute references on the device, and what to know of it where not.
    device_arrays: Callable[[], tuple[Any, str]] | None

    def missing(self) -> str:
        """Why nothing can be measured with it here, and what to do; "" where something can."""
        ...

    def facts(self) -> dict[str, str]:
        """What ``device`` prints of it beside its libraries."""
        ...

    def cache_bytes(self, cpus: tuple[int, ...]) -> int | None:
        """Of the last cache before memory."""
        ...

    def watch(self, job: MeasureJob) -> Watch:
        """In the worker: what looks at the device beside one record's samples."""
        ...

    def library_status(self, name: str) -> LibraryStatus:
        """What is known of one library on this machine; loads it."""
        ...

    def precision_here(self, precision: str) -> str:
        """The mode that a request for ``precision`` is measured in on this device."""
        ...

    def ceiling_precision(self, precision: str) -> str | None:
        """The precision whose measured peak bounds ``precision`` here; None where none does."""
        ...


# The best last: what ``auto`` takes where it can be used.
BACKENDS = ("cpu", "cuda")
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


def known(name: str) -> Backend:
    """The backend called ``name``, whether it can be used here or not."""
    return cast(Backend, importlib.import_module(f"microbench.backends.{name}"))


def backend(name: str, kernel: str = "", asked: tuple[str, ...] = ()) -> Backend:
    """The backend called ``name``.

    For ``auto`` the best of this machine that does ``kernel`` and has the libraries ``asked`` for.

    Raises:
        InputError: there is none of that name, or it cannot be used here.
    """
    if name == "auto":
        return next(
            (each for each in map(known, reversed(BACKENDS)) if _serves(each, kernel, asked)), known("cpu")
        )
    if name not in BACKENDS:
        raise InputError(f"--backend {name}: there is no such backend; there are auto, {', '.join(BACKENDS)}")
    chosen = known(name)
    if why := chosen.missing():
        raise InputError(f"--backend {name}: {why}")
    return chosen


def _serves(backend: Backend, kernel: str, asked: tuple[str, ...]) -> bool:
    named = [name for name in asked if name != "all"]
    if any(name not in backend.LIBRARIES for name in named) or backend.missing():
        return False
    return not kernel or any(
        _usable(backend.library_status(name), kernel) for name in named or backend.LIBRARIES
    )


def libraries(backend: Backend, kernel: str, asked: tuple[str, ...]) -> list[str]:
    """The libraries to measure ``kernel`` with: those asked for, or all that are here.

    Raises:
        InputError: one asked for is unknown, missing here or does not do ``kernel``, or none is here.
    """
    if not asked or asked == ("all",):
        for name, library in backend.LIBRARIES.items():
            status = backend.library_status(name)
            if status.missing and os.environ.get(library.variable):
                raise InputError(
                    f"{library.variable}: {status.missing}: set it to a library that works, or not at all"
                )
        here = [name for name in backend.LIBRARIES if _usable(backend.library_status(name), kernel)]
        if not here:
            raise InputError(
                f"no library does {kernel} here; `python -m microbench device` says what is missing"
            )
        return here
    for name in asked:
        if name not in backend.LIBRARIES:
            raise InputError(f"--library {name}: {_not_of(backend, name, kernel)}")
        status = backend.library_status(name)
        if status.missing:
            raise InputError(f"--library {name}: {status.missing}; to get it: {status.library.how_to_get}")
        if kernel not in status.kernels:
            raise InputError(f"--library {name}: does not do {kernel}; it does {', '.join(status.kernels)}")
    return list(dict.fromkeys(asked))


def _not_of(here: Backend, library: str, kernel: str) -> str:
    """Why ``here`` has no such library, and what to do."""
    for name in BACKENDS:
        other = known(name)
        if library not in other.LIBRARIES:
            continue
        status = other.library_status(library)
        if why := other.missing():
            return f"it is of backend {name}, which cannot be used here: {why}"
        if status.missing:
            return f"it is of backend {name}, and {status.missing}; to get it: {status.library.how_to_get}"
        return f"it is of backend {name}, not {here.BACKEND}: libraries of one backend are measured at a time"
    doing = [name for name in here.LIBRARIES if kernel in here.library_status(name).kernels]
    return f"there is no such library; there are {', '.join(doing or here.LIBRARIES)}"


def overlooked(asked: str, chosen: Backend, kernel: str) -> list[str]:
    """What `libraries` leaves aside of a GPU that is here, a sentence each; ``asked`` is the backend asked for."""
    cuda = known("cuda")
    if chosen.BACKEND == "cuda":
        found = {name: chosen.library_status(name) for name in chosen.LIBRARIES}
        return [
            f"{name} is left aside: {status.missing}; to get it: {status.library.how_to_get}"
            for name, status in found.items()
            if status.missing and (kernel in status.kernels or not status.kernels)
        ]
    if asked != "auto" or not NVIDIA_DRIVER.exists():
        return []
    why = (
        cuda.missing()
        or f"none of its libraries that do {kernel} is here; `python -m microbench device` says more"
    )
    return [f"the GPU is left aside: {why}"]


def _usable(status: LibraryStatus, kernel: str) -> bool:
    return not status.missing and kernel in status.kernels
