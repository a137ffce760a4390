"""The process that watches a fleet, and says who died: launchers then end all ranks, so that none of them can.

Rank 0 starts it as ``python -m microbench.mpi.watch DESCRIPTOR FOLDER`` with a connection to itself.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from microbench.mpi import link


@contextlib.contextmanager
def watched(world: Any, folder: str) -> Iterator[None]:
    """Has the ranks of ``world``, an mpi4py communicator, watched while the block lasts; called on every one."""
    rank = world.Get_rank()
    with contextlib.ExitStack() as stack:
        said = b""
        if rank == 0:
            watcher = stack.enter_context(link.start_process("microbench.mpi.watch", folder))
            said = stack.enter_context(watcher.makefile("rb")).readline()
        meeting = msgspec.json.decode(world.bcast(said, root=0), type=link.Meeting)
        connection = link.connect(meeting, rank)
        if connection is None:
            print(f"microbench: rank {rank} cannot be watched: no connection reaches rank 0", file=sys.stderr)
            yield
            return
        stack.enter_context(connection)
        connection.setblocking(False)
        signal.set_wakeup_fd(connection.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            with contextlib.suppress(OSError):
                connection.send(link.DONE)


def main(arguments: list[str]) -> int:
    """``arguments``: the descriptor of the connection to rank 0, the fleet's folder."""
    # Launchers that end everything: what happened is said first.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    with (
        socket.socket(fileno=int(arguments[0])) as rank_0,
        contextlib.closing(link.Links(rank_0)) as links,
        contextlib.suppress(OSError),  # the launcher may be gone, and with it whoever reads
    ):
        rank_0.sendall(msgspec.json.encode(links.listener.meeting) + b"\n")
        while not links.ended and not links.attend(None):
            pass
        if 0 in links.done:
            return 0
        links.leave_other()
        until = time.monotonic() + link.GRACE_S
        while (left := until - time.monotonic()) > 0:
            links.attend(left)
        if sentence := obituary(links):
            print(
                f"microbench: {sentence}; what every rank has measured is kept in {arguments[1]}: go on with --resume",
                file=sys.stderr,
                flush=True,
            )
    return 0


def obituary(links: link.Links) -> str:
    """Who died, or was told to end by what; "" where nobody ended before its time."""
    if links.gone:
        return f"rank {links.gone[0]} died, and the launcher ends the others"
    if links.ended and links.told:
        rank, number = next(iter(links.told.items()))
        return f"stopped from outside ({signal.Signals(number).name} to rank {rank})"
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
