"""The keeper of a run of collectives, with ranks that are played, and the links to it."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from microbench.mpi import link, watch
from microbench.mpi.dialogue import (
    Accepted,
    Begin,
    Doing,
    Done,
    End,
    Finished,
    FromKeeper,
    Go,
    Line,
    Next,
    Refused,
    Watch,
)
from microbench.mpi.keeper import Keeper
from microbench.mpi.options import CollectiveOptions
from microbench.protocol import Measurement
from microbench.record import Record
from microbench.store import Run


class Played:
    """Rank 0 of a run, played by the test, and the keeper in a thread."""

    def __init__(self, folder: Path, **options: Any) -> None:
        mine, its = socket.socketpair()
        self.line = Line(mine)
        self.output, self.messages = io.StringIO(), io.StringIO()
        self.folder = folder
        self._links: list[socket.socket] = []
        self._thread = threading.Thread(target=self._keep, args=(its,))
        self._thread.start()
        asked = CollectiveOptions(
            kernel="allreduce", problem=("elements=1", "elements=2"), library=("mpi",), seed=1, **options
        )
        self.begin = Begin(
            options=asked.plain(),
            ranks=3,
            hosts=1,
            environment={},
            command=["microbench", "allreduce"],
            output=str(folder),
            resume=False,
            form="table",
        )

    def _keep(self, connection: socket.socket) -> None:
        with contextlib.closing(Keeper(Line(connection), self.output, self.messages)) as keeper, connection:
            self.code = keeper.run()

    def accepted(self) -> Accepted:
        self.line.say(self.begin)
        accepted = self.line.hear(FromKeeper)
        assert isinstance(accepted, Accepted)
        self.meeting = accepted
        return accepted

    def connect(self, rank: int, token: bytes | None = None) -> socket.socket:
        """A rank's connection to the keeper."""
        connection = socket.create_connection(("127.0.0.1", self.meeting.port), 5)
        self._links.append(connection)
        connection.sendall((self.meeting.token if token is None else token) + rank.to_bytes(4, "big"))
        connection.settimeout(5)
        return connection

    def close(self) -> None:
        for each in (self.line.socket, *self._links):
            each.close()
        self.joined()

    def joined(self) -> int:
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self.code

    def records(self) -> list[Record]:
        return list(Run.load(self.folder).records())


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Callable[..., Played]]:
    played: list[Played] = []

    def start(**options: Any) -> Played:
        played.append(Played(tmp_path / "run", **options))
        return played[-1]

    yield start
    for each in played:
        each.close()


MEASURED = Measurement(
    status="ok",
    samples_s=[1e-3] * 10,
    median_s=1e-3,
    ci_low_s=0.9e-3,
    ci_high_s=1.1e-3,
    facts={"timer_resolution_s": 1e-9},
)


def test_a_run_is_kept_record_by_record(play: Callable[..., Played]) -> None:
    played = play()
    accepted = played.accepted()
    assert accepted.queue == [0, 1]
    played.line.say(Watch([2]))
    for index in accepted.queue:
        played.line.say(Next())
        played.line.say(Doing("sampling"))
        played.line.say(Done(MEASURED))
        assert isinstance(played.line.hear(FromKeeper), Go)
        assert len(played.records()) == index + 1
    played.line.say(End())
    assert played.line.hear(FromKeeper) == Finished(0)
    assert played.joined() == 0
    first, _ = played.records()
    assert first.problem == {
        "elements": 1,
        "op": "sum",
        "place": "out_of_place",
        "form": "blocking",
        "ranks": 3,
    }
    assert first.confidence == 0.99
    assert "1.000 ms" in played.output.getvalue()
    assert "cannot be watched" in played.messages.getvalue()


def test_a_rank_that_dies_ends_the_run_with_a_reason(play: Callable[..., Played]) -> None:
    played = play()
    accepted = played.accepted()
    links = [played.connect(rank) for rank in range(3)]
    assert [each.recv(16) for each in links] == [accepted.token] * 3
    played.line.say(Next())
    played.line.say(Done(MEASURED))
    played.line.hear(FromKeeper)
    played.line.say(Next())
    played.line.say(Doing("sampling"))
    links[2].close()
    assert played.joined() == 1
    kept, crashed = played.records()
    assert kept.status == "ok"
    assert crashed.status == "crashed"
    assert "rank 2 died while sampling" in crashed.reason
    assert [each.recv(1) for each in links[:2]] == [b"e"] * 2  # the others are told to end


def test_ranks_that_are_told_to_end_were_interrupted(play: Callable[..., Played]) -> None:
    played = play()
    played.accepted()
    links = [played.connect(rank) for rank in range(3)]
    for each in links:
        each.recv(16)
    played.line.say(Next())
    links[1].sendall(b"\x0f")  # what the interpreter writes for SIGTERM
    links[1].close()
    links[0].sendall(b"\x0f")
    assert played.joined() == 1
    (record,) = played.records()
    assert record.status == "interrupted"
    assert "SIGTERM" in record.reason
    again = play()
    again.begin = type(again.begin)(
        **{name: getattr(again.begin, name) for name in again.begin.__struct_fields__} | {"resume": True}
    )
    assert again.accepted().queue == [0, 1]  # it is measured again


def test_ranks_that_go_on_after_a_signal_are_stopped_all_the_same(play: Callable[..., Played]) -> None:
    played = play()
    played.accepted()
    link_1 = played.connect(1)
    link_1.recv(16)
    played.line.say(Next())
    link_1.sendall(b"\x02")
    stop = threading.Event()

    def go_on() -> None:
        while not stop.wait(0.01):
            played.line.say(Doing("sampling"))

    talking = threading.Thread(target=go_on)
    talking.start()
    try:
        assert played.joined() == 1
    finally:
        stop.set()
        talking.join()
    (record,) = played.records()
    assert record.status == "interrupted"


def test_a_run_that_hangs_times_out(play: Callable[..., Played]) -> None:
    played = play(timeout=0.2)
    played.accepted()
    links = [played.connect(rank) for rank in range(3)]
    for each in links:
        each.recv(16)
    played.line.say(Next())
    played.line.say(Doing("warming up"))
    for each in links:
        assert each.recv(1) == b"?"
    links[1].send(b"\0")
    assert played.joined() == 1
    (record,) = played.records()
    assert record.status == "timeout"
    assert "0.2 s (while warming up), and ranks 0, 2 did not answer" in record.reason
    for each in links:
        assert each.recv(1) == b"e"


def test_strangers_are_not_listened_to(play: Callable[..., Played]) -> None:
    played = play()
    played.accepted()
    stranger = played.connect(1, b"x" * 16)
    assert stranger.recv(16) == b""
    played.line.say(Next())
    played.line.say(Done(MEASURED))
    assert isinstance(played.line.hear(FromKeeper), Go)


def test_a_folder_in_use_is_refused(play: Callable[..., Played], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "file").touch()
    played = play()
    played.line.say(played.begin)
    assert played.line.hear(FromKeeper) == Refused(2)
    assert "not empty" in played.messages.getvalue()


def test_a_resumed_run_must_be_the_same(play: Callable[..., Played]) -> None:
    played = play()
    played.accepted()
    played.line.say(Next())
    played.line.say(Done(MEASURED))
    played.line.hear(FromKeeper)
    played.line.say(End())
    played.line.hear(FromKeeper)
    played.joined()
    for changes, said in (
        ({"environment": {"mpi": {"ranks": 4}}}, "another set-up (mpi.ranks)"),
        ({"options": {**played.begin.options, "max_time": 1.0}}, "--max-time 10.0, not 1.0"),
    ):
        other = play()
        fields = {name: getattr(other.begin, name) for name in other.begin.__struct_fields__}
        other.begin = Begin(**(fields | {"resume": True} | changes))
        other.line.say(other.begin)
        assert other.line.hear(FromKeeper) == Refused(2)
        assert said in other.messages.getvalue()


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({2: b""}, "rank 2 died, and the launcher ends the others"),
        ({1: b"\x0f", 2: b""}, "rank 2 died, and the launcher ends the others"),
        ({1: b"\x0f"}, "stopped from outside (SIGTERM to rank 1)"),
        ({0: b"d", 1: b"\x02d"}, ""),
    ],
)
def test_a_fleet_that_ends_early_is_told_of(said: dict[int, bytes], sentence: str) -> None:
    rank_0, its = socket.socketpair()
    with rank_0, its, contextlib.closing(link.Links(its)) as links:
        meeting = links.listener.meeting
        for rank, what in said.items():
            with socket.create_connection(("127.0.0.1", meeting.port), 5) as connection:
                connection.sendall(meeting.token + rank.to_bytes(4, "big") + what)
                links.attend(5)
                assert connection.recv(16) == meeting.token
        until = time.monotonic() + 5
        while len({*links.ended, *links.done}) < len(said) and time.monotonic() < until:
            links.attend(0.1)
        assert watch.obituary(links) == sentence


def test_a_link_passes_signals_on_and_obeys() -> None:
    listener = link.Listener()
    program = (
        "import json, os, signal, sys, time\n"
        "from microbench.mpi.link import Link, Meeting\n"
        "addresses, port, token = json.loads(sys.argv[1])\n"
        "link = Link(Meeting(tuple(addresses), port, bytes.fromhex(token)), 7)\n"
        "assert link.connected\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "print('alive', flush=True)\n"
        "time.sleep(60)\n"
    )
    meeting = listener.meeting
    said = json.dumps([["127.0.0.1"], meeting.port, meeting.token.hex()])
    process = subprocess.Popen([sys.executable, "-c", program, said], stdout=subprocess.PIPE, text=True)
    with listener.socket, process:
        accepted = listener.accept()
        assert accepted is not None
        connection, rank = accepted
        with connection:
            assert rank == 7
            assert connection.recv(1) == b"\x0f"
            assert process.stdout is not None
            assert process.stdout.readline() == "alive\n"
            link.end(connection)
            assert process.wait(20) == -9
