"""Pictures of a study, by matplotlib."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microbench.errors import InputError
from microbench.figures import threads_phrase
from microbench.study.divisions import Gain, gains, options, outcomes
from microbench.study.fronts import accurate, front
from microbench.study.layers import Study
from microbench.study.scaling import scalings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("svg", "png", "pdf")
_COLUMNS = 3
_PANEL_INCHES = (4.2, 3.0)
_MEBIBYTE = 1 << 20


def write(
    study: Study,
    folder: str | Path,
    limits: Sequence[int],
    policy: str,
    form: str,
    max_error: float | None = None,
) -> list[Path]:
    """Writes all pictures that there is something for into ``folder``, one file each.

    Algorithms of an error above ``max_error``, or an unknown one, are left out, but of ``predicted``.

    Raises:
        InputError: matplotlib is missing, or a file cannot be written.
    """
    folder = Path(folder)
    written = []
    try:
        import matplotlib as mpl

        folder.mkdir(parents=True, exist_ok=True)
        with mpl.rc_context({"font.size": 8, "svg.fonttype": "none", "svg.hashsalt": "microbench"}):
            for name, figure in _figures(study, limits, policy, max_error):
                path = folder / f"{name}.{form}"
                bound = None if name == "predicted" else max_error
                figure.supxlabel(_conditions(study, bound), fontsize=6)
                figure.savefig(path, dpi=150, metadata={"Date": None} if form == "svg" else None)
                written.append(path)
    except ImportError as error:
        raise InputError("--plots needs matplotlib: pip install 'microbench[report]'") from error
    except OSError as error:
        raise InputError(
            f"--plots {folder}: cannot be written ({error.strerror}): choose another folder"
        ) from error
    return written


def _figures(
    study: Study, limits: Sequence[int], policy: str, max_error: float | None
) -> Iterator[tuple[str, Figure]]:
    kept = accurate(study, max_error)
    if kept.points:
        yield "fronts", _fronts(kept, policy, max_error)
    found = gains(kept, limits, policy, max_error)
    if any(gain.division is not None for gain in found):
        yield "speedups", _speedups(found, limits)
    if any(one.ratios for one in outcomes(study)):
        yield "predicted", _predicted(study)
    if scalings(kept):
        yield "scaling", _scaling(kept)


def _conditions(study: Study, max_error: float | None) -> str:
    found = sorted(
        {
            ", ".join(
                filter(
                    None,
                    (
                        layer.backend,
                        layer.mode,
                        threads_phrase(layer.backend, layer.threads),
                        layer.precision,
                    ),
                )
            )
            for layer in study.points
        }
    )
    text = "; ".join(found) + "; medians, bars: intervals or the range of the rounds"
    if max_error is not None:
        text += f"; error at most {max_error:g}"
    missing = study.missing(study.points)
    if missing != 0:
        text += f"; layers not measured: {missing or 'some'}"
    return text + "; NOT FINISHED" * bool(study.unfinished)


def _panels(titles: Iterable[str]) -> tuple[Figure, list[Any]]:
    from matplotlib.figure import Figure

    names = list(titles)
    columns = min(_COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(columns * _PANEL_INCHES[0], rows * _PANEL_INCHES[1]), layout="constrained")
    panels = [figure.add_subplot(rows, columns, place + 1) for place in range(len(names))]
    for panel, name in zip(panels, names, strict=True):
        panel.set_title(name, fontsize=8)
        panel.grid(alpha=0.3)
    return figure, panels


def _fronts(study: Study, policy: str, max_error: float | None) -> Figure:
    """A panel for each layer: every algorithm with its interval, the front as the steps of the best time.

    Where there are divisions, the desirable set of them and of undivided batches as dashed steps.
    """
    layers = list(study.whole())
    figure, panels = _panels(layer.title(batch) for layer, batch, _ in layers)
    for panel, (layer, _, points) in zip(panels, layers, strict=True):
        best = front(points)
        desirable = options(study, layer, policy, max_error)
        if any(one.divided for one in desirable):
            panel.step(
                [one.workspace_bytes / _MEBIBYTE for one in desirable[::-1]],
                [1e3 * one.time_s for one in desirable[::-1]],
                ".--",
                where="post",
                color="C1",
                label=f"with divisions ({policy})",
            )
            panel.legend(fontsize=6)
        for point in points:
            low, high = (
                value if value is not None else point.time_s for value in (point.low_s, point.high_s)
            )
            panel.errorbar(
                point.workspace_bytes / _MEBIBYTE,
                1e3 * point.time_s,
                yerr=[[1e3 * max(0.0, point.time_s - low)], [1e3 * max(0.0, high - point.time_s)]],
                fmt="o" if point in best else "x",
                color="C0" if point in best else "0.6",
                markersize=4,
            )
            if point in best:
                panel.annotate(
                    point.algorithm,
                    (point.workspace_bytes / _MEBIBYTE, 1e3 * point.time_s),
                    fontsize=6,
                    xytext=(3, 3),
                    textcoords="offset points",
                )
        panel.step(
            [point.workspace_bytes / _MEBIBYTE for point in best[::-1]],
            [1e3 * point.time_s for point in best[::-1]],
            where="post",
            color="C0",
        )
        panel.set_xscale("symlog", linthresh=0.01)
        panel.set_yscale("log")
        panel.margins(x=0.3, y=0.15)
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter("{x:g}")
        panel.tick_params(axis="y", which="minor", labelsize=6)
        panel.set_xlabel("workspace (MiB)")
        panel.set_ylabel("time (ms)")
    return figure


def _speedups(found: Sequence[Gain], limits: Sequence[int]) -> Figure:
    """Speed-up of the best division over the undivided batch, a dot with the rounds' range for each layer and limit."""
    figure, (panel,) = _panels([""])
    titles = list(dict.fromkeys(gain.layer_title for gain in found))
    figure.set_size_inches(7, 1.5 + 0.22 * len(titles))
    for place, limit in enumerate(limits):
        own = [gain for gain in found if gain.limit_bytes == limit and gain.division is not None]
        shift = 0.15 * (place - (len(limits) - 1) / 2)
        for filled in (True, False):
            kind = [gain for gain in own if gain.measured == filled]
            if not kind:
                continue
            ranges = [gain.range or (gain.speedup, gain.speedup) for gain in kind]
            panel.errorbar(
                [gain.speedup for gain in kind],
                [titles.index(gain.layer_title) + shift for gain in kind],
                xerr=[
                    [max(0.0, gain.speedup - low) for gain, (low, _) in zip(kind, ranges, strict=True)],
                    [max(0.0, high - gain.speedup) for gain, (_, high) in zip(kind, ranges, strict=True)],
                ],
                label=f"{limit / _MEBIBYTE:g} MiB, {'measured' if filled else 'predicted'}",
                color=f"C{place}",
                mfc=f"C{place}" if filled else "none",
                fmt="o",
                markersize=4,
            )
    panel.axvline(1, color="0.5", linewidth=0.8)
    panel.set_yticks(range(len(titles)), titles)
    panel.invert_yaxis()
    panel.set_xlabel("time of undivided / time of divided at the same limit")
    panel.legend()
    return figure


def _predicted(study: Study) -> Figure:
    """Predicted over measured time of each division, with the range of the rounds."""
    found = [one for one in outcomes(study) if one.ratio is not None]
    figure, (panel,) = _panels([""])
    figure.set_size_inches(7, 1.5 + 0.22 * len(found))
    for place, one in enumerate(found):
        panel.plot([min(one.ratios), max(one.ratios)], [place, place], color="C0")
        panel.plot(one.ratio, place, "o", color="C0", markersize=4)
    panel.axvspan(0.95, 1.05, color="0.9")
    panel.axvline(1, color="0.5", linewidth=0.8)
    panel.set_yticks(
        range(len(found)),
        [f"{one.layer.title(one.batch)} {one.algorithm.partition(':')[2]}" for one in found],
    )
    panel.invert_yaxis()
    panel.set_xlabel("predicted / measured time of divisions")
    return figure


def _scaling(study: Study) -> Figure:
    """A panel for each layer: time per image against the batch, knees marked."""
    found = scalings(study)
    figure, panels = _panels(one.layer.title() + "*" * one.cached for one in found)
    for panel, one in zip(panels, found, strict=True):
        sizes = list(one.per_sample_s)
        panel.errorbar(
            sizes,
            [1e6 * one.per_sample_s[size] for size in sizes],
            yerr=[
                [
                    1e6 * max(0.0, best.time_s - (best.low_s or best.time_s)) / size
                    for size, best in one.best.items()
                ],
                [
                    1e6 * max(0.0, (best.high_s or best.time_s) - best.time_s) / size
                    for size, best in one.best.items()
                ],
            ],
            fmt="o",
            markersize=4,
        )
        for knee in one.knees:
            panel.axvline(knee.batch, color="C1" if knee.kind == "saturated" else "C3", linewidth=0.8)
        panel.set_xscale("log", base=2)
        panel.set_xlabel(
            "batch (orange: saturated, red: degraded)\n*: whole batch in cache, others over more images"
            if one.cached
            else "batch (orange: saturated, red: degraded)"
        )
        panel.set_ylabel("time per image (us)")
        panel.set_ylim(bottom=0)
    return figure
