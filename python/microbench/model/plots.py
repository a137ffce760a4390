"""The model's residuals and errors as figures, which `microbench.report.pictures` draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microbench.figures import one_line
from microbench.model import Report
from microbench.model.data import Observation
from microbench.model.design import Array
from microbench.model.sections import limits
from microbench.report.figure import Axis, Figure, Series

_SECTION = "model"


def figures(report: Report) -> list[Figure]:
    """Residuals over fitted times, their quantiles beside normal ones, and errors at what was left out."""
    fitted = report.fitted
    predicted = zip(fitted.observations, fitted.left_out_residuals, strict=True)
    found = [
        _residuals(report),
        _quantiles(report),
        _shares(
            "problems",
            "Predicted without the problem: share of the times within a factor",
            _texts(report, [each for each, error in predicted if np.isfinite(error)]),
            _grouped(fitted.observations, fitted.left_out_residuals, lambda each: each.kernel),
        ),
    ]
    if report.bounded is not None and report.ceiling_residuals:
        predicted = zip(report.bounded.observations, report.bounded.left_out_residuals, strict=True)
        found.append(
            _shares(
                "devices",
                "Predicted from the device's ceilings alone: share of the times within a factor",
                _texts(report, [each for each, error in predicted if np.isfinite(error)]),
                report.ceiling_residuals,
            )
        )
    return found


def _residuals(report: Report) -> Figure:
    fitted = report.fitted
    seconds = np.exp(fitted.times - fitted.residuals)
    kernels = _grouped(fitted.observations, np.arange(len(seconds)), lambda each: each.kernel)
    return Figure(
        "model-residuals",
        _SECTION,
        "Measured over fitted time",
        *_texts(report, fitted.observations),
        Axis("fitted time", log=True, suffix="s"),
        Axis("measured time / fitted time", log=True, plain=True),
        tuple(
            Series(
                one_line(kernel),
                "points",
                seconds[places].tolist(),
                np.exp(fitted.residuals[places]).tolist(),
                style=number,
            )
            for number, (kernel, places) in enumerate(kernels.items())
        ),
    )


def _quantiles(report: Report) -> Figure:
    from scipy.stats import norm

    residuals = np.sort(report.fitted.residuals)
    count = len(residuals)
    spread = float(residuals.std())
    expected = spread * norm.ppf((np.arange(count) + 0.5) / count)
    # Of many points those that can be told apart: all of the tails, some of the middle.
    shown = np.unique(
        np.concatenate(
            [
                np.arange(min(count, 100)),
                np.linspace(0, count - 1, 400).astype(int),
                np.arange(max(0, count - 100), count),
            ]
        )
    )
    ends = [float(expected[0]), float(expected[-1])]
    return Figure(
        "model-normality",
        _SECTION,
        "Quantiles of the residuals beside those of a normal distribution of the same spread",
        *_texts(report, report.fitted.observations),
        Axis("log(measured / fitted), normal"),
        Axis("log(measured / fitted)"),
        (
            Series("residuals", "points", expected[shown].tolist(), residuals[shown].tolist(), style=0),
            Series("were they normal", "line", ends, ends),
        ),
    )


def _texts(report: Report, observations: Sequence[Observation]) -> tuple[str, str, tuple[str, ...]]:
    """Caption, conditions and limits of a figure that draws these observations."""
    modes, precisions, threads = (
        ", ".join(dict.fromkeys(texts))
        for texts in (
            (each.mode for each in observations),
            (each.precision for each in observations),
            (str(each.threads or "unknown") for each in observations),
        )
    )
    drawn = {each.device for each in observations}
    devices = [device for device in report.data.devices if device.name in drawn]
    names = ", ".join(device.name for device in devices)
    conditions = (
        f"{len(observations)} times of {names}; modes: {modes}; precisions: {precisions}; threads: {threads}."
    )
    sources = {name for device in devices for name in device.sources}
    known = {name: own for name, own in report.data.limits.items() if name in sources}
    return "", one_line(conditions), tuple(map(one_line, limits(known)))


def _shares(
    key: str, title: str, texts: tuple[str, str, tuple[str, ...]], errors: dict[str, Array]
) -> Figure:
    return Figure(
        f"model-{key}",
        _SECTION,
        title,
        *texts,
        Axis("factor between measured and predicted time", log=True, plain=True),
        Axis("share of the times", share=True),
        tuple(
            Series(one_line(name), "steps", factors, shares, style=number)
            for number, (name, residuals) in enumerate(errors.items())
            for factors, shares in _steps(residuals)
        ),
    )


def _steps(residuals: Array) -> Iterator[tuple[list[float], list[float]]]:
    factors = np.sort(np.exp(np.abs(residuals[np.isfinite(residuals)])))
    if len(factors):
        yield [1.0, *factors.tolist()], [0.0, *(np.arange(1, len(factors) + 1) / len(factors)).tolist()]


def _grouped(
    observations: Sequence[Observation], values: NDArray[Any], key: Callable[[Observation], str]
) -> dict[str, NDArray[Any]]:
    names = np.array([key(each) for each in observations], dtype=object)
    return {name: values[names == name] for name in sorted(set(names))}
