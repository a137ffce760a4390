import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microbench.errors import InputError
from microbench.sampling import MIN_SAMPLES, Limits, sample, warm_up
from microbench.stats import corrected_median_interval, minimum_samples


class Machine:
    """A kernel whose i-th execution takes duration(i) seconds, and the clock on its wall."""

    def __init__(self, duration, overhead_s=0.0):
        self.batches = []
        self.taken = []
        self.now = 1000.0
        self._duration = duration
        self._overhead_s = overhead_s

    def take(self, n):
        assert n >= 1
        times = [self._duration(len(self.taken) + i) for i in range(n)]
        self.batches.append(n)
        self.taken += times
        self.now += math.fsum(times) + n * self._overhead_s
        return np.array(times)

    def clock(self):
        return self.now

    @property
    def elapsed(self):
        return self.now - 1000.0

    def ends(self):
        return np.cumsum(self.batches).tolist()


def steady(duration_s):
    return lambda _: duration_s


def noisy(median_s, deviation, seed=1):
    rng = np.random.default_rng(seed)
    draws = rng.standard_normal(2_000)
    return lambda i: median_s * (1 + deviation * float(draws[i % draws.size]))


class TestLimits:
    @pytest.mark.parametrize(
        "bad",
        [
            {"confidence": 0.0},
            {"confidence": 1.0},
            {"confidence": math.nan},
            {"relative_width": 0.0},
            {"relative_width": 1.0},
            {"max_samples": 0},
            {"max_time_s": 0.0},
            {"max_time_s": math.nan},
            {"min_time_s": -1.0},
        ],
    )
    def test_bad_limits_are_refused_in_one_sentence(self, bad):
        with pytest.raises(InputError, match=r"must") as caught:
            Limits(**bad)
        assert "\n" not in str(caught.value)

    def test_fewest_samples_have_a_99_percent_interval(self):
        assert MIN_SAMPLES == 8


class TestSample:
    def test_a_steady_kernel_stops_at_the_first_look(self):
        machine = Machine(noisy(0.01, 0.001))
        found = sample(machine.take, machine.clock, Limits())
        assert (found.samples_s.size, found.stop, found.converged) == (30, "width", True)
        assert found.width <= 0.01

    def test_looks_grow_by_half(self):
        machine = Machine(noisy(0.001, 0.05))
        found = sample(machine.take, machine.clock, Limits())
        assert found.stop == "width"
        looks = [8, 30, 45, 68, 102, 153, 230, 345, 518]
        assert machine.ends()[1:] == looks[: len(machine.batches) - 1]
        assert found.samples_s.size >= 153

    def test_stops_at_the_first_scheduled_look_that_is_narrow_enough(self):
        machine = Machine(noisy(0.01, 0.03))
        found = sample(machine.take, machine.clock, Limits())
        for end in (30, 45, 68, 102, 153, 230, 345):
            interval = corrected_median_interval(machine.taken[:end], 0.99)
            median = np.median(machine.taken[:end])
            if max(interval.high - median, median - interval.low) <= 0.01 * median:
                assert found.samples_s.size == end
                return
        pytest.fail("no look was narrow enough")

    def test_samples_are_all_there_in_order(self):
        machine = Machine(noisy(0.001, 0.05))
        found = sample(machine.take, machine.clock, Limits())
        assert found.samples_s.tolist() == machine.taken
        assert found.interval == corrected_median_interval(machine.taken, 0.99)

    def test_limit_of_samples(self):
        machine = Machine(noisy(1e-3, 0.5))
        found = sample(machine.take, machine.clock, Limits(max_samples=100))
        assert (found.samples_s.size, found.stop, found.converged) == (100, "max_samples", False)
        assert found.interval is not None
        assert found.width > 0.01

    @pytest.mark.parametrize("n", [1, 5, 8, 29, 30, 31])
    def test_small_limits_of_samples(self, n):
        machine = Machine(noisy(1e-3, 0.5))
        found = sample(machine.take, machine.clock, Limits(max_samples=n))
        assert found.samples_s.size == n
        assert (found.interval is None) == (n < 8)

    def test_limit_of_time(self):
        machine = Machine(noisy(0.01, 0.5))
        found = sample(machine.take, machine.clock, Limits(max_time_s=1.0))
        assert (found.stop, found.converged) == ("max_time", False)
        assert machine.elapsed == pytest.approx(1.0, abs=0.1)

    def test_time_outside_the_samples_counts(self):
        # Flushing the cache before each sample may take far longer than the kernel.
        machine = Machine(noisy(1e-5, 0.5), overhead_s=0.02)
        found = sample(machine.take, machine.clock, Limits(max_time_s=1.0))
        assert found.stop == "max_time"
        assert machine.elapsed == pytest.approx(1.0, abs=0.05)

    def test_a_slow_kernel_stops_at_eight_samples(self):
        machine = Machine(noisy(1.0, 0.001))
        found = sample(machine.take, machine.clock, Limits())
        assert (found.samples_s.size, found.stop) == (8, "width")

    def test_a_slow_kernel_goes_on_by_the_same_schedule(self):
        machine = Machine(noisy(0.5, 0.2))
        found = sample(machine.take, machine.clock, Limits())
        assert machine.ends() == [1, 8, 12, 18, 20]
        assert (found.stop, found.converged) == ("max_time", False)

    def test_the_fewest_samples_with_an_interval_are_taken_however_slow_the_kernel(self):
        machine = Machine(noisy(4.0, 0.1))
        found = sample(machine.take, machine.clock, Limits())
        assert (found.samples_s.size, found.stop, found.converged) == (8, "max_time", False)
        assert found.interval is not None

    def test_a_kernel_that_becomes_slow_does_not_overshoot(self):
        machine = Machine(lambda i: 1e-3 if i < 8 else 1.0)
        found = sample(machine.take, machine.clock, Limits(max_time_s=10.0))
        assert found.stop == "max_time"
        # 22 samples to the first look were estimated at a millisecond each.
        assert machine.elapsed < 30

    def test_high_confidence_needs_more_than_eight(self):
        machine = Machine(noisy(1.0, 1e-4))
        found = sample(machine.take, machine.clock, Limits(confidence=0.9999))
        assert (found.samples_s.size, found.stop) == (15, "width")
        machine = Machine(noisy(0.5, 1e-4))
        found = sample(machine.take, machine.clock, Limits(confidence=0.9999))
        assert (found.samples_s.size, found.stop) == (15, "width")

    def test_least_time(self):
        machine = Machine(noisy(1e-4, 0.001))
        found = sample(machine.take, machine.clock, Limits(min_time_s=0.1))
        assert found.stop == "width"
        assert 0.1 <= machine.elapsed < 0.16

    def test_a_tiny_kernel_may_reach_the_limit_of_samples_before_the_least_time(self):
        machine = Machine(noisy(1e-6, 0.001))
        found = sample(machine.take, machine.clock, Limits(min_time_s=0.1))
        assert (found.samples_s.size, found.stop, found.converged) == (10_000, "max_samples", True)

    def test_correlated_samples_need_more(self):
        rng = np.random.default_rng(6)
        series = [0.0]
        for noise in rng.standard_normal(10_000):
            series.append(0.8 * series[-1] + 0.6 * noise)
        independent = rng.permutation(series)
        slow, fast = (
            sample(machine.take, machine.clock, Limits(max_time_s=1e3))
            for machine in (
                Machine(lambda i: 0.01 * (1 + 0.03 * series[i])),
                Machine(lambda i: 0.01 * (1 + 0.03 * float(independent[i]))),
            )
        )
        assert slow.samples_s.size > 2 * fast.samples_s.size
        assert slow.interval.effective_n < slow.samples_s.size / 2

    def test_coverage_with_the_rule_in_force(self):
        hits = 0
        for seed in range(1000):
            machine = Machine(noisy(0.01, 0.02, seed))
            found = sample(machine.take, machine.clock, Limits(max_time_s=1e3))
            hits += found.interval.low <= 0.01 <= found.interval.high
        assert hits >= 0.98 * 1000

    def test_times_of_zero_never_converge(self):
        machine = Machine(steady(0.0), overhead_s=0.01)
        found = sample(machine.take, machine.clock, Limits(max_samples=50))
        assert (found.stop, found.converged, found.width) == ("max_samples", False, None)

    def test_a_clock_that_stands_still_ends_at_the_limit_of_samples(self):
        found = sample(lambda n: np.full(n, 1e-3), lambda: 0.0, Limits(max_samples=200))
        assert (found.samples_s.size, found.stop, found.converged) == (200, "max_samples", True)

    def test_constant_times_converge(self):
        machine = Machine(steady(0.01))
        found = sample(machine.take, machine.clock, Limits())
        assert (found.stop, found.width) == ("width", 0.0)

    @settings(max_examples=60, deadline=None)
    @given(
        duration=st.floats(1e-5, 20),
        deviation=st.floats(0, 0.2),
        seed=st.integers(0, 100),
        max_samples=st.integers(1, 2000),
        max_time_s=st.floats(1e-3, 10),
        min_time_s=st.floats(0, 1),
        confidence=st.sampled_from([0.9, 0.95, 0.99, 0.999]),
    )
    def test_limits_hold(self, duration, deviation, seed, max_samples, max_time_s, min_time_s, confidence):
        machine = Machine(noisy(duration, deviation, seed))
        limits = Limits(confidence, 0.01, max_samples, max_time_s, min_time_s)
        found = sample(machine.take, machine.clock, limits)
        n = found.samples_s.size
        assert 1 <= n <= max_samples
        longest = max(machine.taken)
        least = max(MIN_SAMPLES, minimum_samples(confidence))
        allowed = max_time_s * (longest / min(machine.taken) if n > 1 else 1)
        assert machine.elapsed <= longest + max(allowed, least * longest)
        assert found.converged == (found.width is not None and found.width <= 0.01)
        if found.stop == "width":
            assert found.converged
            assert machine.elapsed >= min_time_s
            assert n >= MIN_SAMPLES
            assert n >= 30 or n == max_samples or 30 * longest > max_time_s
        if found.stop == "max_samples":
            assert n == max_samples
        if found.stop == "max_time":
            assert machine.elapsed + longest > max_time_s
        assert len(machine.batches) < 40


class TestWarmUp:
    def test_a_steady_kernel_is_done_after_the_least_time(self):
        machine = Machine(noisy(1e-3, 0.01))
        found = warm_up(machine.take, machine.clock)
        assert found.stationary is True
        assert found.executions == len(machine.taken) >= 3
        assert found.time_s == pytest.approx(machine.elapsed)
        assert 0.1 <= found.time_s < 0.5

    def test_waits_for_a_kernel_that_gets_faster(self):
        # Twice as slow at first, settled after a second: as a clock that ramps up.
        machine = Machine(lambda i: 0.001 * (1 + math.exp(-i / 200)) * (1 + 1e-3 * math.sin(i * i)))
        found = warm_up(machine.take, machine.clock)
        assert found.stationary is True
        assert machine.taken[-1] < 1.05 * 0.001
        assert found.time_s > 0.5

    def test_gives_up_at_the_limit(self):
        machine = Machine(lambda i: 0.001 * (1 + 0.001 * i))
        found = warm_up(machine.take, machine.clock)
        assert found.stationary is False
        assert 2.5 < found.time_s <= 3.2

    def test_executions_of_more_than_a_second(self):
        machine = Machine(steady(1.2))
        assert warm_up(machine.take, machine.clock).executions == 2
        machine = Machine(steady(2.0))
        found = warm_up(machine.take, machine.clock)
        assert (found.executions, found.stationary) == (1, None)
        machine = Machine(steady(100.0))
        assert warm_up(machine.take, machine.clock).executions == 1

    def test_half_a_second_gets_the_least_executions(self):
        machine = Machine(steady(0.5))
        found = warm_up(machine.take, machine.clock)
        assert (found.executions, found.stationary) == (3, None)

    def test_an_expensive_first_execution_does_not_end_it(self):
        machine = Machine(lambda i: 1.0 if i == 0 else 1e-4)
        found = warm_up(machine.take, machine.clock)
        assert found.stationary is True
        assert found.executions > 20

    def test_a_cheap_first_execution_does_not_make_it_overshoot(self):
        machine = Machine(lambda i: 1e-6 if i == 0 else 1.0)
        found = warm_up(machine.take, machine.clock)
        assert found.time_s <= 3.1

    def test_constant_times_are_stationary(self):
        machine = Machine(steady(0.01))
        assert warm_up(machine.take, machine.clock).stationary is True

    def test_steady_noise_is_called_a_trend_at_the_level_of_the_test(self):
        # Two windows only: the limit leaves no time for a third.
        gave_up = 0
        for seed in range(300):
            machine = Machine(noisy(0.01, 0.02, seed))
            gave_up += not warm_up(machine.take, machine.clock, limit_s=0.14).stationary
        assert gave_up <= 0.05 * 300

    @settings(max_examples=60, deadline=None)
    @given(
        duration=st.floats(1e-5, 10),
        seed=st.integers(0, 100),
        minimum_executions=st.integers(1, 20),
        minimum_s=st.floats(0.01, 0.2),
        limit_s=st.floats(0.5, 3),
    )
    def test_limits_hold(self, duration, seed, minimum_executions, minimum_s, limit_s):
        machine = Machine(noisy(duration, 0.01, seed))
        found = warm_up(
            machine.take,
            machine.clock,
            minimum_executions=minimum_executions,
            minimum_s=minimum_s,
            limit_s=limit_s,
        )
        assert found.executions == len(machine.taken) >= 1
        assert found.time_s == pytest.approx(machine.elapsed)
        assert found.time_s <= max(limit_s * 1.1, max(machine.taken) * 1.001)
        if found.stationary:
            assert found.executions >= minimum_executions
            assert found.time_s >= minimum_s
