"""The chosen configuration of each layer as JSON, for others to use."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from microbench import __version__
from microbench.errors import InputError
from microbench.study.divisions import Chosen, best_under, options, outcomes
from microbench.study.layers import Study
from microbench.study.networks import shares

SCHEMA_VERSION = 1


def configurations(
    study: Study,
    limits: Sequence[int | None],
    total: int | None = None,
    policy: str = "all",
    max_error: float | None = None,
) -> dict[str, Any]:
    """The fastest configuration of each layer under each limit (None: no limit), or of all under one ``total``.

    What is the fastest is decided by the times that `divisions.options` describes: a division that was measured slower
    than the undivided batch beside it is not chosen.

    Times in seconds, sizes in bytes; workspaces are strictly below a limit, and together at most the total.
    ``algorithm`` is what ``conv --algorithm`` takes. ``measured_s`` is null where only the parts were measured.
    """
    measured = {(one.layer, one.library, one.algorithm): one.measured_s for one in outcomes(study)}

    def entry(chosen: Chosen, limit: int | None, repeats: int) -> dict[str, Any]:
        whole = chosen.micro_batches[0][1].time_s if not chosen.divided else None
        layer = chosen.layer
        return {
            "layer": study.labels[layer].get("layer", ""),
            "repeats": repeats,
            "problem": {**dict(layer.columns), "n": chosen.batch},
            "pass": layer.pass_,
            "layout": layer.layout,
            "precision": layer.precision,
            "backend": layer.backend,
            "threads": layer.threads,
            "workspace_limit_bytes": limit,
            "library": chosen.library,
            "algorithm": chosen.algorithm,
            "micro_batches": [
                {"count": len(list(group)), "images": size, "algorithm": algorithm}
                for (size, algorithm), group in groupby(
                    (size, point.algorithm) for size, point in chosen.micro_batches
                )
            ],
            "workspace_bytes": chosen.workspace_bytes,
            "predicted_s": chosen.predicted_s,
            "measured_s": statistics.median(chosen.rounds_s)
            if chosen.rounds_s
            else measured.get((layer, chosen.library, chosen.algorithm), whole),
        }

    entries = []
    if total is not None:
        (shared,) = shares(study, [total], policy, max_error)
        if shared.choices is None:
            raise InputError(f"--total-workspace {total}: too little workspace for all layers; give more")
        entries = [entry(chosen, None, count) for chosen, count in shared.choices]
    else:
        bounds = [math.inf if limit is None else limit for limit in limits]
        for layer in study.points:
            candidates = options(study, layer, policy, max_error)
            for limit, bound in zip(limits, bounds, strict=True):
                if chosen := best_under(candidates, bound):
                    entries.append(entry(chosen, limit, study.count(layer)))
    return {
        "schema_version": SCHEMA_VERSION,
        "microbench_version": __version__,
        "policy": policy,
        "max_error": max_error,
        "total_workspace_bytes": total,
        "configurations": entries,
    }


def write(path: str | Path, content: dict[str, Any]) -> None:
    """Writes `configurations` to a file. Raises InputError where that cannot be written."""
    try:
        Path(path).write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
    except OSError as error:
        raise InputError(
            f"--export {path}: cannot be written ({error.strerror}): choose another file"
        ) from error
