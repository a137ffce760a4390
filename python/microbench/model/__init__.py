"""The model of times: log(time) = device + kernel + size + precision, and what else varies.

`analyse` fits it and says how far it can be trusted; `microbench.model.text` writes that, `microbench.model.plots`
draws it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from microbench.errors import InputError
from microbench.model.ceilings import Ceilings
from microbench.sources import Source

if TYPE_CHECKING:
    from microbench.model.cases import Prediction
    from microbench.model.data import Data, Observation
    from microbench.model.design import Design
    from microbench.model.fitting import Fit, Variance
    from microbench.model.judging import DeviceError, Diagnostics, Error

HIGHEST_CONFIDENCE = 0.9999
"""More digits than a table shows, and than tails of so few problems are known to."""

LEAST_DEVICES = 3
"""Devices with ceilings that the model from ceilings takes, so that two are left when one is left out."""


@dataclass(frozen=True)
class Estimate:
    """A time or ratio with its interval; without one where it rests on a single problem."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Effect:
    """A level of a factor against the one that it is held against, all else as in the base case.

    Attributes:
        observations: how many have this level.
        beside: device, kernel and precision where they are not the base case's, because this level, and all that it can
            be told from, was not measured with those.
        seconds: time of the base case with this level, and with ``beside``; ``low_s``, ``high_s`` its interval.
        ratio, low, high: time over that with the reference, and its interval; None: the reference itself, or a level
            that cannot be told from others, or rests on a single problem.
    """

    factor: str
    level: str
    observations: int
    beside: dict[str, str]
    seconds: float | None
    low_s: float | None
    high_s: float | None
    ratio: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Slope:
    """How times grow: time ~ size^value, at the base case's size, with its interval; None: cannot be told.

    Attributes:
        size: ``flops``, ``bytes``, ``flops^2`` (of the logarithm), ``threads`` or ``bound``.
    """

    kernel: str
    size: str
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Report:
    """Everything that the model says.

    Attributes:
        fitted: with device effects, problems left out in turn.
        bounded: with ceilings in their stead, devices left out in turn; None: ``why_not_bounded`` says why.
        base: levels and sizes of the base case; ``base_s`` its time with an interval, None: cannot be told.
        apart: libraries, layouts and modes that are references beside others of their kernel: what differs is part of
            what they were measured with.
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
    base_s: Estimate | None
    apart: tuple[str, ...]
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

    if not 0 < confidence <= HIGHEST_CONFIDENCE:
        raise InputError(f"--confidence {confidence}: a share between 0 and {HIGHEST_CONFIDENCE}")
    if (devices or ceilings) and not predict:
        raise InputError(
            "--device and --ceilings say for what to predict: add --predict KERNEL:COLUMN=VALUE,..."
        )
    asked = [cases.parse(text) for text in predict]
    for each in asked:
        if ceilings is not None and "threads" in each.conditions:
            raise InputError(
                f"--predict {each.text!r}: --ceilings stand for those of all threads: leave threads out"
            )
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
            case = cases.complete(each, observations, device.name, device.ceilings)
            if chosen or cases.measured_alike(case, observations):
                predictions.append(cases.predict(fitted, case, confidence))
        if ceilings is not None and bounded is not None:
            case = cases.complete(each, bounded.observations, cases.DESCRIBED, [ceilings])
            predictions.append(cases.predict(bounded, case, confidence))
    if asked and not predictions:
        raise InputError(
            f"--predict {asked[0].text!r}: no device has times of this kernel and precision: name one by --device"
        )
    return Report(
        data=data,
        confidence=confidence,
        fitted=fitted,
        bounded=bounded,
        why_not_bounded=why_not,
        base=_base(fitted.design, observations),
        base_s=_estimate(fitted, _row(fitted.design, _nature(fitted.design)), confidence),
        apart=_apart(fitted.design),
        alone={factor: levels[0] for factor, levels in fitted.design.levels.items() if len(levels) == 1},
        variances=analyse_variance(fitted),
        effects=_effects(fitted, confidence),
        slopes=[
            *_slopes(fitted, confidence),
            *([] if bounded is None else [_slope_of_all(bounded, "bound", confidence)]),
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


def _nature(design: Design) -> dict[str, str]:
    """Device, kernel and precision of the base case."""
    from microbench.model.design import NATURE

    return {factor: design.levels[factor][0] for factor in NATURE}


def _nearest(design: Design, candidates: Sequence[Observation]) -> Observation:
    """The one with most of the base case's device, kernel and precision; of several the one with the first levels."""

    def distance(each: Observation) -> tuple[int, list[int]]:
        places = [design.levels[factor].index(each.level(factor)) for factor in _nature(design)]
        return sum(place > 0 for place in places), places

    return min(candidates, key=distance)


def _base(design: Design, observations: Sequence[Observation]) -> dict[str, str]:
    import numpy as np

    nearest = _nearest(design, observations)
    levels = {factor: design.references[factor][nearest.level(factor)] for factor in design.levels} | _nature(
        design
    )
    base = {term: levels[term] for term in design.terms if term in levels}
    for size, unit in (("flops", "GFLOP"), ("bytes", "MB")):
        if any(getattr(each, size) for each in observations):
            scale = {"GFLOP": 1e9, "MB": 1e6}[unit]
            base[size] = f"{np.exp(design.centres[size]) / scale:.3g} {unit}"
    if "threads" in design.terms:
        base["threads"] = "1"
    return base


def _apart(design: Design) -> tuple[str, ...]:
    """References of libraries, layouts and modes, where there are several of one kernel."""
    from microbench.model.data import NESTED
    from microbench.model.design import CHOICES

    found = []
    for factor in CHOICES[:-1]:
        families: dict[str, list[str]] = {}
        for level in dict.fromkeys(design.references[factor].values()):
            families.setdefault(level.split(":")[0] if factor in NESTED else "", []).append(level)
        found += [f"{factor} {' and '.join(own)}" for own in families.values() if len(own) > 1]
    return tuple(found)


def _row(design: Design, levels: Mapping[str, str]) -> Any:
    """The columns of the case with these levels of factors, all else at the base case."""
    import numpy as np

    row = np.zeros(len(design.columns))
    row[0] = 1.0
    for place, (term, name) in enumerate(design.columns):
        parts = term.split(":")
        if all(part in levels for part in parts) and name == ":".join(levels[part] for part in parts):
            row[place] = 1.0
    return row


def _estimate(fitted: Fit, row: Any, confidence: float) -> Estimate | None:
    """exp of a combination of coefficients; None where it cannot be told."""
    import numpy as np

    if not fitted.design.estimable(row[None, :])[0]:
        return None
    value, ends = fitted.interval(row, confidence)
    low, high = (None, None) if ends is None else (float(np.exp(end)) for end in ends)
    return Estimate(float(np.exp(value)), low, high)


def _effects(fitted: Fit, confidence: float) -> list[Effect]:
    design = fitted.design
    nature = _nature(design)
    found = []
    for factor in design.terms:
        references = design.references.get(factor, {})
        for level in sorted(references, key=lambda each: list(references).index(references[each])):
            reference = references[level]
            linked = [each for each in fitted.observations if references[each.level(factor)] == reference]
            nearest = _nearest(design, linked)
            levels = {each: nearest.level(each) for each in nature if each != factor}
            own, held = (_row(design, levels | {factor: each}) for each in (level, reference))
            seconds = _estimate(fitted, own, confidence)
            ratio = _estimate(fitted, own - held, confidence)
            if seconds is None or ratio is None:
                seconds = ratio = None
            if level == reference:
                ratio = None
            found.append(
                Effect(
                    factor,
                    level,
                    sum(each.level(factor) == level for each in linked),
                    {name: value for name, value in levels.items() if value != nature[name]},
                    *((None,) * 3 if seconds is None else astuple(seconds)),
                    *((None,) * 3 if ratio is None else astuple(ratio)),
                )
            )
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
            found.append(_slope(fitted, row, kernel, size, confidence))
    if "threads" in design.terms:
        found.append(_slope_of_all(fitted, "threads", confidence))
    return found


def _slope_of_all(fitted: Fit, term: str, confidence: float) -> Slope:
    """That of a term with one column."""
    import numpy as np

    row = np.zeros(len(fitted.design.columns))
    row[fitted.design.columns.index((term, term))] = 1.0
    return _slope(fitted, row, "all", term, confidence)


def _slope(fitted: Fit, row: Any, kernel: str, size: str, confidence: float) -> Slope:
    if not fitted.design.estimable(row[None, :])[0]:
        return Slope(kernel, size, None, None, None)
    value, ends = fitted.interval(row, confidence)
    return Slope(kernel, size, value, *(ends or (None, None)))
