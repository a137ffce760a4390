"""A run of collectives as its keeper has it: the folder, and what is still to be measured."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from microbench import __version__
from microbench.mpi.dialogue import Begin
from microbench.mpi.options import DEFAULT_PROBLEMS, CollectiveOptions
from microbench.plan import Item, fingerprint, order
from microbench.resuming import check_resumable
from microbench.store import Run, RunInfo, RunWriter, default_folder


@dataclass(frozen=True)
class Kept:
    """An open run.

    Attributes:
        items: the whole plan.
        queue: what of it is measured now, in this order.
        repeat: as which repeat: every start of the ranks measures the next one that is not complete.
    """

    writer: RunWriter
    items: list[Item]
    queue: list[Item]
    repeat: int

    @classmethod
    def open(cls, options: CollectiveOptions, items: list[Item], begin: Begin) -> Kept:
        """Makes the run that ``begin`` asks for, or goes on with it. Raises InputError where that cannot be."""
        if begin.resume:
            writer = RunWriter.resume(begin.output or "")
            try:
                check_resumable(writer, options.plain(), fingerprint(items), begin.environment)
            except BaseException:
                writer.close()
                raise
        else:
            now = datetime.now(timezone.utc)
            folder = default_folder(options.kernel, now) if begin.output is None else Path(begin.output)
            writer = RunWriter.create(folder, _info(options, items, begin, now))
        done = {(record.repeat, record.index) for record in Run.load(writer.folder).summaries()}
        repeats = options.repeat
        left = [
            (repeat, item)
            for repeat in range(repeats)
            for item in order(items, repeat, repeats, writer.info.seed or 0)
            if (repeat, item.index) not in done
        ]
        current = left[0][0] if left else repeats - 1
        return cls(writer, items, [item for repeat, item in left if repeat == current], current)

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.writer.folder

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.writer.info.seed or 0

    def exit_code(self) -> int:
        """0 where every record is ok or unsupported, else 1."""
        statuses = {record.status for record in Run.load(self.folder).summaries()}
        return int(not statuses <= {"ok", "unsupported"})

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()


def _info(options: CollectiveOptions, items: list[Item], begin: Begin, now: datetime) -> RunInfo:
    asked = " ".join(options.problem) or options.problems
    low, high, factor = options.sizes
    sizes = f"{low} to {high} bytes, times {factor}"
    return RunInfo(
        microbench_version=__version__,
        created=now.isoformat(timespec="seconds"),
        command=begin.command,
        kernel=options.kernel,
        problem_set=asked or (sizes if options.swept else DEFAULT_PROBLEMS),
        planned_records=len(items) * options.repeat,
        seed=options.seed if options.seed is not None else secrets.randbits(32),
        options=options.plain(),
        plan={
            "fingerprint": fingerprint(items),
            "order": "table" if options.repeat == 1 else "shuffled in every repeat",
            "left_out": 0,
            "chosen_by": "everything asked for",
            "ranks": begin.ranks,
            "hosts": begin.hosts,
        },
        environment=begin.environment,
    )
