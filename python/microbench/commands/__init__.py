"""The commands of the command line: one module each, which offers what `Command` describes."""

from __future__ import annotations

import importlib
from typing import Any, Protocol, cast

NAMES = ("list", "device", "show", "report", "selftest", "compare", "check", "study", "simulate", "model")


class Command(Protocol):
    """What a module in ``microbench.commands`` offers. Importing one loads nothing heavy."""

    def add(self, commands: Any) -> None:
        """Adds the command's grammar to argparse's ``commands``."""
        ...

    def run(self, given: dict[str, Any], command: list[str]) -> int:
        """Does what the parsed arguments ``given`` say and returns the exit code.

        Args:
            given: the arguments by name, as the command's grammar defines them.
            command: what was typed, without the program's name.

        Raises:
            InputError: something asked for does not exist or cannot be done.
        """
        ...


def load(name: str) -> Command:
    """The module of one command."""
    return cast(Command, importlib.import_module(f"microbench.commands.{name}"))
