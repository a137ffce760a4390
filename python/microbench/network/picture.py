"""The landscape as a picture: the fastest algorithm over ranks and sizes, and what noise costs."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from microbench.errors import InputError
from microbench.figures import time_text
from microbench.network.landscape import Forecast, NoiseCost, fastest_of
from microbench.network.report import bytes_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".svg", ".png", ".pdf")
# Okabe & Ito's colours, which people who see colours differently can tell apart.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")


def check_path(path: Path) -> None:
    """Raises InputError where no picture can be written to ``path``, before anything is computed."""
    if find_spec("matplotlib") is None:
        raise InputError("--picture needs matplotlib: pip install 'microbench[report]'")
    if path.suffix not in FORMATS:
        raise InputError(f"--picture {path}: the name must end in {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise InputError(f"--picture {path}: there is no folder {path.parent}")


def draw(path: Path, found: Sequence[Forecast], costs: Sequence[NoiseCost], title: str, noise: str) -> None:
    """Draws the heat map of the fastest algorithm and, where noise was simulated, the slow-down of each."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    best = fastest_of(found)
    ranks, sizes = (sorted({key[place] for key in best}) for place in (0, 1))
    labels = list(dict.fromkeys(each.label for each in found))
    grid = np.full((len(sizes), len(ranks)), np.nan)
    for (p, nbytes), each in best.items():
        grid[sizes.index(nbytes), ranks.index(p)] = labels.index(each.label)
    colours = [_COLOURS[number % len(_COLOURS)] for number in range(len(labels))]
    rows = len({(cost.nbytes, cost.label) for cost in costs})
    size = (13 if costs else 6.5, 2 + 0.34 * max(9, rows))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(textwrap.fill(title, 140 if costs else 90), fontsize=8)
    axes = figure.subplots(1, 2 if costs else 1, squeeze=False)[0]
    axes[0].pcolormesh(
        np.arange(len(ranks) + 1),
        np.arange(len(sizes) + 1),
        grid,
        cmap=ListedColormap(colours),
        vmin=-0.5,
        vmax=len(labels) - 0.5,
        edgecolors="white",
        linewidth=0.3,
    )
    _ticks(axes[0], ranks, sizes)
    axes[0].set_title("fastest without noise", fontsize=10)
    shown = sorted({int(value) for value in grid[~np.isnan(grid)]})
    figure.legend(
        handles=[Patch(color=colours[number], label=labels[number]) for number in shown],
        loc="outside lower left",
        ncols=4,
        fontsize=8,
        frameon=False,
    )
    if costs:
        _slow_downs(axes[1], costs)
        axes[1].set_title(
            textwrap.fill(
                f"Mean time with noise over time without; below it the time with noise. Noise: {noise}", 90
            ),
            fontsize=7,
        )
    # Text stays text, and the same forecast gives the same file.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "microbench"}):
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _ticks(axes: Axes, ranks: Sequence[int], sizes: Sequence[int]) -> None:
    columns, rows = (range(0, len(values), max(1, len(values) // 7)) for values in (ranks, sizes))
    axes.set_xticks(
        [column + 0.5 for column in columns], [str(ranks[column]) for column in columns], fontsize=7
    )
    axes.set_yticks([row + 0.5 for row in rows], [bytes_text(sizes[row]) for row in rows], fontsize=8)
    axes.set_xlabel("ranks")
    axes.set_ylabel("vector of each rank")


def _slow_downs(axes: Axes, costs: Sequence[NoiseCost]) -> None:
    """A row for every algorithm and size, a column for every number of ranks, the ratio and the time in each."""
    from matplotlib.colors import LogNorm

    rows = list(dict.fromkeys((cost.nbytes, cost.label) for cost in costs))
    ranks = sorted({cost.ranks for cost in costs})
    grid = np.full((len(rows), len(ranks)), np.nan)
    highest = max(2.0, *(cost.slow_down for cost in costs))
    for cost in costs:
        row, column = rows.index((cost.nbytes, cost.label)), ranks.index(cost.ranks)
        grid[row, column] = max(1.0, cost.slow_down)
        dark = math.log(grid[row, column]) > 0.6 * math.log(highest)
        axes.text(
            column + 0.5,
            row + 0.5,
            f"{cost.slow_down:.2f}\n{time_text(cost.noisy_s)}",
            ha="center",
            va="center",
            fontsize=6,
            color="white" if dark else "black",
        )
    axes.pcolormesh(grid, cmap="Oranges", norm=LogNorm(1.0, highest), edgecolors="white", linewidth=0.3)
    axes.set_xticks(np.arange(len(ranks)) + 0.5, [str(each) for each in ranks], fontsize=7)
    axes.set_yticks(
        np.arange(len(rows)) + 0.5, [f"{label}, {bytes_text(nbytes)}" for nbytes, label in rows], fontsize=7
    )
    axes.set_xlabel("ranks")
