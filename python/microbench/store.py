"""A run on disk: a folder with ``run.json`` (what was asked, where) and ``records.jsonl`` (a record a line).

Writing is made to be killed: one ``write`` to an append-only file and one ``fsync`` per record, so that a
process or a machine that dies loses at most the record being written. Reading needs no compiled module.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from microbench.errors import InputError, StoreError
from microbench.figures import RecordSummary, flat_columns
from microbench.record import SCHEMA_VERSION, Record

if TYPE_CHECKING:
    import pandas as pd

RUN_FILE = "run.json"
RECORDS_FILE = "records.jsonl"
_UNFINISHED_RUN_FILE = "run.json.partial"


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What ``run.json`` holds: everything that is the same for all records of a run.

    ``created`` is an ISO 8601 time in UTC; ``command`` the argument vector; ``options`` every option in
    force, defaults included; ``plan`` whatever else says what the run is to measure.
    """

    schema_version: int = SCHEMA_VERSION
    microbench_version: str
    created: str
    command: list[str]
    kernel: str
    problem_set: str
    planned_records: int
    seed: int | None = None
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    plan: dict[str, Any] = msgspec.field(default_factory=dict)
    environment: dict[str, Any] = msgspec.field(default_factory=dict)
    ceilings: dict[str, Any] = msgspec.field(default_factory=dict)


class _Version(msgspec.Struct):
    schema_version: int
    microbench_version: str = "(version unknown)"


_Line = TypeVar("_Line", Record, RecordSummary)
_RECORD = msgspec.json.Decoder(Record)
_SUMMARY = msgspec.json.Decoder(RecordSummary)
# Wide of all that can be measured; ratios and sums of such times stay finite.
_SHORTEST_S, _LONGEST_S = 1e-15, 1e15
_MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True)
class Run:
    """A stored run, opened for reading; records are read from disk each time they are asked for."""

    folder: Path
    info: RunInfo

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """Opens the run in ``folder``.

        Raises:
            InputError: it is not a run, or one of another schema version.
        """
        folder = Path(folder)
        path = folder / RUN_FILE
        try:
            content = path.read_bytes()
            if not (folder / RECORDS_FILE).is_file():
                raise InputError(f"{folder}: {RECORDS_FILE} is missing: restore it beside {RUN_FILE}")
        except OSError as error:
            raise InputError(
                f"{folder} is not a run ({RUN_FILE}: {error.strerror}): give the folder that --output named"
            ) from error
        try:
            version = msgspec.json.decode(content, type=_Version)
            if version.schema_version != SCHEMA_VERSION:
                raise InputError(
                    f"{path}: schema version {version.schema_version}, written by microbench "
                    f"{version.microbench_version}; this microbench reads version {SCHEMA_VERSION}: "
                    f"open it with {version.microbench_version} or upgrade this one"
                )
            return cls(folder, msgspec.json.decode(content, type=RunInfo))
        except _MALFORMED as error:
            raise InputError(f"{path} does not describe a run ({error}): restore it from a copy") from error

    def records(self) -> Iterator[Record]:
        """The complete records, in the order written.

        An unfinished last line, left by a process that was killed, is skipped with a warning.

        Raises:
            InputError: a line is not a record, or a time in it none; the message has file and line.
        """
        return _decode_lines(self.folder / RECORDS_FILE, _RECORD)

    def summaries(self) -> Iterator[RecordSummary]:
        """Like `records`, without the samples and the diagnostics: several times faster."""
        return _decode_lines(self.folder / RECORDS_FILE, _SUMMARY)


def check_free(folder: Path) -> None:
    """Raises InputError where ``folder`` exists and holds a run, or something else."""
    with _explained(folder):
        names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    # An empty records file alone is what a process killed while starting leaves behind.
    if RUN_FILE in names or not names <= {RECORDS_FILE, _UNFINISHED_RUN_FILE}:
        raise _occupied(folder)


class RunWriter:
    """Appends records to a run and keeps every other writer out for as long as it lives.

    Attributes:
        folder: the run's folder.
        info: what its ``run.json`` holds.
        count: records stored so far, those found on resuming included.
    """

    def __init__(self, folder: Path, info: RunInfo, descriptor: int, size: int, count: int) -> None:
        self.folder = folder
        self.info = info
        self.count = count
        self._size = size
        self._descriptor: int | None = descriptor

    @classmethod
    def create(cls, folder: str | Path, info: RunInfo) -> RunWriter:
        """Starts a run in ``folder``, which is made where it does not exist.

        Raises:
            InputError: the folder holds a run already or something else, or cannot be written to.
            ValueError: ``info`` holds NaN, an infinity or something that JSON cannot hold.
        """
        folder = Path(folder)
        content = msgspec.json.format(encode(info), indent=2) + b"\n"
        with _explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            check_free(folder)
            with _locked(folder) as descriptor:
                if (folder / RUN_FILE).exists() or os.fstat(descriptor).st_size > 0:
                    raise _occupied(folder)
                _replace_file(folder, content)
        return cls(folder, info, descriptor, 0, 0)

    @classmethod
    def resume(cls, folder: str | Path) -> RunWriter:
        """Goes on with the run in ``folder``.

        What is to be measured again is cut away: the unfinished last line of a killed writer, and a last record
        that says ``interrupted``.

        Raises:
            InputError: there is no run, its records cannot be read, or another process is writing to it.
        """
        folder = Path(folder)
        if not (folder / RUN_FILE).exists():
            raise InputError(f"{folder} holds no run to resume: start it without --resume")
        info = Run.load(folder).info
        path = folder / RECORDS_FILE
        size = count = 0
        with _explained(folder), _locked(folder) as descriptor:
            interrupted = 0
            for number, line in _lines(path):
                if line.endswith(b"\n"):
                    record = _decode_line(path, number, line, _RECORD)
                    size, count = size + len(line), count + 1
                    interrupted = len(line) if record.status == "interrupted" else 0
            if interrupted:
                size, count = size - interrupted, count - 1
            os.ftruncate(descriptor, size)
        return cls(folder, info, descriptor, size, count)

    def append(self, record: Record) -> None:
        """Stores ``record``; on return it is on the disk. After a `StoreError` the writer is closed.

        Raises:
            StoreError: the disk is full or failing; what was written of this record is cut away.
            ValueError: the record holds NaN or an infinity, would not read back, or the writer is closed.
        """
        if self._descriptor is None:
            raise ValueError(f"{self.folder}: the run was closed; nothing can be appended")
        line = encode(record) + b"\n"
        try:
            _decoded(line, _RECORD)
        except _MALFORMED as error:
            raise ValueError(f"record {record.index} would not read back: {error}") from error
        try:
            written = os.write(self._descriptor, line)
            while written < len(line):  # only a disk that is filling up: the next write says why
                written += os.write(self._descriptor, line[written:])
            os.fsync(self._descriptor)
            self._size += len(line)
            self.count += 1
        except BaseException as error:
            # An interrupt, too, must not leave half a line for the next record to be glued to.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            if not isinstance(error, OSError):
                raise
            self.close()
            raise StoreError(
                f"{self.folder}: cannot write record {record.index} ({error.strerror}); the {self.count} "
                "records before it are kept: free space there and go on with --resume"
            ) from error

    def close(self) -> None:
        """Lets other writers in. May be called twice."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def encode(value: Record | RecordSummary | RunInfo) -> bytes:
    """``value`` as JSON on one line, every float with all its digits.

    Raises:
        ValueError: it holds NaN or an infinity (JSON has neither), or something that JSON cannot hold.
    """
    for name in value.__struct_fields__:
        if (where := _non_finite(getattr(value, name))) is not None:
            raise ValueError(f"{name}{where} is not finite: JSON has no such number; unknown is None")
    try:
        return msgspec.json.encode(value)
    except (TypeError, UnicodeEncodeError) as error:
        raise ValueError(f"{type(value).__name__} cannot be stored as JSON: {error}") from error


def frame(run: Run) -> pd.DataFrame:
    """The run as a table, one row per record.

    Columns are those of `flat_columns`, then the record's fields under their stored names (units in the
    names); ``samples_s`` holds one float64 array per row, ``summary``, ``diagnostics``, ``facts`` and
    ``warmup`` dicts. Unknown is NaN in float columns and ``<NA>`` in whole-number columns.

    Raises:
        InputError: a line is not a record.
    """
    import numpy as np
    import pandas as pd

    fields = [field for field in msgspec.structs.fields(Record) if field.name not in ("problem", "labels")]
    rows = []
    for record in run.records():
        row: dict[str, Any] = dict(flat_columns(record))
        row |= {field.encode_name: getattr(record, field.name) for field in fields}
        row["samples_s"] = np.asarray(record.samples_s, dtype=np.float64)
        rows.append(row)
    table = pd.DataFrame(rows, columns=None if rows else [field.encode_name for field in fields])
    # Given outright: a column in which nothing is known would otherwise be of type object, and whole numbers
    # beside an unknown one would become inexact floats.
    dtypes: dict[Any, Literal["float64", "Int64"]] = {float | None: "float64", int | None: "Int64"}
    for field in fields:
        if field.type in dtypes:
            name = field.encode_name
            table[name] = pd.array([row[name] for row in rows], dtype=dtypes[field.type])
    return table


def default_folder(kernel: str, now: datetime, parent: str | Path = "runs") -> Path:
    """Makes and returns an empty folder ``runs/<kernel>-<UTC time>``, with ``-2``, ``-3`` ... where taken.

    Args:
        now: an aware time.

    Raises:
        InputError: the folder cannot be made.
    """
    stem = f"{kernel}-{now.astimezone(timezone.utc):%Y%m%dT%H%M%SZ}"
    with _explained(Path(parent)):
        Path(parent).mkdir(parents=True, exist_ok=True)
        for suffix in itertools.chain([""], (f"-{number}" for number in itertools.count(2))):
            with contextlib.suppress(FileExistsError):
                (folder := Path(parent) / (stem + suffix)).mkdir()
                break
    return folder


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            yield from enumerate(file, start=1)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}): check its permissions and its disk"
        ) from error


def _decode_line(path: Path, number: int, line: bytes, decoder: msgspec.json.Decoder[_Line]) -> _Line:
    try:
        return _decoded(line, decoder)
    except _MALFORMED as error:
        raise InputError(
            f"{path}:{number}: not a record ({error}): restore the file from a copy or delete the line"
        ) from error


def _decoded(line: bytes, decoder: msgspec.json.Decoder[_Line]) -> _Line:
    record = decoder.decode(line)
    known = (record.median_s, record.ci_low_s, record.ci_high_s, record.summary.get("mean"))
    times = [seconds for seconds in known if seconds is not None]
    if isinstance(record, Record):
        times += record.samples_s
    if times and not (min(times) >= _SHORTEST_S and max(times) <= _LONGEST_S):
        raise msgspec.ValidationError(f"a time is not from {_SHORTEST_S:g} to {_LONGEST_S:g} s")
    return record


def _decode_lines(path: Path, decoder: msgspec.json.Decoder[_Line]) -> Iterator[_Line]:
    for number, line in _lines(path):
        if line.endswith(b"\n"):
            yield _decode_line(path, number, line, decoder)
        else:
            warnings.warn(
                f"{path}:{number}: the last record is unfinished (killed, or still running): left out",
                UserWarning,
                stacklevel=2,
            )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """The records file opened for appending and locked; closed again only if the body fails.

    The lock belongs to the records file because that one is never replaced, and ends with its owner.
    """
    import fcntl  # here, because reading must work where there is no such module

    descriptor = os.open(folder / RECORDS_FILE, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{folder} is being written by another process: wait for it or choose another --output folder"
            ) from None
        yield descriptor
    except BaseException:
        os.close(descriptor)
        raise


def _replace_file(folder: Path, content: bytes) -> None:
    """Writes ``run.json`` so that it is there whole or not at all, even after a power cut."""
    unfinished = folder / _UNFINISHED_RUN_FILE
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(folder / RUN_FILE)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _occupied(folder: Path) -> InputError:
    if (folder / RUN_FILE).exists():
        return InputError(
            f"{folder} holds a run already: go on with it by --resume or choose another --output folder"
        )
    return InputError(f"{folder} is not empty and holds no run: choose a new or empty --output folder")


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{folder}: cannot write a run here ({error.strerror}): choose another --output folder"
        ) from error


def _non_finite(value: object) -> str | None:
    """Where in ``value`` the first NaN or infinity is, as ``.key[index]``; None if there is none."""
    items: Iterable[tuple[str, object]]
    if isinstance(value, float):
        return None if math.isfinite(value) else ""
    if isinstance(value, Mapping):
        items = ((f".{key}", item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        items = ((f"[{number}]", item) for number, item in enumerate(value))
    else:
        return None
    return next((key + rest for key, item in items if (rest := _non_finite(item)) is not None), None)
