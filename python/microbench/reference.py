"""Where a reference is computed: on the device, in float64 through CuPy, where that is worth it; else on the host.

Both run the same checks of `microbench.kernels`: their arrays know which library computes with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from microbench.problem import Case, Kernel, Operands
    from microbench.verification import Check

# Copying operands, some dozens of launches and giving the memory back take about 5 ms on a device: a processor does
# so many operations in float64 meanwhile.
_WORTH_FLOPS = 2.5e8
# A step of a recurrence is some twenty launches one after another, 0.2 ms. Its random numbers are the host's there too.
_WORTH_FLOPS_A_STEP = 1e7

ON_THE_HOST = "references were computed on the host"


def worth_a_device(kernel: Kernel, case: Case) -> bool:
    """Whether the device may make the reference, and is likely to be faster.

    It may not for fp64: products in float64 would be judged by products in float64 of the same libraries.
    """
    if case.precision.compute == "float64":
        return False
    flops, steps = kernel.flops_of(case), getattr(case.problem, "time_steps", None)
    return flops >= _WORTH_FLOPS and (steps is None or flops / steps >= _WORTH_FLOPS_A_STEP)


def failed(error: Exception) -> str:
    """What a reader of results should know where CuPy failed."""
    lines = [line for line in str(error).splitlines() if any(map(str.isalnum, line))]
    return f"{ON_THE_HOST}: CuPy cannot be used: {type(error).__name__}: {lines[0] if lines else ''}"


class Judge:
    """Checks one case's results.

    Args:
        device_arrays: the backend's: returns CuPy, or None, and what a reader should know of that; None for a backend
            without device.

    Attributes:
        place: where the references were made: "device", or "host" where even one was made there.
        warning: why the host had to do it though CuPy is installed, "" mostly.
    """

    def __init__(
        self, kernel: Kernel, case: Case, device_arrays: Callable[[], tuple[Any, str]] | None
    ) -> None:
        self._kernel = kernel
        self._case = case
        self._cupy, self.warning = None, ""
        if device_arrays is not None and worth_a_device(kernel, case):
            self._cupy, self.warning = device_arrays()
        self.place = "host" if self._cupy is None else "device"

    def check(self, operands: Operands, exact: bool) -> Check:
        """The verdict; the host finds it where the device's memory does not suffice, or CuPy fails."""
        if self._cupy is not None and (found := self._on_device(operands, exact)) is not None:
            return found
        self.place = "host"
        return self._kernel.check(self._case, operands, exact)

    def _on_device(self, operands: Operands, exact: bool) -> Check | None:
        cupy: Any = self._cupy
        # A pool of its own: a plug-in may keep memory in CuPy's.
        pool = cupy.cuda.MemoryPool()
        try:
            with cupy.cuda.using_allocator(pool.malloc):
                return self._check_copies(operands, exact)
        except cupy.cuda.memory.OutOfMemoryError:
            return None
        except Exception as error:  # a library's, the driver's, the compiler's: no fault of what is measured
            self.warning = failed(error)
            return None
        finally:
            pool.free_all_blocks()  # what is timed next has the device for itself
            cupy.get_default_pinned_memory_pool().free_all_blocks()

    def _check_copies(self, operands: Operands, exact: bool) -> Check:
        copies = {name: _copy(self._cupy, memory) for name, memory in operands.items()}
        return self._kernel.check(self._case, copies, exact)


def _copy(cupy: Any, memory: NDArray[np.generic]) -> Any:
    copy = cupy.empty(memory.nbytes, np.uint8)
    copy.set(memory.view(np.uint8))
    return copy
