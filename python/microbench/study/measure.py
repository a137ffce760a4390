"""The part of the study that measures: runs of kernels, of divisions beside their kernels, and of fills.

A study is a folder with ``study.json``, what it was asked for, ``probe.csv``, its layers, and runs:

- ``probe``: every algorithm on the smallest micro-batch, to see which may pay;
- ``kernels``: these on every size, micro-batches in turn where the library can divide a batch, so that their operands
  come from memory as in a division; of cuDNN also the first that it lists for that size, since its knobs depend on it;
  on the whole batch also those that their library may choose first;
- ``picks/LIMIT``: what a library's heuristics and searches choose under each limit;
- ``divisions``: the divisions chosen, in rounds, each beside its kernels and the undivided batch;
- ``fills/FILL-ROUND``: the fastest kernel of each layer on several fills.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from microbench import kernels, plan, runner
from microbench.errors import InputError
from microbench.options import FILLS, Options
from microbench.plan import Item, NothingFits
from microbench.problem import PRECISIONS, Case, Scalar
from microbench.record import Record
from microbench.runner import Face
from microbench.store import RUN_FILE, Run, RunInfo
from microbench.study.divisions import Chosen, divides, to_measure
from microbench.study.layers import (
    DIVISIONS,
    KERNELS,
    PICKS,
    PROBE,
    STUDY_FILE,
    TABLE_FILE,
    Layer,
    Point,
    Study,
    columns_of,
    is_choice,
    name_of,
    usable,
)
from microbench.study.layers import FILLS as FILLS_FOLDER
from microbench.study.reading import gather
from microbench.study.selection import CHOOSERS, LISTED, firsts, fitting, handling_s, unprobed, worth
from microbench.tables import Row, distinct

# Of a time budget the probe may take this share: all else takes about twenty times as long.
_PROBE_SHARE = 0.05
# Fewest powers of two below the batch that are measured unless sizes are given.
_HALVINGS = 4
# Executions of a record beside its samples: warming up. And what it takes besides.
_WARMING = 3
_HANDLING_S = 0.5
# Micro-batches that follow each other fill the last-level cache so often.
_CACHES = 2
# The fewest that can show a difference at 99 %.
_FILL_ROUNDS = 5


class Interrupted(Exception):
    """Someone stopped the study: nothing more is measured, since later stages are planned from whole ones."""


@dataclass(frozen=True)
class Plan:
    """What a study measures.

    Attributes:
        options: problems, passes, libraries and the rest, as for a sweep of ``conv``.
        batch: images of the whole batch; None: as many as each problem has.
        sizes: micro-batch sizes beside the batch; empty: the batch halved up to four times.
        limits: workspace limits in bytes for which divisions are measured.
        rounds: how often each division is measured beside its kernels.
        fills: whether several fills are measured, in at least five rounds.
    """

    options: Options
    batch: int | None = None
    sizes: tuple[int, ...] = ()
    limits: tuple[int, ...] = ()
    rounds: int = 3
    fills: bool = False


Watched = Callable[[str], AbstractContextManager[Face]]
"""Opens whoever watches a run, given what is measured now."""


def measure(
    asked: Plan, folder: str | Path, *, resume: bool, command: Sequence[str], watched: Watched
) -> None:
    """Measures a study into ``folder``.

    With a time budget as many layers are measured as it allows, taken in random order.

    Raises:
        InputError: something asked for does not exist, or the folder cannot be used.
        Interrupted: SIGINT or SIGTERM ended a stage; with ``resume`` the study goes on.
        StoreError: a record could not be written.
    """
    _Measuring(asked, Path(folder), command, watched).run(resume)


def stored_plan(folder: str | Path) -> Plan:
    """What the study in ``folder`` was asked for. Raises InputError where there is none to go on with."""
    path = Path(folder) / STUDY_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Plan)
    except OSError as error:
        raise InputError(
            f"--resume: there is nothing to resume in {folder} ({STUDY_FILE}: {error.strerror}): start a study with "
            "--measure"
        ) from error
    except msgspec.DecodeError as error:
        raise InputError(f"{path} does not say what was asked ({error}): restore it from a copy") from error


class _Measuring:
    def __init__(self, asked: Plan, folder: Path, command: Sequence[str], watched: Watched) -> None:
        self._asked = asked
        self._folder = folder
        self._command = command
        self._watched = watched
        self._rows = _whole_batches(plan.problems(asked.options), asked.batch)
        self._cache_bytes = 0  # known from the probe
        self._ceilings_of: RunInfo | None = None  # the probe's

    def run(self, resume: bool) -> None:
        """All stages, each planned from those before it."""
        if (self._folder / RUN_FILE).exists():
            raise InputError(f"{self._folder} holds a run, which is no study: choose another folder")
        begun = (self._folder / PROBE / RUN_FILE).exists()
        new = not self._folder.exists()
        if begun and not resume:
            raise InputError(
                f"{self._folder} holds a study already: go on with it by --resume or choose another folder"
            )
        table = self._folder / TABLE_FILE
        content = _table([_resized(row, self._sizes(row)[0]) for row in self._rows])
        if resume:
            if stored_plan(self._folder) != self._asked:
                raise InputError(
                    f"{self._folder}: was started with other options: resume it with the same, or none"
                )
            if not table.is_file() or table.read_text(encoding="utf-8") != content:
                raise InputError(
                    f"{self._folder}: its problem table has changed since it was started: start a new study"
                )
        else:
            _write(
                self._folder / STUDY_FILE,
                msgspec.json.format(msgspec.json.encode(self._asked)).decode() + "\n",
            )
            _write(table, content)
        try:
            self._stages(table)
        except InputError:
            if not resume and not (self._folder / PROBE / RUN_FILE).exists():
                for path in (self._folder / STUDY_FILE, table):
                    path.unlink(missing_ok=True)
                if new and not any(self._folder.iterdir()):
                    self._folder.rmdir()
            raise

    def _stages(self, table: Path) -> None:
        budget = self._asked.options.time_budget
        base = msgspec.structs.replace(
            self._asked.options,
            problems=str(table),
            problem=(),
            where=(),
            algorithm=("all",),
            time_budget=None,
        )
        probe = self._probe(base, budget)
        self._ceilings_of = probe.info
        named = msgspec.structs.replace(base, algorithm=("auto",))  # plans of our own name their algorithms
        self._cache_bytes = int(probe.info.plan.get("last_level_cache_bytes") or 0)
        items = self._kernels(base, probe, None if budget is None else (1 - _PROBE_SHARE) * budget)
        study = gather(self._sweep(KERNELS, named, items))
        self._picks(named, study)
        if divisions := _numbered(self._divisions(study)):
            self._sweep(DIVISIONS, named, divisions)
        if self._asked.fills:
            fastest = _numbered(
                self._item(layer, batch, min(points, key=lambda point: point.time_s))
                for layer, batch, points in study.whole()
            )
            for number in range(max(self._asked.rounds, _FILL_ROUNDS)):
                for fill in FILLS[1:]:
                    filled = msgspec.structs.replace(named, fill=fill)
                    self._sweep(f"{FILLS_FOLDER}/{fill}-{number}", filled, fastest)

    def _probe(self, base: Options, budget: float | None) -> Run:
        if budget is None:
            return self._sweep(PROBE, base, None)
        share = max(1.0, _PROBE_SHARE * budget)
        try:
            return self._sweep(PROBE, msgspec.structs.replace(base, time_budget=share), None)
        except NothingFits as error:
            raise InputError(
                f"--time-budget {budget:g}: no layer fits; the shortest takes about "
                f"{round(error.shortest_s) / _PROBE_SHARE:.0f} s, from its first look to its divisions"
            ) from error

    def _picks(self, named: Options, study: Study) -> None:
        """What libraries choose, under no limit and then each one that a choice so far does not fit."""
        choosers = [
            Item(
                0,
                _resized(self._row(layer), batch),
                library,
                name,
                layer.precision,
                layer.pass_,
                layer.layout,
            )
            for layer, batch, points in study.whole()
            for library in dict.fromkeys(point.library for point in points)
            for name in CHOOSERS.get(library, ())
        ]
        needed = [math.inf] * len(choosers)  # bytes of workspace of the last choice
        for limit in (None, *sorted(set(self._asked.limits), reverse=True)):
            places = [place for place, size in enumerate(needed) if limit is None or size >= limit]
            if not places:
                continue
            allowed = msgspec.structs.replace(named, workspace_limit=None if limit is None else limit - 1)
            folder = f"{PICKS}/{'none' if limit is None else limit}"
            run = self._sweep(folder, allowed, _numbered(choosers[place] for place in places))
            for record in run.records():
                # What is not to be had under this limit is not to be had under a smaller one.
                needed[places[record.index]] = (record.workspace_bytes or 0) if usable(record) else -1

    def _sizes(self, row: Row) -> list[int]:
        """The batch sizes to measure, ascending, the row's own the last."""
        batch = _images(row)
        halved = [batch >> power for power in range(1, _HALVINGS + 1) if batch % (1 << power) == 0]
        return sorted({size for size in self._asked.sizes or halved if size < batch} | {batch})

    def _sweep(self, name: str, asked: Options, items: Sequence[Item] | None) -> Run:
        folder = self._folder / name
        resume = (folder / RUN_FILE).exists()
        with self._watched(name) as face:
            run = runner.sweep(
                asked,
                folder,
                resume=resume,
                command=self._command,
                face=face,
                items=items,
                ceilings_of=self._ceilings_of,
            )
        stored = [record.status for record in run.summaries()]
        if "interrupted" in stored or len(stored) < run.info.planned_records:
            raise Interrupted(f"{name}: {len(stored)} of {run.info.planned_records} records")
        return run

    def _kernels(self, base: Options, probe: Run, budget_s: float | None) -> list[Item]:
        """What is to be measured of the layers that fit into the budget."""
        layers: dict[Layer, list[Record]] = {}
        handling: dict[int, float] = {}
        for record, following in itertools.pairwise([*probe.records(), None]):
            if record is None or record.algorithm in CHOOSERS.get(record.library, ()):
                continue
            if usable(record):
                layers.setdefault(Layer.of(record), []).append(record)
                handling[record.index] = handling_s(record, following)
        listed = self._listed(base, layers)
        plans: dict[Layer, list[Item]] = {}
        costs: dict[Layer, float] = {}
        for layer, records in layers.items():
            sizes = self._sizes(self._row(layer))
            kept = worth(records, sizes[-1] / sizes[0], self._asked.limits)
            first = firsts(records, sizes[-1] / sizes[0], self._asked.limits)
            tried = [
                (size, record)
                for size in sizes
                for record in records
                if record in kept
                or (size == sizes[-1] and record in first)
                or record.algorithm in listed.get((layer, record.library, size), ())
            ]
            tried += [
                (size, one)
                for size in sizes
                for library in CHOOSERS
                for one in unprobed(records, library, listed.get((layer, library, size), ()))
            ]
            plans[layer] = [self._item(layer, size, record) for size, record in tried]
            costs[layer] = sum(
                self._cost_s(
                    record,
                    handling[record.index],
                    self._repeats(layer, size, record.library) * size / sizes[0],
                )
                for size, record in tried
            )
            if len(sizes) > 1:  # a division, its kernels and the undivided batch
                quickest = min(kept, key=lambda record: record.median_s or math.inf)
                whole = self._cost_s(quickest, handling[quickest.index], sizes[-1] / sizes[0])
                costs[layer] += 3 * self._asked.rounds * whole
        chosen = fitting(costs, budget_s, probe.info.seed or 0)
        if not chosen:
            least = f"; the shortest takes about {min(costs.values()):.0f} s more" if costs else ""
            raise InputError(f"no layer was measured, or none fits --time-budget{least}")
        return _numbered(item for layer in chosen for item in plans[layer])

    def _listed(
        self, base: Options, layers: Mapping[Layer, Sequence[Record]]
    ) -> dict[tuple[Layer, str, int], list[str]]:
        """The first algorithms that libraries of `CHOOSERS` list for each size above the smallest."""
        names = {record.library for records in layers.values() for record in records}
        asked = tuple(library for library in CHOOSERS if library in names)
        rows = [_resized(row, size) for row in map(self._row, layers) for size in self._sizes(row)[1:]]
        if not asked or not rows:
            return {}
        with self._watched("what is listed for each size") as face:
            items = runner.planned(msgspec.structs.replace(base, library=asked), distinct(rows), face)
        known = {(layer.columns, layer.pass_, layer.layout, layer.precision): layer for layer in layers}
        found: dict[tuple[Layer, str, int], list[str]] = {}
        for item in items:
            layer = known.get((columns_of(item.problem), item.pass_, item.layout, item.precision))
            if layer is not None and not is_choice(item.algorithm):
                key = (layer, item.library, int(item.problem["n"]))
                found.setdefault(key, []).append(item.algorithm)
        return {key: algorithms[:LISTED] for key, algorithms in found.items()}

    def _cost_s(self, record: Record, handling_s: float, growth: float) -> float:
        """Estimated seconds of the record's algorithm on a batch that is ``growth`` times as large."""
        execution = (record.median_s or 0.0) * growth
        limits = self._asked.options
        sampling = max(limits.min_time, min(30 * execution, limits.max_time), 8 * execution)
        return sampling + _WARMING * execution + _HANDLING_S + max(0.0, handling_s - _HANDLING_S) * growth

    def _divisions(self, study: Study) -> Iterator[Item]:
        """In rounds: the kernels of a division, the division, and the undivided batch."""
        for layer, batch, _ in study.whole():
            chosen, bases = to_measure(study, layer, self._asked.limits)
            for _ in range(self._asked.rounds):
                for division in chosen:
                    for size, point in dict.fromkeys(division.micro_batches):
                        yield self._item(layer, size, point)
                    yield self._item(layer, batch, division)
                for base in bases:
                    yield self._item(layer, batch, base)

    def _item(self, layer: Layer, size: int, what: Record | Point | Chosen) -> Item:
        """A kernel on ``size`` images, several in turn where one alone would find its operands in the cache."""
        repeats = self._repeats(layer, size, what.library)
        algorithm = what.algorithm if repeats == 1 else name_of([(what.algorithm, size)] * repeats)
        row = _resized(self._row(layer), repeats * size)
        return Item(0, row, what.library, algorithm, layer.precision, layer.pass_, layer.layout)

    def _repeats(self, layer: Layer, size: int, library: str) -> int:
        """Micro-batches that fill the last-level cache several times, or more images than the whole batch has.

        Never exactly the whole batch: that would be a division of it. One, where the library cannot divide a batch.
        """
        if not divides(library, layer.backend):
            return 1
        row = self._row(layer)
        traffic = kernels.kernel("conv").bytes_of
        case = Case(_resized(row, size).problem, PRECISIONS[layer.precision], layer.pass_, layer.layout)
        batch = _images(row)
        repeats = max(1, min(math.ceil(_CACHES * self._cache_bytes / traffic(case)), math.ceil(batch / size)))
        return repeats + (repeats > 1 and repeats * size == batch)

    def _row(self, layer: Layer) -> Row:
        """The layer's row, with its whole batch."""
        return next(row for row in self._rows if _without_n(row) == dict(layer.columns))


def _without_n(row: Row) -> dict[str, Scalar]:
    return {name: value for name, value in plan.columns(row).items() if name != "n"}


def _resized(row: Row, size: int) -> Row:
    problem = dataclasses.replace(row.problem, n=size)
    return dataclasses.replace(row, problem=problem)


def _images(row: Row) -> int:
    return int(plan.columns(row)["n"])


def _whole_batches(rows: Sequence[Row], batch: int | None) -> list[Row]:
    """Each layer once: with ``batch`` images, or the most that a row of it has."""
    layers: dict[tuple[Scalar, ...], Row] = {}
    for row in rows:
        sized = row if batch is None else _resized(row, batch)
        key = tuple(_without_n(row).values())
        if key not in layers or _images(sized) > _images(layers[key]):
            layers[key] = sized
    return list(layers.values())


def _table(rows: Sequence[Row]) -> str:
    labels = list(dict.fromkeys(name for row in rows for name in row.labels))
    text = io.StringIO()
    text.write("# Layers of a study, with the smallest micro-batch.\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*plan.columns(rows[0]), *labels])
    for row in rows:
        writer.writerow([*plan.columns(row).values(), *(row.labels.get(name, "") for name in labels)])
    return text.getvalue()


def _write(path: Path, content: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}): choose another folder") from error


def _numbered(items: Iterable[Item]) -> list[Item]:
    return [dataclasses.replace(item, index=place) for place, item in enumerate(items)]
