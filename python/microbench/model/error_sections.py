"""What the model says of its errors at what it was not fitted to, and of its residuals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from microbench.comparison.text import ratio_text
from microbench.figures import fit, number_text, one_line, time_text
from microbench.model import Report
from microbench.model.judging import Error

_LEVEL = 0.05
NAME_WIDTH = 24


@dataclass(frozen=True)
class Section:
    """A heading, a table where it has rows, and sentences. Negative widths align to the right."""

    heading: str
    headings: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    sentences: tuple[str, ...] = ()


def error_sections(report: Report) -> Iterator[Section]:
    """Problems left out, devices left out, residuals."""
    yield Section(
        "Leave one problem out: errors at problems that were not fitted",
        ("kernel", "times", "median time", "median error", "90 % under"),
        (40, -6, -12, -12, -12),
        tuple(
            (each.name, str(each.observations), time_text(each.seconds), *_error(each))
            for each in report.problem_errors
        ),
        (
            "An error is the factor between measured and predicted time, whichever is larger; it has no interval.",
            *_unpredictable(report.problem_errors),
        ),
    )
    yield _left_out_devices(report)
    yield from _diagnostics(report)


def _left_out_devices(report: Report) -> Section:
    heading = "Leave one device out: errors at devices that were not fitted"
    if not report.device_errors:
        return Section(
            heading, sentences=("There is one device, so none can be left out: give runs of a second one.",)
        )
    taken: dict[str, list[str]] = {}
    for each in report.device_errors:
        taken.setdefault(each.reference, []).append(each.name)
    from_ceilings = [each.ceilings for each in report.device_errors if each.ceilings is not None]
    unknown = [each.name for each in report.device_errors if each.ceilings is None]
    sentences = [
        "Own factor: median of measured over predicted time, where the prediction takes the device for the one named "
        "below; scaled: errors after this one factor is divided out. Without interactions; errors have no interval.",
        "Ceilings: errors where nothing of the device is known but its ceilings"
        + (f"; those of {', '.join(unknown)} are unknown." if unknown else ".")
        if report.bounded
        else f"No errors from ceilings: {report.why_not_bounded}.",
        *_unpredictable([each.scaled for each in report.device_errors]),
        *_unpredictable(from_ceilings, "From ceilings not"),
    ]
    return Section(
        heading,
        ("device", "times", "median", "own factor", "scaled median", "90 %", "ceilings median", "90 %"),
        (24, -5, -8, -11, -13, -7, -15, -7),
        tuple(
            (
                device_name(each.name),
                str(each.scaled.observations),
                time_text(each.scaled.seconds),
                ratio_text(each.own_factor),
                *_error(each.scaled),
                *(("n/a", "n/a") if each.ceilings is None else _error(each.ceilings)),
            )
            for each in report.device_errors
        ),
        (
            *sentences,
            "; ".join(f"Taken for {name}: {', '.join(others)}" for name, others in taken.items()) + ".",
        ),
    )


def _error(each: Error) -> tuple[str, str]:
    median, ninetieth = (
        "n/a" if value is None else f"x{ratio_text(value)}" for value in (each.median, each.ninetieth)
    )
    return median, ninetieth


def _unpredictable(errors: Sequence[Error], start: str = "Not") -> list[str]:
    lost = [
        f"{each.unpredictable} of {each.name}" for each in errors if each.unpredictable and each.name != "all"
    ]
    return [
        f"{start} predictable, because nothing else has their level of a factor: {', '.join(lost)}."
    ] * bool(lost)


def _diagnostics(report: Report) -> Iterator[Section]:
    found = report.diagnostics
    yield Section(
        "Residuals, from short to long fitted times",
        ("fitted times", "times", "median ratio", "10 %", "90 %"),
        (30, -6, -13, -8, -8),
        tuple(
            (
                f"{time_text(each.low_s)} to {time_text(each.high_s)}",
                str(each.observations),
                *(ratio_text(value) for value in (each.median, each.tenth, each.ninetieth)),
            )
            for each in found.fifths
        ),
        (
            "Ratio: measured over fitted time; medians that leave 1 show what the terms miss.",
            _test(found.normality_p, f"Normality of residuals ({found.normality_test})", "not normal"),
            _test(found.equal_spread_p, "Equal spread (Breusch-Pagan)", "it depends on the fitted time"),
        ),
    )
    if found.influences:
        yield Section(
            "Most influential problems",
            ("problem", "times", "Cook's distance"),
            (74, -6, -15),
            tuple(
                (each.problem, str(each.observations), number_text(each.distance))
                for each in found.influences
            ),
            (
                "How far all fitted times move without the problem, over the coefficients and the residual variance.",
            ),
        )
    yield Section(
        "Largest residuals",
        ("problem", "device", "precision", "measured", "fitted", "ratio"),
        (40, 20, 9, -9, -9, -6),
        tuple(
            (
                each.problem,
                each.device,
                each.precision,
                time_text(each.seconds),
                time_text(each.fitted_s),
                ratio_text(each.seconds / each.fitted_s),
            )
            for each in found.largest
        ),
    )


def _test(p_value: float | None, what: str, rejected: str) -> str:
    if p_value is None:
        return f"{what}: residuals are all the same, so not tested."
    verdict = f"{rejected}; no interval here assumes otherwise" if p_value < _LEVEL else "not rejected"
    return f"{what}: p {p_text(p_value)}: {verdict}."


def p_text(p_value: float | None) -> str:
    """Four decimals."""
    if p_value is None:
        return "n/a"
    return "<0.0001" if p_value < 1e-4 else f"{p_value:.4f}"


def device_name(name: str) -> str:
    """Of a device, as short as tables need it."""
    return fit(one_line(name), NAME_WIDTH)
