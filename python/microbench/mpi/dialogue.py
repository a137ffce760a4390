"""What rank 0 and the keeper of a run say to each other: one JSON object a line, in turns."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import msgspec

from microbench.protocol import Measurement


class Begin(msgspec.Struct, frozen=True, kw_only=True, tag="begin"):
    """A run is to be made or resumed in ``output``; None: in a new folder."""

    options: dict[str, Any]
    ranks: int
    hosts: int
    environment: dict[str, Any]
    command: list[str]
    output: str | None
    resume: bool
    form: str


class Accepted(msgspec.Struct, frozen=True, kw_only=True, tag="accepted"):
    """The run is there; of the plan ``queue`` is to be measured, in this order, as ``repeat``.

    Ranks meet the keeper at ``addresses`` and ``port`` and show it ``token``.
    """

    queue: list[int]
    repeat: int
    seed: int
    addresses: list[str]
    port: int
    token: bytes


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """There will be no run, or no more of it; the keeper has said why."""

    code: int


class Watch(msgspec.Struct, frozen=True, tag="watch"):
    """All ranks have tried to connect; ``unreachable`` could not."""

    unreachable: list[int]


class Next(msgspec.Struct, frozen=True, tag="next"):
    """The next one of the queue is measured now."""


class Doing(msgspec.Struct, frozen=True, tag="doing"):
    """What is done now; kept as the place where a rank died, should one die."""

    what: str


class Done(msgspec.Struct, frozen=True, tag="done"):
    """What came of the item that was `Next`."""

    measurement: Measurement


class Go(msgspec.Struct, frozen=True, tag="go"):
    """The record is stored: on with the next one."""


class End(msgspec.Struct, frozen=True, tag="end"):
    """All is measured."""


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """All is printed; the exit code of the command."""

    code: int


FromRank = Begin | Watch | Next | Doing | Done | End
FromKeeper = Accepted | Refused | Go | Finished


class Line:
    """One end of the connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._pending = b""

    def say(self, message: FromRank | FromKeeper) -> None:
        """Sends; silently nothing where the other one is gone, which hearing will tell."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(msgspec.json.encode(message) + b"\n")

    def hear(self, kind: Any) -> Any:
        """The next message, of the union ``kind``. Raises EOFError where the other one is gone."""
        while not self.waiting():
            self.receive()
        return self.next(kind)

    def receive(self) -> None:
        """Takes what has come. Raises EOFError where the other one is gone."""
        try:
            chunk = self.socket.recv(1 << 20)
        except ConnectionResetError:
            chunk = b""
        if not chunk:
            raise EOFError("the other end is closed")
        self._pending += chunk

    def waiting(self) -> bool:
        """Whether a message has come whole."""
        return b"\n" in self._pending

    def next(self, kind: Any) -> Any:
        """A message that has come whole, None where there is none."""
        if not self.waiting():
            return None
        line, self._pending = self._pending.split(b"\n", 1)
        return msgspec.json.decode(line, type=kind)
