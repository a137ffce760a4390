"""What a person sees of a sweep: rows as they come, and below them how far it is."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from microbench.backends import backend, overlooked
from microbench.figures import problem_title
from microbench.formats import RowPrinter
from microbench.plan import Item
from microbench.record import Record
from microbench.runner import Face
from microbench.sources import doubts_of
from microbench.store import RunInfo

# Drawing takes the processor from whoever is being measured.
_REFRESH_S = 2.0
# From here on a sweep is long enough to ask for less.
_LONG_S = 3600.0


class _ConsoleStream(io.TextIOBase):
    """Writes above the progress display, which shares the terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._console.encoding

    def write(self, text: str) -> int:
        self._console.print(text, end="", markup=False, highlight=False, soft_wrap=True)
        return len(text)


class Terminal(Face):
    """Progress and time left on standard error, rows on ``output``, where there is one."""

    def __init__(self, output: TextIO | None, confidence: float | None = None) -> None:
        shared = output is not None and output.isatty()
        console = Console(file=output) if shared else Console(stderr=True)
        self._progress = Progress(
            BarColumn(20),
            TextColumn("{task.percentage:3.0f} %"),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.description}", markup=False),
            console=console,
            auto_refresh=False,
            transient=True,
            disable=not console.is_terminal,
        )
        stream: Any = _ConsoleStream(console) if shared else output
        self._printer = RowPrinter(stream, confidence) if output is not None else None
        self._task = self._progress.add_task("starting", total=None, left="")
        self._total = 0.0
        self._estimated_done = 0.0
        self._began = self._drawn = self._recorded = time.monotonic()

    def __enter__(self) -> Terminal:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        if self._printer is not None:
            self._printer.finish()

    def begin(self, info: RunInfo, folder: Path, total_cost: float, done: int) -> None:
        """See `runner.Face`."""
        self._total = total_cost
        self._began = self._recorded = time.monotonic()
        self._progress.update(self._task, total=total_cost)
        there = f"{done} of {info.planned_records} records are in {folder} already"
        planned = f"{info.planned_records} records into {folder}"
        lines = [f"{there if done else planned}; about {duration(total_cost)} to go"]
        if info.plan.get("left_out"):
            lines.append(f"left out: {info.plan['left_out']} more; measured are {info.plan['chosen_by']}")
        elif total_cost > _LONG_S:
            lines.append(
                "--time-budget 1800, for instance, measures as many of the problems as half an hour allows"
            )
        found = doubts_of(info)
        if (asked := info.options.get("backend")) is not None and not info.options["library"]:
            found += overlooked(asked, backend(asked, info.kernel), info.kernel)
        lines += [f"warning: {text}" for text in found]
        for line in lines:
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def stage(self, item: Item | None, doing: str) -> None:
        """See `runner.Face`."""
        what = doing
        if item is not None:
            title = problem_title(item.row.problem.kernel, item.problem, item.pass_, item.layout)
            what = f"{title}, {item.library} {item.precision}: {doing}"
        self._progress.update(self._task, description=what)
        self.tick()

    def tick(self) -> None:
        """See `runner.Face`."""
        if time.monotonic() - self._drawn > _REFRESH_S:
            self._draw()

    def record(self, record: Record, cost: float) -> None:
        """See `runner.Face`."""
        self._estimated_done += cost
        self._recorded = time.monotonic()
        if self._printer is not None:
            try:
                self._printer.row(record)
            except BrokenPipeError:  # nobody reads on; the sweep is worth finishing
                self._printer = None
        self._progress.update(self._task, completed=self._estimated_done)
        self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        left = self._total - self._estimated_done
        if self._estimated_done > 0:  # estimates are wrong by a factor that the records so far tell
            left *= (self._recorded - self._began) / self._estimated_done
        left -= self._drawn - self._recorded
        self._progress.update(self._task, left=f"{duration(left)} left" if self._total else "")
        self._progress.refresh()


def duration(seconds: float) -> str:
    """``35 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
