"""The self test on made-up machines: quiet ones resolve little differences, drifting ones are found out."""

from __future__ import annotations

import numpy as np

from microbench import selftest


def intervals(medians: np.ndarray, half_width: float) -> list[list[tuple[float, float] | None]]:
    return [[(m * (1 - half_width), m * (1 + half_width)) for m in runs] for runs in medians]


def test_a_quiet_machine_raises_few_alarms_and_resolves_small_differences() -> None:
    rng = np.random.default_rng(1)
    medians = 1e-3 * (1 + 0.002 * rng.standard_normal((40, 16)))
    outcome = selftest.evaluate(medians, intervals(medians, 0.0005), seed=1)
    assert outcome.comparisons == 40
    assert outcome.runs_a_side == 8
    assert outcome.false_alarms <= 2
    # Intervals within one run know nothing of the next run: the tool must show how often they would be wrong.
    assert outcome.naive_false_alarms > 0.5 * outcome.naive_comparisons
    assert all(value is not None and value <= 0.02 for value in outcome.resolvable)


def test_a_noisy_machine_resolves_large_differences_only() -> None:
    rng = np.random.default_rng(2)
    medians = 1e-3 * np.exp(0.2 * rng.standard_normal((5, 16)))
    outcome = selftest.evaluate(medians, intervals(medians, 0.001), seed=1)
    assert all(value is None or value >= 0.15 for value in outcome.resolvable)
    assert min(outcome.between_run_spread) > 0.05


def test_drift_shows_between_halves_and_not_between_alternating_runs() -> None:
    rng = np.random.default_rng(3)
    drift = np.linspace(1, 1.3, 16)
    medians = 1e-3 * drift * (1 + 0.001 * rng.standard_normal((10, 16)))
    outcome = selftest.evaluate(medians, intervals(medians, 0.001), seed=1)
    assert outcome.drift_alarms == 10
    assert outcome.false_alarms == 0


def test_runs_without_an_interval_are_left_out_of_the_naive_comparison() -> None:
    medians = np.full((1, 16), 1e-3)
    outcome = selftest.evaluate(medians, [[None] * 16], seed=1)
    assert outcome.naive_comparisons == 0
    assert outcome.false_alarms == 0
