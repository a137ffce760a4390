"""Reports: what sources hold (`data`) as tables and figures (`sections`), these as HTML, Markdown or pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from microbench.errors import InputError
from microbench.sources import Source

Format = Literal["html", "markdown"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[Format, str] = {"html": ".html", "markdown": ".md"}


def write(
    sources: Sequence[Source], output: Path, form: Format = "html", pictures: Path | None = None
) -> list[Path]:
    """Writes the report of ``sources`` to the file ``output`` and its figures to the folder ``pictures``, if any.

    Returns:
        The files written, the report first.

    Raises:
        InputError: a run cannot be read, a library for reports is missing, or a file cannot be written.
    """
    from microbench.report.data import collect
    from microbench.report.plots import figures
    from microbench.report.sections import sections, title

    report = collect(sources)
    drawn = figures(report)
    content = sections(report, drawn)
    files: list[Path] = []
    if pictures is not None:
        from microbench.report import pictures as static

        files = static.write(drawn, pictures)
    if form == "html":
        from microbench.report.page import page

        text = page(title(report), content, report)
    else:
        from microbench.report.markdown import markdown

        paths = {path.stem: os.path.relpath(path, output.parent) for path in files if path.suffix == ".svg"}
        text = markdown(title(report), content, paths)
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{output}: cannot be written ({error.strerror}): choose another file by --output"
        ) from error
    return [output, *files]
