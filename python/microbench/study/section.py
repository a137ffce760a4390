"""The study as tables: for the terminal, and as a section of a report."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from microbench.environment.text import size_text
from microbench.figures import fit, percent_text, time_text, wrapped
from microbench.store import Run
from microbench.study import tables
from microbench.study.divisions import Gain, Outcome, gains, outcomes
from microbench.study.fronts import within
from microbench.study.layers import Study, gather
from microbench.study.networks import shares
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
    kept = _accurate(study, question.max_error)
    gained = gains(kept, question.limits, question.policy, question.max_error)
    measured = outcomes(study)
    shared = shares(kept, question.totals, question.policy, question.max_error) if question.totals else []
    all_tables = (
        tables.fronts(kept, question.dominated),
        tables.cliffs(kept),
        tables.bounded(study, question.max_error),
        tables.regrets(study, question.limits),
        tables.worst(study, question.limits),
        tables.gains(gained),
        tables.totals(gained),
        tables.outcomes(measured),
        tables.shares(shared),
        tables.scaling(kept),
        tables.sensitivities(study),
    )
    return Section(
        "Algorithms and workspace",
        tuple(_findings(kept, gained, measured)),
        tuple(table for table in all_tables if table.rows),
    )


def text(content: Section) -> str:
    """The section for a terminal, in lines of at most 100 characters."""
    from tabulate import tabulate

    lines: list[str] = []
    for finding in content.findings:
        lines += wrapped(finding)
    for table in content.tables:
        lines += ["", *wrapped(table.caption, indent="")]
        named = table.headings[0] == LAYER  # a line of its own, since a layer's name is long
        drawn = tabulate(
            [row[named:] for row in table.rows],
            table.headings[named:],
            tablefmt="simple",
            disable_numparse=True,
        ).splitlines()
        lines += drawn[:2]
        for row, line in zip(table.rows, drawn[2:], strict=True):
            lines += [row[0]] * (named and bool(row[0]))
            lines.append(line)
    return "\n".join(fit(line.rstrip()) for line in lines)


def _accurate(study: Study, max_error: float | None) -> Study:
    """The study without the algorithms of a larger or unknown error."""
    if max_error is None:
        return study
    points = {
        layer: {
            size: tuple(kept) for size, all_ in sizes.items() if (kept := within(all_, max_error=max_error))
        }
        for layer, sizes in study.points.items()
    }
    return Study(
        {layer: sizes for layer, sizes in points.items() if sizes},
        study.labels,
        study.divisions,
        study.fills,
        study.triad_bytes_per_s,
    )


def _findings(study: Study, gained: Sequence[Gain], measured: Sequence[Outcome]) -> Iterable[str]:
    threads = sorted({layer.threads for layer in study.points})
    where = ", ".join(sorted({f"{layer.backend}, {layer.mode}" for layer in study.points}))
    yield (
        f"{len(study.points)} layers and passes on {where}, {'/'.join(map(str, threads))} threads. Times are medians, "
        "with the larger side of their interval in %; workspaces fit a limit when strictly below it; errors are "
        "Frobenius-relative against float64."
    )
    divided = [gain for gain in gained if gain.best.divided and gain.speedup > 1]
    if divided:
        best = max(divided, key=lambda gain: (gain.measured, gain.speedup))
        yield (
            f"Dividing the batch pays in {len(divided)} of {len(gained)} cases (layers and limits); the largest "
            f"{'measured' if best.measured else 'predicted'} gain "
            f"is {best.layer_title} under {size_text(int(best.limit_bytes))}: {time_text(best.base_s)} undivided, "
            f"{time_text(best.time_s)} divided, {best.speedup:.2f} times as fast."
        )
    elif gained:
        yield f"Dividing the batch pays in none of {len(gained)} cases (layers and limits)."
    errors = [abs(one.ratio - 1) for one in measured if one.ratio is not None]
    if errors:
        yield (
            f"Predicted against measured times of {len(errors)} divisions: median absolute error "
            f"{percent_text(statistics.median(errors))} %, largest {percent_text(max(errors))} %."
        )
