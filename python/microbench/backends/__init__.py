"""Backends: which libraries a kind of device has, how they are run, and what bounds their rates."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Protocol, cast

from microbench.backends.library import Library, LibraryStatus
from microbench.errors import InputError


class Backend(Protocol):
    """What a module in ``microbench.backends`` offers."""

    BACKEND: str
    LIBRARIES: Mapping[str, Library]

    def library_status(self, name: str) -> LibraryStatus:
        """What is known of one library on this machine; loads it."""
        ...

    def precision_here(self, precision: str) -> str:
        """The mode that a request for ``precision`` is measured in on this device."""
        ...

    def ceiling_precision(self, precision: str) -> str | None:
        """The precision whose measured peak bounds ``precision`` here; None where none does."""
        ...


BACKENDS = ("cpu",)


def backend(name: str) -> Backend:
    """The backend called ``name``, or the best of this machine for ``auto``. Raises InputError for another name."""
    if name == "auto":
        return backend("cpu")
    if name not in BACKENDS:
        raise InputError(f"--backend {name}: there is no such backend; there are auto, {', '.join(BACKENDS)}")
    return cast(Backend, importlib.import_module(f"microbench.backends.{name}"))


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
            raise InputError(
                f"--library {name}: there is no such library; there are {', '.join(backend.LIBRARIES)}"
            )
        status = backend.library_status(name)
        if status.missing:
            raise InputError(f"--library {name}: {status.missing}; to get it: {status.library.how_to_get}")
        if kernel not in status.kernels:
            raise InputError(f"--library {name}: does not do {kernel}; it does {', '.join(status.kernels)}")
    return list(dict.fromkeys(asked))


def _usable(status: LibraryStatus, kernel: str) -> bool:
    return not status.missing and kernel in status.kernels
