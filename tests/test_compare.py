"""Comparing runs: what is comparable, verdicts, totals, and how often they are wrong."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microbench.comparison import Report, compare, text
from microbench.comparison.judging import Row, judge, judge_slowdowns
from microbench.comparison.matching import Key, Measurement, Pair, Way, sides
from microbench.errors import InputError
from microbench.figures import WIDTH
from microbench.record import Record
from microbench.sources import Source, load
from microbench.store import Run
from records import create, make_info, make_record, not_measured

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from comparison import pairs, run_medians, simulate

WAY = Way("library", "auto", "cpu", 1)
EIGHT = tuple(1 + 0.001 * n for n in (0, 3, 1, 2, -1, -2, -3, 4))


class Stub:
    """Records in memory."""

    def __init__(self, records: Sequence[Record], **changes: Any) -> None:
        self.info = make_info(**changes)
        self._records = records

    def records(self) -> Any:
        return iter(self._records)

    summaries = records


def source(name: str, *records: Record, **changes: Any) -> Source:
    return Source(name, "Xeon", (), (Stub(records, **changes),))


def runs(seconds: float, spread: Sequence[float] = EIGHT, **changes: Any) -> list[Record]:
    """A problem measured in several processes."""
    return [make_record(median_s=seconds * s, repeat=n, **changes) for n, s in enumerate(spread)]


def rows_of(report: Report) -> list[Row]:
    return [row for contrast in report.contrasts for table in contrast.tables for row in table.rows]


def reasons_of(report: Report) -> list[str]:
    return [refusal.reason for contrast in report.contrasts for refusal in contrast.refusals]


def written(report: Report, form: Any = "table") -> str:
    stream = io.StringIO()
    text.write(report, form, stream)
    return stream.getvalue()


# --- verdicts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ratio", "verdict"), [(1.03, "slower"), (0.97, "faster"), (1.0005, "unchanged")])
def test_verdicts_come_with_both_times(ratio: float, verdict: str) -> None:
    report = compare([source("a", *runs(1e-3)), source("b", *runs(ratio * 1e-3))])
    (row,) = rows_of(report)
    assert row.verdict == verdict
    assert row.ratio == pytest.approx(ratio, rel=1e-9)
    assert row.ratio_low is not None
    assert row.ratio_high is not None
    assert row.ratio_low < ratio < row.ratio_high
    line = next(line for line in written(report).splitlines() if "1760" in line)
    assert "1.000 ms" in line or "1.001 ms" in line
    assert verdict in line


def test_one_run_a_side_is_undecided_and_says_how_many_it_takes() -> None:
    report = compare([source("a", make_record(median_s=1e-3)), source("b", make_record(median_s=2e-3))])
    (row,) = rows_of(report)
    assert (row.verdict, row.ratio_low, row.probability_less, row.detectable) == (
        "undecided",
        None,
        None,
        None,
    )
    assert row.runs_needed == 4  # 2 / C(8, 4) = 0.03
    # And so many suffice.
    four = [source(name, *runs(t, (1, 1.001, 0.999, 1.002))) for name, t in (("a", 1e-3), ("b", 2e-3))]
    assert rows_of(compare(four))[0].verdict == "slower"


def test_many_problems_take_more_runs() -> None:
    def side(name: str, seconds: float, repeats: int) -> Source:
        problems = [{"m": m, "n": 1, "k": 1} for m in range(1, 101)]
        return source(
            name,
            *(
                make_record(problem=problem, index=i, repeat=n, median_s=seconds * (1 + 1e-4 * n))
                for i, problem in enumerate(problems)
                for n in range(repeats)
            ),
        )

    one = rows_of(compare([side("a", 1.0, 1), side("b", 1.0, 1)]))
    assert {(row.verdict, row.runs_needed) for row in one} == {("undecided", 8)}
    assert {row.verdict for row in rows_of(compare([side("a", 1.0, 7), side("b", 2.0, 7)]))} == {"undecided"}
    assert {row.verdict for row in rows_of(compare([side("a", 1.0, 8), side("b", 2.0, 8)]))} == {"slower"}


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(900_000, 1_100_000), min_size=1, max_size=9),
    st.lists(st.integers(900_000, 1_100_000), min_size=1, max_size=9),
    st.lists(st.integers(900_000, 1_100_000), min_size=1, max_size=9),
)
def test_the_order_of_arguments_does_not_matter(a: list[int], b: list[int], c: list[int]) -> None:
    def side(name: str, column: list[int]) -> Source:
        first = runs(1.0, [n / 1e6 for n in column])
        return source(name, *first, *runs(2.0, EIGHT, problem={"m": 2, "n": 2, "k": 2}))

    one, other = side("a", a), side("b", b)
    mirror = {"faster": "slower", "slower": "faster"}
    there, back = rows_of(compare([one, other])), rows_of(compare([other, one]))
    for row, opposite in zip(there, back, strict=True):
        assert mirror.get(row.verdict, row.verdict) == opposite.verdict
        assert row.ratio * opposite.ratio == pytest.approx(1)
        assert (row.p_adjusted, row.runs_needed) == (opposite.p_adjusted, opposite.runs_needed)
        if row.detectable is None or row.ratio == 1:
            assert row.detectable == (None if row.detectable is None else pytest.approx(opposite.detectable))
        else:
            # The same factor away from 1, to either side of it.
            assert opposite.detectable is not None
            down, up = sorted((row.detectable, opposite.detectable))
            assert (1 + up) * (1 - down) == pytest.approx(1)
    third = side("c", c)
    first = {row.pair.key: row.verdict for row in rows_of(compare([one, other, third]))[:2]}
    last = {row.pair.key: row.verdict for row in rows_of(compare([one, third, other]))[2:]}
    assert first == last


def test_the_smallest_difference_that_could_have_shown() -> None:
    spread = (0.97, 0.98, 0.99, 1.0, 1.01, 1.02, 1.03, 1.04)
    (row,) = rows_of(compare([source("a", *runs(1.0, spread)), source("b", *runs(1.0, spread[::-1]))]))
    assert row.verdict == "undecided"
    assert row.detectable is not None

    def shifted(factor: float) -> str:
        return rows_of(compare([source("a", *runs(1.0, spread)), source("b", *runs(factor, spread))]))[
            0
        ].verdict

    assert shifted(1 + row.detectable * 1.02) == "slower"
    assert shifted(1 + row.detectable * 0.98) == "undecided"


def sampled(seed: int) -> list[tuple[Sequence[float], Sequence[float], float]]:
    """Logarithms of times without ties: of a few problems base, other, and what is added to those of other."""
    rng = np.random.default_rng(seed)
    shifts = (0.0, 0.0, 0.02, 0.3, 1.0, -0.5, -2.0)
    return [
        (*(rng.normal(0, 0.2, rng.integers(4, 10)).tolist() for _ in "ab"), float(rng.choice(shifts)))
        for _ in range(rng.integers(1, 6))
    ]


FAMILY = st.integers(0, 2**32).map(sampled)
TIED = st.lists(st.floats(-0.3, 0.3).map(lambda log: round(log, 1)), min_size=3, max_size=9)


def family_of(logs: Sequence[tuple[Sequence[float], Sequence[float], float]]) -> list[Pair]:
    """Pairs of which the logarithms of times are given: of base, of other, and what is added to those of other."""

    def side(column: Sequence[float], shift: float) -> Measurement:
        return Measurement(times={run: [math.exp(log + shift)] for run, log in enumerate(column)})

    return [
        Pair(Key("gemm", (("m", m),), "forward", "fp32", "", "hot"), (WAY, WAY), side(a, 0), side(b, shift))
        for m, (a, b, shift) in enumerate(logs)
    ]


def judged(pairs: list[Pair], one_sided: bool) -> list[Row]:
    return judge_slowdowns(pairs, 0.95, 0.01) if one_sided else judge([pairs])[0]


@settings(max_examples=60, deadline=None)
@given(
    FAMILY | st.lists(st.tuples(TIED, TIED, st.sampled_from([0.0, 0.05, 0.3, -0.5])), min_size=1),
    st.booleans(),
)
def test_no_row_contradicts_the_smallest_difference_it_could_have_shown(logs: Any, one_sided: bool) -> None:
    for row in judged(family_of(logs), one_sided):
        if row.detectable is not None and (row.ratio > 1 or not one_sided):
            called = row.verdict in ("faster", "slower")
            beyond = abs(row.ratio - 1) - row.detectable
            assert beyond >= -1e-12 if called else beyond <= 1e-12


@settings(max_examples=60, deadline=None)
@given(FAMILY, st.booleans(), st.data())
def test_from_the_smallest_difference_on_the_verdict_says_so(
    logs: Any, one_sided: bool, data: st.DataObject
) -> None:
    chosen = data.draw(st.integers(0, len(logs) - 1))
    row = judged(family_of(logs), one_sided)[chosen]
    a, b, shift = logs[chosen]
    if row.detectable is None:
        return
    up = one_sided or row.ratio >= 1
    least = math.log1p(row.detectable if up else -row.detectable)

    def moved(factor: float) -> str:
        log = least * factor - math.log(row.ratio)
        changed = [*logs[:chosen], (a, b, shift + log), *logs[chosen + 1 :]]
        return judged(family_of(changed), one_sided)[chosen].verdict

    assert moved(1 + 1e-7) == ("slower" if up else "faster")
    assert moved(1 - 1e-7) not in ("slower", "faster")


def test_simulated_false_alarms_and_power() -> None:
    equal = simulate(np.random.default_rng(3), comparisons=15, problems=50, runs=8, ratio=1.0)
    assert equal["alarms"] == 0
    assert equal["significant"] <= 0.2  # 5 % in truth: four of 15 have a probability of 0.6 %
    assert equal["failed"] == 0
    slower = simulate(np.random.default_rng(4), comparisons=2, problems=50, runs=8, ratio=1.03)
    assert slower["found"] >= 0.95
    single = simulate(np.random.default_rng(5), comparisons=4, problems=50, runs=1, ratio=1.03)
    assert single["undecided"] == 1


def test_a_wrong_method_would_be_noticed() -> None:
    """Without correction for their number the same simulated problems do raise false alarms."""
    rng = np.random.default_rng(3)
    times = np.full(50, 1e-3)
    rows = [row for _ in range(10) for row in judge_alone(rng, times)]
    assert sum(row.p_value is not None and row.p_value < 0.05 for row in rows) > 10


def judge_alone(rng: np.random.Generator, times: Any) -> list[Row]:
    sampled = pairs(run_medians(rng, times, 8, 0.005), run_medians(rng, times, 8, 0.005))
    return judge([sampled])[0]


# --- what may be compared ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"precision": "bf16"}, "other precision: fp32 against bf16"),
        ({"mode": "hot"}, "other mode: cold against hot"),
        ({"pass_": "backward"}, "other pass: forward against backward"),
        ({"layout": "row_major"}, "other layout: column_major against row_major"),
        ({"flops": 1_000_000_000}, "other count of operations, so other work"),
        ({"problem": {"m": 1, "n": 2, "k": 3}}, "only in a"),
    ],
)
def test_what_is_not_comparable_is_refused_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    both = {"problem": {"m": 9, "n": 9, "k": 9}}
    one = source("a", make_record(), make_record(**both))
    other = source("b", make_record(**changes), make_record(**both))
    report = compare([one, other])
    assert [row.pair.key.title() for row in rows_of(report)] == ["9×9×9 NN"]
    assert reason in reasons_of(report)
    assert reason in " ".join(written(report).split())
    with pytest.raises(InputError, match=reason):
        compare([source("a", make_record()), source("b", make_record(**changes))])


def collective(**changes: Any) -> Record:
    problem = {"elements": 1024, "op": "sum", "place": "out_of_place", "form": "blocking", "ranks": 2}
    return make_record(
        kernel="allreduce", pass_="", layout="", mode="hot", problem=problem, flops=0, **changes
    )


def test_window_and_barrier_times_are_not_compared() -> None:
    both = make_record(problem={"m": 9, "n": 9, "k": 9})
    window, again, barrier = (
        source(name, collective(), both, options={"start": start})
        for name, start in (("a", "window"), ("c", "window"), ("b", "barrier"))
    )
    report = compare([window, barrier])
    assert [row.pair.key.kernel for row in rows_of(report)] == ["gemm"]
    assert reasons_of(report) == ["other start (window against barrier), so another time"]
    assert "(window start)" not in written(report)
    with pytest.raises(InputError, match=r"other start \(window against barrier\)"):
        compare([source(s.name, collective(), options=s.info.options) for s in (window, barrier)])

    same = compare([window, again])
    assert [row.pair.key.kernel for row in rows_of(same)] == ["allreduce", "gemm"]
    caption = " ".join(written(same).split())
    assert "Base case: a (onednn), medians of 1 run (window start); other: c (onednn)" in caption
    rows = json.loads(written(same, "json"))["contrasts"][0]["rows"]
    assert [row["base_start"] for row in rows] == ["window", None]


def test_one_source_of_window_and_barrier_times_is_refused() -> None:
    parts = tuple(Stub([collective()], options={"start": start}) for start in ("window", "barrier"))
    with pytest.raises(InputError, match=r"a holds collectives of several starts \(barrier, window\)"):
        compare([Source("a", "Xeon", (), parts), source("b", collective())])


def test_the_same_ways_are_compared_and_what_has_none_is_named() -> None:
    one = source("a", make_record(library="onednn"), make_record(library="openblas"))
    other = source("b", make_record(library="openblas"), make_record(library="mkl"))
    report = compare([one, other])
    assert [row.pair.ways[0].library for row in rows_of(report)] == ["openblas"]
    assert any("another library or algorithm in b" in reason for reason in reasons_of(report))
    assert any("another library or algorithm in a" in reason for reason in reasons_of(report))


def test_a_single_way_on_each_side_is_compared_and_the_difference_listed() -> None:
    one, other = (
        source("a", make_record(library="onednn")),
        source("b", make_record(library="mkl", threads=8)),
    )
    report = compare([one, other])
    assert {(f.name, f.base, f.other) for f in report.contrasts[0].factors} == {
        ("library", "onednn", "mkl"),
        ("threads", 4, 8),
    }
    assert len(rows_of(report)) == 1


def test_threads_of_the_host_are_no_factor_of_a_gpu() -> None:
    one, other = (
        source(name, make_record(backend="cuda", threads=threads)) for name, threads in (("a", 96), ("b", 32))
    )
    (contrast,) = compare([one, other]).contrasts
    assert contrast.factors == ()
    several = source("c", *(make_record(backend="cuda", threads=n, repeat=n) for n in (1, 2)))
    (side,) = sides([several])
    assert [len(ways) for ways in side.found.values()] == [1]


def test_a_way_that_failed_is_not_replaced_by_another() -> None:
    one = source("a", make_record(algorithm="jit"))
    other = source("b", not_measured("crashed", "signal 11", algorithm="jit"), make_record(algorithm="gemm"))
    with pytest.raises(InputError, match="no time in b: crashed: signal 11"):
        compare([one, other])


def test_the_best_of_each_side() -> None:
    one = source("a", make_record(library="x", median_s=2.0), make_record(library="y", median_s=1.0))
    other = source("b", make_record(library="z", median_s=3.0), make_record(library="w", median_s=4.0))
    (row,) = rows_of(compare([one, other], best=True))
    assert (row.pair.ways[0].library, row.pair.ways[1].library, row.ratio) == ("y", "z", pytest.approx(3))


def test_factors_are_set_against_each_other_within_a_run() -> None:
    run = source("a", *runs(1.0, library="onednn"), *runs(1.1, library="openblas"))
    report = compare([run], by="library")
    assert (report.base.name, report.contrasts[0].other.name) == ("a:onednn", "a:openblas")
    assert [row.verdict for row in rows_of(report)] == ["slower"]
    with pytest.raises(InputError, match="one side alone cannot be compared"):
        compare([run], by="layout")


def test_what_sets_the_sides_against_each_other_is_a_factor() -> None:
    libraries = {"onednn": {"version": "3.1"}, "openblas": {"version": "0.3", "core": "SkylakeX"}}
    records = [*runs(1.0, library="onednn"), *runs(1.1, library="openblas", threads=2)]
    run = source("a", *records, environment={"libraries": libraries})
    assert {(f.name, f.base, f.other) for f in compare([run], by="library").contrasts[0].factors} == {
        ("library", "onednn", "openblas"),
        ("library.version", "3.1", "0.3"),
        ("library.core", None, "SkylakeX"),
        ("threads", 4, 2),
    }
    assert ("threads", 4, 2) in compare([run], by="threads", best=True).contrasts[0].factors


def test_another_mode_is_named_as_reason_and_factor() -> None:
    one = source("a", *runs(1.0, mode="hot"), *runs(1.0, mode="cold"))
    report = compare([one, source("b", *runs(1.0, mode="cold"))])
    assert reasons_of(report) == ["other mode: hot against cold"]
    assert "mode: cold, hot | cold" in written(report)
    back = compare([source("b", *runs(1.0, mode="cold")), one])
    assert reasons_of(back) == ["other mode: cold against hot"]


def test_a_way_in_another_mode_is_no_other_way() -> None:
    one = source("a", make_record(mode="hot"), make_record(mode="cold", library="mkl"))
    other = source("b", make_record(mode="hot"), make_record(mode="hot", library="mkl"))
    reasons = reasons_of(compare([one, other]))
    assert "a has mkl in another mode: cold, not hot" in reasons
    assert not any("--best" in reason for reason in reasons)


def test_columns_that_an_older_run_lacks_have_their_defaults() -> None:
    old = {"m": 4, "n": 4, "k": 4}
    new = old | {"a_transposed": False, "b_transposed": False}
    assert (
        len(rows_of(compare([source("a", make_record(problem=old)), source("b", make_record(problem=new))])))
        == 1
    )


def test_failures_are_reasons() -> None:
    fine = {"problem": {"m": 9, "n": 9, "k": 9}}
    one = source("a", make_record(), make_record(**fine))
    other = source("b", not_measured("out_of_memory", "needs 9 GiB"), make_record(**fine))
    assert "no time in b: out_of_memory: needs 9 GiB" in reasons_of(compare([one, other]))
    wrong = source("b", make_record(status="wrong_result", reason="off"), make_record(**fine))
    assert "no time in b: wrong_result: off" in reasons_of(compare([one, wrong]))


def test_every_factor_of_the_set_up_is_listed() -> None:
    first = {"processor": {"model_name": "Xeon"}, "clock": {"governor": "performance"}, "load": {"one": 0.1}}
    second = {"processor": {"model_name": "EPYC"}, "clock": {"governor": None}, "load": {"one": 9.0}}
    report = compare(
        [
            source("a", make_record(), environment=first, options={"confidence": 0.99, "repeat": 8}),
            source("b", make_record(), environment=second, options={"confidence": 0.95, "repeat": 1}),
        ]
    )
    shown = " ".join(written(report).split())
    for expected in (
        "3 factors differ",
        "options.confidence: 0.99 | 0.95",
        "processor.model_name: Xeon | EPYC",
        "clock.governor: performance | not recorded",
    ):
        assert expected in shown


# --- totals ------------------------------------------------------------------------------------------------------


def test_totals_are_of_times_and_rates_harmonic() -> None:
    small, large = {"problem": {"m": 1, "n": 1, "k": 1}}, {"problem": {"m": 2, "n": 2, "k": 2}}
    one = source("a", *runs(1.0, flops=10**9, **small), *runs(3.0, flops=10**9, **large))
    other = source("b", *runs(2.0, flops=10**9, **small), *runs(2.0, flops=10**9, **large))
    (table,) = compare([one, other]).contrasts[0].tables
    total = table.total
    middle = float(np.median(EIGHT))
    assert (total.base_s, total.other_s) == (pytest.approx(4 * middle), pytest.approx(4 * middle))
    assert total.ratio == pytest.approx(1)  # the mean of the ratios 2 and 2/3 would say 1.33
    assert total.rates == (pytest.approx(0.5e9 / middle), pytest.approx(0.5e9 / middle))
    assert total.harmonic_means == (pytest.approx(0.5e9 / middle), pytest.approx(0.5e9 / middle))
    assert total.ratio_low is not None
    assert total.ratio_high is not None
    assert total.ratio_low <= 1 <= total.ratio_high


def test_rates_are_absent_where_work_is_unknown() -> None:
    report = compare([source("a", make_record(flops=None)), source("b", make_record(flops=None))])
    assert report.contrasts[0].tables[0].total.rates is None
    assert "GFLOP/s" not in written(report)


# --- published results -------------------------------------------------------------------------------------------


def test_published_figures_are_undecided_within_their_rounding() -> None:
    report = compare([load("deepbench:P100"), load("deepbench:V100")])
    row = rows_of(report)[0]
    assert (row.pair.base.median(), row.pair.other.median()) == (55e-6, 38e-6)
    assert row.ratio == pytest.approx(38 / 55)
    assert (row.ratio_low, row.ratio_high) == (pytest.approx(38 / 56), pytest.approx(39 / 55))
    assert (row.verdict, row.runs_needed, row.p_value) == ("undecided", None, None)
    assert report.tests == 0
    shown = " ".join(written(report).split())
    assert "published means" in shown
    assert "Undecided, because a published mean has no distribution" in shown
    assert "P(<)" not in shown
    assert "least%" not in shown
    table = report.contrasts[0].tables[0]
    lows, highs = zip(*(each.pair.base.bounds[0] for each in table.rows), strict=True)
    other_lows, other_highs = zip(*(each.pair.other.bounds[0] for each in table.rows), strict=True)
    assert (table.total.ratio_low, table.total.ratio_high) == (
        pytest.approx(sum(other_lows) / sum(highs)),
        pytest.approx(sum(other_highs) / sum(lows)),
    )
    for limit in (*load("deepbench:P100").limits, *load("deepbench:V100").limits):
        assert limit in shown
        assert limit in written(report, "csv")
        assert limit in written(report, "json")


def test_recurrent_layers_of_ours_do_more_than_the_published_ones() -> None:
    problem = {"cell": "lstm", "hidden_size": 1024, "batch_size": 64, "time_steps": 25}
    work = 16 * 25 * 64 * 1024**2
    ours = make_record(
        kernel="rnn", mode="hot", pass_="forward_training", layout="tnc", problem=problem, flops=work
    )
    with pytest.raises(InputError, match="other count of operations"):
        compare([source("a", ours), load("deepbench:V100")])


# --- output ------------------------------------------------------------------------------------------------------


def hostile() -> list[Source]:
    name = "x|y\n<script>`*é"
    problem = {"=1+1": 5, "very_long_column_name_of_some_kernel": 123456789}
    return [
        source(
            f"{name}{letter}", *runs(1e-3 * n, kernel="new", problem=problem, library=name, precision="fp32")
        )
        for n, letter in enumerate("ab", start=1)
    ]


@pytest.mark.parametrize("make", [hostile, lambda: [load("deepbench:M40"), load("deepbench:T4")]])
def test_tables_are_narrow_and_markdown_whole(make: Any) -> None:
    report = compare(make())
    assert max(map(len, written(report).splitlines())) <= WIDTH
    markdown = written(report, "markdown")
    tables = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in tables}) == 1
    assert "<script>" not in markdown.replace("\\<script\\>", "")


def test_tables_do_without_unicode() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    text.write(compare(hostile()), "table", stream)
    stream.flush()
    assert (
        "undecided" in stream.buffer.getvalue().decode("ascii")
        or "slower" in stream.buffer.getvalue().decode()
    )


def test_csv_and_json_have_the_exact_values() -> None:
    report = compare([source("a", *runs(1e-3), make_record(precision="fp64")), source("b", *runs(1.03e-3))])
    row = rows_of(report)[0]
    first, second = csv.DictReader(io.StringIO(written(report, "csv")))
    assert float(first["ratio"]) == row.ratio
    assert (first["problem_m"], first["verdict"], first["base_runs"]) == ("1760", "slower", "8")
    assert (second["verdict"], second["reason"]) == ("not compared", "only in a")
    content = json.loads(written(report, "json"))
    (contrast,) = content["contrasts"]
    assert contrast["rows"][0]["ratio_low"] == row.ratio_low
    assert contrast["totals"][0]["base_s"] == pytest.approx(row.pair.base.median())
    assert contrast["not_compared"] == [{"reason": "only in a", "problems": ["1760×16×1760 NT fp64"]}]


def test_no_spreadsheet_calculates_a_name() -> None:
    names = {"library": "=cmd|'/C calc'!A0", "algorithm": "-1+1"}
    report = compare([source("@a", *runs(1e-3, **names)), source("b", *runs(1.03e-3, **names))])
    (row,) = csv.DictReader(io.StringIO(written(report, "csv")))
    assert (row["base"], row["base_library"], row["base_algorithm"]) == ("'@a", "'=cmd|'/C calc'!A0", "'-1+1")
    assert json.loads(written(report, "json"))["base"] == "@a"


@pytest.mark.parametrize(
    ("ratio", "shown"),
    [(1e300, "1e+300"), (123456.0, "1e+05"), (1234.0, "1234"), (0.01234, "0.0123"), (1.234e-5, "1e-05")],
)
def test_ratios_fit_into_their_column(ratio: float, shown: str) -> None:
    assert text.ratio_text(ratio) == shown


@pytest.mark.parametrize(
    "level", [{"confidence": 0.0}, {"confidence": 1.0}, {"relevant": 0.0}, {"relevant": math.nan}]
)
def test_levels_out_of_range_are_refused(level: dict[str, float]) -> None:
    with pytest.raises(InputError, match="--"):
        compare([source("a", make_record()), source("b", make_record())], **level)


def test_stored_runs_are_compared(tmp_path: Path) -> None:
    folders = [create(tmp_path / name, *runs(seconds)) for name, seconds in (("a", 1.0), ("b", 1.1))]
    loaded = [load(str(folder)) for folder in folders]
    assert isinstance(loaded[0].parts[0], Run)
    assert [row.verdict for row in rows_of(compare(loaded))] == ["slower"]
    assert len(sides(loaded)) == 2


def test_a_run_without_records_is_refused() -> None:
    with pytest.raises(InputError, match="no record"):
        compare([source("a"), source("b")])
