"""The model of times on whole runs and published results: errors, predictions, what is refused, what is said."""

from __future__ import annotations

import io
import json
import re
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
from microbench.model.ceilings import Ceilings, ceilings_of, parse_ceilings
from microbench.model.data import collect
from microbench.record import Record
from microbench.report import pictures
from microbench.sources import Source, load, load_all
from records import make_info, make_record, not_measured


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
    (known,) = model.analyse(runs, predict=["gemm:m=64,n=64,k=64,library=two"], devices=["a"]).predictions
    assert "never measured together: a and gemm: two" in known.notes


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
        assert "base" in effect or re.search(r"\.\d+-\d", effect)


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
    largest = published.diagnostics.largest[0]
    assert f"take up to {largest.seconds / largest.fitted_s:.0f} times" in page.replace("\n", " ")
    found = {each.name.removeprefix("deepbench:"): each for each in published.device_errors}
    for name in NAMES:
        each = found[name]
        assert each.ceilings is not None
        figures = (each.scaled.median, each.scaled.ninetieth, each.ceilings.median, each.ceilings.ninetieth)
        row = " | ".join(f"{value:.2f}" for value in figures if value is not None)
        assert f"| {name} | {row} |" in page, f"| {name} | {row} |"
