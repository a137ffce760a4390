"""Folders that are no run, a damaged one, one of another version, or not to be read: one sentence each."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from microbench.errors import InputError
from microbench.record import SCHEMA_VERSION
from microbench.store import Run, RunWriter, default_folder
from records import create, make_info, make_record, records_of, start


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_a_run_is_not_overwritten(folder: Path) -> None:
    create(folder, make_record())
    with pytest.raises(InputError, match="holds a run already: go on with it by --resume"):
        RunWriter.create(folder, make_info())
    assert records_of(folder) == [make_record()]


def test_a_folder_with_other_things_is_left_alone(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.tex").write_text("...")
    with pytest.raises(InputError, match="is not empty and holds no run"):
        RunWriter.create(folder, make_info())
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]


def test_what_a_writer_killed_while_starting_leaves_can_be_started_again(folder: Path) -> None:
    folder.mkdir()
    (folder / "records.jsonl").touch()
    (folder / "run.json.partial").write_text('{"schema_v')
    with pytest.raises(InputError, match="holds no run to resume: start it without --resume"):
        RunWriter.resume(folder)
    assert records_of(create(folder, make_record())) == [make_record()]


def test_records_without_their_run_are_not_overwritten(folder: Path) -> None:
    create(folder, make_record())
    (folder / "run.json").unlink()
    with pytest.raises(InputError, match="is not empty and holds no run"):
        RunWriter.create(folder, make_info())
    assert (folder / "records.jsonl").stat().st_size > 0


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write a run here"):
        RunWriter.create(tmp_path / "file" / "run", make_info())
    with pytest.raises(InputError, match="cannot write a run here"):
        default_folder("gemm", datetime.now(timezone.utc), tmp_path / "file")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "No such file or directory"),
        (lambda folder: (folder / "run.json").unlink(), "is not a run"),
        (lambda folder: (folder / "records.jsonl").unlink(), "records.jsonl is missing"),
        (lambda folder: (folder / "run.json").write_text("{"), "does not describe a run"),
        (lambda folder: (folder / "run.json").write_text("{}"), "does not describe a run"),
        (lambda folder: (folder / "run.json").write_bytes(b'{"a": "\xff"}'), "does not describe a run"),
        (lambda folder: (folder / "run.json").write_text("[" * 10**6), "does not describe a run"),
    ],
)
def test_what_is_no_run_is_refused(folder: Path, damage: Any, message: str) -> None:
    create(folder, make_record())
    damage(folder)
    for use in (Run.load, RunWriter.resume):
        with pytest.raises(InputError, match=re.escape(message) if use == Run.load else ".") as raised:
            use(folder)
        assert str(folder) in str(raised.value)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1, 10**30])
def test_other_schema_versions_are_refused_by_name(folder: Path, version: int) -> None:
    create(folder, make_record())
    path = folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": version, "kernel": 7}))
    for use in (Run.load, RunWriter.resume):
        with pytest.raises(InputError, match=f"schema version {version}, written by microbench 0.1.0; this"):
            use(folder)


def test_fields_of_a_later_version_that_only_added_some_are_passed_over(folder: Path) -> None:
    create(folder, make_record())
    for name in ("run.json", "records.jsonl"):
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | {"from_the_future": 1}) + "\n")
    assert records_of(folder) == [make_record()]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"null",
        b'{"kernel": ',
        b"\x00" * 80,
        b"\xff\xfe",
        b"[" * 10**6,
        b'{"kernel": "gemm", "status": "fine"}',
    ],
)
def test_a_damaged_line_is_named_by_file_and_line(folder: Path, line: bytes) -> None:
    create(folder, make_record(), make_record(), make_record())
    path = folder / "records.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], line, lines[2], b""]))
    run = Run.load(folder)
    reads: list[Callable[[], object]] = [
        lambda: list(run.records()),
        lambda: list(run.summaries()),
        lambda: RunWriter.resume(folder),
    ]
    for read in reads:
        with pytest.raises(InputError, match=rf"^{re.escape(str(path))}:2: not a record .*delete the line$"):
            read()
    path.write_bytes(b"\n".join([lines[0], lines[2], b""]))
    RunWriter.resume(folder).close()  # a refused writer must not stay in the way


READ_AS_NOBODY = """
import os, sys
from microbench.errors import InputError, StoreError
from microbench.store import Run
if os.geteuid() == 0:
    os.setuid(65534)
try:
    Run.load(sys.argv[1])
except InputError as error:
    print(error)
"""


def test_an_unreadable_folder_is_named(folder: Path) -> None:
    create(folder, make_record())
    folder.chmod(0)
    try:
        output, _ = start(READ_AS_NOBODY, folder).communicate()
    finally:
        folder.chmod(0o700)
    assert output.startswith(f"{folder} is not a run (run.json: Permission denied)")


def test_records_that_became_unreadable_are_named(folder: Path) -> None:
    run = Run.load(create(folder, make_record()))
    (folder / "records.jsonl").unlink()
    with pytest.raises(InputError, match=r"records\.jsonl: cannot be read \(No such file"):
        list(run.records())


# --- the folder's name --------------------------------------------------------------------------------------


def test_default_folders_are_new_each_time(tmp_path: Path) -> None:
    now = datetime(2025, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    folders = [default_folder("gemm", now, tmp_path / "runs") for _ in range(3)]
    assert [path.name for path in folders] == [f"gemm-20250102T010405Z{end}" for end in ("", "-2", "-3")]
    assert records_of(create(folders[1], make_record())) == [make_record()]
