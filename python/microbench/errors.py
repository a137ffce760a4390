"""Errors that end the command with one sentence instead of a traceback."""


class InputError(ValueError):
    """Bad input: the message says what was wrong, where, and what would be right. Exit code 2."""


class StoreError(RuntimeError):
    """A record could not be written: one sentence saying what is kept and how to go on. Exit code 1."""
