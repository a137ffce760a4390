"""What is shown of a record: derived figures, short texts, titles."""

from __future__ import annotations

import io
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microbench import figures
from microbench.figures import RecordSummary, problem_title
from microbench.record import Record
from records import SIZES, make_record, not_measured


def test_a_summary_has_its_fields_from_the_record() -> None:
    record = {field.encode_name: field for field in msgspec.structs.fields(Record)}
    for field in msgspec.structs.fields(RecordSummary):
        assert field.name == record[field.encode_name].name
        if field.name not in ("samples_s", "facts"):
            assert field.type == record[field.encode_name].type
            assert field.default == record[field.encode_name].default


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)), st.sampled_from([None, 1]))
def test_samples_are_counted_without_decoding_them(samples: list[float], indent: int | None) -> None:
    record = make_record(samples_s=samples)
    line = json.dumps(msgspec.to_builtins(record), indent=indent)
    assert figures.sample_count(record) == len(samples)
    assert figures.sample_count(msgspec.json.decode(line, type=RecordSummary)) == len(samples)


@given(st.floats(1e-9, 9e6))
def test_a_time_keeps_four_digits_in_eight_characters(seconds: float) -> None:
    text = figures.time_text(seconds)
    number, unit = text.split()
    assert float(number) * {"s": 1, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}[unit] == pytest.approx(
        seconds, rel=5.1e-4
    )
    assert len(text) <= 9
    assert len(text) <= 8 or seconds > 1e5


@given(st.floats(1e-90, 1e90) | st.just(0.0))
def test_a_number_fits_into_seven_characters(value: float) -> None:
    text = figures.number_text(value)
    assert len(text) <= 7
    assert float(text) == pytest.approx(value, rel=5.1e-4 if 1e-2 <= value < 9e6 else 0.051)


@given(st.floats(0, 1e6))
def test_a_percentage_fits_into_five_characters(share: float) -> None:
    text = figures.percent_text(share)
    assert len(text) <= 5
    if text[0] == "<":
        assert 100 * share < 0.005
    elif text[0] == ">":
        assert 100 * share > 999
    else:
        assert float(text) == pytest.approx(100 * share, rel=5.1e-3, abs=0.0051)


@pytest.mark.parametrize("text", [figures.time_text, figures.number_text, figures.percent_text])
def test_unknown_is_no_number(text: Any) -> None:
    assert text(None) == "n/a"


@pytest.mark.parametrize(
    ("max_error", "tolerance", "text"),
    [
        (None, 1.0, "n/a"),
        (0.0, 0.0, "0"),
        (3e-7, 2e-6, "15.0"),
        (1.23e-7, None, "1e-07"),
        (3.0, 0.0, "3e+00"),
        (1e300, 1e-300, ">999"),
    ],
)
def test_the_error_is_given_in_percent_of_its_tolerance(
    max_error: float | None, tolerance: float | None, text: str
) -> None:
    assert figures.error_text(make_record(max_error=max_error, tolerance=tolerance)) == text


def test_rates_are_those_at_the_median() -> None:
    record = make_record(
        flops=2_000_000, median_s=1e-3, ci_low_s=0.98e-3, ci_high_s=1.05e-3, peak_flops_per_s=8e9
    )
    assert figures.flops_per_s(record) == pytest.approx(2e9)
    assert figures.peak_share(record) == pytest.approx(0.25)
    assert figures.relative_half_width(record) == pytest.approx(0.05)


@pytest.mark.parametrize(
    "record",
    [
        make_record(status="wrong_result"),
        make_record(status="interrupted"),
        make_record(flops=None),
        make_record(flops=0),
        not_measured("crashed", "gone"),
    ],
)
def test_there_is_no_rate_without_a_right_result_and_a_count_of_operations(record: Record) -> None:
    assert figures.flops_per_s(record) is None
    assert figures.peak_share(record) is None


def test_there_is_no_share_of_an_unknown_peak() -> None:
    assert figures.peak_share(make_record(peak_flops_per_s=None)) is None
    assert figures.relative_half_width(make_record(ci_low_s=None)) is None


@pytest.mark.parametrize(
    ("record", "title"),
    [
        (make_record(), "1760×16×1760 NT"),
        (make_record(repeat=3), "1760×16×1760 NT #3"),
        (make_record(layout="row_major"), "1760×16×1760 NT row_major"),
        (make_record(kernel="conv"), "n8 c64 56×56 k64 3×3 s1 p1 fwd"),
        (
            make_record(kernel="conv", pass_="backward_weights", layout="nhwc"),
            "n8 c64 56×56 k64 3×3 s1 p1 bwd_w NHWC",
        ),
        (
            make_record(
                kernel="conv",
                problem=SIZES["conv"]
                | {
                    "w": 700,
                    "h": 161,
                    "filter_w": 5,
                    "stride_h": 2,
                    "pad_w": 0,
                    "dilation_h": 2,
                    "groups": 4,
                },
            ),
            "n8 c64 161×700 k64 3×5 s2×1 p1×0 d2×1 g4 fwd",
        ),
        (make_record(kernel="rnn"), "lstm h512 n16 t25 fwd"),
        (
            make_record(
                kernel="rnn", pass_="backward", problem=SIZES["rnn"] | {"layers": 2, "input_size": 0}
            ),
            "lstm h512 n16 t25 layers=2 bwd",
        ),
        (
            make_record(kernel="sparse_gemm", problem=SIZES["gemm"] | {"sparsity": 0.95}, layout=""),
            "1760×16×1760 NT sparsity=0.95",
        ),
        (make_record(problem={"m": 3}), "m=3"),
        (
            make_record(
                kernel="made_up", problem={"size": 7, "padded": True, "name": "a\x1b[2J\nb"}, pass_="x"
            ),
            "size=7 padded=yes name=a [2J b x",
        ),
    ],
)
def test_titles(record: Record, title: str) -> None:
    assert figures.record_title(record) == title


_SIZE = st.integers(1, 3)


@given(
    st.tuples(*[st.fixed_dictionaries(dict.fromkeys(SIZES["conv"], _SIZE))] * 2),
    st.tuples(*[st.sampled_from(["forward", "backward_data", "backward_weights"])] * 2),
    st.tuples(*[st.sampled_from(["nchw", "nhwc"])] * 2),
)
def test_different_convolutions_have_different_titles(
    sizes: tuple[dict[str, int], dict[str, int]], passes: tuple[str, str], layouts: tuple[str, str]
) -> None:
    first, second = (problem_title("conv", *case) for case in zip(sizes, passes, layouts, strict=True))
    assert (first == second) == (sizes[0] == sizes[1] and passes[0] == passes[1] and layouts[0] == layouts[1])


def test_only_an_algorithm_that_was_asked_for_is_named() -> None:
    assert figures.library_title(make_record()) == "onednn"
    assert figures.library_title(make_record(algorithm="winograd")) == "onednn/winograd"


_NAME = st.sampled_from(["m", "bytes", "precision", "suite", "samples", "peak_percent", "pass"])


@given(st.dictionaries(_NAME, st.integers()), st.dictionaries(_NAME, st.text()))
def test_flat_columns_lose_nothing_and_hide_no_field(problem: dict[str, Any], labels: dict[str, str]) -> None:
    columns = figures.flat_columns(make_record(problem=problem, labels=labels))
    assert list(columns.values()) == [*problem.values(), *labels.values()]
    assert not columns.keys() & {"bytes", "precision", "samples", "peak_percent", "pass"}


@pytest.mark.parametrize(("encoding", "shown"), [("utf-8", True), ("ascii", False), ("latin-1", False)])
def test_what_a_stream_can_show(encoding: str, shown: bool) -> None:
    assert figures.shows_unicode(io.TextIOWrapper(io.BytesIO(), encoding)) == shown


def test_text_for_streams_without_unicode() -> None:
    assert figures.ascii_text("3×3 ±1 % ü") == "3x3 +-1 % ?"


@given(st.text(), st.integers(3, 40), st.sampled_from(["…", "..."]))
def test_a_cut_is_shown(text: str, width: int, dots: str) -> None:
    cut = figures.fit(text, width, dots)
    assert len(cut) <= width
    assert cut == text or cut.endswith(dots)
