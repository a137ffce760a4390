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


@dataclass(frozen=True)
class Section:
    """One section: paragraphs, then points of a list, tables and figures."""

    key: str
    title: str
    paragraphs: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()


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
