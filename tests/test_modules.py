"""The extension modules: what is registered is what is on disk, and a launch computes the product."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

_cpu = pytest.importorskip("microbench._cpu", reason="the package is not built")
ROOT = Path(__file__).parent.parent


def test_every_harness_file_is_registered() -> None:
    on_disk: dict[str, set[tuple[str, str]]] = {"_cpu": set(), "_onednn": set(), "_cuda": set()}
    for source in (ROOT / "kernels").glob("*/*.cpp"):
        module = {"on": "_onednn", "cu": "_cuda"}.get(source.name[:2], "_cpu")
        on_disk[module] |= set(
            re.findall(r'Registration registration\(\s*\{"(\w+)", "(\w+)"', source.read_text())
        )
    for name, pairs in on_disk.items():
        assert pairs
        try:
            module = importlib.import_module(f"microbench.{name}")
        except ImportError:
            assert name != "_cpu"
        else:
            assert set(module.registered()) == pairs


def test_openblas_multiplies() -> None:
    import scipy_openblas32

    path = Path(scipy_openblas32.get_lib_dir()) / f"lib{scipy_openblas32.get_library()}.so"
    request = _cpu.Request(
        kernel="gemm",
        library="openblas",
        library_path=str(path),
        algorithm="auto",
        precision="fp32",
        problem={"m": 3, "n": 5, "k": 7, "a_transposed": False, "b_transposed": True, "batch": 1},
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
