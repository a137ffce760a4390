"""What others read of a run: the frame, and everything that docs/results.md promises."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest

from microbench.record import Record, Status
from microbench.store import Run, RunInfo, frame
from records import create, make_record, not_measured, start

ROOT = Path(__file__).parent.parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_the_frame_has_a_row_for_each_record(folder: Path) -> None:
    exact = 2**60 + 1  # no float64 holds it
    create(folder, make_record(bytes=exact), not_measured("unsupported", "no units", bytes=None, index=1))
    table = frame(Run.load(folder))
    assert list(table["m"]) == [1760, 1760]
    assert list(table["suite"]) == ["training", "training"]
    assert table["bytes"].iloc[0] == exact
    assert table["bytes"].isna().tolist() == table["median_s"].isna().tolist() == [False, True]
    assert table["median_s"].dtype == table["first_execution_s"].dtype == np.float64
    np.testing.assert_array_equal(table["samples_s"].iloc[0], make_record().samples_s)
    assert table["samples_s"].iloc[1].dtype == np.float64
    stored = {field.encode_name for field in msgspec.structs.fields(Record)} - {"problem", "labels"}
    assert stored <= {*table.columns}


def test_the_frame_of_an_empty_run_has_the_same_columns(folder: Path) -> None:
    table = frame(Run.load(create(folder)))
    assert len(table) == 0
    assert table["median_s"].dtype == np.float64
    assert {"pass", "status", "samples_s"} <= {*table.columns}


def test_reading_needs_neither_compiled_modules_nor_big_libraries() -> None:
    program = """
import sys, msgspec  # which loads fcntl under Python 3.10
before = {*sys.modules}
import microbench.store, microbench.figures, microbench.formats, microbench.summarise
print(*{*sys.modules} - before)
"""
    loaded = set(start(program).communicate()[0].split())
    assert not loaded & {"numpy", "pandas", "scipy", "rich", "tabulate", "fcntl"}
    assert not {name for name in loaded if name.startswith("microbench._")}


# --- the document -------------------------------------------------------------------------------------------

DOCUMENT = (ROOT / "docs" / "results.md").read_text()


def _section(title: str) -> str:
    return re.split(r"^## ", DOCUMENT, flags=re.MULTILINE)[1:][_titles().index(title)]


def _titles() -> list[str]:
    return re.findall(r"^## (.*)$", DOCUMENT, re.MULTILINE)


@pytest.mark.parametrize(("title", "struct"), [("run.json", RunInfo), ("records.jsonl", Record)])
def test_every_field_is_documented_and_nothing_else(title: str, struct: type[msgspec.Struct]) -> None:
    documented = re.findall(r"^\| `(\w+)` \|", _section(title), re.MULTILINE)
    assert documented == [field.encode_name for field in msgspec.structs.fields(struct)]


def test_every_status_is_documented() -> None:
    assert re.findall(r"^\| `(\w+)` \|", _section("Statuses"), re.MULTILINE) == [*get_args(Status)]


def _blocks(language: str) -> Iterator[str]:
    return iter(re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL))


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(tmp_path / "runs/example", make_record(), make_record(index=1), not_measured("crashed", "gone"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("example")
def test_the_documented_python_works(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for block in _blocks("python"):
        exec(block, names)
    assert "onednn" in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
@pytest.mark.usefixtures("example")
def test_the_documented_jq_works() -> None:
    for block in _blocks("sh"):
        assert subprocess.run(["sh", "-ec", block], stdout=subprocess.PIPE, check=True).stdout
