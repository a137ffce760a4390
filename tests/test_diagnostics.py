import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.diagnostic import normal_ad

from microbench.diagnostics import diagnose
from microbench.stats import Interval, corrected_median_interval

RESOLUTION_S = 2e-8


def clean(n=200, seed=1):
    return 1e-3 * (1 + 0.01 * np.random.default_rng(seed).standard_normal(n))


def findings(samples, **options):
    return diagnose(samples, RESOLUTION_S, **options)[0]


def warnings(samples, **options):
    return diagnose(samples, RESOLUTION_S, **options)[1]


def leaves(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


times = st.floats(1e-9, 1e3)


@given(
    st.lists(times, min_size=1, max_size=120)
    | st.lists(st.integers(1, 4).map(lambda i: i * 1e-6), min_size=1, max_size=120)
    | st.tuples(times, st.integers(1, 120)).map(lambda pair: [pair[0]] * pair[1])
    | st.lists(st.just(0.0), min_size=1, max_size=40),
    st.sampled_from([None, 0.0, 1e-9, 1e-3]),
)
def test_any_samples_give_plain_finite_values_and_no_runtime_warnings(samples, resolution_s):
    found, sentences = diagnose(samples, resolution_s)
    json.dumps(found, allow_nan=False)
    for leaf in leaves(found):
        assert leaf is None or type(leaf) in (int, float, str)
    for sentence in sentences:
        assert "\n" not in sentence
        assert len(sentence) < 300


@pytest.mark.parametrize("n", [4999, 5000, 20_000])
def test_constant_series_of_any_length(n):
    found, sentences = diagnose([1e-3] * n, 1e-9)
    assert found["normality"] is None
    assert found["autocorrelation"] is None
    assert found["effective_n"] == n
    assert found["drift"] == {"p_value": 1.0, "relative": 0.0}
    assert len(found["modes"]) == 1
    assert len(sentences) == 1
    assert "only 1," in sentences[0]


def test_clean_samples_raise_no_warning():
    assert warnings(clean()) == []


def test_values_nearly_equal():
    samples = np.full(100, 1.0)
    samples[::7] = np.nextafter(1.0, 2.0)
    diagnose(samples, 1e-9)


class TestNormality:
    def test_shapiro_wilk_below_5000(self):
        samples = clean(4999)
        found = findings(samples)["normality"]
        theirs = scipy_stats.shapiro(samples)
        assert found["test"] == "Shapiro-Wilk"
        assert found["statistic"] == pytest.approx(theirs.statistic)
        assert found["p_value"] == pytest.approx(theirs.pvalue, rel=1e-3)

    @pytest.mark.parametrize("power", [1.0, 1.3, 2.0, 8.0, 40.0])
    def test_anderson_darling_from_5000_agrees_with_statsmodels(self, power):
        samples = clean(5000) * 1e3
        samples = samples**power
        found = findings(samples)["normality"]
        statistic, p_value = normal_ad(samples)
        assert found["test"] == "Anderson-Darling"
        assert found["statistic"] == pytest.approx(statistic, rel=1e-6)
        assert found["p_value"] == pytest.approx(p_value, rel=1e-4, abs=1e-140)

    def test_anderson_darling_of_very_skew_times(self):
        samples = np.random.default_rng(1).pareto(1, 8000) + 1
        assert findings(samples)["normality"]["p_value"] < 1e-100

    def test_no_warning_because_nothing_assumes_it(self):
        samples = np.random.default_rng(1).lognormal(0, 0.3, 400)
        assert findings(samples)["normality"]["p_value"] < 1e-6
        assert warnings(samples) == []

    @pytest.mark.parametrize("samples", [[1.0], [1.0, 2.0]])
    def test_unknown_for_two(self, samples):
        assert findings(samples)["normality"] is None


class TestCorrelation:
    def test_warning_names_the_consequence(self):
        rng = np.random.default_rng(2)
        noise = rng.standard_normal(2000)
        series = np.convolve(noise, np.ones(8), "valid")[:1000]
        found, sentences = diagnose(1 + 0.001 * series, 1e-9)
        assert found["effective_n"] < 500
        assert found["ljung_box_p"] < 1e-6
        assert len(found["autocorrelation"]) == 10
        assert [s for s in sentences if re.search(r"effective n = \d+ of 1000.*widened", s)]

    def test_warning_when_worth_too_few(self):
        found, sentences = diagnose(1 + 0.001 * np.repeat(np.random.default_rng(3).random(12), 10), 1e-9)
        assert found["effective_n"] < 30
        assert [s for s in sentences if "repeat the run" in s]

    def test_reports_the_effective_n_of_the_interval_given(self):
        samples = clean()
        interval = Interval(1.0, 2.0, 37.0)
        found, sentences = diagnose(samples, 1e-9, interval)
        assert found["effective_n"] == 37.0
        assert "effective n = 37 of 200" in sentences[0]
        assert findings(samples)["effective_n"] == corrected_median_interval(samples, 0.99).effective_n


class TestDrift:
    def test_drift_is_measured(self):
        samples = clean() * np.linspace(1, 1.1, 200)
        found, sentences = diagnose(samples, 1e-9)
        assert found["drift"]["p_value"] < 0.001
        # From the middle of the first block to the middle of the last.
        assert found["drift"]["relative"] == pytest.approx(0.9 * 0.1 / 1.05, rel=0.2)
        assert [s for s in sentences if "drift" in s and "+" in s]

    def test_drift_too_small_to_matter_is_no_warning(self):
        samples = 1e-3 * np.linspace(1, 1.002, 200)
        found, sentences = diagnose(samples, 1e-9)
        assert found["drift"]["p_value"] < 0.001
        assert not [s for s in sentences if "drift" in s]

    def test_unknown_for_few_samples(self):
        assert findings(clean(19))["drift"] is None
        assert findings(clean(20))["drift"] is not None


class TestModes:
    def mixture(self, n, share, apart, seed=0):
        rng = np.random.default_rng(seed)
        return 1e-3 * (1 + 0.01 * rng.standard_normal(n) + apart * (rng.random(n) < share))

    def test_two_modes(self):
        found, sentences = diagnose(self.mixture(400, 0.3, 0.2), 1e-9)
        assert [round(mode["center_s"], 4) for mode in found["modes"]] == [1.0e-3, 1.2e-3]
        assert found["modes"][1]["share"] == pytest.approx(0.3, abs=0.06)
        assert [s for s in sentences if "2 modes" in s]

    def test_three_modes(self):
        rng = np.random.default_rng(1)
        samples = 1 + 0.01 * rng.standard_normal(300) + 0.1 * rng.integers(0, 3, 300)
        assert len(findings(samples)["modes"]) == 3

    def test_two_values_are_modes_unless_they_may_be_steps_of_the_timer(self):
        samples = [1e-3, 1.5e-3] * 50
        assert len(findings(samples)["modes"]) == 2
        assert len(diagnose(samples, 5e-4)[0]["modes"]) == 1
        assert len(diagnose(samples, None)[0]["modes"]) == 1

    def test_a_few_outliers_are_no_mode(self):
        assert len(findings(self.mixture(400, 0.03, 0.5))["modes"]) == 1

    @pytest.mark.parametrize(
        "draw",
        [
            lambda rng: 1 + 0.05 * rng.standard_normal(300),
            lambda rng: rng.lognormal(0, 0.5, 300),
            lambda rng: 1 + rng.exponential(0.1, 300),
            lambda rng: rng.uniform(1, 1.1, 300),
            lambda rng: 1 + rng.pareto(1, 300),
            lambda rng: np.round(1 + 0.05 * rng.standard_normal(300), 2),
            lambda rng: np.round(1 + 0.05 * rng.standard_normal(300), 1),
        ],
    )
    def test_one_mode_is_rarely_taken_for_two(self, draw):
        rng = np.random.default_rng(4)
        assert sum(len(diagnose(draw(rng), None)[0]["modes"]) > 1 for _ in range(100)) <= 5

    def test_steps_of_the_timer_are_no_modes(self):
        samples = np.round(clean(2000) / 4e-6) * 4e-6
        assert len(diagnose(samples, 4e-6)[0]["modes"]) == 1

    def test_unknown_for_few_samples(self):
        assert findings(clean(29))["modes"] is None


class TestQuantisation:
    def test_few_distinct_values(self):
        samples = np.round(clean() / 2e-5) * 2e-5
        found, sentences = diagnose(samples, 2e-5)
        assert found["quantisation"]["distinct"] == len(set(samples))
        assert found["quantisation"]["median_over_resolution"] == pytest.approx(50)
        assert [s for s in sentences if "distinct values among 200" in s]

    def test_a_batch_is_resolved_better_than_one_execution(self):
        found = findings(clean(), samples_per_batch=100)
        assert found["quantisation"]["median_over_resolution"] == pytest.approx(1e-1 / RESOLUTION_S, rel=0.01)

    def test_unknown_resolution(self):
        assert diagnose(clean(), None)[0]["quantisation"]["median_over_resolution"] is None


class TestOutliers:
    def test_counts(self):
        samples = clean()
        samples[[3, 50]] = 5e-3
        samples[70] = 1e-4
        found = findings(samples)["outliers"]
        assert found["modified_z"] == 3
        assert found["share"] == pytest.approx(3 / 200)
        assert found["above_1_5_iqr"] >= 2
        assert found["below_1_5_iqr"] >= 1

    def test_many_are_named_and_kept(self):
        samples = clean()
        samples[::12] *= 3
        sentences = warnings(samples)
        assert [s for s in sentences if "17 of 200 samples are outliers, kept" in s]


@pytest.mark.parametrize("bad", [[], [[1.0]], [math.nan], [math.inf]])
def test_bad_samples_are_refused(bad):
    with pytest.raises(ValueError, match="samples must"):
        diagnose(bad, 1e-9)
