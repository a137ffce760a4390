"""A sweep of a collective as every rank runs it: rank 0 conducts, the others follow, a keeper records."""

from __future__ import annotations

import sys
from collections.abc import Callable

from microbench import extensions
from microbench.mpi import devices, link, plan
from microbench.mpi.dialogue import (
    Accepted,
    Begin,
    Doing,
    Done,
    End,
    Finished,
    FromKeeper,
    Line,
    Next,
    Refused,
    Watch,
)
from microbench.mpi.environment import capture
from microbench.mpi.launcher import HOW_TO_START
from microbench.mpi.library import Mpi
from microbench.mpi.link import Meeting
from microbench.mpi.measuring import Setting, measure
from microbench.mpi.member import Member, Place
from microbench.mpi.options import CollectiveOptions
from microbench.mpi.team import Team
from microbench.plan import record_seed


def run(mpi: Mpi, conduct: Callable[[Team, int], int]) -> int:
    """Has rank 0 ``conduct`` its team, given the number of ranks; called on every rank. Returns the exit code.

    Whatever rank 0 raises is raised after the others have been let go.
    """
    world = mpi.MPI.COMM_WORLD
    member = Member(mpi, world.Dup())
    team = Team(world.Dup(), member)
    code = 0
    try:
        if world.Get_rank() == 0:
            try:
                code = conduct(team, world.Get_size())
            finally:
                team.dismiss()
        else:
            team.serve()
    finally:
        member.leave()
        mpi.MPI.Finalize()
    return code


def conduct(
    mpi: Mpi,
    team: Team,
    options: CollectiveOptions,
    output: str | None,
    *,
    resume: bool,
    command: list[str],
    form: str,
) -> int:
    """On rank 0: measures everything that ``options`` ask for. Returns the exit code.

    Raises:
        InputError: GPUs or NCCL were asked for, and a rank has none.
        EOFError: the keeper of the run is gone.
    """
    places, nodes = _settle(team, pin=options.pin)
    setting = Setting(team, options, places, nodes, _crowded(places), _timer())
    if setting.ranks == 1:
        print(
            "one rank: nothing is sent, and what is measured is a copy at most; start several, for instance: "
            f"{HOW_TO_START} {options.kernel}",
            file=sys.stderr,
            flush=True,
        )
    gpus = devices.take(team, options, places, nodes) if options.device == "cuda" else []
    line = Line(link.start_process("microbench.mpi.keeper"))
    line.say(
        Begin(
            options=options.plain(),
            ranks=setting.ranks,
            hosts=len(set(nodes)),
            environment=capture(mpi.MPI, places, nodes, command, gpus),
            command=["microbench", *command],
            output=output,
            resume=resume,
            form=form,
        )
    )
    accepted = line.hear(FromKeeper)
    if isinstance(accepted, Refused):
        return accepted.code
    assert isinstance(accepted, Accepted)
    connected = team.all("meet", Meeting(tuple(accepted.addresses), accepted.port, accepted.token))
    line.say(Watch([rank for rank, each in enumerate(connected) if not each]))
    items = plan.build(options, setting.ranks)
    for index in accepted.queue:
        line.say(Next())
        seed = record_seed(accepted.seed, accepted.repeat, index)
        measurement = measure(setting, items[index], seed, lambda what: line.say(Doing(what)))
        line.say(Done(measurement))
        line.hear(FromKeeper)  # until the record is stored and its diagnosis made, the ranks are idle
    line.say(End())
    finished = line.hear(FromKeeper)
    assert isinstance(finished, Finished)
    return finished.code


def _settle(team: Team, *, pin: bool) -> tuple[tuple[Place, ...], tuple[int, ...]]:
    """Where each rank runs and the number of its node; ranks that the launcher left unbound are bound."""
    nodes: tuple[int, ...] = tuple(team.all("number_of_node"))
    places = tuple(team.all("place"))
    if pin:
        team.all("bind", tuple(_unbound(places)))
        places = tuple(team.all("place"))
    bases: list[int] = team.all("clock_base")
    shared = [place.clock == places[0].clock for place in places]
    team.all("set_clock", tuple(bases[0] if same else base for same, base in zip(shared, bases, strict=True)))
    return places, nodes


def _unbound(places: tuple[Place, ...]) -> list[int | None]:
    """By rank its place among those of its machine, where they all may use the same processors and these suffice."""
    found: list[int | None] = []
    for rank, place in enumerate(places):
        beside = [other for other in places if other.clock == place.clock]
        free = all(other.cpus == place.cpus for other in beside) and len(place.cpus) >= len(beside) > 1
        number = sum(other.clock == place.clock for other in places[:rank])
        found.append(number if free else None)
    return found


def _crowded(places: tuple[Place, ...]) -> bool:
    """Whether somewhere more ranks than processors run."""
    hosts: dict[str, tuple[set[int], int]] = {}
    for place in places:
        cpus, ranks = hosts.setdefault(place.clock, (set(), 0))
        hosts[place.clock] = (cpus | set(place.cpus), ranks + 1)
    return any(ranks > len(cpus) for cpus, ranks in hosts.values())


def _timer() -> tuple[float, float]:
    resolution_s, overhead_s = extensions.load("microbench._cpu").calibrate_timer()
    return float(resolution_s), float(overhead_s)
