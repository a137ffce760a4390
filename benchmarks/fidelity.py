"""Medians of the product's timing loop against those of a bare C++ loop around the same library call.

Both run in one process, on the same threads and the same memory, in turns. Prints per problem both medians and their
ratio; exits 1 where a ratio is farther from 1 than ``--within``. Needs a C++ compiler and
``pip install onednn-devel-cpu-gomp==2023.1.0`` for oneDNN's headers.

    python benchmarks/fidelity.py
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import importlib
import os
import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

import microbench
from microbench.backends import backend
from microbench.kernels.gemm import GemmProblem
from microbench.kernels.rnn import RnnProblem
from microbench.measuring import wake_and_bind
from microbench.pinning import Pinning, openmp_binding
from microbench.topology import physical_cores

# m, n, k: from some 20 us to about 1 s on four cores.
GEMMS = (
    (256, 64, 256),
    (256, 128, 256),
    (512, 128, 512),
    (1760, 16, 1760),
    (1024, 512, 1024),
    (1760, 1760, 1760),
    (4096, 3000, 4096),
    (6144, 6144, 4096),
)
# n, c, height and width, k, filter, whether it is the gradient of the input.
CONVOLUTIONS = (
    (1, 64, 28, 64, 3, 0),
    (1, 128, 28, 512, 1, 0),
    (8, 64, 56, 64, 3, 0),
    (16, 512, 7, 512, 3, 0),
    (16, 64, 112, 128, 3, 0),
    (8, 64, 56, 64, 3, 1),
    (16, 64, 112, 128, 3, 1),
)
# hidden units, batch, steps.
LSTMS = ((256, 16, 25), (512, 16, 25), (1024, 64, 25))
SECONDS_EACH = 10.0


def build_bare(folder: Path) -> ctypes.CDLL:
    """Compiles ``bare.cpp`` against the oneDNN that the product has loaded."""
    headers = Path(str(distribution("onednn-devel-cpu-gomp").locate_file("../../../include"))).resolve()
    package = Path(microbench.__file__).parent
    output = folder / "bare.so"
    source = Path(__file__).with_name("bare.cpp")
    library = package / "libdnnl.so.3"
    command = ["c++", "-O2", "-std=c++17", "-shared", "-fPIC", f"-I{headers}", str(source), str(library)]
    subprocess.run([*command, f"-Wl,-rpath,{package}", "-o", str(output)], check=True)
    return ctypes.CDLL(str(output))


def measure_pair(
    library: str, bare: ctypes.CDLL, kernel: str, size: tuple[int, ...], threads: int
) -> tuple[float, float, int]:
    """Medians in seconds of the product's loop and of the bare one, and the number of samples of each."""
    chosen = backend("cpu").LIBRARIES[library]
    module: Any = importlib.import_module(chosen.module)
    problem: dict[str, int | bool | str]
    if kernel == "gemm":
        problem = dataclasses.asdict(GemmProblem(*size))
        names = ("a", "b", "c")
    elif kernel == "rnn":
        hidden, samples_at_once, steps = size
        layer = RnnProblem(cell="lstm", hidden_size=hidden, batch_size=samples_at_once, time_steps=steps)
        problem = {**dataclasses.asdict(layer), "layout": "tnc"}
        names = ("x", "h0", "c0", "w_input", "w_recurrent", "bias", "y", "hn", "cn")
    else:
        n, c, pixels, k, filter_size, backward = size
        geometry = {"n": n, "c": c, "h": pixels, "w": pixels, "k": k, "groups": 1}
        for axis in "wh":
            geometry |= {f"filter_{axis}": filter_size, f"pad_{axis}": filter_size // 2}
            geometry |= {f"stride_{axis}": 1, f"dilation_{axis}": 1}
        problem = geometry | {"layout": "nchw"}
        names = ("dy", "w", "dx") if backward else ("x", "w", "y")
    request = module.Request(
        kernel=kernel,
        library=library,
        library_path=chosen.path(),
        algorithm="auto",
        precision="fp32",
        problem={**problem, "pass": "backward_data" if kernel == "conv" and size[-1] else "forward"},
        threads=threads,
        workspace_limit=2**62,
    )
    session = module.Session(request)
    arrays = [session.memory(name).view(np.float32) for name in names]
    rng = np.random.default_rng(1)
    for array in arrays:
        array[:] = rng.uniform(0.5, 1.0, array.size) / (array.size if kernel == "rnn" else 1)
    session.prepare()
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]

    def run_bare(samples: int, executions: int) -> np.ndarray:
        times = np.empty(samples)
        tail = (ctypes.c_int64(samples), ctypes.c_int64(executions), times.ctypes.data_as(ctypes.c_void_p))
        if kernel == "conv":
            bare.bare_convolution(*size, *pointers, *tail)
        elif kernel == "rnn":
            bare.bare_lstm(*size, *pointers, *tail)
        elif library == "openblas":
            blas = ctypes.CDLL(chosen.path())
            function = ctypes.cast(blas.scipy_cblas_sgemm, ctypes.c_void_p)
            bare.bare_openblas(function, *size, *pointers, *tail)
        else:
            bare.bare_onednn(*size, *pointers, *tail)
        return times

    once = float(session.measure(5).min())
    executions = max(1, round(12e-6 / once))
    batch = max(1, min(50, int(0.05 / (once * executions))))
    rounds = max(4, int(SECONDS_EACH / (2 * batch * executions * once)))
    ours, theirs = [], []
    run_bare(3, executions)
    for turn in range(rounds):
        pair = [
            (ours, lambda: session.measure(batch, executions)),
            (theirs, lambda: run_bare(batch, executions)),
        ]
        for times, take in pair if turn % 2 else reversed(pair):
            times.append(take())
    return float(np.median(np.concatenate(ours))), float(np.median(np.concatenate(theirs))), rounds * batch


def main() -> int:
    """Measures every size with every library."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--within", type=float, default=0.01, help="largest deviation from 1 (default: 0.01)")
    parser.add_argument("--library", help=argparse.SUPPRESS)
    # Found out before OpenMP's runtime is loaded, which binds the calling thread.
    parser.add_argument("--cpus", type=int, nargs="+", default=physical_cores(), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.library is None:  # each library in a process of its own, as the product has it
        codes = []
        for name in ("onednn", "openblas"):
            chosen = backend("cpu").LIBRARIES[name]
            binding = openmp_binding(arguments.cpus if chosen.openmp else ())
            environment = {**os.environ, **binding, **chosen.environment}
            command = [sys.executable, __file__, "--library", name, "--within", str(arguments.within)]
            command += ["--cpus", *map(str, arguments.cpus)]
            codes.append(subprocess.run(command, env=environment, check=False).returncode)
        return max(codes)

    cores = arguments.cpus
    pinning = Pinning(cores, enabled=True)
    wake_and_bind(len(cores), pinning)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        bare = build_bare(Path(folder))
        cases = [("gemm", size) for size in GEMMS]
        if arguments.library == "onednn":
            cases += [("conv", size) for size in CONVOLUTIONS] + [("rnn", size) for size in LSTMS]
        for kernel, size in cases:
            pinning.release()
            if arguments.library == "openblas":
                ctypes.CDLL(backend("cpu").LIBRARIES["openblas"].path())
            pinning.bind_new()
            pinning.bind_caller()
            ours, theirs, samples = measure_pair(arguments.library, bare, kernel, size, len(cores))
            name = f"{kernel} {'x'.join(map(str, size))}"
            rows.append((arguments.library, name, samples, 1e6 * theirs, 1e6 * ours, ours / theirs))
    headers = ("library", "problem", "samples each", "bare loop, us", "microbench, us", "ratio")
    print(tabulate(rows, headers, floatfmt=("", "", "", ".2f", ".2f", ".4f")))
    return int(any(abs(row[-1] - 1) > arguments.within for row in rows))


if __name__ == "__main__":
    sys.exit(main())
