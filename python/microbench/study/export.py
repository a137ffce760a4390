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
from microbench.study.layers import Layer, Study
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
    ``desirable`` has for each layer all divisions that none beats in time and workspace at once, the fastest first;
    its times are those that decide, measured or scaled as `divisions.options` says.
    Under a total ``networks`` has the sums, one for each setting, with the layers that are missing.
    """
    measured = {(one.layer, one.library, one.algorithm): one.measured_s for one in outcomes(study)}

    def entry(chosen: Chosen, limit: int | None, repeats: int) -> dict[str, Any]:
        whole = chosen.micro_batches[0][1].time_s if not chosen.divided else None
        layer = chosen.layer
        return {
            **_described(study, layer),
            "repeats": repeats,
            "workspace_limit_bytes": limit,
            "library": chosen.library,
            "library_version": study.libraries.get(chosen.library, {}).get("version"),
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

    def desirable(layer: Layer) -> dict[str, Any]:
        return {
            **_described(study, layer),
            "divisions": [
                {
                    "library": one.library,
                    "algorithm": one.algorithm,
                    "workspace_bytes": one.workspace_bytes,
                    "time_s": one.time_s,
                    "measured": bool(one.rounds_s) or (not one.divided and one.time_s == one.predicted_s),
                }
                for one in options(study, layer, policy, max_error)
            ],
        }

    entries = []
    networks = [] if total is None else shares(study, [total], policy, max_error)
    if total is not None:
        for shared in networks:
            if shared.choices is None:
                raise InputError(
                    f"--total-workspace {total}: too little workspace for all layers in {shared.setting}; give more"
                )
            entries += [entry(chosen, None, count) for chosen, count in shared.choices]
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
        "unfinished": list(study.unfinished),
        "missing_layers": study.missing(study.points),
        "networks": [
            {
                "setting": shared.setting,
                "layers": shared.layers,
                "missing_layers": shared.missing,
                "time_s": shared.time_s,
                "workspace_bytes": shared.used_bytes,
            }
            for shared in networks
        ],
        "configurations": entries,
        "desirable": [desirable(layer) for layer in study.points],
    }


def _described(study: Study, layer: Layer) -> dict[str, Any]:
    return {
        "layer": study.labels[layer].get("layer", ""),
        "problem": {**dict(layer.columns), "n": max(study.points[layer])},
        "pass": layer.pass_,
        "layout": layer.layout,
        "precision": layer.precision,
        "backend": layer.backend,
        "mode": layer.mode,
        "threads": layer.threads,
    }


def write(path: str | Path, content: dict[str, Any]) -> None:
    """Writes `configurations` to a file. Raises InputError where that cannot be written."""
    try:
        Path(path).write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
    except OSError as error:
        raise InputError(
            f"--export {path}: cannot be written ({error.strerror}): choose another file"
        ) from error
