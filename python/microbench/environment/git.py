"""The git state of a directory, asked for first and collected later: git works while other things are read."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any


def project_tree() -> Path | None:
    """Return the git tree this package is run from; None where it is installed."""
    root = Path(__file__).resolve().parents[3]
    return root if (root / ".git").exists() else None


def start(directory: Path | None) -> subprocess.Popen[str] | None:
    """Start asking git about the tree around ``directory``; None where there is no git to ask."""
    if directory is None:
        return None
    options = ("--porcelain=v2", "--branch", "--untracked-files=no")
    try:
        return subprocess.Popen(
            ["git", "--no-optional-locks", "-C", directory, "status", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
    except OSError:
        return None


def state(process: subprocess.Popen[str] | None, timeout_s: float) -> dict[str, Any] | None:
    """Return the commit and whether tracked files differ from it; None outside a tree or where git is slow."""
    if process is None:
        return None
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None
    commit = re.search(r"^# branch\.oid ([0-9a-f]+)$", output, re.MULTILINE)
    changed = [line for line in output.splitlines() if not line.startswith("#")]
    return {"commit": commit[1], "dirty": bool(changed)} if commit and process.returncode == 0 else None
