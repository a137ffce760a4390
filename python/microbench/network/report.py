"""Fits, forecasts and the cost of noise as text of at most 100 columns, csv, json or markdown."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from microbench.figures import number_text, percent_text, time_text, wrapped
from microbench.network.fit import CONFIDENCE, Fit, Parameter
from microbench.network.judging import WIDEST, Agreement
from microbench.network.landscape import Forecast, NoiseCost, fastest_of, ranges

if TYPE_CHECKING:
    from microbench.formats import Format

_SHORT = {
    "recursive_doubling": "doubling",
    "rabenseifner": "rabenseif.",
    "torus_2d": "torus 2-D",
    "hierarchical": "hierarch.",
}
_LEVEL = f"{100 * CONFIDENCE:g} %"


def _short(label: str) -> str:
    """The name of a series in lines narrow enough for six columns of them."""
    name, _, rest = label.partition(" ")
    return textwrap.fill(f"{_SHORT.get(name, name)} {rest}".strip(), 12, break_long_words=False)


def bytes_text(nbytes: float) -> str:
    """``nbytes`` with a binary prefix where that is exact or large: ``64 KiB``."""
    for prefix, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if nbytes >= 2**power:
            return f"{number_text(nbytes / 2**power).rstrip('0').rstrip('.')} {prefix}"
    return f"{nbytes:g} B"


def paragraph(text: str) -> str:
    """``text`` in lines that fit."""
    return "\n".join(wrapped(text, indent=""))


def _table(rows: Iterable[Sequence[str]], headings: Sequence[str], left: int = 1) -> str:
    aligned = ["left"] * left + ["right"] * (len(headings) - left)
    return tabulate(list(rows), headings, "simple", disable_numparse=True, colalign=aligned)


def fit_text(fits: dict[str, Fit], together: list[Parameter] | None, agreement: Agreement) -> str:
    """The parameters with their intervals, what they cannot say, and predicted against measured."""
    rows = []
    for label, fit in fits.items():
        alphas, betas = fit.parameters()[: len(fit.from_bytes)], fit.parameters()[len(fit.from_bytes) :]
        for alpha, beta in zip(alphas, betas, strict=True):
            first = alpha.from_bytes == 0
            rows.append(
                (
                    _short(label) if first else "",
                    bytes_text(alpha.from_bytes),
                    *_parameter(alpha, 1e6),
                    *_parameter(beta, 1e9),
                    number_text(math.exp(fit.misfit)) if first else "",
                    str(len(fit.points)) if first else "",
                )
            )
    headings = ("fitted", "from", "alpha us", _LEVEL, "beta ns/B", _LEVEL, "misfit", "points")
    parts = [
        paragraph(
            f"Parameters with {_LEVEL} intervals (Huber regression of log times, Student's t), of fp32 sums out of "
            "place where nothing else is named. alpha is L + 2 o of "
            "LogGP: all-reduce timings show only this sum, and nothing of g, as sends wait for receives. beta is "
            "G and the time to add what was received, of which an algorithm alone shows only the sum. Misfit: the "
            "factor by which measured times typically miss the line beyond the error of measurement."
        ),
        _table(rows, headings, 2),
    ]
    if together:
        parts.append(
            paragraph(
                "All of them together, one line for all sizes: "
                + "; ".join(
                    f"{each.name} {value} {unit} {interval}"
                    for each, (scale, unit) in zip(
                        together, ((1e6, "us"), (1e9, "ns/B"), (1e9, "ns/B")), strict=True
                    )
                    for value, interval in [_parameter(each, scale)]
                )
                + ". Here gamma, the time to add a byte, is told from G, as recursive doubling adds more of its bytes."
            )
        )
    return "\n\n".join([*parts, agreement_text(agreement, "each by a fit without it")])


def _parameter(parameter: Parameter, scale: float) -> tuple[str, str]:
    if parameter.low is None or parameter.high is None:
        return "n/a", "not determined"
    low, high = (number_text(scale * edge) for edge in (parameter.low, parameter.high))
    return number_text(scale * parameter.value), f"[{low}, {high}]"


def agreement_text(agreement: Agreement, how: str) -> str:
    """Predicted against measured, and the verdict."""
    rows = [
        (
            _short(each.point.series),
            str(each.point.ranks),
            bytes_text(each.point.nbytes),
            time_text(each.point.median_s),
            time_text(each.predicted_s),
            f"[{time_text(each.low_s)}, {time_text(each.high_s)}]",
            "yes" if each.inside else "no",
        )
        for each in agreement.judged
    ]
    headings = ("predicted", "ranks", "bytes", "median", "simulated", f"{_LEVEL} interval", "inside")
    count = len(agreement.judged)
    verdict = "reproduces" if agreement.reproduced else "does NOT reproduce"
    if agreement.factor > WIDEST:
        verdict = f"cannot be held against (intervals wider than a factor of {WIDEST:g} say nothing)"
    return "\n\n".join(
        (
            _table(rows, headings),
            paragraph(
                f"The simulator {verdict} the measured medians ({how}): {agreement.inside} of {count} "
                f"({percent_text(agreement.inside / count)} %) lie inside their {_LEVEL} intervals, which "
                f"reach a factor of {number_text(agreement.factor)} (median) from the prediction; so few or fewer "
                f"would by chance with p = {agreement.p_value:.2g}."
            ),
        )
    )


def forecast_text(found: Sequence[Forecast], measured_ranks: Sequence[int]) -> str:
    """Times of all algorithms, and where the fastest changes."""
    labels = list(dict.fromkeys(each.label for each in found))
    cells = {(each.label, each.ranks, each.nbytes): each for each in found}
    best = fastest_of(found)
    rows = []
    for ranks, nbytes in best:
        times = [
            time_text(cell.time_s) if (cell := cells.get((label, ranks, nbytes))) else "n/a"
            for label in labels
        ]
        rows.append((str(ranks), bytes_text(nbytes), *times))
    factors = [
        max(
            (each.high_s / each.time_s for each in found if each.label == label and each.high_s), default=None
        )
        for label in labels
    ]
    text = "Forecast times without noise."
    if measured_ranks:
        text += (
            f" Measured were {min(measured_ranks)} to {max(measured_ranks)} ranks; the last line gives the factor "
            f"within which {_LEVEL} of measured times lie, beyond those ranks only as far as the network stays the "
            "same (no contention, no longer ways)."
        )
        rows.append(
            ("within", "a factor", *("n/a" if factor is None else number_text(factor) for factor in factors))
        )
    parts = [paragraph(text)]
    for first in range(0, len(labels), 6):
        names = [_short(label) for label in labels[first : first + 6]]
        part = [(*row[:2], *row[2 + first : 8 + first]) for row in rows]
        parts.append(_table(part, ("ranks", "bytes", *names), 0))
    return "\n\n".join(parts)


def ranges_text(found: Sequence[Forecast]) -> str:
    """Where the fastest algorithm changes."""
    alike: dict[str, list[int]] = {}
    for ranks, starts in ranges(fastest_of(found)).items():
        words = [starts[0][1], *(f"from {bytes_text(nbytes)} {label}" for nbytes, label in starts[1:])]
        alike.setdefault(", ".join(words), []).append(ranks)
    rows: list[tuple[str, str]] = []
    for words_of, its in alike.items():
        spans = textwrap.wrap(", ".join(map(str, its)), 25)
        lines = textwrap.wrap(words_of, 70)
        rows += itertools.zip_longest(spans, lines, fillvalue="")
    return "Fastest algorithm by the size of the vector, to a factor of 2 in size:\n\n" + tabulate(
        rows, ("ranks", "fastest"), "simple", disable_numparse=True, colalign=("right", "left")
    )


def noise_text(costs: Sequence[NoiseCost], profile: str, lower_bound: bool) -> str:
    """What noise costs, and the fastest algorithm with and without it."""
    fastest = {
        (each.ranks, each.nbytes): (
            min((c for c in costs if (c.ranks, c.nbytes) == (each.ranks, each.nbytes)), key=_quiet).label,
            min((c for c in costs if (c.ranks, c.nbytes) == (each.ranks, each.nbytes)), key=_noisy).label,
        )
        for each in costs
    }
    rows = []
    for each in costs:
        quiet_best, noisy_best = fastest[each.ranks, each.nbytes]
        mark = ("quiet " if each.label == quiet_best else "") + ("noisy" if each.label == noisy_best else "")
        rows.append(
            (
                _short(each.label),
                str(each.ranks),
                bytes_text(each.nbytes),
                time_text(each.quiet_s),
                time_text(each.noisy_s),
                f"[{time_text(each.low_s)}, {time_text(each.high_s)}]",
                number_text(each.slow_down),
                mark.strip(),
            )
        )
    text = (
        f"Noise: {profile}. Mean time over up to 64 repetitions (fewer the more ranks there are, one from 16384 on), "
        "the least and the most of them; for rings of more than 16384 ranks the bounds of the estimate. Fastest: "
        "without noise, with it."
    )
    if lower_bound:
        text += (
            " Fitted parameters do not tell which part of alpha keeps processors busy: none is assumed, so that noise "
            "costs at least this much; --overhead gives it."
        )
    headings = ("algorithm", "ranks", "bytes", "quiet", "noisy", "least, most", "noisy/quiet", "fastest")
    return paragraph(text) + "\n\n" + _table(rows, headings)


def _quiet(cost: NoiseCost) -> float:
    return cost.quiet_s


def _noisy(cost: NoiseCost) -> float:
    return cost.noisy_s


def rows_text(found: Sequence[Forecast], costs: Sequence[NoiseCost], form: Format) -> str:
    """The forecasts, one a row, with what noise makes of them; null or empty where that was not simulated."""
    noisy = {(each.label, each.ranks, each.nbytes): each for each in costs}
    rows: list[dict[str, Any]] = []
    for each in found:
        row = {
            {"label": "algorithm", "nbytes": "bytes"}.get(name, name): value
            for name, value in asdict(each).items()
        }
        cost = noisy.get((each.label, each.ranks, each.nbytes))
        rows.append(
            row
            | {
                "noisy_s": cost and cost.noisy_s,
                "noisy_low_s": cost and cost.low_s,
                "noisy_high_s": cost and cost.high_s,
                "repetitions": cost and cost.repetitions,
            }
        )
    if form == "json":
        return json.dumps(rows, indent=1)
    if form == "markdown":
        return tabulate(rows, "keys", "pipe", missingval="n/a", floatfmt=".4g")
    stream = io.StringIO()
    writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().rstrip("\n")
