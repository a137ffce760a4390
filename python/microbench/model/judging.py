"""How far the model can be trusted: errors at what it has not seen, and what its residuals look like."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from microbench.model.data import Device, Observation
from microbench.model.design import CHOICES, INTERACTIONS, Array, Design, terms_of
from microbench.model.fitting import Fit, least_squares, logarithms

_NAMED = 5
_FIFTHS = 5
_SHAPIRO_LIMIT = 5000


@dataclass(frozen=True)
class Error:
    """Errors of predicting what was left out, as factors exp(\\|log(observed / predicted)\\|).

    Attributes:
        observations: those predicted; ``unpredictable`` ones rest on nothing else.
        seconds: median of the observed times.
    """

    name: str
    observations: int
    unpredictable: int
    seconds: float
    median: float | None
    ninetieth: float | None


@dataclass(frozen=True)
class DeviceError:
    """One device left out.

    Attributes:
        own_factor: median of observed over predicted time, where the prediction takes the device for the one named by
            ``reference``, both in all other respects alike.
        scaled: errors after that one factor, which is the device's own, was divided out.
        ceilings: errors of the prediction that knows nothing of the device but its ceilings; None: it has none, or
            others have none.
    """

    name: str
    reference: str
    own_factor: float | None
    scaled: Error
    ceilings: Error | None


@dataclass(frozen=True)
class Influence:
    """A problem without which the coefficients would be others: Cook's distance of all its observations together."""

    problem: str
    observations: int
    distance: float


@dataclass(frozen=True)
class Residual:
    """One observation and what was fitted to it, in seconds."""

    problem: str
    device: str
    precision: str
    seconds: float
    fitted_s: float


@dataclass(frozen=True)
class Fifth:
    """Residuals of a fifth of the observations, from short to long fitted times, as factors observed / fitted."""

    low_s: float
    high_s: float
    observations: int
    median: float
    tenth: float
    ninetieth: float


@dataclass(frozen=True)
class Diagnostics:
    """What the residuals look like; None: cannot be computed.

    Attributes:
        normality_p: of ``normality_test``.
        equal_spread_p: Breusch-Pagan's test in Koenker's form, on the fitted values.
    """

    normality_test: str
    normality_p: float | None
    equal_spread_p: float | None
    fifths: tuple[Fifth, ...]
    influences: tuple[Influence, ...]
    largest: tuple[Residual, ...]


def error(name: str, residuals: Array, observations: Sequence[Observation]) -> Error:
    """Summary of logarithmic errors; NaN where nothing was predicted."""
    sizes = np.abs(residuals[np.isfinite(residuals)])
    return Error(
        name,
        len(sizes),
        len(residuals) - len(sizes),
        float(np.median(np.exp(logarithms(observations)))),
        float(np.exp(np.median(sizes))) if len(sizes) else None,
        float(np.exp(np.quantile(sizes, 0.9))) if len(sizes) else None,
    )


def by(fitted: Fit, residuals: Array, key: Callable[[Observation], str]) -> list[Error]:
    """`error` of each value of ``key``, then of all."""
    values = [key(each) for each in fitted.observations]
    found = []
    for name in dict.fromkeys(sorted(values)):
        members = [place for place, value in enumerate(values) if value == name]
        found.append(error(name, residuals[members], [fitted.observations[place] for place in members]))
    return [*found, error("all", residuals, fitted.observations)]


def left_out_device(
    observations: Sequence[Observation], device: str, references: Mapping[str, Mapping[str, str]]
) -> tuple[str, Array]:
    """The device that stands for ``device``, and log(observed / predicted) of its observations; NaN: not predictable.

    The prediction is that of the model without interactions of the device, fitted to all other devices.

    Args:
        references: of the design of all observations: a library, say, that is its own reference is part of its device.
    """
    rest = [each for each in observations if each.device != device]
    own = [each for each in observations if each.device == device]
    known_of_all = terms_of(observations)
    terms = [term for term in terms_of(rest) if term in known_of_all and term not in INTERACTIONS]
    design = Design.of(rest, terms)
    reference = design.levels["device"][0]
    coefficients = least_squares(design, design.matrix(rest), logarithms(rest))
    rows = design.matrix([replace(each, device=reference) for each in own])
    predicted = rows @ coefficients
    known = np.array([_levels_known(each, design, references) for each in own]) & design.estimable(rows)
    return reference, np.where(known, logarithms(own) - predicted, np.nan)


def _levels_known(case: Observation, design: Design, references: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether every factor of the model has the case's level, or it is part of the device."""
    return all(
        case.level(term) in design.levels[term]
        or (term in CHOICES and references[term][case.level(term)] == case.level(term))
        for term in design.terms
        if term in design.levels and term != "device"
    )


def devices_left_out(
    fitted: Fit, bounded: Fit | None, devices: Sequence[Device]
) -> tuple[list[DeviceError], dict[str, Array]]:
    """Errors of each device left out, and the logarithmic errors from ceilings by device."""
    found, errors = [], {}
    from_ceilings = None if bounded is None else bounded.left_out_residuals
    for device in devices:
        own = [each for each in fitted.observations if each.device == device.name]
        reference, residuals = left_out_device(fitted.observations, device.name, fitted.design.references)
        factor = float(np.median(residuals[np.isfinite(residuals)])) if np.isfinite(residuals).any() else None
        scaled = error(device.name, residuals - (factor or 0.0), own)
        ceilings = None
        if bounded is not None and from_ceilings is not None:
            members = [place for place, each in enumerate(bounded.observations) if each.device == device.name]
            if members:
                errors[device.name] = from_ceilings[members]
                ceilings = error(
                    device.name, from_ceilings[members], [bounded.observations[place] for place in members]
                )
        found.append(
            DeviceError(
                device.name, reference, None if factor is None else float(np.exp(factor)), scaled, ceilings
            )
        )
    return found, errors


def diagnose(fitted: Fit) -> Diagnostics:
    """Diagnostics of a fit's residuals."""
    residuals = fitted.residuals
    values = fitted.times - residuals
    spread = float(np.ptp(residuals)) > 1e-9
    normality_p = equal_spread_p = None
    test = "Shapiro-Wilk" if len(residuals) < _SHAPIRO_LIMIT else "Anderson-Darling"
    if spread:
        from scipy.stats import shapiro
        from statsmodels.stats.diagnostic import (  # type: ignore[import-untyped]
            het_breuschpagan,
            normal_ad,
        )

        normality_p = float(shapiro(residuals).pvalue if test == "Shapiro-Wilk" else normal_ad(residuals)[1])
        if np.ptp(values) > 0:
            equal_spread_p = float(
                het_breuschpagan(residuals, np.column_stack([np.ones(len(values)), values]))[1]
            )
    return Diagnostics(
        test,
        normality_p,
        equal_spread_p,
        tuple(_fifths(values, residuals)),
        tuple(_influences(fitted)) if spread else (),
        tuple(_largest(fitted)),
    )


def _fifths(values: Array, residuals: Array) -> list[Fifth]:
    order = np.argsort(values, kind="stable")
    return [
        Fifth(
            float(np.exp(values[part[0]])),
            float(np.exp(values[part[-1]])),
            len(part),
            *(float(np.exp(np.quantile(residuals[part], share))) for share in (0.5, 0.1, 0.9)),
        )
        for part in np.array_split(order, _FIFTHS)
        if len(part)
    ]


def _influences(fitted: Fit) -> list[Influence]:
    """The problems with the largest (b - b_g)' X'X (b - b_g) / (p s^2)."""
    changes = (fitted.without - fitted.coefficients) @ fitted.matrix.T
    variance = float(fitted.residuals @ fitted.residuals) / (len(fitted.times) - fitted.rank)
    distances = np.sum(changes**2, axis=1) / (fitted.rank * variance)
    titles = _titles(fitted)
    counts = np.bincount(fitted.groups)
    order = np.argsort(-distances, kind="stable")[:_NAMED]
    return [
        Influence(titles[fitted.names[place]], int(counts[place]), float(distances[place]))
        for place in map(int, order)
    ]


def _titles(fitted: Fit) -> dict[Hashable, str]:
    """A problem's kernel and sizes, without the pass."""
    found: dict[Hashable, str] = {}
    for number, each in zip(fitted.groups, fitted.observations, strict=True):
        found.setdefault(fitted.names[number], f"{each.kernel}: {each.title}")
    return found


def _largest(fitted: Fit) -> list[Residual]:
    residuals = fitted.residuals
    order = np.argsort(-np.abs(residuals), kind="stable")[:_NAMED]
    return [
        Residual(
            f"{each.kernel}: {each.title}",
            each.device,
            each.precision,
            each.seconds or 0.0,
            float(np.exp(fitted.times[place] - residuals[place])),
        )
        for place in map(int, order)
        for each in [fitted.observations[place]]
    ]
