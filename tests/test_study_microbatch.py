"""Divisions of a batch and of a total workspace: against exhaustive enumeration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microbench.study.layers import name_of, parts_of
from microbench.study.microbatch import POLICIES, Division, allowed, desirable_set
from microbench.study.workspaces import divide_workspace

Kernels = dict[int, list[tuple[float, int]]]

# Whole numbers, so that sums are exact in any order.
kernel = st.tuples(st.integers(0, 12).map(float), st.integers(0, 9))
kernels = st.dictionaries(st.integers(1, 9), st.lists(kernel, max_size=3), max_size=6)


def every_division(kernels: Kernels, batch: int, limit: float) -> Iterator[tuple[float, int]]:
    """Time and workspace of all sequences of kernels, their order aside."""
    usable = [
        (size, time, workspace)
        for size, choices in kernels.items()
        for time, workspace in choices
        if workspace < limit
    ]

    def fill(rest: int, first: int, time: float, workspace: int) -> Iterator[tuple[float, int]]:
        if rest == 0:
            yield time, workspace
        for place in range(first, len(usable)):
            size, one, needed = usable[place]
            if size <= rest:
                yield from fill(rest - size, place, time + one, max(workspace, needed))

    yield from fill(batch, 0, 0.0, 0)


def optimal(points: set[tuple[float, int]]) -> list[tuple[float, int]]:
    return sorted(
        point
        for point in points
        if not any(other != point and other[0] <= point[0] and other[1] <= point[1] for other in points)
    )


@settings(max_examples=300, deadline=None)
@given(kernels, st.integers(1, 9), st.one_of(st.integers(0, 10), st.just(math.inf)))
def test_the_desirable_set_is_that_of_exhaustive_enumeration(
    kernels: Kernels, batch: int, limit: float
) -> None:
    found = desirable_set(kernels, batch, limit)
    assert [(one.time_s, one.workspace_bytes) for one in found] == optimal(
        set(every_division(kernels, batch, limit))
    )
    for one in found:
        chosen = [kernels[size][place] for size, place in zip(one.sizes, one.kernels, strict=True)]
        assert sum(one.sizes) == batch
        assert sum(time for time, _ in chosen) == one.time_s
        assert max(workspace for _, workspace in chosen) == one.workspace_bytes < limit
        assert list(one.sizes) == sorted(one.sizes, reverse=True)


charged = st.dictionaries(
    st.integers(1, 9), st.lists(st.tuples(kernel, st.integers(0, 9).map(float)), max_size=2), max_size=4
)


@settings(max_examples=300, deadline=None)
@given(charged, st.integers(1, 9))
def test_preparations_are_paid_once_by_each_of_different_kernels(
    charged: dict[int, list[tuple[tuple[float, int], float]]], batch: int
) -> None:
    kernels = {size: [one for one, _ in choices] for size, choices in charged.items()}
    preparations = {size: [prepare for _, prepare in choices] for size, choices in charged.items()}
    everything = [(size, *one, prepare) for size, choices in charged.items() for one, prepare in choices]
    points = set()
    for counts in itertools.product(*(range(batch // size + 1) for size, *_ in everything)):
        used = [(count, *one) for count, one in zip(counts, everything, strict=True) if count]
        if sum(count * size for count, size, *_ in used) == batch:
            time = sum(count * time for count, _, time, _, _ in used)
            time += sum(one[-1] for one in used) if len(used) > 1 else 0
            points.add((time, max(workspace for _, _, _, workspace, _ in used)))
    found = desirable_set(kernels, batch, math.inf, preparations)
    assert [(one.time_s, one.workspace_bytes) for one in found] == optimal(points)
    assert all(sum(one.sizes) == batch for one in found)


@given(kernels, st.integers(1, 9), st.sampled_from(POLICIES))
def test_policies_allow_what_their_names_say(kernels: Kernels, batch: int, policy: str) -> None:
    sizes = set(allowed(kernels, batch, policy))
    wanted = {"undivided": {batch}, "powerOfTwo": {1, 2, 4, 8, batch}, "all": set(range(10))}[policy]
    assert sizes == set(kernels) & wanted


def test_a_workspace_at_the_limit_does_not_count() -> None:
    choices: Kernels = {4: [(1.0, 100)], 2: [(0.75, 99), (3.0, 0)]}
    assert desirable_set(choices, 4, 101) == [
        Division(1.0, 100, (4,), (0,)),
        Division(1.5, 99, (2, 2), (0, 0)),
        Division(6.0, 0, (2, 2), (1, 1)),
    ]
    assert [one.sizes for one in desirable_set(choices, 4, 100)] == [(2, 2), (2, 2)]
    assert desirable_set(choices, 4, 0) == []
    assert desirable_set(choices, 3, math.inf) == []
    assert desirable_set({}, 3, math.inf) == []


@pytest.mark.parametrize(
    ("choices", "batch"),
    [
        ({0: [(1.0, 1)]}, 4),
        ({1: [(-1.0, 1)]}, 4),
        ({1: [(math.nan, 1)]}, 4),
        ({1: [(1.0, -1)]}, 4),
        ({1: [(1.0, 1)]}, 0),
    ],
)
def test_impossible_kernels_are_refused(choices: Kernels, batch: int) -> None:
    with pytest.raises(ValueError, match=r"at least 1 image|cannot take"):
        desirable_set(choices, batch, 10)
    with pytest.raises(ValueError, match="no policy"):
        allowed({}, 1, "some")


options = st.lists(
    st.builds(Division, st.integers(0, 30).map(float), st.integers(0, 20), st.just((1,)), st.just((0,))),
    min_size=1,
    max_size=4,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(options, st.integers(1, 2)), min_size=1, max_size=3), st.integers(0, 60))
def test_a_total_workspace_is_divided_as_exhaustive_enumeration_does(
    layers: list[tuple[list[Division], int]], total: int
) -> None:
    choices, counts = [layer for layer, _ in layers], [count for _, count in layers]
    repeated = [layer for layer, count in layers for _ in range(count)]
    least = min(
        (
            sum(one.time_s for one in combination)
            for combination in itertools.product(*repeated)
            if sum(one.workspace_bytes for one in combination) <= total
        ),
        default=None,
    )
    found = divide_workspace(choices, total, counts)
    if found is None:
        assert least is None
        return
    assert [len(places) for places in found] == counts
    chosen = [layer[place] for layer, places in zip(choices, found, strict=True) for place in places]
    assert sum(one.workspace_bytes for one in chosen) <= total
    assert sum(one.time_s for one in chosen) == least


def test_a_byte_too_little_is_too_little() -> None:
    gigabytes = 40 << 30
    layers = [[Division(1e-3, gigabytes, (1,), (0,)), Division(1e-3 + 1e-9, 1, (1,), (0,))]] * 3
    assert divide_workspace(layers, 3 * gigabytes) == [(0,)] * 3
    short = divide_workspace(layers, 3 * gigabytes - 1)
    assert short is not None
    assert sorted(short) == [(0,), (0,), (1,)]
    assert divide_workspace(layers, 2) is None
    assert divide_workspace([[], layers[0]], gigabytes) is None
    assert divide_workspace([], 0) == []
    with pytest.raises(ValueError, match="count"):
        divide_workspace(layers, 1, [1])


names = st.sampled_from(("im2col", "x64:gemm:jit#2", "jit:avx512_core+reorder", "a@b"))


@given(st.lists(st.tuples(names, st.integers(1, 300)), min_size=1, max_size=8))
def test_a_divisions_name_says_its_parts(parts: list[tuple[str, int]]) -> None:
    name = name_of(parts)
    assert name.startswith("microbatch:")
    found = [(algorithm, size) for count, algorithm, size in parts_of(name) for _ in range(count)]
    assert sorted(found) == sorted(parts)
