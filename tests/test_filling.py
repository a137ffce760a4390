"""Fills of operands: what they hold, whatever the number of threads."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microbench import filling
from microbench.filling import fill_integers, fill_random, refill
from microbench.options import FILLS
from microbench.verification import largest_integer, numpy_type


@pytest.mark.parametrize("element_type", ["float64", "float32", "float16", "bfloat16", "int8"])
@pytest.mark.parametrize("shape", [(1,), (7,), (200_003,)])
def test_random_fills_are_fresh_and_never_zero_or_denormal(element_type: str, shape: tuple[int]) -> None:
    array = np.zeros(shape, numpy_type(element_type))
    rng = np.random.default_rng(1)
    fill_random(array, rng)
    first = array.astype(np.float64)
    fill_random(array, rng)
    magnitudes = np.abs(first)
    largest, smallest = (127, 1) if element_type == "int8" else (1, 0.25)
    assert ((magnitudes >= smallest) & (magnitudes <= largest)).all()
    if first.size > 10:
        assert (first != array).mean() > 0.9
        assert abs(first.mean()) < 5 * first.std() / math.sqrt(first.size) + 1e-12 * largest
        assert magnitudes.min() < smallest + 0.02 * largest
        assert magnitudes.max() > 0.98 * largest


@given(
    st.sampled_from(["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "int8", "int32"]),
    st.integers(1, 127),
    st.integers(0, 2**32 - 1),
)
def test_integer_fills_are_non_zero_integers_up_to_the_limit(
    element_type: str, limit: int, seed: int
) -> None:
    limit = min(limit, largest_integer(element_type))
    array = np.zeros(4000, numpy_type(element_type))
    fill_integers(array, np.random.default_rng(seed), limit)
    values = set(array.astype(np.float64).tolist())
    assert values <= set(range(-limit, limit + 1)) - {0}
    assert limit > 100 or values == set(range(-limit, limit + 1)) - {0}


@pytest.mark.parametrize(
    ("element_type", "limit"), [("int8", 128), ("bfloat16", 257), ("float16", 2049), ("int8", 0)]
)
def test_integers_that_the_type_does_not_hold_are_refused(element_type: str, limit: int) -> None:
    with pytest.raises(ValueError, match="limit"):
        fill_integers(np.zeros(3, numpy_type(element_type)), np.random.default_rng(0), limit)


@pytest.mark.parametrize(
    ("element_type", "limit"), [("float32", 40_000), ("float64", 2**53), ("float16", 2048)]
)
def test_integers_of_any_size_are_drawn(element_type: str, limit: int) -> None:
    array = np.zeros(1000, numpy_type(element_type))
    fill_integers(array, np.random.default_rng(0), limit)
    assert 0.9 * limit < np.abs(array.astype(np.float64)).max() <= limit


def test_fills_write_through_views_and_refuse_what_they_cannot() -> None:
    memory = np.zeros(64, np.uint8)
    fill_random(memory.view(numpy_type("bfloat16")), np.random.default_rng(0))
    assert memory.any()
    with pytest.raises(ValueError, match="contiguous"):
        fill_random(np.zeros((4, 4))[:, ::2], np.random.default_rng(0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8])
def test_fills_are_what_their_names_say(dtype: type) -> None:
    found = {}
    for fill in FILLS[1:]:
        array = np.full(200_000, 77, dtype=dtype)
        refill(array, fill, np.random.default_rng(0))
        scale = {"normal": 42, "uniform": 127}.get(fill, 1) if dtype == np.int8 else 1
        found[fill] = array.astype(np.float64) / scale
    assert abs(found["normal"].mean()) < 0.02
    assert abs(found["normal"].std() - 1) < 0.02
    assert 0 <= found["uniform"].min() < 0.01
    assert 0.99 < found["uniform"].max() <= 1
    assert abs(found["uniform"].mean() - 0.5) < 0.01
    assert set(found["integer"]) == set(range(-4, 5))
    assert not found["zero"].any()
    with pytest.raises(ValueError, match="no fill"):
        refill(np.zeros(1), "ones", np.random.default_rng(0))


@pytest.mark.parametrize("element_type", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_random_fills_are_uniform_and_scaled(element_type: str, scale: float) -> None:
    array = np.zeros(200_000, numpy_type(element_type))
    fill_random(array, np.random.default_rng(0), scale)
    values = array.astype(np.float64) / scale
    # The share of each tenth of +-[0.25, 1], but for what rounding moves over its ends.
    for low in np.arange(0.25, 0.999, 0.075):
        for side in (values, -values):
            assert ((side >= low) & (side < low + 0.075)).mean() == pytest.approx(0.05, abs=0.005)


@pytest.mark.parametrize("element_type", ["float32", "float16", "int8"])
def test_what_is_filled_does_not_depend_on_the_number_of_threads(
    element_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "_PART", 1000)
    filled = []
    for cpus in ((0,), (0, 1, 2)):
        monkeypatch.setattr(filling, "allowed_cpus", lambda cpus=cpus: cpus)
        array = np.zeros((70, 100), numpy_type(element_type))
        fill_random(array, np.random.default_rng(3))
        filled.append(array)
    assert (filled[0] == filled[1]).all()
    parts = filled[0].ravel().reshape(7, 1000)
    assert len({part.tobytes() for part in parts}) == 7


def test_nothing_is_filled_where_there_is_nothing() -> None:
    fill_random(np.zeros(0, np.float16), np.random.default_rng(0))
