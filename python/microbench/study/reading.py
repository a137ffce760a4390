"""Reads stored runs into a `Study`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from microbench import plan
from microbench.errors import InputError
from microbench.options import Options
from microbench.record import Record
from microbench.store import RUN_FILE, Run
from microbench.study.divisions import to_measure
from microbench.study.layers import (
    DIVISIONS,
    FILLS,
    KERNELS,
    PICKS,
    PROBE,
    STUDY_FILE,
    TABLE_FILE,
    Columns,
    Layer,
    Pick,
    Point,
    Probed,
    Study,
    columns_of,
    is_choice,
    kernel_of,
    point_of,
    usable,
)
from microbench.tables import Row, load_problems


def load(folder: str | Path) -> Study:
    """The study of a run, or of a folder with the runs that `study.measure` made.

    Raises:
        InputError: there is no run, or one is not of convolution.
    """
    folder = Path(folder)
    if (folder / RUN_FILE).is_file():
        run = Run.load(folder)
        return dataclasses.replace(
            gather(run), unfinished=_unfinished(run, f"conv --resume --output {folder}")
        )
    more = f"study {folder} --resume"
    if not (folder / KERNELS / RUN_FILE).is_file():
        if (folder / STUDY_FILE).is_file():
            raise InputError(
                f"{folder}: the study was stopped before its kernels were measured: go on with {more}"
            )
        raise InputError(f"{folder} holds no run: give a run of conv, or the folder of a study")

    def run_of(name: str) -> Run | None:
        return Run.load(folder / name) if (folder / name / RUN_FILE).is_file() else None

    def runs_of(name: str) -> list[Run]:
        return [Run.load(path.parent) for path in sorted((folder / name).glob(f"*/{RUN_FILE}"))]

    kernels, divisions = Run.load(folder / KERNELS), run_of(DIVISIONS)
    picks, fills = runs_of(PICKS), runs_of(FILLS)
    table = folder / TABLE_FILE
    found = gather(kernels, divisions, fills, picks, run_of(PROBE))
    unfinished = [
        text
        for run in (kernels, *picks, *([divisions] if divisions else []), *fills)
        for text in _unfinished(run, more)
    ]
    if not unfinished and divisions is None and (folder / STUDY_FILE).is_file():
        limits = msgspec.json.decode((folder / STUDY_FILE).read_bytes(), type=_Asked).limits
        if any(to_measure(found, layer, limits)[0] for layer in found.points):
            unfinished.append(f"{folder}: divisions were chosen and none is measured yet: go on with {more}.")
    return dataclasses.replace(
        found,
        asked=_asked(load_problems("conv", str(table))) if table.is_file() else (),
        unfinished=tuple(unfinished),
    )


class _Asked(msgspec.Struct):
    """What is needed here of what a study was asked for."""

    limits: tuple[int, ...] = ()


def _unfinished(run: Run, more: str) -> tuple[str, ...]:
    measured = sum(record.status != "interrupted" for record in run.summaries())
    if measured >= run.info.planned_records:
        return ()
    return (
        f"{run.folder}: {measured} of {run.info.planned_records} records measured, so nothing here is final: go on "
        f"with {more}.",
    )


def _asked(rows: Iterable[Row]) -> tuple[tuple[Columns, dict[str, str]], ...]:
    return tuple((columns_of(dataclasses.asdict(row.problem)), dict(row.labels)) for row in rows)


def gather(
    kernels: Run,
    divisions: Run | None = None,
    fills: Sequence[Run] = (),
    picks: Sequence[Run] = (),
    probe: Run | None = None,
) -> Study:
    """The study of these runs. Raises InputError where one is not of convolution."""
    for run in (kernels, *([divisions] if divisions else []), *fills, *picks, *([probe] if probe else [])):
        if run.info.kernel != "conv":
            raise InputError(f"{run.folder} is a run of {run.info.kernel}: the study is of conv")
    found: dict[tuple[Layer, int, str, str], list[Record]] = {}
    labels: dict[Layer, dict[str, str]] = {}
    for record in kernels.records():
        layer = Layer.of(record)
        labels.setdefault(layer, record.labels)
        if usable(record) and (kernel := kernel_of(record)):
            found.setdefault((layer, kernel.size, record.library, kernel.algorithm), []).append(record)
    named = {(*key[:3], is_choice(key[3])) for key in found}
    points: dict[Layer, dict[int, tuple[Point, ...]]] = {}
    for (layer, batch, library, algorithm), records in sorted(found.items(), key=lambda item: item[0][1]):
        if is_choice(algorithm) and (layer, batch, library, False) in named:
            continue
        sizes = points.setdefault(layer, {})
        sizes[batch] = (*sizes.get(batch, ()), point_of(records))
    memory = kernels.info.ceilings.get("memory_bytes_per_s", {})
    adding = memory.get("triad") or memory.get("copy") or {}  # of a GPU there is no triad
    return Study(
        points,
        labels,
        divisions,
        tuple(fills),
        adding.get("best"),
        int(kernels.info.plan.get("last_level_cache_bytes") or 0),
        _picks([kernels, *picks]),
        _probed(probe, points, kernels) if probe else {},
        tuple(kernels.info.options.get("algorithm") or ()) == ("all",),
        _asked_of(kernels),
        kernels.info.environment.get("libraries") or {},
    )


def _asked_of(run: Run) -> tuple[tuple[Columns, dict[str, str]], ...] | None:
    """The layers that a run was asked for: of its records where all are there, else of its table; None: unknown."""
    heads = list(run.summaries())
    if not run.info.plan.get("left_out") and len(heads) >= run.info.planned_records:
        return tuple({columns_of(head.problem): head.labels for head in heads}.items())
    options = run.info.options
    try:
        named = {name: options[name] for name in ("kernel", "problems", "problem", "where")}
        return _asked(plan.problems(Options.of(named)))
    except (KeyError, InputError):  # the table is not where it was
        return None


def _picks(runs: Iterable[Run]) -> dict[tuple[Layer, int], tuple[Pick, ...]]:
    """What was measured by the names of choices, for several processes together."""
    groups: dict[tuple[Layer, int, str, str, float], list[Record]] = {}
    for run in runs:
        limit = run.info.options.get("workspace_limit")
        for record in run.records():
            if is_choice(record.algorithm):
                key = (record.library, record.algorithm, math.inf if limit is None else float(limit))
                groups.setdefault((Layer.of(record), int(record.problem["n"]), *key), []).append(record)
    found: dict[tuple[Layer, int], tuple[Pick, ...]] = {}
    for (layer, batch, library, chooser, allowed), records in groups.items():
        good = [record for record in records if usable(record)]
        refused = all(record.status in ("unsupported", "workspace_exceeded") for record in records)
        pick = Pick(library, chooser, allowed, point_of(good) if good else None, refused)
        found[layer, batch] = (*found.get((layer, batch), ()), pick)
    return found


def _probed(
    probe: Run, points: dict[Layer, dict[int, tuple[Point, ...]]], kernels: Run
) -> dict[tuple[Layer, str], tuple[Probed, ...]]:
    whole = {
        (Layer.of(record), record.library, record.algorithm)
        for record in kernels.records()
        if int(record.problem["n"]) == max(points.get(Layer.of(record), (0,)))
    }
    found: dict[tuple[Layer, str], tuple[Probed, ...]] = {}
    for record in sorted(probe.records(), key=lambda record: record.index):
        if usable(record):
            key = (Layer.of(record), record.library)
            one = Probed(record.algorithm, record.workspace_bytes or 0, (*key, record.algorithm) in whole)
            found[key] = (*found.get(key, ()), one)
    return found
