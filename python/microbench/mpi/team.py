"""How rank 0 has all ranks do the same: it names a method of their members, all call it, rank 0 gets the results."""

from __future__ import annotations

import traceback
from typing import Any


class RankFailed(Exception):
    """A rank could not do what was asked; ``kind`` is the name of the error's class."""

    def __init__(self, rank: int, kind: str, text: str) -> None:
        super().__init__(f"rank {rank}: {text}")
        self.rank = rank
        self.kind = kind
        self.text = text


class _Failure:
    def __init__(self, error: Exception) -> None:
        self.kind = type(error).__name__
        self.text = str(error).splitlines()[0] if str(error) else self.kind


class Team:
    """All ranks of ``group``, an mpi4py communicator that nobody else uses; ``member`` is this rank's object."""

    def __init__(self, group: Any, member: Any) -> None:
        self._group = group
        self._member = member

    def all(self, method: str, *arguments: Any) -> list[Any]:
        """On rank 0: calls ``method`` of every member and returns what they return, by rank.

        Raises:
            RankFailed: of the first rank that raised something; the others have done what was asked.
        """
        self._group.bcast((method, arguments), root=0)
        outcomes = self._group.gather(self._do(method, arguments), root=0)
        for rank, outcome in enumerate(outcomes):
            if isinstance(outcome, _Failure):
                raise RankFailed(rank, outcome.kind, outcome.text)
        return list(outcomes)

    def serve(self) -> None:
        """On all other ranks: does what rank 0 asks for until it dismisses them."""
        while (order := self._group.bcast(None, root=0)) is not None:
            self._group.gather(self._do(*order), root=0)

    def dismiss(self) -> None:
        """On rank 0: lets the others go."""
        self._group.bcast(None, root=0)

    def _do(self, method: str, arguments: tuple[Any, ...]) -> Any:
        try:
            return getattr(self._member, method)(*arguments)
        except Exception as error:
            if type(error).__name__ not in ("Unsupported", "MemoryError", "InputError"):
                traceback.print_exc()
            return _Failure(error)
