"""How often the intervals of ``model`` hold the truth: made-up times whose coefficients are known.

Errors are what times of kernels show: heavy-tailed (Student's t), larger for larger problems, and alike for one problem
in every device and precision.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.random import Generator

from microbench.model import cases
from microbench.model.data import Observation
from microbench.model.design import bound_terms, terms_of
from microbench.model.fitting import Fit, analyse_variance, fit
from microbench.model.prediction import level_of

DEVICES = {"a": 0.0, "b": 0.7, "c": -0.4}
PRECISIONS = {"fp32": 0.0, "fp16": -0.5}
FLOPS, BYTES, BASE = 0.6, 0.3, -9.0
TRUTH = {
    ("device", "b"): 0.7,
    ("device", "c"): -0.4,
    ("precision", "fp32"): 0.5,
    ("size", "flops"): FLOPS,
    ("size", "bytes"): BYTES,
}
FLOOR_S = 1e-4
"""What no execution takes less than, of which the model knows nothing."""


def observations(
    rng: Generator,
    problems: int = 30,
    devices: Mapping[str, float] = DEVICES,
    precisions: Mapping[str, float] = PRECISIONS,
) -> list[Observation]:
    """Times by the model's own formula, each problem in every device and precision, with errors as above."""
    found = []
    for number in range(problems):
        flops, nbytes = rng.uniform(16, 25), rng.uniform(12, 18)
        spread = 0.5 + (flops - 16) / 9
        shared = 0.2 * spread * rng.standard_t(5)
        for device, slower in devices.items():
            for precision, faster in precisions.items():
                logarithm = BASE + slower + faster + FLOPS * (flops - 20) + BYTES * (nbytes - 15)
                error = shared + 0.1 * spread * rng.standard_t(3)
                found.append(
                    Observation(
                        device=device,
                        kernel="gemm",
                        precision=precision,
                        library="lib",
                        layout="",
                        mode="hot",
                        threads=1,
                        problem=f"p{number}",
                        title=f"p{number}",
                        flops=float(np.exp(flops)),
                        bytes=float(np.exp(nbytes)),
                        seconds=float(np.exp(logarithm + error)),
                    )
                )
    return found


def fitted(found: list[Observation], interactions: bool = False) -> Fit:
    """The model, problems left out in turn."""
    return fit(found, terms_of(found, interactions), [each.problem for each in found])


def coefficients(rng: Generator, repeats: int, problems: int) -> dict[tuple[str, str], tuple[float, float]]:
    """For each known coefficient, and a time, the share of 95 % intervals that hold it: ours, and the usual ones."""
    truth = {**TRUTH, ("", "time"): BASE + PRECISIONS["fp32"]}
    counts = {name: np.zeros(2) for name in truth}
    for _ in range(repeats):
        data = observations(rng, problems)
        found = fitted(data)
        case = replace(
            data[0], flops=float(np.exp(20)), bytes=float(np.exp(15))
        )  # in the first device, in fp32
        rows = [np.eye(len(found.design.columns))[found.design.columns.index(name)] for name in TRUTH] + [
            found.design.matrix([case])[0]
        ]
        usual = found.results.t_test(np.array(rows)[:, found.design.kept]).conf_int()
        for number, (name, value) in enumerate(truth.items()):
            _, ends = found.interval(rows[number], 0.95)
            for place, (low, high) in enumerate((ends or (np.inf, -np.inf), usual[number])):
                counts[name][place] += low <= value <= high
    return {name: (count[0] / repeats, count[1] / repeats) for name, count in counts.items()}


def false_alarms(rng: Generator, repeats: int, problems: int) -> float:
    """Share of tables in which four equal devices differ significantly, at 5 %."""
    alarms = 0
    for _ in range(repeats):
        found = fitted(observations(rng, problems, dict.fromkeys("abcd", 0.0), {"fp32": 0.0}))
        p_value = next(each.p_value for each in analyse_variance(found) if each.term == "device")
        alarms += p_value is not None and p_value < 0.05
    return alarms / repeats


def new_problems(rng: Generator, repeats: int, problems: int, level: float) -> tuple[float, float]:
    """Share of intervals that hold the time of a problem not fitted, and their median half-width as a factor."""
    last = f"p{problems}"
    held, widths = 0, []
    for _ in range(repeats):
        found = [
            replace(each, seconds=(each.seconds or 0) + FLOOR_S) for each in observations(rng, problems + 1)
        ]
        known = fitted([each for each in found if each.problem != last])
        new = next(each for each in found if (each.problem, each.device) == (last, "b"))
        predicted = cases.predict(known, new, level)
        low, high = predicted.low_s or 0, predicted.high_s or np.inf
        held += low <= (new.seconds or 0) <= high
        widths.append(np.sqrt(high / low))
    return held / repeats, float(np.median(widths))


def new_devices(rng: Generator, repeats: int, devices: int, level: float) -> tuple[float, float]:
    """The same for a device not fitted: devices differ from what their ceilings promise by heavy-tailed factors."""
    held, widths = 0, []
    for _ in range(repeats):
        own = {f"d{number}": 0.3 * float(rng.standard_t(3)) for number in range(devices + 1)}
        found = [
            replace(each, bound_s=(each.flops or 0) / 1e12)
            for each in observations(rng, 12, own, {"fp32": 0.0})
        ]
        rest = [each for each in found if each.device != f"d{devices}"]
        known = fit(rest, bound_terms(rest), [each.device for each in rest])
        new = next(each for each in found if each.device == f"d{devices}" and each.problem == "p5")
        predicted = cases.predict(known, replace(new, device=cases.DESCRIBED), level)
        low, high = predicted.low_s or 0, predicted.high_s or np.inf
        held += low <= (new.seconds or 0) <= high
        widths.append(np.sqrt(high / low))
    return held / repeats, float(np.median(widths))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    print("| problems | device | precision | flops | bytes | time | the usual intervals |")
    print("| --- " * 7 + "|")
    for problems in (10, 30, 100):
        shares = coefficients(rng, given.repeats, problems)
        ours, usual = zip(*shares.values(), strict=True)
        cells = [*ours[1:], f"{min(usual):.2f} to {max(usual):.2f}"]
        print(f"| {problems} | " + " | ".join(c if isinstance(c, str) else f"{c:.3f}" for c in cells) + " |")
    for problems in (10, 20, 50):
        print(f"false alarms, {problems} problems: {false_alarms(rng, given.repeats, problems):.3f}")
    for problems, level in ((20, 0.8), (40, 0.9), (60, 0.95)):
        share, width = new_problems(rng, given.repeats, problems, level)
        print(f"| new problem | {problems} | {level:.3f} | {share:.3f} | {width:.2f} |")
    for devices, level in ((4, level_of(4, 1)), (10, level_of(10, 1)), (20, 0.9)):
        share, width = new_devices(rng, given.repeats, devices, level)
        print(f"| new device | {devices} | {level:.3f} | {share:.3f} | {width:.2f} |")


if __name__ == "__main__":
    main()
