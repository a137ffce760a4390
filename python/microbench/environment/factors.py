"""In which factors two captured environments differ."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

# What differs from one moment, or one command, to the next on an unchanged set-up. A node's memory grows while
# Linux is still initialising it; the total does not.
_VOLATILE = re.compile(
    r"(time|command|load|git\.current_directory)\b.*"
    r"|clock\.(current_mhz|cpuinfo_mhz|temperature_c)"
    r"|memory\.(available_bytes|swap_used_bytes)"
    r"|numa\.node[0-9]+\.memory_bytes"
)


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (path, value in ``a``, value in ``b``) for every factor in which two environments differ.

    Paths are dotted (``clock.governor``, ``caches[2].size_bytes``), in the order of ``a``. What is missing is
    None. Of two lists of words, such as flags, only the words that the other lacks are given. Time, load,
    current clocks and free memory are left out, as are the command and the git state of the current directory:
    they say what was run, not on what.
    """
    left, right = dict(_flat("", a)), dict(_flat("", b))
    found = []
    for path in [*left, *(path for path in right if path not in left)]:
        before, after = left.get(path), right.get(path)
        if before != after and not _VOLATILE.fullmatch(path):
            if _words(before) and _words(after) and sorted(before) != sorted(after):
                before, after = _without(before, after), _without(after, before)
            found.append((path, before, after))
    return found


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _flat(f"{path}.{name}" if path else name, item)
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value):
            yield from _flat(f"{path}[{number}]", item)
    else:
        yield path, value


def _words(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _without(words: list[str], others: list[str]) -> list[str]:
    return [word for word in words if word not in others]
