"""A run on disk: nothing stored is lost or changed, whatever becomes of the process that writes."""

from __future__ import annotations

import os
import random
import re
import time
import warnings
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microbench.errors import InputError, StoreError
from microbench.record import SCHEMA_VERSION, Record, Status
from microbench.store import Run, RunWriter, encode
from records import create, make_info, make_record, not_measured, records_of, start


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


# --- what is read is what was written -------------------------------------------------------------------

_FINITE = st.floats(allow_nan=False, allow_infinity=False)
_SCALAR = st.integers() | _FINITE | st.booleans() | st.text()
_JSON = st.recursive(
    st.none() | _SCALAR, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6
)
_BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(),
    int: st.integers(),
    Status: st.sampled_from(get_args(Status)),
    list[float]: st.lists(_FINITE),
    list[str]: st.lists(st.text()),
    float | None: st.none() | _FINITE,
    int | None: st.none() | st.integers(),
    str | None: st.none() | st.text(),
    dict[str, Any]: st.dictionaries(st.text(), _JSON, max_size=3),
    dict[str, int]: st.dictionaries(st.text(), st.integers()),
    dict[str, float]: st.dictionaries(st.text(), _FINITE),
    dict[str, str]: st.dictionaries(st.text(), st.text()),
    dict[str, int | float | bool | str]: st.dictionaries(st.text(), _SCALAR),
}
_ANY = {field.name: _BY_TYPE[field.type] for field in msgspec.structs.fields(Record)}
RECORDS = st.builds(Record, **_ANY)
_TIME = st.floats(1e-15, 1e15)
STORED = st.builds(
    Record,
    **_ANY
    | dict.fromkeys(("median_s", "ci_low_s", "ci_high_s"), st.none() | _TIME)
    | {"samples_s": st.lists(_TIME), "summary": st.dictionaries(st.text(), _TIME)},
)


@given(RECORDS)
def test_any_record_reads_back_exactly(record: Record) -> None:
    line = encode(record)
    assert b"\n" not in line
    assert msgspec.json.decode(line, type=Record) == record
    # repr tells 1 from 1.0 and 0.0 from -0.0, which == does not.
    assert repr(msgspec.json.decode(line, type=Record)) == repr(record)


@given(st.lists(STORED.filter(lambda record: record.status != "interrupted"), max_size=4), st.integers(0, 4))
@settings(max_examples=30, deadline=None)
def test_a_run_holds_its_records_in_order(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record], resumed_after: int
) -> None:
    folder = create(tmp_path_factory.mktemp("run"), *records[:resumed_after])
    with RunWriter.resume(folder) as writer:
        for record in records[resumed_after:]:
            writer.append(record)
        assert writer.count == len(records)
    assert records_of(folder) == records


def test_the_run_says_what_it_is(folder: Path) -> None:
    info = make_info(seed=2**48 - 1, options={"confidence": 0.99}, ceilings={"fp32": 1.5e11})
    RunWriter.create(folder, info).close()
    assert Run.load(folder).info == info
    assert Run.load(str(folder)).info.schema_version == SCHEMA_VERSION


def test_summaries_are_the_records_without_the_bulk(folder: Path) -> None:
    create(folder, make_record(), not_measured("crashed", "gone"))
    for summary, record in zip(Run.load(folder).summaries(), records_of(folder), strict=True):
        for name in summary.__struct_fields__:
            if name not in ("samples_s", "facts"):
                assert getattr(summary, name) == getattr(record, name)


@pytest.mark.parametrize("time", [0.0, -1e-3, 1e-300, 1e300])
@pytest.mark.parametrize("field", ["median_s", "ci_low_s", "ci_high_s", "mean", "samples_s"])
def test_times_are_such_as_can_be_measured(folder: Path, field: str, time: float) -> None:
    changes = {"mean": {"summary": {"mean": time}}, "samples_s": {"samples_s": [1e-3, time]}}
    record = make_record(**changes.get(field, {field: time}))
    with RunWriter.create(folder, make_info()) as writer:
        writer.append(make_record())
        with pytest.raises(ValueError, match="would not read back: a time is not"):
            writer.append(record)
    with (folder / "records.jsonl").open("ab") as file:
        file.write(encode(record) + b"\n")
    run = Run.load(folder)
    for read in (run.records, run.summaries)[: 1 if field == "samples_s" else 2]:
        with pytest.raises(
            InputError, match=r"records\.jsonl:2: not a record \(a time is not from 1e-15 to 1e\+15 s\)"
        ):
            list(read())
    if field == "samples_s":
        assert len(list(run.summaries())) == 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("median_s", lambda bad: bad),
        ("samples_s[1]", lambda bad: [1.0, bad]),
        ("facts.probes[0].rate", lambda bad: {"probes": [{"rate": bad}]}),
    ],
)
def test_what_is_not_finite_is_refused_and_named(folder: Path, field: str, value: Any, bad: float) -> None:
    record = make_record(**{re.split(r"[.\[]", field)[0]: value(bad)})
    with RunWriter.create(folder, make_info()) as writer:
        with pytest.raises(ValueError, match=re.escape(f"{field} is not finite")):
            writer.append(record)
        writer.append(make_record())
    assert records_of(folder) == [make_record()]


@pytest.mark.parametrize(
    "record",
    [
        make_record(facts={"value": object()}),
        make_record(facts={"value": np.float32(1)}),
        make_record(reason="\ud800"),
        make_record(status="fine"),
        make_record(threads="4"),
    ],
)
def test_what_would_not_read_back_is_refused(folder: Path, record: Record) -> None:
    with RunWriter.create(folder, make_info()) as writer:
        with pytest.raises(ValueError, match=r"cannot be stored|would not read back"):
            writer.append(record)
        writer.append(make_record())
    assert records_of(folder) == [make_record()]


def test_infinities_are_refused_before_a_run_is_started(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"ceilings\.fp32 is not finite"):
        RunWriter.create(folder, make_info(ceilings={"fp32": float("inf")}))
    assert not folder.exists()


# --- writers that end before their time -------------------------------------------------------------------

APPEND_FOREVER = """
import sys
from microbench.store import RunWriter
from records import make_record
with RunWriter.resume(sys.argv[1]) as writer:
    while True:
        writer.append(make_record(index=writer.count, samples_s=[0.1] * (writer.count % 7 * 1000)))
        print(writer.count, flush=True)
"""


def test_a_killed_writer_loses_at_most_the_record_being_written(folder: Path) -> None:
    create(folder)
    rng = random.Random(1)
    for _ in range(8):
        with start(APPEND_FOREVER, folder) as writer:
            assert writer.stdout is not None
            acknowledged = int(writer.stdout.readline())
            time.sleep(rng.uniform(0, 0.03))
            writer.kill()
            acknowledged = max([acknowledged, *map(int, writer.stdout)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            found = [record.index for record in records_of(folder)]
        assert found == [*range(len(found))]
        assert acknowledged <= len(found) <= acknowledged + 1


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_wherever_the_last_line_is_torn_the_others_are_kept(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = create(tmp_path_factory.mktemp("run"), *[make_record(index=index) for index in range(3)])
    path = folder / "records.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    torn = lines[2][: data.draw(st.integers(1, len(lines[2]) - 1))]
    path.write_bytes(b"".join([*lines[:2], torn]))
    run = Run.load(folder)
    for read in (run.records, run.summaries):
        with pytest.warns(UserWarning, match=r"records\.jsonl:3: the last record is unfinished"):
            assert [record.index for record in read()] == [0, 1]
    with RunWriter.resume(folder) as writer:
        assert writer.count == 2
        writer.append(make_record(index=7))
    assert [record.index for record in run.records()] == [0, 1, 7]


HOLD_OPEN = """
import sys
from microbench.store import RunWriter
writer = RunWriter.resume(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_second_writer_is_refused_until_the_first_is_gone(folder: Path) -> None:
    create(folder, make_record())
    with start(HOLD_OPEN, folder) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        with pytest.raises(InputError, match="is being written by another process"):
            RunWriter.resume(folder)
        assert len(records_of(folder)) == 1
        holder.kill()
        holder.wait()
        RunWriter.resume(folder).close()


def test_two_writers_in_one_process_are_two(folder: Path) -> None:
    with RunWriter.create(folder, make_info()), pytest.raises(InputError, match="another process"):
        RunWriter.resume(folder)
    RunWriter.resume(folder).close()


FILL_THE_DISK = """
import resource, signal, sys
from microbench.errors import StoreError
from microbench.store import RunWriter
from records import make_record
writer = RunWriter.resume(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    while True:
        writer.append(make_record(index=writer.count))
except StoreError as error:
    print(writer.count, error)
try:
    writer.append(make_record())
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize("size", [500, 4096, 5000])
def test_a_full_disk_ends_the_run_and_keeps_it_whole(folder: Path, size: int) -> None:
    create(folder)
    output, _ = start(FILL_THE_DISK, folder, size).communicate()
    failed, closed = output.splitlines()
    count, message = failed.split(" ", 1)
    assert f"cannot write record {count} (File too large); the {count} records before it are kept" in message
    assert "the run was closed" in closed
    content = (folder / "records.jsonl").read_bytes()
    assert content[-1:] in (b"", b"\n")
    assert len(content) <= size < len(content) + len(encode(make_record())) + 2
    with RunWriter.resume(folder) as writer:
        assert writer.count == int(count)
        writer.append(make_record(index=writer.count))
    assert [record.index for record in records_of(folder)] == [*range(int(count) + 1)]


def test_an_interrupt_while_writing_leaves_no_half_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with RunWriter.create(folder, make_info()) as writer:
        writer.append(make_record(index=0))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", interrupt)
            with pytest.raises(KeyboardInterrupt):
                writer.append(make_record(index=1))
        writer.append(make_record(index=2, status="interrupted"))
        assert writer.count == 2
    assert [record.index for record in records_of(folder)] == [0, 2]


def test_resuming_measures_again_what_was_interrupted(folder: Path) -> None:
    create(folder, make_record(index=0), make_record(index=1), make_record(index=2, status="interrupted"))
    for _ in range(2):
        with RunWriter.resume(folder) as writer:
            assert writer.count == 2
    assert [record.index for record in records_of(folder)] == [0, 1]


def test_a_failing_disk_is_reported_as_such(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    writer = RunWriter.create(folder, make_info())
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match="Input/output error"):
        writer.append(make_record())
    assert records_of(folder) == []
