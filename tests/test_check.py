"""The regression gate, and the recipe and listings of ``compare``, as a person types them."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from microbench.commands import load
from microbench.errors import InputError
from microbench.figures import WIDTH
from microbench.record import Record
from records import SIZES, create, make_record, not_measured

SPREAD = tuple(1 + 0.001 * n for n in (0, 3, 1, 2, -1, -2, -3, 4))


def runs(seconds: float, spread: Sequence[float] = SPREAD, **changes: Any) -> list[Record]:
    return [make_record(median_s=seconds * s, repeat=n, **changes) for n, s in enumerate(spread)]


def parse(*arguments: str) -> dict[str, Any]:
    from microbench.arguments import parser

    given = vars(parser().parse_args(arguments))
    given.pop("command")
    return given


def check(baseline: Path, new: Path, *arguments: str) -> int:
    return load("check").run(parse("check", "--baseline", str(baseline), str(new), *arguments), [])


def compare(*arguments: str) -> int:
    return load("compare").run(parse("compare", *arguments), [])


OTHER = {"problem": {"m": 9, "n": 9, "k": 9}, "index": 1}


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    return create(tmp_path / "baseline", *runs(1e-3), *runs(2e-3, **OTHER))


@pytest.mark.parametrize(
    ("first", "second", "code", "said"),
    [
        (runs(1e-3), runs(2.001e-3, **OTHER), 0, "passed: 2 problems"),
        (runs(0.9e-3), runs(1e-3, **OTHER), 0, "passed"),
        (runs(1.005e-3), runs(2e-3, **OTHER), 0, "passed"),
        (runs(1e-3), runs(2.06e-3, **OTHER), 1, "1 slower (one-sided"),
        (runs(1e-3), [], 1, "missing: not compared: 9×9×9 NN fp32: only in baseline"),
        (runs(1e-3), runs(2e-3, **OTHER, precision="bf16"), 1, "other precision: fp32 against bf16"),
        (
            runs(1e-3),
            [*runs(2e-3, SPREAD[:7], **OTHER), not_measured("crashed", "signal 11", repeat=7, **OTHER)],
            1,
            "failed: 9×9×9 NN fp32 onednn: crashed: signal 11",
        ),
        (
            runs(1e-3),
            [not_measured("crashed", "signal 11", **OTHER)],
            1,
            "failed: 9×9×9 NN fp32 onednn: crashed: signal 11 FAILED: 1 problem of new against baseline: 0 slower "
            "(one-sided Mann-Whitney on run medians, 95% for all together) and measured to be so by more than 1.00%, "
            "0 missing, 1 failed",
        ),
        (
            runs(1e-3, [1 + 20 * (s - 1) for s in SPREAD]),
            runs(2e-3, **OTHER),
            0,
            "could have shown a slow-down of 3.02% (median of the problems), at worst 5.05% (1760×16×1760 NT fp32",
        ),
        (
            [not_measured("crashed", "signal 11")],
            [not_measured("timeout", "120 s", **OTHER)],
            1,
            "FAILED: 0 problems of new against baseline",
        ),
        (runs(1e-3), runs(2e-3, SPREAD[:1], **OTHER), 1, "too few runs to be judged: 9×9×9 NN"),
        (
            [*runs(1e-3), make_record(**(OTHER | {"index": 2}), precision="fp64")],
            runs(2e-3, **OTHER),
            0,
            "passed",
        ),
    ],
)
def test_the_gate(
    baseline: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    first: list[Record],
    second: list[Record],
    code: int,
    said: str,
) -> None:
    new = create(tmp_path / "new", *first, *second)
    assert check(baseline, new) == code
    output = capsys.readouterr().out
    assert said in " ".join(output.split())
    assert max(map(len, output.splitlines())) <= WIDTH
    assert ("FAILED" in output) == bool(code)
    assert check(baseline, new, "--format", "json") == code
    assert json.loads(capsys.readouterr().out)["passed"] == (code == 0)


def test_a_larger_threshold_lets_more_pass(baseline: Path, tmp_path: Path) -> None:
    new = create(tmp_path / "new", *runs(1.03e-3), *runs(2e-3, **OTHER))
    assert check(baseline, new) == 1
    assert check(baseline, new, "--max-slowdown", "0.05") == 0


def test_what_failed_before_may_fail_again(tmp_path: Path) -> None:
    crashed = not_measured("crashed", "signal 11", **OTHER)
    unsupported = not_measured("unsupported", "no fp16 units", problem={"m": 5, "n": 5, "k": 5}, index=2)
    folders = [
        create(tmp_path / name, *runs(seconds), crashed, unsupported)
        for name, seconds in (("baseline", 1e-3), ("new", 1.001e-3))
    ]
    assert check(*folders) == 0


def test_too_few_runs_are_bad_input_not_a_pass(tmp_path: Path) -> None:
    folders = [create(tmp_path / f"{name}1", *runs(1.0, [name])) for name in (1.001, 1.002)]
    with pytest.raises(
        InputError,
        match=r"^1 problem can be judged at 95% from 3 runs a side, but 1\.0011 has 1 and 1\.0021 has 1: "
        r"measure 1\.0011 and 1\.0021 with --repeat 3",
    ):
        check(*folders)
    enough = [create(tmp_path / f"{name}3", *runs(name, SPREAD[:3])) for name in (1.001, 1.002)]
    assert check(*enough) == 0
    with pytest.raises(
        InputError, match=r"but 1\.0013 has 3 and 1\.0021 has 1: measure 1\.0021 with --repeat 3$"
    ):
        check(enough[0], folders[1])


@pytest.mark.parametrize("command", [check, compare])
def test_a_copy_is_not_a_second_run(command: Any, baseline: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(baseline, copy)
    with pytest.raises(
        InputError, match=r"copy and .*baseline hold the same measurements, started at 2025-01-02"
    ):
        command(*map(str, (baseline, copy)))


def test_times_that_are_none_are_bad_input_not_a_regression(baseline: Path, tmp_path: Path) -> None:
    new = create(tmp_path / "new", *runs(1e-3), *runs(2e-3, **OTHER))
    records = new / "records.jsonl"
    records.write_text(records.read_text().replace('"median_s":0.001003,', '"median_s":-0.001003,', 1))
    with pytest.raises(InputError, match=r"records\.jsonl:2: not a record \(a time is not from 1e-15 to"):
        check(baseline, new)


def test_bad_input(baseline: Path, tmp_path: Path) -> None:
    new = create(tmp_path / "new", *runs(1e-3))
    with pytest.raises(InputError, match="--max-slowdown"):
        check(baseline, new, "--max-slowdown", "3")
    with pytest.raises(InputError, match="--confidence"):
        check(baseline, new, "--confidence", "95")
    with pytest.raises(InputError, match="without a distribution"):
        check(Path("deepbench:V100"), new)
    other = create(tmp_path / "other", make_record(mode="hot"))
    with pytest.raises(InputError, match="other mode: cold against hot"):
        check(baseline, other)


# --- compare as typed --------------------------------------------------------------------------------------------


def test_the_published_results_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare("--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(int(line.split(" gemm")[0].split()[-1]) for line in lines[2:]) == 8989
    assert max(map(len, lines)) <= WIDTH


def test_a_single_source_is_shown_with_every_row_and_its_limits(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare("deepbench:P100") == 0
    output = capsys.readouterr().out
    assert sum(" hot " in line for line in output.splitlines()) == 1177
    assert "Limit of deepbench:P100: each figure is the mean" in output
    assert compare("deepbench:P100", "--format", "markdown") == 0
    assert compare("deepbench:P100", "--format", "csv") == 0
    assert "summary_mean" in capsys.readouterr().out


def test_no_spreadsheet_calculates_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"library": "@x", "reason": "-1+1", "labels": {"a": "=1+1", "b": "-1", "c": " +1e-3", "=d": "x"}}
    run = create(tmp_path / "run", make_record(**names))
    assert compare(str(run), "--format", "csv") == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["library"], row["reason"], row["a"]) == ("'@x", "'-1+1", "'=1+1")
    assert (row["b"], row["c"], row["'=d"]) == ("-1", " +1e-3", "x")
    assert float(row["median_s"]) == 1.005e-3


def test_nothing_to_compare_is_said(baseline: Path) -> None:
    with pytest.raises(InputError, match="--list"):
        compare()
    with pytest.raises(InputError, match="cannot be compared"):
        compare(str(baseline), "--by", "library")


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "json"])
def test_the_recipe_has_the_same_rows_for_any_sources(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare("--recipe", "coral2", "deepbench:P100", "deepbench:V100", "--format", form) == 0
    output = capsys.readouterr().out
    for ratio in ("1.71", "1.57", "1.45", "1.58", "1.27", "1.91"):
        assert ratio in output
    if form == "table":
        line = next(
            line for line in output.splitlines() if line.startswith("conv n16 c64 112×112 k128 3×3 s1 p1 fwd")
        )
        assert line.split()[9:15] == ["1.71", "2.321", "ms", "1.246", "ms", "1.863"]
        assert "Geometric mean of the 6 published ratios: 1.57" in output
        assert max(map(len, output.splitlines())) <= WIDTH
    nothing = create(tmp_path / "run", make_record())
    with pytest.raises(
        InputError, match=r"no problem of the CORAL-2 recipe that may be compared: conv .*: only in"
    ):
        compare("--recipe", "coral2", str(nothing), "deepbench:V100", "--format", form)


def test_the_recipe_compares_no_library_with_another(capsys: pytest.CaptureFixture[str]) -> None:
    compare("--recipe", "coral2", "deepbench:P100", "deepbench:KNL7250")
    output = capsys.readouterr().out
    lines = [line for line in output.splitlines() if line.startswith("allreduce")]
    assert len(lines) == 8
    assert all(line.split()[-2:] == ["n/a", "n/a"] for line in lines)
    assert "computed by NCCL 2.0 MPI against Intel MLSL" in output


def test_the_recipe_turned_round(capsys: pytest.CaptureFixture[str]) -> None:
    compare("--recipe", "coral2", "deepbench:V100", "deepbench:P100")
    output = capsys.readouterr().out
    assert "time of Volta over time of Pascal" in " ".join(output.split())
    assert "Geometric mean of the 6 published ratios: 0.64" in output
    line = next(
        line for line in output.splitlines() if line.startswith("conv n16 c64 112×112 k128 3×3 s1 p1 fwd")
    )
    assert line.split()[9:15] == ["0.58", "1.246", "ms", "2.321", "ms", "0.537"]


def test_the_recipe_shows_the_time_of_one_side_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = {"w": 112, "h": 112, "n": 16, "k": 128}
    sizes = SIZES["conv"] | problem
    run = create(tmp_path / "run", *runs(1e-3, kernel="conv", mode="hot", problem=sizes, flops=29595009024))
    compare("--recipe", "coral2", "deepbench:P100", str(run))
    output = capsys.readouterr().out
    assert "1.001 ms" in next(line for line in output.splitlines() if line.startswith("conv n16"))
    line = next(line for line in output.splitlines() if line.startswith("conv n8"))
    assert line.split()[9:] == ["1.57", "1.211", "ms", "n/a", "n/a", "n/a"]
