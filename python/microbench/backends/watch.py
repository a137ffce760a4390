"""What looks at a device while it is measured, and sees to batches that were disturbed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]


class Watch(Protocol):
    """One record's; the worker makes it before the first sample.

    Attributes:
        max_executions: of which a sample may be the mean; None for any number.
    """

    max_executions: int | None

    def peak(self) -> float:
        """Best fp32 rate of a few milliseconds, FLOP/s: shows a slow minute as such."""
        ...

    def batch(self, take: Callable[[], Times], executions: int) -> Times:
        """Takes a batch of samples, each the mean of so many executions, again where it was disturbed; what it kept
        back is in `facts`."""
        ...

    def facts(self) -> dict[str, Any]:
        """For the record's ``facts``."""
        ...

    def warnings(self) -> list[str]:
        """What a reader of the number should know, a sentence each."""
        ...
