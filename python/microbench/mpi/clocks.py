"""The clocks of all ranks brought to rank 0's: offset and drift from estimates before and after a measurement.

Ranks that run on one system share its monotonic clock: nothing needs to be estimated between them, which is better than
any estimate. Of all others the offset is that of the quickest of many exchanges with rank 0 (half its duration is the
uncertainty), and the drift that of a line through the estimates (Hunold & Carpen-Amarie 2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Estimates closer together than this say nothing of the drift: it is less than their uncertainty.
_SHORTEST_BASE_S = 0.05


@dataclass(frozen=True)
class Alignment:
    """time on rank 0 = local + offset_s + drift * (local - reference_s); ``uncertainty_s`` is known to be the most."""

    offset_s: float = 0.0
    drift: float = 0.0
    reference_s: float = 0.0
    uncertainty_s: float = 0.0

    def to_common(self, local_s: np.ndarray) -> np.ndarray:
        """Local times of this rank on rank 0's clock."""
        return local_s + self.offset_s + self.drift * (local_s - self.reference_s)


SHARED = Alignment()
"""That of a rank that reads the same clock as rank 0."""

Estimate = tuple[float, float, float]
"""Local time, offset and duration of an exchange, in seconds."""


def aligned(estimates: Sequence[Estimate]) -> Alignment:
    """The line through estimates of one rank, in the order taken; without drift where they are close together."""
    local, offset, duration = np.array(estimates, dtype=np.float64).T
    reference = float(local.mean())
    uncertainty = float(duration.max()) / 2
    if float(np.ptp(local)) < _SHORTEST_BASE_S:
        quickest = int(duration.argmin())
        return Alignment(float(offset[quickest]), 0.0, float(local[quickest]), float(duration[quickest]) / 2)
    drift, at_reference = np.polyfit(local - reference, offset, 1)
    return Alignment(float(at_reference), float(drift), reference, uncertainty)
