"""What the tests on a device share: convolutions to try, and verdicts on many algorithms of a library."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from microbench import extensions, kernels
from microbench.backends import cuda
from microbench.kernels.conv import ConvProblem
from microbench.kernels.gemm import GemmProblem
from microbench.problem import PRECISIONS, Case
from microbench.verification import numpy_type

NEEDS_A_DEVICE = [pytest.mark.gpu, pytest.mark.skipif(bool(cuda.missing()), reason=cuda.missing() or "-")]
# Libraries have thousands of algorithms: without this, some of each.
ALL_ALGORITHMS = os.environ.get("MICROBENCH_TEST_ALL_ALGORITHMS") == "1"
NO_LIMIT = 2**63 - 1
# What cuDNN and cuBLASLt must do on every device that is supported: refusing it would be our mistake.
BASIC = ("fp32", "fp16")
# Most important first: time may run out.
CONV_PRECISIONS = ("fp16", "fp32", "bf16", "tf32", "int8", "fp64")
# For Winograd, for FFT, with stride and dilation, in groups, depthwise, and 1x1.
CONVOLUTIONS = {
    "3x3": ConvProblem(
        w=28, h=20, c=32, n=3, k=48, filter_w=3, filter_h=3, pad_w=1, pad_h=1, stride_w=1, stride_h=1
    ),
    "5x5": ConvProblem(
        w=17, h=30, c=8, n=2, k=16, filter_w=5, filter_h=5, pad_w=2, pad_h=2, stride_w=1, stride_h=1
    ),
    "strided": ConvProblem(
        w=31, h=29, c=16, n=2, k=24, filter_w=3, filter_h=2, pad_w=2, pad_h=0, stride_w=2, stride_h=3,
        dilation_w=2,
    ),
    "grouped": ConvProblem(
        w=14, h=14, c=32, n=2, k=64, filter_w=3, filter_h=3, pad_w=1, pad_h=1, stride_w=1, stride_h=1, groups=4
    ),
    "depthwise": ConvProblem(
        w=14, h=14, c=32, n=2, k=32, filter_w=3, filter_h=3, pad_w=1, pad_h=1, stride_w=1, stride_h=1, groups=32
    ),
    "1x1": ConvProblem(
        w=14, h=14, c=64, n=4, k=32, filter_w=1, filter_h=1, pad_w=0, pad_h=0, stride_w=1, stride_h=1
    ),
}  # fmt: skip

_SMALL = Case(GemmProblem(64, 64, 64), PRECISIONS["fp32"], layout="column_major")


@dataclass
class Verdicts:
    """Of algorithms: ``ran`` with results, ``wrong`` or failed with the reason, ``refused`` with the library's."""

    ran: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def request(library: str, case: Case) -> tuple[Any, Any]:
    """The extension module and its request; skips the test where the library is missing."""
    found = cuda.LIBRARIES[library]
    if reason := cuda.library_status(library).missing:
        pytest.skip(reason)
    module: Any = extensions.load(found.module)
    return module, module.Request(
        kernel=case.problem.kernel,
        library=library,
        library_path=found.path(),
        algorithm=case.algorithm,
        precision=case.precision.name,
        problem={**dataclasses.asdict(case.problem), "pass": case.pass_, "layout": case.layout},
        threads=1,
        workspace_limit=NO_LIMIT,
    )


def execute(module: Any, session: Any, mode: str) -> None:
    """One sample, in a graph and cold as `microbench --mode` takes them; skips the test where nothing captures it."""
    if mode == "graph":
        try:
            session.capture()
        except module.Unsupported as refusal:
            pytest.skip(str(refusal))
    flusher = module.CacheFlusher(2 * cuda.device()["l2_cache_bytes"]) if mode == "cold" else None
    session.measure(1, 1, flusher)


def verified(library: str, case: Case, mode: str = "hot") -> str:
    """ "" where the result is right, else what is wrong. Raises the module's Unsupported."""
    module, asked = request(library, case)
    session = module.Session(asked)
    if case.algorithm not in ("auto", "find", *re.split(r"[ ,:;]+", session.implementation)):
        return f"{session.implementation} was run"
    case = dataclasses.replace(case, implementation=session.implementation)
    kernel = kernels.kernel(case.problem.kernel)
    for exact in (False, True) if kernel.exact(case) else (False,):
        operands = {}
        for name, (element_type, is_output) in session.operands.items():
            operands[name] = session.memory(name).view(numpy_type(element_type))
            if is_output:
                session.memory(name)[:] = 0xAA if operands[name].dtype.kind in "iu" else 0xFF
        kernel.fill(case, operands, np.random.default_rng(1), exact)
        session.prepare()
        execute(module, session, mode)
        session.collect()
        check = kernel.check(case, operands, exact)
        if not check.ok:
            return f"({session.implementation}): {check.reason}"
    return ""


def verdicts(library: str, case: Case, names: Iterable[str]) -> Verdicts:
    """Verifies the algorithms one by one, whatever one of them does; ends all tests where the device is lost."""
    found, module = Verdicts(), request(library, case)[0]
    for name in names:
        try:
            fault = verified(library, dataclasses.replace(case, algorithm=name))
        except module.Unsupported as refusal:
            found.refused[name] = str(refusal)
            continue
        except (RuntimeError, MemoryError) as error:
            fault = f"{type(error).__name__}: {error}"
            end_where_the_device_is_lost(f"{library} {name}: {fault}")
        else:
            found.ran.append(name)
        if fault:
            found.wrong.append(f"{name}: {fault}")
    for name, reason in found.refused.items():
        print(f"{name}: {reason}")
    return found


def end_where_the_device_is_lost(after: str) -> None:
    """After an illegal access every call fails, and so would every test."""
    try:
        fault = verified("cublaslt", _SMALL)
    except Exception as error:  # whatever is still said of it
        fault = f"{type(error).__name__}: {error}"
    if fault:
        pytest.exit(f"the device is lost, a small product fails ({fault}) after {after}", returncode=3)


def some(names: Iterable[str], engines: int = 4) -> list[str]:
    """The algorithms that have names, and the first of the engines, which come in the order of the heuristics."""
    every = list(names)
    numbered = [name for name in every if name.startswith("engine_")]
    return [name for name in every if name not in numbered] + numbered[: None if ALL_ALGORITHMS else engines]


def algorithms(library: str, case: Case) -> list[str]:
    """All that the library names; none where it refuses even that."""
    module, asked = request(library, case)
    try:
        names: list[str] = module.algorithms(asked)
    except module.Unsupported:
        return []
    return names
