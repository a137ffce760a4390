"""A library that does kernels, and what is known of it on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Library:
    """One library and the extension module that calls it.

    Attributes:
        module: import path of the extension module with ``Request``, ``Session``, ``algorithms``, ``describe``.
        path: returns the shared object to load at run time, "" where the module is linked to it.
        environment: variables a worker process must start with.
        variable: of the user's environment, by which another copy of the library is chosen.
        openmp: all threads it computes with are OpenMP's, so that OpenMP can bind them, also those made anew.
        how_to_get: what a person does where the library is missing.
    """

    name: str
    module: str
    path: Callable[[], str]
    how_to_get: str
    environment: Mapping[str, str] = field(default_factory=dict)
    variable: str = ""
    openmp: bool = False


@dataclass(frozen=True)
class LibraryStatus:
    """A library as found here: ``facts`` has version, path ...; ``missing`` says why it cannot be used."""

    library: Library
    kernels: tuple[str, ...]
    facts: Mapping[str, str]
    missing: str = ""
