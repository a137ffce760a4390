"""The device beside the samples: clocks, power, temperature, throttling and energy, read around every batch."""

from __future__ import annotations

import contextlib
import importlib
import statistics
import time
from collections.abc import Callable
from typing import Any, Protocol

from microbench.backends.watch import Times

# Clock event reasons (NVML) under which a time says more about the cooling or the supply than about the kernel.
# Power capping is not among them: large products on tensor cores run under it always.
DISTURBING = {
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
_POWER_CAP = 0x04
OTHER_REASONS = {
    0x01: "idle",
    0x02: "application clocks",
    _POWER_CAP: "software power cap",
    0x10: "sync boost",
    0x100: "display clocks",
}
# A clock under this share of the record's own steady one counts as disturbed; that needs a few readings. Other
# records say nothing about it: each kernel has the clock that its power allows.
_SLOW_CLOCK = 0.95
_STEADY_READINGS = 5
_REPEATS = 3
# Behind the blocking kernel there is room for about a thousand launches, and an execution may be two.
_QUEUED = 480
# Of runs shorter than this the energy counter says little: it moves in steps of some 20 to 100 ms.
_ENERGY_S = 0.5
# The counter counts pauses too: at least this share of the time must have been executions.
_BUSY = 0.9
_PEAK_REPETITIONS = 3
_PEAK_S = 0.001


def reasons_text(bits: int) -> list[str]:
    """The clock event reasons in words."""
    known = DISTURBING | OTHER_REASONS
    words = [word for bit, word in known.items() if bits & bit]
    rest = bits & ~sum(known)
    return words + ([f"reason {rest:#x}"] if rest else [])


Reading = tuple[float, dict[str, float]]
"""When, and what a sensor read then."""


class Sensor(Protocol):
    """What can be read of a device; values that it does not know are left out."""

    def read(self) -> dict[str, float]:
        """``sm_clock_hz memory_clock_hz power_w temperature_c reasons energy_j``."""
        ...


class Nvml:
    """A device through NVIDIA's management library."""

    def __init__(self, handle: Any, nvml: Any) -> None:
        self._handle = handle
        self._nvml = nvml

    @classmethod
    def open(cls, properties: dict[str, Any]) -> Nvml | None:
        """The device that CUDA calls so; None where nvidia-ml-py or the library is not there."""
        try:
            pynvml: Any = importlib.import_module("pynvml")
        except ImportError:
            return None
        try:
            pynvml.nvmlInit()
            try:
                handle = pynvml.nvmlDeviceGetHandleByUUID(properties["uuid"])
            except pynvml.NVMLError:  # a part of a device has another identity
                handle = pynvml.nvmlDeviceGetHandleByPciBusId(properties["pci_bus_id"])
        except pynvml.NVMLError:
            return None
        return cls(handle, pynvml)

    def settings(self) -> dict[str, str]:
        """What a figure depends on beside the device: the driver, limits and modes that somebody set."""
        nvml, handle = self._nvml, self._handle
        readings: dict[str, Callable[[], str]] = {
            "driver version": lambda: str(nvml.nvmlSystemGetDriverVersion()),
            "power limit": lambda: f"{1e-3 * nvml.nvmlDeviceGetEnforcedPowerLimit(handle):.0f} W",
            "highest SM clock": lambda: f"{nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM)} MHz",
            "application SM clock": lambda: (
                f"{nvml.nvmlDeviceGetApplicationsClock(handle, nvml.NVML_CLOCK_SM)} MHz"
            ),
            "MIG": lambda: "on" if nvml.nvmlDeviceGetMigMode(handle)[0] else "off",
        }
        said: dict[str, str] = {}
        for name, read in readings.items():
            with contextlib.suppress(nvml.NVMLError):
                said[name] = read()
        return said

    def _power_mw(self) -> int:
        """Of now where the device tells it (since Ampere), else the mean of the last second."""
        nvml = self._nvml
        (field,) = nvml.nvmlDeviceGetFieldValues(self._handle, [nvml.NVML_FI_DEV_POWER_INSTANT])
        if field.nvmlReturn == nvml.NVML_SUCCESS:
            return int(field.value.uiVal)
        return int(nvml.nvmlDeviceGetPowerUsage(self._handle))

    def read(self) -> dict[str, float]:
        nvml, handle = self._nvml, self._handle
        readings: dict[str, Callable[[], float]] = {
            "sm_clock_hz": lambda: 1e6 * nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
            "memory_clock_hz": lambda: 1e6 * nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
            "power_w": lambda: 1e-3 * self._power_mw(),
            "temperature_c": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
            "reasons": lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(handle),
            "energy_j": lambda: 1e-3 * nvml.nvmlDeviceGetTotalEnergyConsumption(handle),
        }
        values: dict[str, float] = {}
        for name, read in readings.items():
            with contextlib.suppress(nvml.NVMLError):  # not every device has every sensor
                values[name] = float(read())
        return values


class DeviceWatch:
    """Implements `microbench.backends.watch.Watch`.

    Args:
        module: offers ``sm_clock_hz`` (measured by a kernel) and ``compute_rates``.
    """

    max_executions: int | None = _QUEUED

    def __init__(self, module: Any, sensor: Sensor | None) -> None:
        self._module = module
        self._sensor = sensor
        self._clocks: list[float] = []
        self._last: Reading | None = None
        self._batches: list[dict[str, Any]] = []
        self._left_disturbed = 0
        self._energy_j = 0.0
        self._counted_s = 0.0
        self._executed_s = 0.0
        self._executions = 0

    _process_sensor: Nvml | None = None

    @classmethod
    def open(cls, module: Any) -> DeviceWatch:
        """The watch of one record on this process's device."""
        if cls._process_sensor is None:
            cls._process_sensor = Nvml.open(module.device_properties())
        return cls(module, cls._process_sensor)

    def peak(self) -> float:
        """Best fp32 rate of a few milliseconds, FLOP/s."""
        return float(max(self._module.compute_rates("fp32", _PEAK_REPETITIONS, _PEAK_S)))

    def batch(self, take: Callable[[], Times], executions: int) -> Times:
        """Takes a batch, up to three times more where the device was slowed down; keeps what it puts aside."""
        for _ in range(_REPEATS):
            times, disturbed = self._take(take, executions)
            if not disturbed:
                return times
            self._batches[-1]["samples_s"] = times.tolist()
        times, disturbed = self._take(take, executions)
        self._left_disturbed += bool(disturbed)
        return times

    def _take(self, take: Callable[[], Times], executions: int) -> tuple[Times, list[str]]:
        # Asking costs milliseconds: what was read after the last batch holds before this one.
        began, before = self._last or self._read()
        times = take()
        ended, after = self._read()
        clock: float = self._module.sm_clock_hz()
        disturbed = self._disturbances(before, after, clock)
        self._batches.append(
            {
                "samples": len(times),
                "before": before,
                "after": after,
                "measured_sm_clock_hz": clock,
                "disturbed": disturbed,
            }
        )
        self._clocks.append(clock)
        self._last = None if disturbed else (ended, after)
        if "energy_j" in before and "energy_j" in after:
            self._energy_j += after["energy_j"] - before["energy_j"]
            self._counted_s += ended - began
            self._executed_s += float(times.sum()) * executions
            self._executions += len(times) * executions
        return times, disturbed

    def _read(self) -> Reading:
        return time.perf_counter(), {} if self._sensor is None else self._sensor.read()

    def _disturbances(self, before: dict[str, float], after: dict[str, float], clock: float) -> list[str]:
        bits = int(before.get("reasons", 0)) | int(after.get("reasons", 0))
        found = [word for bit, word in DISTURBING.items() if bits & bit]
        if len(self._clocks) >= _STEADY_READINGS and not bits & _POWER_CAP:
            steady = statistics.median(self._clocks)
            if clock < _SLOW_CLOCK * steady:
                found.append(
                    f"SM clock {clock / 1e6:.0f} MHz, {steady / 1e6:.0f} MHz is this record's steady one"
                )
        return found

    def facts(self) -> dict[str, Any]:
        """The batches; energy per execution where executions filled the time in which it was counted."""
        facts: dict[str, Any] = {"device_batches": self._batches}
        if self._counted_s >= _ENERGY_S and self._executed_s >= _BUSY * self._counted_s:
            facts["energy_per_execution_j"] = self._energy_j / self._executions
        return facts

    def warnings(self) -> list[str]:
        """Whether samples of slowed-down batches are among those of the record."""
        warnings = []
        if self._sensor is None:
            warnings.append("clocks, power and throttling were not watched: install nvidia-ml-py")
        if self._left_disturbed:
            causes = sorted({cause for batch in self._batches for cause in batch["disturbed"]})
            warnings.append(
                f"{self._left_disturbed} batches were taken while the device was slowed down ({'; '.join(causes)}), "
                f"also when repeated {_REPEATS} times: the times are too long"
            )
        return warnings
