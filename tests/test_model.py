"""The model of times on made-up data whose coefficients are known: what is recovered, covered, refused."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import test_cli
from microbench import model
from microbench.commands import model as command
from microbench.errors import InputError
from microbench.figures import WIDTH
from microbench.model import Report, cases, plots, text
from microbench.model.ceilings import Ceilings, ceilings_of, parse_ceilings
from microbench.model.data import Observation, collect
from microbench.model.design import bound_terms, terms_of
from microbench.model.fitting import Fit, analyse_variance, fit
from microbench.model.judging import left_out_device
from microbench.model.prediction import interval, level_of
from microbench.record import Record
from microbench.report import pictures
from microbench.sources import Source, load, load_all
from records import make_info, make_record, not_measured

DEVICES = {"a": 0.0, "b": 0.7, "c": -0.4}
SPEEDS = {"fp32": 0.0, "fp16": -0.5}
FLOPS, BYTES, BASE = 0.6, 0.3, -9.0
Noise = Callable[[np.random.Generator, int], Any]


def heavy(rng: np.random.Generator, count: int) -> Any:
    return 0.1 * rng.standard_t(3, count)


def observations(
    rng: np.random.Generator,
    problems: int = 30,
    devices: dict[str, float] = DEVICES,
    precisions: dict[str, float] = SPEEDS,
    noise: Noise = heavy,
    shared: float = 0.2,
) -> list[Observation]:
    """Times by the model's own formula; errors are heavy-tailed, larger for long times, and alike within a problem."""
    found = []
    sizes = np.column_stack([rng.uniform(16, 25, problems), rng.uniform(12, 18, problems)])
    spread = 0.5 + (sizes[:, 0] - 16) / 9
    common = shared * spread * rng.standard_t(5, problems)
    for number, (flops, nbytes) in enumerate(sizes):
        for device, slower in devices.items():
            for precision, faster in precisions.items():
                error = float(common[number] + spread[number] * noise(rng, 1)[0])
                logarithm = BASE + slower + faster + FLOPS * (flops - 20) + BYTES * (nbytes - 15) + error
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
                        seconds=float(np.exp(logarithm)),
                    )
                )
    return found


def fitted(found: Sequence[Observation], interactions: bool = False) -> Fit:
    return fit(found, terms_of(found, interactions), [each.problem for each in found])


def combination(found: Fit, term: str, name: str) -> Any:
    row = np.zeros(len(found.design.columns))
    row[found.design.columns.index((term, name))] = 1.0
    return row


# --- coefficients ------------------------------------------------------------------------------------------------


def test_known_coefficients_lie_in_their_intervals_as_often_as_promised() -> None:
    rng = np.random.default_rng(1)
    truth = {
        ("device", "b"): 0.7,
        ("device", "c"): -0.4,
        ("precision", "fp32"): 0.5,
        ("size", "flops"): FLOPS,
        ("size", "bytes"): BYTES,
    }
    held = dict.fromkeys(truth, 0)
    usual = 0
    repeats = 300
    for _ in range(repeats):
        found = fitted(observations(rng))
        assert found.design.levels["device"][0] == "a"
        assert found.design.levels["precision"][0] == "fp16"
        for (term, name), value in truth.items():
            _, ends = found.interval(combination(found, term, name), 0.95)
            assert ends is not None
            held[term, name] += ends[0] <= value <= ends[1]
        kept = [name for name, kept in zip(found.design.columns, found.design.kept, strict=True) if kept]
        low, high = found.results.conf_int()[kept.index(("size", "bytes"))]
        usual += low <= BYTES <= high
    # Three standard errors of a share of 0.95 are 0.038.
    for name, count in held.items():
        assert 0.91 <= count / repeats <= 0.99, (name, count / repeats)
    # The usual intervals, which take all observations to be independent, would not do.
    assert usual / repeats < 0.8


def test_refits_are_those_of_the_data_without_the_group() -> None:
    found = observations(np.random.default_rng(2), problems=12)
    whole = fitted(found)
    rest = [each for each in found if each.problem != "p3"]
    without = fitted(rest)
    own = [each for each in found if each.problem == "p3"]
    expected = np.log([each.seconds for each in own]) - without.design.matrix(own) @ without.coefficients
    members = [place for place, each in enumerate(found) if each.problem == "p3"]
    np.testing.assert_allclose(whole.left_out_residuals[members], expected, atol=1e-9)


def test_groups_of_one_give_the_errors_of_hc3() -> None:
    found = observations(np.random.default_rng(3), devices={"a": 0.0}, precisions={"fp32": 0.0})
    single = fitted(found)
    count = len(found)
    deviations = single.without - single.coefficients
    errors = np.sqrt((count - 1) / count * np.sum(deviations**2, axis=0))[single.design.kept]
    np.testing.assert_allclose(errors, single.results.HC3_se * np.sqrt((count - 1) / count), rtol=1e-6)


def test_the_table_of_variances_is_type_two() -> None:
    import pandas as pd
    from statsmodels.formula.api import ols  # type: ignore[import-untyped]
    from statsmodels.stats.anova import anova_lm  # type: ignore[import-untyped]

    rng = np.random.default_rng(4)
    found = [each for each in observations(rng) if rng.random() < 0.8]  # not balanced
    frame = pd.DataFrame(
        {
            "t": np.log([each.seconds for each in found]),
            "device": [each.device for each in found],
            "precision": [each.precision for each in found],
            "f": np.log([each.flops for each in found]) - 20,
            "b": np.log([each.bytes for each in found]),
        }
    )
    formula = "t ~ C(device) * C(precision) + f + b + I(f**2)"
    expected = anova_lm(ols(formula, frame).fit(), typ=2)["sum_sq"]
    table = {each.term: each for each in analyse_variance(fitted(found, interactions=True))}
    assert table["device"].sum_of_squares == pytest.approx(expected["C(device)"])
    assert table["precision"].sum_of_squares == pytest.approx(expected["C(precision)"])
    assert table["device:precision"].sum_of_squares == pytest.approx(expected["C(device):C(precision)"])
    assert table["device:precision"].degrees == 2
    whole, part = (ols(each, frame).fit().ssr for each in (formula, "t ~ C(device) * C(precision)"))
    assert table["size"].sum_of_squares == pytest.approx(part - whole)


def test_a_factor_without_effect_is_significant_as_rarely_as_promised() -> None:
    rng = np.random.default_rng(5)
    alarms, repeats = 0, 200
    for _ in range(repeats):
        found = observations(rng, problems=20, devices=dict.fromkeys("abcd", 0.0), precisions={"fp32": 0.0})
        p_value = next(each.p_value for each in analyse_variance(fitted(found)) if each.term == "device")
        assert p_value is not None
        alarms += p_value < 0.05
    assert alarms / repeats <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / repeats)


@given(st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_the_order_of_observations_changes_nothing(random: Any) -> None:
    found = observations(np.random.default_rng(6), problems=11)
    shuffled = list(found)
    random.shuffle(shuffled)
    one, other = fitted(found), fitted(shuffled)
    assert one.design.columns == other.design.columns
    np.testing.assert_allclose(one.coefficients, other.coefficients, atol=1e-9)
    for place in range(len(one.design.columns)):
        row = np.eye(len(one.design.columns))[place]
        np.testing.assert_allclose(
            np.hstack(one.interval(row, 0.9)), np.hstack(other.interval(row, 0.9)), atol=1e-8
        )


def test_what_always_goes_together_is_not_told_apart() -> None:
    found = [
        replace(each, library="other") if each.device == "b" else each
        for each in observations(np.random.default_rng(7))
    ]
    assert terms_of(found) == ["device", "size", "precision"]
    mixed = [replace(each, library=f"lib{int(each.title[1:]) % 2}") for each in found]
    assert "library" in terms_of(mixed)
    # Of the device c there is one precision only, so nothing is known of its other one beside interactions.
    lacking = [each for each in found if (each.device, each.precision) != ("c", "fp16")]
    case = replace(lacking[0], device="c", precision="fp16", seconds=None)
    assert cases.predict(fitted(lacking), case, 0.9).notes == ("never measured together: c and fp16",)
    with pytest.raises(InputError, match="say nothing about gemm in fp16 on c"):
        cases.predict(fitted(lacking, interactions=True), case, 0.9)


def test_a_level_that_rests_on_one_problem_has_no_interval() -> None:
    found = observations(np.random.default_rng(8))
    lonely = [each for each in found if each.device != "c" or each.problem == "p0"]
    one = fitted(lonely)
    value, ends = one.interval(combination(one, "device", "c"), 0.95)
    assert np.isfinite(value)
    assert ends is None
    assert np.isnan(one.left_out_residuals).sum() == 2  # the precisions of that problem on c
    assert next(each for each in analyse_variance(one) if each.term == "device").p_value is None


# --- predictions -------------------------------------------------------------------------------------------------


def test_predictions_of_new_problems_are_covered_as_often_as_promised() -> None:
    rng = np.random.default_rng(9)
    held, repeats, level = 0, 300, 0.8
    for _ in range(repeats):
        # A shape that the model does not have: a floor under all times.
        found = [replace(each, seconds=(each.seconds or 0) + 1e-4) for each in observations(rng, problems=21)]
        known = fitted([each for each in found if each.problem != "p20"])
        new = next(each for each in found if each.problem == "p20" and each.device == "b")
        predicted = cases.predict(known, replace(new, seconds=None), level)
        assert predicted.level == level
        assert predicted.low_s is not None
        assert predicted.high_s is not None
        held += predicted.low_s <= (new.seconds or 0) <= predicted.high_s
    share = held / repeats
    assert share >= level - 3 * np.sqrt(level * (1 - level) / repeats)
    assert share <= 0.93  # nor so wide that they say nothing


def test_predictions_of_new_devices_are_covered_as_often_as_promised() -> None:
    rng = np.random.default_rng(10)
    held, repeats, level = 0, 150, 0.75
    for _ in range(repeats):
        devices = {f"d{number}": float(rng.standard_t(3)) * 0.3 for number in range(11)}
        found = [
            # Ceilings that promise the same of every device: what remains is the device's own.
            replace(each, bound_s=(each.flops or 0) / 1e12)
            for each in observations(rng, problems=12, devices=devices, precisions={"fp32": 0.0})
        ]
        rest = [each for each in found if each.device != "d10"]
        known = fit(rest, bound_terms(rest), [each.device for each in rest])
        new = next(each for each in found if each.device == "d10" and each.problem == "p5")
        predicted = cases.predict(known, replace(new, device=cases.DESCRIBED, seconds=None), level)
        assert predicted.groups == 10
        assert predicted.level == level
        assert predicted.low_s is not None
        assert predicted.high_s is not None
        held += predicted.low_s <= (new.seconds or 0) <= predicted.high_s
    assert held / repeats >= level - 3 * np.sqrt(level * (1 - level) / repeats)


def test_few_groups_lower_the_level_and_fewer_leave_no_interval() -> None:
    assert level_of(10, 0.95) == pytest.approx(9 / 11)
    assert level_of(100, 0.95) == 0.95
    found = fitted(observations(np.random.default_rng(11), problems=8, precisions={"fp32": 0.0}))
    every = np.ones(len(found.times), bool)
    wide = interval(found, found.matrix[0], every, 0.99)
    assert wide is not None
    assert wide.level == pytest.approx(7 / 9)
    assert interval(found, found.matrix[0], found.groups < 2, 0.99) is None


# --- whole runs --------------------------------------------------------------------------------------------------


class Stub:
    """Records in memory."""

    def __init__(self, records: Sequence[Record], **info: Any) -> None:
        self.info = make_info(**info)
        self._records = records

    def records(self) -> Any:
        return iter(self._records)

    summaries = records


def source(name: str, records: Sequence[Record], peak: float | None = None, **changes: Any) -> Source:
    theoretical = {"compute_flops_per_s": {"fp32": peak}, "memory_bytes_per_s": (peak or 0) / 20}
    info = {} if peak is None else {"ceilings": {"theoretical": theoretical}}
    return Source(
        name, changes.get("device", f"Xeon {name}"), changes.get("limits", ()), (Stub(records, **info),)
    )


def gemm(seed: int, peak: float, efficiency: float = 0.7, count: int = 24, **changes: Any) -> list[Record]:
    """Times at a share of the roofline, 5 % of noise."""
    sizes = np.random.default_rng(99)
    rng = np.random.default_rng(seed)
    records = []
    for index in range(count):
        m, n, k = (int(2 ** sizes.uniform(4, 12)) for _ in range(3))
        flops, nbytes = 2 * m * n * k, 4 * (m * n + m * k + n * k)
        bound = max(flops / peak, nbytes / (peak / 20))
        seconds = bound / efficiency * float(np.exp(0.05 * rng.standard_normal()))
        problem = {"m": m, "n": n, "k": k, "a_transposed": False, "b_transposed": False}
        given = {"problem": problem, "flops": flops, "bytes": nbytes, "median_s": seconds, "index": index}
        records.append(make_record(**(given | {"peak_flops_per_s": None} | changes)))
    return records


PEAKS = {"a": 1e11, "b": 4e11, "c": 9e11, "d": 3e12}


def fleet(**odd: float) -> list[Source]:
    """Devices at the same share of their ceilings, but for those named."""
    return [
        source(name, gemm(number, peak, odd.get(name, 0.7)), peak)
        for number, (name, peak) in enumerate(PEAKS.items())
    ]


def written(report: Report, form: Any = "table") -> str:
    stream = io.StringIO()
    text.write(report, form, stream)
    return stream.getvalue()


def test_a_device_that_obeys_is_predicted_from_its_ceilings_and_one_that_does_not_is_not() -> None:
    obeying = {each.name: each for each in model.analyse(fleet()).device_errors}
    assert set(obeying) == set(PEAKS)
    for each in obeying.values():
        assert each.ceilings is not None
        assert each.ceilings.median is not None
        assert each.ceilings.median < 1.2
    odd = {each.name: each for each in model.analyse(fleet(c=0.07)).device_errors}["c"]
    assert odd.ceilings is not None
    assert odd.ceilings.median is not None
    assert 6 < odd.ceilings.median < 20
    # Its own factor takes away that it is ten times slower, not that which it shares with none.
    assert odd.scaled.median is not None
    assert odd.scaled.median < 1.5


def test_a_device_left_out_tells_nothing_of_itself() -> None:
    found = observations(np.random.default_rng(12))
    _, residuals = left_out_device(found, "b")
    slower = [
        replace(each, seconds=10 * (each.seconds or 0)) if each.device == "b" else each for each in found
    ]
    _, others = left_out_device(slower, "b")
    np.testing.assert_allclose(others - residuals, np.log(10), atol=1e-9)
    lonely = [replace(each, precision="int8") if each.device == "b" else each for each in found]
    assert np.isnan(left_out_device(lonely, "b")[1]).all()


def test_runs_of_one_device_become_one_level_and_their_processes_one_time() -> None:
    first = gemm(1, 1e11)
    repeats = [
        make_record(
            problem=record.problem,
            flops=record.flops,
            bytes=record.bytes,
            median_s=factor * (record.median_s or 0),
            repeat=repeat,
        )
        for record in first
        for repeat, factor in enumerate((0.5, 1.0, 4.0))
    ]
    data = collect([source("x", first, device="Xeon"), source("y", repeats, device="Xeon")])
    assert [(device.name, device.sources) for device in data.devices] == [("x", ("x", "y"))]
    assert len(data.observations) == 2 * len(first)
    times = sorted(each.seconds or 0 for each in data.observations)
    assert times[::2] == pytest.approx(times[1::2])


def test_threads_have_an_exponent() -> None:
    records = [
        record
        for threads in (1, 2, 4, 8)
        for record in gemm(threads, 1e11, efficiency=0.7 * threads**0.8, threads=threads)
    ]
    report = model.analyse([source("a", records)])
    slope = next(each for each in report.slopes if each.size == "threads")
    assert slope.low is not None
    assert slope.high is not None
    assert slope.low < -0.8 < slope.high
    assert slope.high - slope.low < 0.1


def test_the_order_of_runs_changes_nothing() -> None:
    asked = {
        "predict": ["gemm:m=100,n=200,k=300"],
        "ceilings": parse_ceilings("compute=1TFLOP/s,memory=50GB/s"),
    }
    one, other = (
        json.loads(written(model.analyse(runs, **asked), "json")) for runs in (fleet(), fleet()[::-1])
    )

    def flat(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: flat(each) for name, each in value.items()}
        if isinstance(value, list):
            return sorted((flat(each) for each in value), key=repr)
        return float(f"{value:.6g}") if isinstance(value, float) else value

    for name in ("effects", "slopes", "leave_one_problem_out", "predictions", "analysis_of_variance"):
        assert flat(one[name]) == flat(other[name]), name


def test_a_prediction_is_near_and_says_what_it_assumes() -> None:
    ceilings = parse_ceilings("compute=1TFLOP/s,memory=50GB/s")
    report = model.analyse(
        fleet(), predict=["gemm:m=512,n=700,k=600"], devices=["B"], ceilings=ceilings, confidence=0.8
    )
    known, described = report.predictions
    true = 2 * 512 * 700 * 600 / 4e11 / 0.7
    assert known.device == "b"
    assert known.low_s is not None
    assert known.high_s is not None
    assert known.low_s < true < known.high_s
    assert known.flops == 2 * 512 * 700 * 600
    assert described.device == cases.DESCRIBED
    assert described.bound_s == pytest.approx(2 * 512 * 700 * 600 / 1e12)
    assert described.level == pytest.approx(3 / 5)
    assert described.like == "devices of gemm fp32"
    assert described.seconds == pytest.approx(described.bound_s / 0.7, rel=0.25)
    shown = written(report)
    assert "interval from 24 problems of gemm fp32 on b" in shown
    far = model.analyse(fleet(), predict=["gemm:m=50000,n=50000,k=50000"], devices=["a"])
    assert any("lie outside of what was measured" in note for note in far.predictions[0].notes)


def test_measured_ceilings_serve_where_none_are_stated() -> None:
    measured = {
        "compute_flops_per_s": {"fp32": {"best": 4e11, "samples": [4e11]}},
        "memory_bytes_per_s": {"triad": {"best": 4e10, "samples": [4e10]}},
    }
    one = Source("x", "Xeon", (), (Stub([], ceilings=measured),))
    found = ceilings_of(one)
    assert found.compute["fp32"] == (4e11, "measured")
    assert found.memory == (4e10, "measured")
    assert found.bound_s("fp32", 4e11, 8e10) == pytest.approx(2.0)
    assert found.bound_s("bf16", 4e11, 8e10) is None
    assert found.bound_s("bf16", 4e11, None, measured_peak=8e11) == pytest.approx(0.5)
    assert Ceilings().bound_s("fp32", 1.0, 1.0) is None


# --- what is refused, and what is said ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "times of 0 different problems are too few"),
        (gemm(1, 1e11, count=5), "times of 5 different problems are too few, it takes at least 6"),
        (
            [not_measured("crashed", "SIGSEGV\x1b[31m in <b>lib</b>")] * 3,
            r"3 records: no time that may be used, crashed: SIGSEGV \[31m in <b>lib</b>",
        ),
        ([make_record(kernel="allreduce", flops=0)] * 2, "2 records: collectives depend on ranks"),
        (gemm(1, 1e11, flops=None, bytes=None), "24 records: neither operations nor bytes are known"),
    ],
)
def test_too_little_data_is_one_sentence(records: list[Record], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        model.analyse([source("a", records)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"predict": ["gemm"]}, "write KERNEL:COLUMN=VALUE"),
        ({"predict": ["gem:m=1"]}, "no kernel 'gem'"),
        ({"predict": ["gemm:m=1,n=2"]}, "--predict gemm: m=1,n=2: k not given"),
        ({"predict": ["gemm:m=1,n=2,k=x"]}, "k is 'x'"),
        ({"predict": ["gemm:m=1,n=2,k=3,precision=fp8"]}, "precision 'fp8' was not measured; there is fp32"),
        ({"predict": ["gemm:m=1,n=2,k=3,threads=two"]}, "threads is 'two'"),
        (
            {"predict": ["rnn:cell=lstm,hidden_size=1,batch_size=1,time_steps=1"]},
            "nothing was measured of rnn forward",
        ),
        (
            {"predict": ["gemm:m=1,n=2,k=3"], "devices": ["z"]},
            "--device 'z': there is none .* there are a, b, c, d",
        ),
        ({"devices": ["a"]}, "add --predict"),
        ({"confidence": 1.0}, "--confidence 1: a share between 0 and 1"),
    ],
)
def test_what_cannot_be_predicted_is_one_sentence(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        model.analyse(fleet(), **asked)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given_text",
    [
        "",
        "compute=1TFLOP/s",
        "compute=1GB/s,memory=1GB/s",
        "compute=1TFLOP/s,memory=fast",
        "compute=0TFLOP/s,memory=1GB/s",
        "compute=1TFLOP/s,compute=1TFLOP/s,memory=1GB/s",
        "compute=1TFLOP/s,memory=1GB/s,cache=1GB/s",
    ],
)
def test_ceilings_that_are_not_right_are_refused(given_text: str) -> None:
    with pytest.raises(InputError, match="write as in compute=125TFLOP/s,memory=900GB/s"):
        parse_ceilings(given_text)


def test_ceilings_have_units() -> None:
    found = parse_ceilings(" compute=130 TOP/s, memory=.32TB/s")
    assert found.compute == {"": (1.3e14, "stated")}
    assert found.memory == (3.2e11, "stated")


def test_one_device_and_constant_factors_are_said() -> None:
    report = model.analyse([source("a", gemm(1, 1e11))])
    shown = written(report)
    assert "There is one device, so none can be left out" in shown
    assert "only one: device (a), kernel (gemm), precision (fp32)" in re.sub(r"\s+", " ", shown)
    assert report.effects == []
    with pytest.raises(InputError, match="ceilings are known of 0 of the devices here"):
        model.analyse(
            [source("a", gemm(1, 1e11))],
            predict=["gemm:m=1,n=1,k=1"],
            ceilings=parse_ceilings("compute=1TFLOP/s,memory=1GB/s"),
        )
    two = model.analyse(fleet()[:2])
    assert "No errors from ceilings: ceilings are known of 2 of the devices here" in re.sub(
        r"\s+", " ", written(two)
    )


def test_times_that_are_all_the_same_are_no_trouble() -> None:
    records = [replace_time(record) for record in gemm(1, 1e11)]
    report = model.analyse([source("a", records)])
    assert report.diagnostics.normality_p is None
    assert "residuals are all the same, so not tested" in written(report)
    json.loads(written(report, "json"))


def replace_time(record: Record) -> Record:
    return make_record(problem=record.problem, flops=record.flops, bytes=record.bytes, median_s=1e-3)


HOSTILE = "<script>alert(1)</script>|`$x$`\n\x1b[31m=cmd C(a):b + \\"


def test_hostile_names_stay_names(tmp_path: Path) -> None:
    runs = [
        source(HOSTILE, gemm(1, 1e11, library=HOSTILE), 1e11, limits=(HOSTILE,)),
        source("b", gemm(2, 2e11, library=HOSTILE), 2e11, device=HOSTILE + "b"),
        source("c:d", gemm(3, 3e11, library="lib:x"), 3e11),
    ]
    report = model.analyse(runs, interactions=True, predict=["gemm:m=64,n=64,k=64"])
    table = written(report)
    assert max(map(len, table.splitlines())) <= WIDTH
    assert "\x1b" not in table
    markdown = written(report, "markdown")
    assert "\x1b" not in markdown
    assert not re.search(r"(?<!\\)<script", markdown)
    assert json.loads(written(report, "json"))["devices"][0]["name"] == HOSTILE
    files = pictures.write(plots.figures(report), tmp_path / "pictures")
    assert {path.stem for path in files} == {
        "model-residuals",
        "model-normality",
        "model-problems",
        "model-devices",
    }


@pytest.mark.parametrize("form", text.FORMATS)
def test_every_ratio_stands_beside_times(form: str) -> None:
    report = model.analyse(fleet(), predict=["gemm:m=64,n=64,k=64"])
    shown = written(report, form)
    if form == "json":
        content = json.loads(shown)
        assert all(each["seconds"] > 0 for each in content["effects"] + content["predictions"])
        return
    assert "Base case" in shown
    for name in PEAKS:
        effect = next(
            line for line in shown.splitlines() if re.search(rf"device\W+{name}\b.*(s|ms|us) ", line)
        )
        assert "base" in effect or re.search(r"\d\.\d{3}-\d", effect)


def test_the_command_prints_and_draws(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    given_options = {
        "sources": ["deepbench:P100", "deepbench:V100"],
        "interactions": False,
        "predict": [],
        "device": [],
        "ceilings": None,
        "confidence": 0.9,
        "pictures": str(tmp_path / "pictures"),
        "format": "markdown",
    }
    assert command.run(given_options, []) == 0
    captured = capsys.readouterr()
    assert "Leave one device out" in captured.out
    assert sorted(path.name for path in (tmp_path / "pictures").glob("*.png")) == [
        "model-normality.png",
        "model-problems.png",
        "model-residuals.png",
    ]


def test_bad_input_ends_with_one_sentence(tmp_path: Path) -> None:
    process = test_cli.call(["model", "deepbench:iPhone6", "--predict", "conv"], tmp_path)
    assert process.returncode == 2
    assert process.stderr.count("\n") == 1
    assert "Traceback" not in process.stderr


# --- published results -------------------------------------------------------------------------------------------

NAMES = (
    *("M40", "TitanX-Maxwell", "TitanX-Pascal", "TitanXp", "1080Ti"),
    *("P100", "V100", "T4", "MI25", "VegaFE"),
)
PAGE = Path(__file__).parents[1] / "docs" / "model.md"


@pytest.fixture(scope="module")
def published() -> Report:
    return model.analyse(load_all([f"deepbench:{name}" for name in NAMES]))


def test_published_devices_have_ceilings_in_every_precision(published: Report) -> None:
    assert len(published.data.observations) == sum(
        each.bound_s is not None for each in published.data.observations
    )
    # As their makers state them: NVIDIA's V100 125 and 15.7 TFLOP/s, T4 130 TOP/s, AMD's MI25 12.3 TFLOP/s.
    stated = {
        ("V100", "fp16"): 125e12,
        ("V100", "fp32"): 15.7e12,
        ("T4", "int8"): 130e12,
        ("MI25", "fp32"): 12.3e12,
    }
    for (name, precision), per_s in stated.items():
        assert ceilings_of(load(f"deepbench:{name}")).compute[precision][0] == pytest.approx(per_s, rel=0.005)


def test_limits_of_published_results_stand_below(published: Report) -> None:
    shown = re.sub(r"\s+", " ", written(published))
    assert "each figure is the mean of a number of executions" in shown
    assert "recurrent layers were timed without the product with their input" in shown
    assert max(map(len, written(published).splitlines())) <= WIDTH


def test_the_page_tells_what_comes_out(published: Report) -> None:
    page = PAGE.read_text()
    line = next(line for line in page.splitlines() if line.startswith("| problem left out"))
    whole = published.problem_errors[-1]
    assert f"| {whole.median:.2f} | {whole.ninetieth:.2f} |" in line
    found = {each.name.removeprefix("deepbench:"): each for each in published.device_errors}
    for name in NAMES:
        each = found[name]
        assert each.ceilings is not None
        figures = (each.scaled.median, each.scaled.ninetieth, each.ceilings.median, each.ceilings.ninetieth)
        row = " | ".join(f"{value:.2f}" for value in figures if value is not None)
        assert f"| {name} | {row} |" in page, f"| {name} | {row} |"
