"""The regression gate, and the recipe and listings of ``compare``, as a person types them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from microbench.commands import load
from microbench.errors import InputError
from microbench.figures import WIDTH
from microbench.record import Record
from records import create, make_record, not_measured

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
        (runs(1e-3), runs(2e-3, **OTHER), 0, "passed: 2 problems"),
        (runs(0.9e-3), runs(1e-3, **OTHER), 0, "passed"),
        (runs(1.005e-3), runs(2e-3, **OTHER), 0, "passed"),
        (runs(1e-3), runs(2.06e-3, **OTHER), 1, "1 slower by more than 1.00%"),
        (runs(1e-3), [], 1, "missing: not compared: 9×9×9 NN fp32: only in baseline"),
        (runs(1e-3), runs(2e-3, **OTHER, precision="bf16"), 1, "other precision: fp32 against bf16"),
        (
            runs(1e-3),
            [*runs(2e-3, SPREAD[:7], **OTHER), not_measured("crashed", "signal 11", repeat=7, **OTHER)],
            1,
            "failed: 9×9×9 NN fp32 onednn: crashed: signal 11",
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
    folders = [create(tmp_path / name, *runs(1e-3), crashed, unsupported) for name in ("baseline", "new")]
    assert check(*folders) == 0


def test_too_few_runs_are_bad_input_not_a_pass(tmp_path: Path) -> None:
    folders = [create(tmp_path / name, make_record()) for name in ("baseline", "new")]
    with pytest.raises(
        InputError, match="from 3 runs a side, here are 1 at most: measure both with --repeat 3"
    ):
        check(*folders)
    enough = [create(tmp_path / f"{name}3", *runs(1.0, SPREAD[:3])) for name in ("baseline", "new")]
    assert check(*enough) == 0


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
    assert compare("--recipe", "coral2", str(nothing), "deepbench:V100", "--format", form) == 0
    assert "1.91" in capsys.readouterr().out
