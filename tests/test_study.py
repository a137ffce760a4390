"""What the study reads from stored runs: fronts, cliffs, regret, divisions, scaling, fills, tables, pictures, JSON."""

from __future__ import annotations

import ast
import dataclasses
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import microbench
from microbench import study
from microbench.commands import study as command
from microbench.errors import InputError
from microbench.record import Record
from microbench.store import Run, RunWriter
from microbench.study import divisions, fronts, regret, scaling, sensitivity
from microbench.study.export import configurations, write
from microbench.study.layers import Layer, Point, Study
from microbench.study.networks import shares
from microbench.study.reading import gather
from microbench.study.section import Question, section, section_of, text
from microbench.tables import load_problems
from records import SIZES, make_info, make_record, not_measured

MIB = 1 << 20
PACKAGE = Path(microbench.__file__).parent


def conv_record(algorithm: str, time: float, workspace: int, batch: int = 8, **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "kernel": "conv",
        "library": "microbench",
        "algorithm": algorithm,
        "mode": "hot",
        "problem": SIZES["conv"] | {"n": batch},
        "median_s": time,
        "ci_low_s": 0.99 * time,
        "ci_high_s": 1.01 * time,
        "workspace_bytes": workspace,
        "frobenius_error": 1e-7,
        "samples_s": [time] * 8,
        "facts": {"prepare_s": 0.0},
    }
    return make_record(**(fields | changes))


def stored(folder: Path, *records: Record, **info: Any) -> Run:
    info = {
        "kernel": "conv",
        "planned_records": len(records),
        "ceilings": {"memory_bytes_per_s": {"triad": {"best": 1e10}}},
    } | info
    with RunWriter.create(folder, make_info(**info)) as writer:
        for index, record in enumerate(records):
            changed = {name: getattr(record, name) for name in record.__struct_fields__} | {"index": index}
            writer.append(Record(**changed))
    return Run.load(folder)


def studied(tmp_path: Path, *records: Record) -> Study:
    return gather(stored(tmp_path / "run", *records))


def only(found: Study) -> tuple[Layer, int, tuple[Point, ...]]:
    (whole,) = found.whole()
    return whole


def point(time: float, workspace: int, error: float | None = None, **changes: Any) -> Point:
    fields = {
        "library": "a", "algorithm": f"{time}", "time_s": time, "low_s": 0.99 * time, "high_s": 1.01 * time,
        "workspace_bytes": workspace, "error": error, "prepare_s": 0.0, "index": 0,
    }  # fmt: skip
    return Point(**(fields | changes))


# Fronts


axes = st.lists(
    st.builds(
        point, st.integers(1, 6).map(float), st.integers(0, 6), st.none() | st.integers(1, 4).map(float)
    ),
    max_size=8,
)


def beats(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a != b and all(one <= other for one, other in zip(a, b, strict=True))


@given(axes)
def test_fronts_hold_what_nothing_beats(points: list[Point]) -> None:
    keys = [(one.time_s, one.workspace_bytes) for one in points]
    expected = sorted({key for key in keys if not any(beats(other, key) for other in keys)})
    assert [(one.time_s, one.workspace_bytes) for one in fronts.front(points)] == expected
    triples = [
        (*key, fronts.bits(one.error)) for key, one in zip(keys, points, strict=True) if one.error is not None
    ]
    found = [
        (one.time_s, one.workspace_bytes, fronts.bits(one.error or 0.0))
        for one in fronts.front_with_error(points)
    ]
    assert found == sorted(
        {triple for triple in triples if not any(beats(other, triple) for other in triples)}
    )


def test_errors_compare_by_powers_of_two() -> None:
    assert [fronts.bits(error) for error in (0, 1e-7, 1.2e-7, 2.4e-7)] == [-math.inf, -23, -23, -22]


def test_limits_are_strict_and_unknown_errors_fit_no_bound() -> None:
    points = [point(1, 10, 1e-6), point(2, 9, None), point(3, 0, 1e-7)]
    assert fronts.within(points, 10) == points[1:]
    assert fronts.within(points, max_error=1e-6) == [points[0], points[2]]
    assert fronts.within(points, max_error=5e-7) == [points[2]]


def test_cliffs_are_where_the_best_time_jumps() -> None:
    points = [point(1.0, 100), point(1.04, 50), point(1.2, 20), point(1.3, 5, low_s=1.1)]
    found = fronts.cliffs(fronts.front(points))
    assert [(cliff.limit_bytes, cliff.ratio, cliff.separate) for cliff in found] == [
        (50, pytest.approx(1.2 / 1.04), True),
        (20, pytest.approx(1.3 / 1.2), False),
        (5, None, True),
    ]


# From runs


def test_several_processes_make_one_point(tmp_path: Path) -> None:
    found = studied(
        tmp_path,
        *(conv_record("im2col", time, 8, repeat=repeat) for repeat, time in enumerate((3.0, 1.0, 2.0))),
        conv_record("fft", 1.0, 9, ci_low_s=None, ci_high_s=None, frobenius_error=None),
        not_measured("unsupported", "no", kernel="conv", problem=SIZES["conv"], algorithm="x"),
        conv_record("wrong", 1.0, 9, status="wrong_result"),
        conv_record("unknown", 1.0, 9, workspace_bytes=None),
    )
    _, batch, points = only(found)
    assert batch == 8
    assert [(one.name, one.time_s, one.low_s, one.high_s, one.error) for one in points] == [
        ("microbench/im2col", 2.0, 1.0, 3.0, 1e-7),
        ("microbench/fft", 1.0, None, None, None),
    ]


def test_the_whole_batch_is_the_largest(tmp_path: Path) -> None:
    found = studied(tmp_path, *(conv_record("im2col", n / 10, 8, n) for n in (2, 8, 4)))
    layer, batch, _ = only(found)
    assert batch == 8
    assert list(found.points[layer]) == [2, 4, 8]
    assert layer.title(8) == "n8 c64 56×56 k64 3×3 s1 p1 fwd"
    assert layer.title() == "c64 56×56 k64 3×3 s1 p1 fwd"


def test_only_convolution_is_studied(tmp_path: Path) -> None:
    stored(tmp_path / "gemm", make_record(), kernel="gemm")
    with pytest.raises(InputError, match="run of gemm"):
        study.load(tmp_path / "gemm")
    with pytest.raises(InputError, match="holds no run"):
        study.load(tmp_path / "nothing")
    assert section(Run.load(tmp_path / "gemm")) is None
    assert section(stored(tmp_path / "one", conv_record("im2col", 1.0, 8))) is None


# Regret


def test_regret_of_the_first_that_fits_and_of_named_picks(tmp_path: Path) -> None:
    found = studied(
        tmp_path,
        conv_record("direct", 4.0, 50, library="onednn"),
        conv_record("gemm", 3.0, 5, library="onednn"),
        conv_record("winograd", 2.0, 20, library="onednn"),
        conv_record("auto", 3.0, 8),
        conv_record("heuristic_a", 2.0, 8),
        conv_record("fft", 1.0, 8),
    )
    ratios = [
        (one.library, one.limit_bytes, one.chooser, one.pick.algorithm, one.best.algorithm, one.ratio)
        for one in regret.regrets(found, (1, 6, 30, math.inf))[0]
    ]
    assert ratios == [
        ("onednn", 6, "first", "gemm", "gemm", 1.0),
        ("onednn", 30, "first", "gemm", "winograd", 1.5),
        ("onednn", math.inf, "first", "direct", "winograd", 2.0),
        ("microbench", 30, "auto", "auto", "fft", 3.0),
        ("microbench", 30, "heuristic_a", "heuristic_a", "fft", 2.0),
        ("microbench", math.inf, "auto", "auto", "fft", 3.0),
        ("microbench", math.inf, "heuristic_a", "heuristic_a", "fft", 2.0),
    ]


def test_regrets_are_summed_not_averaged(tmp_path: Path) -> None:
    layers = [SIZES["conv"], SIZES["conv"] | {"k": 32}]
    found = studied(
        tmp_path,
        *(conv_record("a", 10.0 ** (2 * place), 8, problem=layer) for place, layer in enumerate(layers)),
        *(conv_record("b", 50.0, 8, problem=layer) for layer in layers),
    )
    (one,) = regret.distributions(regret.regrets(found, (math.inf,))[0], found.settings())
    assert (one.layers, one.best_picked, one.pick_s, one.best_s) == (2, 1, 101.0, 51.0)
    assert one.total_ratio == 101 / 51
    assert one.quartiles == (1.25, 1.5, 1.75)
    assert one.worst.ratio == 2


def picked(found: Study, *limits: float) -> dict[tuple[str, float], str | None]:
    known, unknown = regret.regrets(found, limits)
    return {(one.chooser, one.limit_bytes): one.pick.algorithm for one in known} | {
        (one.chooser, one.limit_bytes): None for one in unknown
    }


def engine(name: str, time: float, workspace: int, places: str, **changes: Any) -> Record:
    facts = {"implementation": f"{name}: tensor_core{places}"}
    return conv_record(name, time, workspace, library="cudnn", facts=facts, **changes)


ENGINES = (
    engine("engine_1_k2=5", 2.0, 100, ", heuristic A 1 of 3, heuristic B 2 of 2"),
    engine("engine_0", 3.0, 10, ", heuristic A 3 of 3, heuristic fallback 1 of 1"),
    engine("engine_2", 1.0, 50, ", heuristic B 1 of 2"),
    engine("gemm", 4.0, 20, ", heuristic v7 1 of 2"),
)


def test_the_picks_of_heuristics_are_read_from_their_places(tmp_path: Path) -> None:
    found = gather(stored(tmp_path / "run", *ENGINES, options={"algorithm": ["all"]}))
    a, b, fallback, v7 = (f"heuristic_{name}" for name in ("a", "b", "fallback", "v7"))
    # At 50 bytes the second of A is not there: cuDNN does not have it in this precision. B has nothing.
    assert picked(found, 50, 101, math.inf) == {
        (a, 50): "engine_0", (fallback, 50): "engine_0", (v7, 50): "gemm",
        (a, 101): "engine_1_k2=5", (b, 101): "engine_2", (fallback, 101): "engine_0", (v7, 101): "gemm",
        (a, math.inf): "engine_1_k2=5", (b, math.inf): "engine_2", (fallback, math.inf): "engine_0",
        (v7, math.inf): "gemm",
    }  # fmt: skip
    # Where algorithms were named, those of better places may be missing.
    named = gather(stored(tmp_path / "named", *ENGINES, options={"algorithm": ["engine_0", "gemm"]}))
    assert picked(named, math.inf) == {("first", math.inf): "engine_1_k2=5"}


def test_choices_count_under_the_limit_they_were_made_for(tmp_path: Path) -> None:
    free = stored(
        tmp_path / "study" / "picks" / "none",
        engine("find", 1.5, 100, ""),
        engine("heuristic_a", 2.1, 40, ""),
        options={"workspace_limit": None},
    )
    limited = stored(
        tmp_path / "study" / "picks" / "64",
        engine("find", 1.1, 50, ""),
        options={"workspace_limit": 63},
    )
    little = stored(
        tmp_path / "study" / "picks" / "8",
        not_measured("workspace_exceeded", "no", kernel="conv", library="cudnn", mode="hot",
                     problem=SIZES["conv"], algorithm="find"),
        options={"workspace_limit": 7},
    )  # fmt: skip
    kernels = stored(tmp_path / "study" / "kernels", *ENGINES)
    found = study.load(tmp_path / "study")
    assert found == dataclasses.replace(
        gather(kernels, picks=[free, limited, little]),
        divisions=found.divisions, picks=found.picks, asked=found.asked,
    )  # fmt: skip
    known, unknown = regret.regrets(found, (8, 45, 64, 90, math.inf))
    assert [(one.chooser, one.limit_bytes, one.pick.time_s, one.best.time_s) for one in known] == [
        ("heuristic_a", 45, 2.1, 2.1),
        ("find", 64, 1.1, 1.0),
        ("heuristic_a", 64, 2.1, 1.0),
        ("heuristic_a", 90, 2.1, 1.0),
        ("find", math.inf, 1.5, 1.0),
        ("heuristic_a", math.inf, 2.1, 1.0),
    ]
    # Under 45 and 90 bytes Find would have had another choice than under 64 and without a limit.
    assert [(one.chooser, one.limit_bytes) for one in unknown] == [("find", 45), ("find", 90)]
    # A choice is no algorithm of its own.
    assert {one.algorithm for one in only(found)[2]} == {one.algorithm for one in ENGINES}
    table = {one.key: one for one in section_of(found, Question(limits=(90,))).tables}["regret"]
    assert table.rows[-1] == ("cudnn", "find", "90 B", "0 of 1", "0", *["n/a"] * 6)


def test_a_pick_that_was_left_out_after_the_probe_is_not_guessed(tmp_path: Path) -> None:
    stored(
        tmp_path / "probe",
        *(conv_record(name, 1.0, need, 2) for name, need in (("large", 500), ("slow", 20), ("quick", 5))),
    )
    stored(tmp_path / "kernels", conv_record("large", 3.0, 2000), conv_record("quick", 1.0, 20))
    found = study.load(tmp_path)
    # "slow" might fit 100 bytes on the whole batch, but not 20.
    assert picked(found, 21, 100, math.inf) == {
        ("first", 21): None, ("first", 100): None, ("first", math.inf): "large",
    }  # fmt: skip
    stored(tmp_path / "other" / "kernels", conv_record("quick", 1.0, 19))
    (tmp_path / "probe").rename(tmp_path / "other" / "probe")
    assert picked(study.load(tmp_path / "other"), 20) == {("first", 20): "quick"}


# Sums


def test_precisions_and_layouts_are_networks_and_rows_of_their_own(tmp_path: Path) -> None:
    kinds: list[dict[str, Any]] = [{}, {"precision": "fp16"}, {"layout": "nhwc"}]
    found = studied(
        tmp_path,
        *(
            conv_record(name, time, workspace, batch, **kind)
            for kind in kinds
            for name, time, workspace, batch in (
                ("fast", 1.0, 100, 8),
                ("small", 3.0, 10, 8),
                ("fast", 0.5, 50, 4),
            )
        ),
    )
    shared = shares(found, (1000, 10))
    assert [(one.setting, one.layers, one.time_s) for one in shared] == [
        (setting, 1, time) for setting in ("fp32, nchw", "fp16, nchw", "fp32, nhwc") for time in (1.0, 3.0)
    ]  # fmt: skip
    content = {table.key: table for table in section_of(found, Question((101,), totals=(512,))).tables}
    assert [row[:4] for row in content["network"].rows] == [
        (setting, "512 B", "all", "1") for setting in ("fp32, nchw", "fp16, nchw", "fp32, nhwc")
    ]
    assert [row[0] for row in content["totals"].rows] == [
        "3×3 fwd, fp32, nchw", "3×3 fwd, fp16, nchw", "3×3 fwd, fp32, nhwc",
    ]  # fmt: skip
    assert {row[0] for row in content["regret"].rows} == {
        "microbench, fp32, nchw", "microbench, fp16, nchw", "microbench, fp32, nhwc",
    }  # fmt: skip
    assert {row[3] for row in content["regret"].rows} == {"1"}
    exported = configurations(found, (), total=1000)
    assert len(exported["configurations"]) == len(exported["networks"]) == 3
    with pytest.raises(InputError, match="too little workspace for all layers in fp32, nchw"):
        configurations(found, (), total=9)


def test_a_network_of_which_layers_are_missing_says_so(tmp_path: Path) -> None:
    columns = ",".join(name for name in SIZES["conv"])
    values = [
        ",".join(str(SIZES["conv"][name] if name != "k" else k) for name in SIZES["conv"])
        for k in (64, 32, 16)
    ]
    folder = tmp_path / "study"
    stored(folder / "kernels", conv_record("fast", 1.0, 100, labels={"repeats": "2"}))
    rows = (f"{text},{count}" for text, count in zip(values, (2, 3, 1), strict=True))
    (folder / "probe.csv").write_text("\n".join((f"{columns},repeats", *rows)) + "\n")
    found = study.load(folder)
    (shared,) = shares(found, (1000,))
    assert (shared.layers, shared.missing) == (2, 4)
    content = section_of(found, Question(totals=(1000,)))
    assert "in no sum: 4 (" in " ".join(content.findings)
    assert content.tables[-1].rows[0][3] == "2 of 6"
    assert configurations(found, (), total=1000)["networks"][0]["missing_layers"] == 4
    # A run's own plan says what was left out; where its table is gone the number is unknown.
    part = {"problems": "alexnet", "kernel": "conv", "problem": [], "where": []}
    layer = {**vars(load_problems("conv", "alexnet")[0].problem)}
    run = stored(
        tmp_path / "run", conv_record("a", 1.0, 8, problem=layer), options=part, plan={"left_out": 4}
    )
    assert gather(run).missing(gather(run).points) == 4
    gone = stored(
        tmp_path / "gone",
        conv_record("a", 1.0, 8),
        options=part | {"problems": "gone.csv"},
        plan={"left_out": 4},
    )
    (shared,) = shares(gather(gone), (1000,))
    assert shared.missing is None
    assert "1 of more" in str(section_of(gather(gone), Question(totals=(1000,))).tables)


def test_an_unfinished_study_is_said_to_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = (conv_record("small", 16.0, 10), conv_record("fast", 7.9, 100), conv_record("fast", 4.1, 60, 4))
    for folder, more in ((tmp_path / "s" / "kernels", "study"), (tmp_path / "run", "conv --resume --output")):
        stored(folder, *records, planned_records=9)
        asked = folder.parent if folder.name == "kernels" else folder
        assert command.run(given_for(asked), []) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert "3 of 9 records measured, so nothing here is final: go on with " + more in said
        assert "So far: Dividing the batch" in said
    assert configurations(study.load(tmp_path / "s"), (61,))["unfinished"]
    # Stopped after a first kernel that gave nothing, and before any kernel.
    stored(tmp_path / "one" / "kernels", conv_record("microbatch:a@2,b@2", 1.0, 8, 4), planned_records=9)
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "study.json").write_text("{}")
    for name in ("one", "none"):
        with pytest.raises(InputError, match=f"go on with study {tmp_path / name} --resume"):
            command.run(given_for(tmp_path / name), [])


# Divisions


def test_divisions_are_predicted_from_their_kernels(tmp_path: Path) -> None:
    found = studied(
        tmp_path,
        conv_record("fast", 8.0, 100, facts={"prepare_s": 0.5}),
        conv_record("small", 16.0, 10),
        conv_record("fast", 4.5, 60, 4, facts={"prepare_s": 0.5}),
        conv_record("odd", 5.0, 30, 5),
        conv_record("odd", 3.5, 20, 3, facts={"prepare_s": 0.25}),
    )
    layer, _, _ = only(found)
    named = {
        policy: [
            (one.algorithm, one.time_s, one.workspace_bytes)
            for one in divisions.options(found, layer, policy)
        ]
        for policy in ("undivided", "powerOfTwo", "all")
    }
    assert named["undivided"] == [("fast", 8.0, 100), ("small", 16.0, 10)]
    assert named["powerOfTwo"] == [
        ("fast", 8.0, 100), ("microbatch:2*fast@4", 9.0, 60), ("small", 16.0, 10),
    ]  # fmt: skip
    # Two kernels in one workspace: weights are prepared again.
    assert named["all"] == [
        ("fast", 8.0, 100), ("microbatch:odd@5,odd@3", 8.75, 30), ("small", 16.0, 10),
    ]  # fmt: skip
    gains = divisions.gains(found, (10, 11, 31, 101))
    assert [(gain.limit_bytes, gain.base.algorithm, gain.best.algorithm, gain.speedup) for gain in gains] == [
        (11, "small", "small", 1.0),
        (31, "small", "microbatch:odd@5,odd@3", 16 / 8.75),
        (101, "fast", "fast", 1.0),
    ]
    assert not any(gain.measured for gain in gains)


def test_gradients_of_weights_need_a_buffer_and_time_to_be_added(tmp_path: Path) -> None:
    weights = 4 * 64 * 64 * 9
    passes: dict[str, Any] = {"pass_": "backward_weights"}
    found = studied(
        tmp_path,
        conv_record("a", 8.0, 10_000_000, **passes),
        conv_record("a", 2.0, 65, 4, **passes),
        conv_record("b", 9.0, 10_000_000, library="cudnn", **passes),
        conv_record("b", 1.0, 65, 4, library="cudnn", **passes),
    )
    layer, _, _ = only(found)
    assert layer.weight_bytes() == weights
    by_library = {
        one.library: one
        for one in [
            *divisions.options(Study(found.points | {layer: {8: found.points[layer][8], 4: found.points[layer][4][:1]}},
                                     found.labels, triad_bytes_per_s=1e10), layer, "all"),
            *divisions.options(found, layer, "all"),
        ]
    }  # fmt: skip
    assert by_library["microbench"].workspace_bytes == 128 + weights
    assert by_library["microbench"].time_s == pytest.approx(4.0 + 2 * 3 * weights / 1e10)
    assert (by_library["cudnn"].workspace_bytes, by_library["cudnn"].time_s) == (65, 2.0)


def test_micro_batches_measured_in_turn_hold_the_adding_already(tmp_path: Path) -> None:
    passes: dict[str, Any] = {"pass_": "backward_weights"}
    found = studied(
        tmp_path,
        conv_record("a", 9.0, 10_000_000, **passes),
        conv_record("microbatch:3*a@2", 6.0, 500_000, 6, ci_low_s=None, **passes),
        conv_record("microbatch:a@2,a@1", 0.1, 1, 3, **passes),
    )
    layer, batch, _ = only(found)
    assert batch == 8
    assert list(found.points[layer]) == [2, 8]
    (turned,) = found.points[layer][2]
    assert (turned.algorithm, turned.time_s, turned.low_s, turned.high_s, turned.in_turn) == (
        "a", 2.0, None, pytest.approx(2.02), True,
    )  # fmt: skip
    assert [
        (one.algorithm, one.time_s, one.workspace_bytes) for one in divisions.options(found, layer, "all")
    ] == [("microbatch:4*a@2", 8.0, 500_000)]


def measured_division(tmp_path: Path) -> Study:
    """Three rounds of a division, which takes 10 % longer than its kernels, beside the undivided batch."""
    kernels = stored(
        tmp_path / "kernels",
        conv_record("small", 16.0, 10),
        conv_record("fast", 7.9, 100),
        conv_record("fast", 4.1, 60, 4),
    )
    rounds = [
        record
        for factor in (1.0, 1.5, 2.0)
        for record in (
            conv_record("fast", factor * 4.0, 60, 4),
            conv_record("microbatch:2*fast@4", factor * 8.8, 60),
            conv_record("small", factor * 17.6, 10),
        )
    ]
    failed = not_measured("crashed", "it died", kernel="conv", library="microbench", mode="hot",
                          problem=SIZES["conv"], algorithm="microbatch:4*fast@2")  # fmt: skip
    return gather(kernels, stored(tmp_path / "divisions", *rounds, failed))


def test_predicted_times_are_held_against_measured_ones_round_by_round(tmp_path: Path) -> None:
    found = measured_division(tmp_path)
    good, failed = divisions.outcomes(found)
    assert good.ratios == pytest.approx([8 / 8.8] * 3)
    assert (good.predicted_s, good.measured_s, good.workspace_bytes) == (12.0, pytest.approx(13.2), 60)
    assert failed.ratio is None
    assert failed.reason == "crashed: it died"
    (gain,) = divisions.gains(found, (61,))
    assert gain.measured
    assert gain.best.divided
    assert (gain.base.time_s, gain.best.time_s) == (pytest.approx(26.4), pytest.approx(13.2))
    assert gain.speedup == pytest.approx(2.0)
    assert gain.range == pytest.approx((2.0, 2.0))
    assert gain.settled
    assert (good.chosen_s, good.chosen_ratio) == (8.2, pytest.approx(8.2 / 13.2))
    # What was measured beside divisions is in no front.
    assert [one.time_s for one in only(found)[2]] == [16.0, 7.9]


def test_layers_share_a_total_as_often_as_the_network_has_them(tmp_path: Path) -> None:
    other = SIZES["conv"] | {"k": 32}
    found = studied(
        tmp_path,
        conv_record("fast", 1.0, 100, labels={"repeats": "2"}),
        conv_record("small", 3.0, 10, labels={"repeats": "2"}),
        conv_record("fast", 1.0, 100, problem=other),
        conv_record("small", 2.0, 10, problem=other),
    )
    large, medium, little = shares(found, (300, 210, 29))
    assert (large.layers, large.time_s, large.used_bytes) == (3, 3.0, 300)
    assert (medium.time_s, medium.used_bytes) == (4.0, 210)
    assert little.choices is None
    assert little.time_s is None


# Scaling and fills


def test_knees_and_both_kinds_of_scaling() -> None:
    layer = Layer((), "forward", "nchw", "fp32", "cpu", "hot", 1)
    times = {1: 1.0, 2: 1.1, 4: 2.2, 8: 4.4, 16: 13.2}
    one = scaling.scaling(layer, {size: point(time, 0) for size, time in times.items()})
    assert one.knees == (scaling.Knee(2, "saturated"), scaling.Knee(8, "degraded"))
    assert one.strong == pytest.approx({2: 1.5, 4: 1.5, 8: 1.5, 16: 13.2 / 16})
    assert one.weak == pytest.approx({1: 0.55, 2: 1.0, 4: 1.0, 8: 1.0, 16: 4.4 * 2 / 13.2})
    falling = scaling.scaling(layer, {size: point(1.0, 0) for size in (1, 2, 4)})
    assert falling.knees == ()


def test_a_processor_s_clock_is_its_own(tmp_path: Path) -> None:
    facts = {"fill": "normal", "clock_mhz": 3000.0}
    stored(tmp_path / "fills" / "normal-0", conv_record("im2col", 1.0, 8, facts=facts))
    stored(tmp_path / "kernels", conv_record("im2col", 1.0, 8), conv_record("fft", 1.0, 8))
    (base,) = sensitivity.sensitivities(study.load(tmp_path))
    assert base.clock_hz == 3e9


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        ({"copy": {"best": 2e12}, "triad": {"best": 1e12}}, 1e12),
        ({"read": {"best": 3e12}, "copy": {"best": 2e12}}, 2e12),  # of a GPU
        ({}, None),
    ],
)
def test_gradients_are_added_at_the_rate_of_triad_or_copy(
    tmp_path: Path, memory: dict[str, Any], expected: float | None
) -> None:
    run = stored(tmp_path / "run", conv_record("im2col", 1.0, 8), ceilings={"memory_bytes_per_s": memory})
    assert gather(run).triad_bytes_per_s == expected


def test_no_threads_are_said_of_a_gpu(tmp_path: Path) -> None:
    for backend, said in (("cpu", "on cpu, hot, 4 threads. Times"), ("cuda", "on cuda, hot. Times")):
        records = [conv_record(name, 1.0, 8, backend=backend) for name in ("im2col", "fft")]
        found = gather(stored(tmp_path / backend, *records))
        assert said in section_of(found, Question()).findings[0]


def test_fills_are_compared_by_their_rounds(tmp_path: Path) -> None:
    for fill, time in (("normal", 1.0), ("zero", 0.8)):
        for number in range(6):
            reading = {
                "before": {"power_w": 200.0},
                "after": {"power_w": 300.0},
                "measured_sm_clock_hz": 1.5e9,
            }
            facts = {"fill": fill, "device_batches": [reading], "clock_mhz": 3000.0}
            stored(
                tmp_path / "fills" / f"{fill}-{number}",
                conv_record("im2col", time * (1 + number / 1000), 8, facts=facts),
            )
    stored(tmp_path / "kernels", conv_record("im2col", 1.0, 8), conv_record("fft", 1.0, 8))
    found = study.load(tmp_path)
    base, zero = sensitivity.sensitivities(found)
    assert (base.fill, base.comparison) == ("normal", None)
    assert zero.comparison is not None
    assert zero.comparison.verdict == "faster"
    assert zero.comparison.ratio == pytest.approx(0.8, rel=1e-3)
    assert (zero.power_w, zero.clock_hz) == (250.0, 1.5e9)  # not the host's
    assert "1500 MHz" in text(section_of(found, Question()))


def test_knees_of_batches_timed_in_the_cache_are_marked(tmp_path: Path) -> None:
    # Of 2 images 3 in turn, the whole batch of 8 alone: 3.2 MB of operands each, and its weights.
    records = [
        conv_record("microbatch:3*a@2", 3.0, 8, 6),
        conv_record("microbatch:3*a@4", 6.0, 8, 12),
        conv_record("a", 1.5, 8, 8),
    ]
    for cache, mode, marks in ((1 << 30, "hot", 2), (1 << 20, "hot", 0), (1 << 30, "cold", 0)):
        run = stored(
            tmp_path / f"{cache}{mode}",
            *(msgspec.structs.replace(record, mode=mode) for record in records),
            plan={"last_level_cache_bytes": cache},
        )
        content = section_of(gather(run), Question())
        (row,) = next(table for table in content.tables if table.key == "scaling").rows
        assert [cell.endswith("*") for cell in row].count(True) == marks


# Output


def test_every_table_fits_a_terminal_and_none_is_empty(tmp_path: Path) -> None:
    found = measured_division(tmp_path)
    content = section_of(found, Question(limits=(61,), totals=(1000,), max_error=1e-3, dominated=True))
    keys = [table.key for table in content.tables]
    assert keys == ["fronts", "cliffs", "regret", "worst", "divisions", "totals", "predicted", "network"]
    for table in content.tables:
        assert table.rows
        assert all(len(row) == len(table.headings) for row in table.rows)
    shown = text(content)
    assert max(map(len, shown.splitlines())) <= 100
    assert "…" not in shown
    (division,) = (row[-1] for row in content.tables[4].rows)
    assert f"divided: {division}" in shown or f"  {division}" in shown
    said = " ".join(shown.split())
    assert "26.40 s undivided, 13.20 s divided, 2.00 times as fast (2.00 to 2.00 by round)" in said
    assert "pays in 1 of 1 case (layers and limits). measured faster in every round: 1." in said
    assert "measured beside them) against measured times of 1 division: median absolute error 9.09 %" in said
    assert "chosen by) against measured times of 1 division: median absolute error 37.9 %" in said


def test_an_error_bound_leaves_algorithms_out_but_not_the_librarys_pick(tmp_path: Path) -> None:
    found = studied(
        tmp_path,
        conv_record("winograd", 1.0, 8, frobenius_error=1e-5),
        conv_record("direct", 1.5, 8),
    )
    content = {table.key: table for table in section_of(found, Question(max_error=1e-6)).tables}
    assert [row[1] for row in content["fronts"].rows] == ["microbench/direct"]
    assert content["accuracy"].rows[0][1:4] == ("1.000 s", "1.500 s", "1.50")
    assert content["regret"].rows[0][3:5] == ("1", "1")


def test_the_configurations_are_exported(tmp_path: Path) -> None:
    found = measured_division(tmp_path)
    write(tmp_path / "chosen.json", configurations(found, (61, None)))
    content = json.loads((tmp_path / "chosen.json").read_text())
    limited, free = content["configurations"]
    assert limited["algorithm"] == "microbatch:2*fast@4"
    assert limited["micro_batches"] == [{"count": 2, "images": 4, "algorithm": "fast"}]
    assert (limited["predicted_s"], limited["measured_s"]) == (8.2, pytest.approx(13.2))
    assert (limited["workspace_limit_bytes"], limited["workspace_bytes"]) == (61, 60)
    assert limited["problem"] == SIZES["conv"]
    assert (limited["mode"], limited["library_version"]) == ("hot", None)
    versions = dataclasses.replace(found, libraries={"microbench": {"version": "7.1"}})
    assert configurations(versions, (61,))["configurations"][0]["library_version"] == "7.1"
    (desirable,) = content["desirable"]
    assert desirable["problem"] == SIZES["conv"]
    assert [
        (one["algorithm"], one["workspace_bytes"], one["measured"]) for one in desirable["divisions"]
    ] == [
        (one.algorithm, one.workspace_bytes, bool(one.rounds_s))  # the others are scaled by the rounds
        for one in divisions.options(found, only(found)[0], "all")
    ]
    assert len(desirable["divisions"]) > 1
    assert (free["algorithm"], free["measured_s"], free["workspace_limit_bytes"]) == ("fast", 7.9, None)
    shared = configurations(found, (), total=10)
    assert [one["algorithm"] for one in shared["configurations"]] == ["small"]
    with pytest.raises(InputError, match="too little workspace"):
        configurations(found, (), total=9)
    with pytest.raises(InputError, match="cannot be written"):
        write(tmp_path, shared)


def lost_division(tmp_path: Path, *divided: float, small: float = 8.8) -> Study:
    """A division that its kernels promise to be faster than the undivided batch, and how long it took in rounds."""
    kernels = stored(
        tmp_path / "kernels",
        conv_record("small", 9.0, 10),
        conv_record("fast", 4.0, 60, 4),
        conv_record("even", 4.1, 50, 4),
    )
    rounds = [
        record
        for time in divided
        for record in (
            conv_record("fast", 4.0, 60, 4),
            conv_record("microbatch:2*fast@4", time, 60),
            conv_record("small", small, 10),
        )
    ]
    return gather(kernels, stored(tmp_path / "divisions", *rounds))


def test_undivided_wins_where_the_rounds_measured_it_faster(tmp_path: Path) -> None:
    found = lost_division(tmp_path, 10.0, 9.5, 10.0)
    # The next best division, not measured, is held to be as far off as the measured one.
    for chosen in (
        configurations(found, (61,))["configurations"],
        configurations(found, (), total=100)["configurations"],
    ):
        assert [(one["algorithm"], one["measured_s"]) for one in chosen] == [("small", 8.8)]
    (gain,) = divisions.gains(found, (61,))
    assert not gain.best.divided
    assert (gain.speedup, gain.settled) == (pytest.approx(0.88), True)
    (shared,) = shares(found, (100,))
    assert (shared.time_s, shared.measured) == (8.8, 1)
    content = section_of(found, Question(limits=(61,)))
    assert "pays in none of 1 case " in content.findings[1]
    assert "measured slower in every round: 1" in content.findings[1]
    (row,) = next(table for table in content.tables if table.key == "divisions").rows
    assert row[6:8] == ("0.88", "0.88-0.93")


def test_differences_within_the_spread_of_the_rounds_are_said(tmp_path: Path) -> None:
    for place, (times, told) in enumerate(
        [((8.5, 9.0, 8.7), "within the spread of the rounds: 1"), ((8.0,), "measured in one round")]
    ):
        content = section_of(lost_division(tmp_path / str(place), *times), Question(limits=(61,)))
        assert "pays in none of 1 case " in content.findings[1]
        assert told in content.findings[1]


def test_rounds_count_where_all_were_measured(tmp_path: Path) -> None:
    kernels = stored(tmp_path / "kernels", conv_record("small", 9.0, 10), conv_record("fast", 4.0, 60, 4))
    division = "microbatch:2*fast@4"
    crash = not_measured("crashed", "it died", kernel="conv", library="microbench", mode="hot",
                         problem=SIZES["conv"], algorithm=division)  # fmt: skip
    beside = [
        conv_record(division, 8.0, 60), conv_record("small", 9.0, 10),
        crash, conv_record("small", 1.0, 10),
        conv_record(division, 16.0, 60), conv_record("small", 18.0, 10),
    ]  # fmt: skip
    found = gather(kernels, stored(tmp_path / "divisions", *beside))
    (times,) = divisions.beside(found).values()
    assert times == {("microbench", division): (8.0, 16.0), ("microbench", "small"): (9.0, 18.0)}


timed = st.tuples(
    st.integers(1, 12).map(float), st.integers(0, 9), st.integers(0, 6).map(float)
)  # time, workspace, preparation


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.integers(1, 8), st.lists(timed, min_size=1, max_size=3), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), max_size=2),
    st.integers(0, 10),
)
def test_a_larger_policy_is_never_worse(
    kernels: dict[int, list[tuple[float, int, float]]], rounds: list[tuple[int, int]], limit: int
) -> None:
    kernels = kernels | {8: [(12.0, 0, 0.0), *kernels.get(8, [])]}
    layer = Layer((), "forward", "nchw", "fp32", "cpu", "hot", 1)
    points = {
        size: tuple(
            point(time, workspace, algorithm=f"a{place}", prepare_s=prepare)
            for place, (time, workspace, prepare) in enumerate(choices)
        )
        for size, choices in kernels.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        plain = Study({layer: points}, {layer: {}})
        best = divisions.best_under(divisions.options(plain, layer, "all"), 99)
        assert best is not None
        names = [best.algorithm, "a0"] if best.divided else []
        records = [
            conv_record(
                name, float(time), 0, problem={"n": 8}, library="a", layout="nchw", threads=1, backend="cpu"
            )
            for pair in rounds
            for name, time in zip(names, pair, strict=False)
        ]
        measured = stored(Path(folder) / "divisions", *records)
        found = dataclasses.replace(plain, divisions=measured)
        assert not records or Layer.of(records[0]) == layer
        times = []
        for policy in ("undivided", "powerOfTwo", "all"):
            chosen = divisions.best_under(divisions.options(found, layer, policy), limit)
            times.append(math.inf if chosen is None else chosen.time_s)
        assert times == sorted(times, reverse=True)


def test_pictures_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from microbench.study import plots

    found = measured_division(tmp_path)
    written = plots.write(found, tmp_path / "plots", (61,), "all", "svg")
    assert [path.name for path in written] == ["fronts.svg", "speedups.svg", "predicted.svg"]
    assert all("<svg" in path.read_text() for path in written)
    again = plots.write(found, tmp_path / "again", (61,), "all", "svg")
    assert written[0].read_bytes() == again[0].read_bytes()
    # Errors are 1e-7: nothing but the divisions as measured is left.
    bounded = plots.write(found, tmp_path / "bounded", (61,), "all", "svg", 1e-9)
    assert [path.name for path in bounded] == ["predicted.svg"]
    same = plots.write(found, tmp_path / "same", (61,), "all", "svg", 1e-6)
    assert "error at most 1e-06" in same[0].read_text()
    assert "error at most" not in written[0].read_text()
    with pytest.raises(InputError, match="cannot be written"):
        plots.write(found, tmp_path / "kernels" / "run.json", (61,), "all", "svg")


# The rooms


MEASURING = ("_cpu", "_onednn", "_cuda", "_probe", "runner", "backends", "study.measure")


def test_reading_needs_no_measuring() -> None:
    for path in (PACKAGE / "study").glob("*.py"):
        if path.name == "measure.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                assert not name.startswith(tuple(f"microbench.{each}" for each in MEASURING)), path.name


def test_the_grammar_loads_nothing_heavy() -> None:
    heavy = {"numpy", "scipy", "pandas", "matplotlib", "tabulate"}
    code = (
        f"import sys, microbench.commands.study; found = {heavy} & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(PACKAGE.parent)})


def given_for(folder: Path, **changes: Any) -> dict[str, Any]:
    from microbench.arguments import parser

    return vars(parser().parse_args(["study", str(folder)])) | changes


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"policy": "some"}, "--policy some"),
        ({"plot_format": "gif"}, "--plot-format gif"),
        ({"export": "x.json", "total_workspace": [1, 2]}, "one --total-workspace"),
        ({"measure": True, "rounds": 0}, "--rounds"),
        ({"max_error": 0.0}, "--max-error 0: must be"),
        ({"max_error": -1.0}, "--max-error -1: must be"),
        ({"max_error": math.nan}, "--max-error nan: must be"),
        ({"batch": 4}, "--batch: says what is measured"),
        ({"time_budget": 4.0}, "--time-budget: says what is measured"),
        ({"fills": True}, "--fills: says what is measured"),
        ({"export": "/nowhere/x.json"}, "--export /nowhere/x.json: there is no folder /nowhere"),
        ({"export": "/"}, "--export /: is a folder"),
        ({"plots": "/dev/null"}, "--plots /dev/null: is no folder"),
        ({"plots": "/dev/null/x"}, "--plots /dev/null/x: cannot be written"),
        ({"resume": True}, "there is nothing to resume"),
        ({"measure": True, "sizes": [4, 0]}, "--sizes"),
        ({"limits": [0]}, "--limits: must be at least 1 byte"),
        ({"total_workspace": [0]}, "--total-workspace: must be at least 1 byte"),
        ({"export": "/proc/x.json"}, "--export /proc/x.json: cannot be written"),
        ({"plots": "/proc/x"}, "--plots /proc/x: cannot be written"),
        ({"pin": False}, "--no-pin: says what is measured"),
        ({"measure": True}, "holds a run, which is no study: choose another folder"),
        ({"measure": True, "threads": 999, "pin": False}, "holds a run, which is no study"),
        ({"measure": True, "precision": ["fp31"]}, "--precision fp31"),
    ],
)
def test_bad_input_is_said(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    stored(tmp_path / "run", conv_record("im2col", 1.0, 8), conv_record("fft", 2.0, 4))
    with pytest.raises(InputError, match=told):
        command.run(given_for(tmp_path / "run", **changes), [])


def test_the_command_reads_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored(tmp_path / "run", conv_record("im2col", 1.0, 8), conv_record("fft", 2.0, 4))
    assert command.run(given_for(tmp_path / "run"), []) == 0
    shown = capsys.readouterr().out
    assert "microbench/im2col" in shown
    assert "microbench/fft" in shown
    stored(tmp_path / "none", not_measured("unsupported", "no", kernel="conv", problem=SIZES["conv"]))
    with pytest.raises(InputError, match="no right result"):
        command.run(given_for(tmp_path / "none"), [])


def test_divisions_are_not_what_a_study_starts_from(tmp_path: Path) -> None:
    stored(tmp_path / "run", conv_record("microbatch:2*im2col@2,im2col@1", 1.0, 8, 5))
    with pytest.raises(InputError, match="holds divisions of batches only"):
        command.run(given_for(tmp_path / "run"), [])


def test_an_error_bound_that_nothing_fits_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored(tmp_path / "run", conv_record("im2col", 1.0, 8), conv_record("fft", 2.0, 4))
    assert command.run(given_for(tmp_path / "run", max_error=1e-12), []) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "whole batch of 1 of 1 case no algorithm is known to be as accurate as --max-error 1e-12" in said
    assert "Of any error: --max-error is not applied here." in said


# The networks' tables


@pytest.mark.parametrize(
    ("network", "layers", "gigamacs"),
    [("alexnet", 5, 0.6556), ("resnet18", 20, 1.8136), ("resnet50", 53, 3.8559)],
)
def test_networks_have_their_layers_and_operations(network: str, layers: int, gigamacs: float) -> None:
    rows = load_problems("conv", network)
    repeats = [int(row.labels["repeats"]) for row in rows]
    assert sum(repeats) == layers
    macs = sum(
        count * row.problem.flops() / 2 / vars(row.problem)["n"]
        for count, row in zip(repeats, rows, strict=True)
    )
    assert macs / 1e9 == pytest.approx(gigamacs, abs=1e-4)
