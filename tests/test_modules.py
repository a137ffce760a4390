"""The extension modules: what is registered is what is on disk, and a launch computes the product."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

_cpu = pytest.importorskip("microbench._cpu", reason="the package is not built")
ROOT = Path(__file__).parent.parent


def test_every_harness_file_is_registered() -> None:
    on_disk = set()
    for source in (ROOT / "kernels").glob("*/*.cpp"):
        on_disk |= set(re.findall(r'Registration registration\(\{"(\w+)", "(\w+)"', source.read_text()))
    registered = set(_cpu.registered())
    try:
        from microbench import _onednn
    except ImportError:
        on_disk = {pair for pair in on_disk if pair[1] != "onednn"}
    else:
        registered |= set(_onednn.registered())
    assert registered == on_disk


def test_openblas_multiplies() -> None:
    import scipy_openblas32

    path = Path(scipy_openblas32.get_lib_dir()) / f"lib{scipy_openblas32.get_library()}.so"
    request = _cpu.Request(
        kernel="gemm",
        library="openblas",
        library_path=str(path),
        algorithm="auto",
        precision="fp32",
        problem={"m": 3, "n": 5, "k": 7, "a_transposed": False, "b_transposed": True},
        threads=1,
        workspace_limit=0,
    )
    session = _cpu.Session(request)
    rng = np.random.default_rng(0)
    a = rng.random((3, 7), dtype=np.float32)
    b = rng.random((5, 7), dtype=np.float32)
    session.memory("a").view(np.float32)[:] = a.ravel(order="F")
    session.memory("b").view(np.float32)[:] = b.ravel(order="F")
    times = session.measure(4)
    assert times.shape == (4,)
    assert (times > 0).all()
    c = session.memory("c").view(np.float32).reshape((3, 5), order="F")
    np.testing.assert_allclose(c, a @ b.T, rtol=1e-6)
