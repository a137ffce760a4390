"""What the model says as text: tables for terminals, Markdown, and JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, Literal, TextIO, get_args

from microbench.comparison.text import aligned, pipe_table
from microbench.figures import ascii_text, markdown_text, one_line, shows_unicode, wrapped
from microbench.model import Report
from microbench.model.error_sections import Section
from microbench.model.sections import sections

Format = Literal["table", "json", "markdown"]
FORMATS: tuple[Format, ...] = get_args(Format)


def write(report: Report, form: Format, stream: TextIO) -> None:
    """Writes ``report`` in ``form``."""
    _WRITERS[form](report, stream)


def _write_table(report: Report, stream: TextIO) -> None:
    unicode = shows_unicode(stream)
    for section in sections(report):
        for line in _lines(section):
            stream.write((line if unicode else ascii_text(line)).rstrip() + "\n")


def _lines(section: Section) -> Iterator[str]:
    yield from wrapped(one_line(section.heading), indent="")
    if section.rows:
        yield from aligned(
            [tuple(map(one_line, row)) for row in section.rows], section.headings, section.widths
        )
    for sentence in section.sentences:
        yield from wrapped(f"  {one_line(sentence)}", indent="    ")
    yield ""


def _write_markdown(report: Report, stream: TextIO) -> None:
    for section in sections(report):
        stream.write(f"## {markdown_text(section.heading)}\n\n")
        if section.rows:
            stream.write(pipe_table(section.rows, section.headings, section.widths) + "\n\n")
        stream.write(
            "".join(f"- {markdown_text(each)}\n" for each in section.sentences)
            + "\n" * bool(section.sentences)
        )


def _write_json(report: Report, stream: TextIO) -> None:
    import msgspec

    content = {
        "terms": report.fitted.design.terms,
        "coefficients": report.fitted.rank,
        "times": len(report.fitted.times),
        "problems": len(report.fitted.names),
        "r_squared": report.fitted.r_squared,
        "confidence": report.confidence,
        "base": report.base,
        "base_s": None if report.base_s is None else asdict(report.base_s),
        "never_measured_together": report.apart,
        "only_levels": report.alone,
        "devices": [
            {
                "name": device.name,
                "processor": device.processor,
                "hosts": device.hosts,
                "sources": device.sources,
                "ceilings": [asdict(each) for each in device.ceilings],
            }
            for device in report.data.devices
        ],
        "analysis_of_variance": [asdict(each) for each in report.variances],
        "effects": [asdict(each) for each in report.effects],
        "slopes": [asdict(each) for each in report.slopes],
        "leave_one_problem_out": [asdict(each) for each in report.problem_errors],
        "leave_one_device_out": [asdict(each) for each in report.device_errors],
        "no_errors_from_ceilings": report.why_not_bounded or None,
        "diagnostics": asdict(report.diagnostics),
        "predictions": [asdict(each) for each in report.predictions],
        "left_out": report.data.left_out,
        "limits": report.data.limits,
    }
    encoded = msgspec.json.encode(_finite(content))
    stream.write(msgspec.json.format(encoded, indent=1).decode() + "\n")


def _finite(value: Any) -> Any:
    """``value`` with None for what is not a number."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


_WRITERS: dict[Format, Callable[[Report, TextIO], None]] = {
    "table": _write_table,
    "json": _write_json,
    "markdown": _write_markdown,
}
