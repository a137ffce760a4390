import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.diagnostic import acorr_ljungbox
from statsmodels.stats.multitest import multipletests
from statsmodels.tsa.stattools import acf

from microbench import stats

times = st.floats(1e-9, 1e3)
continuous = st.lists(times, min_size=1, max_size=200)
tied = st.lists(st.integers(1, 5).map(float), min_size=1, max_size=200)
samples = continuous | tied
confidences = st.sampled_from([0.5, 0.75, 0.9, 0.95, 0.99, 0.999])


def autoregressive(rng, rho, n):
    series = [rng.standard_normal()]
    for noise in rng.standard_normal(n - 1):
        series.append(rho * series[-1] + math.sqrt(1 - rho**2) * noise)
    return 1 + 0.05 * np.array(series)


class TestQuantileInterval:
    @given(samples, st.sampled_from([0.05, 0.25, 0.5, 0.75, 0.9]), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
    def test_agrees_with_scipy(self, values, q, confidence):
        theirs = scipy_stats.quantile_test(values, q=0, p=q).confidence_interval(confidence)
        ours = stats.quantile_interval(values, q, confidence)
        # scipy gives a bound where only one side exists, and then NaN for the other.
        if ours is None:
            assert math.isnan(theirs.low) or math.isnan(theirs.high)
        else:
            assert ours == (theirs.low, theirs.high)

    @given(st.integers(1, 60), st.sampled_from([0.1, 0.3, 0.5, 0.8]), confidences)
    def test_ranks_are_the_narrowest_with_the_promised_tails(self, n, q, confidence):
        tail = (1 - confidence) / 2
        binomial = [math.comb(n, k) * q**k * (1 - q) ** (n - k) for k in range(n + 1)]
        below = [sum(binomial[:k]) for k in range(n + 2)]
        above = [sum(binomial[k:]) for k in range(n + 2)]
        # Tails equal to the level up to rounding may fall on either side.
        near = 1e-9
        found = stats.quantile_interval(np.arange(1.0, n + 1), q, confidence)
        low = max((k for k in range(1, n + 1) if below[k] <= tail * (1 + near)), default=None)
        high = min((k for k in range(1, n + 1) if above[k] <= tail * (1 + near)), default=None)
        strict_low = max((k for k in range(1, n + 1) if below[k] <= tail * (1 - near)), default=None)
        strict_high = min((k for k in range(1, n + 1) if above[k] <= tail * (1 - near)), default=None)
        if found is None:
            assert strict_low is None or strict_high is None
        else:
            assert found[0] in (low, strict_low)
            assert found[1] in (high, strict_high)

    @pytest.mark.parametrize(
        ("q", "confidence", "n"), [(0.5, 0.99, 8), (0.5, 0.95, 6), (0.5, 0.75, 3), (0.99, 0.95, 368)]
    )
    def test_smallest_sample_with_an_interval(self, q, confidence, n):
        assert stats.minimum_samples(confidence, q) == n
        assert stats.quantile_interval(np.arange(n), q, confidence) is not None
        assert stats.quantile_interval(np.arange(n - 1), q, confidence) is None

    @given(samples, confidences)
    def test_median_interval_holds_the_sample_median(self, values, confidence):
        interval = stats.median_interval(values, confidence)
        if len(values) < stats.minimum_samples(confidence):
            assert interval is None
        else:
            low, high = interval
            assert low <= np.median(values) <= high
            assert {low, high} <= set(values)

    @given(continuous, st.randoms(use_true_random=False))
    def test_order_does_not_matter(self, values, random):
        shuffled = random.sample(values, len(values))
        assert stats.median_interval(shuffled, 0.9) == stats.median_interval(values, 0.9)

    def test_input_is_not_changed(self):
        values = np.array([3.0, 1.0, 2.0] * 5)
        before = values.copy()
        stats.median_interval(values, 0.99)
        stats.corrected_median_interval(values, 0.99)
        stats.modified_z_scores(values)
        stats.autocorrelation(values, 3)
        assert (values == before).all()

    @pytest.mark.parametrize(
        "function", [stats.summary, stats.effective_sample_size, stats.modified_z_scores]
    )
    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            ([], "at least one value"),
            ([[1.0], [2.0]], "one-dimensional"),
            (1.0, "one-dimensional"),
            ([1.0, math.nan], "NaN or infinite"),
            ([1.0, math.inf], "NaN or infinite"),
        ],
    )
    def test_bad_samples_are_refused(self, function, bad, message):
        for call in (
            lambda: function(bad),
            lambda: stats.median_interval(bad, 0.99),
            lambda: stats.corrected_median_interval(bad, 0.99),
        ):
            with pytest.raises(ValueError, match=message):
                call()

    @pytest.mark.parametrize("confidence", [0.0, 1.0, -1.0, math.nan])
    def test_confidence_out_of_range_is_refused(self, confidence):
        with pytest.raises(ValueError, match="between 0 and 1"):
            stats.median_interval([1.0] * 10, confidence)
        with pytest.raises(ValueError, match="between 0 and 1"):
            stats.minimum_samples(confidence)

    @pytest.mark.parametrize(
        "draw",
        [
            lambda rng, n: 1 + 0.05 * rng.standard_normal(n),
            lambda rng, n: rng.lognormal(0, 0.5, n),
            lambda rng, n: 1 + rng.standard_cauchy(n),
            lambda rng, n: np.round(1 + 0.05 * rng.standard_normal(n), 1),
        ],
    )
    @pytest.mark.parametrize("n", [8, 30, 100])
    def test_coverage(self, draw, n):
        rng = np.random.default_rng(n)
        intervals = [stats.median_interval(draw(rng, n), 0.99) for _ in range(2000)]
        assert np.mean([low <= 1 <= high for low, high in intervals]) >= 0.98


class TestCorrelation:
    @given(st.lists(st.floats(0.5, 2), min_size=2, max_size=60))
    def test_autocorrelation_and_ljung_box_agree_with_statsmodels(self, values):
        lags = min(10, len(values) - 1)
        ours = stats.autocorrelation(values, lags)
        if len(set(values)) == 1:
            assert ours is None
            return
        scaled = np.array(values) - np.mean(values)
        if np.abs(scaled).max() < 1e-6:
            return
        np.testing.assert_allclose(ours, acf(values, nlags=lags, fft=False)[1:], atol=1e-7)
        theirs = acorr_ljungbox(values, lags=[lags])["lb_pvalue"].iloc[0]
        assert stats.ljung_box(ours, len(values)) == pytest.approx(theirs, abs=1e-6)

    @given(samples)
    def test_effective_size_is_positive_and_at_most_n(self, values):
        assert 0 < stats.effective_sample_size(values) <= len(values)

    @pytest.mark.parametrize("n", [1, 2, 3, 30, 1001, 5000])
    def test_constant_series_counts_in_full(self, n):
        assert stats.effective_sample_size([0.1] * n) == n

    @given(st.lists(st.integers(1, 5).map(float), min_size=1, max_size=99).filter(lambda v: len(v) % 2))
    def test_effective_size_depends_on_ranks_alone(self, values):
        assert stats.effective_sample_size(np.exp(values)) == stats.effective_sample_size(values)

    @pytest.mark.parametrize("rho", [0.3, 0.5, 0.8])
    @pytest.mark.parametrize("n", [900, 20_000])
    def test_effective_size_of_an_autoregressive_series(self, rho, n):
        # The signs of a Gaussian series with correlation r correlate with 2/pi arcsin r (Sheppard 1899).
        true = 1 / (1 + 2 * sum(2 / math.pi * math.asin(rho**k) for k in range(1, 200)))
        rng = np.random.default_rng(5)
        found = np.mean([stats.effective_sample_size(autoregressive(rng, rho, n)) / n for _ in range(8)])
        assert found == pytest.approx(true, rel=0.2)

    def test_alternation_is_no_reason_to_widen(self):
        assert stats.effective_sample_size([1.0, 2.0] * 50) == 100

    def test_outliers_do_not_hide_correlation(self):
        rng = np.random.default_rng(3)
        series = autoregressive(rng, 0.8, 400)
        series[[50, 200, 333]] = 1e6
        assert stats.effective_sample_size(series) < 200

    def test_a_timer_with_few_steps_does_not_hide_correlation(self):
        rng = np.random.default_rng(4)
        assert stats.effective_sample_size(np.round(autoregressive(rng, 0.8, 400), 1)) < 200

    @pytest.mark.parametrize("n", [30, 100, 500, 2000])
    def test_independent_samples_keep_the_plain_interval(self, n):
        rng = np.random.default_rng(n)
        kept = 0
        for _ in range(200):
            values = rng.lognormal(0, 0.1, n)
            interval = stats.corrected_median_interval(values, 0.99)
            if interval is not None and interval.effective_n == n:
                assert (interval.low, interval.high) == stats.median_interval(values, 0.99)
                kept += 1
        assert kept >= 0.88 * 200

    @settings(max_examples=30)
    @given(st.integers(0, 2**32), st.sampled_from([0.0, 0.5, 0.9]), st.integers(1, 300), confidences)
    def test_correction_never_narrows(self, seed, rho, n, confidence):
        values = autoregressive(np.random.default_rng(seed), rho, n)
        plain = stats.median_interval(values, confidence)
        corrected = stats.corrected_median_interval(values, confidence)
        if plain is None:
            assert corrected is None
        elif corrected is not None:
            assert corrected.low <= plain[0]
            assert corrected.high >= plain[1]
            assert corrected.effective_n == stats.effective_sample_size(values)

    def test_no_interval_where_samples_are_worth_too_few(self):
        assert stats.corrected_median_interval(np.arange(20.0), 0.99) is None
        series = autoregressive(np.random.default_rng(9), 0.95, 400)
        assert stats.effective_sample_size(series) < 30
        assert stats.corrected_median_interval(series, 0.5) is None

    def test_correction_restores_the_coverage_that_correlation_costs(self):
        rng = np.random.default_rng(8)
        plain = corrected = 0
        for _ in range(200):
            values = autoregressive(rng, 0.8, 300)
            low, high = stats.median_interval(values, 0.99)
            plain += low <= 1 <= high
            interval = stats.corrected_median_interval(values, 0.99)
            corrected += interval is None or interval.low <= 1 <= interval.high
        assert plain < 0.85 * 200
        assert corrected >= 0.95 * 200


class TestSummary:
    def test_known_values(self):
        found = stats.summary([4.0, 1.0, 3.0, 2.0, 100.0])
        assert found == {
            "n": 5,
            "minimum": 1,
            "p05": pytest.approx(1.2),
            "q1": 2,
            "median": 3,
            "q3": 4,
            "p95": pytest.approx(80.8),
            "p99": pytest.approx(96.16),
            "maximum": 100,
            "mean": 22,
            "standard_deviation": pytest.approx(np.std([1, 2, 3, 4, 100], ddof=1)),
            "mad": 1,
            "outliers": 1,
        }

    def test_median_of_an_even_count_is_the_mean_of_the_middle_two(self):
        assert stats.summary([1.0, 2.0, 4.0, 9.0])["median"] == 3.0
        assert stats.sorted_median(np.array([1.0, 2.0, 4.0, 9.0])) == 3.0

    @given(samples)
    def test_quantiles_are_in_order_and_all_is_finite(self, values):
        found = stats.summary(values)
        names = ["minimum", "p05", "q1", "median", "q3", "p95", "p99", "maximum"]
        quantiles = np.array([found[name] for name in names])
        assert (np.diff(quantiles) >= -1e-12 * np.abs(quantiles[1:])).all()
        assert all(type(value) is float and math.isfinite(value) for value in found.values())
        assert ("standard_deviation" in found) == (len(values) > 1)

    def test_outliers_are_found_where_most_samples_are_equal(self):
        assert stats.summary([1.0] * 99 + [2.0])["outliers"] == 1
        assert stats.summary([1.0] * 100)["outliers"] == 0


runs = st.lists(st.floats(0.9, 1.1), min_size=1, max_size=9)


class TestComparison:
    @given(runs, runs)
    def test_sides_are_treated_alike(self, a, b):
        forward, back = stats.compare_medians(a, b), stats.compare_medians(b, a)
        opposite = {"faster": "slower", "slower": "faster"}
        assert back.verdict == opposite.get(forward.verdict, forward.verdict)
        assert back.p_value == pytest.approx(forward.p_value)
        assert back.ratio == pytest.approx(1 / forward.ratio)
        assert back.probability_less == pytest.approx(1 - forward.probability_less)

    @given(runs, runs, st.sampled_from([0.8, 0.9, 0.95, 0.99]))
    def test_interval_and_exact_test_agree(self, a, b, confidence):
        if len({*a, *b}) < len(a) + len(b):
            return
        found = stats.compare_medians(a, b, confidence)
        if found.p_value == pytest.approx(1 - confidence):
            return
        if found.ratio_low is None:
            assert found.p_value > 1 - confidence
        else:
            excludes = found.ratio_low > 1 or found.ratio_high < 1
            assert excludes == (found.p_value < 1 - confidence)
            assert found.ratio_low <= found.ratio <= found.ratio_high

    @pytest.mark.parametrize(("m", "n"), [(1, 1), (2, 5), (4, 4), (5, 3), (6, 5)])
    @pytest.mark.parametrize("tail", [0.25, 0.05, 0.025, 0.005])
    def test_ranks_agree_with_all_arrangements(self, m, n, tail):
        u = [sum(places) - m * (m - 1) // 2 for places in itertools.combinations(range(m + n), m)]
        expected = max(r for r in range(m * n + 1) if sum(value < r for value in u) <= tail * len(u))
        assert stats._mann_whitney_rank(m, n, tail) == expected

    def test_normal_approximation_continues_the_exact_ranks(self):
        exact = stats._mann_whitney_rank(50, 50, 0.005)
        approximate = stats._mann_whitney_rank(50, 51, 0.005)
        assert exact <= approximate <= exact + 40

    def test_interval_covers_the_true_ratio(self):
        rng = np.random.default_rng(2)
        hits = 0
        for _ in range(400):
            a, b = rng.lognormal(0, 0.05, 8), rng.lognormal(math.log(1.2), 0.05, 8)
            found = stats.compare_medians(a, b, 0.95)
            hits += found.ratio_low <= 1.2 <= found.ratio_high
        assert 0.92 * 400 <= hits <= 0.99 * 400

    def test_verdicts(self):
        steps = np.arange(8) * 1e-4
        base = 1 + steps
        assert stats.compare_medians(base, 0.95 * base).verdict == "faster"
        assert stats.compare_medians(base, 1.05 * base).verdict == "slower"
        assert stats.compare_medians(base, 1.002 * base).verdict == "unchanged"
        assert stats.compare_medians(base, base).verdict == "unchanged"

    def test_significance_alone_is_no_verdict(self):
        base = 1 + np.arange(8) * 1e-3
        found = stats.compare_medians(base, base * 1.0085)
        assert found.p_value < 0.01
        assert found.verdict == "undecided"
        assert "below the smallest relevant difference" in found.reason
        assert stats.compare_medians(base, base * 1.0085, relevant=0.005).verdict == "slower"

    def test_a_difference_alone_is_no_verdict(self):
        a = np.array([1.0, 1.2, 0.9, 1.1, 1.3, 0.8, 1.05, 0.95])
        found = stats.compare_medians(a, a * 1.03 + 1e-6)
        assert found.verdict == "undecided"
        assert "not significant" in found.reason
        assert found.runs_needed is None or found.runs_needed > 8

    def test_few_runs_prove_nothing(self):
        found = stats.compare_medians([1.0, 1.01, 1.02], [2.0, 2.01, 2.02])
        assert (found.verdict, found.ratio_low, found.runs_needed) == ("undecided", None, 5)
        assert found.p_value == pytest.approx(0.1)
        assert stats.compare_medians(np.linspace(1, 1.01, 5), np.linspace(2, 2.01, 5)).verdict == "slower"

    def test_eight_runs_a_side_give_the_smallest_exact_p(self):
        found = stats.compare_medians(np.linspace(1, 1.01, 8), np.linspace(2, 2.01, 8))
        assert found.p_value == pytest.approx(2 / math.comb(16, 8))
        assert found.probability_less == 0

    @pytest.mark.parametrize(("a", "b"), [([1.0] * 8, [1.0] * 8), ([1.0] * 8, [2.0] * 8), ([1.0], [1.0])])
    def test_ties_raise_no_warnings(self, a, b):
        found = stats.compare_medians(a, b)
        assert 0 < found.p_value <= 1

    def test_many_runs(self):
        rng = np.random.default_rng(0)
        found = stats.compare_medians(rng.lognormal(0, 0.01, 100), rng.lognormal(0.05, 0.01, 70))
        assert found.verdict == "slower"
        assert found.ratio_low < math.exp(0.05) < found.ratio_high

    @pytest.mark.parametrize(
        ("a", "b", "options"),
        [
            ([0.0], [1.0], {}),
            ([1.0], [-1.0], {}),
            ([], [1.0], {}),
            ([1.0], [math.nan], {}),
            ([1.0], [1.0], {"relevant": 0.0}),
            ([1.0], [1.0], {"confidence": 1.0}),
        ],
    )
    def test_bad_runs_are_refused(self, a, b, options):
        with pytest.raises(ValueError, match=r"must"):
            stats.compare_medians(a, b, **options)

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
    def test_holm_agrees_with_statsmodels(self, p_values):
        np.testing.assert_allclose(stats.holm(p_values), multipletests(p_values, method="holm")[1])

    @pytest.mark.parametrize("bad", [[-0.1], [1.1], [math.nan], []])
    def test_holm_refuses_what_is_no_probability(self, bad):
        with pytest.raises(ValueError, match=r"must"):
            stats.holm(bad)


def test_measuring_processes_do_not_load_scipy_stats():
    code = "import sys, microbench.sampling; sys.exit('scipy.stats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
