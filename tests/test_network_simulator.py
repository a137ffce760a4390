"""The simulator against closed forms, itself stepped in full, and what must hold of any network."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microbench.errors import InputError
from microbench.network import simulator
from microbench.network.algorithms import (
    ALGORITHMS,
    Round,
    closed_form_s,
    legs,
    messages,
    possible,
    torus_shape,
)
from microbench.network.machine import MACHINES, Level, Link, Machine, uniform
from microbench.network.noise import Detours, NoiseProfile, profile_of_samples
from microbench.network.simulator import simulate

TIMES = st.floats(1e-8, 1e-3)
LINKS = st.builds(Link, TIMES, st.floats(1e-12, 1e-6), TIMES, TIMES)
SIZES = st.integers(0, 1 << 30)
ONE_LEVEL = st.builds(uniform, st.just("made up"), LINKS, st.floats(0, 1e-8))
TWO_LEVELS = st.builds(
    Machine,
    st.just("made up"),
    st.builds(Level, st.tuples(LINKS)),
    st.floats(0, 1e-8),
    st.builds(Level, st.tuples(LINKS)),
    st.sampled_from([2, 4]),
)
RANDOM = NoiseProfile(1e-3, (20e-6, 30e-6), False, "made up")
PERIODIC = NoiseProfile(1e-3, (25e-6,), True, "made up")


def able(p: int, per_node: int = 1) -> list[str]:
    return [name for name in ALGORITHMS if possible(name, p, per_node)]


@settings(deadline=None)
@given(ONE_LEVEL, st.integers(0, 7), SIZES)
def test_simulator_equals_closed_forms_for_powers_of_two(machine: Machine, power: int, nbytes: int) -> None:
    for algorithm in able(2**power):
        expected = closed_form_s(machine, algorithm, 2**power, nbytes)
        assert simulate(machine, algorithm, 2**power, nbytes).time_s == pytest.approx(expected, rel=1e-9)


@settings(deadline=None)
@given(TWO_LEVELS, st.integers(2, 6), SIZES)
def test_hierarchical_equals_its_closed_form(machine: Machine, power: int, nbytes: int) -> None:
    p = machine.ranks_per_node * 2 ** (power - 1)
    expected = closed_form_s(machine, "hierarchical", p, nbytes)
    # A ring of nodes is a ring of equal links, and so are those inside.
    assert simulate(machine, "hierarchical", p, nbytes).time_s == pytest.approx(expected, rel=1e-9)


@settings(deadline=None)
@given(ONE_LEVEL, st.integers(2, 40), SIZES)
def test_closed_forms_bound_other_numbers_of_ranks(machine: Machine, p: int, nbytes: int) -> None:
    for algorithm in able(p):
        bound = closed_form_s(machine, algorithm, p, nbytes)
        time = simulate(machine, algorithm, p, nbytes).time_s
        assert time <= bound * (1 + 1e-9)
        if algorithm in ("ring", "torus_2d"):
            assert time == pytest.approx(bound, rel=1e-9)


@settings(deadline=None)
@given(st.one_of(ONE_LEVEL, TWO_LEVELS), st.integers(1, 8), SIZES, SIZES)
def test_more_bytes_take_no_less_time(machine: Machine, p: int, a: int, b: int) -> None:
    p *= machine.ranks_per_node
    for algorithm in able(p, machine.ranks_per_node):
        less, more = (simulate(machine, algorithm, p, nbytes).time_s for nbytes in sorted((a, b)))
        assert less <= more * (1 + 1e-9)


@settings(deadline=None)
@given(ONE_LEVEL, st.integers(1, 6), SIZES)
def test_more_ranks_take_no_less_time(machine: Machine, power: int, nbytes: int) -> None:
    for algorithm in ("ring", "recursive_doubling", "rabenseifner", "tree"):
        few, many = (simulate(machine, algorithm, 2**p, nbytes).time_s for p in (power, power + 1))
        assert few <= many * (1 + 1e-9)


@pytest.mark.parametrize("p", [2, 3, 4, 6, 7, 8, 12, 16, 21])
def test_every_rank_ends_with_the_contribution_of_every_other(p: int) -> None:
    for algorithm in able(p, 2):
        known = np.eye(p, dtype=bool)
        for step in messages(algorithm, p, 1.0, 2):
            if isinstance(step, Round):
                received = known[step.receivers] | known[step.senders]
                assert len(set(step.receivers.tolist())) == len(step.receivers)
                known[step.receivers] = received
            else:
                for _ in range(step.count):
                    known[np.roll(step.members, -1, axis=1)] |= known[step.members]
        assert known.all(), algorithm


@pytest.mark.parametrize("p", [4, 12, 64])
def test_a_rank_sends_as_many_bytes_as_the_formula_says(p: int) -> None:
    n = 1024.0
    assert sum(leg.rounds * leg.nbytes for leg in legs("ring", p, n)) == pytest.approx(2 * n * (p - 1) / p)
    assert sum(leg.rounds * leg.nbytes for leg in legs("torus_2d", p, n)) == pytest.approx(
        2 * n * (p - 1) / p
    )
    if p & (p - 1) == 0:
        assert sum(leg.rounds * leg.nbytes for leg in legs("rabenseifner", p, n)) == pytest.approx(
            2 * n * (p - 1) / p
        )
        assert sum(leg.rounds for leg in legs("recursive_doubling", p, n)) == math.log2(p)
    rows, columns = torus_shape(p)
    assert rows * columns == p
    assert rows <= columns


@settings(deadline=None)
@given(TWO_LEVELS, st.integers(1, 12), SIZES)
def test_the_quiet_shortcut_is_exact(machine: Machine, nodes: int, nbytes: int) -> None:
    p = nodes * machine.ranks_per_node
    for algorithm in ("ring", *(["torus_2d"] if possible("torus_2d", p, 1) else [])):
        fast = simulate(machine, algorithm, p, nbytes).time_s
        run = simulator._Run(machine, np.zeros(p), None)
        for step in messages(algorithm, p, nbytes):
            assert not isinstance(step, Round)
            # The same messages as rounds between pairs, each of them stepped.
            for _ in range(step.count):
                senders = step.members.ravel()
                receivers = np.roll(step.members, -1, axis=1).ravel()
                run.round(Round(senders, receivers, step.nbytes, step.reduced))
        assert fast == pytest.approx(run.time.max(), rel=1e-9)


def test_noise_costs_and_no_detour_costs_nothing() -> None:
    machine = uniform("made up", Link(2e-6, 1e-10, 5e-7), 3e-11)
    rare = NoiseProfile(1e6, (1e-6,), True, "made up")
    for algorithm in able(64):
        quiet = simulate(machine, algorithm, 64, 4096).time_s
        assert simulate(machine, algorithm, 64, 4096, rare).time_s == pytest.approx(quiet, rel=1e-12)
        noisy = [simulate(machine, algorithm, 64, 4096, RANDOM, seed).time_s for seed in range(20)]
        assert quiet <= min(noisy) * (1 + 1e-12)
        assert statistics.fmean(noisy) > 1.02 * quiet
        assert noisy[0] == simulate(machine, algorithm, 64, 4096, RANDOM, 0).time_s


@pytest.mark.parametrize("profile", [RANDOM, PERIODIC], ids=["random", "periodic"])
def test_detours_take_their_share_of_work(profile: NoiseProfile) -> None:
    detours = Detours(profile, 400, np.random.default_rng(1))
    time = np.zeros(400)
    for _ in range(40):
        time = detours.worked(time, 1e-3)
    # Of t seconds, t (1 - share) are left for work.
    assert time.mean() == pytest.approx(40e-3 / (1 - profile.share), rel=0.005)


@pytest.mark.parametrize("profile", [RANDOM, PERIODIC], ids=["random", "periodic"])
def test_idle_ranks_meet_a_detour_with_its_share_of_time(profile: NoiseProfile) -> None:
    detours = Detours(profile, 20000, np.random.default_rng(1))
    now = np.full(20000, 1.0)  # a thousand periods later
    delayed = (detours.worked(now, 0.0) > now).mean()
    assert delayed == pytest.approx(profile.share, abs=0.005)


def test_a_detour_in_waiting_costs_nothing() -> None:
    detours = Detours(PERIODIC, 1, np.random.default_rng(1))
    detours.start[:] = 1e-4
    assert detours.worked(np.array([2e-4]), 1e-6)[0] == pytest.approx(2.01e-4)
    detours.start[:] = 1e-4
    assert detours.worked(np.array([1.1e-4]), 1e-6)[0] == pytest.approx(1e-4 + 25e-6 + 1e-6)
    detours.start[:] = 1e-4
    assert detours.worked(np.array([0.99e-4]), 2e-6)[0] == pytest.approx(1.01e-4 + 25e-6)


@pytest.mark.parametrize("profile", [RANDOM, PERIODIC], ids=["random", "periodic"])
def test_windows_of_a_long_ring_agree_with_stepping_all_of_it(
    profile: NoiseProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = uniform("made up", Link(2e-6, 1e-10), 3e-11)
    direct = simulate(machine, "ring", 2048, 1 << 20, profile)
    assert direct.low_s == direct.time_s == direct.high_s
    monkeypatch.setattr(simulator, "LONGEST_RING", 1000)
    monkeypatch.setattr(simulator, "_WINDOW", 512)
    monkeypatch.setattr(simulator, "_WINDOW_ROUNDS", 1024)
    monkeypatch.setattr(simulator, "_BLOCK", 64)
    monkeypatch.setattr(simulator, "_STRIDE", 16)
    windows = simulate(machine, "ring", 2048, 1 << 20, profile)
    assert windows.low_s < direct.time_s < windows.high_s
    assert windows.time_s == pytest.approx(direct.time_s, rel=0.06)


@pytest.mark.parametrize("algorithm", ALGORITHMS[:-1])
def test_a_million_ranks_without_noise_follow_the_formula(algorithm: str) -> None:
    machine = MACHINES["tukey"]
    expected = closed_form_s(machine, algorithm, 2**20, 4096)
    assert simulate(machine, algorithm, 2**20, 4096).time_s == pytest.approx(expected, rel=1e-6)


def test_samples_tell_what_noise_there_was() -> None:
    rng = np.random.default_rng(1)
    ranks, count, rate, length = 4, 20000, 50.0, 30e-6
    quiet = 20e-6 + rng.normal(0, 0.2e-6, count)
    hit = rng.random(count) < 1 - math.exp(-rate * ranks * 20e-6)
    profile = profile_of_samples([(ranks, (quiet + length * hit).tolist())], "made up")
    assert profile is not None
    assert 1 / profile.period_s == pytest.approx(rate, rel=0.25)
    assert statistics.median(profile.durations_s) == pytest.approx(length, rel=0.05)
    assert profile_of_samples([(2, [1e-5] * 50)], "made up") is None


@pytest.mark.parametrize(
    ("algorithm", "ranks", "nbytes", "words"),
    [
        ("ring", 0, 8, "0 ranks"),
        ("ring", 2**20 + 1, 8, "1 to 1048576"),
        ("ring", 4, -1, "-1 bytes"),
        ("hierarchical", 7, 8, "no two levels"),
        ("torus_2d", 7, 8, "no prime"),
    ],
)
def test_what_cannot_be_simulated_is_said(algorithm: str, ranks: int, nbytes: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        simulate(MACHINES["tukey"], algorithm, ranks, nbytes)
