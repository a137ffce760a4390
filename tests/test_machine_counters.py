"""Counters of memory traffic and energy: a made-up tree of the kernel's, its bits, refusals, and one real counter."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from microbench.backends.cpu_watch import ProcessorWatch
from microbench.backends.machine_counters import Event, MachineCounters, open_event, read_count

MEMORY = {
    "cas_count_read": ("event=0x04,umask=0x03", "6.103515625e-5", "MiB"),
    "cas_count_write": ("event=0x04,umask=0x0c", "6.103515625e-5", "MiB"),
}
ENERGY = {"energy-pkg": ("event=0x02", "2.3283064365386962890625e-10", "Joules")}


def unit(folder: Path, number: int, events: dict[str, tuple[str, str, str]], cpus: str = "0") -> None:
    (folder / "events").mkdir(parents=True)
    (folder / "format").mkdir()
    (folder / "type").write_text(f"{number}\n")
    (folder / "cpumask").write_text(f"{cpus}\n")
    (folder / "format/event").write_text("config:0-7,21\n")
    (folder / "format/umask").write_text("config:8-15\n")
    for name, (code, scale, what) in events.items():
        (folder / f"events/{name}").write_text(f"{code}\n")
        (folder / f"events/{name}.scale").write_text(f"{scale}\n")
        (folder / f"events/{name}.unit").write_text(f"{what}\n")


class Kernel:
    """Opens files that hold what each reading gives: the events' numbers times the place of the reading."""

    def __init__(self, folder: Path, refused: int = -1) -> None:
        self.opened: list[tuple[Event, int]] = []
        self._folder = folder
        self._refused = refused

    def __call__(self, event: Event, cpu: int) -> int:
        if event.unit == self._refused:
            raise PermissionError("not allowed")
        path = self._folder / f"counter{len(self.opened)}"
        # Half of the time another event had the unit.
        path.write_bytes(b"".join(struct.pack("=QQQ", 1000 * reading, 20, 10) for reading in range(1, 50)))
        self.opened.append((event, cpu))
        return os.open(path, os.O_RDONLY)


def test_bytes_and_joules_are_summed_over_units(tmp_path: Path) -> None:
    sources = tmp_path / "devices"
    unit(sources / "uncore_imc_0", 20, MEMORY, "0,8")
    unit(sources / "uncore_imc_1", 21, MEMORY, "0,8")
    unit(sources / "uncore_imc_other", 22, MEMORY)
    unit(sources / "power", 30, ENERGY)
    kernel = Kernel(tmp_path)
    counters = MachineCounters.open(sources, kernel)
    assert {(event.unit, cpu) for event, cpu in kernel.opened} == {
        (20, 0),
        (20, 8),
        (21, 0),
        (21, 8),
        (30, 0),
    }
    assert {event.configs[0] for event, _ in kernel.opened} == {0x0304, 0x0C04, 0x02}
    first, second = counters.read(), counters.read()
    # 64 bytes for each count, 2 events of 2 units on 2 packages, twice what was counted in half of the time.
    assert second["memory_bytes"] - first["memory_bytes"] == pytest.approx(64 * 8 * 2000)
    assert second["energy_j"] - first["energy_j"] == pytest.approx(2000 / 2**32)
    counters.close()
    assert counters.read() == {}


def test_bits_go_where_the_unit_says(tmp_path: Path) -> None:
    unit(tmp_path / "devices/power", 30, {"energy-pkg": ("event=0x1ff,umask=1", "1", "Joules")})
    kernel = Kernel(tmp_path)
    MachineCounters.open(tmp_path / "devices", kernel).close()
    ((event, _),) = kernel.opened
    assert event.configs == (0xFF | 1 << 21 | 1 << 8, 0, 0)


@pytest.mark.parametrize(
    "broken", ["events/cas_count_write", "events/cas_count_read.unit", "cpumask", "type"]
)
def test_what_is_not_whole_gives_no_figure(tmp_path: Path, broken: str) -> None:
    unit(tmp_path / "devices/uncore_imc", 20, MEMORY)
    (tmp_path / "devices/uncore_imc" / broken).unlink()
    assert MachineCounters.open(tmp_path / "devices", Kernel(tmp_path)).read() == {}


def test_one_refusal_takes_the_quantity_away(tmp_path: Path) -> None:
    for number in (20, 21):
        unit(tmp_path / f"devices/uncore_imc_{number}", number, MEMORY)
    unit(tmp_path / "devices/power", 30, ENERGY)
    counters = MachineCounters.open(tmp_path / "devices", Kernel(tmp_path, refused=21))
    assert set(counters.read()) == {"energy_j"}
    counters.close()


def test_the_kernel_counts() -> None:
    software, cpu_clock = 1, 0
    try:
        descriptor = open_event(Event(software, (cpu_clock, 0, 0), (0,), 1.0), 0)
    except OSError as error:
        pytest.skip(f"perf_event_open is refused here: {error}")
    first = read_count(descriptor)
    time.sleep(0.01)
    assert read_count(descriptor) > first
    os.close(descriptor)


def test_a_unit_that_is_not_there_is_refused() -> None:
    with pytest.raises(OSError, match=r".+"):
        open_event(Event(1 << 30, (0, 0, 0), (0,), 1.0), 0)


class _Rising(MachineCounters):
    def __init__(self) -> None:
        super().__init__({})
        self._readings = 0

    def read(self) -> dict[str, float]:
        self._readings += 1
        return {"memory_bytes": 6e6 * self._readings}


def test_the_watch_divides_by_executions() -> None:
    watch, longer = ProcessorWatch(1, _Rising()), ProcessorWatch(1, _Rising())
    for _ in range(3):
        watch.batch(lambda: np.full(10, 1e-3), 1)
    assert watch.facts() == {}  # 30 ms are too short
    for executions in (1, 5, 5):  # how many a sample is the mean of is found out by samples of one
        longer.batch(lambda: np.full(10, 1e-3), executions)
    assert longer.facts() == {"memory_bytes_per_execution": pytest.approx(3 * 6e6 / 110)}
    silent = ProcessorWatch(1, None)
    silent.batch(lambda: np.ones(10), 1)
    assert silent.facts() == {}
