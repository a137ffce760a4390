"""The study as tables: for the terminal, and as a section of a report."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from microbench.environment.text import size_text
from microbench.figures import WIDTH, fit, percent_text, threads, time_text, wrapped
from microbench.store import Run
from microbench.study import tables
from microbench.study.divisions import Gain, Outcome, gains, outcomes
from microbench.study.fronts import accurate
from microbench.study.layers import Study
from microbench.study.networks import shares
from microbench.study.reading import gather
from microbench.study.tables import LAYER, Table

DEFAULT_LIMITS = tuple(size << 20 for size in (64, 128, 256, 512))


@dataclass(frozen=True)
class Section:
    """What the study says: ``findings`` in sentences, then tables."""

    title: str
    findings: tuple[str, ...]
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Question:
    """What is asked of a study.

    Attributes:
        limits: workspace limits in bytes; workspaces strictly below one fit.
        max_error: largest Frobenius-relative error, None for any.
        policy: of dividing a batch, one of `microbatch.POLICIES`.
        totals: workspaces in bytes to share among all layers.
        dominated: whether fronts show the algorithms that are beaten, too.
    """

    limits: tuple[int, ...] = DEFAULT_LIMITS
    max_error: float | None = None
    policy: str = "all"
    totals: tuple[int, ...] = ()
    dominated: bool = False


def section(run: Run, question: Question | None = None) -> Section | None:
    """What one run of ``conv`` says; None where it holds nothing to study: no workspaces, or one algorithm only."""
    study = gather(run) if run.info.kernel == "conv" else None
    if study is None or all(len(points) < 2 for _, _, points in study.whole()):
        return None
    return section_of(study, question or Question())


def section_of(study: Study, question: Question) -> Section:
    """What all runs of a study say; tables that nothing was measured for are left out."""
    kept = accurate(study, question.max_error)
    gained = gains(kept, question.limits, question.policy, question.max_error)
    measured = outcomes(study)
    shared = shares(kept, question.totals, question.policy, question.max_error) if question.totals else []
    all_tables = (
        tables.fronts(kept, question.dominated),
        tables.cliffs(kept),
        tables.bounded(study, question.max_error),
        tables.regrets(study, question.limits, question.max_error),
        tables.worst(study, question.limits, question.max_error),
        tables.gains(gained),
        tables.totals(gained, study.settings()),
        tables.outcomes(measured, question.max_error),
        tables.shares(shared),
        tables.scaling(kept),
        tables.sensitivities(study),
    )
    return Section(
        "Algorithms and workspace",
        tuple(_findings(study, kept, question.max_error, gained, measured)),
        tuple(table for table in all_tables if table.rows),
    )


def text(content: Section) -> str:
    """The section for a terminal, in lines of at most 100 characters."""
    lines: list[str] = []
    for finding in content.findings:
        lines += wrapped(finding)
    for table in content.tables:
        lines += ["", *wrapped(table.caption, indent="")]
        named = table.headings[0] == LAYER  # a line of its own, since a layer's name is long
        drawn, kept = _drawn([row[named:] for row in table.rows], table.headings[named:])
        lines += drawn[:2]
        for row, line in zip(table.rows, drawn[2:], strict=True):
            lines += [row[0]] * (named and bool(row[0]))
            lines.append(line)
            beyond = zip(table.headings[named + kept :], row[named + kept :], strict=True)
            lines += [f"{'':8} {heading}: {cell}" for heading, cell in beyond if cell]
    return "\n".join(fit(line.rstrip()) for line in lines)


def _drawn(rows: Sequence[Sequence[str]], headings: Sequence[str]) -> tuple[list[str], int]:
    """The lines of a table of as many of the first columns as fit, and how many these are."""
    from tabulate import tabulate

    for kept in range(len(headings), 0, -1):
        shown = [row[:kept] for row in rows]
        lines = tabulate(shown, headings[:kept], tablefmt="simple", disable_numparse=True).splitlines()
        if max(len(line) for line in lines) <= WIDTH:
            break
    return lines, kept


def _findings(
    study: Study, kept: Study, max_error: float | None, gained: Sequence[Gain], measured: Sequence[Outcome]
) -> Iterable[str]:
    yield from study.unfinished
    counts = sorted(
        {count for layer in study.points if (count := threads(layer.backend, layer.threads)) is not None}
    )
    by = f", {'/'.join(map(str, counts))} thread{'s' * (counts != [1])}" if counts else ""
    where = ", ".join(sorted({f"{layer.backend}, {layer.mode}" for layer in study.points}))
    yield (
        f"{_count(len(study.points), 'case')} (a layer in a pass, layout and precision) on {where}{by}. "
        "Times are medians, with the larger side of their interval in %; workspaces fit a limit when strictly below "
        "it; errors are Frobenius-relative against float64."
    )
    missing = study.missing(study.points)
    if missing != 0:
        yield (
            f"Not measured of the layers asked for, and in no sum: {missing or 'some, their table is gone'} (each "
            "layer as often as its network has it, in each pass)."
        )
    whole = {layer: size for layer, size, _ in study.whole()}
    lost = sum(size not in kept.points.get(layer, {}) for layer, size in whole.items())
    if lost:
        yield (
            f"On the whole batch of {lost} of {_count(len(whole), 'case')} no algorithm is known to be as accurate "
            f"as --max-error {max_error:g} asks: they are left out, but where a table says otherwise."
        )
    if gained:
        yield ("So far: " if study.unfinished else "") + _verdict(gained)
    paying = [gain for gain in gained if gain.best.divided]
    if paying:
        best = max(paying, key=lambda gain: (gain.settled, gain.measured, gain.speedup))
        yield (
            f"The largest {'measured' if best.measured else 'predicted'} gain "
            f"is {best.layer_title} under {size_text(int(best.limit_bytes))}: {time_text(best.base.time_s)} undivided, "
            f"{time_text(best.best.time_s)} divided, {best.speedup:.2f} times as fast{_spread(best)}."
        )
    for named, ratios in (
        ("from kernels measured beside them", [one.ratio for one in measured]),
        ("from the kernels they were chosen by", [one.chosen_ratio for one in measured]),
    ):
        errors = [abs(ratio - 1) for ratio in ratios if ratio is not None]
        if errors:
            yield (
                f"Predicted ({named}) against measured times of {_count(len(errors), 'division')}: median absolute "
                f"error {percent_text(statistics.median(errors))} %, largest {percent_text(max(errors))} %."
            )


def _verdict(gained: Sequence[Gain]) -> str:
    """In how many cases dividing pays, and how that is known; measured times decide where there are any."""
    settled = [gain for gain in gained if gain.settled]
    unsettled = [gain for gain in gained if gain.measured and not gain.settled]
    counts = {
        "measured faster in every round": sum(gain.best.divided for gain in settled),
        "measured slower in every round": sum(not gain.best.divided for gain in settled),
        "within the spread of the rounds": sum(gain.range is not None for gain in unsettled),
        "measured in one round, spread unknown": sum(gain.range is None for gain in unsettled),
        "predicted faster, not measured": sum(gain.best.divided and not gain.measured for gain in gained),
        "no division is faster": sum(gain.division is None for gain in gained),
    }
    said = "; ".join(f"{text}: {count}" for text, count in counts.items() if count)
    pays = counts["measured faster in every round"]
    return (
        f"Dividing the batch pays in {pays or 'none'} of {_count(len(gained), 'case')} "
        f"(layers and limits). {said}."
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _spread(gain: Gain) -> str:
    return "" if gain.range is None else f" ({gain.range[0]:.2f} to {gain.range[1]:.2f} by round)"
