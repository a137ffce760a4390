"""What the model says, as tables and sentences. No ratio stands without a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from microbench.comparison.text import interval_text, ratio_text
from microbench.figures import number_text, one_line, percent_text, time_text
from microbench.model import Effect, Report, Slope
from microbench.model.cases import DESCRIBED
from microbench.model.ceilings import Ceilings
from microbench.model.error_sections import NAME_WIDTH, Section, device_name, error_sections, p_text

_NAMED = 6


def sections(report: Report) -> Iterator[Section]:
    """All that the model says, in order."""
    yield _model(report)
    yield _devices(report)
    yield _variances(report)
    yield _effects(report)
    yield _slopes(report)
    yield from error_sections(report)
    yield from _predictions(report)
    yield Section("Left out", sentences=report.data.left_out or ("nothing",))
    if report.data.limits:
        yield Section("Limits", sentences=tuple(limits(report.data.limits)))


def _model(report: Report) -> Section:
    fitted = report.fitted
    problems = len(fitted.names)
    terms = " + ".join(fitted.design.terms)
    alone = ", ".join(f"{factor} ({level or 'unnamed'})" for factor, level in report.alone.items())
    dropped = int(fitted.matrix.any(axis=0).sum()) - fitted.rank
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
    unknown = sum(each.threads < 1 for each in fitted.observations)
    if unknown and len({each.threads for each in fitted.observations}) > 2:
        sentences.append(f"Threads vary, but have no term: of {unknown} times they are unknown.")
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
    rows, sentences = [], []
    for device in report.data.devices:
        name = device_name(device.name)
        if name != one_line(device.name):
            sentences.append(f"{name} is {device.name}.")
        if len(device.sources) > 1:
            on = f" on host {', '.join(device.hosts)}" if device.hosts else ""
            sentences.append(f"{name} is one device{on} in {', '.join(device.sources)}.")
        ceilings: dict[int | None, Ceilings] = {}
        for each in device.ceilings:
            ceilings.setdefault(each.threads, each)
        if len(ceilings) > 1:
            sentences += [
                f"{name}, ceilings of {_threads_text(threads)}: {_ceilings(known)}."
                for threads, known in ceilings.items()
            ]
        known = "by threads, below" if len(ceilings) > 1 else _ceilings(device.ceilings[0])
        rows.append((name, device.processor, str(times.count(device.name)), known))
    return Section(
        "Devices and their ceilings",
        ("device", "processor", "times", "compute, memory"),
        (NAME_WIDTH, 26, -6, 41),
        tuple(rows),
        (*sentences, "Ceilings that are stated follow from the makers' descriptions; n/a: unknown."),
    )


def _threads_text(count: int | None) -> str:
    return "all threads" if count is None else f"{count} thread{'s' * (count != 1)}"


def _ceilings(known: Ceilings) -> str:
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
                f"{each.degrees}{'*' * bool(each.untold)}",
                number_text(each.sum_of_squares),
                percent_text(each.share),
                number_text(each.statistic),
                p_text(each.p_value),
            )
            for each in report.variances
        ),
        (
            "Sum of squares of log(time): what a term explains beside all others that do not contain it, and its share "
            "of what those leave. F: Hotelling's test on the cluster jackknife; n/a: too few problems, or a level that "
            "rests on one.",
            *(
                f"* {each.term}: cannot be told from other levels or terms: {_listed(each.untold)}."
                for each in report.variances
                if each.untold
            ),
        ),
    )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _effects(report: Report) -> Section:
    base = ", ".join(f"{name} {level or 'unnamed'}" for name, level in report.base.items())
    time = "n/a" if report.base_s is None else time_text(report.base_s.value)
    if report.base_s is not None:
        time += f" ({_times_text(report.base_s.low, report.base_s.high)})"
    moved: dict[str, list[str]] = {}
    for each in report.effects:
        if each.beside and each.seconds is not None:
            moved.setdefault(", ".join(each.beside.values()), []).append(_effect_level(each))
    rows = tuple(
        (
            each.factor,
            _effect_level(each),
            str(each.observations),
            time_text(each.seconds),
            _times_text(each.low_s, each.high_s),
            "base" if each.ratio is None and each.seconds is not None else ratio_text(each.ratio),
            "" if each.ratio is None else interval_text(each.low, each.high),
        )
        for each in report.effects
    )
    return Section(
        "Effects",
        ("factor", "level", "times", "time", "interval", "ratio", "interval"),
        (9, 31, -5, -9, -19, -7, -13),
        rows,
        (
            f"Base case: {base}: {time} by the model. Time: of the base case with this level instead; ratio: over the "
            "time with the next one above that is called base; each with its interval.",
            *(f"{_listed(levels)}: with {beside}." for beside, levels in moved.items()),
            *(
                f"Never measured with the same device, kernel and precision: {each}: what differs between them is part "
                "of those."
                for each in report.apart
            ),
        ),
    )


def _effect_level(each: Effect) -> str:
    return device_name(each.level) if each.factor == "device" else each.level or "unnamed"


def _slopes(report: Report) -> Section:
    return Section(
        "Growth with size: time ~ size^b",
        ("kernel", "size", "b", "interval"),
        (40, 10, -8, -18),
        tuple(
            (
                each.kernel,
                each.size,
                "n/a" if each.value is None else f"{each.value:.3f}",
                _slope_interval(each),
            )
            for each in report.slopes
        ),
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


def limits(known: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Each limit once, with the sources that it is of."""
    for limit in dict.fromkeys(limit for own in known.values() for limit in own):
        yield f"{limit} ({', '.join(name for name, own in known.items() if limit in own)})"


def _predictions(report: Report) -> Iterator[Section]:
    if not report.predictions:
        return
    rows, sentences = [], []
    differ = len({each.conditions.get("threads") for each in report.predictions}) > 1
    for each in report.predictions:
        conditions = ", ".join(
            _threads_text(int(value)) if name == "threads" else value
            for name, value in each.conditions.items()
            if name != "threads" or differ
        )
        rows.append(
            (
                each.problem,
                each.device,
                conditions,
                time_text(each.seconds),
                _times_text(each.low_s, each.high_s),
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
        (8, 20, 22, -8, -20, -5, -10),
        tuple(rows),
        tuple(sentences),
    )


def _times_text(low: float | None, high: float | None) -> str:
    return "n/a" if low is None or high is None else f"{time_text(low)}-{time_text(high)}"
