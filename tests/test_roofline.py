"""Ceilings from what a run stored, and the roof over a record."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microbench import crew
from microbench.roofline import (
    CACHE,
    MEMORY,
    Ceiling,
    cache_bytes,
    ceilings,
    effective,
    intensity,
    roof,
    roof_share,
)
from microbench.topology import Cache
from records import make_info, make_record, not_measured

SAMPLES = [4.0e11, 4.1e11, 4.2e11, 4.3e11, 4.4e11, 4.5e11, 4.6e11, 4.7e11]
MEASURED = {
    "threads": 4,
    "compute_flops_per_s": {"fp32": {"best": 4.7e11, "median": 4.35e11, "samples": SAMPLES}},
    "memory_bytes_per_s": {"read": {"best": 5e10}, "triad": {"best": 6e10, "samples": [6e10]}},
    "last_level_cache_bytes_per_s": {"read": {"best": 3e11}},
}
ROOFS = [
    Ceiling(MEMORY, "memory", "measured", 5e10),
    Ceiling(CACHE, "memory", "measured", 3e11),
    Ceiling(MEMORY, "memory", "theoretical", 9e10),
]


def test_measured_ceilings_have_intervals_where_there_are_samples_enough() -> None:
    fp32, memory, cache = ceilings(make_info(ceilings=MEASURED))
    assert (fp32.unit, fp32.bounds, fp32.origin, fp32.per_s) == ("fp32", "compute", "measured", 4.7e11)
    assert fp32.interval == (
        4.0e11,
        4.7e11,
    )  # of eight samples the 99 % interval of the median is their range
    assert (memory.unit, memory.per_s, memory.interval) == (MEMORY, 6e10, None)  # the highest kind of traffic
    assert "triad" in memory.how
    assert (cache.unit, cache.per_s) == (CACHE, 3e11)


def test_a_run_without_ceilings_has_none() -> None:
    assert ceilings(make_info()) == []
    assert ceilings(make_info(ceilings={"compute_flops_per_s": {"fp32": {}}})) == []


def test_stated_ceilings_are_theoretical() -> None:
    stated = {"compute_flops_per_s": {"fp16": 1e15, "fp32": None}, "memory_bytes_per_s": 3e12}
    found = ceilings(make_info(ceilings={"theoretical": stated}))
    assert [(each.unit, each.origin, each.per_s) for each in found] == [
        ("fp16", "theoretical", 1e15),
        (MEMORY, "theoretical", 3e12),
    ]


def environment(flags: list[str], clock: float | None, **processor: Any) -> dict[str, Any]:
    known = {"architecture": "x86_64", "cores": 8, "arithmetic_flags": flags}
    return {"processor": known | processor, "clock": {"hardware_maximum_mhz": clock}}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (environment(["avx2", "avx512f"], 3000.0), 4 * 2 * 16 * 2 * 3e9),
        (environment(["avx2"], 3000.0), 4 * 2 * 8 * 2 * 3e9),
        (environment(["avx2", "avx512f"], 3000.0, vendor="AuthenticAMD", family="25"), 4 * 2 * 8 * 2 * 3e9),
        (environment(["avx2"], 3000.0, cores=2), 2 * 2 * 8 * 2 * 3e9),  # SMT siblings share the units
        (environment(["avx2"], None), None),
        (environment([], 3000.0), None),
        (environment(["avx2"], 3000.0, architecture="aarch64"), None),
    ],
)
def test_theoretical_peak_of_x86(where: dict[str, Any], expected: float | None) -> None:
    found = {
        each.unit: each.per_s
        for each in ceilings(make_info(ceilings=MEASURED, environment=where))
        if each.origin == "theoretical"
    }
    assert found == ({} if expected is None else {"fp32": expected})


def test_a_gpu_without_published_figures_has_no_roofs_of_its_host() -> None:
    stated = {"theoretical": {"compute_flops_per_s": {}, "memory_bytes_per_s": None}}
    host = environment(["avx2", "avx512f"], 3000.0)
    found = ceilings(make_info(ceilings=MEASURED | stated, environment=host))
    assert {each.origin for each in found} == {"measured"}


def test_intensity_needs_operations_and_bytes() -> None:
    assert intensity(make_record(flops=100, bytes=50)) == 2
    assert intensity(make_record(flops=None)) is None
    assert intensity(make_record(bytes=0)) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"algorithm": "winograd_4x4"}, True),
        ({"algorithm": "auto", "facts": {"implementation": "jit_wino_4x3:avx512_core"}}, True),
        ({"algorithm": "FFT_TILING"}, True),
        ({"algorithm": "auto", "facts": {"implementation": None}}, False),
        ({"algorithm": "im2col"}, False),
    ],
)
def test_effective_rates_are_those_of_fast_algorithms(changes: dict[str, Any], expected: bool) -> None:
    assert effective(make_record(**changes)) is expected


def test_the_roof_is_the_lower_one() -> None:
    record = make_record(mode="cold", flops=4000, bytes=1000, peak_flops_per_s=1e11, median_s=4e-8)
    assert roof(record, ROOFS, None) == 1e11
    assert roof(make_record(mode="cold", flops=1000, bytes=1000, peak_flops_per_s=1e11), ROOFS, None) == 5e10
    assert roof_share(record, ROOFS, None) == pytest.approx(1.0)


def test_hot_operands_come_from_the_cache_that_holds_them() -> None:
    record = make_record(mode="hot", flops=1000, bytes=1000, peak_flops_per_s=1e12)
    assert roof(record, ROOFS, 1000) == 3e11
    assert roof(record, ROOFS, 999) == 5e10
    assert roof(record, ROOFS, None) is None
    assert roof(record, ROOFS[:1], 1000) is None


@pytest.mark.parametrize(
    ("size", "probed", "expected"),
    [(1000, 500, 1000), (1000, 250, 500), (1000, None, 1000), (None, 250, None), (None, None, None)],
)
def test_the_cache_is_no_larger_than_twice_what_was_probed_of_it(
    size: int | None, probed: int | None, expected: int | None
) -> None:
    info = make_info(plan={"last_level_cache_bytes": size}, ceilings={"cached_bytes": probed})
    assert cache_bytes(info) == expected


def test_what_is_unknown_has_no_roof() -> None:
    assert roof(make_record(peak_flops_per_s=None), ROOFS, 1) is None
    assert roof(make_record(flops=None), ROOFS, 1) is None
    assert roof_share(not_measured("crashed", "signal 11"), ROOFS, 1) is None


@given(st.integers(1, 10**15), st.integers(1, 10**12), st.floats(1e6, 1e16))
def test_no_roof_is_above_the_peak(flops: int, traffic: int, peak: float) -> None:
    record = make_record(mode="cold", flops=flops, bytes=traffic, peak_flops_per_s=peak)
    bound = roof(record, ROOFS, None)
    assert bound is not None
    assert 0 < bound <= peak
    assert bound <= flops / traffic * ROOFS[0].per_s * (1 + 1e-12)


def caches_of(*levels: tuple[int, str, int]) -> list[Cache]:
    return [Cache(level, kind, size, (0, 1)) for level, kind, size in levels]


@pytest.mark.parametrize(
    ("levels", "last", "expected"),
    [
        ([(1, "Data", 32), (1, "Instruction", 9999), (2, "Unified", 500), (3, "Unified", 4000)], 4000, 2000),
        (
            [(1, "Data", 32), (2, "Unified", 1500), (3, "Unified", 4000)],
            4000,
            0,
        ),  # it would read the second level
        ([(1, "Data", 32)], 32, 0),
        ([], None, 0),
    ],
)
def test_the_cache_is_probed_where_no_nearer_one_holds_the_array(
    monkeypatch: pytest.MonkeyPatch, levels: list[tuple[int, str, int]], last: int | None, expected: int
) -> None:
    monkeypatch.setattr(crew, "caches", lambda _: caches_of(*levels))
    monkeypatch.setattr(crew, "last_level_cache_bytes", lambda **_: last)
    assert crew._cached_bytes((0, 1)) == expected


@pytest.mark.parametrize("size", [8, 1000, 1 << 20])
@pytest.mark.parametrize("kind", ["read", "copy", "triad"])
def test_memory_is_probed_for_arrays_of_any_size(kind: str, size: int) -> None:
    probe = pytest.importorskip("microbench._probe", reason="the extension modules are not built")
    rates = probe.memory_rates(kind, size, 3, 5)
    assert len(rates) == 5
    assert min(rates) > 0
