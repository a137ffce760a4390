"""The model of times: log(time) = device + kernel + size + precision, and what else varies.

`analyse` fits it and says how far it can be trusted; `microbench.model.text` writes that, `microbench.model.plots`
draws it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from microbench.errors import InputError
from microbench.model.ceilings import Ceilings
from microbench.model.data import NESTED
from microbench.sources import Source

if TYPE_CHECKING:
    from microbench.model.cases import Prediction
    from microbench.model.data import Data, Observation
    from microbench.model.fitting import Fit, Variance
    from microbench.model.judging import DeviceError, Diagnostics, Error

LEAST_DEVICES = 3
"""Devices with ceilings that the model from ceilings takes, so that two are left when one is left out."""


@dataclass(frozen=True)
class Effect:
    """A level of a factor against the reference, all else as in the base case; a library or layout with its kernel.

    Attributes:
        observations: how many have this level.
        seconds: time of the base case with this level.
        ratio, low, high: time over that with the reference, and its interval; None: the reference itself, or a level
            that cannot be told from others, or rests on a single problem.
    """

    factor: str
    level: str
    observations: int
    seconds: float | None
    ratio: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Slope:
    """How times grow: time ~ size^value, at the base case's size, with its interval; None: not known.

    Attributes:
        size: ``flops``, ``bytes``, ``flops^2`` (of the logarithm), ``threads`` or ``bound``.
    """

    kernel: str
    size: str
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Report:
    """Everything that the model says.

    Attributes:
        fitted: with device effects, problems left out in turn.
        bounded: with ceilings in their stead, devices left out in turn; None: ``why_not_bounded`` says why.
        base: levels and sizes of the base case; ``base_s`` its time.
        alone: factors that do not vary, each with its only level.
        problem_errors: of problems left out, per kernel.
        device_errors: of devices left out; empty where there is one device.
        ceiling_residuals: logarithms of observed over predicted time from ceilings, by device left out.
    """

    data: Data
    confidence: float
    fitted: Fit
    bounded: Fit | None
    why_not_bounded: str
    base: dict[str, str]
    base_s: float
    alone: dict[str, str]
    variances: list[Variance]
    effects: list[Effect]
    slopes: list[Slope]
    problem_errors: list[Error]
    device_errors: list[DeviceError]
    ceiling_residuals: dict[str, Any]
    diagnostics: Diagnostics
    predictions: list[Prediction]


def analyse(
    sources: Sequence[Source],
    *,
    interactions: bool = False,
    confidence: float = 0.95,
    predict: Sequence[str] = (),
    devices: Sequence[str] = (),
    ceilings: Ceilings | None = None,
) -> Report:
    """Fits the model to all usable times of ``sources``.

    Args:
        interactions: let the device's effect differ between kernels and between precisions.
        confidence: of the coefficients' and of the predictions' intervals.
        predict: cases such as ``gemm:m=64,n=64,k=64,precision=fp16``.
        devices: on which, all by default.
        ceilings: of a device that was not measured, to be predicted as well.

    Raises:
        InputError: too little data, something asked for cannot be predicted, or statsmodels is missing.
    """
    if find_spec("statsmodels") is None:
        raise InputError("model needs statsmodels: pip install 'microbench[report]'")
    from microbench.model import cases, judging
    from microbench.model.data import collect
    from microbench.model.design import terms_of
    from microbench.model.fitting import analyse_variance, fit

    if not 0 < confidence < 1:
        raise InputError(f"--confidence {confidence:g}: a share between 0 and 1")
    if (devices or ceilings) and not predict:
        raise InputError(
            "--device and --ceilings say for what to predict: add --predict KERNEL:COLUMN=VALUE,..."
        )
    asked = [cases.parse(text) for text in predict]
    data = collect(sources)
    chosen = [cases.find_device(data, name) for name in devices]
    observations = data.observations
    fitted = fit(observations, terms_of(observations, interactions), [each.problem for each in observations])
    bounded, why_not = _bounded(observations)
    if ceilings is not None and bounded is None:
        raise InputError(f"--ceilings: {why_not}")
    device_errors, ceiling_residuals = (
        judging.devices_left_out(fitted, bounded, data.devices) if len(data.devices) > 1 else ([], {})
    )
    predictions = []
    for each in asked:
        for device in chosen or ([] if ceilings else data.devices):
            case = cases.complete(each, observations, device.name, device.ceilings[0])
            if chosen or cases.measured_alike(case, observations):
                predictions.append(cases.predict(fitted, case, confidence))
        if ceilings is not None and bounded is not None:
            case = cases.complete(each, bounded.observations, cases.DESCRIBED, ceilings)
            predictions.append(cases.predict(bounded, case, confidence))
    if asked and not predictions:
        raise InputError(
            f"--predict {asked[0].text!r}: no device has times of this kernel and precision: name one by --device"
        )
    base, base_s = _base(fitted)
    return Report(
        data=data,
        confidence=confidence,
        fitted=fitted,
        bounded=bounded,
        why_not_bounded=why_not,
        base=base,
        base_s=base_s,
        alone={factor: levels[0] for factor, levels in fitted.design.levels.items() if len(levels) == 1},
        variances=analyse_variance(fitted),
        effects=_effects(fitted, confidence),
        slopes=[
            *_slopes(fitted, confidence),
            *([] if bounded is None else [_bound_slope(bounded, confidence)]),
        ],
        problem_errors=judging.by(fitted, fitted.left_out_residuals, lambda each: each.kernel),
        device_errors=device_errors,
        ceiling_residuals=ceiling_residuals,
        diagnostics=judging.diagnose(fitted),
        predictions=predictions,
    )


def _bounded(observations: Sequence[Observation]) -> tuple[Fit | None, str]:
    """The model from ceilings, or why there is none."""
    from microbench.model.design import bound_terms
    from microbench.model.fitting import fit

    known = [each for each in observations if each.bound_s is not None]
    count = len({each.device for each in known})
    if count < LEAST_DEVICES:
        return None, (
            f"ceilings are known of {count} of the devices here, and a model from ceilings takes {LEAST_DEVICES}: give "
            "runs or published results of more devices"
        )
    try:
        return fit(known, bound_terms(known), [each.device for each in known]), ""
    except InputError as error:
        return None, str(error).removeprefix("model: ")


def _base(fitted: Fit) -> tuple[dict[str, str], float]:
    import numpy as np

    design = fitted.design
    family = design.levels["kernel"][0].split(" ")[0]
    base = {
        term: next(
            level
            for level in design.levels[term]
            if level in design.references[term] and (term not in NESTED or level.startswith(f"{family}: "))
        )
        for term in design.terms
        if term in design.levels
    }
    for size, unit in (("flops", "GFLOP"), ("bytes", "MB")):
        if any(getattr(each, size) for each in fitted.observations):
            scale = {"GFLOP": 1e9, "MB": 1e6}[unit]
            base[size] = f"{np.exp(design.centres[size]) / scale:.3g} {unit}"
    if "threads" in design.terms:
        base["threads"] = "1"
    return base, float(np.exp(fitted.coefficients[0]))


def _effects(fitted: Fit, confidence: float) -> list[Effect]:
    import numpy as np

    design = fitted.design

    def row(factor: str, level: str) -> Any:
        found = np.zeros(len(design.columns))
        if level not in design.references[factor]:
            found[design.columns.index((factor, level))] = 1.0
        return found

    found = []
    for factor in design.terms:
        for level in design.levels.get(factor, ()):
            count = sum(each.level(factor) == level for each in fitted.observations)
            base = np.zeros(len(design.columns))
            if factor in NESTED and "kernel" in design.terms:
                base = row(
                    "kernel",
                    next(
                        each
                        for each in design.levels["kernel"]
                        if level.startswith(f"{each.split(' ')[0]}: ")
                    ),
                )
            base[0] = 1.0
            own = row(factor, level)
            if not design.estimable(np.array([own, base + own])).all():
                found.append(Effect(factor, level, count, None, None, None, None))
                continue
            seconds = float(np.exp((base + own) @ fitted.coefficients))
            if level in design.references[factor]:
                found.append(Effect(factor, level, count, seconds, None, None, None))
                continue
            value, ends = fitted.interval(own, confidence)
            low, high = (None, None) if ends is None else (float(np.exp(end)) for end in ends)
            found.append(Effect(factor, level, count, seconds, float(np.exp(value)), low, high))
    return found


def _slopes(fitted: Fit, confidence: float) -> list[Slope]:
    """Per kernel with slopes of its own, then of all others together, which have the reference kernel's."""
    import numpy as np

    design = fitted.design
    reference = design.levels["kernel"][0]
    own = [kernel for kernel in design.levels["kernel"] if kernel == reference or kernel in design.own_slopes]
    found = []
    for kernel in own:
        for place, (term, size) in enumerate(design.columns):
            if term != "size" or (size.removesuffix("^2") not in design.used[kernel]):
                continue
            row = np.zeros(len(design.columns))
            row[place] = 1.0
            if (column := ("kernel:size", f"{kernel}:{size}")) in design.columns:
                row[design.columns.index(column)] = 1.0
            if design.estimable(row[None, :])[0]:
                value, ends = fitted.interval(row, confidence)
                found.append(Slope(kernel, size, value, *(ends or (None, None))))
    if "threads" in design.terms:
        row = np.zeros(len(design.columns))
        row[design.columns.index(("threads", "threads"))] = 1.0
        value, ends = fitted.interval(row, confidence)
        found.append(Slope("all", "threads", value, *(ends or (None, None))))
    return found


def _bound_slope(bounded: Fit, confidence: float) -> Slope:
    import numpy as np

    row = np.zeros(len(bounded.design.columns))
    row[bounded.design.columns.index(("bound", "bound"))] = 1.0
    value, ends = bounded.interval(row, confidence)
    return Slope("all", "bound", value, *(ends or (None, None)))
