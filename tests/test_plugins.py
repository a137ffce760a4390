"""Plug-ins: on the processor for real, on a fake device, and what is wrong with a file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import microbench
from fixtures.fake_cuda import ROOT, FakeCuda
from microbench import plugins
from microbench.errors import InputError
from microbench.problem import ITEM_BYTES
from microbench.store import Run

PACKAGE = Path(microbench.__file__).parents[1]
PROBLEM = "m=5,n=3,k=8,a_transposed=true"
QUICK = ["--problem", PROBLEM, "--min-time", "0", "--max-samples", "40", "--max-time", "2", "--output", "run"]

# Through ctypes: a C function pointer, called without the interpreter's help by the timing loop.
POINTER = """
import ctypes
NAME, KERNEL, BACKEND, PRECISIONS = "pointer", "gemm", "cpu", ("fp32",)

def open(case, operands):
    sizes = case.problem
    a = operands["a"].array().reshape(sizes.m, sizes.k)
    b = operands["b"].array().reshape(sizes.n, sizes.k).T
    c = operands["c"].array().reshape(sizes.n, sizes.m).T

    @ctypes.CFUNCTYPE(None, ctypes.c_size_t)
    def launch(stream):
        c[:] = a @ b

    kept.append(launch)
    return ctypes.cast(launch, ctypes.c_void_p).value

kept = []
"""

# Calls the stand-in for cuBLAS, as a library of one's own would be called.
DEVICE = """
import ctypes, os
NAME, KERNEL, BACKEND, PRECISIONS = "own", "gemm", "cuda", ("fp32",)

def open(case, operands):
    library, sizes = ctypes.CDLL(os.environ["MICROBENCH_CUBLAS_LIBRARY"]), case.problem
    handle, one, zero = ctypes.c_void_p(), ctypes.c_float(1), ctypes.c_float(0)
    library.cublasCreate_v2(ctypes.byref(handle))
    a, b, c = (ctypes.c_void_p(operands[name].__cuda_array_interface__["data"][0]) for name in "abc")
    m, n, k = map(ctypes.c_int64, (sizes.m, sizes.n, sizes.k))

    def launch(stream):
        library.cublasSetStream_v2(handle, ctypes.c_void_p(stream))
        library.cublasSetWorkspace_v2(handle, None, ctypes.c_size_t(0))
        library.cublasGemmEx_64(handle, 1, 0, m, n, k, ctypes.byref(one), a, 0, k, b, 0, k,
                                ctypes.byref(zero), c, 0, m, 68, -1)
    return launch
"""

# As much of CuPy as examples/cupy_gemm.py uses, on memory that a fake device has on the host.
CUPY = """
import ctypes
import numpy as np
from numpy import int64

def asarray(operand):
    facts = operand.__cuda_array_interface__
    assert facts["version"] == 3
    size, type_ = facts["shape"][0], np.dtype(facts["typestr"])
    return np.frombuffer((ctypes.c_uint8 * (size * type_.itemsize)).from_address(facts["data"][0]), type_)

class RawKernel:
    def __init__(self, source, name):
        assert f"void {name}(" in source

    def __call__(self, grid, block, arguments):
        a, b, c, m, n, k, *strides = arguments
        assert grid[0] * block[0] >= m and grid[1] * block[1] >= n
        step = a.itemsize
        left = np.lib.stride_tricks.as_strided(a, (m, k), [step * s for s in strides[:2]])
        right = np.lib.stride_tricks.as_strided(b, (k, n), [step * s for s in strides[2:]])
        c[:] = (left @ right).ravel(order="F")

class cuda:
    class Stream:
        made = []

        @classmethod
        def from_external(cls, foreign):
            version, address = foreign.__cuda_stream__()
            assert version == 0 and address > 0 and address not in cls.made
            cls.made.append(address)
            return cls()

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass
"""


def call(
    arguments: list[str], folder: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "microbench", "gemm", *arguments],
        env={**os.environ, "PYTHONPATH": str(PACKAGE), **(environment or {})},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def write(folder: Path, text: str) -> str:
    file = folder / "plugin.py"
    file.write_text(text)
    return str(file)


def test_plug_ins_are_measured_beside_the_libraries(tmp_path: Path) -> None:
    """NumPy's product as a callable, another one as the address of a function; what they lack has its reason."""
    example, pointer = str(ROOT / "examples" / "numpy_gemm.py"), write(tmp_path, POINTER)
    both = ("--plugin", example, "--plugin", pointer, "--library", "numpy", "pointer", "openblas")
    process = call(["--backend", "cpu", *both, "--precision", "fp32", "bf16", *QUICK], tmp_path)
    assert process.returncode in (0, 1), process.stdout + process.stderr
    run = Run.load(tmp_path / "run")
    records = {(record.library, record.precision): record for record in run.records()}
    for library in ("numpy", "pointer", "openblas"):
        record = records[library, "fp32"]
        assert record.status in ("ok", "unstable"), record.reason
        assert record.max_error is not None
        assert record.tolerance is not None
        assert record.max_error <= record.tolerance
    assert records["numpy", "bf16"].reason == "numpy has no bf16; it has fp32, fp64"
    assert run.info.environment["libraries"]["numpy"]["path"] == example
    assert len(run.info.environment["libraries"]["numpy"]["sha256"]) == 64


def test_a_wrong_result_and_a_fault_of_a_plug_in_are_records(tmp_path: Path) -> None:
    wrong = POINTER.replace("a @ b", "a @ b + 1")
    process = call(["--plugin", write(tmp_path, wrong), "--library", "pointer", *QUICK], tmp_path)
    assert process.returncode == 1, process.stderr
    (record,) = Run.load(tmp_path / "run").records()
    assert record.status == "wrong_result"
    faulty = POINTER.replace("sizes = case.problem", "sizes = case.problems")
    arguments = ["--plugin", write(tmp_path, faulty), "--library", "pointer", *QUICK[:-1], "other"]
    assert call(arguments, tmp_path).returncode == 1
    (record,) = Run.load(tmp_path / "other").records()
    assert record.status == "crashed"
    assert "problems" in record.reason


def test_a_plug_in_that_needs_a_package_says_which(tmp_path: Path) -> None:
    needing = POINTER.replace("sizes = case.problem", "import not_there.at_all; sizes = case.problem")
    file = write(tmp_path, needing)
    process = call(["--plugin", file, "--library", "pointer", *QUICK], tmp_path)
    assert process.returncode == 0, process.stderr
    (record,) = Run.load(tmp_path / "run").records()
    assert (record.status, record.reason) == (
        "unsupported", f"{Path(file).resolve()} needs the Python package not_there: install it"
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["hot", "graph", "cold"])
def test_a_plug_in_on_a_device(mode: str, tmp_path: Path) -> None:
    fake = FakeCuda.built().environment(tmp_path)
    process = call(
        ["--plugin", write(tmp_path, DEVICE), "--library", "own", "--mode", mode, *QUICK], tmp_path, fake
    )
    assert process.returncode == 0, process.stdout + process.stderr
    (record,) = Run.load(tmp_path / "run").records()
    assert (record.backend, record.library, record.mode) == ("cuda", "own", mode)
    # What the fake device takes for it; launching from Python takes far longer.
    assert record.median_s == pytest.approx(2 * 5 * 3 * 8 / 1e10, rel=0.05 if mode != "cold" else 5)


def test_the_example_with_cupy(tmp_path: Path) -> None:
    (tmp_path / "cupy.py").write_text(CUPY)
    fake = FakeCuda.built().environment(tmp_path)
    example = str(ROOT / "examples" / "cupy_gemm.py")
    process = call(["--plugin", example, "--library", "cupy", *QUICK], tmp_path, fake)
    (record,) = Run.load(tmp_path / "run").records()
    assert record.status in ("ok", "unstable"), record.reason + process.stderr


@pytest.mark.parametrize("element_type", ITEM_BYTES)
def test_a_device_s_array_library_reads_the_type_of_an_operand(element_type: str) -> None:
    """Also where ml_dtypes has been imported, as it is here: CuPy does that, and NumPy knows its types then."""
    assert ml_dtypes.bfloat16 == np.dtype("bfloat16")
    facts = plugins.Operand(element_type, 3, 4096).__cuda_array_interface__
    assert facts["shape"] == (3,)
    assert re.fullmatch(r"[<|][fi][1248]", facts["typestr"])
    assert np.dtype(facts["typestr"]).itemsize == ITEM_BYTES[element_type]


def test_every_example_can_be_read_without_what_it_uses() -> None:
    names = {plugins.load(str(file)).name for file in sorted((ROOT / "examples").glob("*_gemm.py"))}
    assert names == {"numpy", "cupy", "triton"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("NAME = 'x'", "has no KERNEL, BACKEND, PRECISIONS, open"),
        ("1 / 0", "cannot be run: ZeroDivisionError: division by zero"),
        (POINTER.replace('"gemm"', '"gem"'), "KERNEL is 'gem'; there are gemm"),
        (POINTER.replace('"cpu"', '"tpu"'), "BACKEND is 'tpu'; there are cpu, cuda"),
        (POINTER.replace('("fp32",)', '("fp31",)'), "PRECISIONS has 'fp31'"),
        (POINTER.replace('"gemm"', '"conv"'), "has no operands"),
        (POINTER.replace('"pointer"', '"openblas"'), "there is a library openblas already"),
    ],
)
def test_faults_of_a_file_are_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        plugins.register([write(tmp_path, text)])
    assert f": {said}" in str(caught.value)
    assert str(caught.value).startswith(f"--plugin {tmp_path}")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    process = call(["--plugin", "nowhere.py"], tmp_path)
    assert process.returncode == 2
    assert "nowhere.py: there is no such file" in process.stderr
