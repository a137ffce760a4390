"""The processors and memory a process may use, read from the trees of machines that are not at hand."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures import machines
from microbench import topology
from microbench.errors import InputError
from microbench.topology import format_cpu_list, parse_cpu_list

# How long examples take says nothing on a machine that does other work.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
MACHINES = {
    "xeon": machines.xeon,
    "amd_vm": machines.amd_vm,
    "arm_server": machines.arm_server,
    "cgroup_v1": machines.cgroup_v1_container,
    "cgroup_v2": machines.cgroup_v2_container,
}


@pytest.fixture
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return machines.build(tmp_path, MACHINES[request.param]())


on = pytest.mark.parametrize


@unhurried
@given(st.sets(st.integers(0, 65535), min_size=1, max_size=100))
def test_a_formatted_list_reads_back(cpus: set[int]) -> None:
    assert parse_cpu_list(format_cpu_list(cpus)) == tuple(sorted(cpus))


@unhurried
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40)), min_size=1, max_size=20))
def test_ranges_in_any_order_name_their_union(ranges: list[tuple[int, int]]) -> None:
    text = " , ".join(f"{first}-{first + length}" for first, length in ranges)
    expected = {cpu for first, length in ranges for cpu in range(first, first + length + 1)}
    assert parse_cpu_list(text) == tuple(sorted(expected))


@unhurried
@given(st.text(alphabet="0123456789-, x\u0663", max_size=12))
def test_a_list_is_read_or_refused_in_one_sentence(text: str) -> None:
    try:
        cpus = parse_cpu_list(text, "--cpus")
    except InputError as error:
        message = str(error)
        assert message.startswith("--cpus: ")
        assert "0-3,8" in message
        assert "\n" not in message
    else:
        assert cpus
        assert parse_cpu_list(format_cpu_list(cpus)) == cpus


@on("text", ["", ",", "3-1", "1-", "-1", "a", "0x3", "1,,2", "0-65536", "0-999999999", "1-2-3", "\u0663"])
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a CPU number or an ascending range"):
        parse_cpu_list(text)


def test_no_cpus_are_an_empty_list() -> None:
    assert format_cpu_list([]) == ""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_the_affinity_limits_the_allowed_cpus() -> None:
    before = os.sched_getaffinity(0)
    assert topology.allowed_cpus() == tuple(sorted(before))
    try:
        os.sched_setaffinity(0, {max(before)})
        assert topology.allowed_cpus() == (max(before),)
    finally:
        os.sched_setaffinity(0, before)


@on("root", ["xeon"], indirect=True)
class TestXeon:
    def test_cores_come_socket_by_socket_without_siblings(self, root: Path) -> None:
        assert topology.physical_cores(range(16), root) == (0, 2, 4, 6, 1, 3, 5, 7)

    def test_a_core_of_which_only_the_sibling_is_allowed_counts(self, root: Path) -> None:
        assert topology.physical_cores([1, 8, 9, 10, 2], root) == (2, 8, 1)

    def test_cores_come_node_by_node_within_a_socket(self, root: Path) -> None:
        one_socket = {f"{machines.CPU}/cpu{cpu}/topology/physical_package_id": "0" for cpu in range(16)}
        machines.build(root, one_socket)
        assert topology.physical_cores(range(16), root) == (0, 2, 4, 6, 1, 3, 5, 7)

    def test_caches_shared_by_several_cpus_are_listed_once(self, root: Path) -> None:
        found = topology.caches(None, root)
        assert [sum(cache.level == level for cache in found) for level in (1, 2, 3)] == [16, 8, 2]
        assert found[-1] == topology.Cache(3, "Unified", 14080 << 10, (1, 3, 5, 7, 9, 11, 13, 15))

    @on(("cpus", "sockets"), [((0, 2, 8), 1), ((0, 1), 2), (range(16), 2)])
    def test_last_level_caches_of_the_sockets_in_use_are_summed(
        self, root: Path, cpus: tuple[int, ...], sockets: int
    ) -> None:
        assert topology.last_level_cache_bytes(cpus, root) == sockets * (14080 << 10)

    def test_a_last_level_cache_without_size_makes_the_sum_unknown(self, root: Path) -> None:
        (root / machines.CPU / "cpu1/cache/index3/size").unlink()
        assert topology.last_level_cache_bytes((0,), root) == 14080 << 10
        assert topology.last_level_cache_bytes((0, 1), root) is None

    def test_nodes_have_their_cpus_and_memory(self, root: Path) -> None:
        first, second = topology.numa_nodes(root)
        assert first == topology.Node(0, (0, 2, 4, 6, 8, 10, 12, 14), 100_000_000 * 1024)
        assert (second.number, second.cpus[0]) == (1, 1)

    def test_without_limits_there_is_none(self, root: Path) -> None:
        assert topology.cpu_quota(root) is None
        assert topology.memory_limit_bytes(root) is None
        assert topology.available_memory_bytes(root) == 150_000_000 * 1024

    def test_flags_are_those_of_the_processor(self, root: Path) -> None:
        assert topology.processor_flags(root) == frozenset(
            {"fpu", "sse", "sse2", "smep", "avx", "avx2", "fma", "avx512f"}
        )


@on("root", ["arm_server"], indirect=True)
class TestArmServer:
    def test_flags_are_called_features(self, root: Path) -> None:
        expected = {"fp", "asimd", "asimdhp", "asimddp", "sve", "bf16", "i8mm"}
        assert topology.processor_flags(root) == frozenset(expected)

    def test_last_level_is_the_second_and_private(self, root: Path) -> None:
        assert topology.last_level_cache_bytes((0, 1, 2), root) == 3 << 20

    def test_a_node_may_be_memory_alone(self, root: Path) -> None:
        assert topology.numa_nodes(root)[1] == topology.Node(1, (), 8_000_000 * 1024)

    def test_last_level_is_found_for_each_core_on_its_own(self, root: Path) -> None:
        """Big cores with a third level beside little ones without."""
        third = {"level": "3", "type": "Unified", "size": "8M", "shared_cpu_list": "0-1"}
        machines.build(
            root,
            {
                f"{machines.CPU}/cpu{cpu}/cache/index2/{name}": text
                for cpu in (0, 1)
                for name, text in third.items()
            },
        )
        assert topology.last_level_cache_bytes((0, 1, 2), root) == (8 << 20) + (1 << 20)


@on("root", ["cgroup_v1"], indirect=True)
class TestContainerOfVersion1:
    def test_quota(self, root: Path) -> None:
        assert topology.cpu_quota(root) == 1.5

    def test_no_quota_is_written_as_minus_one(self, root: Path) -> None:
        (root / "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us").write_text("-1\n")
        assert topology.cpu_quota(root) is None

    def test_memory_left_counts_cache_that_can_be_given_up(self, root: Path) -> None:
        assert topology.memory_limit_bytes(root) == 4 << 30
        assert topology.available_memory_bytes(root) == 2 << 30

    def test_no_limit_is_written_as_a_huge_number(self, root: Path) -> None:
        (root / "sys/fs/cgroup/memory/memory.limit_in_bytes").write_text("9223372036854771712\n")
        assert topology.memory_limit_bytes(root) is None
        assert topology.available_memory_bytes(root) == 12_000_000 * 1024


@on("root", ["cgroup_v2"], indirect=True)
class TestContainerOfVersion2:
    def test_lowest_quota_of_all_levels_holds(self, root: Path) -> None:
        assert topology.cpu_quota(root) == 0.5

    def test_lowest_memory_limit_of_all_levels_holds(self, root: Path) -> None:
        assert topology.memory_limit_bytes(root) == 2 << 30
        assert topology.available_memory_bytes(root) == (1 << 30) + (256 << 20)

    def test_the_level_at_which_the_kernel_slows_down_is_a_limit(self, root: Path) -> None:
        machines.build(root, {"sys/fs/cgroup/kubepods/pod7/main/memory.high": str(1 << 30)})
        assert topology.memory_limit_bytes(root) == 1 << 30
        assert topology.available_memory_bytes(root) == 0

    def test_a_group_outside_the_namespace_is_seen_at_the_mount_point(self, root: Path) -> None:
        machines.build(
            root, {"proc/self/cgroup": "0::/../../elsewhere", "sys/fs/cgroup/cpu.max": "200000 100000"}
        )
        assert topology.cpu_quota(root) == 2.0


def test_without_proc_and_sys_everything_is_unknown(tmp_path: Path) -> None:
    assert topology.physical_cores((3, 1), tmp_path) == (1, 3)
    assert topology.online_cpus(tmp_path) == ()
    assert topology.caches(None, tmp_path) == []
    assert topology.numa_nodes(tmp_path) == []
    assert topology.last_level_cache_bytes((0,), tmp_path) is None
    assert topology.processor_flags(tmp_path) is None
    assert topology.cpu_quota(tmp_path) is None
    assert topology.memory_limit_bytes(tmp_path) is None
    assert topology.available_memory_bytes(tmp_path) is None


@on("root", list(MACHINES), indirect=True)
@on("garbage", ["", "\0\xff", "max", "-1", "1 2 3", "a:b:c\nd - e - f", "999999999999999999999"])
def test_files_full_of_garbage_raise_nothing(root: Path, garbage: str) -> None:
    for path in [path for path in root.rglob("*") if path.is_file()]:
        path.write_bytes(garbage.encode("latin-1"))
    assert topology.physical_cores((0, 1), root) == (0, 1)
    assert topology.last_level_cache_bytes((0, 1), root) is None
    assert all(cache.size_bytes is None for cache in topology.caches((0, 1), root))
    assert all(node.memory_bytes is None for node in topology.numa_nodes(root))
    assert topology.cpu_quota(root) is None
    assert topology.memory_limit_bytes(root) is None
    assert topology.available_memory_bytes(root) is None


@on("root", ["cgroup_v1", "cgroup_v2"], indirect=True)
@on("garbage", ["", "max", "-1", "1 2 3", "1.5", "0 0"])
def test_limits_that_make_no_sense_are_none(root: Path, garbage: str) -> None:
    for path in (root / "sys/fs/cgroup").rglob("*.*"):
        path.write_text(garbage)
    assert topology.cpu_quota(root) is None
    assert topology.memory_limit_bytes(root) is None
    assert topology.available_memory_bytes(root) == 12_000_000 * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads this machine's /proc")
def test_this_machine_is_read() -> None:
    allowed = topology.allowed_cpus()
    cores = topology.physical_cores()
    assert set(cores) <= set(allowed)
    assert len(set(cores)) == len(cores) >= 1
    assert topology.processor_flags()
    available = topology.available_memory_bytes()
    assert available is not None
    assert 0 < available <= topology.meminfo_bytes()["MemTotal"]
