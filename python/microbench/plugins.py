"""Kernels of one's own, written in Python: measured by the same loop and verified like every other.

A plug-in is a file with these names::

    NAME = "mine"            # the library's name in --library and in records
    KERNEL = "gemm"          # what it computes
    BACKEND = "cpu"          # where: the name of a backend
    PRECISIONS = ("fp32",)   # what it has; others are recorded as unsupported

    def open(case, operands):
        ...                  # imports, compilation, anything that is done once
        def launch(stream):
            ...              # one execution, enqueued and nothing else
        return launch

``case`` is a `microbench.problem.Case`: sizes in ``case.problem``, transposes, pass, layout and precision.
``operands`` maps names to `Operand`: arrays of the processor for NumPy (``.array()``), of the device for CuPy,
Numba and PyTorch through ``__cuda_array_interface__``. ``launch`` is given the CUDA stream as an integer, 0 on a
processor. What ``open`` returns instead may be the address of a C function ``void launch(uintptr_t stream)``,
called without the interpreter. ``open`` may raise `Unsupported` with a reason.

On a device a launch from Python takes longer than many kernels: it waits behind the blocking kernel, and with
``--mode graph`` it is captured once and replayed.

For kernels other than ``gemm`` the file says which operands they have: ``operands(case)`` returns
``{name: (element type, elements, is_output)}`` by the names of ``microbench/kernels/KERNEL.py``.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

from microbench import extensions, kernels
from microbench.backends import BACKENDS, known
from microbench.backends.library import Library
from microbench.errors import InputError
from microbench.problem import ITEM_BYTES, PRECISIONS, Case, Scalar

_NEEDED = ("NAME", "KERNEL", "BACKEND", "PRECISIONS", "open")

Specs = Mapping[str, tuple[str, int, bool]]


class Unsupported(Exception):
    """This plug-in cannot do the case: recorded as ``unsupported`` with the reason."""


class WorkspaceExceeded(Exception):
    """Never raised: what a plug-in allocates is its own."""


@dataclass(frozen=True)
class Operand:
    """Memory of one operand, one-dimensional, in the order that the kernel's module describes.

    Attributes:
        element_type: as in `microbench.problem.ITEM_BYTES`.
        elements: how many.
        address: where it lies, on the processor or on the device.
    """

    element_type: str
    elements: int
    address: int

    def array(self) -> Any:
        """A NumPy array on the processor's memory."""
        import numpy as np

        from microbench.verification import numpy_type

        size = self.elements * ITEM_BYTES[self.element_type]
        memory = (ctypes.c_uint8 * size).from_address(self.address)
        return np.ctypeslib.as_array(memory).view(numpy_type(self.element_type))

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """For CuPy, Numba and PyTorch; types that NumPy lacks appear as integers of their width."""
        import numpy as np

        # By name: once ml_dtypes is imported, NumPy knows its types too, by strings that nobody else reads.
        lacking = self.element_type.startswith(("bfloat", "float8"))
        type_ = f"i{ITEM_BYTES[self.element_type]}" if lacking else self.element_type
        return {
            "shape": (self.elements,),
            "typestr": np.dtype(type_).str,
            "data": (self.address, False),
            "strides": None,
            "version": 3,
        }


@dataclass(frozen=True)
class Plugin:
    """A plug-in's file, read and checked."""

    file: str
    name: str
    kernel: str
    backend: str
    precisions: tuple[str, ...]
    open: Callable[[Case, Mapping[str, Operand]], Any]
    operands: Callable[[Case], Specs]


@dataclass(frozen=True, kw_only=True)
class Request:
    """As the extension modules have it."""

    kernel: str
    library: str
    library_path: str
    algorithm: str
    precision: str
    problem: dict[str, Scalar]
    threads: int
    workspace_limit: int


@cache
def load(file: str) -> Plugin:
    """Reads the plug-in in ``file``. Raises InputError where it is not as it must be."""
    if not Path(file).is_file():
        raise InputError(f"--plugin {file}: there is no such file")
    try:
        names = vars(_imported(file))
    except Exception as error:
        raise InputError(f"--plugin {file}: cannot be run: {type(error).__name__}: {error}") from error
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        raise InputError(
            f"--plugin {file}: has no {', '.join(missing)}; see the documentation of microbench.plugins"
        )
    kernel, backend, precisions = names["KERNEL"], names["BACKEND"], tuple(names["PRECISIONS"])
    if kernel not in kernels.KERNELS:
        raise InputError(f"--plugin {file}: KERNEL is {kernel!r}; there are {', '.join(kernels.KERNELS)}")
    if backend not in BACKENDS:
        raise InputError(f"--plugin {file}: BACKEND is {backend!r}; there are {', '.join(BACKENDS)}")
    if unknown := [name for name in precisions if name not in PRECISIONS]:
        raise InputError(f"--plugin {file}: PRECISIONS has {unknown[0]!r}; there are {', '.join(PRECISIONS)}")
    operands = names.get("operands", _gemm_operands if kernel == "gemm" else None)
    if operands is None:
        raise InputError(f"--plugin {file}: has no operands(case), which {kernel} needs")
    return Plugin(file, str(names["NAME"]), kernel, backend, precisions, names["open"], operands)


def _imported(file: str) -> ModuleType:
    # A module like any other: compilers of kernels look up its source and its names.
    name = f"microbench_plugin_{hashlib.sha256(file.encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _gemm_operands(case: Case) -> Specs:
    sizes: Any = case.problem
    (a, b), output = case.precision.inputs, case.precision.output
    return {
        "a": (a, sizes.batch * sizes.m * sizes.k, False),
        "b": (b, sizes.batch * sizes.k * sizes.n, False),
        "c": (output, sizes.batch * sizes.m * sizes.n, True),
    }


def register(files: Sequence[str]) -> None:
    """Makes the plug-ins libraries of their backends. Raises InputError where one is faulty or its name is taken."""
    for file in files:
        plugin = load(str(Path(file).resolve()))
        libraries = known(plugin.backend).LIBRARIES
        taken = libraries.get(plugin.name)
        if taken is not None and taken.path() != plugin.file:
            raise InputError(
                f"--plugin {file}: there is a library {plugin.name} already: choose another NAME"
            )
        assert isinstance(libraries, dict)
        libraries[plugin.name] = Library(
            plugin.name,
            __name__,
            partial(str, plugin.file),
            "it is the file given by --plugin",
        )


def _case(request: Request) -> Case:
    problem: dict[str, Any] = dict(request.problem)
    pass_, layout = str(problem.pop("pass")), str(problem.pop("layout"))
    kernel = kernels.kernel(request.kernel)
    return Case(kernel.PROBLEM(**problem), PRECISIONS[request.precision], pass_, layout, request.algorithm)


# What follows is what the extension modules offer, for the worker.


def _module(plugin: Plugin) -> Any:
    return extensions.load(known(plugin.backend).MODULE)


def Session(request: Request) -> Any:  # noqa: N802 - the extension modules' name
    """The compiled module's session around the plug-in that ``request`` names by its path."""
    plugin = load(request.library_path)
    if request.precision not in plugin.precisions:
        raise Unsupported(f"{plugin.name} has no {request.precision}; it has {', '.join(plugin.precisions)}")
    if request.algorithm != "auto":
        raise Unsupported(f"{plugin.name} offers no choice of algorithm")
    case, module = _case(request), _module(plugin)
    specs = plugin.operands(case)

    def open_(addresses: dict[str, int]) -> Any:
        operands = {name: Operand(type_, size, addresses[name]) for name, (type_, size, _) in specs.items()}
        try:
            return plugin.open(case, operands)
        except ModuleNotFoundError as error:
            raise Unsupported(f"{plugin.file} needs the Python package {error.name}: install it") from error

    try:
        return module.plug_in([(name, *spec) for name, spec in specs.items()], open_)
    except module.Unsupported as error:
        raise Unsupported(str(error)) from error


def algorithms(_: Request) -> list[str]:
    """None: a plug-in is one algorithm."""
    return []


def registered() -> list[tuple[str, str]]:
    """Kernel and name of every plug-in of this process."""
    return [
        (load(library.path()).kernel, name)
        for backend in BACKENDS
        for name, library in known(backend).LIBRARIES.items()
        if library.module == __name__
    ]


def describe(_: str, __: str, path: str) -> dict[str, str]:
    """The file and its contents' digest, so that runs of changed plug-ins are told apart."""
    return {"path": path, "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest()}
