"""Colours and symbols, told apart by people with any colour vision; symbols also in grey."""

from __future__ import annotations

# Okabe & Ito, "Color Universal Design", 2008, without black and yellow, which one of the two backgrounds swallows.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F7F7F")
# Names of plotly and of matplotlib. Eight symbols and seven colours: 56 pairs before one comes again.
SYMBOLS = (
    ("circle", "o"),
    ("square", "s"),
    ("diamond", "D"),
    ("triangle-up", "^"),
    ("cross", "P"),
    ("triangle-down", "v"),
    ("x", "X"),
    ("star", "*"),
)
DASHES = (("solid", "-"), ("dash", "--"), ("dot", ":"), ("dashdot", "-."))
"""Of lines and steps, by the same names."""


def colour(style: int | None) -> str | None:
    """The colour of a series; None for the ink of the text."""
    return None if style is None else COLOURS[style % len(COLOURS)]


def symbol(style: int | None) -> tuple[str, str]:
    """The symbol of a series."""
    return SYMBOLS[(style or 0) % len(SYMBOLS)]


def dash(style: int | None, dashed: bool) -> tuple[str, str]:
    """How a line of a series is drawn."""
    return DASHES[1] if dashed else DASHES[(style or 0) % len(DASHES)]
