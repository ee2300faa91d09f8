"""Cores and memory after affinity and cgroups, read from made-up /proc and /sys trees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastfeed.format.machine import (
    cpu_quota,
    existing_parent,
    file_system_of,
    machine_cores,
    memory_limit_bytes,
    page_cache_limit_bytes,
    usable_cores,
)


class Machine:
    """A made-up /proc and /sys/fs/cgroup under `root`."""

    def __init__(self, root: Path, cgroup_lines: str) -> None:
        self.proc, self.cgroup = root / "proc", root / "cgroup"
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "self" / "cgroup").write_text(cgroup_lines)

    def file(self, path: str, text: str) -> None:
        target = self.cgroup / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def test_version_2_gives_quota_over_period_of_the_tightest_group_above_us(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "0::/jobs/mine\n")
    machine.file("jobs/mine/cpu.max", "max 100000\n")
    machine.file("jobs/cpu.max", "150000 100000\n")
    machine.file("jobs/mine/memory.max", "1073741824\n")
    machine.file("jobs/memory.max", "max\n")
    assert cpu_quota(machine.proc, machine.cgroup) == 1.5
    assert memory_limit_bytes(machine.proc, machine.cgroup) == 1 << 30


def test_the_page_cache_is_bounded_by_the_cgroup_else_by_the_machine(tmp_path: Path) -> None:
    limited = Machine(tmp_path / "a", "0::/job\n")
    limited.file("job/memory.max", str(1 << 20))
    assert page_cache_limit_bytes(limited.proc, limited.cgroup) == 1 << 20
    free = Machine(tmp_path / "b", "0::/\n")
    assert page_cache_limit_bytes(free.proc, free.cgroup) > 1 << 28


def test_version_1_gives_quota_over_period_and_minus_one_is_no_limit(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "4:memory:/box\n3:cpu,cpuacct:/box\n")
    machine.file("cpu/box/cpu.cfs_quota_us", "250000\n")
    machine.file("cpu/box/cpu.cfs_period_us", "100000\n")
    machine.file("cpu/cpu.cfs_quota_us", "-1\n")
    machine.file("cpu/cpu.cfs_period_us", "100000\n")
    machine.file("memory/box/memory.limit_in_bytes", "2097152\n")
    machine.file("memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert cpu_quota(machine.proc, machine.cgroup) == 2.5
    assert memory_limit_bytes(machine.proc, machine.cgroup) == 2 << 20


def test_a_container_that_sees_the_hosts_path_finds_the_limit_at_its_own_root(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "0::/kubepods/pod1/abc\n")
    machine.file("cpu.max", "400000 100000\n")
    assert cpu_quota(machine.proc, machine.cgroup) == 4.0


@pytest.mark.parametrize("lines", ["", "0::/\n", "1:name=systemd:/x\n"])
def test_without_limits_there_is_none(tmp_path: Path, lines: str) -> None:
    machine = Machine(tmp_path, lines)
    assert cpu_quota(machine.proc, machine.cgroup) is None
    assert memory_limit_bytes(machine.proc, machine.cgroup) is None


def test_without_proc_there_is_no_limit(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / "none", tmp_path / "none") is None


def test_usable_cores_are_at_least_one_and_at_most_the_affinity() -> None:
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("lines", "name"), [
    ("0::/jobs/mine\n", "jobs/cpuset.cpus.effective"),
    ("3:cpuset:/jobs/mine\n", "cpuset/jobs/mine/cpuset.effective_cpus"),
])
def test_the_cores_of_a_container_are_those_of_its_cpuset(tmp_path: Path, lines: str, name: str) -> None:
    machine = Machine(tmp_path, lines)
    machine.file("jobs/mine/cgroup.procs", "")
    machine.file(name, "0-3,8,10-11\n")
    assert machine_cores(machine.proc, machine.cgroup) == 7


def test_without_a_cpuset_they_are_the_machines_and_a_quota_bounds_them(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "0::/mine\n")
    machine.file("mine/cpu.max", "max 100000\n")
    assert machine_cores(machine.proc, machine.cgroup) == os.cpu_count()
    machine.file("mine/cpu.max", "50000 100000\n")
    assert machine_cores(machine.proc, machine.cgroup) == 1


def test_the_file_system_is_that_of_the_longest_mount_point(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "mountinfo").write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:5 / /mnt/my\\040data rw shared:1 - nfs4 server:/x rw\n"
    )
    assert file_system_of(Path("/mnt/my data/cache"), tmp_path) == "nfs4"
    assert file_system_of(Path("/mnt/other"), tmp_path) == "ext4"
    assert file_system_of(Path("/mnt"), tmp_path / "none") == "unknown"


def test_a_folder_that_is_not_there_yet_is_judged_by_its_nearest_parent(tmp_path: Path) -> None:
    assert existing_parent(tmp_path / "a" / "b") == tmp_path
    assert existing_parent(tmp_path) == tmp_path
