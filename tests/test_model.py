"""The model of times on made-up data whose coefficients are known: what is recovered, covered, refused."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microbench.errors import InputError
from microbench.model import cases
from microbench.model.design import terms_of
from microbench.model.fitting import Fit, analyse_variance
from microbench.model.judging import left_out_device
from microbench.model.prediction import interval, level_of

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from modelling import DEVICES, coefficients, false_alarms, fitted, new_devices, new_problems, observations


def combination(found: Fit, term: str, name: str) -> Any:
    row = np.zeros(len(found.design.columns))
    row[found.design.columns.index((term, name))] = 1.0
    return row


# --- coefficients ------------------------------------------------------------------------------------------------


def test_known_coefficients_lie_in_their_intervals_as_often_as_promised() -> None:
    shares = coefficients(np.random.default_rng(1), 300, 30)
    for name, (ours, _) in shares.items():
        # Three standard errors of a share of 0.95 are 0.038.
        assert 0.91 <= ours <= 0.99, (name, ours)
    # The usual intervals, which take all observations to be independent, would not do.
    assert shares["size", "bytes"][1] < 0.8


def test_refits_are_those_of_the_data_without_the_group() -> None:
    found = observations(np.random.default_rng(2), problems=12)
    whole = fitted(found)
    rest = [each for each in found if each.problem != "p3"]
    without = fitted(rest)
    own = [each for each in found if each.problem == "p3"]
    expected = np.log([each.seconds for each in own]) - without.design.matrix(own) @ without.coefficients
    members = [place for place, each in enumerate(found) if each.problem == "p3"]
    np.testing.assert_allclose(whole.left_out_residuals[members], expected, atol=1e-9)


def test_coefficients_are_those_of_statsmodels() -> None:
    found = fitted(observations(np.random.default_rng(14)), interactions=True)
    np.testing.assert_allclose(found.coefficients[found.design.kept], found.results.params, atol=1e-9)


def test_groups_of_one_give_the_errors_of_hc3() -> None:
    found = observations(np.random.default_rng(3), devices={"a": 0.0}, precisions={"fp32": 0.0})
    single = fitted(found)
    count = len(found)
    deviations = single.without - single.coefficients
    errors = np.sqrt((count - 1) / count * np.sum(deviations**2, axis=0))[single.design.kept]
    np.testing.assert_allclose(errors, single.results.HC3_se * np.sqrt((count - 1) / count), rtol=1e-6)


def test_the_table_of_variances_is_type_two() -> None:
    import pandas as pd
    from statsmodels.formula.api import ols  # type: ignore[import-untyped]
    from statsmodels.stats.anova import anova_lm  # type: ignore[import-untyped]

    rng = np.random.default_rng(4)
    found = [each for each in observations(rng) if rng.random() < 0.8]  # not balanced
    frame = pd.DataFrame(
        {
            "t": np.log([each.seconds for each in found]),
            "device": [each.device for each in found],
            "precision": [each.precision for each in found],
            "f": np.log([each.flops for each in found]) - 20,
            "b": np.log([each.bytes for each in found]),
        }
    )
    formula = "t ~ C(device) * C(precision) + f + b + I(f**2)"
    expected = anova_lm(ols(formula, frame).fit(), typ=2)["sum_sq"]
    table = {each.term: each for each in analyse_variance(fitted(found, interactions=True))}
    assert table["device"].sum_of_squares == pytest.approx(expected["C(device)"])
    assert table["precision"].sum_of_squares == pytest.approx(expected["C(precision)"])
    assert table["device:precision"].sum_of_squares == pytest.approx(expected["C(device):C(precision)"])
    assert table["device:precision"].degrees == 2
    whole, part = (ols(each, frame).fit().ssr for each in (formula, "t ~ C(device) * C(precision)"))
    assert table["size"].sum_of_squares == pytest.approx(part - whole)


def test_a_factor_without_effect_is_significant_as_rarely_as_promised() -> None:
    repeats = 200
    assert false_alarms(np.random.default_rng(5), repeats, 20) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / repeats)


@given(st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_the_order_of_observations_changes_nothing(random: Any) -> None:
    found = observations(np.random.default_rng(6), problems=11)
    shuffled = list(found)
    random.shuffle(shuffled)
    one, other = fitted(found), fitted(shuffled)
    assert one.design.columns == other.design.columns
    np.testing.assert_allclose(one.coefficients, other.coefficients, atol=1e-9)
    for place in range(len(one.design.columns)):
        row = np.eye(len(one.design.columns))[place]
        np.testing.assert_allclose(
            np.hstack(one.interval(row, 0.9)), np.hstack(other.interval(row, 0.9)), atol=1e-8
        )


def test_what_always_goes_together_is_not_told_apart() -> None:
    found = [
        replace(each, library="other") if each.device == "b" else each
        for each in observations(np.random.default_rng(7))
    ]
    assert terms_of(found) == ["device", "size", "precision"]
    mixed = [replace(each, library=f"lib{int(each.title[1:]) % 2}") for each in found]
    assert "library" in terms_of(mixed)
    # Of the device c there is one precision only, so nothing is known of its other one beside interactions.
    lacking = [each for each in found if (each.device, each.precision) != ("c", "fp16")]
    case = replace(lacking[0], device="c", precision="fp16", seconds=None)
    assert cases.predict(fitted(lacking), case, 0.9).notes == ("never measured together: c and fp16",)
    with pytest.raises(InputError, match="say nothing about gemm in fp16 on c"):
        cases.predict(fitted(lacking, interactions=True), case, 0.9)


def test_a_level_that_rests_on_one_problem_has_no_interval() -> None:
    found = observations(np.random.default_rng(8))
    lonely = [each for each in found if each.device != "c" or each.problem == "p0"]
    one = fitted(lonely)
    value, ends = one.interval(combination(one, "device", "c"), 0.95)
    assert np.isfinite(value)
    assert ends is None
    assert np.isnan(one.left_out_residuals).sum() == 2  # the precisions of that problem on c
    assert next(each for each in analyse_variance(one) if each.term == "device").p_value is None


def test_threads_that_are_unknown_anywhere_have_no_term() -> None:
    found = [
        replace(each, threads=threads)
        for each in observations(np.random.default_rng(15), problems=8)
        for threads in (1, 2)
    ]
    assert "threads" in terms_of(found)
    assert "threads" not in terms_of([*found[1:], replace(found[0], threads=0)])


def test_libraries_that_no_device_shares_are_part_of_their_devices() -> None:
    """Each group of libraries with a link has one reference, so devices and libraries both have their true effect."""
    known = {"one": 0.0, "two": 0.4, "three": 0.0, "four": -0.3}
    owners = {"a": ("one", "two"), "b": ("three",), "c": ("three", "four")}
    found = [
        replace(each, library=library, seconds=(each.seconds or 0) * float(np.exp(known[library])))
        for each in observations(np.random.default_rng(16))
        for library in owners[each.device]
    ]
    one = fitted(found)
    references = one.design.references["library"]
    assert references["gemm: one"] == references["gemm: two"] != references["gemm: three"]
    assert references["gemm: three"] == references["gemm: four"]
    assert one.design.kept.all()
    assert one.coefficients @ combination(one, "device", "b") == pytest.approx(DEVICES["b"], abs=0.1)
    assert one.coefficients @ combination(one, "device", "c") == pytest.approx(DEVICES["c"], abs=0.1)
    assert one.coefficients @ combination(one, "library", "gemm: two") == pytest.approx(0.4, abs=0.01)
    assert one.coefficients @ combination(one, "library", "gemm: four") == pytest.approx(-0.3, abs=0.01)
    case = replace(found[0], device="b", library="one", seconds=None)
    with pytest.raises(
        InputError, match="nothing about library gemm: one in fp32 on b: there is gemm: three"
    ):
        cases.predict(one, case, 0.9)
    # Left out, a device is predicted with the library that is part of it, and not with what only it has beside that.
    _, residuals = left_out_device(found, "a", one.design.references)
    own = [each.library for each in found if each.device == "a"]
    assert [bool(np.isnan(each)) for each in residuals] == [library == "two" for library in own]
    # Libraries of one device that were not measured in one precision are not linked.
    split = [
        replace(each, library="one" if each.precision == "fp32" else "two") if each.device == "a" else each
        for each in found
    ]
    assert fitted(split).design.references["library"]["gemm: two"] == "gemm: two"


def test_terms_that_add_nothing_have_no_figures() -> None:
    found = [
        replace(each, precision="fp16" if each.device == "b" else "fp32")
        for each in observations(np.random.default_rng(17), precisions={"fp32": 0.0})
        if each.device != "c"
    ]
    table = {each.term: each for each in analyse_variance(fitted(found))}
    lost = table["precision"]
    assert (lost.degrees, lost.sum_of_squares, lost.share, lost.p_value) == (0, None, None, None)
    assert [table["device"].untold, lost.untold] == [("b",), ("fp32",)]
    assert table["size"].untold == ()


# --- predictions -------------------------------------------------------------------------------------------------


def test_predictions_of_new_problems_are_covered_as_often_as_promised() -> None:
    repeats, level = 300, 0.8
    share, width = new_problems(np.random.default_rng(9), repeats, 20, level)
    assert share >= level - 3 * np.sqrt(level * (1 - level) / repeats)
    assert share <= 0.93  # nor so wide that they say nothing
    assert width < 2


def test_predictions_of_new_devices_are_covered_as_often_as_promised() -> None:
    repeats, level = 150, 0.75
    share, width = new_devices(np.random.default_rng(10), repeats, 10, level)
    assert share >= level - 3 * np.sqrt(level * (1 - level) / repeats)
    assert width < 3


def test_few_groups_lower_the_level_and_fewer_leave_no_interval() -> None:
    assert level_of(10, 0.95) == pytest.approx(9 / 11)
    assert level_of(100, 0.95) == 0.95
    found = fitted(observations(np.random.default_rng(11), problems=8, precisions={"fp32": 0.0}))
    every = np.ones(len(found.times), bool)
    wide = interval(found, found.matrix[0], every, 0.99)
    assert wide is not None
    assert wide.level == pytest.approx(7 / 9)
    assert interval(found, found.matrix[0], found.groups < 2, 0.99) is None


def test_a_device_left_out_tells_nothing_of_itself() -> None:
    found = observations(np.random.default_rng(12))
    references = fitted(found).design.references
    _, residuals = left_out_device(found, "b", references)
    slower = [
        replace(each, seconds=10 * (each.seconds or 0)) if each.device == "b" else each for each in found
    ]
    _, others = left_out_device(slower, "b", references)
    np.testing.assert_allclose(others - residuals, np.log(10), atol=1e-9)
    lonely = [replace(each, precision="int8") if each.device == "b" else each for each in found]
    assert np.isnan(left_out_device(lonely, "b", references)[1]).all()
