"""Which of the algorithms probed, and of the layers, a study measures."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from datetime import datetime

import msgspec

from microbench.record import Record
from microbench.study.layers import Layer

# An algorithm does not pay where another one of the library is so much faster, no less accurate, and needs no more
# workspace at any size.
_FASTER = 1.5
_ACCURATE = 1.5
# Choices of a library that the order of its algorithms does not tell, and that may change with the limit.
CHOOSERS = {"cudnn": ("heuristic_a", "heuristic_b", "heuristic_fallback", "find")}
# Their algorithms' knobs, and with them the names, depend on the batch: of what they list for one so many are measured
# on it, whether or not they paid, or were there, in the probe.
LISTED = 10


def handling_s(record: Record, following: Record | None) -> float:
    """Seconds that a record took beside its sampling, verification above all."""
    spent = record.measuring_s or 0.0
    if following is None or record.started_at is None or following.started_at is None:
        return spent
    begun, ended = (datetime.fromisoformat(one.started_at or "") for one in (record, following))
    return max(0.0, (ended - begun).total_seconds() - spent)


def worth(records: Sequence[Record], growth: float, limits: Sequence[int]) -> list[Record]:
    """The records of algorithms that may pay on larger batches.

    One does not where another algorithm of its library is much faster and no less accurate, and needs the same
    workspace, or no more, or less than any limit, even if that grows with the batch by ``growth``. The library's first
    choice stays.
    """
    firsts = {record.library: record for record in reversed(records)}
    least_limit = min(limits, default=0)

    def beats(other: Record, record: Record) -> bool:
        least, needed = other.workspace_bytes or 0, record.workspace_bytes or 0
        return (
            other.library == record.library
            and (other.median_s or math.inf) * _FASTER < (record.median_s or 0.0)
            and (other.frobenius_error or 0.0) <= _ACCURATE * (record.frobenius_error or 0.0)
            and (least == needed or least * growth <= needed or least * growth < least_limit)
        )

    return [
        record
        for record in records
        if record is firsts[record.library] or not any(beats(other, record) for other in records)
    ]


def firsts(records: Sequence[Record], growth: float, limits: Sequence[int]) -> list[Record]:
    """The records of algorithms that may be the first of their library to fit a limit on larger batches.

    In the library's order up to the one that fits every limit even if its workspace grows with the batch.
    """
    found: list[Record] = []
    settled: set[str] = set(CHOOSERS)  # their choices are measured as such
    for record in records:
        needed = record.workspace_bytes or 0
        if record.library not in settled and needed < max(limits, default=0):
            found.append(record)
        if needed * growth < min(limits, default=0):
            settled.add(record.library)
    return found


def unprobed(records: Sequence[Record], library: str, listed: Sequence[str]) -> list[Record]:
    """Stand-ins for the library's algorithms that are listed but not among the records: estimated as its quickest."""
    own = [record for record in records if record.library == library]
    if not own:
        return []
    quickest = min(own, key=lambda record: record.median_s or math.inf)
    known = {record.algorithm for record in own}
    return [msgspec.structs.replace(quickest, algorithm=name) for name in listed if name not in known]


def fitting(costs: dict[Layer, float], budget_s: float | None, seed: int) -> list[Layer]:
    """Layers in random order as long as what they cost fits; in their own order without a budget."""
    if budget_s is None:
        return list(costs)
    shuffled = list(costs)
    random.Random(f"{seed}/study").shuffle(shuffled)
    chosen = []
    for layer in shuffled:
        if costs[layer] <= budget_s:
            chosen.append(layer)
            budget_s -= costs[layer]
    return chosen
