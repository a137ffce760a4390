"""The model of times on whole runs and published results: errors, predictions, what is refused, what is said."""

from __future__ import annotations

import argparse
import io
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import test_cli
from microbench import model
from microbench.commands import model as command
from microbench.errors import InputError
from microbench.figures import WIDTH
from microbench.model import Report, cases, plots, text
from microbench.model.ceilings import Ceilings, bound_s, ceilings_of, parse_ceilings
from microbench.model.data import collect
from microbench.record import Record
from microbench.report import pictures
from microbench.sources import Source, load, load_all
from records import create, make_info, make_record, not_measured


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


def test_a_source_may_be_called_like_a_device_that_is_only_described() -> None:
    runs = [replace(each, name=cases.DESCRIBED) if each.name == "b" else each for each in fleet()]
    (known,) = model.analyse(runs, predict=["gemm:m=64,n=64,k=64"], devices=[cases.DESCRIBED]).predictions
    assert known.like == f"problems of gemm fp32 on {cases.DESCRIBED}"


def test_libraries_are_held_against_one_of_their_own_kernel() -> None:
    conv = [
        make_record(
            kernel="conv",
            library=library,
            problem={**record.problem, "c": 1},
            flops=record.flops,
            bytes=record.bytes,
            median_s=factor * (record.median_s or 0),
        )
        for record in gemm(1, 1e11)
        for library, factor in (("ours", 6.0), ("theirs", 9.0))
    ]
    own = [*gemm(2, 1e11, library="blas"), *gemm(3, 1e11, efficiency=0.35, library="slow", count=20)]
    report = model.analyse([source("a", [*own, *conv])])
    effects = {each.level: each for each in report.effects}
    assert effects["conv: theirs"].ratio == pytest.approx(1.5)
    assert effects["gemm: slow"].ratio == pytest.approx(2, rel=0.1)
    assert {level for level, each in effects.items() if each.ratio is None} >= {"conv: ours", "gemm: blas"}
    assert effects["conv: theirs"].seconds == pytest.approx(1.5 * (effects["conv: ours"].seconds or 0))
    assert effects["conv: ours"].seconds == pytest.approx(effects["conv forward"].seconds)


def test_a_choice_that_was_never_made_together_is_said() -> None:
    runs = [
        source("a", gemm(1, 1e11, library="one")),
        source("b", gemm(2, 2e11, library="two")),
    ]
    with pytest.raises(
        InputError, match="say nothing about library gemm: two in fp32 on a: there is gemm: one"
    ):
        model.analyse(runs, predict=["gemm:m=64,n=64,k=64,library=two"], devices=["a"])
    both = [*runs, source("c", [*gemm(3, 3e11, library="one"), *gemm(4, 3e11, library="two")])]
    (known,) = model.analyse(both, predict=["gemm:m=64,n=64,k=64,library=two"], devices=["a"]).predictions
    assert "never measured together: a and gemm: two" in known.notes


def test_measured_ceilings_serve_where_none_are_stated() -> None:
    measured = {
        "compute_flops_per_s": {"fp32": {"best": 4e11, "samples": [4e11]}},
        "memory_bytes_per_s": {"triad": {"best": 4e10, "samples": [4e10]}},
    }
    one = Source("x", "Xeon", (), (Stub([], ceilings=measured),))
    (found,) = ceilings_of(one)
    assert found.compute["fp32"] == (4e11, "measured")
    assert found.memory == (4e10, "measured")
    assert bound_s(found.roof("fp32", 4), 4e11, 8e10) == pytest.approx(2.0)
    assert found.roof("bf16", 4) is None
    assert bound_s(found.roof("bf16", 4, measured_peak=8e11), 4e11, None) == pytest.approx(0.5)
    assert bound_s(Ceilings().roof("fp32", 4), 1.0, 1.0) is None


def probed(threads: int, peak: float) -> dict[str, Any]:
    return {
        "threads": threads,
        "compute_flops_per_s": {"fp32": {"best": peak}},
        "memory_bytes_per_s": {"triad": {"best": peak / 20}},
    }


def test_ceilings_hold_for_their_own_part_and_threads() -> None:
    parts = tuple(
        Stub(gemm(threads, threads * 1e11, threads=threads), ceilings=probed(threads, threads * 1e11))
        for threads in (1, 2)
    )
    odd = Stub(gemm(5, 1e11, threads=4), ceilings=probed(2, 1e11))
    folder = Source("a", "Xeon", (), (*parts, odd))
    rest = [
        Source(name, name, (), (Stub(gemm(9, 3e11, threads=2), ceilings=probed(2, 3e11)),)) for name in "bc"
    ]
    roofs = {(each.device, each.threads): each.roof for each in collect([folder, *rest]).observations}
    assert roofs["a", 1] == (1e11, 5e9)
    assert roofs["a", 2] == (2e11, 1e10)
    assert roofs["a", 4] is None
    report = model.analyse(
        [folder, *rest],
        predict=[f"gemm:m=64,n=64,k=64,threads={threads}" for threads in (1, 2, 64)],
        devices=["a"],
    )
    bounds = [each.bound_s for each in report.predictions]
    assert bounds == [pytest.approx(12 * 64 * 64 / 5e9), pytest.approx(12 * 64 * 64 / 1e10), None]
    assert "64 threads lie outside of what was measured of gemm on a, 1 to 4" in report.predictions[2].notes
    assert not any("threads" in note for note in report.predictions[1].notes)
    shown = re.sub(r"\s+", " ", written(report))
    assert "a, ceilings of 1 thread: fp32 100.0 GFLOP/s, 5.000 GB/s measured." in shown
    assert re.search(r"fp32, 1 thread .* fp32, 2 threads ", shown)


def on_host(name: str, host: str, seed: int, **changes: Any) -> Source:
    environment = {"system": {"hostname": host}} if host else {}
    return Source(name, "Xeon", (), (Stub(gemm(seed, 1e11, **changes), environment=environment),))


def test_one_processor_in_several_hosts_is_several_devices() -> None:
    runs = [on_host("x", "n1", 1), on_host("y", "n2", 2, efficiency=0.1), on_host("z", "n1", 3)]
    report = model.analyse(runs)
    assert [(each.name, each.sources) for each in report.data.devices] == [("x", ("x", "z")), ("y", ("y",))]
    assert "x is one device on host n1 in x, z." in written(report)
    assert report.data.limits == {}
    with pytest.raises(InputError, match="'xeon' is the processor of several: write one of x, y"):
        cases.find_device(report.data, "xeon")
    unknown = model.analyse([on_host("x", "", 1), on_host("y", "", 2), on_host("z", "n1", 3)])
    assert [each.sources for each in unknown.data.devices] == [("x", "y"), ("z",)]
    assert "taken as one device: the processor is the same" in written(unknown)
    assert set(unknown.data.limits) == {"x", "y"}
    parts = tuple(part for run in runs for part in run.parts)
    assert collect([Source("w", "Xeon", (), parts)]).limits == {
        "w": ("taken as one device, on hosts n1, n2",)
    }


def test_a_device_with_its_library_has_an_effect() -> None:
    """The two have no library in common, so each one's is part of it."""
    here = [*gemm(1, 1e11, library="onednn"), *gemm(2, 1e11, efficiency=0.35, library="openblas")]
    there = [*gemm(3, 4e11, library="cublas"), *gemm(4, 4e11, library="cublas", mode="hot")]
    report = model.analyse([source("a", here), source("b", there)])
    effects = {each.level: each for each in report.effects}
    assert effects["b"].ratio == pytest.approx(1 / 4, rel=0.1)
    assert effects["b"].seconds is not None
    assert report.base["library"] == "gemm: onednn"
    assert effects["gemm: openblas"].ratio == pytest.approx(2, rel=0.1)
    assert effects["gemm: cublas"].ratio is None
    assert effects["gemm: cublas"].beside == {"device": "b"}
    assert effects["gemm: cublas"].seconds == pytest.approx(effects["b"].seconds)
    assert report.apart == ("library gemm: cublas and gemm: onednn",)
    times = [each for each in report.effects if each.seconds is not None]
    assert all(each.low_s < each.seconds < each.high_s for each in times if each.low_s and each.high_s)
    shown = re.sub(r"\s+", " ", written(report))
    assert "gemm: cublas: with b." in shown
    assert "Never measured with the same device, kernel and precision: library gemm: cublas and" in shown


def test_what_cannot_be_told_is_marked() -> None:
    """Each device has a precision of its own, and published threads are unknown."""
    mixed = [*gemm(1, 1e11, threads=1), *gemm(2, 2e11, threads=2)]
    report = model.analyse([source("a", mixed), source("b", gemm(3, 4e11, precision="fp16", threads=0))])
    shown = written(report)
    assert re.search(r"^precision +0\* +n/a +n/a +n/a +n/a$", shown, re.MULTILINE)
    told = re.sub(r"\s+", " ", shown)
    assert "* precision: cannot be told from other levels or terms: fp16." in told
    assert "Threads vary, but have no term: of 24 times they are unknown." in told
    with pytest.raises(InputError, match="threads '8' was not measured; there is unknown, 1, 2"):
        model.analyse(
            [source("a", mixed), source("b", gemm(3, 4e11, threads=0))],
            predict=["gemm:m=64,n=64,k=64,threads=8"],
        )


def test_times_of_effects_have_the_intervals_that_hold_them() -> None:
    report = model.analyse(fleet())
    for each in report.effects:
        assert each.low_s is not None
        assert each.high_s is not None
        assert each.low_s < (each.seconds or 0) < each.high_s
    assert report.base_s is not None
    base = next(each for each in report.effects if each.level == report.base["device"])
    assert (base.seconds, base.low_s, base.high_s) == (
        report.base_s.value,
        report.base_s.low,
        report.base_s.high,
    )
    shown = re.sub(r"\s+", " ", written(report))
    assert "whichever is larger; it has no interval." in shown
    assert "errors have no interval." in shown


def test_a_base_case_that_cannot_be_told_has_no_time() -> None:
    """The first device has most problems, the other's precision too, and nothing links them."""
    parts = [
        source("a", gemm(1, 1e11, count=20, precision="fp16")),
        source("b", gemm(2, 1e11)[:14]),
        source("c", gemm(3, 1e11)[10:]),
    ]
    report = model.analyse(parts)
    assert (report.base["device"], report.base["precision"], report.base_s) == ("a", "fp32", None)
    assert "n/a by the model" in re.sub(r"\s+", " ", written(report))
    effects = {each.level: each for each in report.effects}
    assert effects["a"].beside == {"precision": "fp16"}
    assert effects["b"].seconds is None


def test_what_was_copied_is_refused(tmp_path: Path) -> None:
    create(tmp_path / "one", *gemm(1, 1e11))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    with pytest.raises(InputError, match="hold the same measurements"):
        command.run(options(sources=[str(tmp_path / "one"), str(tmp_path / "two")]), [])


def test_ceilings_outside_of_those_here_are_said() -> None:
    asked = ["gemm:m=512,n=700,k=600"]
    (near,) = model.analyse(
        fleet(), predict=asked, ceilings=parse_ceilings("compute=1TFLOP/s,memory=50GB/s")
    ).predictions
    assert not any("devices here have" in note for note in near.notes)
    (far,) = model.analyse(
        fleet(), predict=asked, ceilings=parse_ceilings("compute=600TFLOP/s,memory=1GB/s")
    ).predictions
    assert "600000 GFLOP/s lie outside of what the devices here have, 100 to 3000" in far.notes
    assert "1 GB/s lie outside of what the devices here have, 5 to 150" in far.notes
    alike = [source(name, gemm(number, 1e11), 1e11) for number, name in enumerate("abc")]
    (same,) = model.analyse(
        alike, predict=asked, ceilings=parse_ceilings("compute=2TFLOP/s,memory=5GB/s")
    ).predictions
    assert "2000 GFLOP/s lie outside of what the devices here have, 100" in same.notes


def test_errors_from_ceilings_that_are_missing_have_a_reason() -> None:
    extra = gemm(8, PEAKS["d"], library="own", mode="cold")
    runs = [
        each if each.name != "d" else source("d", [*gemm(3, PEAKS["d"]), *extra], PEAKS["d"])
        for each in fleet()
    ]
    shown = re.sub(r"\s+", " ", written(model.analyse([*runs, source("e", gemm(7, 1e11))])))
    assert (
        "From ceilings not predictable, because nothing else has their level of a factor: 24 of d." in shown
    )
    assert "nothing of the device is known but its ceilings; those of e are unknown." in shown


def test_pictures_say_what_they_draw() -> None:
    limits = ("each is a mean",)
    runs = [replace(each, limits=limits) for each in [*fleet(), source("e", gemm(7, 1e11))]]
    drawn = {each.key: each for each in plots.figures(model.analyse(runs))}
    assert drawn["model-residuals"].conditions.startswith("120 times of a, b, c, d, e;")
    assert drawn["model-residuals"].limits == ("each is a mean (a, b, c, d, e)",)
    assert drawn["model-devices"].conditions.startswith("96 times of a, b, c, d;")
    assert drawn["model-devices"].limits == ("each is a mean (a, b, c, d)",)


def test_slopes_that_cannot_be_told_are_rows() -> None:
    cubes = [
        make_record(problem={"m": 1, "n": 1, "k": size}, flops=2 * size, bytes=8 * size, median_s=1e-6 * size)
        for size in range(100, 1300, 100)
    ]
    report = model.analyse([source("a", cubes)])
    assert any(each.value is None for each in report.slopes)
    assert re.search(r"^gemm +(flops|bytes) +n/a +n/a$", written(report), re.MULTILINE)


def test_long_names_and_small_times_keep_their_columns() -> None:
    name = "long-" + "x" * 150
    runs = [replace(each, name=name) if each.name == "a" else each for each in fleet()]
    report = model.analyse(runs, predict=["gemm:m=1,n=1,k=1"], devices=[name])
    shown = written(report)
    assert max(map(len, shown.splitlines())) <= WIDTH
    rows = [line for line in shown.splitlines() if line.startswith("long-xxxxxxxxxxxxxxxxxx… ")]
    assert len(rows) == 2  # among the devices, and left out
    assert f"is {name}." in shown.replace("\n    ", "")
    (found,) = report.predictions
    small = replace(report, predictions=[replace(found, bound_s=1.333e-11)])
    assert "0.01333 ns" in written(small)


# --- what is refused, and what is said ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "times of 0 different problems are too few"),
        (gemm(1, 1e11, count=5), "times of 5 different problems are too few, it takes at least 6"),
        (
            [not_measured("crashed", "SIGSEGV\x1b[31m in <b>lib</b>")] * 3,
            r"3 records: no time that may be used, crashed in a, first because: SIGSEGV \[31m in <b>lib</b>",
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
        ({"predict": ["gemm:m=1,n=2,k=3,threads=0"]}, "threads is '0'; write a number from 1"),
        ({"predict": ["gemm:m=1,n=2,k=3,threads=8"]}, "threads '8' was not measured; there is 4"),
        ({"predict": ["gemm:m=1,n=2,k=3,mode=graph"]}, "mode 'graph' was not measured; there is cold"),
        (
            {"predict": ["rnn:cell=lstm,hidden_size=1,batch_size=1,time_steps=1"]},
            "nothing was measured of rnn forward",
        ),
        (
            {"predict": ["gemm:m=1,n=2,k=3"], "devices": ["z"]},
            "--device 'z': there is none .* there are a, b, c, d",
        ),
        ({"devices": ["a"]}, "add --predict"),
        ({"confidence": 1.0}, "--confidence 1.0: a share between 0 and 0.9999"),
        ({"confidence": 0.9999999999999999}, "--confidence 0.9999999999999999: a share between"),
        (
            {
                "predict": ["gemm:m=1,n=2,k=3,threads=4"],
                "ceilings": parse_ceilings("compute=1TFLOP/s,memory=1GB/s"),
            },
            "stand for those of all threads: leave threads out",
        ),
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
        assert "base" in effect or re.search(r"\.\d+-\d", effect)


def options(**changes: Any) -> dict[str, Any]:
    """As the command line gives them."""
    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers())
    return vars(parser.parse_args(["model", "x"])) | changes


def test_the_command_prints_and_draws(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    given_options = options(
        sources=["deepbench:P100", "deepbench:V100"],
        confidence=0.9,
        pictures=str(tmp_path / "pictures"),
        format="markdown",
    )
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
        (found,) = ceilings_of(load(f"deepbench:{name}"))
        assert found.compute[precision][0] == pytest.approx(per_s, rel=0.005)


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
    largest = published.diagnostics.largest[0]
    assert f"take up to {largest.seconds / largest.fitted_s:.0f} times" in page.replace("\n", " ")
    found = {each.name.removeprefix("deepbench:"): each for each in published.device_errors}
    for name in NAMES:
        each = found[name]
        assert each.ceilings is not None
        figures = (each.scaled.median, each.scaled.ninetieth, each.ceilings.median, each.ceilings.ninetieth)
        row = " | ".join(f"{value:.2f}" for value in figures if value is not None)
        assert f"| {name} | {row} |" in page, f"| {name} | {row} |"
