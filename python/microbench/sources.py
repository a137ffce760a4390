"""Where times to be compared come from: stored runs, and results that others published.

A source is one device, or one state of one: what a column of a comparison stands for. Readers use `time_s` for the time
of a record, because a published record has a mean and no median, and show `Source.limits` beside every table.
"""

from __future__ import annotations

import dataclasses
import filecmp
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from microbench.environment import differences, warnings
from microbench.errors import InputError
from microbench.figures import RecordSummary, Row, measured
from microbench.record import Record
from microbench.store import RECORDS_FILE, RUN_FILE, Run, RunInfo

# Parts of an environment that say how far times of processors can be trusted.
_OF_PROCESSORS = ("clock", "limits", "affinity", "load")

PREFIX = "deepbench:"

_Row = TypeVar("_Row", Record, RecordSummary)


class Part(Protocol):
    """What a source is made of: a `microbench.store.Run` or a `microbench.published.Published`."""

    @property
    def info(self) -> RunInfo: ...

    def records(self) -> Iterator[Record]: ...

    def summaries(self) -> Iterator[RecordSummary]: ...


@dataclass(frozen=True)
class Source:
    """Times of one device; the duck type of `microbench.store.Run`.

    Attributes:
        name: as short as tables need it; `load_all` makes names different from each other.
        device: the processor or accelerator; "" where it is unknown.
        limits: sentences that must accompany every table which shows this source.
        parts: the runs that it was read from, at least one.
        published: whether it holds published figures (means, without distributions) instead of measurements.
    """

    name: str
    device: str
    limits: tuple[str, ...]
    parts: tuple[Part, ...]
    published: bool = False

    @property
    def info(self) -> RunInfo:
        """That of the first run; of several with all their kernels and the sum of their planned records."""
        infos = [part.info for part in self.parts]
        return msgspec.structs.replace(
            infos[0],
            kernel=", ".join(dict.fromkeys(info.kernel for info in infos)),
            planned_records=sum(info.planned_records for info in infos),
        )

    def records(self) -> Iterator[Record]:
        """The records of all parts.

        ``repeat`` numbers the processes of the whole source, ``index`` its configurations: those of later parts
        continue where the part before ended.

        Raises:
            InputError: a line is not a record.
        """
        return _numbered(part.records() for part in self.parts)

    def summaries(self) -> Iterator[RecordSummary]:
        """Like `records`, without the samples: several times faster."""
        return _numbered(part.summaries() for part in self.parts)


def _numbered(parts: Iterator[Iterator[_Row]]) -> Iterator[_Row]:
    repeats = indices = 0
    for records in parts:
        next_repeats, next_indices = repeats, indices
        for record in records:
            moved = record
            if repeats or indices:
                moved = msgspec.structs.replace(
                    record, repeat=record.repeat + repeats, index=record.index + indices
                )
            next_repeats = max(next_repeats, moved.repeat + 1)
            next_indices = max(next_indices, moved.index + 1)
            yield moved
        repeats, indices = next_repeats, next_indices


def time_s(record: Row) -> float | None:
    """The time of a record in seconds: the median where it was measured, the mean where it was published.

    None where there is no time, or one that must not be used because the result was wrong.
    """
    if measured(record):
        return record.median_s
    return record.summary.get("mean") if record.status == "ok" else None


def load(text: str) -> Source:
    """The source called ``text``: a run's folder, a folder of runs of one device, or ``deepbench:V100``.

    Raises:
        InputError: there is no such source, or the runs in the folder are of several devices.
    """
    if text.startswith(PREFIX):
        from microbench import published

        found = published.load(text.removeprefix(PREFIX))
        device = str(found.info.environment["device"]["name"])
        short = next(name for name in published.names() if published.device(name) == device)
        return Source(PREFIX + short, device, found.limits, (found,), published=True)
    folder = Path(text)
    within = (
        [] if (folder / RUN_FILE).exists() else sorted(path.parent for path in folder.glob(f"*/{RUN_FILE}"))
    )
    runs = [Run.load(path) for path in within or [folder]]
    devices = {device_name(run.info): run.folder for run in runs}
    if len(devices) > 1:
        (one, first), (other, second) = list(devices.items())[:2]
        raise InputError(
            f"{folder} holds runs of several devices ({first}: {one}; {second}: {other}): give them one by one"
        )
    return Source(folder.resolve().name, next(iter(devices)), tuple(_limits(runs)), tuple(runs))


def load_all(texts: Sequence[str]) -> list[Source]:
    """`load` for each, with names that differ: as many last parts of the path as that takes.

    Raises:
        InputError: as `load`; or one source is given twice.
    """
    sources = [load(text) for text in texts]
    paths = [
        (source.name,) if source.published else Path(text).resolve().parts
        for source, text in zip(sources, texts, strict=True)
    ]
    for number, path in enumerate(paths):
        if path in paths[:number]:
            raise InputError(f"{texts[number]} is given twice: give different runs")
    named = []
    for source, path in zip(sources, paths, strict=True):
        rivals = [other for other in paths if other != path]
        length = next(
            length
            for length in range(1, len(path) + 1)
            if all(other[-length:] != path[-length:] for other in rivals) or length == len(path)
        )
        named.append(dataclasses.replace(source, name="/".join(path[-length:])))
    return named


def refuse_copies(sources: Sequence[Source]) -> None:
    """The same measurements twice would be taken for twice as many, or for a second run that agrees.

    Raises:
        InputError: two runs of the sources are one, or one is a copy of the other.
    """
    known: dict[str, list[Run]] = {}
    for run in (part for source in sources for part in source.parts if isinstance(part, Run)):
        alike = known.setdefault(run.info.created, [])
        for earlier in alike:
            first, second = (each.folder / RECORDS_FILE for each in (earlier, run))
            if first.stat().st_size and filecmp.cmp(first, second, shallow=False):
                raise InputError(
                    f"{run.folder} and {earlier.folder} hold the same measurements, started at {run.info.created}: "
                    "give different runs"
                )
        alike.append(run)


def device_name(info: RunInfo) -> str:
    """The GPU, of a collective those of its ranks, or else the processor with its cores; "" where not recorded."""
    gpus = (info.environment.get("mpi") or {}).get("gpus") or ()
    if name := accelerator(info) or ", ".join(dict.fromkeys(str(gpu["name"]) for gpu in gpus)):
        return name
    processor = info.environment.get("processor") or {}
    model, cores = processor.get("model_name"), processor.get("cores")
    return "" if not model else f"{model}, {cores} cores" if cores else str(model)


def accelerator(info: RunInfo) -> str:
    """The GPU that a run's kernels were timed by; "" where processors timed, as they do collectives of GPUs."""
    for known, name in ((info.ceilings, "name"), (info.environment, "device")):
        if found := (known.get("device") or {}).get(name):
            return str(found)
    return ""


def doubts_of(info: RunInfo) -> list[str]:
    """What makes a run's numbers less certain, of who timed: what processors do does not change what a GPU timed."""
    left_out = _OF_PROCESSORS if accelerator(info) else ()
    return warnings({name: known for name, known in info.environment.items() if name not in left_out})


def _limits(runs: Sequence[Run]) -> Iterator[str]:
    """What to know of several runs that are taken as one."""
    if len(runs) > 1:
        changed = sorted(
            {
                path.partition(".")[0]
                for run in runs[1:]
                for path, _, _ in differences(runs[0].info.environment, run.info.environment)
            }
        )
        within = f"; their set-ups differ in: {', '.join(changed)}" if changed else ""
        yield f"read from {len(runs)} runs{within}"
