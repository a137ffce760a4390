"""DeepBench's published results: all of them, and figures of two sheets checked by hand against the source."""

from __future__ import annotations

from collections import Counter

import pytest

from microbench import published, sources
from microbench.errors import InputError
from microbench.figures import RecordSummary
from microbench.record import Record

EVERY = [record for name in published.names() for record in published.load(name).records()]


def test_all_rows_load() -> None:
    assert len(EVERY) == 8989
    assert Counter(record.kernel for record in EVERY) == {
        "conv": 4314,
        "gemm": 2579,
        "rnn": 1797,
        "allreduce": 203,
        "sparse_gemm": 96,
    }
    assert len({record.labels["source"] + record.kernel + record.pass_ for record in EVERY}) == 8989


def test_no_record_pretends_to_be_a_measurement() -> None:
    for record in EVERY:
        assert record.median_s is None
        assert record.samples_s == []
        assert record.ci_low_s is record.confidence is record.peak_flops_per_s is record.max_error is None
        assert record.summary["mean"] > 0
        assert sources.time_s(record) == record.summary["mean"]


def find(device: str, kernel: str, precision: str, pass_: str, **problem: object) -> list[Record]:
    return [
        record
        for record in published.load(device).records()
        if (record.kernel, record.precision, record.pass_) == (kernel, precision, pass_)
        and problem.items() <= record.problem.items()
    ]


@pytest.mark.parametrize(
    ("device", "kernel", "precision", "pass_", "problem", "milliseconds", "row"),
    [
        # results/train/DeepBench_NV_V100.xlsx, "Results FP32"
        ("V100", "gemm", "fp32", "forward", {"m": 1760, "n": 16, "k": 1760, "a_transposed": False}, 0.038, 5),
        ("V100", "conv", "fp32", "forward", {"w": 112, "c": 64, "n": 8, "k": 128}, 0.624, None),
        ("V100", "conv", "fp32", "backward_weights", {"w": 112, "c": 64, "n": 8, "k": 128}, 0.997, None),
        (
            "V100",
            "rnn",
            "fp32",
            "backward_data",
            {"cell": "lstm", "hidden_size": 1024, "batch_size": 64},
            2.044,
            None,
        ),
        # results/inference/DeepBench_NV_T4.xlsx, "Results - Mixed Precision"
        ("T4", "gemm", "int8", "forward", {"m": 5124, "n": 700, "k": 2048}, 0.999, 4),
        ("T4", "gemm", "int8", "forward", {"m": 35, "n": 700, "k": 2048}, 0.101, 5),
        ("T4", "gemm", "int8", "forward", {"m": 5124, "n": 700, "k": 2560}, 0.918, 6),
        # results/train/DeepBench_IA_KNL7250.xlsx
        ("KNL7250", "allreduce", "fp32", "", {"elements": 3097600, "ranks": 8}, 2.26, 352),
    ],
)
def test_figures_checked_by_hand(
    device: str,
    kernel: str,
    precision: str,
    pass_: str,
    problem: dict[str, object],
    milliseconds: float,
    row: int | None,
) -> None:
    (record,) = find(device, kernel, precision, pass_, **problem)
    assert record.summary["mean"] == pytest.approx(milliseconds / 1e3, rel=1e-12)
    if row is not None:
        assert record.labels["source"].endswith(f"row {row}")


def test_rates_come_from_our_own_count_and_agree_with_the_sheets_where_they_count_alike() -> None:
    (gemm,) = find("T4", "gemm", "int8", "forward", m=5124, n=700, k=2048)
    assert gemm.flops == 2 * 5124 * 700 * 2048
    assert gemm.flops / gemm.summary["mean"] / 1e12 == pytest.approx(14.706239039)  # the sheet's TFLOP/s
    sparse = find("TitanXp", "sparse_gemm", "fp32", "forward", m=7680, n=1, sparsity=0.95)[0]
    assert sparse.flops == 2 * round(
        0.05 * 7680 * sparse.problem["k"]
    )  # non-zeros; the sheet counts the zeros


def test_recurrent_layers_count_what_was_executed() -> None:
    (forward,) = find("V100", "rnn", "fp32", "forward_training", cell="lstm", hidden_size=1024, batch_size=64)
    assert forward.flops == 8 * 25 * 64 * 1024**2  # no product with the input
    assert all(record.flops is None for record in find("MI25", "rnn", "fp32", "backward"))


def test_truncation_is_kept_where_it_happened() -> None:
    for record in EVERY:
        cut = record.backend in ("cuda", "rocm") and record.kernel != "allreduce"
        assert ("mean_below" in record.summary) == cut
        if cut:
            microseconds = 1e6 * record.summary["mean"]
            assert microseconds == pytest.approx(round(microseconds), rel=1e-9)
            assert record.summary["mean_below"] - record.summary["mean"] == pytest.approx(1e-6)


@pytest.mark.parametrize("name", published.names())
def test_limits_say_what_is_not_known(name: str) -> None:
    found = published.load(name)
    text = " ".join(found.limits)
    assert "mean of a number of executions" in text
    records = list(found.records())
    assert ("cut to whole microseconds" in text) == any("mean_below" in r.summary for r in records)
    assert ("fp16 gemm" in text) == (name in ("V100", "T4"))
    assert ("product with their input" in text) == any(r.kernel == "rnn" for r in records)


def test_summaries_are_the_records() -> None:
    found = published.load("iphone6")
    fields = [name for name in RecordSummary.__struct_fields__ if name not in ("samples_s", "facts")]
    for record, summary in zip(found.records(), found.summaries(), strict=True):
        assert [getattr(record, name) for name in fields] == [getattr(summary, name) for name in fields]


def test_an_unknown_device_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        InputError, match=r"deepbench:H100: no such published results; there are .*deepbench:V100"
    ):
        published.load("H100")
