"""Fills, error bounds and comparisons: what decides whether a measured result is right."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from microbench.filling import fill_random
from microbench.problem import ITEM_BYTES
from microbench.verification import (
    Check,
    Comparison,
    accumulation_tolerance,
    frobenius_gamma,
    gamma,
    largest_integer,
    numpy_type,
    probable_gamma,
    unit_roundoff,
)

FLOATS = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("element_type", ITEM_BYTES)
def test_types_have_the_width_that_problems_count(element_type: str) -> None:
    assert numpy_type(element_type).itemsize == ITEM_BYTES[element_type]


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(ValueError, match="float8"):
        numpy_type("float8")


@pytest.mark.parametrize("element_type", FLOATS)
def test_unit_roundoff_is_half_the_distance_from_1_to_the_next_number(element_type: str) -> None:
    finfo: Any = ml_dtypes.finfo
    assert unit_roundoff(element_type) == float(finfo(numpy_type(element_type)).eps) / 2


@pytest.mark.parametrize("element_type", ITEM_BYTES)
def test_largest_integer_is_exact_and_the_next_one_is_not(element_type: str) -> None:
    largest, dtype = largest_integer(element_type), numpy_type(element_type)
    assert int(dtype.type(largest)) == largest
    if element_type in FLOATS:
        assert int(dtype.type(largest + 1)) != largest + 1
    else:
        assert largest == np.iinfo(dtype).max


def test_gamma_is_highams() -> None:
    assert gamma(1000, 2.0**-24) == 1000 * 2.0**-24 / (1 - 1000 * 2.0**-24)
    with pytest.raises(ValueError, match="no bound"):
        gamma(2**11, 2.0**-11)


@given(st.integers(1, 2**23))
def test_the_tolerance_of_sums_is_never_looser_than_the_worst_case(n: int) -> None:
    u = unit_roundoff("float32")
    assert 0 < accumulation_tolerance(n, u) <= gamma(n, u)
    assert accumulation_tolerance(n, u) <= probable_gamma(n, u)


def test_the_tolerance_of_sums_grows_with_the_root_of_their_length() -> None:
    u = unit_roundoff("float32")
    assert accumulation_tolerance(40_000, u) == pytest.approx(2 * accumulation_tolerance(10_000, u), rel=1e-3)


def test_integers_accumulate_without_tolerance() -> None:
    assert accumulation_tolerance(10**9, unit_roundoff("int32")) == 0


@pytest.mark.parametrize("n", [1, 3, 100, 3000])
def test_sums_in_order_keep_both_bounds(n: int) -> None:
    terms = np.empty((500, n), np.float32)
    fill_random(terms, np.random.default_rng(n))
    sums = np.cumsum(terms, axis=1, dtype=np.float32)[:, -1]
    u = unit_roundoff("float32")
    comparison = Comparison(accumulation_tolerance(n, u), frobenius_tolerance=frobenius_gamma(n, u))
    comparison.add(sums, terms.sum(axis=1, dtype=np.float64), np.abs(terms).sum(axis=1, dtype=np.float64))
    check = comparison.result()
    assert check.ok, check.reason
    assert n == 1 or check.max_error > 0


values = st.floats(-1e3, 1e3, allow_nan=False)
blocks = st.lists(
    hnp.arrays(np.float64, st.tuples(st.just(3), st.integers(0, 6), st.integers(0, 6)), elements=values),
    min_size=1,
    max_size=4,
)


@given(blocks, st.floats(0, 0.5), st.floats(0, 0.01))
def test_a_comparison_by_blocks_is_what_its_definition_says(
    parts: list[np.ndarray[Any, Any]], tolerance: float, rounding: float
) -> None:
    comparison = Comparison(tolerance, rounding)
    for output, reference, scale in parts:
        comparison.add(output, reference, np.abs(scale))
    check = comparison.result()
    triples = [triple for part in parts for triple in part.reshape(3, -1).T.tolist()]
    wrong, errors = 0, [0.0]
    for output, reference, signed_scale in triples:
        error = abs(output - reference)
        allowed = abs(signed_scale) * (tolerance * (1 + rounding)) + rounding * abs(reference)
        wrong += error > allowed
        if error:
            errors.append(math.inf if signed_scale == 0 else error / abs(signed_scale))
    assert (check.wrong_elements, check.elements) == (wrong, len(triples))
    assert check.max_error == max(errors)
    difference = math.fsum((output - reference) ** 2 for output, reference, _ in triples)
    norm = math.fsum(reference**2 for _, reference, _ in triples)
    if norm > 1e-200 and difference > 1e-200:
        assert check.frobenius_error == pytest.approx(math.sqrt(difference / norm))
    assert check.ok == (wrong == 0 and len(triples) > 0)
    assert check.ok == (check.reason == "")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["output", "reference", "scale", "output and reference"])
def test_whatever_is_not_finite_is_wrong(bad: float, place: str) -> None:
    arrays = {name: np.ones((4, 5)) for name in ("output", "reference", "scale")}
    for name in place.split(" and "):
        arrays[name][2, 3] = bad
    comparison = Comparison(0.5, 0.01)
    comparison.add(**arrays)
    check = comparison.result()
    assert check.wrong_elements == 1
    assert not check.ok
    if place != "scale":
        assert check.max_error == math.inf
        assert check.frobenius_error == math.inf
    assert not math.isnan(check.max_error)
    assert not math.isnan(check.frobenius_error)


def test_zero_where_every_term_is_zero_is_right_and_anything_else_is_not() -> None:
    comparison = Comparison(0.1)
    comparison.add(np.zeros(3), np.zeros(3), np.zeros(3))
    assert comparison.result() == Check(0.0, 0.0, 0.1, 0, 3)
    comparison.add(np.full(1, 1e-300), np.zeros(1), np.zeros(1))
    assert comparison.result().wrong_elements == 1
    assert comparison.result().max_error == math.inf


def test_nothing_compared_is_not_right() -> None:
    comparison = Comparison(1.0)
    comparison.add(np.zeros((0, 4)), np.zeros((0, 4)), np.zeros((0, 4)))
    assert not comparison.result().ok
    assert "no element" in comparison.result().reason


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        Comparison(0.0).add(np.zeros((3, 3)), np.zeros((1, 3)), np.zeros((3, 3)))


def test_rounding_the_result_is_allowed_relative_to_the_result_not_to_its_terms() -> None:
    reference, scale = np.array([1.0]), np.array([1000.0])
    for error, ok in ((0.0038, True), (0.0042, False)):
        comparison = Comparison(1e-7, result_rounding=2.0**-8)
        comparison.add(reference + error, reference, scale)
        assert comparison.result().ok == ok
        assert comparison.result().max_error <= comparison.result().tolerance


@pytest.mark.parametrize(("elements", "ok"), [(63, True), (64, False)])
def test_the_error_of_the_whole_counts_from_64_elements_on(elements: int, ok: bool) -> None:
    comparison = Comparison(1e-3, frobenius_tolerance=1e-5)
    comparison.add(np.full(elements, 1.0001), np.ones(elements), np.ones(elements))
    check = comparison.result()
    assert check.wrong_elements == 0
    assert check.ok == ok
    assert ("less precise" in check.reason) != ok


def test_reasons_name_the_count_and_the_size_of_the_error() -> None:
    assert Check(0.25, 0.1, 0.125, 3, 64).reason.startswith(
        "3 of 64 elements are wrong by more than rounding"
    )
    assert "0.25" in Check(0.25, 0.1, 0.125, 3, 64).reason
    assert "must be exact" in Check(0.25, 0.1, 0.0, 3, 64).reason
    assert "not finite" in Check(math.inf, math.inf, 0.125, 3, 64).reason
