"""What a message costs: Hockney's and LogGP's parameters, per message size and per level of a machine."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches

from microbench.errors import InputError

LARGEST_NODE = 1024


@dataclass(frozen=True)
class Link:
    """LogGP parameters of messages of one size class. Times in seconds, ``per_byte_s`` in seconds a byte.

    ``latency_s`` (L) passes on the wire, ``overhead_s`` (o) keeps the processor of the sender busy and then that
    of the receiver, ``gap_s`` (g) is the least time between two messages of a rank, ``per_byte_s`` (G) the time
    of a further byte. Hockney's model is the one with o = g = 0: alpha = L, beta = G.

    Source: Alexandrov, Ionescu, Schauser, Scheiman, LogGP, SPAA 1995; Hockney, Parallel Computing 20 (1994).
    """

    latency_s: float
    per_byte_s: float
    overhead_s: float = 0.0
    gap_s: float = 0.0

    @property
    def alpha_s(self) -> float:
        """Time of an empty message from end to end, L + 2 o: all of L and o that a collective can show."""
        return self.latency_s + 2 * self.overhead_s

    def wire_s(self, nbytes: float, share: float = 1.0) -> float:
        """From the end of the sender's overhead to the arrival, ``share`` ranks sharing the bandwidth."""
        return max(self.latency_s + share * self.per_byte_s * nbytes, self.gap_s - self.overhead_s)

    def held_s(self, nbytes: float, share: float = 1.0) -> float:
        """From the end of the sender's overhead until it may go on: the message has left, the gap has passed."""
        return max(share * self.per_byte_s * nbytes, self.gap_s - self.overhead_s)

    def message_s(self, nbytes: float) -> float:
        """Time of one message from end to end: 2 o + max(L + G m, g - o), in seconds."""
        return 2 * self.overhead_s + self.wire_s(nbytes)


@dataclass(frozen=True)
class Level:
    """One level of a machine: ``links[i]`` holds for messages from ``from_bytes[i]`` bytes on.

    MPI libraries change protocol with the size of a message, so that one straight line seldom fits all sizes.
    """

    links: tuple[Link, ...]
    from_bytes: tuple[float, ...] = (0.0,)

    def link(self, nbytes: float) -> Link:
        """The parameters that hold for a message of ``nbytes`` bytes."""
        return next(
            link
            for link, start in zip(reversed(self.links), reversed(self.from_bytes), strict=True)
            if nbytes >= start
        )


@dataclass(frozen=True)
class Machine:
    """A network: messages between nodes and, where known, inside a node of ``ranks_per_node`` ranks.

    Without ``inside`` all messages cost the same. With it, ranks lie on the nodes in blocks, and the ranks of a
    node that send to other nodes at the same time share the node's bandwidth. ``reduce_s_per_byte`` (gamma) is
    the time to add one byte of a vector to another. ``source`` says where the figures come from.
    """

    name: str
    between: Level
    reduce_s_per_byte: float = 0.0
    inside: Level | None = None
    ranks_per_node: int = 1
    source: str = ""


def uniform(name: str, link: Link, reduce_s_per_byte: float = 0.0, source: str = "") -> Machine:
    """A machine of one level, on which all messages cost the same."""
    return Machine(name, Level((link,)), reduce_s_per_byte, source=source)


# Only figures whose source was read; a processor's time to add is in neither, so that it is left at 0.
MACHINES = {
    machine.name: machine
    for machine in (
        uniform(
            "tukey",
            Link(latency_s=5.3e-6, overhead_s=1.05e-6, gap_s=0.94e-6, per_byte_s=0.497e-9),
            source=(
                "Tukey at Argonne (InfiniBand, MVAPICH), netgauge's output in tests/ng-mpi-tukey.dat of the CODES "
                "repository: half round trip of 1 B 7.404 us, o (mean of both sides) and g at 8 B, G from 256 KiB to "
                "4 MiB; L is the half round trip less 2 o"
            ),
        ),
        uniform(
            "c90-hippi",
            Link(latency_s=0.46e-3, per_byte_s=1 / 50e6),
            source=(
                "Cray C90 systems joined by HIPPI, start-up 0.46 ms and 50 MB/s for long messages: netlib's TOP500 "
                "report 1995, Trottenberg, section 3"
            ),
        ),
    )
}

_NAMES = {
    "alpha": "latency_s",
    "beta": "per_byte_s",
    "L": "latency_s",
    "o": "overhead_s",
    "g": "gap_s",
    "G": "per_byte_s",
}
_GAMMA, _NODE = "gamma", "ranks_per_node"
_USUAL = "write as in alpha=2e-6,beta=1e-10 or L=2e-6,o=5e-7,g=1e-6,G=1e-10, each in seconds (a byte)"


def parse_machine(text: str) -> Machine:
    """A machine by its name in `MACHINES` or by its parameters, ``alpha=2e-6,beta=1e-10,gamma=2e-11``.

    Parameters are alpha and beta, or L, o, g and G, in seconds and seconds a byte; gamma; and for a machine of two
    levels the same with ``inside_`` before it and ``ranks_per_node``.

    Raises:
        InputError: an unknown name or parameter, a missing one, or a value that is not a time.
    """
    if "=" not in text:
        if text in MACHINES:
            return MACHINES[text]
        near = get_close_matches(text, MACHINES, 1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"--machine {text}: known are {', '.join(MACHINES)}{meant}; or {_USUAL}")
    values: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        name = name.strip()
        known = name.removeprefix("inside_") in _NAMES or name in (_GAMMA, _NODE)
        if not known or name in values:
            fault = "is given twice" if known else "is no parameter"
            raise InputError(f"--machine {text}: {name or repr(part)} {fault}; {_USUAL}")
        values[name] = _number(text, name, value)
    node = values.pop(_NODE, None)
    gamma = values.pop(_GAMMA, 0.0)
    inner = {name.removeprefix("inside_"): values.pop(name) for name in list(values) if "inside_" in name}
    machine = Machine(text, Level((_link(text, values),)), gamma, source="given on the command line")
    if not inner and node is None:
        return machine
    if not inner or node is None or node != int(node) or not 2 <= node <= LARGEST_NODE:
        raise InputError(
            f"--machine {text}: two levels need inside_alpha and inside_beta and ranks_per_node of 2 "
            f"to {LARGEST_NODE}"
        )
    return replace(machine, inside=Level((_link(text, inner),)), ranks_per_node=int(node))


def _number(text: str, name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise InputError(f"--machine {text}: {name}={value} is no time; {_USUAL}")
    return number


def _link(text: str, values: dict[str, float]) -> Link:
    given = {_NAMES[name]: value for name, value in values.items()}
    if len(given) < len(values):
        raise InputError(f"--machine {text}: alpha is L and beta is G, give one of each; {_USUAL}")
    missing = [field.name for field in fields(Link)[:2] if field.name not in given]
    if missing or given["latency_s"] == 0 == given["per_byte_s"]:
        raise InputError(f"--machine {text}: both a latency and a time per byte are needed; {_USUAL}")
    return Link(**given)
