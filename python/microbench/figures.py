"""What is shown of a record: its summary, the figures derived from it, and their short texts."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import statistics
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TextIO

import msgspec

from microbench import kernels
from microbench.problem import Scalar
from microbench.record import Record, RecordHead


class ShownFacts(msgspec.Struct, frozen=True):
    """Of a record's facts those that csv has columns for."""

    implementation: str | None = None
    open_s: float | None = None
    prepare_s: float | None = None


class RecordSummary(RecordHead, frozen=True, kw_only=True):
    """A ``Record`` as far as a table needs it: the samples stay undecoded, which is most of a line."""

    samples_s: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"[]"))
    facts: ShownFacts = msgspec.field(default_factory=ShownFacts)


WIDTH = 100
"""Characters that no line of a table or of a summary exceeds."""

Row = Record | RecordSummary
"""What tables and summaries are made of."""


def threads(backend: str, count: int) -> int | None:
    """How many threads of processors computed, 0 where that is unknown.

    None on a GPU, where ``count`` is of the host's, which only make operands and launch.
    """
    return count if backend == "cpu" else None


def threads_phrase(backend: str, count: int) -> str:
    """``4 threads``; "" on a GPU."""
    used = threads(backend, count)
    return "" if used is None else f"{used} thread{'s' * (used != 1)}"


def shown_facts(record: Row) -> ShownFacts:
    """Those facts of a record that csv has columns for."""
    return record.facts if isinstance(record, RecordSummary) else msgspec.convert(record.facts, ShownFacts)


_TAKEN_NAMES = {field.encode_name for field in msgspec.structs.fields(Record)} | {
    # What csv adds to them.
    "samples",
    "gflops_per_s",
    "peak_percent",
    *(field.name for field in msgspec.structs.fields(ShownFacts)),
    # ... and to those of collectives.
    "start",
    "hosts",
    "message_bytes",
    "algorithm_bandwidth_bytes_per_s",
    "bus_bandwidth_bytes_per_s",
    "wrong_elements",
    "over_ranks_min_s",
    "over_ranks_median_s",
    "over_ranks_mean_s",
    "over_ranks_max_s",
    "overlap_share",
    "overlap_share_low",
    "overlap_share_high",
    "overlap_alone_s",
    "overlap_compute_s",
    "overlap_together_s",
}


def flat_columns(record: Row) -> dict[str, Scalar]:
    """The problem's columns and the labels under their own names.

    Where a record has a field of that name, or csv a column, it is called ``problem_<name>`` or ``label_<name>``.
    """
    columns: dict[str, Scalar] = {}
    for prefix, values in (("problem_", record.problem), ("label_", record.labels)):
        taken = _TAKEN_NAMES | columns.keys()
        columns |= {prefix + name if name in taken else name: value for name, value in values.items()}
    return columns


def measured(record: Row) -> bool:
    """Whether the record's time may be used: it is known and the result was right."""
    return record.median_s is not None and record.status in ("ok", "unstable")


def flops_per_s(record: Row) -> float | None:
    """FLOP/s at the median; None where there is no usable time or no count of operations."""
    if record.median_s is None or not record.flops or not measured(record):
        return None
    return record.flops / record.median_s


def peak_share(record: Row) -> float | None:
    """Rate as a share of the peak measured beside it."""
    rate = flops_per_s(record)
    return None if rate is None or not record.peak_flops_per_s else rate / record.peak_flops_per_s


def relative_half_width(record: Row) -> float | None:
    """The larger side of the median's interval, as a share of the median."""
    if not record.median_s or record.ci_low_s is None or record.ci_high_s is None:
        return None
    return max(record.ci_high_s - record.median_s, record.median_s - record.ci_low_s) / record.median_s


def sample_count(record: Row) -> int:
    """Number of samples, which a `RecordSummary` holds as undecoded JSON."""
    if isinstance(record.samples_s, msgspec.Raw):
        numbers = bytes(record.samples_s).strip(b"[] \t\n\r")
        return numbers.count(b",") + 1 if numbers else 0
    return len(record.samples_s)


def fastest(rows: Iterable[Row]) -> list[Row]:
    """Of the algorithms of one library for one configuration the fastest, the same in all repeats.

    The fastest has the smallest median of its repeats' medians; where none has a time, it is the one that needs the
    least workspace, or the first.
    """
    candidates: dict[tuple[object, ...], dict[str, list[Row]]] = {}
    for row in rows:
        key = (row.library, row.precision, row.pass_, row.layout, *row.problem.items())
        candidates.setdefault(key, {}).setdefault(row.algorithm, []).append(row)
    return [row for algorithms in candidates.values() for row in min(algorithms.values(), key=_rank)]


def _rank(repeats: Sequence[Row]) -> tuple[bool, float]:
    times = [row.median_s for row in repeats if measured(row) and row.median_s is not None]
    needs = repeats[0].workspace_bytes
    return not times, statistics.median(times) if times else math.inf if needs is None else needs


def time_text(seconds: float | None) -> str:
    """Four significant digits and the unit that suits: ``123.4 us``."""
    if seconds is None:
        return "n/a"
    rounded = float(f"{seconds:.3e}")
    units = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6))
    unit, scale = next(((unit, scale) for unit, scale in units if rounded >= scale), ("ns", 1e-9))
    return f"{number_text(seconds / scale)} {unit}"


def number_text(value: float | None) -> str:
    """Four significant digits, all digits before the point; exponents from ten million and under a hundredth."""
    if value is None:
        return "n/a"
    if value == 0:
        return "0"
    if not 1e-2 <= abs(value) < 9999999.5:
        return f"{value:.1e}"
    decimals = 3 - math.floor(math.log10(abs(float(f"{value:.3e}"))))
    return f"{value:.{max(0, decimals)}f}"


def percent_text(share: float | None) -> str:
    """``share`` in percent, without the sign: two decimals under 10, one under 100; 5 characters at most."""
    if share is None:
        return "n/a"
    percent = 100 * share
    if 0 < percent < 0.005:
        return "<0.01"
    if percent >= 999.5:
        return ">999"
    return f"{percent:.{2 if percent < 9.995 else 1 if percent < 99.95 else 0}f}"


def error_text(record: Row) -> str:
    """The largest error in percent of its tolerance; the error itself, as ``1e-07``, where there is none."""
    if record.max_error is None:
        return "n/a"
    if record.max_error == 0:
        return "0"
    return (
        percent_text(record.max_error / record.tolerance) if record.tolerance else f"{record.max_error:.0e}"
    )


def _gemm(sizes: dict[str, Scalar]) -> str:
    letters = "".join("T" if sizes.pop(name) else "N" for name in ("a_transposed", "b_transposed"))
    return f"{sizes.pop('m')}×{sizes.pop('n')}×{sizes.pop('k')} {letters}"


def _conv(sizes: dict[str, Scalar]) -> str:
    def pair(name: str) -> str:
        height, width = sizes.pop(f"{name}_h"), sizes.pop(f"{name}_w")
        return str(height) if height == width else f"{height}×{width}"

    text = f"n{sizes.pop('n')} c{sizes.pop('c')} {sizes.pop('h')}×{sizes.pop('w')} k{sizes.pop('k')}"
    text += f" {sizes.pop('filter_h')}×{sizes.pop('filter_w')} s{pair('stride')} p{pair('pad')}"
    if "dilation_h" in sizes and (dilation := pair("dilation")) != "1":
        text += f" d{dilation}"
    return text if (groups := sizes.pop("groups", 1)) == 1 else f"{text} g{groups}"


def _rnn(sizes: dict[str, Scalar]) -> str:
    return f"{sizes.pop('cell')} h{sizes.pop('hidden_size')} n{sizes.pop('batch_size')} t{sizes.pop('time_steps')}"


_TITLES: dict[str, Callable[[dict[str, Scalar]], str]] = {
    "gemm": _gemm,
    "sparse_gemm": _gemm,
    "conv": _conv,
    "rnn": _rnn,
}
PASS_TITLES = {
    "forward": "fwd",
    "forward_training": "fwd_train",
    "backward": "bwd",
    "backward_data": "bwd_d",
    "backward_weights": "bwd_w",
}


class Choices(NamedTuple):
    """What a kernel lets choose, the default first, and the values that its columns have when left out."""

    passes: tuple[str, ...] = ()
    layouts: tuple[str, ...] = ()
    defaults: Mapping[str, object] = {}


@functools.cache
def choices(kernel: str) -> Choices:
    """Those of ``kernel``; none where this microbench does not know it."""
    if kernel not in kernels.KERNELS:
        return Choices()
    module = kernels.kernel(kernel)
    defaults = {field.name: field.default for field in dataclasses.fields(module.PROBLEM)}
    return Choices(getattr(module, "PASSES", ()), getattr(module, "LAYOUTS", ()), defaults)


def problem_title(
    kernel: str, problem: Mapping[str, Scalar], pass_: str, layout: str, repeat: int = 0
) -> str:
    """Names what is computed in few characters, on one line.

    ``1760×16×1760 NT`` (m, n, k, whether A and B are transposed), ``n8 c64 56×56 k64 3×3 s1 p1`` (images and
    filters as height × width, stride, padding), ``lstm h512 n16 t25``. Then come, as ``name=value``, columns
    that these do not know and that are not at their default, and all columns of other kernels; the pass where
    the kernel has several; the layout where it is not the kernel's default; ``#n`` for the n-th repeat after
    the first.
    """
    known = choices(kernel)
    rest = dict(problem)
    try:
        words = [_TITLES[kernel](rest)]
    except KeyError:
        words, rest = [], dict(problem)
    words += [
        f"{name}={_scalar_text(value)}" for name, value in rest.items() if value != known.defaults.get(name)
    ]
    if len(known.passes) > 1 or pass_ not in ("forward", *known.passes):
        words.append(PASS_TITLES.get(pass_, pass_))
    if layout not in known.layouts[:1]:
        words.append(layout_text(layout))
    if repeat:
        words.append(f"#{repeat}")
    return one_line(" ".join(words))


def record_title(record: Row) -> str:
    """`problem_title` of what the record measured."""
    return problem_title(record.kernel, record.problem, record.pass_, record.layout, record.repeat)


def layout_text(layout: str) -> str:
    """``layout`` in capitals where its letters name dimensions."""
    return layout.upper() if layout in ("nchw", "nhwc", "tnc", "ntc") else layout


def _scalar_text(value: Scalar) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def library_title(record: Row) -> str:
    """``library`` or, where an algorithm was asked for, ``library/algorithm``."""
    asked = record.algorithm not in ("", "auto")
    return one_line(f"{record.library}/{record.algorithm}" if asked else record.library)


def one_line(text: str) -> str:
    """``text`` with control characters and runs of white space as single blanks."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


# All that could make emphasis, code, markup, links or pictures of a name; an underscore within a word makes nothing.
_MARKDOWN = re.compile(r"([\\`*{}\[\]<>|#~$&!]|(?<!\w)_|_(?!\w))")


def markdown_text(text: str) -> str:
    """``text`` on one line, so that Markdown shows it as it is."""
    return _MARKDOWN.sub(r"\\\1", one_line(text))


def shows_unicode(stream: TextIO) -> bool:
    """Whether ``stream`` can show the few characters outside ASCII that tables use."""
    try:
        "×±…".encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def ascii_text(text: str) -> str:
    """``text`` for a stream that cannot show Unicode."""
    return text.translate({ord("×"): "x", ord("±"): "+-"}).encode("ascii", "replace").decode()


def fit(text: str, width: int = WIDTH, dots: str = "…") -> str:
    """``text`` cut to ``width`` characters, the cut shown."""
    return text if len(text) <= width else text[: width - len(dots)] + dots


def wrapped(paragraph: str, indent: str = "  ") -> list[str]:
    """``paragraph`` in lines of at most `WIDTH` characters, all but the first indented."""
    return textwrap.wrap(paragraph, WIDTH, subsequent_indent=indent, break_on_hyphens=False)
