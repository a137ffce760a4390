"""Fits find the parameters again, with intervals that hold as often as they say."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from collectives import SIZES, allreduce_record, made_up, store
from microbench.errors import InputError
from microbench.network.algorithms import closed_form_s
from microbench.network.fit import fit_all, fit_series, fit_together
from microbench.network.judging import cross_validate, judge
from microbench.network.machine import Level, Link, Machine, uniform
from microbench.network.points import Point, noise_of_run, read_points
from microbench.store import Run
from records import create, make_record

ALPHA, BETA, GAMMA = 2e-6, 3e-10, 1e-10
TRUE = uniform("made up", Link(ALPHA, BETA), GAMMA)
REDUCED = {"ring": 0.5, "rabenseifner": 0.5, "recursive_doubling": 1.0}


def points(
    rng: np.random.Generator, machine: Machine, algorithm: str, spread: float, outliers: float = 0.0
) -> list[Point]:
    found = []
    for ranks in (2, 4, 8):
        for nbytes in SIZES:
            factor = math.exp(rng.normal(0, spread)) * (rng.uniform(2, 5) if rng.random() < outliers else 1)
            time = closed_form_s(machine, algorithm, ranks, nbytes) * factor
            found.append(Point(algorithm, algorithm, ranks, nbytes, 1, time, 0.0))
    return found


@pytest.mark.parametrize("outliers", [0.0, 0.05])
@pytest.mark.parametrize("algorithm", REDUCED)
def test_intervals_hold_the_true_parameters_as_often_as_they_say(algorithm: str, outliers: float) -> None:
    rng = np.random.default_rng(7)
    repeats, held, inside, judged = 120, np.zeros(2), 0, 0
    for _ in range(repeats):
        fit = fit_series(points(rng, TRUE, algorithm, 0.05, outliers), (0.0,))
        for place, (parameter, true) in enumerate(
            zip(fit.parameters(), (ALPHA, BETA + REDUCED[algorithm] * GAMMA), strict=True)
        ):
            assert parameter.low is not None
            assert parameter.high is not None
            held[place] += parameter.low <= true <= parameter.high
        fresh = judge({algorithm: fit}, points(rng, TRUE, algorithm, 0.05))
        inside, judged = inside + fresh.inside, judged + len(fresh.judged)
    # 0.95 of 120 has a standard error of 0.02.
    assert (held / repeats > 0.89).all()
    assert 0.93 < inside / judged < 0.975


def test_all_series_together_tell_gamma_from_beta() -> None:
    rng = np.random.default_rng(3)
    everything = [point for algorithm in REDUCED for point in points(rng, TRUE, algorithm, 0.03)]
    found = fit_together(everything)
    assert found is not None
    for parameter, true in zip(found, (ALPHA, BETA, GAMMA), strict=True):
        assert parameter.low is not None
        assert parameter.high is not None
        assert parameter.low <= true <= parameter.high
    assert fit_together([point for point in everything if point.algorithm == "ring"]) is None


def test_protocols_are_found_where_they_change_and_only_there() -> None:
    rng = np.random.default_rng(5)
    two = Machine("made up", Level((Link(2e-6, 5e-10), Link(12e-6, 1e-10)), (0.0, 2.0**14)))
    fit = fit_series(points(rng, two, "ring", 0.03))
    assert fit.from_bytes == (0.0, 2.0**14)
    assert cross_validate({"ring": fit}).reproduced
    straight = [fit_series(points(rng, TRUE, "ring", 0.05)).from_bytes for _ in range(20)]
    assert straight.count((0.0,)) >= 19


def test_what_measurements_do_not_determine_has_no_interval() -> None:
    large = [
        Point("ring", "ring", 4, nbytes, 1, closed_form_s(TRUE, "ring", 4, nbytes) * wobble, 0.0)
        for nbytes, wobble in zip([1 << 24, 1 << 25, 1 << 26, 1 << 27] * 2, [0.97, 1.03] * 4, strict=True)
    ]
    alpha, beta = fit_series(large, (0.0,)).parameters()
    assert alpha.low is alpha.high is None
    assert beta.low is not None


def test_a_network_that_the_lines_miss_is_not_called_reproduced() -> None:
    rng = np.random.default_rng(1)
    fits = {"ring": fit_series(points(rng, TRUE, "ring", 0.02))}
    slower = uniform("made up", Link(1.5 * ALPHA, 1.5 * BETA), 1.5 * GAMMA)
    assert judge(fits, points(rng, TRUE, "ring", 0.02)).reproduced
    verdict = judge(fits, points(rng, slower, "ring", 0.02))
    assert verdict.inside == 0
    assert not verdict.reproduced
    with pytest.raises(InputError, match=r"of rabenseifner none is a fitted series \(ring\)"):
        judge(fits, points(rng, TRUE, "rabenseifner", 0.02))


def test_a_stored_run_is_reproduced_whatever_the_order_of_its_records(tmp_path: Path) -> None:
    records = made_up(TRUE, 0.05, 2)
    shuffled = [records[place] for place in np.random.default_rng(1).permutation(len(records))]
    first, second = (
        read_points([Run.load(store(tmp_path / name, order))])
        for name, order in (("a", records), ("b", shuffled))
    )
    assert first == second
    fits, left_out = fit_all(first.points)
    assert list(fits) == ["rabenseifner", "recursive_doubling", "ring"]
    assert not left_out
    verdict = cross_validate(fits)
    assert verdict == cross_validate(fit_all(second.points)[0])
    assert len(verdict.judged) == len(records)
    assert verdict.reproduced
    assert verdict.inside / len(records) > 0.87


def test_only_what_the_model_knows_is_read(tmp_path: Path) -> None:
    ring = allreduce_record("ring", 4, 4096, 1e-4)
    other = [
        make_record(),
        allreduce_record("top_k", 4, 4096, 1e-4),
        allreduce_record("torus_2d", 7, 4096, 1e-4),
        allreduce_record("hierarchical", 4, 4096, 1e-4),
    ]
    persistent = replace(ring, problem=ring.problem | {"form": "persistent"})
    auto = replace(ring, library="mpi", algorithm="auto")
    wrong = replace(ring, status="wrong_result", reason="3 elements differ")
    found = read_points([Run.load(store(tmp_path / "run", [*other, persistent, auto, wrong, ring]))])
    assert [(point.series, point.ranks, point.nbytes) for point in found.points] == [("ring", 4, 4096)]
    assert len(found.left_out) == 5
    assert found.points[0].error == pytest.approx(0.002, rel=0.01)


def test_a_series_has_the_same_name_whatever_else_its_run_holds(tmp_path: Path) -> None:
    ring = allreduce_record("ring", 4, 4096, 1e-4)
    half = replace(ring, precision="fp16")
    largest = replace(ring, problem=ring.problem | {"op": "max", "place": "in_place"})
    found = read_points([Run.load(store(tmp_path / "all", [ring, half, largest]))])
    assert [(point.series, point.nbytes) for point in found.points] == [
        ("ring", 4096),
        ("ring fp16", 2048),
        ("ring max in_place", 4096),
    ]
    for number, record in enumerate((ring, half, largest)):
        alone = read_points([Run.load(store(tmp_path / str(number), [record]))])
        assert alone.points == found.points[number : number + 1]


def test_what_is_too_little_to_be_fitted_is_left_out_by_name() -> None:
    rng = np.random.default_rng(1)
    ring = points(rng, TRUE, "ring", 0.02)
    few = [dataclasses.replace(point, series="ring max") for point in ring[:4]]
    alike = [dataclasses.replace(ring[0], series="ring fp16")] * 9
    fits, left_out = fit_all([*few, *ring, *alike])
    assert fits.keys() == {"ring"}
    assert left_out == (
        "ring fp16: 9 measurements of 1 size, too few to be fitted",
        "ring max: 4 measurements of 4 sizes, too few to be fitted",
    )
    assert len(cross_validate(fits).judged) == len(ring)
    five = [dataclasses.replace(point, series="ring max") for point in ring[:5]]
    fits, left_out = fit_all(five)
    assert not left_out
    assert len(cross_validate(fits).judged) == 5


def test_runs_without_all_reduces_or_noise_are_refused_in_a_sentence(tmp_path: Path) -> None:
    gemm = Run.load(create(tmp_path / "gemm", make_record()))
    with pytest.raises(InputError, match="no measured all-reduce of a known algorithm"):
        read_points([gemm])
    with pytest.raises(InputError, match="there is no noise to simulate"):
        noise_of_run(gemm)
    few = store(tmp_path / "few", [allreduce_record("ring", 4, size, 1e-4) for size in (8, 16, 32)])
    with pytest.raises(
        InputError, match=r"takes 5 measurements of 2 sizes .* ring: 3 measurements of 3 sizes"
    ):
        fit_all(read_points([Run.load(few)]).points)


def test_noise_of_a_run_is_that_of_all_its_ranks(tmp_path: Path) -> None:
    run = Run.load(store(tmp_path / "run", [allreduce_record("ring", 4, 4096, 1e-4)]))
    profile = noise_of_run(run)
    assert profile.durations_s == pytest.approx((0.5e-4,))
    assert profile.period_s == pytest.approx(4 * 8.5e-4)


def test_intervals_that_would_hold_anything_reproduce_nothing() -> None:
    rng = np.random.default_rng(1)
    fits = {"ring": fit_series(points(rng, TRUE, "ring", 1.0), (0.0,))}
    verdict = cross_validate(fits)
    assert verdict.p_value > 0.01
    assert verdict.factor > 2
    assert not verdict.reproduced
