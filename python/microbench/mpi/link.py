"""A connection of every rank to the keeper of the run, over which nothing is said until something goes wrong.

When a rank dies, its connection closes at once, on whatever host it ran: so the keeper knows who was first before the
launcher ends all the others. A signal to a rank is passed on by the interpreter's own handler even while the rank is
inside MPI. And the keeper can ask who still answers, and end ranks that hang.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
from dataclasses import dataclass

# For so long after the first sign of trouble more of it is awaited: who died first, and who was only told to end.
GRACE_S = 0.3
_CONNECTING_S = 3.0
_GREETING = struct.Struct("!16sI")
_ASK = b"?"
ALIVE = b"\0"  # no signal has this number
DONE = b"d"  # nor this one: what a rank says that ends as it should
_END = b"e"
_DISMISSED = b"d"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SIOCGIFADDR = 0x8915  # linux/sockios.h: the IPv4 address of an interface


@dataclass(frozen=True)
class Meeting:
    """Where the keeper is found, and the word by which it knows its own ranks."""

    addresses: tuple[str, ...]
    port: int
    token: bytes


class Listener:
    """The keeper's side: takes the ranks' connections."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("", 0))
        self.meeting = Meeting(_addresses(), self.socket.getsockname()[1], secrets.token_bytes(16))

    def accept(self) -> tuple[socket.socket, int] | None:
        """The next connection and its rank; None for a stranger's."""
        connection, _ = self.socket.accept()
        connection.settimeout(_CONNECTING_S)
        try:
            token, rank = _GREETING.unpack(_exactly(connection, _GREETING.size))
        except OSError:
            token, rank = b"", 0
        if not secrets.compare_digest(token, self.meeting.token):
            connection.close()
            return None
        connection.sendall(self.meeting.token)
        return connection, rank


class Links:
    """The ranks' connections to one process, beside its connection to another process.

    Attributes:
        done: ranks that have said that they end as they should.
        told: ranks that got a signal, in that order, each with its first.
        ended: ranks that are gone without having said `DONE`, in that order.
        gone: those of them that had got no signal.
        answered: ranks that were asked and answered.
    """

    def __init__(self, other: socket.socket) -> None:
        self.other = other
        self.listener = Listener()
        self.by_rank: dict[int, socket.socket] = {}
        self.done: set[int] = set()
        self.told: dict[int, int] = {}
        self.ended: list[int] = []
        self.gone: list[int] = []
        self.answered: set[int] = set()
        self._selector = selectors.DefaultSelector()
        for each in (other, self.listener.socket):
            self._selector.register(each, selectors.EVENT_READ)

    @property
    def trouble(self) -> bool:
        """Whether a rank is gone, or was told to end."""
        return bool(self.gone or self.told)

    def attend(self, timeout_s: float | None) -> bool:
        """Waits for something to be said, and hears it; returns whether that was by the other process."""
        others = False
        for key, _ in self._selector.select(timeout_s):
            if key.fileobj is self.listener.socket:
                accepted = self.listener.accept()
                if accepted is not None:
                    connection, rank = accepted
                    self.by_rank[rank] = connection
                    self._selector.register(connection, selectors.EVENT_READ, rank)
            elif key.fileobj is self.other:
                others = True
            else:
                self._hear(key.data)
        return others

    def note_gone(self, rank: int) -> None:
        """Counts the rank as gone, unless that was to be expected or is known."""
        if rank not in self.done and rank not in self.ended:
            self.ended.append(rank)
            if rank not in self.told:
                self.gone.append(rank)

    def leave_other(self) -> None:
        """No longer listens to the other process, which is gone."""
        self._selector.unregister(self.other)

    def close(self) -> None:
        """Gives up all connections."""
        self._selector.close()
        for connection in (self.listener.socket, *self.by_rank.values()):
            connection.close()

    def _hear(self, rank: int) -> None:
        connection = self.by_rank[rank]
        try:
            said = connection.recv(64)
        except OSError:
            said = b""
        if not said:
            self._selector.unregister(connection)
            self.note_gone(rank)
        for byte in said:
            if byte == ALIVE[0]:
                self.answered.add(rank)
            elif byte == DONE[0]:
                self.done.add(rank)
            else:
                self.told.setdefault(rank, byte)


def ask(connection: socket.socket) -> None:
    """Has the rank at the other end answer `ALIVE`; one that is stopped, or whose host is gone, does not."""
    with contextlib.suppress(OSError):
        connection.send(_ASK)


def end(connection: socket.socket) -> None:
    """Tells the rank at the other end to end at once."""
    with contextlib.suppress(OSError):
        connection.send(_END)


def dismiss(connection: socket.socket) -> None:
    """Tells the rank at the other end that all is done: it may end as it likes."""
    with contextlib.suppress(OSError):
        connection.send(_DISMISSED)


def start_process(module: str, *arguments: str) -> socket.socket:
    """Starts ``module`` in a session of its own, so that what ends the ranks does not end it.

    Its first argument is the descriptor of its end of the connection that is returned.
    """
    mine, its = socket.socketpair()
    with its:
        subprocess.Popen(
            [sys.executable, "-m", module, str(its.fileno()), *arguments],
            stdin=subprocess.DEVNULL,
            pass_fds=[its.fileno()],
            env={name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"},
            start_new_session=True,
        )
    return mine


class Link:
    """The rank's side: connects, passes signals on, and ends this process when it is told to.

    Attributes:
        connected: whether the keeper was reached; a network may forbid that, and then nobody watches this rank.
    """

    def __init__(self, meeting: Meeting, rank: int) -> None:
        self._socket = connect(meeting, rank)
        self.connected = self._socket is not None
        if self._socket is None:
            return
        self._socket.setblocking(False)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)  # the keeper decides what it means
        signal.set_wakeup_fd(self._socket.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._socket is not None
        while True:
            select.select([self._socket], [], [])
            try:
                said = self._socket.recv(1)
            except BlockingIOError:
                continue
            except OSError:
                said = b""
            if said == _ASK:
                with contextlib.suppress(OSError):
                    self._socket.send(ALIVE)
            if said == _DISMISSED:
                return
            if said in (b"", _END):  # without its keeper a run is nothing
                os.kill(os.getpid(), signal.SIGKILL)


def connect(meeting: Meeting, rank: int) -> socket.socket | None:
    """A connection to the process that listens; None where the network forbids it."""
    for address in meeting.addresses:
        with contextlib.suppress(OSError):
            connection = socket.create_connection((address, meeting.port), _CONNECTING_S)
            try:
                connection.sendall(_GREETING.pack(meeting.token, rank))
                if secrets.compare_digest(_exactly(connection, len(meeting.token)), meeting.token):
                    return connection
            except OSError:
                pass
            connection.close()
    return None


def _exactly(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        chunk = connection.recv(count - len(received))
        if not chunk:
            raise ConnectionResetError("closed before it had said who it is")
        received += chunk
    return received


def _addresses() -> tuple[str, ...]:
    """IPv4 addresses of this host's interfaces, its own loop first: most ranks are on it."""
    found = ["127.0.0.1"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            with contextlib.suppress(OSError):  # an interface without an address
                found.append(socket.inet_ntoa(fcntl.ioctl(probe, _SIOCGIFADDR, request)[20:24]))
    return tuple(dict.fromkeys(found))
