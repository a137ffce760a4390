"""Fixed lists of problems that others compared devices by: the same rows for any two sources."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from microbench import published
from microbench.comparison.judging import CONFIDENCE, RELEVANT, Row, judge
from microbench.comparison.matching import Key, Measurement, Refusal, Side, match, require_two, sides
from microbench.comparison.text import (
    aligned,
    interval_text,
    pipe_table,
    ratio_text,
    seconds_text,
    verdict_text,
)
from microbench.errors import InputError
from microbench.figures import (
    ascii_text,
    markdown_text,
    one_line,
    problem_title,
    shows_unicode,
    time_text,
    wrapped,
)
from microbench.formats import Format
from microbench.problem import Scalar
from microbench.sources import Source
from microbench.writers import write_csv

_HEADINGS = ("problem", "publ.", "base", "other", "ratio", "interval", "verdict")
_WIDTHS = (41, -5, -8, -8, -6, -13, 13)
_CORAL2 = (
    "Published (publ.): six kernels on Summit-Dev's P100 and Summit's V100 (J. Yin, Oak Ridge, 2018), time of {} "
    "over time of {}, all-reduce on 4 nodes; times, passes and repeats are not known. Ratio, likewise: time of base "
    "over time of other, of each side the fastest library and algorithm; interval: of this problem alone or, of "
    "published times, what rounding leaves open."
)


@dataclass(frozen=True)
class Line:
    """One kernel of the recipe.

    Without ``row`` the two sources cannot be compared on it, for the reason given. ``key`` is what ``times`` are of, on
    base and other; None where there is none. ``published_ratio`` is as base over other.
    """

    kernel: str
    implementation: str
    precision: str
    problem: dict[str, Scalar]
    published_ratio: float
    row: Row | None
    key: Key | None
    times: tuple[Measurement | None, Measurement | None]
    reason: str = ""

    def title(self) -> str:
        """The kernel, the problem, and the pass where one was measured; of a collective who computed it, too."""
        by = f" ({self.implementation})" if self.kernel == "allreduce" else ""
        if self.key is not None:
            return f"{self.kernel} {self.key.title()}{by}"
        return f"{self.kernel} {problem_title(self.kernel, self.problem, 'forward', '').removesuffix(' fwd')}{by}"


@dataclass(frozen=True)
class Recipe:
    """The recipe on two sides."""

    base: Side
    other: Side
    swapped: bool
    lines: tuple[Line, ...]


def coral2(
    sources: Sequence[Source], confidence: float = CONFIDENCE, relevant: float = RELEVANT
) -> list[Recipe]:
    """The deep-learning kernels of the CORAL-2 comparison, for each source but the first against the first.

    Raises:
        InputError: there is only one source, or no problem of the recipe may be compared.
    """
    base, *others = require_two(sides(sources))
    wanted = [(row, published.decode_columns(row["problem"])) for row in published.rows("coral2")]
    matched = [match(base, other, best=True) for other in others]
    families = [
        [pair for pair in pairs if any(_matches(pair.key, *each) for each in wanted)] for pairs, _ in matched
    ]
    judged = judge(families, confidence, relevant)
    recipes = []
    for other, rows, (_, refusals) in zip(others, judged, matched, strict=True):
        swapped = "V100" in base.source.device and "P100" in other.source.device
        lines = tuple(_lines(wanted, rows, refusals, (base, other), swapped=swapped))
        recipes.append(Recipe(base, other, swapped, lines))
    if not any(families):
        line = min(recipes[0].lines, key=lambda line: _is_absence(line.reason))
        raise InputError(
            f"{base.name} and {others[0].name} have no problem of the CORAL-2 recipe that may be compared: "
            f"{line.title()}: {line.reason}"
        )
    return recipes


def _is_absence(reason: str) -> bool:
    """Whether it says less than what else may stand in the way: that one side has nothing of it."""
    return reason.startswith(("only in", "in neither"))


def _fastest(side: Side, key: Key) -> Measurement | None:
    timed = [each for each in side.found.get(key, {}).values() if each.times]
    return min(timed, key=Measurement.median, default=None)


def _matches(key: Key, row: dict[str, str], columns: dict[str, Scalar]) -> bool:
    return (key.kernel, key.precision) == (row["kernel"], row["precision"]) and columns.items() <= dict(
        key.problem
    ).items()


def _lines(
    wanted: Sequence[tuple[dict[str, str], dict[str, Scalar]]],
    rows: Sequence[Row],
    refusals: Sequence[Refusal],
    both: tuple[Side, Side],
    *,
    swapped: bool,
) -> Iterator[Line]:
    for row, columns in wanted:
        ratio = float(row["pascal_over_volta"])
        common = (
            row["kernel"],
            row["implementation"],
            row["precision"],
            columns,
            1 / ratio if swapped else ratio,
        )
        found = [each for each in rows if _matches(each.pair.key, row, columns)]
        for each in found:
            by = " against ".join(way.title() for way in each.pair.ways)
            same = row["kernel"] != "allreduce" or all(
                ("nccl" in way.title().lower()) == (row["implementation"] == "NCCL") for way in each.pair.ways
            )
            judged, reason = (each, "") if same else (None, f"computed by {by}")
            yield Line(*common, judged, each.pair.key, (each.pair.base, each.pair.other), reason)
        if not found:
            reasons = [r.reason for r in refusals for key in r.keys if _matches(key, row, columns)]
            refused = min(reasons, key=_is_absence, default="in neither of the two")
            timed = (key for side in both for key in side.found if _fastest(side, key))
            key = next((key for key in timed if _matches(key, row, columns)), None)
            first, second = (key and _fastest(side, key) for side in both)
            yield Line(*common, None, key, (first, second), refused)


def write(recipes: Sequence[Recipe], form: Format, stream: TextIO) -> None:
    """Writes the recipe in ``form``."""
    if form == "csv":
        objects = [each for recipe in recipes for each in _objects(recipe)]
        write_csv(objects, list(objects[0]), stream)
    elif form == "json":
        import msgspec

        objects = [each for recipe in recipes for each in _objects(recipe)]
        stream.write(msgspec.json.format(msgspec.json.encode(objects), indent=1).decode() + "\n")
    else:
        for recipe in recipes:
            _write_text(recipe, stream, markdown=form == "markdown")


def _write_text(recipe: Recipe, stream: TextIO, *, markdown: bool) -> None:
    devices = ("Volta", "Pascal") if recipe.swapped else ("Pascal", "Volta")
    caption = f"CORAL-2 recipe. Base case: {recipe.base.name}; other: {recipe.other.name}. {_CORAL2.format(*devices)}"
    cells = [_cells(line) for line in recipe.lines]
    notes = list(_notes(recipe))
    if markdown:
        table = pipe_table(cells, _HEADINGS, _WIDTHS)
        items = "".join(f"- {markdown_text(note)}\n" for note in notes)
        text = f"{markdown_text(caption)}\n\n{table}\n\n{items}"
    else:
        table_lines = aligned(cells, _HEADINGS, _WIDTHS)
        note_lines = (line for note in notes for line in wrapped(one_line(note)))
        text = "\n".join((*wrapped(one_line(caption), indent=""), *table_lines, "", *note_lines, ""))
    stream.write(text if shows_unicode(stream) else ascii_text(text))


def _notes(recipe: Recipe) -> Iterator[str]:
    ratios = [float(row["pascal_over_volta"]) for row in published.rows("coral2")]
    mean = statistics.geometric_mean(ratios) ** (-1 if recipe.swapped else 1)
    yield f"Geometric mean of the {len(ratios)} published ratios: {mean:.2f}; geometric, as no times are known."
    # Two lines may be of one problem, published of two libraries.
    pairs = {line.row.pair.key: line.row.pair for line in recipe.lines if line.row is not None}.values()
    if pairs:
        base, other = sum(pair.base.median() for pair in pairs), sum(pair.other.median() for pair in pairs)
        yield (
            f"Total of the {len(pairs)} compared: {time_text(base)} against {time_text(other)}, "
            f"ratio {ratio_text(base / other)}."
        )
    for line in recipe.lines:
        if line.row is None:
            yield f"not compared: {line.title()}: {line.reason}"
    for side in (recipe.base, recipe.other):
        for limit in side.source.limits:
            yield f"Limit of {side.name}: {limit}"


def _cells(line: Line) -> tuple[str, ...]:
    head = (one_line(line.title()), f"{line.published_ratio:.2f}")
    row = line.row
    times = tuple("n/a" if side is None else seconds_text(side) for side in line.times)
    if row is None:
        return (*head, *times, "n/a", "n/a", "")
    low, high = (None if end is None else 1 / end for end in (row.ratio_high, row.ratio_low))
    opposite = {"faster": "other faster", "slower": "other slower"}
    return (
        *head,
        *times,
        ratio_text(1 / row.ratio),
        interval_text(low, high),
        opposite.get(row.verdict, verdict_text(row)),
    )


def _objects(recipe: Recipe) -> Iterator[dict[str, Any]]:
    limits = "; ".join(
        f"{side.name}: {limit}" for side in (recipe.base, recipe.other) for limit in side.source.limits
    )
    for line in recipe.lines:
        row = line.row
        yield {
            "base": recipe.base.name,
            "other": recipe.other.name,
            "kernel": line.kernel,
            "published_implementation": line.implementation,
            "precision": line.precision,
            "problem": line.title(),
            "published_ratio": line.published_ratio,
            "base_s": line.times[0] and line.times[0].median(),
            "other_s": line.times[1] and line.times[1].median(),
            "base_over_other": row and 1 / row.ratio,
            "base_over_other_low": 1 / row.ratio_high if row and row.ratio_high else None,
            "base_over_other_high": 1 / row.ratio_low if row and row.ratio_low else None,
            "verdict_on_other": row and row.verdict,
            "reason": row.reason if row else line.reason,
            "limits": limits,
        }
