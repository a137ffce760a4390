"""A report as sections of text, tables and figures: what HTML and Markdown both are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from microbench.figures import one_line
from microbench.report import tables
from microbench.report.data import Report
from microbench.report.figure import Figure
from microbench.report.rules import rules
from microbench.report.tables import Table

_ROWS = 30  # of a table of a study


@dataclass(frozen=True)
class Section:
    """One section: paragraphs, then points of a list and the limits of its figures, tables and figures."""

    key: str
    title: str
    paragraphs: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()

    def limits(self) -> tuple[str, ...]:
        """Those of its figures, each once."""
        return tuple(dict.fromkeys(limit for figure in self.figures for limit in figure.limits))


def title(report: Report) -> str:
    """The report's title: the names of its sources."""
    return one_line("microbench: " + ", ".join(side.name for side in report.sides))


def sections(report: Report, figures: Sequence[Figure]) -> list[Section]:
    """All sections; one that the data say nothing for says so."""
    drawn: dict[str, list[Figure]] = {}
    for figure in figures:
        drawn.setdefault(figure.section, []).append(figure)

    def of(key: str, name: str, nothing: str, *shown: Table) -> Section:
        found = tuple(drawn.get(key, ()))
        return Section(key, name, () if found else (nothing,), tables=shown, figures=found)

    roofs = tables.roofs(report)
    failures = tables.failures(report)
    cautions = tables.cautions(report)
    judged = tables.plain(
        "rules",
        "Each row is computed from this report's own data.",
        ("rule", "what it asks", "state", "evidence"),
        [(str(rule.number), rule.text, rule.state, rule.evidence) for rule in rules(report)],
    )
    sums = tables.sums(report)
    return [
        Section(
            "overview",
            "Overview",
            () if sums.rows else ("No record has a time that may be used.",),
            tables=(tables.overview(report), *((sums,) if sums.rows else ())),
        ),
        Section(
            "environment",
            "Environment",
            points=tuple(tables.doubts(report)),
            tables=(tables.environment(report),),
        ),
        of(
            "roofline",
            "Roofline",
            "No record has a rate and a known traffic.",
            *((roofs,) if roofs.rows else ()),
        ),
        of("throughput", "Throughput", "No record has a rate."),
        of("cumulative", "Throughput over the time spent", "No series has two records with a rate."),
        of("samples", "Distribution of the samples", "No record has two samples or more."),
        of("workspace", "Time against workspace", "No problem was measured with different workspaces."),
        of("energy", "Energy", "No energy was measured."),
        *_studies(report),
        Section(
            "failures",
            "Unstable and failed records",
            () if failures.rows else ("Every record is ok.",),
            tuple(cautions),
            (failures,) if failures.rows else (),
        ),
        Section(
            "records",
            "Records",
            () if report.entries else ("There is no record.",),
            tables=(tables.records(report),),
        ),
        Section("rules", "The twelve rules of Hoefler & Belli", tables=(judged,)),
    ]


def _studies(report: Report) -> list[Section]:
    """What runs of convolution say of their algorithms; fronts are drawn as time against workspace."""
    found = []
    for place, (side, study) in enumerate(report.studies, start=1):
        name = f": {one_line(report.sides[side].name)}" if len(report.studies) > 1 else ""
        shown = (
            tables.plain(f"study-{place}-{table.key}", *_shortened(table.caption, table.rows, table.headings))
            for table in study.tables
            if table.key != "fronts"
        )
        found.append(Section(f"study-{place}", f"{study.title}{name}", study.findings, tables=tuple(shown)))
    return found


def _shortened(
    caption: str, rows: Sequence[tuple[str, ...]], headings: Sequence[str]
) -> tuple[str, Sequence[str], list[tuple[str, ...]]]:
    """Caption, headings and the first rows, each with the layer's name, which a study writes in the first row only."""
    more = (
        f" The first {_ROWS} of {len(rows)} rows; the command study shows all." if len(rows) > _ROWS else ""
    )
    full: list[tuple[str, ...]] = []
    for name, *rest in rows[:_ROWS]:
        full.append((name or full[-1][0], *rest))
    return caption + more, headings, full
