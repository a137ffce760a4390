"""What the model says, as tables and sentences. No ratio stands without a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from microbench.comparison.text import interval_text, ratio_text
from microbench.figures import number_text, percent_text, time_text
from microbench.model import Report, Slope
from microbench.model.cases import DESCRIBED, Prediction
from microbench.model.data import Device
from microbench.model.judging import Error

_LEVEL = 0.05


@dataclass(frozen=True)
class Section:
    """A heading, a table where it has rows, and sentences. Negative widths align to the right."""

    heading: str
    headings: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    sentences: tuple[str, ...] = ()


def sections(report: Report) -> Iterator[Section]:
    """All that the model says, in order."""
    yield _model(report)
    yield _devices(report)
    yield _variances(report)
    yield _effects(report)
    yield _slopes(report)
    yield Section(
        "Leave one problem out: errors at problems that were not fitted",
        ("kernel", "times", "median time", "median error", "90 % under"),
        (40, -6, -12, -12, -12),
        tuple(
            (each.name, str(each.observations), time_text(each.seconds), *_error(each))
            for each in report.problem_errors
        ),
        (
            "An error is the factor between measured and predicted time, whichever is larger.",
            *_unpredictable(report.problem_errors),
        ),
    )
    yield _left_out_devices(report)
    yield from _diagnostics(report)
    yield from _predictions(report)
    yield Section("Left out", sentences=report.data.left_out or ("nothing",))
    if report.data.limits:
        yield Section("Limits", sentences=tuple(_limits(report.data.limits)))


def _model(report: Report) -> Section:
    fitted = report.fitted
    problems = len(fitted.names)
    terms = " + ".join(fitted.design.terms)
    alone = ", ".join(f"{factor} ({level or 'unnamed'})" for factor, level in report.alone.items())
    dropped = len(fitted.design.columns) - fitted.rank
    devices = len(report.data.devices)
    sentences = [
        f"log(time) = {terms}: {fitted.rank} coefficients, {len(fitted.times)} times (medians) of {problems} problems "
        f"on {devices} device{'s' * (devices != 1)}; R^2 {_share(fitted.r_squared)}."
    ]
    if alone:
        sentences.append(f"Without an effect, because there is only one: {alone}.")
    if dropped:
        sentences.append(
            f"{dropped} further coefficient{'s' * (dropped != 1)} cannot be told from the others by these data."
        )
    if "device:kernel" in terms or "device:precision" in terms:
        sentences.append(
            "With interactions, effects of devices, kernels, precisions hold at the base case's levels of the others."
        )
    sentences.append(
        f"Intervals: {100 * report.confidence:g} %, cluster jackknife by problem (CV3): they hold for residuals that "
        "are not normal, not of equal spread, and alike within a problem."
    )
    return Section("Model", sentences=tuple(sentences))


def _share(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"


def _devices(report: Report) -> Section:
    times = [each.device for each in report.fitted.observations]
    return Section(
        "Devices and their ceilings",
        ("device", "processor", "times", "compute, memory"),
        (24, 26, -6, 41),
        tuple(
            (device.name, device.processor, str(times.count(device.name)), _ceilings(device))
            for device in report.data.devices
        ),
        ("Ceilings that are stated follow from the makers' descriptions; n/a: unknown.",),
    )


def _ceilings(device: Device) -> str:
    known = device.ceilings[0]
    if known.memory is None or not known.compute:
        return "n/a"
    precision = "fp32" if "fp32" in known.compute else next(iter(known.compute))
    (peak, origin), (bandwidth, memory_origin) = known.compute[precision], known.memory
    origins = origin if origin == memory_origin else f"{origin}, {memory_origin}"
    return f"{precision} {number_text(peak / 1e9)} GFLOP/s, {number_text(bandwidth / 1e9)} GB/s {origins}"


def _variances(report: Report) -> Section:
    return Section(
        "Analysis of variance, type II",
        ("term", "coefficients", "sum of squares", "% of the rest", "F", "p"),
        (20, -12, -14, -13, -9, -8),
        tuple(
            (
                each.term,
                str(each.degrees),
                number_text(each.sum_of_squares),
                percent_text(each.share),
                number_text(each.statistic),
                _p_text(each.p_value),
            )
            for each in report.variances
        ),
        (
            "Sum of squares of log(time): what a term explains beside all others that do not contain it, and its share "
            "of what those leave. F: Hotelling's test on the cluster jackknife; n/a: too few problems, or a level that "
            "rests on one.",
        ),
    )


def _effects(report: Report) -> Section:
    base = ", ".join(f"{name} {level or 'unnamed'}" for name, level in report.base.items())
    rows = tuple(
        (
            each.factor,
            each.level or "unnamed",
            str(each.observations),
            time_text(each.seconds),
            "base" if each.ratio is None and each.seconds is not None else ratio_text(each.ratio),
            "" if each.ratio is None else interval_text(each.low, each.high),
        )
        for each in report.effects
    )
    return Section(
        "Effects",
        ("factor", "level", "times", "time", "ratio", "interval"),
        (10, 40, -6, -9, -7, -16),
        rows,
        (
            f"Base case: {base}: {time_text(report.base_s)} by the model. Time: of the base case with this level "
            "instead (and its kernel); ratio: over the time "
            "with the reference, called base, of libraries and layouts that of the same kernel.",
        ),
    )


def _slopes(report: Report) -> Section:
    return Section(
        "Growth with size: time ~ size^b",
        ("kernel", "size", "b", "interval"),
        (40, 10, -8, -18),
        tuple((each.kernel, each.size, f"{each.value:.3f}", _slope_interval(each)) for each in report.slopes),
        (
            "flops, bytes: operations and compulsory traffic, one held fixed while the other grows; flops^2: b of "
            "flops grows by twice that with each factor e of operations. Kernels that are not listed have too few "
            "problems and share the first one's. "
            + (
                "bound: in the model from ceilings, by max(flops / peak, bytes / bandwidth)."
                if report.bounded
                else ""
            ),
        ),
    )


def _slope_interval(slope: Slope) -> str:
    return "n/a" if slope.low is None or slope.high is None else f"{slope.low:.3f} to {slope.high:.3f}"


def _left_out_devices(report: Report) -> Section:
    heading = "Leave one device out: errors at devices that were not fitted"
    if not report.device_errors:
        return Section(
            heading, sentences=("There is one device, so none can be left out: give runs of a second one.",)
        )
    taken: dict[str, list[str]] = {}
    for each in report.device_errors:
        taken.setdefault(each.reference, []).append(each.name)
    sentences = [
        "Own factor: median of measured over predicted time, where the prediction takes the device for the one named "
        "below; scaled: errors after this one factor is divided out. Always without interactions.",
        "Ceilings: errors where nothing of the device is known but its ceilings."
        if report.bounded
        else f"No errors from ceilings: {report.why_not_bounded}.",
        *_unpredictable([each.scaled for each in report.device_errors]),
    ]
    return Section(
        heading,
        ("device", "times", "median", "own factor", "scaled median", "90 %", "ceilings median", "90 %"),
        (24, -5, -8, -11, -13, -7, -15, -7),
        tuple(
            (
                each.name,
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


def _unpredictable(errors: Sequence[Error]) -> list[str]:
    lost = [
        f"{each.unpredictable} of {each.name}" for each in errors if each.unpredictable and each.name != "all"
    ]
    return [
        "Not predictable, because nothing else has their level of a factor: " + ", ".join(lost) + "."
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


def _limits(limits: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Each limit once, with the sources that it is of."""
    for limit in dict.fromkeys(limit for own in limits.values() for limit in own):
        yield f"{limit} ({', '.join(name for name, own in limits.items() if limit in own)})"


def _test(p_value: float | None, what: str, rejected: str) -> str:
    if p_value is None:
        return f"{what}: residuals are all the same, so not tested."
    verdict = f"{rejected}; no interval here assumes otherwise" if p_value < _LEVEL else "not rejected"
    return f"{what}: p {_p_text(p_value)}: {verdict}."


def _p_text(p_value: float | None) -> str:
    if p_value is None:
        return "n/a"
    return "<0.0001" if p_value < 1e-4 else f"{p_value:.4f}"


def _predictions(report: Report) -> Iterator[Section]:
    if not report.predictions:
        return
    rows, sentences = [], []
    for each in report.predictions:
        conditions = ", ".join(value for name, value in each.conditions.items() if name != "threads")
        rows.append(
            (
                each.problem,
                each.device,
                conditions,
                time_text(each.seconds),
                _ends(each),
                "n/a" if each.level is None else percent_text(each.level),
                time_text(each.bound_s),
            )
        )
        sentences.append(
            f"{each.device}: interval from {each.groups} {each.like}"
            + "".join(f"; {note}" for note in each.notes)
            + ("; too few for an interval" if each.level is None else "")
            + "."
        )
    sentences = list(dict.fromkeys(sentences))
    if any(each.device == DESCRIBED for each in report.predictions):
        sentences.append(
            f"{DESCRIBED}: the device of --ceilings; its groups are devices, problems are taken as known."
        )
    sentences.append(
        "Level: in %, how often such an interval holds a new problem (device); never less often than 2 level - 100, "
        "whatever the distribution of errors. Bound: max(flops / peak, bytes / bandwidth)."
    )
    yield Section(
        "Predictions",
        ("problem", "device", "conditions", "time", "interval", "level", "bound"),
        (8, 20, 24, -8, -20, -5, -8),
        tuple(rows),
        tuple(sentences),
    )


def _ends(each: Prediction) -> str:
    if each.low_s is None or each.high_s is None:
        return "n/a"
    return f"{time_text(each.low_s)}-{time_text(each.high_s)}"
