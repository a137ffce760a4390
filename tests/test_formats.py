"""Records as text: what a reader must find there, whatever the records hold."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microbench.figures import WIDTH, RecordSummary, Row, one_line
from microbench.formats import FORMATS, Format, RowPrinter, write
from microbench.problem import PRECISIONS
from microbench.record import Record, Status
from microbench.summarise import summarise
from records import SIZES, make_record, not_measured

TABLES: tuple[Format, ...] = ("table", "markdown")
LONG_REASON = "the worker died of signal 11; its last words: " + " ".join(f"frame{n}" for n in range(60))


def written(records: Sequence[Row], form: Format = "table") -> str:
    stream = io.StringIO()
    write(records, form, stream)
    return stream.getvalue()


def unwrapped(text: str) -> str:
    """Text as it was before it was broken into lines, and free of markdown's escapes."""
    return one_line(text).replace("\\", "")


def rows(table: str) -> list[str]:
    """The lines of a terminal's table between the rule and the notes."""
    return table.split("-" * WIDTH + "\n")[1].split("\n\n")[0].splitlines()


def stored(record: Record) -> RecordSummary:
    """The record as `Run.summaries` gives it."""
    return msgspec.json.decode(msgspec.json.encode(record), type=RecordSummary)


_TEXT = st.text(max_size=150)
_FIGURE = st.none() | st.floats(1e-9, 1e9)
_RECORDS = st.builds(
    make_record,
    kernel=st.sampled_from(["gemm", "conv", "rnn", "unheard_of"]) | _TEXT,
    library=st.sampled_from(["onednn", "openblas"]) | _TEXT,
    algorithm=st.just("auto") | _TEXT,
    precision=st.sampled_from([*PRECISIONS]) | _TEXT,
    pass_=st.sampled_from(["forward", "backward_data"]) | _TEXT,
    layout=st.just("nchw") | _TEXT,
    backend=_TEXT,
    mode=st.sampled_from(["cold", "hot"]) | _TEXT,
    threads=st.integers(1, 10**6),
    repeat=st.integers(0, 100),
    status=st.sampled_from(get_args(Status)),
    reason=_TEXT,
    samples_per_batch=st.integers(1, 3),
    median_s=_FIGURE,
    ci_low_s=_FIGURE,
    ci_high_s=_FIGURE,
    confidence=st.none() | st.floats(0.5, 0.999),
    flops=st.none() | st.integers(0, 10**18),
    peak_flops_per_s=_FIGURE,
    max_error=_FIGURE,
    tolerance=_FIGURE,
    warnings=st.lists(_TEXT, max_size=3),
)


@given(st.lists(_RECORDS, max_size=5), st.sampled_from(["utf-8", "ascii"]))
@settings(max_examples=200, deadline=None)
def test_no_line_is_too_wide_for_any_record_and_terminal(records: list[Record], encoding: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    write(records, "table", stream)
    stream.write("\n".join(summarise(records, unicode=encoding == "utf-8")))
    stream.seek(0)
    assert max(map(len, stream.read().split("\n"))) <= WIDTH


@given(st.lists(_RECORDS, max_size=5), st.sampled_from(FORMATS))
@settings(deadline=None)
def test_summaries_are_shown_as_their_records_are(records: list[Record], form: Format) -> None:
    if form != "json":  # that has fields which summaries leave out
        assert written([stored(record) for record in records], form) == written(records, form)
    assert summarise([stored(record) for record in records]) == summarise(records)


@pytest.mark.parametrize("form", TABLES)
@pytest.mark.parametrize("mode", ["cold", "hot"])
def test_the_caption_says_how_the_figures_were_taken(form: Format, mode: str) -> None:
    caption = unwrapped(written([make_record(mode=mode, threads=7, backend="cpu", confidence=0.95)], form))
    for fact in (mode, "7 threads", "on cpu", "95%", "GFLOP/s and % of the measured peak at the median"):
        assert fact in caption


def test_the_figures_stand_in_the_row() -> None:
    (row,) = rows(written([make_record()]))
    assert one_line(row) == "1760×16×1760 NT onednn fp32 1.005 ms 2.49 98.63 39.5 15.0 ok"


def test_rows_measured_otherwise_have_a_caption_of_their_own() -> None:
    records = [make_record(threads=1), make_record(threads=2), make_record(threads=1)]
    assert len(re.findall(r"\d+ threads?,", unwrapped(written(records)))) == 2
    stream = io.StringIO()
    printer = RowPrinter(stream)
    for record in records:
        printer.row(record)
    assert len(re.findall(r"\d+ threads?,", unwrapped(stream.getvalue()))) == 3


@pytest.mark.parametrize("form", TABLES)
def test_what_was_not_measured_stands_among_what_was(form: Format) -> None:
    records = [not_measured("unsupported", "no units"), make_record(), not_measured("timeout", "hung")]
    text = unwrapped(written(records, form))
    assert text.count("99% interval") == text.count("interval") == 1


def test_a_row_is_there_as_soon_as_its_record_is() -> None:
    buffer = io.BytesIO()
    printer = RowPrinter(io.TextIOWrapper(buffer, "utf-8"), confidence=0.95)
    printer.row(not_measured("unsupported", "no bf16 units"))
    assert "no bf16 units" in buffer.getvalue().decode()
    assert "95% interval" in one_line(buffer.getvalue().decode())
    printer.row(make_record(confidence=0.95))
    assert buffer.getvalue().decode().endswith(" ok\n")
    assert one_line(buffer.getvalue().decode()).count("% interval") == 1


def test_what_was_not_measured_has_its_reason_in_place_of_figures() -> None:
    (row,) = rows(written([not_measured("crashed", "gone\nwith the wind")]))
    assert row.split(maxsplit=5)[4:] == ["crashed:", "gone with the wind"]


@pytest.mark.parametrize("form", TABLES)
def test_the_time_of_a_wrong_result_is_not_shown(form: Format) -> None:
    text = written([make_record(status="wrong_result", reason="12 elements are wrong")], form)
    assert "1.005 ms" not in text
    assert "98.63" not in text
    assert "12 elements are wrong" in text


@pytest.mark.parametrize("form", FORMATS)
def test_an_algorithm_asked_for_is_named_in_full(form: Format) -> None:
    name = "implicit_precomp_gemm"
    assert name in written([make_record(algorithm=name)], form)
    assert name in written([not_measured("unsupported", "", algorithm=name)], form)


@pytest.mark.parametrize("form", TABLES)
def test_names_too_long_for_their_columns_are_not_cut(form: Format) -> None:
    sizes = {f"dimension_{letter}": 123456789 for letter in "abcdefgh"}
    text = unwrapped(written([make_record(kernel="new", problem=sizes, library="a" * 40)], form))
    assert " ".join(f"{name}={size}" for name, size in sizes.items()) in text
    assert "a" * 40 in text
    assert "1.005 ms" in text


@pytest.mark.parametrize("form", TABLES)
def test_precisions_are_told_apart_and_abbreviations_explained(form: Format) -> None:
    text = written([make_record(precision=name) for name in PRECISIONS], form)
    lines = rows(text) if form == "table" else [line for line in text.splitlines() if "1760" in line]
    assert len(set(lines)) == len(lines) == len(PRECISIONS)
    assert "fp16_in_fp32_math" in text
    assert "fp16_in_fp32_math" not in written([make_record(precision="fp16")], form)


@pytest.mark.parametrize("form", TABLES)
def test_pass_and_layout_are_named_where_they_are_not_the_default(form: Format) -> None:
    default = written([make_record(kernel="conv")], form)
    assert "NCHW unless a row says otherwise" in unwrapped(default)
    assert "bwd_d" not in default
    other = written([make_record(kernel="conv", pass_="backward_data", layout="nhwc")], form)
    assert "s1 p1 bwd_d NHWC" in other


@pytest.mark.parametrize("form", TABLES)
def test_every_reason_is_given_in_full_below_the_table_and_once(form: Format) -> None:
    records = [
        *[not_measured("unsupported", "no bf16 units", index=index) for index in range(3)],
        not_measured("timeout", "no bf16 units"),
        not_measured("crashed", LONG_REASON),
        not_measured("crashed", LONG_REASON.replace("signal 11", "signal 9")),
    ]
    notes = unwrapped(written(records, form).split("\n\n")[-1])
    assert "unsupported: 3 records, first 1760×16×1760 NT onednn fp32: no bf16 units" in notes
    assert "timeout: 1760×16×1760 NT onednn fp32: no bf16 units" in notes
    assert notes.count(LONG_REASON) == 1
    assert notes.count("signal 9") == 1


def test_widths_reached_make_one_note_that_says_so() -> None:
    records = [
        make_record(status="unstable", reason=f"after 10 s within {width} %, not 1 %") for width in (3, 4.5)
    ]
    notes = unwrapped(written(records).split("\n\n")[-1])
    assert "unstable: 2 records" in notes
    assert "within 3 %, not 1 % (the others differ in the numbers)" in notes
    assert "4.5" not in notes


@pytest.mark.parametrize("form", TABLES)
def test_marks_are_explained_and_only_where_they_are_used(form: Format) -> None:
    assert "hides tails" not in written([make_record()], form)
    marked = unwrapped(
        written([make_record(samples_per_batch=64, warnings=["slow"], status="unstable")], form)
    )
    assert "unstable*+" in marked
    # Below a terminal's table the summary has them; nothing follows markdown's.
    where = {"table": "their text is in the summary, csv and json", "markdown": "- warning: 1760×16×1760 NT"}
    assert "*: with warnings" in marked
    assert where[form] in marked
    assert ("their text" in marked) == (form == "table")
    assert "+: each sample is the mean of several executions, which hides tails" in marked


def test_csv_is_exact_and_has_every_number() -> None:
    record = make_record(median_s=0.1 + 0.2, warnings=["first", "second"], labels={"suite": 'a "b", c'})
    other = not_measured("unsupported", "no, never", kernel="conv")
    first, second = csv.DictReader(io.StringIO(written([record, other], "csv")))
    for field in msgspec.structs.fields(RecordSummary):
        value = getattr(record, field.name)
        if isinstance(value, int | float):
            assert type(value)(first[field.encode_name]) == value
        elif isinstance(value, str):
            assert first[field.encode_name] == value
    assert (first["m"], first["a_transposed"], first["b_transposed"]) == ("1760", "false", "true")
    assert first["suite"] == 'a "b", c'
    assert first["samples"] == "8"
    assert first["summary_mean"] == "0.001035"
    assert first["warnings"] == "first; second"
    assert float(first["gflops_per_s"]) == pytest.approx(record.flops / record.median_s / 1e9)  # type: ignore[operator]
    assert (second["median_s"], second["m"], second["filter_w"]) == ("", "", "3")


def test_csv_names_what_ran_and_what_it_took_to_make_it_ready() -> None:
    facts = {
        "implementation": "engine_1: tensor_core",
        "open_s": 0.5,
        "prepare_s": 1e-4,
        "device_batches": [{}],
    }
    record = make_record(facts=facts)
    summary = msgspec.json.decode(msgspec.json.encode(record), type=RecordSummary)
    for row in (record, summary):
        (cells,) = csv.DictReader(io.StringIO(written([row], "csv")))
        assert cells["implementation"] == "engine_1: tensor_core"
        assert (float(cells["open_s"]), float(cells["prepare_s"])) == (0.5, 1e-4)


@pytest.mark.parametrize("records", [[], [make_record()], [make_record(), not_measured("crashed", "gone")]])
def test_json_is_an_array_of_the_records(records: list[Record]) -> None:
    text = written(records, "json")
    assert msgspec.json.decode(text, type=list[Record]) == records
    assert len(json.loads(text)) == len(records)


@given(st.lists(_RECORDS, min_size=1, max_size=4))
@settings(deadline=None)
def test_no_record_breaks_a_markdown_table(records: list[Record]) -> None:
    table = [line for line in written(records, "markdown").splitlines() if line.startswith("| ")]
    cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table}
    assert len(cells) == 1
    assert len(table) >= 1 + len(records)


@pytest.mark.parametrize("form", FORMATS)
def test_no_records_are_no_error(form: Format) -> None:
    assert written([], form) in ("", "[]\n", "\n")


def summary(records: Sequence[Record]) -> str:
    return "\n".join(summarise(records))


def timed(seconds: float, flops: int, **changes: Any) -> Record:
    return make_record(median_s=seconds, flops=flops, **changes)


def test_totals_are_of_work_and_time() -> None:
    records = [timed(1.0, 10**9, peak_flops_per_s=4e9), timed(3.0, 11 * 10**9, peak_flops_per_s=4e9, index=1)]
    # 12 Gflop in 4 s; 2 / (1/1 + 3/11) GFLOP/s; 3 s of work at the peak in 4 s.
    assert re.search(r"onednn fp32 +2 +4\.000 s +3\.000 +1\.571 +75\.0\n", summary(records))


def test_totals_leave_out_what_has_no_right_result_and_name_what_is_unknown() -> None:
    records = [
        timed(1.0, 10**9),
        timed(5.0, 10**9, status="wrong_result", reason="wrong"),
        timed(2.0, 10**9, precision="int8", peak_flops_per_s=None),
    ]
    assert re.search(r"onednn fp32 +1 +1\.000 s", summary(records))
    assert re.search(r"onednn int8 +1 +2\.000 s +0\.5000 +0\.5000 +n/a\n", summary(records))


def test_totals_over_different_problems_are_not_to_be_compared() -> None:
    same = [make_record(library="a"), make_record(library="b")]
    other = make_record(library="b", problem=SIZES["gemm"] | {"m": 5})
    assert "do not compare" not in summary(same)
    assert "do not compare" in summary([*same, other])


def test_what_differs_between_totals_is_named() -> None:
    text = summary([make_record(threads=1), make_record(threads=2)])
    assert "onednn fp32 1 thread " in text
    assert "onednn fp32 2 threads" in text
    assert "cpu" not in text


def test_the_summary_names_the_slowest() -> None:
    records = [
        timed(seconds, 10**9, problem=SIZES["gemm"] | {"m": int(seconds)}) for seconds in (1, 9, 2, 8, 7)
    ]
    listed = summary(records).split("slowest of 5")[1]
    assert re.findall(r"(\d)×16×1760", listed) == ["9", "8", "7"]


def test_the_summary_names_the_unstable_with_the_width_reached() -> None:
    records = [
        make_record(status="unstable", reason="", median_s=1.0, ci_low_s=0.9, ci_high_s=1 + width / 100)
        for width in (20, 50, 30, 40)
    ]
    records.append(make_record(status="unstable", reason="", ci_low_s=None))
    listed = summary(records).split("unstable: 5")[1]
    assert re.findall(r"^ +(\S+) +1760", listed, re.MULTILINE) == ["n/a", "50.0", "40.0"]
    assert "and 2 more" in listed


def test_the_summary_counts_reasons_and_warnings() -> None:
    records = [
        *[not_measured("unsupported", "no bf16 units")] * 4,
        not_measured("crashed", LONG_REASON),
        *[make_record(warnings=[f"correlated, effective n = {n} of 512", "hot"]) for n in (37, 12)],
    ]
    text = summary(records)
    assert text.startswith("7 records: 4 unsupported, 2 ok, 1 crashed; measuring took 3.500 s\n")
    assert "unsupported: 4 records, first 1760×16×1760 NT onednn fp32: no bf16 units" in text
    assert (
        "crashed: 1760×16×1760 NT onednn fp32: the worker died of signal 11; its last words: frame0" in text
    )
    assert "warning: 2 records" in text
    assert "effective n = 37 of 512 (the others differ in the numbers)" in one_line(text)
    assert one_line(text).endswith("first 1760×16×1760 NT onednn fp32: hot")


def test_the_summary_says_how_many_reasons_it_leaves_out() -> None:
    records = [not_measured("crashed", f"exit code {code}") for code in range(25)]
    assert "... and 15 more" in summary(records)


def test_a_run_without_records_has_a_summary() -> None:
    assert summarise([]) == ["0 records"]
