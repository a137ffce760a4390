"""A comparison as text: table for terminals, markdown, csv and json. No ratio stands without both absolute times."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TextIO

from microbench.comparison.judging import Row, Total
from microbench.comparison.matching import Measurement
from microbench.comparison.report import Contrast, Report, Table
from microbench.comparison.setup import Factor
from microbench.figures import (
    ascii_text,
    fit,
    markdown_text,
    number_text,
    one_line,
    percent_text,
    shows_unicode,
    time_text,
    wrapped,
)
from microbench.formats import Format
from microbench.writers import write_csv

_HEADINGS = ("problem", "base", "other", "ratio", "interval", "P(<)", "least%", "verdict")
_WIDTHS = (33, -8, -8, -6, -13, -4, -6, 14)
_OPTIONAL = ("interval", "P(<)", "least%")


def write(report: Report, form: Format, stream: TextIO) -> None:
    """Writes ``report`` in ``form``; open a file for ``csv`` with ``newline=""``."""
    _WRITERS[form](report, stream)


def seconds_text(side: Measurement) -> str:
    """The time; a published one with no more digits than were published."""
    microseconds = round(1e6 * side.median())
    if side.published and microseconds < 1000 and math.isclose(microseconds, 1e6 * side.median()):
        return f"{microseconds} us"
    return time_text(side.median())


def ratio_text(ratio: float | None) -> str:
    """Three decimals from 0.1 to 10, else three significant digits, or what six characters hold."""
    if ratio is None:
        return "n/a"
    if not 5e-4 <= ratio < 99999.5:
        return f"{ratio:.0e}"
    if ratio < 9.9995:
        return f"{ratio:.{3 if ratio >= 0.0995 else 4}f}"
    return f"{ratio:.0f}" if ratio >= 99.95 else f"{ratio:#.3g}"


def interval_text(low: float | None, high: float | None) -> str:
    """Both ends of a ratio's interval."""
    return "n/a" if low is None or high is None else f"{ratio_text(low)}-{ratio_text(high)}"


def verdict_text(row: Row) -> str:
    """The verdict; of an undecided problem with the number of runs a side that would settle it."""
    return f"{row.verdict} >={row.runs_needed}" if row.runs_needed else row.verdict


def _cells(row: Row, ways: tuple[str, str]) -> tuple[str, ...]:
    pair = row.pair
    name = pair.key.title()
    if not any(ways) and any(way.title() for way in pair.ways):
        a, b = (way.title() or "unnamed" for way in pair.ways)
        name += f" {a}" if a == b else f" {a} against {b}"
    share = "n/a" if row.probability_less is None else f"{row.probability_less:.2f}"
    return (
        one_line(name) + "~" * (pair.base.unstable or pair.other.unstable),
        seconds_text(pair.base),
        seconds_text(pair.other),
        ratio_text(row.ratio),
        interval_text(row.ratio_low, row.ratio_high),
        share,
        percent_text(row.detectable),
        verdict_text(row),
    )


def _layout(table: Table) -> tuple[list[tuple[str, ...]], tuple[str, ...], tuple[int, ...]]:
    """Rows, headings and widths, without columns of which no row has a value."""
    rows = [_cells(row, table.conditions.ways) for row in table.rows]
    shown = [
        place
        for place, heading in enumerate(_HEADINGS)
        if heading not in _OPTIONAL or any(row[place] != "n/a" for row in rows)
    ]
    return (
        [tuple(row[place] for place in shown) for row in rows],
        tuple(_HEADINGS[place] for place in shown),
        tuple(_WIDTHS[place] for place in shown),
    )


def _caption(report: Report, contrast: Contrast, table: Table) -> str:
    shared = table.conditions
    base, other = (
        one_line(f"{side.name} ({way})" if way else side.name)
        for side, way in zip((report.base, contrast.other), shared.ways, strict=True)
    )
    first, second = ([getattr(row.pair, name) for row in table.rows] for name in ("base", "other"))
    level = f"{100 * report.confidence:g}%"
    interval = level
    why = ""
    if first[0].published or second[0].published:
        interval = f"what rounding leaves open and, of enough runs, the {level} interval of their median"
        why = " Undecided, because a published mean has no distribution that could be tested."
    chosen = (
        " Of each side the fastest library and algorithm, chosen from these very times."
        if contrast.best
        else ""
    )
    return (
        f"{shared.kernel} {shared.precision}, {shared.mode}. Base case: {base}, {_figure(first)}; other: {other}, "
        f"{_figure(second)}. Ratio: time of other over time of base; interval: {interval}.{why}{chosen}"
    )


def _figure(column: Sequence[Measurement]) -> str:
    """What the times of one side are."""
    if column[0].published:
        return "published means"
    counts = [len(side.times) for side in column]
    few, many = min(counts), max(counts)
    start = f" ({column[0].start} start)" if column[0].start else ""
    number = f"{few} run{'s' * (few != 1)}" if few == many else f"{few} to {many} runs"
    return f"medians of {number}{start}"


def _legend(report: Report) -> Iterator[str]:
    rows = [row for contrast in report.contrasts for table in contrast.tables for row in table.rows]
    if report.tests:
        yield (
            f"Verdicts: Mann-Whitney on the medians of process runs, {100 * report.confidence:g}% for all "
            f"{report.tests} problem{'s' * (report.tests != 1)} together; differences under "
            f"{percent_text(report.relevant)}% do not matter."
        )
    if any(row.probability_less is not None for row in rows):
        yield "P(<): probability that a run of other takes less time than one of base."
    if any(row.detectable is not None for row in rows):
        yield "least%: the smallest difference in the direction found that these runs could have shown."
    if any(row.runs_needed for row in rows):
        yield "undecided >=n: about n runs a side (--repeat n) would settle it."
    if any(row.pair.base.unstable or row.pair.other.unstable for row in rows):
        yield "~: in some run the interval of the median stayed wider than asked."


def _total_text(total: Total) -> str:
    text = (
        f"total of {total.problems}: {time_text(total.base_s)} against {time_text(total.other_s)}, "
        f"ratio {ratio_text(total.ratio)}"
    )
    if total.ratio_low is not None:
        text += f" ({interval_text(total.ratio_low, total.ratio_high)})"
    if total.rates and total.harmonic_means:
        rates, means = (
            " against ".join(number_text(rate / 1e9) for rate in pair)
            for pair in (total.rates, total.harmonic_means)
        )
        text += f"; {rates} GFLOP/s in all, harmonic means {means}"
    return text


def _verdicts(contrast: Contrast) -> str:
    counts = Counter(row.verdict for table in contrast.tables for row in table.rows)
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())


def _notes(report: Report) -> Iterator[tuple[str, list[str]]]:
    """What stands below the tables: headings, each with its items."""
    yield "", list(_legend(report))
    for contrast in report.contrasts:
        name = one_line(contrast.other.name)
        yield (
            f"{name}:",
            [_verdicts(contrast), *(one_line(refusal.sentence()) for refusal in contrast.refusals)],
        )
        items = [factor_text(factor) for factor in contrast.factors]
        differing = "1 factor differs" if len(items) == 1 else f"{len(items)} factors differ"
        yield (
            f"{differing} between the set-ups ({one_line(report.base.name)} | {name}):",
            items or ["none that was recorded"],
        )
    for name, limits in report.limits.items():
        yield f"Limits of {one_line(name)}:", list(limits)


def factor_text(factor: Factor) -> str:
    """Name and both values."""
    return f"{factor.name}: {_value(factor.base)} | {_value(factor.other)}"


def _value(value: Any) -> str:
    if value is None:
        return "not recorded"
    return one_line(", ".join(map(str, value)) if isinstance(value, list) else str(value)) or "(empty)"


def _write_table(report: Report, stream: TextIO) -> None:
    unicode = shows_unicode(stream)
    for line in _table_lines(report):
        stream.write((line if unicode else ascii_text(line)).rstrip() + "\n")


def _table_lines(report: Report) -> Iterator[str]:
    for contrast in report.contrasts:
        for table in contrast.tables:
            yield from wrapped(_caption(report, contrast, table), indent="")
            yield from aligned(*_layout(table))
            yield from wrapped(_total_text(table.total))
            yield ""
    for heading, items in _notes(report):
        yield from wrapped(heading, indent="")
        indent = "  " * bool(heading)
        for item in items:
            yield from (f"{indent}{line}" for line in _narrow(item, len(indent)))
        yield ""


def _narrow(text: str, indent: int) -> Iterator[str]:
    """``text`` wrapped so that it may stand ``indent`` characters from the margin."""
    return (line[indent:] for line in wrapped(" " * indent + text, indent=" " * (indent + 2)))


def aligned(rows: Iterable[Sequence[str]], headings: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """A table in lines; negative widths align to the right, a first cell that is too long gets lines of its own."""

    def line(cells: Sequence[str]) -> str:
        return " ".join(
            fit(cell, abs(width)).rjust(-width).ljust(width)
            for cell, width in zip(cells, widths, strict=True)
        ).rstrip()

    yield line(headings)
    yield "-" * sum(map(abs, widths), len(widths) - 1)
    for name, *cells in rows:
        if len(name) > widths[0]:
            yield from wrapped(name)
            name = ""
        yield line((name, *cells))


def pipe_table(rows: Iterable[Sequence[str]], headings: Sequence[str], widths: Sequence[int]) -> str:
    """The same table in Markdown."""
    import tabulate

    return tabulate.tabulate(
        [[markdown_text(cell) for cell in row] for row in rows],
        [markdown_text(heading) for heading in headings],
        tablefmt="pipe",
        disable_numparse=True,
        colalign=["right" if width < 0 else "left" for width in widths],
    )


def _write_markdown(report: Report, stream: TextIO) -> None:
    for contrast in report.contrasts:
        for table in contrast.tables:
            rows = pipe_table(*_layout(table))
            caption = markdown_text(_caption(report, contrast, table))
            stream.write(f"{caption}\n\n{rows}\n\n{markdown_text(_total_text(table.total))}\n\n")
    for heading, items in _notes(report):
        stream.write(f"{markdown_text(heading)}\n\n" if heading else "")
        stream.write("".join(f"- {markdown_text(item)}\n" for item in items) + "\n" * bool(items))


def _objects(report: Report, contrast: Contrast) -> Iterator[dict[str, Any]]:
    """The exact values of each row, by name."""
    for table in contrast.tables:
        for row in table.rows:
            pair = row.pair
            yield {
                "base": report.base.name,
                "other": contrast.other.name,
                "kernel": pair.key.kernel,
                **{f"problem_{name}": value for name, value in pair.key.problem},
                "pass": pair.key.pass_,
                "precision": pair.key.precision,
                "layout": pair.key.layout,
                "mode": pair.key.mode,
                **{f"base_{name}": value for name, value in pair.ways[0]._asdict().items()},
                **{f"other_{name}": value for name, value in pair.ways[1]._asdict().items()},
                "flops": pair.base.flops,
                "base_s": pair.base.median(),
                "other_s": pair.other.median(),
                "base_runs": len(pair.base.times),
                "other_runs": len(pair.other.times),
                "base_published": pair.base.published,
                "other_published": pair.other.published,
                "base_start": pair.base.start or None,
                "other_start": pair.other.start or None,
                "unstable": pair.base.unstable or pair.other.unstable,
                "ratio": row.ratio,
                "ratio_low": row.ratio_low,
                "ratio_high": row.ratio_high,
                "confidence": report.confidence,
                "relevant": report.relevant,
                "p_value": row.p_value,
                "p_adjusted": row.p_adjusted,
                "probability_less": row.probability_less,
                "detectable": row.detectable,
                "verdict": row.verdict,
                "reason": row.reason,
                "runs_needed": row.runs_needed,
            }


def _write_csv(report: Report, stream: TextIO) -> None:
    rows = [row for contrast in report.contrasts for row in _objects(report, contrast)]
    rows += [
        {
            "base": report.base.name,
            "other": contrast.other.name,
            "problem": title,
            "verdict": "not compared",
            "reason": refusal.reason,
        }
        for contrast in report.contrasts
        for refusal in contrast.refusals
        for title in refusal.titles
    ]
    limits = "; ".join(f"{name}: {limit}" for name, limits in report.limits.items() for limit in limits)
    names = dict.fromkeys([*(name for row in rows for name in row), "limits"])
    write_csv([row | {"limits": limits} for row in rows], list(names), stream)


def _write_json(report: Report, stream: TextIO) -> None:
    import msgspec

    content = {
        "base": report.base.name,
        "device": report.base.source.device,
        "confidence": report.confidence,
        "relevant": report.relevant,
        "tests": report.tests,
        "limits": report.limits,
        "contrasts": [
            {
                "other": contrast.other.name,
                "best": contrast.best,
                "device": contrast.other.source.device,
                "rows": list(_objects(report, contrast)),
                "totals": [table.conditions._asdict() | vars(table.total) for table in contrast.tables],
                "not_compared": [
                    {"reason": refusal.reason, "problems": refusal.titles} for refusal in contrast.refusals
                ],
                "factors": [factor._asdict() for factor in contrast.factors],
            }
            for contrast in report.contrasts
        ],
    }
    stream.write(msgspec.json.format(msgspec.json.encode(content), indent=1).decode() + "\n")


_WRITERS: dict[Format, Callable[[Report, TextIO], None]] = {
    "table": _write_table,
    "csv": _write_csv,
    "json": _write_json,
    "markdown": _write_markdown,
}
