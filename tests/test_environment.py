"""What is said of a machine: captured, compared, described and warned about."""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures import machines
from microbench import environment
from microbench.environment import Counters, git
from microbench.environment.reading import PACKAGES
from microbench.environment.text import size_text

# How long examples take says nothing on a machine that does other work.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def here() -> dict[str, Any]:
    return environment.capture(["microbench", "gemm"])


@pytest.fixture
def xeon(tmp_path: Path) -> dict[str, Any]:
    return environment.capture([], range(16), machines.build(tmp_path, machines.xeon()))


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from leaves(item)
    else:
        yield value


def said(captured: dict[str, Any], start: str) -> list[str]:
    return [sentence for sentence in environment.warnings(captured) if sentence.startswith(start)]


# Capturing


def test_this_machine_goes_into_json_and_back(here: dict[str, Any]) -> None:
    assert msgspec.json.decode(msgspec.json.encode(here)) == here
    assert not [leaf for leaf in leaves(here) if isinstance(leaf, float) and not math.isfinite(leaf)]


def test_what_python_knows_is_this_process(here: dict[str, Any]) -> None:
    assert here["command"] == ["microbench", "gemm"]
    assert here["python"]["version"] == ".".join(map(str, sys.version_info[:3]))
    assert here["packages"]["msgspec"] == msgspec.__version__
    assert here["affinity"]["cores"] >= 1


def test_packages_are_the_dependencies() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    listed = re.search(r"^dependencies = \[(.*?)^\]", project, re.DOTALL | re.MULTILINE)
    assert listed is not None
    assert set(PACKAGES) == set(re.findall(r'"([\w-]+)', listed[1]))


def test_variables_kept_are_those_of_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"OMP_NUM_THREADS": "4", "MICROBENCH_X": "", "LD_PRELOAD": "", "ONEDNN_VERBOSE": "0"}
    for name, value in {**kept, "AWS_SECRET_ACCESS_KEY": "x", "XOMP_A": "x", "LD_PRELOAD_NOT": "x"}.items():
        monkeypatch.setenv(name, value)
    assert environment.capture([])["variables"].items() >= kept.items()
    assert (
        not {"AWS_SECRET_ACCESS_KEY", "XOMP_A", "LD_PRELOAD_NOT"}
        & environment.capture([])["variables"].keys()
    )


def test_bytes_that_are_no_text_can_be_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROBENCH_X", os.fsdecode(b"a\xffb"))
    captured = environment.capture([os.fsdecode(b"\xfe.csv")])
    assert msgspec.json.encode(captured)
    assert captured["variables"]["MICROBENCH_X"] == "a\ufffdb"


def test_two_socket_server(xeon: dict[str, Any]) -> None:
    processor = xeon["processor"]
    assert (processor["sockets"], processor["cores"], processor["threads"]) == (2, 8, 16)
    assert processor["model_name"] == "Intel(R) Xeon(R) Gold 5122 CPU @ 3.60GHz"
    assert (processor["family"], processor["model"], processor["stepping"]) == ("6", "85", "4")
    assert (processor["microcode"], processor["smt_active"]) == ("0x2006d05", True)
    assert processor["arithmetic_flags"] == ["avx", "avx2", "avx512f", "fma", "sse", "sse2"]
    assert xeon["affinity"] == {"cpus": "0-15", "cores": 8, "siblings_outside": ""}
    assert xeon["caches"][-1] == {
        "level": 3,
        "type": "Unified",
        "size_bytes": 14080 << 10,
        "cpus_each": 8,
        "instances": 2,
    }
    assert list(xeon["numa"]) == ["node0", "node1"]
    clock = xeon["clock"]
    assert (clock["driver"], clock["governor"], clock["boost"]) == ("intel_pstate", "powersave", True)
    assert (clock["hardware_minimum_mhz"], clock["hardware_maximum_mhz"]) == (800.0, 3700.0)
    assert (clock["policy_maximum_mhz"], clock["base_mhz"], clock["temperature_c"]) == (3000.0, 2100.0, 61.0)
    assert xeon["memory"]["swap_used_bytes"] == 4_000_000 * 1024
    assert xeon["memory"]["transparent_huge_pages"] == "madvise"
    assert xeon["system"]["distribution"] == "Example Linux 9"
    assert xeon["system"]["product"] == "PowerEdge R740"
    assert xeon["vulnerabilities"]["meltdown"] == "Mitigation: PTI"
    assert xeon["virtualisation"] == {"virtual_machine": False, "hypervisor": None, "container": None}
    assert xeon["load"] == {
        "averages": [3.2, 2.0, 1.0],
        "other_runnable_threads": 3,
        "other_processes": 1,
    }


def test_kernel_parameters_that_may_be_secret_are_left_out(xeon: dict[str, Any]) -> None:
    assert xeon["system"]["kernel_parameters"] == ["mitigations=auto", "isolcpus=2-5"]


def test_governors_that_differ_are_all_named(tmp_path: Path) -> None:
    root = machines.build(tmp_path, machines.xeon())
    (root / machines.CPU / "cpufreq/policy3/scaling_governor").write_text("performance\n")
    assert environment.capture([], range(16), root)["clock"]["governor"] == "performance, powersave"


def test_arm_server(tmp_path: Path) -> None:
    root = machines.build(tmp_path, machines.arm_server())
    captured = environment.capture([], range(4), root)
    assert captured["processor"]["model_name"] == "Arm Neoverse V1"
    assert captured["processor"]["arithmetic_flags"] == [
        "asimd", "asimddp", "asimdhp", "bf16", "fp", "i8mm", "sve"
    ]  # fmt: skip
    assert captured["clock"]["current_mhz"] == 2594.0
    assert captured["clock"]["boost"] is False
    assert captured["system"]["on_battery"] is False
    assert captured["virtualisation"]["virtual_machine"] is False
    machines.build(root, {"sys/class/dmi/id/product_name": "c7g.xlarge"})
    assert environment.capture([], range(4), root)["virtualisation"]["virtual_machine"] is True


def test_containers(tmp_path: Path) -> None:
    for name, files, cpus, memory in (
        ("v1", machines.cgroup_v1_container(), 1.5, 4 << 30),
        ("v2", machines.cgroup_v2_container(), 0.5, 2 << 30),
    ):
        captured = environment.capture([], range(4), machines.build(tmp_path / name, files))
        assert captured["virtualisation"]["virtual_machine"] is True
        assert captured["virtualisation"]["container"] == "docker"
        assert captured["limits"]["cgroup_cpus"] == cpus
        assert captured["limits"]["cgroup_memory_bytes"] == memory
    (tmp_path / "v2/.dockerenv").unlink()
    captured = environment.capture([], range(4), tmp_path / "v2")
    assert captured["virtualisation"]["container"] == "kubepods"


def test_without_proc_and_sys_the_machine_is_unknown(tmp_path: Path) -> None:
    captured = environment.capture(["x"], (0,), tmp_path)
    for section in ("processor", "clock", "memory", "load"):
        known = {name for name, value in captured[section].items() if value is not None}
        assert known <= {"architecture", "threads", "page_bytes"}
    assert captured["virtualisation"] == {"virtual_machine": None, "hypervisor": None, "container": None}
    assert captured["limits"]["cgroup_cpus"] is None
    assert (captured["caches"], captured["numa"], captured["vulnerabilities"]) == ([], {}, {})
    assert captured["system"]["on_battery"] is None
    assert msgspec.json.encode(captured)


@pytest.mark.parametrize("garbage", ["", "\0\xff", "-1", "1 2 3 4 5", "a : b", "\n\n"])
def test_files_full_of_garbage_raise_nothing(tmp_path: Path, garbage: str) -> None:
    root = machines.build(tmp_path, {**machines.xeon(), **machines.cgroup_v2_container()})
    for path in [path for path in root.rglob("*") if path.is_file()]:
        path.write_bytes(garbage.encode("latin-1"))
    captured = environment.capture([], (0, 1), root)
    assert msgspec.json.encode(captured)
    assert environment.describe(captured)
    assert isinstance(environment.warnings(captured), list)
    assert dataclasses.asdict(environment.counters(root, (0, 1)))["steal_s"] is None


# Git


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    try:
        subprocess.run(["git", "init", "-q", tmp_path], check=True)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    (tmp_path / "file").write_text("a")
    commit = ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "a"]
    subprocess.run(["git", "-C", tmp_path, "add", "."], check=True)
    subprocess.run(["git", "-C", tmp_path, *commit], check=True)
    return tmp_path


def test_a_tree_is_named_by_its_commit(tree: Path) -> None:
    clean = git.state(git.start(tree), 60)
    head = subprocess.run(
        ["git", "-C", tree, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    )
    assert clean == {"commit": head.stdout.strip(), "dirty": False}
    (tree / "untracked").write_text("b")
    assert git.state(git.start(tree), 60) == clean
    (tree / "file").write_text("changed")
    assert git.state(git.start(tree), 60) == clean | {"dirty": True}


def test_no_tree_no_commit_or_no_git_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git.state(git.start(tmp_path), 60) is None
    assert git.state(git.start(tmp_path / "missing"), 60) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git.state(git.start(tmp_path), 60) is None


def test_a_git_that_hangs_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "git"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    process = git.start(tmp_path)
    assert process is not None
    assert git.state(process, 0.05) is None
    assert process.returncode is not None


# Comparing


def test_two_captures_of_one_set_up_do_not_differ(here: dict[str, Any]) -> None:
    again = msgspec.json.decode(msgspec.json.encode(environment.capture(["another", "command"])))
    assert environment.differences(here, again) == []


def test_factors_that_differ_are_named(xeon: dict[str, Any]) -> None:
    other = copy.deepcopy(xeon)
    other["clock"]["governor"] = "performance"
    other["caches"][2]["size_bytes"] = 1
    other["processor"]["arithmetic_flags"] = ["amx_int8", *xeon["processor"]["arithmetic_flags"][1:]]
    del other["memory"]["swappiness"], other["memory"]["numa_balancing"]
    other["added"] = {"since": 1, "unknown": None}
    assert environment.differences(xeon, other) == [
        ("processor.arithmetic_flags", ["avx"], ["amx_int8"]),
        ("caches[2].size_bytes", 1 << 20, 1),
        ("clock.governor", "powersave", "performance"),
        ("memory.numa_balancing", 1, None),
        ("added.since", None, 1),
    ]


def test_the_moment_is_no_factor(xeon: dict[str, Any]) -> None:
    later = copy.deepcopy(xeon)
    later["time"]["utc"] = "2000-01-01"
    later["load"]["averages"] = [0.0, 0.0, 0.0]
    later["command"] = ["other"]
    later["clock"] |= {"current_mhz": 1.0, "cpuinfo_mhz": 1.0, "temperature_c": 1.0}
    later["memory"] |= {"available_bytes": 1, "swap_used_bytes": 1}
    later["git"]["current_directory"] = None
    later["numa"]["node1"]["memory_bytes"] = 1
    assert environment.differences(xeon, later) == []


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)
environments = st.dictionaries(st.text("abc", min_size=1, max_size=2), values, max_size=4)


@unhurried
@given(environments, environments)
def test_differences_are_symmetric_and_none_to_oneself(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert environment.differences(a, a) == []
    forwards = {path: (before, after) for path, before, after in environment.differences(a, b)}
    backwards = {path: (after, before) for path, before, after in environment.differences(b, a)}
    assert forwards == backwards
    assert all(before != after for before, after in forwards.values())


# Warning


def test_a_server_as_it_is_delivered_is_warned_about(xeon: dict[str, Any]) -> None:
    assert "cpupower frequency-set --governor performance" in said(xeon, "frequency governor powersave")[0]
    assert "intel_pstate/no_turbo" in said(xeon, "boost clocks are on")[0]
    assert said(xeon, "clock source hpet")
    assert said(xeon, "3.81 GiB of swap in use")
    assert said(xeon, "automatic NUMA balancing")
    assert "SMT siblings" in said(xeon, "load average 3.20")[0]
    assert not said(xeon, "virtual machine")


def test_what_is_remedied_is_not_warned_about(xeon: dict[str, Any]) -> None:
    xeon["clock"] |= {"governor": "performance", "boost": False, "clock_source": "tsc"}
    xeon["memory"] |= {"swap_used_bytes": 0, "numa_balancing": 0}
    xeon["load"]["averages"] = [0.2, 5.0, 5.0]
    xeon["git"]["project"] = None
    xeon["variables"] = {"OMP_NUM_THREADS": "4"}
    assert environment.warnings(xeon) == []


def test_a_virtual_machine_in_a_small_container(tmp_path: Path) -> None:
    root = machines.build(tmp_path, machines.cgroup_v1_container())
    captured = environment.capture([], range(4), root)
    assert "bare metal" in said(captured, "virtual machine")[0]
    assert "4 cores" in said(captured, "the control group grants 1.5 CPUs")[0]
    assert "--threads 1 " in said(captured, "the control group grants")[0]
    assert not said(environment.capture([], (0,), root), "the control group grants")


def test_cores_shared_with_others(tmp_path: Path) -> None:
    root = machines.build(tmp_path, machines.xeon())
    captured = environment.capture([], (0, 8, 2, 3), root)
    assert captured["affinity"] == {"cpus": "0,2-3,8", "cores": 3, "siblings_outside": "10-11"}
    assert said(captured, "CPUs 10-11 share cores")


def test_battery_overrides_and_changed_code(xeon: dict[str, Any]) -> None:
    xeon["system"]["on_battery"] = True
    xeon["variables"] = {"OPENBLAS_CORETYPE": "Haswell", "OMP_NUM_THREADS": "4"}
    xeon["git"]["project"] = {"commit": "a", "dirty": True}
    xeon["clock"]["driver"] = "acpi-cpufreq"
    assert said(xeon, "on battery")
    assert said(xeon, "OPENBLAS_CORETYPE=Haswell is set")
    assert said(xeon, "microbench runs from a tree with uncommitted changes")
    assert "cpufreq/boost" in said(xeon, "boost clocks are on")[0]
    assert all("\n" not in sentence for sentence in environment.warnings(xeon))


def test_a_laptop_on_battery(tmp_path: Path) -> None:
    battery = {"type": "Battery", "status": "Discharging"}
    files = {f"sys/class/power_supply/BAT0/{name}": value for name, value in battery.items()}
    root = machines.build(tmp_path, files)
    assert environment.capture([], (0,), root)["system"]["on_battery"] is True
    (root / "sys/class/power_supply/BAT0/status").write_text("Charging\n")
    assert environment.capture([], (0,), root)["system"]["on_battery"] is False


@pytest.mark.parametrize(
    "stored", [{}, {"clock": None}, {"numa": None, "load": {"averages": None}, "memory": {}}]
)
def test_what_an_older_version_did_not_store_is_unknown(stored: dict[str, Any]) -> None:
    assert environment.warnings(stored) == []
    assert dict(environment.describe(stored))["Caches"] == "unknown"


# Describing


def test_a_server_is_described(xeon: dict[str, Any]) -> None:
    described = dict(environment.describe(xeon))
    assert described["Processor"] == (
        "Intel Xeon Gold 5122 @ 3.60GHz, family 6, model 85, stepping 4, microcode 0x2006d05"
    )
    assert described["Cores"] == ("8 cores, 16 threads, 2 sockets, 2 NUMA nodes, usable: CPUs 0-15 (8 cores)")
    assert described["Caches"] == "L1d 8 x 32 KiB, L1i 8 x 32 KiB, L2 8 x 1 MiB, L3 2 x 13.8 MiB"
    assert described["Memory"] == (
        "191 GiB, 143 GiB available, 7.63 GiB swap, transparent huge pages: madvise"
    )
    assert described["Clock"] == (
        "800-3700 MHz, now 2100 MHz, governor powersave, driver intel_pstate, boost on"
    )
    assert described["Virtualisation"] == "bare metal"


def test_a_container_is_described(tmp_path: Path) -> None:
    root = machines.build(tmp_path, machines.cgroup_v1_container())
    described = dict(environment.describe(environment.capture([], range(4), root)))
    assert described["Virtualisation"] == (
        "virtual machine, docker container, limited to 1.5 CPUs, limited to 4 GiB"
    )
    assert described["Clock"] == "2445 MHz (/proc/cpuinfo), governor unknown"
    assert described["Memory"].startswith("15.3 GiB, 2 GiB available, no swap")


def test_descriptions_fit_100_columns(here: dict[str, Any], xeon: dict[str, Any]) -> None:
    for captured in (here, xeon):
        pairs = environment.describe(captured)
        width = max(len(label) for label, _ in pairs)
        assert all(0 < len(value) <= 99 - width for _, value in pairs)


@unhurried
@given(st.integers(1, 1 << 60))
def test_sizes_have_three_digits_and_the_right_value(size: int) -> None:
    number, unit = size_text(size).split()
    factor = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}[unit]
    assert float(number) * factor == pytest.approx(size, rel=0.005)
    assert "e" not in number or unit == "TiB"


# Counting


def test_counters_of_a_server(tmp_path: Path) -> None:
    root = machines.build(tmp_path, machines.xeon())
    counted = environment.counters(root)
    tick = 1 / os.sysconf("SC_CLK_TCK")
    assert counted.cpu_s == pytest.approx(9650 * tick)
    assert counted.idle_s == pytest.approx(8100 * tick)
    assert counted.steal_s == 0
    assert counted.throttled_s == 1.5
    assert counted.temperature_c == 61.0
    assert counted.thermal_throttles == 8 * 3
    assert environment.counters(root, (1, 3)).clock_mhz == 2200.0
    assert environment.counters(root, (0,)).clock_mhz == 2100.0


def test_throttling_of_both_kinds_of_control_group_is_in_seconds(tmp_path: Path) -> None:
    v1 = machines.build(tmp_path / "v1", machines.cgroup_v1_container())
    v2 = machines.build(tmp_path / "v2", machines.cgroup_v2_container())
    assert environment.counters(v1).throttled_s == 2.5
    assert environment.counters(v2).throttled_s == 0.75


def test_without_proc_and_sys_only_this_process_is_counted(tmp_path: Path) -> None:
    counted = dataclasses.asdict(environment.counters(tmp_path))
    unknown = {name for name, value in counted.items() if value is None}
    assert unknown == {
        "cpu_s", "idle_s", "steal_s", "throttled_s", "thermal_throttles", "clock_mhz", "temperature_c"
    }  # fmt: skip
    change = environment.difference(environment.counters(tmp_path), environment.counters(tmp_path), 1.0)
    assert change["steal_share"] is None
    assert change["other_cpus"] is None


BEFORE = Counters(
    cpu_s=100.0,
    idle_s=40.0,
    steal_s=1.0,
    process_s=5.0,
    voluntary_switches=10,
    involuntary_switches=20,
    minor_faults=30,
    major_faults=40,
    throttled_s=0.5,
    thermal_throttles=None,
    clock_mhz=1200.0,
    temperature_c=40.0,
)


def test_difference_says_what_happened_in_between() -> None:
    after = dataclasses.replace(
        BEFORE,
        cpu_s=108.0,
        idle_s=43.0,
        steal_s=2.0,
        process_s=7.0,
        voluntary_switches=11,
        involuntary_switches=22,
        minor_faults=33,
        major_faults=44,
        throttled_s=0.75,
        clock_mhz=3400.0,
        temperature_c=70.0,
    )
    # Of the 5 s in which CPUs had something to run, 1 s was stolen, 2 s were this process's, 2 s others'.
    assert environment.difference(BEFORE, after, 2.0) == {
        "steal_share": pytest.approx(0.2),
        "other_cpus": pytest.approx(1.0),
        "voluntary_switches": 1,
        "involuntary_switches": 2,
        "minor_faults": 3,
        "major_faults": 4,
        "throttled_s": 0.25,
        "thermal_throttles": None,
        "clock_mhz": 3400.0,
        "temperature_c": 70.0,
    }


def test_nothing_between_two_ticks_is_unknown_and_not_zero() -> None:
    assert environment.difference(BEFORE, BEFORE, 0.001)["steal_share"] is None


def test_a_steal_counter_that_runs_backwards_is_unknown() -> None:
    after = dataclasses.replace(BEFORE, cpu_s=110.0, steal_s=0.5)
    change = environment.difference(BEFORE, after, 1.0)
    assert change["steal_share"] is None
    assert change["other_cpus"] is None


seconds = st.floats(0, 1e9) | st.none()


@unhurried
@given(seconds, seconds, seconds, seconds, seconds, seconds, st.floats(0, 1e6))
def test_differences_of_any_counters_are_finite_and_in_range(
    cpu0: float | None, cpu1: float | None, idle0: float | None, idle1: float | None,
    steal0: float | None, steal1: float | None, elapsed_s: float,
) -> None:  # fmt: skip
    before = dataclasses.replace(BEFORE, cpu_s=cpu0, idle_s=idle0, steal_s=steal0)
    after = dataclasses.replace(BEFORE, cpu_s=cpu1, idle_s=idle1, steal_s=steal1)
    change = environment.difference(before, after, elapsed_s)
    assert change["steal_share"] is None or 0 <= change["steal_share"] <= 1
    assert change["other_cpus"] is None or 0 <= change["other_cpus"] < math.inf


def test_work_and_waiting_of_this_process_are_counted() -> None:
    before, began = environment.counters(), time.perf_counter()
    pages = bytearray(64 << 20)
    pages[::4096] = b"x" * len(pages[::4096])
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    for _ in range(5):
        time.sleep(0.001)
    after = environment.counters()
    change = environment.difference(before, after, time.perf_counter() - began)
    assert after.process_s - before.process_s >= 0.04
    assert change["voluntary_switches"] >= 5
    assert change["minor_faults"] >= 10
    assert msgspec.json.encode(change)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say")
def test_other_processes_are_seen() -> None:
    spin = "import time; t = time.process_time() + 0.5\nwhile time.process_time() < t: pass"
    before, began = environment.counters(), time.perf_counter()
    subprocess.run([sys.executable, "-c", spin], check=True)
    change = environment.difference(before, environment.counters(), time.perf_counter() - began)
    assert change["other_cpus"] > 0
    assert change["steal_share"] is not None
