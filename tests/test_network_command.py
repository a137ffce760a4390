"""``microbench simulate`` as it is typed."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from collectives import made_up, store
from microbench.cli import main
from microbench.errors import InputError
from microbench.network.landscape import contenders_of, contenders_of_fits, fastest_of, forecasts, ranges
from microbench.network.machine import MACHINES, Link, parse_machine, uniform
from microbench.network.noise import parse_noise
from microbench.store import RunWriter
from records import make_info

TRUE = uniform("made up", Link(2e-6, 3e-10), 1e-10)
TWO_LEVELS = "alpha=2e-6,beta=1e-10,gamma=3e-11,inside_alpha=5e-7,inside_beta=2e-11,ranks_per_node=4"
SMALL = ["--ranks", "4", "16", "--max-bytes", "128MiB", "--factor", "4096"]


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return store(tmp_path / "run", made_up(TRUE, 0.05, 1))


def test_a_run_is_fitted_judged_and_extrapolated(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", str(run_folder), *SMALL, "--noise", str(run_folder)]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    for words in (
        "misfit",
        "gamma",
        "The simulator reproduces",
        "noisy/quiet",
        "--overhead gives it",
    ):
        assert words in out


def test_a_check_that_fails_is_exit_code_1(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = store(tmp_path / "other", made_up(uniform("made up", Link(8e-6, 3e-9)), 0.05, 2))
    assert main(["simulate", str(run_folder), "--check", str(other), *SMALL]) == 1
    assert "does NOT reproduce" in capsys.readouterr().out


def stored(folder: Path, seed: int, **changes: Any) -> Path:
    """A run with ``changes`` of what says how it was measured."""
    with RunWriter.create(folder, make_info(kernel="allreduce", **changes)) as writer:
        for record in made_up(TRUE, 0.05, seed):
            writer.append(record)
    return folder


def nodes(*counts: int) -> dict[str, Any]:
    """The environment of a run with so many ranks on each host."""
    return {"mpi": {"library": "Open MPI v5", "hosts": [{"name": "h", "ranks": [0] * n} for n in counts]}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"options": {"start": "barrier"}}, "start: window against barrier"),
        (
            {"environment": {"mpi": nodes(4)["mpi"] | {"library": "MPICH 5"}}},
            "mpi library: Open MPI v5 against MPICH 5",
        ),
        ({"environment": nodes(1, 1, 1, 1)}, "hosts: one against several, 1 ranks each"),
        (
            {"environment": nodes(4) | {"processor": {"model_name": "EPYC", "cores": 64}}},
            "processor: unknown against EPYC, 64 cores",
        ),
    ],
)
@pytest.mark.parametrize("option", [[], ["--check"]])
def test_runs_of_other_times_or_networks_are_not_mixed(
    option: list[str],
    changes: dict[str, Any],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    usual = {"options": {"start": "window"}, "environment": nodes(4)}
    one = stored(tmp_path / "one", 1, **usual)
    other = stored(tmp_path / "other", 2, **(usual | changes))
    assert main(["simulate", str(one), *option, str(other), *SMALL]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("against") == 1
    again = stored(tmp_path / "again", 3, **usual)
    assert main(["simulate", str(one), *option, str(again), *SMALL]) == 0


def test_hosts_may_be_more_if_each_has_as_many_ranks(tmp_path: Path) -> None:
    two, four = (stored(tmp_path / str(count), count, environment=nodes(*[1] * count)) for count in (2, 4))
    assert main(["simulate", str(two), str(four), *SMALL]) == 0


@pytest.mark.parametrize("option", [[], ["--check"]])
def test_the_same_measurements_twice_are_refused(
    option: list[str], run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(run_folder, tmp_path / "copy")
    assert main(["simulate", str(run_folder), *option, str(run_folder), *SMALL]) == 2
    assert "is given twice" in capsys.readouterr().err
    assert main(["simulate", str(run_folder), *option, str(copy), *SMALL]) == 2
    assert "hold the same measurements" in capsys.readouterr().err


def test_a_check_finds_its_series_among_others(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = made_up(TRUE, 0.05, 2)
    largest = [replace(record, problem=record.problem | {"op": "max"}) for record in records]
    other = store(tmp_path / "other", [*records, *largest])
    assert main(["simulate", str(run_folder), "--check", str(other), *SMALL]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"{len(records)} (" in text.split("of the runs to check, which were not fitted", 1)[1]
    assert "to check, ring max: was not fitted" in text
    assert main(["simulate", str(other), "--check", str(run_folder), *SMALL]) == 0
    assert "was not fitted" not in capsys.readouterr().out


@pytest.mark.parametrize("form", ["table", "csv"])
def test_a_series_too_thin_to_be_fitted_is_left_out_and_named(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = made_up(TRUE, 0.05, 2)
    thin = replace(records[0], problem=records[0].problem | {"op": "max", "place": "in_place"})
    folder = store(tmp_path / "run", [*records, thin])
    assert main(["simulate", str(folder), *SMALL, "--format", form]) == 0
    shown = capsys.readouterr()
    words = "Left out: ring max in_place: 1 measurement of 1 size, too few to be fitted."
    assert words in (shown.out if form == "table" else shown.err)


def test_long_names_of_series_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = {"op": "max", "place": "in_place"}
    records = [
        replace(record, precision="int32", problem=record.problem | changes)
        for record in made_up(TRUE, 0.05, 2)
    ]
    folder = store(tmp_path / "run", [*records, *made_up(TRUE, 0.05, 3)])
    assert main(["simulate", str(folder), *SMALL, "--noise", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert any(line.startswith("rabenseif.") for line in lines)


def test_a_picture_without_matplotlib_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["simulate", "--machine", "tukey", "--picture", "map.svg"]) == 2
    assert "needs matplotlib: pip install 'microbench[report]'" in capsys.readouterr().err


@pytest.mark.parametrize("machine", [*MACHINES, TWO_LEVELS])
def test_machines_are_simulated(machine: str, capsys: pytest.CaptureFixture[str]) -> None:
    noise = ["--noise", "period=1ms,duration=25us,arrivals=random"]
    assert main(["simulate", "--machine", machine, *SMALL, *noise]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    assert ("hierarch." in out) == (machine == TWO_LEVELS)
    assert "2.5 % of its time" in out


@pytest.mark.parametrize("form", ["csv", "json", "markdown"])
def test_rows_in_every_format(form: str, run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(run_folder), *SMALL, "--format", form]) == 0
    out = capsys.readouterr().out
    if form == "json":
        rows = json.loads(out)
    elif form == "csv":
        rows = list(csv.DictReader(io.StringIO(out)))
    else:
        assert out.startswith("| algorithm")
        return
    assert len(rows) == 2 * 3 * 3
    for row in rows:
        assert float(row["low_s"]) < float(row["time_s"]) < float(row["high_s"])
        assert row["noisy_s"] in (None, "")


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_picture_is_drawn(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"map{suffix}"
    noise = ["--noise", "period=1ms,duration=25us"]
    arguments = ["simulate", "--machine", TWO_LEVELS, *SMALL, *noise, "--picture", str(path)]
    assert main(arguments) == 0
    content = path.read_bytes()
    assert content.startswith(b"<?xml" if suffix == ".svg" else b"\x89PNG")
    if suffix == ".svg":
        assert b"fastest without noise" in content
        main(arguments)
        assert path.read_bytes() == content


def test_the_fastest_changes_where_lines_cross() -> None:
    # 2 log p alpha against log p alpha, and n beta 2 (p - 1) / p against n beta log p: they cross at
    # n = 4 alpha / (beta (4 - 2 * 15 / 16)) for p = 16.
    machine = uniform("made up", Link(2e-6, 1e-9))
    two = [each for each in contenders_of(machine) if each.label in ("recursive_doubling", "rabenseifner")]
    crossing = 4 * 2e-6 / (1e-9 * (4 - 2 * 15 / 16))
    sizes = [int(crossing) - 1, int(crossing) + 1]
    found = ranges(fastest_of(forecasts(two, [16], sizes)))
    assert found == {16: [(sizes[0], "recursive_doubling"), (sizes[1], "rabenseifner")]}


def test_an_overhead_only_splits_alpha(run_folder: Path) -> None:
    from microbench.network.fit import fit_all
    from microbench.network.points import read_points
    from microbench.store import Run

    fits, _ = fit_all(read_points([Run.load(run_folder)]).points)
    plain, split = (contenders_of_fits(fits, overhead) for overhead in (0.0, 5e-7))
    for a, b in zip(plain, split, strict=True):
        assert a.quiet_s(64, 4096) == pytest.approx(b.quiet_s(64, 4096))
        assert b.machine.between.links[0].overhead_s == 5e-7
    with pytest.raises(InputError, match="a part of alpha"):
        contenders_of_fits(fits, 1.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tuky", "did you mean tukey"),
        ("alpha=1e-6", "both a latency and a time per byte"),
        ("alpha=1e-6,beta=fast", "beta=fast is no time"),
        ("alpha=1e-6,beta=-1", "beta=-1 is no time"),
        ("alpha=1e-6,beta=nan", "beta=nan is no time"),
        ("alpha=1e-6,alpha=1e-6,beta=1", "alpha is given twice"),
        ("alpha=1e-6,L=1e-6,beta=1", "alpha is L"),
        ("alpha=1e-6,beta=1,speed=2", "speed is no parameter"),
        ("alpha=1e-6,beta=1,ranks_per_node=4", "two levels need"),
        ("alpha=1,beta=1,inside_alpha=1,inside_beta=1,ranks_per_node=2048", "2 to 1024"),
        ("alpha=1e-6,beta=1,inside_alpha=1e-7,inside_beta=1,ranks_per_node=2.5", "two levels need"),
    ],
)
def test_machines_that_cannot_be_are_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_machine(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nowhere", "neither a folder of a run nor a profile"),
        ("period=1ms", "nor a profile"),
        ("period=1ms,duration=25", "duration=25 is no time with its unit"),
        ("period=0ms,duration=25us", "period=0ms is no time"),
        ("period=1us,duration=25us", "shorter than the period"),
        ("period=1ms,duration=25us,arrivals=often", "nor a profile"),
    ],
)
def test_noise_that_cannot_be_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_noise(text)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "either folders of runs of allreduce or --machine"),
        (["nowhere"], "nowhere is not a run"),
        (["deepbench:V100"], "deepbench:V100: published times cannot be fitted"),
        (["--machine", "tukey", "--overhead", "1e-6"], "--overhead: only for fitted runs"),
        (["--machine", "tukey", "--check", "x"], "--check: only for fitted runs"),
        (["--machine", "tukey", "--ranks", "1"], "--ranks: 1 to 1"),
        (["--machine", "tukey", "--ranks", "2097152"], "2 to 1048576"),
        (["--machine", "tukey", "--factor", "1"], "factor of at least 2"),
        (["--machine", "tukey", "--min-bytes", "64", "--max-bytes", "8"], "--min-bytes 64"),
        (["--machine", "tukey", "--seed", "-1"], "must not be negative"),
        (["--machine", "tukey", "--picture", "map.gif"], "must end in .svg"),
        (["--machine", "tukey", "--picture", "none/map.svg"], "there is no folder none"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", *arguments]) == 2
    assert words in capsys.readouterr().err
