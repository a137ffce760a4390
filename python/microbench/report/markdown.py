"""A report as Markdown, for wherever that is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from microbench.figures import markdown_text
from microbench.report.sections import Section
from microbench.report.tables import Table


def markdown(title: str, sections: Sequence[Section], pictures: Mapping[str, str]) -> str:
    """The report as one text.

    Args:
        pictures: paths by the keys of their figures.
    """
    return "\n".join(
        [
            f"# {markdown_text(title)}",
            "",
            *(line for section in sections for line in _section(section, pictures)),
        ]
    )


def _section(section: Section, pictures: Mapping[str, str]) -> Iterator[str]:
    yield from (f"## {markdown_text(section.title)}", "")
    for paragraph in section.paragraphs:
        yield from (markdown_text(paragraph), "")
    if points := (*section.points, *section.limits()):
        yield from (*(f"- {markdown_text(point)}" for point in points), "")
    for table in section.tables:
        yield from (markdown_text(table.caption), "", *_table(table), "")
    for figure in section.figures:
        if figure.key in pictures:
            yield from (
                f"![{markdown_text(figure.title)}]({pictures[figure.key]})",
                "",
                markdown_text(f"{figure.caption} {figure.conditions}"),
                "",
            )
        else:
            yield from (f"Not drawn: {markdown_text(figure.title)}. The option --pictures draws it.", "")


def _table(table: Table) -> Iterator[str]:
    import tabulate

    headings = [markdown_text(column.heading) for column in table.columns]
    alignment = ["right" if column.number else "left" for column in table.columns]
    rows = [[markdown_text(cell.text) for cell in row] for row in table.rows]
    yield tabulate.tabulate(
        rows, headings, tablefmt="pipe", disable_numparse=True, colalign=alignment if rows else None
    )
