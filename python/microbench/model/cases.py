"""Cases to predict: read from the command line, completed from what was measured, predicted with intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from microbench import kernels
from microbench.errors import InputError
from microbench.figures import choices, problem_title
from microbench.model.ceilings import Ceilings, bound_s
from microbench.model.data import WITHOUT_INPUT, Data, Device, Observation, kernel_title, problem_of
from microbench.model.design import CHOICES, varying
from microbench.model.fitting import Fit
from microbench.model.prediction import interval, most_alike
from microbench.problem import PRECISIONS, Case
from microbench.tables import parse_problem

_CONDITIONS = ("pass", "precision", *CHOICES)
DESCRIBED = "described"
"""Stands for a device that only ``--ceilings`` describes."""


@dataclass(frozen=True)
class Asked:
    """A case as the command line gives it: ``gemm:m=64,n=64,k=64,precision=fp16``."""

    text: str
    kernel: str
    problem: str
    conditions: dict[str, str]


@dataclass(frozen=True)
class Prediction:
    """A predicted time.

    Attributes:
        conditions: factors of the model and what was assumed of them.
        low_s, high_s: at ``level``, which may be lower than asked for; None: too few groups for any.
        groups: problems, or devices, whose errors the interval comes from; ``like`` says which.
        bound_s: least time by the device's ceilings; None: unknown.
        notes: what makes it an extrapolation.
    """

    problem: str
    device: str
    conditions: dict[str, str]
    flops: float | None
    bytes: float | None
    seconds: float
    low_s: float | None
    high_s: float | None
    level: float | None
    groups: int
    like: str
    bound_s: float | None
    notes: tuple[str, ...]


def parse(text: str) -> Asked:
    """Raises InputError where ``text`` is not a kernel, its columns and conditions."""
    kernel, colon, rest = text.partition(":")
    if not colon:
        raise InputError(f"--predict {text!r}: write KERNEL:COLUMN=VALUE,..., as in gemm:m=1760,n=16,k=1760")
    kernels.kernel(kernel)
    conditions: dict[str, str] = {}
    columns = []
    for part in rest.split(","):
        name, _, value = (word.strip() for word in part.partition("="))
        if name in _CONDITIONS:
            conditions[name] = value
        else:
            columns.append(part)
    threads = conditions.get("threads", "1")
    if not (threads.isdecimal() and threads.isascii() and int(threads[:9]) > 0 and len(threads) < 10):
        raise InputError(f"--predict {text!r}: threads is {threads!r}; write a number from 1")
    return Asked(text, kernel, ",".join(columns), conditions)


def find_device(data: Data, name: str) -> Device:
    """The device of this name, of this processor, or with a source of this name; raises InputError without just one."""
    found = []
    for device in data.devices:
        known = {device.name, device.processor, *device.sources}
        known |= {each.removeprefix("deepbench:") for each in known}
        if name.casefold() in {each.casefold() for each in known}:
            found.append(device)
    if len(found) > 1:
        raise InputError(
            f"--device {name!r} is the processor of several: write one of "
            + ", ".join(device.name for device in found)
        )
    if found:
        return found[0]
    raise InputError(
        f"--device {name!r}: there is none with such times; there are "
        + ", ".join(device.name for device in data.devices)
    )


def complete(
    asked: Asked, observations: Sequence[Observation], device: str, ceilings: Sequence[Ceilings]
) -> Observation:
    """The case as an observation without a time: what was not asked for is as in most observations that are alike.

    Args:
        ceilings: of the device; the first that hold for the case's threads and precision are its.

    Raises:
        InputError: no such problem, or nothing was measured of its kernel, precision or other conditions.
    """
    passes = choices(asked.kernel).passes or ("forward",)
    pass_ = asked.conditions.get("pass", passes[0])
    kernel = kernel_title(asked.kernel, pass_)
    if kernel not in {each.kernel for each in observations}:
        kernel = kernel_title(asked.kernel, pass_, without_input=True)
    alike = [each for each in observations if each.kernel == kernel]
    if not alike:
        there = ", ".join(sorted({each.kernel for each in observations}))
        raise InputError(
            f"--predict {asked.text!r}: nothing was measured of {kernel_title(asked.kernel, pass_)}; there is {there}"
        )
    alike = [each for each in alike if each.device == device] or alike
    values: dict[str, str] = {}
    for name in ("precision", *CHOICES):
        levels = Counter(str(getattr(each, name)) for each in alike)
        most = min(levels, key=lambda level: (-levels[level], level))
        default = "fp32" if name == "precision" and "fp32" in levels else most
        values[name] = asked.conditions.get(name, default)
        alike = [each for each in alike if str(getattr(each, name)) == values[name]] or alike
        measured = sorted({str(getattr(each, name)) for each in observations})
        interpolated = name == "threads" and name in varying(observations)
        if name in asked.conditions and values[name] not in measured and not interpolated:
            there = ", ".join("unknown" if (name, each) == ("threads", "0") else each for each in measured)
            raise InputError(
                f"--predict {asked.text!r}: {name} {values[name]!r} was not measured; there is {there}"
            )
    try:
        problem = parse_problem(asked.kernel, asked.problem).problem
    except InputError as error:
        raise InputError(str(error).replace("--problem", f"--predict {asked.kernel}:", 1)) from error
    if values["precision"] not in PRECISIONS:
        raise InputError(
            f"--predict {asked.text!r}: of precision {values['precision']!r} the operands' sizes are not known; "
            f"known are {', '.join(PRECISIONS)}"
        )
    case = Case(problem, PRECISIONS[values["precision"]], pass_, values["layout"])
    module = kernels.kernel(asked.kernel)
    if kernel.endswith(WITHOUT_INPUT):
        flops, nbytes = module.counts_of(case)["recurrent_flops"], None
    elif hasattr(module, "flops_of"):
        flops, nbytes = module.flops_of(case), module.bytes_of(case)
    else:
        flops, nbytes = problem.flops(), problem.bytes(case.precision)
    columns = {field.name: getattr(problem, field.name) for field in fields(problem)}
    known = alike[0]
    threads = int(values["threads"])
    roofs = (each.roof(values["precision"], threads) for each in ceilings)
    roof = next((each for each in roofs if each is not None), None)
    return Observation(
        device=device,
        kernel=kernel,
        precision=values["precision"],
        library=values["library"],
        layout=values["layout"],
        mode=values["mode"],
        threads=threads,
        problem=problem_of(asked.kernel, columns),
        title=problem_title(asked.kernel, columns, pass_, values["layout"]),
        flops=flops if known.flops else None,
        bytes=nbytes if known.bytes else None,
        bound_s=bound_s(roof, flops, nbytes),
        roof=roof,
    )


def measured_alike(case: Observation, observations: Sequence[Observation]) -> bool:
    """Whether the case's kernel was measured on its device in its precision."""
    wanted = (case.device, case.kernel, case.precision)
    return any((each.device, each.kernel, each.precision) == wanted for each in observations)


def predict(fitted: Fit, case: Observation, confidence: float) -> Prediction:
    """The time of one case.

    Args:
        fitted: the model with device effects, left-out groups being problems; or, for a device of which only ceilings
            are known, that with ceilings, left-out groups being devices.

    Raises:
        InputError: the observations say nothing about it, because nothing of its device and precision was measured,
            say, or its ceilings are unknown.
    """
    design = fitted.design
    described = "bound" in design.terms
    if described and case.bound_s is None:
        raise InputError(
            f"predict {case.title}: of {case.kernel} the operations are unknown, so ceilings say nothing"
        )
    row = design.matrix([case])
    unknown = [
        f"{factor} {case.level(factor)}"
        for factor in design.terms
        if factor in design.levels and case.level(factor) not in design.levels[factor]
    ]
    if unknown or not design.estimable(row)[0]:
        raise InputError(
            f"predict {case.title}: the times say nothing about {case.kernel} in {case.precision} on {case.device}"
            + (f" (nothing was measured of {', '.join(unknown)})" if unknown else "")
        )
    names = [each for each in ("device", "precision") if not (described and each == "device")]
    others = fitted.observations
    kernel = np.array([each.kernel == case.kernel for each in others])
    alike = np.array([all(getattr(each, name) == getattr(case, name) for name in names) for each in others])
    precision = np.array([each.precision == case.precision for each in others])
    cell = [others[place] for place in np.flatnonzero(kernel & alike)]
    for factor in CHOICES[:-1]:
        references, level = design.references[factor], case.level(factor)
        there = sorted({each.level(factor) for each in cell})
        if there and references.get(level, level) not in {references[each] for each in there}:
            raise InputError(
                f"predict {case.title}: the times say nothing about {factor} {level} in {case.precision}"
                + f" on {case.device}" * (not described)
                + f": there is {', '.join(there)}"
            )
    groups = "devices" if described else "problems"
    candidates = [
        (
            f"{groups} of {case.kernel} {case.precision}" + (f" on {case.device}" if not described else ""),
            kernel & alike,
        ),
        (f"{groups} of {case.kernel} {case.precision}", kernel & precision),
        (f"{groups} of {case.kernel}", kernel),
        (f"all {groups}", np.ones(len(others), bool)),
    ]
    like, calibrating = most_alike(fitted, candidates, confidence)
    seconds = float(np.exp(row[0] @ fitted.coefficients))
    found = interval(fitted, row[0], calibrating, confidence)
    return Prediction(
        problem=f"{case.kernel}: {case.title}",
        device=case.device,
        conditions={
            name: str(getattr(case, name))
            for name in ("precision", *CHOICES)
            if name in design.terms or name == "precision"
        },
        flops=case.flops,
        bytes=case.bytes,
        seconds=seconds,
        low_s=None if found is None else float(np.exp(found.low)),
        high_s=None if found is None else float(np.exp(found.high)),
        level=None if found is None else found.level,
        groups=len(np.unique(fitted.groups[calibrating])),
        like=like,
        bound_s=case.bound_s,
        notes=tuple(_notes(case, others, seconds, described)),
    )


def _outside(
    value: float | None, others: Sequence[float | None], unit: str, scale: float, what: str
) -> list[str]:
    """A note where ``value`` is known and lies outside of the others' range."""
    known = [each for each in others if each]
    if not value or not known or min(known) <= value <= max(known):
        return []
    given, *ends = (
        f"{float(f'{each / scale:.3g}'):g}" for each in dict.fromkeys((value, min(known), max(known)))
    )
    return [f"{given} {unit} lie outside of what {what}, {' to '.join(ends)}"]


def _notes(case: Observation, others: Sequence[Observation], seconds: float, described: bool) -> list[str]:
    own = [each for each in others if each.kernel == case.kernel]
    measured = f"was measured of {case.kernel}"
    notes = [
        *_outside(case.flops, [each.flops for each in own], "GFLOP", 1e9, measured),
        *_outside(case.bytes, [each.bytes for each in own], "GB", 1e9, measured),
    ]
    if described and case.roof is not None:
        for place, unit in enumerate(("GFLOP/s", "GB/s")):
            known = [each.roof[place] for each in others if each.roof is not None]
            notes += _outside(case.roof[place], known, unit, 1e9, "the devices here have")
    elif not described:
        here = [each.threads for each in own if each.device == case.device]
        notes += _outside(case.threads, here, "threads", 1, f"{measured} on {case.device}")
    pairs = [("kernel", name) for name in ("precision", *CHOICES[:-1])]
    pairs += [("device", name) for name in ("kernel", "precision", *CHOICES[:-1]) if not described]
    for first, second in pairs:
        if not any(
            each.level(first) == case.level(first) and each.level(second) == case.level(second)
            for each in others
        ):
            notes.append(f"never measured together: {case.level(first)} and {case.level(second)}")
    if case.bound_s is not None and seconds < case.bound_s:
        notes.append("below the bound of the device's ceilings, so too short")
    if case.kernel.endswith(WITHOUT_INPUT):
        notes.append("without the product with the layers' input")
    return notes
