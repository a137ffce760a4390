"""The process that keeps a run of collectives: it owns the store, what is printed and the time limits.

Rank 0 starts it in a session of its own, so that it outlives the ranks: a launcher ends all of them when one dies.
Started as ``python -m microbench.mpi.keeper DESCRIPTOR`` with a connection to rank 0 (see `dialogue`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from datetime import datetime, timezone
from typing import Any, TextIO

from microbench.errors import InputError, StoreError
from microbench.mpi import link, plan
from microbench.mpi.dialogue import (
    Accepted,
    Begin,
    Doing,
    Done,
    End,
    Finished,
    FromRank,
    Go,
    Line,
    Next,
    Refused,
    Watch,
)
from microbench.mpi.options import CollectiveOptions
from microbench.mpi.recording import cost_s, make_record, timeout_s
from microbench.mpi.store import Kept
from microbench.mpi.table import CollectivePrinter, Conditions, write_run
from microbench.plan import Item
from microbench.protocol import Measurement
from microbench.store import Run

_STARTING_S = 600.0
# In which ranks that run answer.
_ANSWER_S = 2.0


class _Lost(Exception):
    pass


class Keeper:
    """One run, from its begin to its end.

    ``rank_0`` is the process at the other end of ``line``, where that is this one's parent.
    """

    def __init__(self, line: Line, output: TextIO, messages: TextIO, rank_0: int | None = None) -> None:
        self._line = line
        self._rank_0 = rank_0
        self._output = output
        self._messages = messages
        self._links = link.Links(line.socket)
        self._doing = "starting"
        self._ended = False

    def close(self) -> None:
        """Gives up all connections."""
        self._links.close()

    def run(self) -> int:
        """Keeps the run that rank 0 asks for; returns the exit code.

        Raises EOFError where rank 0 is gone before there is a run.
        """
        begin: Begin = self._line.hear(FromRank)
        options = CollectiveOptions.of(begin.options)
        try:
            items = plan.build(options, begin.ranks)
            kept = Kept.open(options, items, begin)
        except (InputError, StoreError) as error:
            self._say(str(error))
            self._line.say(Refused(2 if isinstance(error, InputError) else 1))
            return 0
        with kept:
            meeting = self._links.listener.meeting
            self._line.say(
                Accepted(
                    queue=[item.index for item in kept.queue],
                    repeat=kept.repeat,
                    seed=kept.seed,
                    addresses=list(meeting.addresses),
                    port=meeting.port,
                    token=meeting.token,
                )
            )
            total = sum(cost_s(item, options) for item in kept.queue)
            self._say(
                f"{len(kept.queue)} records into {kept.folder}; about {max(1, round(total))} s to go",
                plain=True,
            )
            printer = CollectivePrinter(self._output, Conditions.of(kept.writer.info))
            try:
                return self._keep(kept, options, begin, printer)
            except StoreError as error:
                self._say(str(error))
                self._end_ranks()
                return 1

    def _keep(self, kept: Kept, options: CollectiveOptions, begin: Begin, printer: CollectivePrinter) -> int:
        rows = begin.form == "table"
        left = iter(kept.queue)
        item = next(left, None)
        started = datetime.now(timezone.utc)
        deadline = time.monotonic() + _STARTING_S

        def store(measurement: Measurement) -> None:
            assert item is not None
            record = make_record(item, options, kept.repeat, kept.seed, begin.ranks, started, measurement)
            kept.writer.append(record)
            if rows:
                self._print(lambda: printer.row(record))

        while True:
            try:
                message = self._hear(deadline)
            except (_Lost, TimeoutError) as error:
                measurement = self._obituary(error, options, item)
                if item is not None:  # also where it had not been begun: the run has ended there
                    store(measurement)
                self._end_ranks()
                count = kept.writer.count
                self._say(f"{measurement.reason}; {count} record{'s' * (count != 1)} kept in {kept.folder}")
                return 1
            if isinstance(message, Watch):
                if message.unreachable:
                    ranks = ", ".join(map(str, message.unreachable))
                    self._say(f"ranks that cannot be watched, because no connection reaches rank 0: {ranks}")
            elif isinstance(message, Next):
                assert item is not None
                self._doing = "starting"
                started = datetime.now(timezone.utc)
                deadline = time.monotonic() + timeout_s(item, options)
            elif isinstance(message, Doing):
                self._doing = message.what
            elif isinstance(message, Done):
                store(message.measurement)
                item, self._doing = next(left, None), "starting"
                deadline = time.monotonic() + _STARTING_S
                self._line.say(Go())
            elif isinstance(message, End):
                self._print(
                    printer.finish
                    if rows
                    else lambda: write_run(Run.load(kept.folder), begin.form, self._output)
                )
                for connection in self._links.by_rank.values():
                    link.dismiss(connection)
                self._line.say(Finished(kept.exit_code()))
                return 0

    def _hear(self, deadline: float) -> Any:
        """Rank 0's next message, while ranks connect.

        Raises:
            _Lost: a rank is gone, or was told to end; all that was heard of it is in the trouble.
            TimeoutError: nothing came until ``deadline``.
        """
        while True:
            message = self._line.next(FromRank)
            if message is not None:  # also what was said before a rank went
                return message
            if self._ended:
                raise _Lost
            if self._links.trouble:
                until = time.monotonic() + link.GRACE_S
                while (left := until - time.monotonic()) > 0:
                    self._attend(left)
                self._ended = True
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._attend(left)

    def _attend(self, timeout_s: float) -> None:
        if self._links.attend(timeout_s):
            try:
                self._line.receive()
            except EOFError:
                self._links.leave_other()
                self._links.note_gone(0)

    def _obituary(self, error: Exception, options: CollectiveOptions, item: Item | None) -> Measurement:
        if isinstance(error, TimeoutError):
            limit_s = _STARTING_S if item is None else timeout_s(item, options)
            silent = self._silent()
            who = (
                f", and rank{'s' * (len(silent) > 1)} {', '.join(map(str, silent))} did not answer"
                if silent
                else ""
            )
            reason = f"no result after {limit_s:.4g} s (while {self._doing}){who}: raise --timeout if it is only slow"
            return Measurement(status="timeout", reason=reason)
        if self._links.gone:
            reason = (
                f"rank {self._links.gone[0]} died while {self._doing}: what the launcher and the rank "
                "itself say stands on standard error; go on without this record by --resume"
            )
            return Measurement(status="crashed", reason=reason)
        rank, number = next(iter(self._links.told.items()))
        reason = (
            f"stopped from outside ({signal.Signals(number).name} to rank {rank}, from somebody or from a launcher "
            "that was stopped itself): go on with --resume"
        )
        return Measurement(status="interrupted", reason=reason)

    def _silent(self) -> list[int]:
        """Connected ranks that do not answer."""
        asked = self._links.by_rank
        for connection in asked.values():
            link.ask(connection)
        until = time.monotonic() + _ANSWER_S
        while asked.keys() - self._links.answered and (left := until - time.monotonic()) > 0:
            self._attend(left)
        return sorted(asked.keys() - self._links.answered)

    def _end_ranks(self) -> None:
        for connection in self._links.by_rank.values():
            link.end(connection)
        # Where no connection reaches it, it is still this process's parent, if it lives.
        if 0 not in self._links.by_rank and self._rank_0 == os.getppid():
            os.kill(os.getppid(), signal.SIGKILL)

    def _print(self, write: Any) -> None:
        # The launcher may be gone, and with it whoever read what is printed; the run is kept.
        with contextlib.suppress(OSError):
            write()

    def _say(self, sentence: str, *, plain: bool = False) -> None:
        def write() -> None:
            print(sentence if plain else f"microbench: {sentence}", file=self._messages, flush=True)

        self._print(write)


def main(arguments: list[str]) -> int:
    """``arguments``: the descriptor of the connection to rank 0."""
    signal.signal(
        signal.SIGTERM, signal.SIG_IGN
    )  # launchers that end everything: the record is written first
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "sched_setaffinity"):  # rank 0 may be bound to one processor, which it needs for itself
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, range(os.cpu_count() or 1))
    connection = socket.socket(fileno=int(arguments[0]))
    try:
        with contextlib.closing(Keeper(Line(connection), sys.stdout, sys.stderr, os.getppid())) as keeper:
            return keeper.run()
    except EOFError:  # rank 0 went before there was a run
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
