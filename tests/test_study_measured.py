"""Measuring a study: what is measured, in which order, and that a divided batch computes what the whole one does."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microbench import plan, runner
from microbench.cli import main
from microbench.errors import InputError
from microbench.kernels import conv
from microbench.kernels.conv import ConvProblem
from microbench.options import FILLS, Options
from microbench.plan import Item
from microbench.problem import PRECISIONS, Case
from microbench.runner import Face
from microbench.store import Run, RunWriter
from microbench.study import load, measure
from microbench.study.divisions import outcomes
from microbench.study.layers import parts_of
from microbench.study.regret import regrets
from microbench.tables import Row
from records import make_info, make_record
from test_conv import assert_right, module_of, problems, refusals, request, workspace_refusals

# A divided batch


def right(problem: ConvProblem, pass_: str, layout: str, algorithm: str, seed: int = 0) -> bool:
    return assert_right("microbench", Case(problem, PRECISIONS["fp32"], pass_, layout), algorithm, seed)


@settings(max_examples=40, deadline=None)
@given(
    problems(),
    st.lists(
        st.tuples(st.sampled_from(("im2col", "implicit_gemm")), st.integers(1, 3), st.integers(1, 2)),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from(conv.PASSES),
    st.sampled_from(conv.LAYOUTS),
    st.integers(0, 99),
)
def test_a_divided_batch_is_computed_as_a_whole_one(
    problem: ConvProblem, parts: list[tuple[str, int, int]], pass_: str, layout: str, seed: int
) -> None:
    problem = dataclasses.replace(problem, n=sum(size * count for _, size, count in parts))
    division = ",".join(f"{count}*{algorithm}@{size}" for algorithm, size, count in parts)
    assert right(problem, pass_, layout, f"microbatch:{division}", seed)


LAYER = ConvProblem(
    w=14, h=13, c=20, n=10, k=18, filter_w=3, filter_h=3, pad_w=1, pad_h=1, stride_w=1, stride_h=1
)


@pytest.mark.parametrize(
    "division",
    [
        "winograd_4x4@8,2*implicit_gemm@1",
        "winograd_2x2@3,winograd_4x4@7",
        "fft@5,fft_tiled@5",
        "fft@2,winograd_4x4@8",
    ],
)
@pytest.mark.parametrize("pass_", conv.PASSES)
def test_transforms_share_a_workspace(division: str, pass_: str) -> None:
    for layout in conv.LAYOUTS:
        assert right(LAYER, pass_, layout, f"microbatch:{division}")


@pytest.mark.parametrize("pass_", conv.PASSES)
def test_every_implementation_of_onednn_can_be_divided(pass_: str) -> None:
    for layout in conv.LAYOUTS:
        case = Case(LAYER, PRECISIONS["fp32"], pass_, layout)
        names = module_of("onednn").algorithms(request("onednn", case))
        for name in names:
            assert assert_right("onednn", case, f"microbatch:2*{name}@4,{name}@2", 0)
        assert assert_right("onednn", case, f"microbatch:{names[0]}@4,{names[-1]}@6", 0)


def test_one_part_wrong_is_found() -> None:
    """The check of a division is not so wide that a missing micro-batch passes."""
    case = Case(LAYER, PRECISIONS["fp32"], "backward_weights", "nchw", "microbatch:fft@5,winograd_4x4@5")
    session = module_of("microbench").Session(request("microbench", case))
    operands = {name: session.memory(name).view(np.float32) for name in session.operands}
    conv.fill(case, operands, np.random.default_rng(0), False)
    session.prepare()
    session.measure(1)
    assert conv.check(case, operands, False).ok
    operands["x"][: operands["x"].size // 10] = 0  # the first image
    assert not conv.check(case, operands, False).ok


@pytest.mark.parametrize("pass_", conv.PASSES)
def test_the_workspace_is_the_largest_kernels_and_a_gradient(pass_: str) -> None:
    case = Case(LAYER, PRECISIONS["fp32"], pass_, "nchw")

    def needed(algorithm: str, images: int, limit: int = 2**63 - 1) -> int:
        one = dataclasses.replace(case, problem=dataclasses.replace(LAYER, n=images), algorithm=algorithm)
        session = module_of("microbench").Session(request("microbench", one, limit=limit))
        return int(session.workspace_bytes)

    largest = max(needed("winograd_4x4", 8), needed("im2col", 2))
    gradient = 4 * 18 * 20 * 9 if pass_ == "backward_weights" else 0
    division = "microbatch:winograd_4x4@8,im2col@2"
    assert largest % 64 == 0
    assert needed(division, 10, largest + gradient) == largest + gradient
    with pytest.raises(workspace_refusals(), match=f"needs {largest + gradient} bytes"):
        needed(division, 10, largest + gradient - 1)
    assert needed("microbatch:im2col@10", 10) == needed("im2col", 10)  # nothing is added up


@pytest.mark.parametrize(
    ("division", "reason"),
    [
        ("", "a part is ALGORITHM@IMAGES"),
        ("im2col", "a part is ALGORITHM@IMAGES"),
        ("3*@10", "a part is ALGORITHM@IMAGES"),
        ("im2col@4,,im2col@6", "a part is ALGORITHM@IMAGES"),
        ("im2col@4", "has 4 images, the batch 10"),
        ("im2col@x", "'x' is no number from 1 to 10"),
        ("0*im2col@1,im2col@10", "'0' is no number"),
        ("99999999999999999999*im2col@1", "is no number"),
        ("fast@10", "no convolution algorithm 'fast'"),
    ],
)
def test_what_is_no_division_is_refused(division: str, reason: str) -> None:
    case = Case(LAYER, PRECISIONS["fp32"], "forward", "nchw", f"microbatch:{division}")
    with pytest.raises(refusals(), match=reason):
        module_of("microbench").Session(request("microbench", case))


def test_gradients_are_added_up_in_fp32_only() -> None:
    case = Case(LAYER, PRECISIONS["bf16"], "backward_weights", "nchw", "microbatch:2*auto@5")
    with pytest.raises(refusals(), match=r"fp32 only|no bf16"):
        module_of("onednn").Session(request("onednn", case))


# What is measured

TIMES = {"plain": 8.0, "quick": 1.0, "slow": 20.0}  # seconds per image, times 1e-6
WORKSPACES = {"plain": 10, "quick": 1000, "slow": 2000}  # bytes per image
SIZES = {"w": 7, "h": 7, "c": 4, "k": 4, "filter_w": 3, "filter_h": 3, "pad_w": 1, "pad_h": 1, "stride_w": 1,
         "stride_h": 1}  # fmt: skip


class FakeRunner:
    """Stands for ``microbench.runner``: measures by a formula, on a clock of its own."""

    def __init__(self) -> None:
        self.cache_bytes = 0
        self.limit = math.inf
        self.probe_s = 0
        self.now = datetime(2025, 1, 1, tzinfo=timezone.utc)
        self.sweeps: list[tuple[str, Options, list[Item]]] = []
        self.left: dict[str, list[Item]] = {}
        self.stop_at: str | None = None  # the stage that is interrupted at its second record
        self.names = list(TIMES)  # in the library's order
        self.listed: dict[int, list[str]] = {}  # of a batch size, where that differs
        self.backend = "cpu"

    def planned(self, options: Options, rows: Sequence[Row], _: Face) -> list[Item]:
        return plan.build(
            options,
            rows,
            options.library or ("onednn",),
            str,
            lambda *given: [self.listed.get(plan.columns(row)["n"], self.names) for row in given[-2]],
        )

    def sweep(self, options: Options, output: Path, *, items: Sequence[Item] | None, **_: Any) -> Run:
        if (output / "run.json").exists():
            with RunWriter.resume(output) as writer:
                for item in self.left.pop(output.name, []):
                    writer.append(self.record(item))
            return Run.load(output)
        if items is None:
            items = self.planned(options, plan.problems(options), Face())
        assert [item.index for item in items] == list(range(len(items)))
        self.sweeps.append((output.name, options, list(items)))
        if options.time_budget is not None and options.time_budget < self.probe_s:
            raise plan.NothingFits(options.time_budget, self.probe_s)
        self.limit = math.inf if options.workspace_limit is None else options.workspace_limit
        info = make_info(
            kernel="conv",
            seed=7,
            planned_records=len(items),
            options={"workspace_limit": options.workspace_limit},
            plan={"last_level_cache_bytes": self.cache_bytes},
        )
        with RunWriter.create(output, info) as writer:
            for item in items:
                if output.name == self.stop_at and item.index == 1:
                    interrupted = msgspec.structs.replace(
                        self.record(item), status="interrupted", reason="stopped"
                    )
                    writer.append(interrupted)
                    self.left[output.name] = list(items)[1:]
                    break
                writer.append(self.record(item))
        return Run.load(output)

    def record(self, item: Item) -> Any:
        size = int(item.problem["n"])
        if (choices := CHOICES.get(item.algorithm)) is not None:
            return self.choice(item, choices, size)
        parts = parts_of(item.algorithm) if "@" in item.algorithm else [(1, item.algorithm, size)]
        time = sum(count * images * TIMES[algorithm] for count, algorithm, images in parts) * 1e-6
        began = self.now
        self.now += timedelta(seconds=2)
        return make_record(
            kernel="conv",
            library=item.library,
            algorithm=item.algorithm,
            pass_=item.pass_,
            layout=item.layout,
            problem=item.problem,
            labels=dict(item.row.labels),
            backend=self.backend,
            index=item.index,
            median_s=time,
            ci_low_s=time,
            ci_high_s=time,
            workspace_bytes=max(images * WORKSPACES[algorithm] for _, algorithm, images in parts),
            measuring_s=1.0,
            started_at=began.isoformat(timespec="milliseconds"),
        )

    def choice(self, item: Item, choices: tuple[str, ...], size: int) -> Any:
        """What is picked within the limit, which costs what the algorithm does."""
        fitting = [name for name in choices if WORKSPACES[name] * size <= self.limit]
        if fitting:
            return msgspec.structs.replace(
                self.record(dataclasses.replace(item, algorithm=fitting[0])), algorithm=item.algorithm
            )
        status = "workspace_exceeded" if choices else "unsupported"
        return msgspec.structs.replace(
            self.record(dataclasses.replace(item, algorithm="plain")),
            algorithm=item.algorithm, status=status, reason="no", median_s=None, workspace_bytes=None,
        )  # fmt: skip


# What the fake's choices would take, in turn.
CHOICES = {
    "heuristic_a": ("slow", "quick", "plain"),
    "heuristic_b": (),
    "heuristic_fallback": ("plain",),
    "find": ("quick",),
}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRunner:
    runner = FakeRunner()
    monkeypatch.setattr(measure, "runner", runner)
    return runner


@contextmanager
def watched(_: str) -> Iterator[Face]:
    yield Face()


def measured(folder: Path, resume: bool = False, **changes: Any) -> None:
    problem = ",".join(f"{name}={value}" for name, value in SIZES.items())
    fields: dict[str, Any] = {"kernel": "conv", "problem": (f"n=16,{problem}",)} | changes.pop("options", {})
    asked = measure.Plan(
        **({"options": Options.of(fields), "sizes": (4, 8), "limits": (5000,), "rounds": 2} | changes)
    )
    measure.measure(asked, folder, resume=resume, command=["microbench"], watched=watched)


def test_kernels_are_probed_and_those_that_may_pay_are_measured_on_all_sizes(
    tmp_path: Path, fake: FakeRunner
) -> None:
    measured(tmp_path / "study")
    probe, kernels, divisions = fake.sweeps
    assert [(item.algorithm, item.problem["n"]) for item in probe[2]] == [(name, 4) for name in TIMES]
    # "slow" takes longer and more workspace than "quick" on any batch; "plain" is the library's first choice.
    assert [(item.algorithm, item.problem["n"]) for item in kernels[2]] == [
        (name, size) for size in (4, 8, 16) for name in ("plain", "quick")
    ]
    # Under 5000 bytes, "quick" only does 4 images: beside it the division and the undivided batch, in rounds.
    assert [(item.algorithm, item.problem["n"]) for item in divisions[2]] == [
        ("quick", 4), ("microbatch:4*quick@4", 16), ("plain", 16),
    ] * 2  # fmt: skip
    (outcome,) = outcomes(load(tmp_path / "study"))
    assert outcome.ratios == pytest.approx((1.0, 1.0))


def test_micro_batches_that_the_cache_would_hold_are_measured_in_turn(
    tmp_path: Path, fake: FakeRunner
) -> None:
    fake.cache_bytes = 4 * (2 * 4 * 4 * 49 + 144)  # what a kernel of 4 images reads and writes
    measured(tmp_path / "study", options={"library": "onednn"})
    _, kernels, divisions = fake.sweeps
    assert [(item.algorithm, item.problem["n"]) for item in kernels[2]] == [
        ("microbatch:2*plain@4", 8), ("microbatch:2*quick@4", 8),
        # Two of 8 images would be the whole batch divided.
        ("microbatch:3*plain@8", 24), ("microbatch:3*quick@8", 24), ("plain", 16), ("quick", 16),
    ]  # fmt: skip
    assert [(item.algorithm, item.problem["n"]) for item in divisions[2]] == [
        ("microbatch:2*quick@4", 8), ("microbatch:4*quick@4", 16), ("plain", 16),
    ] * 2  # fmt: skip
    found = load(tmp_path / "study")
    (layer,) = found.points
    assert [(one.algorithm, one.time_s, one.in_turn) for one in found.points[layer][4]] == [
        ("plain", pytest.approx(32e-6), True), ("quick", pytest.approx(4e-6), True),
    ]  # fmt: skip
    (outcome,) = outcomes(found)
    assert outcome.ratios == pytest.approx((1.0, 1.0))


def test_libraries_that_cannot_divide_a_batch_are_predicted_only(tmp_path: Path, fake: FakeRunner) -> None:
    fake.cache_bytes = 1 << 20
    measured(tmp_path / "study", options={"library": "other"})
    assert [name for name, _, _ in fake.sweeps] == ["probe", "kernels"]
    assert not any("@" in item.algorithm for item in fake.sweeps[1][2])


@pytest.mark.parametrize("library", ["microbench", "onednn"])
def test_no_library_divides_a_batch_on_a_gpu(tmp_path: Path, fake: FakeRunner, library: str) -> None:
    fake.backend, fake.cache_bytes = "cuda", 1 << 20
    measured(tmp_path / "study", options={"library": library})
    assert [name for name, _, _ in fake.sweeps] == ["probe", "kernels"]
    assert not any("@" in item.algorithm for item in fake.sweeps[1][2])
    assert load(tmp_path / "study").unfinished == ()


def test_what_a_library_lists_for_a_batch_alone_is_measured_on_it(
    tmp_path: Path, fake: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [f"engine_{number}_k2=5" for number in range(12)]
    for name in own:
        monkeypatch.setitem(TIMES, name, 0.5)
        monkeypatch.setitem(WORKSPACES, name, 3000)
    # Of "slow", which does not pay on 4 images, the library says that it is among the best for 8.
    fake.listed = {8: ["auto", "find", "slow", "quick", "plain"], 16: [*own, "plain", "quick", "slow"]}
    measured(tmp_path / "study", options={"library": "cudnn"})
    assert [(item.algorithm, item.problem["n"]) for item in fake.sweeps[0][2]] == [
        (name, 4) for name in ("plain", "quick", "slow")
    ]
    assert [(item.algorithm, item.problem["n"]) for item in fake.sweeps[1][2]] == [
        ("plain", 4), ("quick", 4), ("plain", 8), ("quick", 8), ("slow", 8), ("plain", 16), ("quick", 16),
        *((name, 16) for name in own[:10]),
    ]  # fmt: skip
    known, _ = regrets(load(tmp_path / "study"), (math.inf,))
    assert {one.best.algorithm for one in known} == {own[0]}
    before = len(fake.sweeps)
    measured(tmp_path / "study", resume=True, options={"library": "cudnn"})
    assert len(fake.sweeps) == before


def test_algorithms_are_listed_for_other_problems_than_those_asked_for() -> None:
    module_of("microbench")
    fields = {"kernel": "conv", "problem": PROBLEM, "library": "microbench", "algorithm": "all"}
    asked = Options.of(fields)
    (row,) = plan.problems(asked)
    rows = [dataclasses.replace(row, problem=dataclasses.replace(row.problem, n=size)) for size in (2, 7)]
    items = runner.planned(asked, rows, Face())
    assert [item.index for item in items] == list(range(len(items)))
    names = {size: [item.algorithm for item in items if item.problem["n"] == size] for size in (2, 7)}
    assert "im2col" in names[2]
    assert sum(map(len, names.values())) == len(items)


def test_what_is_measured_once_costs_once(tmp_path: Path, fake: FakeRunner) -> None:
    """A library that cannot divide a batch needs no budget for micro-batches in turn."""
    fake.cache_bytes = 1 << 40
    measured(tmp_path / "once", options={"library": "other", "time_budget": 32.0})
    with pytest.raises(InputError, match="none fits --time-budget"):
        measured(tmp_path / "in_turn", options={"library": "onednn", "time_budget": 32.0})


def test_the_choices_of_a_library_are_measured_under_each_limit_they_do_not_fit(
    tmp_path: Path, fake: FakeRunner
) -> None:
    limits = (20_000, 16_000, 100)
    measured(tmp_path / "study", options={"library": "cudnn"}, limits=limits)
    stages = {
        name: (options.workspace_limit, [item.algorithm for item in items])
        for name, options, items in fake.sweeps
        if name not in ("probe", "kernels")
    }
    # On 16 images: slow takes 32000 bytes, quick 16000, plain 160.
    assert stages == {
        "none": (None, ["heuristic_a", "heuristic_b", "heuristic_fallback", "find"]),
        "20000": (19_999, ["heuristic_a"]),
        "16000": (15_999, ["heuristic_a", "find"]),
        "100": (99, ["heuristic_a", "heuristic_fallback"]),
    }
    assert all(item.problem["n"] == 16 for _, _, items in fake.sweeps[2:] for item in items)
    known, unknown = regrets(load(tmp_path / "study"), (*limits, math.inf))
    times = {(one.chooser, one.limit_bytes): one.pick.time_s / 16e-6 for one in known}
    assert times == pytest.approx(
        {
            ("heuristic_a", math.inf): 20, ("heuristic_fallback", math.inf): 8, ("find", math.inf): 1,
            ("heuristic_a", 20_000): 1, ("heuristic_fallback", 20_000): 8, ("find", 20_000): 1,
            ("heuristic_a", 16_000): 8, ("heuristic_fallback", 16_000): 8,
        }
    )  # fmt: skip
    assert unknown == []


def test_what_may_be_picked_first_is_measured_on_the_whole_batch(
    tmp_path: Path, fake: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the library's order slow comes before what fits any limit, though it does not pay.
    fake.names = ["quick", "slow", "plain"]
    monkeypatch.setitem(WORKSPACES, "slow", 500)
    measured(tmp_path / "study", limits=(40_000, 20_000))
    assert [(item.algorithm, item.problem["n"]) for item in fake.sweeps[1][2]] == [
        ("quick", 4), ("quick", 8), ("quick", 16),
    ]  # fmt: skip
    fake.sweeps.clear()
    measured(tmp_path / "tight", limits=(20_000, 12_000))
    assert ("slow", 16) in {(item.algorithm, item.problem["n"]) for item in fake.sweeps[1][2]}
    assert ("slow", 8) not in {(item.algorithm, item.problem["n"]) for item in fake.sweeps[1][2]}
    known, unknown = regrets(load(tmp_path / "tight"), (20_000, 12_000, math.inf))
    assert {(one.limit_bytes, one.pick.algorithm) for one in known} == {
        (20_000, "quick"), (12_000, "slow"), (math.inf, "quick"),
    }  # fmt: skip
    assert unknown == []


def test_a_study_is_not_measured_into_a_run(
    tmp_path: Path, fake: FakeRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunWriter.create(tmp_path / "run", make_info(kernel="conv")):
        pass
    for option in ("--measure", "--resume"):
        if option == "--resume":
            (tmp_path / "run" / "study.json").write_text(
                msgspec.json.encode(measure.Plan(Options.of({"kernel": "conv"}))).decode()
            )
        assert main(["study", str(tmp_path / "run"), option]) == 2
        assert "holds a run, which is no study" in capsys.readouterr().err
    assert fake.sweeps == []


def test_a_time_budget_too_small_for_the_probe_says_what_the_study_needs(
    tmp_path: Path, fake: FakeRunner
) -> None:
    fake.probe_s = 3
    with pytest.raises(InputError, match="--time-budget 12: no layer fits; the shortest takes about 60 s"):
        measured(tmp_path / "study", options={"time_budget": 12.0})
    assert not (tmp_path / "study").exists()


def test_a_study_goes_on_where_it_stopped(tmp_path: Path, fake: FakeRunner) -> None:
    measured(tmp_path / "study")
    with pytest.raises(InputError, match="holds a study already"):
        measured(tmp_path / "study")
    before = len(fake.sweeps)
    measured(tmp_path / "study", resume=True)
    assert len(fake.sweeps) == before
    assert load(tmp_path / "study").unfinished == ()
    (tmp_path / "study" / "divisions" / "run.json").unlink()
    (tmp_path / "study" / "divisions" / "records.jsonl").unlink()
    (said,) = load(tmp_path / "study").unfinished
    assert said.endswith(f"none is measured yet: go on with study {tmp_path / 'study'} --resume.")
    measured(tmp_path / "study", resume=True)
    assert [name for name, _, _ in fake.sweeps[before:]] == ["divisions"]
    assert [item.problem for item in fake.sweeps[-1][2]] == [item.problem for item in fake.sweeps[2][2]]


@pytest.mark.parametrize("stage", ["probe", "kernels", "divisions"])
def test_an_interrupted_study_stops_and_is_completed_by_resume(
    tmp_path: Path,
    fake: FakeRunner,
    stage: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    problem = ",".join(f"{name}={value}" for name, value in SIZES.items())
    words = ["study", str(tmp_path / "study")]
    started = [*words, "--measure", "--problem", f"n=16,{problem}", "--sizes", "4", "8", "--limits", "5000"]
    fake.stop_at = stage
    assert main(started) == 1
    assert [name for name, _, _ in fake.sweeps][-1] == stage
    assert capsys.readouterr().err.count("\n") == 1
    for options, told in ((["--rounds", "7"], "--rounds"), (["--sizes", "4"], "--sizes")):
        assert main([*words, "--resume", *options]) == 2
        assert f"was started with another {told}" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0
    interrupted = fake.sweeps
    fake.stop_at, fake.sweeps = None, []
    started[1] = str(tmp_path / "whole")
    assert main(started) == 0
    assert [(name, items) for name, _, items in interrupted] == [
        (name, [dataclasses.replace(item, row=one.row) for item, one in zip(items, others, strict=True)])
        for (name, _, items), (_, _, others) in zip(fake.sweeps, interrupted, strict=True)
    ]


@pytest.mark.usefixtures("fake")
def test_a_study_whose_table_has_changed_is_left_as_it_is(tmp_path: Path) -> None:
    measured(tmp_path / "study")
    table = tmp_path / "study" / "probe.csv"
    for content in ("else", None):
        table.write_text(content) if content else table.unlink()
        with pytest.raises(InputError, match="problem table has changed"):
            measured(tmp_path / "study", resume=True)
        assert (table.read_text() if table.exists() else None) == content


def test_nothing_is_left_of_a_study_that_could_not_start(tmp_path: Path) -> None:
    module_of("microbench")
    with pytest.raises(InputError, match="graph"):
        measured(tmp_path / "study", options={"mode": "graph", "backend": "cpu"})
    assert not (tmp_path / "study").exists()


PROBLEM = "w=9,h=9,c=4,n=5,k=4,filter_w=3,filter_h=3,pad_w=1,pad_h=1,stride_w=1,stride_h=1"


@pytest.mark.parametrize(
    ("division", "told"),
    [
        ("im2col@0", "is no division"),
        ("im2col@-1", "is no division"),
        ("0*im2col@5", "is no division"),
        ("1.5*im2col@2", "is no division"),
        ("im2col@3,,im2col@2", "is no division"),
        ("im2col@3, im2col@2", "is no division"),
        ("", "is no division"),
        ("2*im2col@2", "divides 4 images, which no problem has; there are 5"),
        ("im2cul@5", r"did you mean im2col\?"),
    ],
)
def test_a_name_that_can_be_no_division_is_refused_before_anything_is_measured(
    division: str, told: str
) -> None:
    options = Options.of({"kernel": "conv", "problem": PROBLEM, "algorithm": f"microbatch:{division}"})
    with pytest.raises(InputError, match=told):
        plan.build(options, plan.problems(options), ["a"], str, lambda *given: [["im2col"]] * len(given[-2]))


def test_a_division_of_some_problems_is_planned_for_all() -> None:
    problems = (PROBLEM, PROBLEM.replace("n=5", "n=6"))
    options = Options.of({"kernel": "conv", "problem": problems, "algorithm": "microbatch:2*im2col@2,auto@1"})
    items = plan.build(
        options, plan.problems(options), ["a"], str, lambda *given: [["im2col"]] * len(given[-2])
    )
    assert [item.problem["n"] for item in items] == [5, 6]


def test_fills_take_turns(tmp_path: Path, fake: FakeRunner) -> None:
    measured(tmp_path / "study", fills=True)
    names = [name for name, _, _ in fake.sweeps[3:]]
    assert names == [f"{fill}-{number}" for number in range(5) for fill in FILLS[1:]]
    for name, options, items in fake.sweeps[3:]:
        assert options.fill == name.split("-")[0]
        assert [(item.algorithm, item.problem["n"]) for item in items] == [("quick", 16)]


def test_layers_are_taken_once_with_the_batch_asked_for(tmp_path: Path, fake: FakeRunner) -> None:
    sizes = ",".join(f"{name}={value}" for name, value in SIZES.items())
    both = {"problem": (f"n=2,{sizes}", f"n=16,{sizes}")}
    measured(tmp_path / "own", options=both, sizes=())
    assert {item.problem["n"] for _, _, items in fake.sweeps for item in items} == {1, 2, 4, 8, 16}
    fake.sweeps.clear()
    measured(tmp_path / "given", options=both, batch=12, sizes=())
    assert {item.problem["n"] for _, _, items in fake.sweeps for item in items} == {3, 6, 12}


def test_a_time_budget_takes_layers_as_long_as_they_fit(tmp_path: Path, fake: FakeRunner) -> None:
    sizes = ",".join(f"{name}={value}" for name, value in SIZES.items() if name != "k")
    layers = {"problem": tuple(f"n=16,{sizes},k={k}" for k in (4, 5, 6, 7))}
    measured(tmp_path / "all", options=layers)
    everything = len(fake.sweeps[1][2])
    fake.sweeps.clear()
    measured(tmp_path / "some", options=layers | {"time_budget": 100.0})
    assert fake.sweeps[0][1].time_budget == 5.0
    assert fake.sweeps[1][1].time_budget is None
    some = fake.sweeps[1][2]
    assert 0 < len(some) < everything
    assert len(some) % 6 == 0  # layers are measured whole
    assert {item.problem["k"] for item in fake.sweeps[2][2]} <= {item.problem["k"] for item in some}
    with pytest.raises(InputError, match="none fits --time-budget; the shortest takes about"):
        measured(tmp_path / "none", options=layers | {"time_budget": 2.0})


def test_a_real_study_predicts_and_measures_its_divisions(tmp_path: Path) -> None:
    module_of("microbench")
    problem = "n=4,w=12,h=12,c=16,k=16,filter_w=3,filter_h=3,pad_w=1,pad_h=1,stride_w=1,stride_h=1"
    options = Options.of(
        {"kernel": "conv", "problem": problem, "library": "microbench", "pass": "backward_weights", "threads": 1,
         "min_time": 0.0, "max_time": 0.01, "max_samples": 8}
    )  # fmt: skip
    asked = measure.Plan(options, sizes=(1, 2), limits=(1 << 30,), rounds=1)
    measure.measure(asked, tmp_path / "study", resume=False, command=[], watched=watched)
    probe, kernels = (Run.load(tmp_path / "study" / name).info for name in ("probe", "kernels"))
    assert kernels.ceilings == probe.ceilings  # which nothing that is measured twice would be
    assert kernels.plan["ceilings_measured"] == probe.plan["ceilings_measured"] <= probe.created
    found = load(tmp_path / "study")
    (layer,) = found.points
    assert list(found.points[layer]) == [1, 2, 4]
    assert all(one.error is not None and one.error < 1e-5 for one in found.points[layer][4])
    for outcome in outcomes(found):  # none where the undivided batch is the fastest
        assert outcome.reason == ""
        assert outcome.workspace_bytes is not None
        assert outcome.predicted_s is not None
