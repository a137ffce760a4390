"""What a device reaches at best: our own probes, the best of cuBLASLt, and what its data sheet's figures amount to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from microbench.filling import fill_random
from microbench.problem import PRECISIONS
from microbench.protocol import NO_LIMIT, CeilingsJob
from microbench.verification import numpy_type

# Fused multiply-adds per multiprocessor and cycle, by compute capability (100 x major + 10 x minor).
# fp32 and fp64: CUDA C++ Programming Guide, "Throughput of Native Arithmetic Instructions". Tensor cores, dense:
# NVIDIA's architecture white papers of V100, A100, H100 (fp64 on A100 and H100 is the tensor cores').
_FMA_PER_CYCLE: dict[int, dict[str, int]] = {
    700: {"fp32": 64, "fp64": 32, "fp16": 512, "fp16_acc16": 512},
    750: {"fp32": 64, "fp64": 2},
    800: {
        "fp32": 64,
        "fp64": 64,
        "tf32": 512,
        "fp16": 1024,
        "fp16_acc16": 1024,
        "bf16": 1024,
        "int8": 2048,
    },
    860: {"fp32": 128, "fp64": 2},
    890: {"fp32": 128, "fp64": 2},
    900: {
        "fp32": 128,
        "fp64": 128,
        "tf32": 1024,
        "fp16": 2048,
        "fp16_acc16": 2048,
        "bf16": 2048,
        "int8": 4096,
        "fp8_e4m3": 4096,
        "fp8_e5m2": 4096,
    },
    1200: {"fp32": 128, "fp64": 2},
}
# Large enough to fill every multiprocessor many times over, small enough for a second of filling.
_GEMM_SIZE = 8192
_GEMM_SAMPLES = 20
_GEMM_S = 0.1
_PRECISIONS = ("fp64", "fp32", "tf32", "fp16", "fp16_acc16", "bf16", "fp8_e4m3", "fp8_e5m2", "int8")
_DRAM_BYTES = 1 << 30
_L2_PASSES = 50
_REPETITIONS = 10
# As many random elements are drawn; larger operands repeat them.
_RANDOM_ELEMENTS = 1 << 20


def ceilings(module: Any, cublaslt: str, job: CeilingsJob) -> dict[str, Any]:
    """Measured FLOP/s per precision and bytes/s of memory traffic, every sample kept, and theoretical peaks."""
    properties = module.device_properties()
    compute: dict[str, dict[str, Any]] = {}
    for precision in ("fp32", "fp64"):
        compute[precision] = _rates("probe", module.compute_rates(precision, _REPETITIONS, 0.01))
    for precision in _PRECISIONS:
        probed = compute["fp64" if precision == "fp64" else "fp32"]["best"]
        rates = _gemm_rates(module, cublaslt, precision, _gemm_size(properties, probed))
        if rates and max(rates) > compute.get(precision, {"best": 0.0})["best"]:
            compute[precision] = _rates("cublaslt", rates)
    dram = min(max(_DRAM_BYTES, 8 * properties["l2_cache_bytes"]), properties["memory_bytes"] // 4)
    # A quarter: part of the cache may hold copies of what lies in the rest.
    l2 = properties["l2_cache_bytes"] // 4
    memory = {
        kind: _rates("probe", module.memory_rates(kind, dram, 1, _REPETITIONS))
        for kind in ("read", "write", "copy")
    }
    cached = (
        {"read": _rates("probe", module.memory_rates("read", l2, _L2_PASSES, _REPETITIONS))} if l2 else {}
    )
    return {
        "threads": job.threads,
        "array_bytes": dram,
        "compute_flops_per_s": compute,
        "memory_bytes_per_s": memory,
        "cached_bytes": l2 or None,
        "last_level_cache_bytes_per_s": cached,
        "theoretical": theoretical(properties),
        "device": properties,
    }


def _rates(source: str, samples: list[float]) -> dict[str, Any]:
    return {
        "best": max(samples),
        "median": float(np.median(samples)),
        "samples": list(samples),
        "source": source,
    }


def _gemm_size(properties: dict[str, Any], rate: float) -> int:
    """Smaller where memory is, or the probe's rate is low: fp64 on devices with few such units."""
    size = _GEMM_SIZE
    while 3 * 8 * size * size > properties["memory_bytes"] // 4 or 2.0 * size**3 / rate > _GEMM_S:
        size //= 2
    return size


def _gemm_rates(module: Any, cublaslt: str, precision: str, size: int) -> list[float]:
    """Rates of single products of size^3 on random operands; none where the device or library has no such."""
    # In the one combination of transposes that every precision has.
    problem = {"m": size, "n": size, "k": size, "a_transposed": True, "b_transposed": False, "batch": 1}
    try:
        request = module.Request(
            kernel="gemm",
            library="cublaslt",
            library_path=cublaslt,
            algorithm="auto",
            precision=precision,
            problem=problem | {"pass": "forward", "layout": "column_major"},
            threads=1,
            workspace_limit=NO_LIMIT,
        )
        session = module.Session(request)
    except module.Unsupported:
        return []
    rng = np.random.default_rng(0)
    for name, element_type in zip("ab", PRECISIONS[precision].inputs, strict=True):
        _fill(session.memory(name).view(numpy_type(element_type)), rng)
    session.prepare()
    session.measure(3)
    times = session.measure(_GEMM_SAMPLES)
    return [2.0 * size**3 / float(time) for time in times]


def _fill(array: NDArray[Any], rng: np.random.Generator) -> None:
    block = array[:_RANDOM_ELEMENTS]
    fill_random(block, rng)
    for start in range(block.size, array.size, block.size):
        rest = array[start : start + block.size]
        rest[:] = block[: rest.size]


def theoretical(properties: dict[str, Any]) -> dict[str, Any]:
    """Peaks at the highest clock: FLOP/s per precision where the architecture's figures are published, bytes/s of DRAM.

    A multiply-add is two operations; memory moves data twice a clock. None where a figure is unknown.
    """
    clock, bits = properties["sm_clock_hz"], properties["memory_bus_bits"]
    per_cycle = _FMA_PER_CYCLE.get(properties["compute_capability"], {})
    memory_clock = properties["memory_clock_hz"]
    return {
        "compute_flops_per_s": {
            precision: 2.0 * count * properties["multiprocessors"] * clock
            for precision, count in per_cycle.items()
            if clock
        },
        "memory_bytes_per_s": 2.0 * memory_clock * bits / 8 if memory_clock and bits else None,
    }
