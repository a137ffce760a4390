"""Reports as data: entries, totals, figures, rules, Markdown, pictures and the command."""

from __future__ import annotations

import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from microbench.cli import main
from microbench.errors import InputError
from microbench.record import Record
from microbench.report import write
from microbench.report.data import LEVELS, collect, spread, totals
from microbench.report.markdown import markdown
from microbench.report.plots import figures
from microbench.report.rules import rules
from microbench.report.sections import sections, title
from microbench.sources import Source, load, load_all
from microbench.stats import summary
from microbench.store import RunWriter
from records import LAYOUTS, SIZES, make_info, make_record, not_measured

RESULTS = Path(__file__).parents[1] / "results/amd-epyc-zen4-4vcpu"
SAMPLES = [1e-3 * (1 + 0.01 * (step % 7)) for step in range(200)]
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=http://evil.example/x onerror=alert(1)>',
    "=cmd|' /C calc'!A0",
    "](http://evil.example) ![x](http://evil.example/y) | `code` <b>",
    "_nothing $x^2$ @title@ \\u2028\u2028 </script>",
    "名前 😀 \u202egnol",
    "long" * 2500,
)


def measured(**changes: Any) -> Record:
    """A record as a run stores it, with the summary and diagnostics of 200 samples."""
    fields: dict[str, Any] = {
        "mode": "hot",
        "samples_s": SAMPLES,
        "median_s": 1.03e-3,
        "ci_low_s": 1.02e-3,
        "ci_high_s": 1.04e-3,
        "summary": summary(SAMPLES),
        "diagnostics": {"normality": {"p_value": 1e-9}, "modes": [{"share": 1.0}]},
    }
    return make_record(**(fields | changes))


def run(folder: Path, *records: Record, **info: Any) -> Source:
    known = {"plan": {"chosen_by": "everything asked for", "threads": 4, "last_level_cache_bytes": 1 << 25}}
    described = make_info(planned_records=len(records), **(known | info))
    with RunWriter.create(folder, described) as writer:
        for record in records:
            writer.append(record)
    return load(str(folder))


def rule(source: Source, number: int) -> tuple[str, str]:
    found = rules(collect([source]))[number - 1]
    assert found.number == number
    return found.state, found.evidence


# Data


def test_an_entry_keeps_quantiles_in_place_of_samples(tmp_path: Path) -> None:
    entry = collect([run(tmp_path / "r", measured())]).entries[0]
    assert entry.record.samples_s == []
    assert entry.samples == 200
    assert len(entry.quantiles) == len(LEVELS)
    assert (entry.quantiles[0], entry.quantiles[-1]) == (min(SAMPLES), max(SAMPLES))
    assert entry.rate == 99_123_200 / 1.03e-3
    assert entry.rate_interval == pytest.approx((99_123_200 / 1.04e-3, 99_123_200 / 1.02e-3))


def test_few_samples_are_kept_all(tmp_path: Path) -> None:
    entry = collect([run(tmp_path / "r", measured(samples_s=[3.0, 1.0, 2.0], median_s=2.0))]).entries[0]
    assert entry.quantiles == (1.0, 2.0, 3.0)
    assert spread(entry) == 1.0


def test_wrong_results_give_no_figure(tmp_path: Path) -> None:
    entry = collect([run(tmp_path / "r", measured(status="wrong_result", reason="off by one"))]).entries[0]
    assert (entry.time_s, entry.rate, entry.quantiles) == (None, None, ())


def test_series_are_named_by_what_differs(tmp_path: Path) -> None:
    source = run(
        tmp_path / "r",
        measured(library="onednn", precision="fp32"),
        measured(library="onednn", precision="bf16"),
        measured(library="openblas", algorithm="fast", precision="fp32"),
    )
    assert [entry.series for entry in collect([source]).entries] == [
        "onednn fp32",
        "onednn bf16",
        "openblas/fast fp32",
    ]


def test_several_sources_are_told_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(tmp_path / name, measured())
    report = collect(load_all([str(tmp_path / "a"), str(tmp_path / "b")]))
    assert [entry.series for entry in report.entries] == ["a onednn", "b onednn"]


def test_totals_add_times_and_divide_work_by_them(tmp_path: Path) -> None:
    other = {"m": 1, "n": 1, "k": 1, "a_transposed": False, "b_transposed": False}
    source = run(
        tmp_path / "r",
        measured(median_s=1.0, flops=100, peak_flops_per_s=200),
        measured(median_s=3.0, flops=100, peak_flops_per_s=200, repeat=1),
        measured(median_s=2.0, flops=300, peak_flops_per_s=200, problem=other),
    )
    (total,) = totals(collect([source]))
    assert total.seconds == 4.0  # of two processes the median: 2 s, and 2 s of the other problem
    assert total.rate == 100.0
    assert total.harmonic_mean == pytest.approx(2 / (2 / 100 + 2 / 300))
    assert total.peak_share == pytest.approx((0.5 + 1.5) / 4)


def test_totals_of_enough_processes_have_intervals(tmp_path: Path) -> None:
    other = {"m": 1, "n": 1, "k": 1, "a_transposed": False, "b_transposed": False}
    times = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    records = [
        measured(median_s=time, flops=100, peak_flops_per_s=200, problem=problem, repeat=repeat)
        for repeat, time in enumerate(times)
        for problem in (SIZES["gemm"], other)
    ]
    (total,) = totals(collect([run(tmp_path / "r", *records)]))
    assert (total.processes, total.seconds) == (6, 7.0)
    assert total.interval == (2.0, 12.0)  # of 6 values the extremes are the interval of the median at 95 %
    assert total.rate_interval == (pytest.approx(200 / 12), 100.0)
    assert (total.precision, total.threads) == ("fp32", "4")
    (total,) = totals(collect([run(tmp_path / "few", *records[:-1])]))
    assert (total.processes, total.interval) == (5, None)


def test_a_total_with_unknown_work_has_no_rate(tmp_path: Path) -> None:
    (total,) = totals(collect([run(tmp_path / "r", measured(), measured(flops=None, problem={"m": 2}))]))
    assert (total.rate, total.harmonic_mean, total.peak_share) == (None, None, None)


def test_collectives_show_bus_bandwidth(tmp_path: Path) -> None:
    facts = {"bus_bandwidth_bytes_per_s": 2e9, "start": "window", "over_ranks": {"max_s": 1.0}}
    record = measured(
        kernel="allreduce", flops=None, facts=facts, threads=1, problem={"elements": 8, "ranks": 4}
    )
    report = collect([run(tmp_path / "r", record)])
    assert (report.entries[0].rate, report.entries[0].unit) == (2e9, "B/s")
    assert "bus bandwidth" in figures(report)[0].x.title
    assert "window" in rules(report)[9].evidence


# Figures


def keys(source: Source) -> list[str]:
    return [figure.key for figure in figures(collect([source]))]


def test_cold_and_hot_are_drawn_apart(tmp_path: Path) -> None:
    source = run(tmp_path / "r", measured(mode="hot"), measured(mode="cold"))
    assert {"roofline-gemm-hot", "roofline-gemm-cold"} <= set(keys(source))


def test_each_source_has_a_roofline_of_its_own(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(tmp_path / name, measured())
    report = collect(load_all([str(tmp_path / "a"), str(tmp_path / "b")]))
    drawn = [figure for figure in figures(report) if figure.section == "roofline"]
    assert [figure.key for figure in drawn] == ["roofline-gemm-hot-1", "roofline-gemm-hot-2"]
    assert "No ceiling of this device is known" in drawn[0].caption


def test_roofs_of_runs_with_different_threads_say_so(tmp_path: Path) -> None:
    for threads in (1, 2):
        rates = {"compute_flops_per_s": {"fp32": {"best": 1e11 * threads, "samples": []}}, "threads": threads}
        made = f"2025-01-0{threads}T00:00:00+00:00"
        run(tmp_path / f"runs/{threads}", measured(threads=threads), ceilings=rates, created=made)
    (figure,) = [
        each for each in figures(collect([load(str(tmp_path / "runs"))])) if each.section == "roofline"
    ]
    assert "different threads (1, 2)" in figure.caption


def test_roofs_meet_and_bound_what_was_measured(tmp_path: Path) -> None:
    peaks = {
        "compute_flops_per_s": {"fp32": {"best": 2.5e11}, "int8": {"best": 1e12}},
        "memory_bytes_per_s": {"read": {"best": 5e10}},
    }
    figure = figures(collect([run(tmp_path / "r", measured(), ceilings=peaks)]))[0]
    lines = {series.label: series for series in figure.series if series.kind == "line"}
    assert set(lines) == {"fp32 250 GFLOP/s", "DRAM 50 GB/s"}  # int8 bounds nothing that was measured
    compute, memory = lines["fp32 250 GFLOP/s"], lines["DRAM 50 GB/s"]
    assert memory.y[1] == pytest.approx(2.5e11)
    assert memory.x[1] == pytest.approx(compute.x[0]) == pytest.approx(5.0)


def test_measured_traffic_is_drawn_beside_compulsory(tmp_path: Path) -> None:
    records = [measured(facts={"memory_bytes_per_execution": 2 * 12_728_320}), measured(repeat=1)]
    report = collect([run(tmp_path / "r", *records)])
    (figure,) = [each for each in figures(report) if each.section == "roofline"]
    series = {each.name: each for each in figure.series}
    (x,) = series["at measured traffic"].x
    assert x == pytest.approx(99_123_200 / (2 * 12_728_320))
    assert "machine counted" in figure.caption
    (table,) = [
        table for section in sections(report, []) for table in section.tables if table.key == "records"
    ]
    (column,) = [place for place, each in enumerate(table.columns) if each.heading == "traffic"]
    assert [row[column].value for row in table.rows] == [2 * 12_728_320, None]


def test_published_devices_have_the_roofs_that_their_makers_state() -> None:
    report = collect([load("deepbench:V100")])
    roofs = {(roof.unit, roof.origin): roof.per_s for roof in report.roofs(0, "gemm")}
    assert roofs["fp32", "theoretical"] == pytest.approx(15.67e12, rel=1e-3)
    assert roofs["DRAM", "theoretical"] == 900e9
    drawn = [each for each in figures(report) if each.section == "roofline"]
    assert all(any(series.dashed for series in figure.series) for figure in drawn)
    (table,) = [
        table for section in sections(report, []) for table in section.tables if table.key == "ceilings"
    ]
    assert {row[1].text for row in table.rows} >= {"gemm", "conv", "rnn"}


def test_effective_rates_are_hollow(tmp_path: Path) -> None:
    fast = measured(kernel="conv", algorithm="winograd_2x2", problem=SIZES["conv"], layout=LAYOUTS["conv"])
    plain = measured(kernel="conv", algorithm="im2col", problem=SIZES["conv"], layout=LAYOUTS["conv"])
    figure = figures(collect([run(tmp_path / "r", fast, plain)]))[0]
    assert [list(series.hollow) for series in figure.series] == [[True], [False]]
    assert "effective" in figure.conditions


def test_cumulative_shares_end_at_one_and_weigh_by_time(tmp_path: Path) -> None:
    records = [measured(median_s=time, flops=100, problem={"m": time}) for time in (1.0, 3.0)]
    (figure,) = (f for f in figures(collect([run(tmp_path / "r", *records)])) if f.section == "cumulative")
    (series,) = figure.series
    assert list(series.y) == [
        0.0,
        0.75,
        1.0,
    ]  # the slower rate first, on which three of four seconds are spent
    assert list(series.x) == pytest.approx([100 / 3, 100 / 3, 100.0])


def test_workspace_marks_what_nothing_beats(tmp_path: Path) -> None:
    records = [
        measured(algorithm=name, median_s=time, workspace_bytes=size)
        for name, time, size in (("a", 1.0, 100), ("b", 2.0, 0), ("c", 2.5, 50), ("d", 1.0, 200))
    ]
    (figure,) = (f for f in figures(collect([run(tmp_path / "r", *records)])) if f.section == "workspace")
    hollow = {series.name: series.hollow[0] for series in figure.series}
    assert hollow == {"onednn/a": False, "onednn/b": False, "onednn/c": True, "onednn/d": True}


def test_energy_is_drawn_where_it_is_known(tmp_path: Path) -> None:
    source = run(tmp_path / "r", measured(facts={"energy_per_execution_j": 0.25}), measured(problem={"m": 1}))
    (figure,) = (f for f in figures(collect([source])) if f.section == "energy")
    assert list(figure.series[0].y) == [0.25]


def test_drifting_samples_are_shown_in_order(tmp_path: Path) -> None:
    drifting = measured(
        warnings=["times drift by +5.0% while sampling (p = 0.001): no single number describes them"],
        diagnostics={"drift": {"relative": 0.05, "p_value": 1e-3}},
    )
    (figure,) = (f for f in figures(collect([run(tmp_path / "r", drifting, measured())])) if "drift" in f.key)
    assert len(figure.series) == 1
    assert list(figure.series[0].y) == pytest.approx([time / 1.03e-3 for time in SAMPLES])


# Rules


def test_a_complete_run_meets_what_it_can(tmp_path: Path) -> None:
    source = run(tmp_path / "r", measured())
    states = {found.number: found.state for found in rules(collect([source]))}
    assert [number for number, state in states.items() if state == "met"] == [1, 2, 3, 4, 5, 6, 8, 10, 11, 12]
    assert states[7] == "not applicable"
    assert states[9] == "not met"


@pytest.mark.parametrize(
    ("number", "changes"),
    [
        (5, {"ci_low_s": None, "ci_high_s": None, "confidence": None}),
        (6, {"diagnostics": {}}),
        (8, {"summary": {"mean": 1e-3}}),
        (11, {"peak_flops_per_s": None}),
        (12, {"samples_s": []}),
    ],
)
def test_one_record_that_lacks_it_breaks_the_rule(
    tmp_path: Path, number: int, changes: dict[str, Any]
) -> None:
    assert rule(run(tmp_path / "whole", measured(), measured(repeat=1)), number)[0] == "met"
    state, evidence = rule(run(tmp_path / "r", measured(), measured(repeat=1, **changes)), number)
    assert state == "not met"
    assert "1 of 2" in evidence


def test_missing_records_break_the_second_rule(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "r", make_info(planned_records=5)) as writer:
        writer.append(measured())
    state, evidence = rule(load(str(tmp_path / "r")), 2)
    assert state == "not met"
    assert "4 of 5 records are missing" in evidence


def test_cores_left_idle_break_the_second_rule(tmp_path: Path) -> None:
    for cores, expected in ((4, "met"), (8, "not met")):
        source = run(tmp_path / str(cores), measured(), environment={"processor": {"cores": cores}})
        state, evidence = rule(source, 2)
        assert state == expected
    assert "4 of 8 cores" in evidence


GPU = {
    "name": "NVIDIA H100",
    "memory_bytes": 80 << 30,
    "l2_cache_bytes": 50 << 20,
    "sm_clock_hz": 1.98e9,
    "memory_clock_hz": 2.6e9,
    "ecc": False,
    "driver_cuda": "13.0",
    "runtime_cuda": "13.0",
}


def run_on_gpu(folder: Path, *records: Record, **gpu: Any) -> Source:
    """A run with two of the host's 96 cores, whose clocks, quota and load are what doubts are made of."""
    environment = {
        "processor": {"model_name": "Xeon", "cores": 96},
        "clock": {"governor": "powersave", "boost": True},
        "limits": {"cgroup_cpus": 2},
        "affinity": {"cores": 96, "siblings_outside": "96-97"},
        "load": {"averages": [40.0, 40.0, 40.0]},
        "virtualisation": {"virtual_machine": True},
        "device": {"device": "NVIDIA H100 (132 multiprocessors)", "driver": "for CUDA 13.0"},
    }
    plan = {"chosen_by": "everything asked for", "threads": 2, "cpus": [0, 1]}
    ceilings = {"device": GPU | gpu, "threads": 2}
    return run(folder, *records, environment=environment, plan=plan, ceilings=ceilings)


def test_the_host_of_a_gpu_is_not_what_computed(tmp_path: Path) -> None:
    source = run_on_gpu(tmp_path / "r", measured(backend="cuda", threads=2))
    report = collect([source])
    state, evidence = rule(source, 2)
    assert (state, "on NVIDIA H100: everything asked for" in evidence) == ("met", True)
    state, evidence = rule(source, 10)
    assert (state, "thread" in evidence, "GPU's clock" in evidence) == ("met", False, True)
    missing = rule(run_on_gpu(tmp_path / "s", measured(backend="cuda"), memory_clock_hz=0), 9)[1]
    assert "device.memory_clock_hz" in missing
    assert "device.settings" in missing
    assert not any(name in missing for name in ("device.ecc", "clock.governor", "caches"))
    for figure in figures(report):
        assert figure.conditions.startswith("NVIDIA H100: cuda, hot, fp32.")
    shown = {table.key: table for section in sections(report, []) for table in section.tables}
    assert shown["overview"].rows[0][1].text == "NVIDIA H100"
    for key in ("totals", "records"):
        assert "thread" not in shown[key].caption
        assert "threads" not in [column.heading for column in shown[key].columns]
    factors = {row[0].text: row[1].text for row in shown["environment"].rows}
    assert factors["Device"] == "NVIDIA H100 (132 multiprocessors)"
    assert factors["Driver"] == "for CUDA 13.0"
    assert factors["Processor"] == "Xeon"
    assert (factors["Threads"], factors["Processors used"]) == ("2 (the host's)", "0-1 (the host's)")
    (doubt,) = next(section.points for section in sections(report, []) if section.key == "environment")
    assert "virtual machine" in doubt


def test_a_collective_of_gpus_is_timed_by_its_hosts(tmp_path: Path) -> None:
    record = measured(kernel="allreduce", backend="cuda", threads=1, problem={"elements": 1024, "ranks": 8})
    environment = {"mpi": {"gpus": [GPU, GPU]}, "clock": {"governor": "powersave"}}
    source = run(tmp_path / "r", record, kernel="allreduce", environment=environment)
    assert source.device == "NVIDIA H100"
    (doubt,) = next(each.points for each in sections(collect([source]), []) if each.key == "environment")
    assert "powersave" in doubt
    assert "clock.driver" in rule(source, 9)[1]


def test_how_published_times_of_gpus_were_taken_is_not_said() -> None:
    state, evidence = rule(load("deepbench:V100"), 10)
    assert state == "not met"
    assert evidence.endswith("parallel records say how they were timed.")


def test_a_gpu_beside_a_processor_has_no_threads(tmp_path: Path) -> None:
    host = run(tmp_path / "cpu", measured(), environment={"processor": {"model_name": "X9", "cores": 4}})
    gpu = run_on_gpu(tmp_path / "gpu", measured(backend="cuda", threads=2))
    report = collect([host, gpu])
    assert [total.threads for total in totals(report)] == ["4", ""]
    shown = {table.key: table for section in sections(report, []) for table in section.tables}
    factors = {row[0].text: [cell.text for cell in row[1:]] for row in shown["environment"].rows}
    assert factors["Device"] == ["X9, 4 cores", "NVIDIA H100 (132 multiprocessors)"]
    assert factors["Threads"] == ["4", "2 (the host's)"]


def test_hot_operands_of_more_than_half_a_gpu_s_cache_are_held_against_memory(tmp_path: Path) -> None:
    def best(rate: float) -> dict[str, Any]:
        return {"read": {"best": rate}}

    ceilings = {
        "device": GPU,
        "cached_bytes": 250,
        "memory_bytes_per_s": best(1e12),
        "last_level_cache_bytes_per_s": best(5e12),
    }
    records = [
        measured(backend="cuda", bytes=size, flops=size, peak_flops_per_s=1e15, index=index)
        for index, size in enumerate((500, 501))
    ]
    plan = {"last_level_cache_bytes": 1000}
    source = run(tmp_path / "r", *records, ceilings=ceilings, plan=plan)
    assert [entry.roof for entry in collect([source]).entries] == [5e12, 1e12]


def test_totals_without_intervals_break_the_fifth_rule(tmp_path: Path) -> None:
    problems = (SIZES["gemm"], SIZES["gemm"] | {"m": 1})
    state, evidence = rule(run(tmp_path / "r", *(measured(problem=problem) for problem in problems)), 5)
    assert state == "not met"
    assert "0 of 1 totals" in evidence


def test_series_side_by_side_are_no_comparison(tmp_path: Path) -> None:
    state, evidence = rule(run(tmp_path / "r", measured(), measured(library="openblas")), 7)
    assert state == "not met"
    assert "compare" in evidence


def test_unknown_parts_of_the_set_up_are_named(tmp_path: Path) -> None:
    state, evidence = rule(run(tmp_path / "r", measured(), environment={"processor": {"cores": 4}}), 9)
    assert state == "not met"
    assert "processor.model_name" in evidence
    assert "clock.governor" in evidence
    assert "processor.cores" not in evidence


def test_published_figures_meet_few_rules() -> None:
    states = [found.state for found in rules(collect([load("deepbench:V100")]))]
    assert [states[number - 1] for number in (2, 5, 6, 9, 11, 12)] == ["not met"] * 6


# Whole reports


class Page(HTMLParser):
    """The elements, texts and scripts of a page; quotes that end too early show as attributes nobody wrote."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


ODD: dict[str, list[Record]] = {
    "nothing": [],
    "failures": [not_measured("crashed", "signal 11"), not_measured("timeout", "120 s")],
    "one record": [measured()],
    "one sample": [
        measured(samples_s=[1e-3], median_s=1e-3, ci_low_s=None, ci_high_s=None, confidence=None, summary={})
    ],
    "equal samples": [measured(samples_s=[1e-3] * 40, median_s=1e-3, ci_low_s=1e-3, ci_high_s=1e-3)],
    "no bytes": [measured(bytes=None, flops=None, workspace_bytes=None, peak_flops_per_s=None)],
    "unknown kernel": [measured(kernel="softmax", problem={"rows": 3}, layout="")],
    "hostile": [
        measured(
            library=text,
            algorithm=text,
            precision=text,
            problem={text: text},
            labels={text: text},
            status=("ok", "unstable")[place % 2],
            reason=text,
            warnings=[text],
            workspace_bytes=place,
        )
        for place, text in enumerate(HOSTILE)
    ],
}


@pytest.mark.parametrize("name", ODD)
def test_odd_runs_make_whole_reports(tmp_path: Path, name: str) -> None:
    pytest.importorskip("plotly", reason="plotly, of the extra report, is missing")
    pytest.importorskip("matplotlib", reason="matplotlib, of the extra report, is missing")
    source = run(tmp_path / "run", *ODD[name])
    (page, *pictures) = write([source], tmp_path / "report.html", pictures=tmp_path / "pictures")
    text = page.read_text(encoding="utf-8")
    parsed = Page(text)
    assert parsed.tags.count("script") == 3
    assert "img" not in parsed.tags
    assert "onerror" not in parsed.attributes
    assert all(path.stat().st_size > 1000 for path in pictures)
    report = collect([source])
    assert len(pictures) == 3 * len(figures(report))
    (data,) = (each for each in parsed.texts if each.startswith('{"names"'))
    assert len(json.loads(data)["names"]) == len(ODD[name])
    (markdown_file,) = write([source], tmp_path / "report.md", "markdown")
    assert markdown_file.read_text(encoding="utf-8").count("\n## ") == len(sections(report, []))


def test_markdown_makes_no_markup_of_names(tmp_path: Path) -> None:
    report = collect([run(tmp_path / "r", *ODD["hostile"])])
    text = markdown(title(report), sections(report, []), {})
    assert not re.search(r"(?<!\\)<(script|img|b)", text)
    assert not re.search(r"(?<!\\)\]\(", text)
    bars = 0
    for line in (line for line in text.splitlines() if line.startswith("|")):
        found = len(re.findall(r"(?<!\\)\|", line))
        bars = found if line.startswith("|:-") else bars
        if "alert" in line:
            assert found == bars, "a bar in a name made a column"
    assert bars


def test_hover_texts_are_escaped_for_plotly(tmp_path: Path) -> None:
    from microbench.report.interactive import plotly

    for figure in figures(collect([run(tmp_path / "r", *ODD["hostile"])])):
        drawn = json.dumps(plotly(figure))
        assert "<script" not in drawn
        assert "<img" not in drawn


def test_every_figure_is_one_that_plotly_knows() -> None:
    objects = pytest.importorskip("plotly.graph_objects", reason="plotly, of the extra report, is missing")
    from microbench.report.interactive import plotly

    report = collect([load(str(RESULTS))])
    drawn = figures(report)
    assert {figure.section for figure in drawn} == {
        "roofline",
        "throughput",
        "cumulative",
        "samples",
        "workspace",
    }
    for figure in drawn:
        objects.Figure(plotly(figure))  # raises where a name or a value is none of plotly's
    assert len({figure.key for figure in drawn}) == len(drawn)


def test_limits_stand_beside_all_that_shows_the_source() -> None:
    source = load("deepbench:V100")
    report = collect([source])
    for figure in figures(report):
        assert all(limit[1:] in " ".join(figure.limits) for limit in source.limits)
    shown = {table.key: table.caption for section in sections(report, []) for table in section.tables}
    for key in ("totals", "records"):
        assert all(limit[1:] in shown[key] for limit in source.limits)


def test_conditions_and_processes_stand_with_what_they_belong_to(tmp_path: Path) -> None:
    source = run(
        tmp_path / "r", measured(), measured(repeat=1), environment={"processor": {"model_name": "X9"}}
    )
    drawn = {figure.section: figure for figure in figures(collect([source]))}
    for figure in drawn.values():
        for condition in ("X9", "4 threads", "hot", "fp32", "99 %"):
            assert condition in figure.conditions
    assert [series.name.partition(", ")[2] for series in drawn["samples"].series] == [
        "process 1",
        "process 2",
    ]


def test_what_algorithms_cost_is_a_section(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"kernel": "conv", "problem": SIZES["conv"], "layout": "nchw"}
    records = [
        measured(**fields, algorithm=name, median_s=time, workspace_bytes=workspace)
        for name, time, workspace in (("im2col", 2e-3, 100), ("winograd_4x4", 1e-3, 1 << 20))
    ]
    source = run(tmp_path / "conv", *records, kernel="conv")
    found = {section.title: section for section in sections(collect([source]), [])}
    assert found["Algorithms and workspace"].tables
    assert rule(source, 4)[0] == "not met"  # the study shows a median of ratios
    assert "beside both" in rule(source, 1)[1]
    plain = run(tmp_path / "one", records[0], kernel="conv")
    assert "Algorithms and workspace" not in {section.title for section in sections(collect([plain]), [])}


def test_a_report_is_a_function_of_its_runs(tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="plotly, of the extra report, is missing")
    pytest.importorskip("matplotlib", reason="matplotlib, of the extra report, is missing")
    source = run(tmp_path / "run", measured())
    first = [path.read_bytes() for path in write([source], tmp_path / "a.html", pictures=tmp_path / "a")]
    second = [path.read_bytes() for path in write([source], tmp_path / "b.html", pictures=tmp_path / "b")]
    assert first == second


# The command


def test_the_command_writes_and_names_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib, of the extra report, is missing")
    run(tmp_path / "run", measured(), measured(problem={"m": 1}))
    monkeypatch.chdir(tmp_path)
    assert main(["report", "run", "--format", "markdown", "--pictures", "pictures"]) == 0
    assert capsys.readouterr().out.split() == ["report.md", "pictures"]
    text = Path("report.md").read_text()
    linked = re.findall(r"^!\[.*\]\((.*)\)$", text, re.MULTILINE)
    assert len(linked) == 4
    assert all(Path(path).is_file() for path in linked)


def test_a_run_and_its_copy_are_no_two_runs(tmp_path: Path) -> None:
    run(tmp_path / "a", measured())
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    arguments = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert main(["report", *arguments, "--output", str(tmp_path / "report.html")]) == 2


@pytest.mark.parametrize(
    ("module", "arguments"), [("plotly.offline", []), ("matplotlib", ["--pictures", "p"])]
)
def test_a_missing_library_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    module: str,
    arguments: list[str],
) -> None:
    run(tmp_path / "run", measured())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["report", "run", *arguments]) == 2
    error = capsys.readouterr().err
    assert "pip install 'microbench[report]'" in error
    assert error.count("\n") == 1


def test_what_cannot_be_read_or_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a run"):
        load(str(tmp_path / "nowhere"))
    source = run(tmp_path / "run", measured())
    with pytest.raises(InputError, match="choose another file by --output"):
        write([source], tmp_path / "no" / "folder.md", "markdown")
    pytest.importorskip("matplotlib", reason="matplotlib, of the extra report, is missing")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another folder by --pictures"):
        write([source], tmp_path / "r.md", "markdown", tmp_path / "file")
