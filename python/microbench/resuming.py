"""Whether a stored run may go on here and now: half of it on another machine would be two runs in one folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from microbench import environment
from microbench.errors import InputError
from microbench.store import RunWriter


def check_resumable(
    writer: RunWriter, options: Mapping[str, Any], fingerprint: str, here: Mapping[str, Any]
) -> None:
    """Holds a run against the options (as JSON has them), the plan and the environment it is to go on with.

    Raises InputError where one differs.
    """
    check_options(writer.folder, options, writer.info.options)
    if writer.info.plan.get("fingerprint") != fingerprint:
        raise InputError(
            f"{writer.folder}: was started with another plan (its problem table, or what the libraries offer, has "
            "changed): start a new run"
        )
    changed = environment.differences(writer.info.environment, here)
    if changed:
        names = ", ".join(path for path, _, _ in changed[:5])
        raise InputError(f"{writer.folder}: was started on another set-up ({names}): start a new run")


def check_options(folder: Path, options: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Holds options, all or some, against those that the run in ``folder`` was started with.

    Raises InputError where one differs.
    """
    for name, value in options.items():
        if before.get(name) != (list(value) if isinstance(value, tuple) else value):
            option = "--" + name.replace("_", "-")
            raise InputError(
                f"{folder}: was started with {option} {_said(before.get(name))}, not {_said(value)}: resume it with "
                "the same options, or none"
            )


def _said(value: object) -> str:
    if value is None or value in ((), []):
        return "left out"
    return " ".join(str(part) for part in value) if isinstance(value, list | tuple) else str(value)
