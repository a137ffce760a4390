"""The tables of a study."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from microbench.environment.text import size_text
from microbench.figures import PASS_TITLES, number_text, percent_text, time_text
from microbench.study.divisions import Chosen, Gain, Outcome
from microbench.study.fronts import cliffs as cliffs_of
from microbench.study.fronts import front, front_with_error, within
from microbench.study.layers import Layer, Point, Study
from microbench.study.networks import Shares
from microbench.study.regret import distributions
from microbench.study.regret import regrets as regrets_of
from microbench.study.scaling import scalings
from microbench.study.sensitivity import BASE
from microbench.study.sensitivity import sensitivities as sensitivities_of

LAYER = "layer"
"""The heading of the column of layers, which stand in the first of their rows only."""

_WORST = 5


@dataclass(frozen=True)
class Table:
    """One table; ``caption`` has all that must be known to read it, ``rows`` are texts."""

    key: str
    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def _time(point: Point) -> str:
    return time_text(point.time_s)


def _width(point: Point) -> str:
    if point.low_s is None or point.high_s is None:
        return "n/a"
    return percent_text(max(point.high_s - point.time_s, point.time_s - point.low_s) / point.time_s)


def _sum_width(points: Sequence[Point]) -> str:
    """Of the sum of the times, as if all erred at once."""
    if any(point.low_s is None or point.high_s is None for point in points):
        return "n/a"
    total = math.fsum(point.time_s for point in points)
    return percent_text(
        math.fsum(
            max((point.high_s or 0.0) - point.time_s, point.time_s - (point.low_s or 0.0)) for point in points
        )
        / total
    )


def _any_error(max_error: float | None) -> str:
    return "" if max_error is None else " Of any error: --max-error is not applied here."


def _error(error: float | None) -> str:
    return "n/a" if error is None else f"{error:.0e}"


def _limit(limit: float) -> str:
    return "none" if limit == math.inf else size_text(int(limit))


def fronts(study: Study, dominated: bool) -> Table:
    rows = []
    for layer, batch, points in study.whole():
        optimal, with_error = front(points), front_with_error(points)
        shown = (
            sorted(points, key=lambda point: point.time_s)
            if dominated
            else [
                point
                for point in sorted(points, key=lambda point: point.time_s)
                if point in optimal or point in with_error
            ]
        )
        for point in shown:
            mark = "front" if point in optimal else "accurate" if point in with_error else "beaten"
            rows.append(
                (
                    layer.title(batch),
                    point.name,
                    _time(point),
                    _width(point),
                    size_text(point.workspace_bytes),
                    _error(point.error),
                    mark,
                )
            )
    return Table(
        "fronts",
        "Time against workspace. front: no other algorithm is as fast with as little workspace; accurate: only none "
        "that is as accurate, too.",
        (LAYER, "algorithm", "time", "±%", "workspace", "error", ""),
        _once(rows),
    )


def cliffs(study: Study) -> Table:
    rows = [
        (
            layer.title(batch),
            size_text(cliff.limit_bytes),
            _time(cliff.above),
            _time(cliff.below),
            f"{cliff.ratio:.2f}{'' if cliff.separate else '?'}",
            cliff.above.name,
            cliff.below.name,
        )
        for layer, batch, points in study.whole()
        for cliff in cliffs_of(front(points))
        if cliff.below is not None and cliff.ratio is not None
    ]
    return Table(
        "cliffs",
        "Cliffs: with this limit or less the best time jumps by 5 % or more. ?: the intervals of both times overlap.",
        (LAYER, "limit", "above", "below", "ratio", "best above", "best below"),
        _once(rows),
    )


def bounded(study: Study, max_error: float | None) -> Table:
    rows = []
    if max_error is not None:
        for layer, batch, points in study.whole():
            fastest = min(points, key=lambda point: point.time_s)
            bounded = min(within(points, max_error=max_error), key=lambda point: point.time_s, default=None)
            if bounded == fastest:
                continue
            rows.append(
                (
                    layer.title(batch),
                    _time(fastest),
                    "n/a" if bounded is None else _time(bounded),
                    "n/a" if bounded is None else f"{bounded.time_s / fastest.time_s:.2f}",
                    _error(fastest.error),
                    "n/a" if bounded is None else _error(bounded.error),
                    fastest.name,
                    "nothing" if bounded is None else bounded.name,
                )
            )
    return Table(
        "accuracy",
        f"What an error of at most {max_error} costs, where the fastest algorithm's is larger.",
        (LAYER, "fastest", "within", "ratio", "error", "within", "fastest", "fastest within"),
        tuple(rows),
    )


def regrets(study: Study, limits: Sequence[int], max_error: float | None = None) -> Table:
    settings = study.settings()
    several = len(set(settings.values())) > 1
    found, unknown = regrets_of(study, (*limits, math.inf))
    lost = Counter((settings[one.layer], one.library, one.chooser, one.limit_bytes) for one in unknown)

    def start(setting: str, library: str, chooser: str, limit: float, known: int) -> tuple[str, ...]:
        missing = lost[setting, library, chooser, limit]
        name = f"{library}, {setting}" if several else library
        return name, chooser, _limit(limit), f"{known} of {known + missing}" if missing else str(known)

    known = distributions(found, settings)
    rows = [
        (
            *start(one.setting, one.library, one.chooser, one.limit_bytes, one.layers),
            str(one.best_picked),
            time_text(one.pick_s),
            _sum_width(one.picks),
            time_text(one.best_s),
            _sum_width(one.bests),
            f"{one.total_ratio:.2f}",
            " ".join(f"{ratio:.3g}" for ratio in (one.quartiles[1], one.worst.ratio)),
        )
        for one in known
    ]
    rows += [
        (*start(*key, 0), "0", *["n/a"] * 6)
        for key in lost
        if key not in {(one.setting, one.library, one.chooser, one.limit_bytes) for one in known}
    ]
    return Table(
        "regret",
        "Regret: time of the library's own pick that fits over that of its best algorithm: sums over layers (±%: as "
        "if all intervals erred at once) and their ratio, then median and worst of the layers' ratios. n: layers, "
        "of how many where the others' picks were not measured." + _any_error(max_error),
        (
            "library",
            "pick",
            "limit",
            "n",
            "best",
            "picks",
            "±%",
            "bests",
            "±%",
            "ratio",
            "median, worst",
        ),
        tuple(rows),
    )


def worst(study: Study, limits: Sequence[int], max_error: float | None = None) -> Table:
    found = [regret for regret in regrets_of(study, (*limits, math.inf))[0] if regret.ratio > 1]
    worst: dict[tuple[Layer, str, str, str], tuple[str, ...]] = {}
    for regret in sorted(found, key=lambda regret: -regret.ratio):
        key = (regret.layer, regret.library, regret.pick.algorithm, regret.best.algorithm)
        worst.setdefault(
            key,
            (
                regret.layer.title(regret.batch),
                _limit(regret.limit_bytes),
                _time(regret.pick),
                _time(regret.best),
                f"{regret.ratio:.2f}{'' if regret.separate else '?'}",
                regret.pick.name,
                regret.best.algorithm,
            ),
        )
    return Table(
        "worst",
        "The largest regrets. ?: the intervals of both times overlap." + _any_error(max_error),
        (LAYER, "limit", "pick", "best", "ratio", "picked", "fastest"),
        tuple(list(worst.values())[:_WORST]),
    )


def _division(chosen: Chosen) -> str:
    if not chosen.divided:
        return f"{chosen.library}/{chosen.algorithm}"
    return f"{chosen.library}/{chosen.algorithm.partition(':')[2]}"


def _rounds_width(chosen: Chosen) -> str:
    """The larger side of the range of the rounds, or of a single kernel's interval; unknown for what is predicted."""
    if len(chosen.rounds_s) > 1:
        return percent_text(
            max(max(chosen.rounds_s) - chosen.time_s, chosen.time_s - min(chosen.rounds_s)) / chosen.time_s
        )
    return "n/a" if chosen.rounds_s or chosen.divided else _width(chosen.micro_batches[0][1])


def _mark(gain: Gain) -> str:
    if gain.division is None or gain.settled:
        return ""
    return "?" if gain.measured else "p"


def gains(gained: Sequence[Gain]) -> Table:
    rows = [
        (
            gain.layer_title,
            _limit(gain.limit_bytes),
            time_text(gain.base.time_s),
            _rounds_width(gain.base),
            "none faster" if gain.division is None else time_text(gain.division.time_s),
            "" if gain.division is None else _rounds_width(gain.division),
            "" if gain.division is None else f"{gain.speedup:.2f}{_mark(gain)}",
            "" if gain.range is None else f"{gain.range[0]:.2f}-{gain.range[1]:.2f}",
            _division(gain.base),
            "" if gain.division is None else _division(gain.division),
        )
        for gain in gained
    ]
    return Table(
        "divisions",
        "Micro-batches: the fastest undivided batch and the fastest division under each limit, their ratio and its "
        "range over the rounds. ±%: range of the rounds, or the kernel's interval. ?: within the spread of the rounds, "
        "or one round only; p: predicted from the kernels' times, not measured.",
        (LAYER, "limit", "undivided", "±%", "divided", "±%", "ratio", "range", "undivided", "divided"),
        _once(rows),
    )


def totals(gained: Sequence[Gain], settings: Mapping[Layer, str]) -> Table:
    several = len(set(settings.values())) > 1
    groups: dict[tuple[str, float], list[Gain]] = {}
    for gain in gained:
        size = dict(gain.base.layer.columns)
        layer = gain.base.layer
        filters = f"{size['filter_h']}×{size['filter_w']} {PASS_TITLES.get(layer.pass_, layer.pass_)}"
        name = f"{filters}, {settings[layer]}" if several else filters
        groups.setdefault((name, gain.limit_bytes), []).append(gain)
    rows = []
    for (name, limit), group in groups.items():
        base = math.fsum(gain.base.time_s for gain in group)
        time = math.fsum(gain.best.time_s for gain in group)
        rows.append(
            (
                name,
                _limit(limit),
                f"{sum(gain.best.divided for gain in group)} of {len(group)}",
                str(sum(gain.measured for gain in group)),
                time_text(base),
                time_text(time),
                f"{base / time:.2f}",
                _total_range(group),
                f"{max(gain.base.time_s / gain.best.time_s for gain in group):.2f}",
            )
        )
    return Table(
        "totals",
        "Speed-up over undivided at the same limit, each layer divided where that is faster (divided), and of how many "
        "layers divisions were measured: sums of times over the layers, their ratio and its range (every ratio at its "
        "round's least, or greatest; n/a where a gain is only predicted), and the largest ratio of one layer.",
        (
            *("layers", "limit", "divided", "measured"),
            *("undivided", "chosen", "ratio", "range", "largest"),
        ),
        tuple(rows),
    )


def _total_range(group: Sequence[Gain]) -> str:
    base = math.fsum(gain.base.time_s for gain in group)
    ends = []
    for end in (0, 1):
        times = []
        for gain in group:
            ratio = 1.0 if not gain.best.divided else None if gain.range is None else gain.range[end]
            if ratio is None:
                return "n/a"
            times.append(gain.base.time_s / ratio)
        ends.append(f"{base / math.fsum(times):.2f}")
    return "-".join(ends)


def outcomes(measured: Sequence[Outcome], max_error: float | None = None) -> Table:
    rows = [
        (
            one.layer.title(one.batch),
            time_text(one.chosen_s),
            time_text(one.predicted_s),
            time_text(one.measured_s),
            "n/a" if one.chosen_ratio is None else f"{one.chosen_ratio:.3f}",
            "n/a" if one.ratio is None else f"{one.ratio:.3f}",
            f"{min(one.ratios):.3f}-{max(one.ratios):.3f}" if one.ratios else "n/a",
            f"{one.library}/{one.algorithm.partition(':')[2]}{': ' * bool(one.reason)}{one.reason}",
        )
        for one in measured
    ]
    return Table(
        "predicted",
        "Divisions as measured, medians over the rounds. before: predicted from the kernels as measured before all "
        "rounds, which is what it was chosen by; beside: predicted from the kernels of the same round. Ratios are "
        "predicted over measured; those beside are by round (median, range)." + _any_error(max_error),
        (LAYER, "before", "beside", "measured", "before/meas.", "beside/meas.", "range", "division"),
        _once(rows),
    )


def shares(shared: Sequence[Shares]) -> Table:
    rows = [
        (
            one.setting,
            size_text(one.total_bytes),
            one.policy,
            f"{one.layers} of {one.layers + one.missing if one.missing is not None else 'more'}"
            if one.missing != 0
            else str(one.layers),
            time_text(one.time_s),
            "n/a" if one.used_bytes is None else size_text(one.used_bytes),
            "too little"
            if one.choices is None
            else f"{sum(count for chosen, count in one.choices if chosen.divided)} divided, {one.measured} measured",
        )
        for one in shared
    ]
    return Table(
        "network",
        "One total workspace, shared by all layers for the least sum of times (each layer as often as the table says, "
        "in each pass measured): times of the rounds where divisions were measured, else predicted. Each precision and "
        "layout is a network of its own. layers: of how many, where the others were not measured and are in no sum.",
        ("of", "total", "policy", "layers", "time", "used", ""),
        tuple(rows),
    )


def scaling(study: Study) -> Table:
    rows = []
    for one in scalings(study):
        batches = list(one.best)
        mark = "*" if one.cached else ""
        saturated = next((str(knee.batch) for knee in one.knees if knee.kind == "saturated"), "not yet")
        degraded = ", ".join(str(knee.batch) for knee in one.knees if knee.kind == "degraded")
        devices = max(one.strong, default=1)
        rows.append(
            (
                one.layer.title(batches[-1]),
                f"{batches[0]}-{batches[-1]}",
                time_text(one.per_sample_s[batches[0]]),
                time_text(one.per_sample_s[batches[-1]]),
                saturated + mark,
                (degraded or "none") + mark,
                f"{percent_text(one.strong.get(devices))} on {devices}",
                f"{percent_text(one.weak[batches[0]])} at {batches[0]}",
            )
        )
    return Table(
        "scaling",
        "Batch scaling of the best algorithm: time per image at the ends; the batch from which time grows as the "
        "batch, and where faster; strong: efficiency in % with the batch spread over "
        "devices; weak: with this batch on each. *: the whole batch was timed in the last-level cache, which it fits; "
        "micro-batches one after another over more images: knees compare unlike conditions.",
        (LAYER, "batches", "first", "last", "saturated", "degraded", "strong", "weak"),
        tuple(rows),
    )


def sensitivities(study: Study) -> Table:
    rows = []
    for one in sensitivities_of(study):
        found = one.comparison
        interval = "n/a"
        if found is not None and found.ratio_low is not None and found.ratio_high is not None:
            interval = f"{found.ratio_low:.3f}-{found.ratio_high:.3f}"
        rows.append(
            (
                one.layer.title(one.batch),
                f"{one.library}/{one.algorithm}",
                one.fill,
                time_text(one.time_s),
                "base" if found is None else f"{found.ratio:.3f}",
                interval,
                "" if found is None else found.verdict,
                "n/a" if one.power_w is None else f"{number_text(one.power_w)} W",
                "n/a" if one.clock_hz is None else f"{one.clock_hz / 1e6:.0f} MHz",
            )
        )
    return Table(
        "fills",
        f"The same kernel on other operands: ratio of its time to that on {BASE} random numbers, 99 % interval.",
        (LAYER, "algorithm", "fill", "time", "ratio", "interval", "verdict", "power", "clock"),
        _once(rows),
    )


def _once(rows: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """The rows, a layer's title in the first of its rows only."""
    return tuple(
        ("", *row[1:]) if place and rows[place - 1][0] == row[0] else row for place, row in enumerate(rows)
    )
