"""The plan: every configuration once, in an order that is the seed's alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microbench import plan, recording
from microbench.backends import known
from microbench.errors import InputError
from microbench.options import Options
from microbench.recording import Recorder

PROBLEMS = ("m=1,n=2,k=3", "m=4,n=5,k=6,b_transposed=true")


def build(**options: object) -> list[plan.Item]:
    chosen = Options(kernel="gemm", **({"problem": PROBLEMS} | options))

    def enumerate_algorithms(library: str, *factors: object) -> list[list[str]]:
        if library == "one":
            return [["x", "y"], []]
        return [[], ["hidden"] if factors[-1] == "hidden" else []]

    return plan.build(
        chosen,
        plan.problems(chosen),
        ["one", "two"],
        lambda name: "fp16_in_fp32_math" if name == "fp16" else name,
        enumerate_algorithms,
    )


def test_every_problem_meets_every_library_and_precision() -> None:
    items = build(precision=("fp32", "int8"))
    assert [item.index for item in items] == list(range(8))
    keys = {(item.problem["m"], item.library, item.precision, item.algorithm) for item in items}
    assert keys == {
        (m, library, p, "auto") for m in (1, 4) for library in ("one", "two") for p in ("fp32", "int8")
    }


def test_precisions_that_become_the_same_mode_are_measured_once() -> None:
    items = build(precision=("fp16", "fp16_in_fp32_math"))
    assert {item.precision for item in items} == {"fp16_in_fp32_math"}
    assert len(items) == 4


def test_all_algorithms_or_auto_where_a_library_offers_none() -> None:
    items = build(algorithm=("all",))
    assert [(item.problem["m"], item.library, item.algorithm) for item in items] == [
        (1, "one", "x"),
        (1, "one", "y"),
        (1, "two", "auto"),
        (4, "one", "auto"),
        (4, "two", "auto"),
    ]


def test_a_library_is_asked_only_for_algorithms_that_it_offers_somewhere() -> None:
    items = build(algorithm=("y", "auto"))
    assert [(item.problem["m"], item.library, item.algorithm) for item in items] == [
        (1, "one", "y"),
        (1, "one", "auto"),
        (1, "two", "auto"),
        (4, "one", "y"),
        (4, "one", "auto"),
        (4, "two", "auto"),
    ]


def test_what_is_offered_only_by_name_can_be_named() -> None:
    assert {(item.library, item.algorithm) for item in build(algorithm=("hidden",))} == {("two", "hidden")}


def test_a_division_of_the_batch_is_left_to_the_library() -> None:
    assert len(build(algorithm=("x@2,x@2",))) == 4


def test_an_algorithm_that_no_library_offers_is_bad_input() -> None:
    with pytest.raises(InputError, match=r"--algorithm xx: .*did you mean x\?\); there are x, y"):
        build(algorithm=("x", "xx"))


def test_identical_problems_are_measured_once() -> None:
    assert len(build(problem=(*PROBLEMS, PROBLEMS[0]))) == 4


def test_an_unknown_pass_names_those_there_are() -> None:
    with pytest.raises(InputError, match=r"--pass backward: .*forward"):
        build(pass_=("backward",))


def test_filters_and_tables_are_applied(tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("m,n,k\n1,2,3\n40,5,6\n")
    items = build(problem=(), problems=str(table), where=("m>3",))
    assert {item.problem["m"] for item in items} == {40}


@given(st.integers(0, 2**32), st.integers(2, 20))
def test_repeats_are_permutations_that_the_seed_repeats(seed: int, repeats: int) -> None:
    items = build(precision=("fp32", "bf16", "int8"))
    for repeat in range(2):
        first = plan.order(items, repeat, repeats, seed)
        assert first == plan.order(items, repeat, repeats, seed)
        assert sorted(item.index for item in first) == list(range(len(items)))
    assert plan.order(items, 0, 1, seed) == items


def test_a_changed_plan_has_another_fingerprint() -> None:
    assert plan.fingerprint(build()) == plan.fingerprint(build(confidence=0.95))
    assert plan.fingerprint(build()) != plan.fingerprint(build(precision=("bf16",)))


def test_every_record_has_a_seed_of_its_own() -> None:
    seeds = {plan.record_seed(1, repeat, index) for repeat in range(10) for index in range(100)}
    assert len(seeds) == 1000
    assert plan.record_seed(1, 2, 3) == plan.record_seed(1, 2, 3) != plan.record_seed(2, 2, 3)


def test_a_recurrence_on_few_samples_is_expected_to_wait_for_its_weights() -> None:
    ceilings = {
        "compute_flops_per_s": {"fp32": {"best": 1e12}},
        "memory_bytes_per_s": {"read": {"best": 1e10}},
    }

    def cost(kernel: str, problem: str, **changes: Any) -> float:
        options = Options(kernel=kernel, problem=(problem,), max_time=1e-3, min_time=0.0, **changes)
        (row,) = plan.problems(options)
        item = plan.Item(0, row, "onednn", "auto", "fp32", "forward", "")
        return Recorder(options, known("cpu"), 1, ceilings, 0).cost_s(item)

    def lstm(batch: int, steps: int) -> float:
        return cost("rnn", f"cell=lstm,hidden_size=1024,batch_size={batch},time_steps={steps}")

    weights_s = 2 * 4 * 1024 * 1024 * 4 / 1e10
    assert lstm(1, 1001) - lstm(1, 1) == pytest.approx(2 * 22 * 1000 * weights_s, rel=0.01)
    flops_s = 2 * 2 * 4 * 1024 * 1024 * 4096 / 1e12
    assert lstm(4096, 2) - lstm(4096, 1) == pytest.approx(2 * 22 * flops_s, rel=0.01)


@pytest.mark.parametrize("cupy", [True, False])
def test_on_a_device_estimates_are_of_the_precision_and_of_who_verifies(
    cupy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "find_spec", lambda _: cupy or None)
    monkeypatch.setattr(recording, "allowed_cpus", lambda: (0, 1, 2, 3))
    rates = {"fp32": 5e13, "fp64": 5e13, "fp16": 8e14}
    ceilings = {
        "compute_flops_per_s": {name: {"best": rate} for name, rate in rates.items()},
        "memory_bytes_per_s": {"read": {"best": 3e12}},
    }

    def recorded(precision: str) -> tuple[float, float]:
        options = Options(kernel="gemm", problem=("m=8192,n=8192,k=8192",), max_time=1e-3, min_time=0.0)
        (row,) = plan.problems(options)
        item = plan.Item(0, row, "cublaslt", "auto", precision, "forward", "")
        recorder = Recorder(options, known("cuda"), 1, ceilings, 0)
        return recorder.cost_s(item), recorder.timeout_s(item)

    flops = 2 * 8192**3
    verifying = 4 * flops / (5e13 if cupy else 4 * recording._HOST_FLOPS_PER_S)
    for precision, rate in rates.items():
        # fp64 is the host's to verify.
        own = verifying if precision != "fp64" else 4 * flops / (4 * recording._HOST_FLOPS_PER_S)
        cost, timeout = recorded(precision)
        assert cost == pytest.approx(recording._HANDLING_S + 8 * 2 * flops / rate + own, rel=1e-6)
        assert timeout > 120 + 10 * own


def test_an_algorithm_named_twice_is_measured_once() -> None:
    items = build(algorithm=("x", "y", "x"))
    assert [item.algorithm for item in items] == ["x", "y"] * len(PROBLEMS)


@given(st.lists(st.floats(0.1, 100), min_size=2, max_size=2), st.floats(0.5, 500), st.integers(0, 9))
def test_a_time_budget_keeps_whole_problems_that_fit(costs: list[float], budget: float, seed: int) -> None:
    items = build(precision=("fp32", "int8"))

    def cost(item: plan.Item) -> float:
        return costs[item.problem["m"] == 4]

    if min(costs) * 4 > budget:
        with pytest.raises(InputError, match="--time-budget"):
            plan.within(items, cost, budget, seed)
        return
    kept = plan.only(items, plan.within(items, cost, budget, seed))
    assert [item.index for item in kept] == list(range(len(kept)))
    assert sum(map(cost, kept)) <= budget * (1 + 1e-9)
    assert len(kept) in (4, 8)
    left_out = [item for item in items if item.problem not in [other.problem for other in kept]]
    assert not left_out or sum(map(cost, kept)) + sum(map(cost, left_out)) > budget
    assert kept == plan.only(items, plan.within(items, cost, budget, seed))
