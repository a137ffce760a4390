"""Where workers run: how many threads, on which processors."""

from __future__ import annotations

from dataclasses import dataclass

from microbench.errors import InputError
from microbench.options import Options
from microbench.topology import allowed_cpus, format_cpu_list, parse_cpu_list, physical_cores


@dataclass(frozen=True)
class Placement:
    """``threads`` threads on ``cpus``, each bound to one of its own where ``pin``."""

    threads: int
    cpus: tuple[int, ...]
    pin: bool


def placement(options: Options) -> Placement:
    """What ``--threads``, ``--cpus`` and ``--no-pin`` ask for: by default one thread on each physical core.

    Raises:
        InputError: there are not as many processors, or this process may not run on one of them.
    """
    allowed = allowed_cpus()
    if options.cpus is None:
        cores = physical_cores()
        threads = options.threads or len(cores)
        cpus = (*cores, *(cpu for cpu in allowed if cpu not in cores))
    else:
        cpus = parse_cpu_list(options.cpus)
        if not set(cpus) <= set(allowed):
            raise InputError(
                f"--cpus {options.cpus}: this process may run on {format_cpu_list(allowed)} only: choose from these"
            )
        threads = options.threads or len(cpus)
    if threads > len(cpus) and options.pin:
        raise InputError(
            f"--threads {threads}: there are {len(cpus)} processors to pin them to: ask for fewer or add --no-pin"
        )
    return Placement(threads, cpus[:threads] if options.pin else cpus, options.pin)
