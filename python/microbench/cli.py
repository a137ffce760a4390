"""The command line: reads arguments, calls what does the work, says what went wrong in one sentence."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence

from microbench import commands
from microbench.arguments import MEASURED, parser
from microbench.collective import COLLECTIVES
from microbench.commands.measured import sweep
from microbench.errors import InputError, StoreError
from microbench.mpi import launcher


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. Returns 0, 1 (some records are neither ok nor unsupported) or 2 (bad input)."""
    command = list(sys.argv[1:] if arguments is None else arguments)
    warnings.showwarning = _one_line
    try:
        given = vars(parser().parse_args(command))
        name = given.pop("command")
        if name in MEASURED:
            return sweep(name, given, command)
        if name in COLLECTIVES:
            from microbench.mpi.command import sweep as sweep_collective

            return sweep_collective(name, given, command)
        return commands.load(name).run(given, command)
    except InputError as error:
        launcher.say(str(error))
        return 2
    except StoreError as error:
        print(f"microbench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("microbench: interrupted before there was a run", file=sys.stderr)
        return 1
    except OSError as error:  # of standard output: all others are sentences by now
        return _output_lost(error)


def _output_lost(error: OSError) -> int:
    # What the interpreter still holds back for standard output would fail again when it exits.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):  # whoever closed the pipe has seen enough
        print(
            f"microbench: cannot write the output ({error.strerror}); the run itself is kept", file=sys.stderr
        )
    return 1


def _one_line(message: Warning | str, *_: object, **__: object) -> None:
    print(f"microbench: warning: {message}", file=sys.stderr)
