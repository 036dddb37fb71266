"""Threads by default: physical cores, affinity, and the limits of containers."""

from __future__ import annotations

import os

import pytest

from gemstead.backend.native.cores import quota, usable_cores


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A root folder with the files given, and the processors this process may use."""

    def make(files, processors=range(8)):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(processors), raising=False)
        return tmp_path

    return make


def pairs(count):
    """Two threads a core, numbered as Linux on x86 does: 0 and 4 share a core of 4."""
    place = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    return {place.format(i): f"{i % count},{i % count + count}" for i in range(2 * count)}


def hybrid(fast, slow):
    """Two threads on each of the fast cores, which Linux numbers first, and one on each of the slow."""
    place = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    two = {place.format(i): f"{i // 2 * 2}-{i // 2 * 2 + 1}" for i in range(2 * fast)}
    return two | {place.format(i): f"{i}" for i in range(2 * fast, 2 * fast + slow)}


V2 = {"proc/self/cgroup": "0::/a/b"}
V1 = {"proc/self/cgroup": "9:name=systemd:/\n3:cpu,cpuacct:/docker/x\n2:memory:/"}


@pytest.mark.parametrize(
    ("files", "processors", "wanted"),
    [
        ({}, range(8), 8),
        ({}, [3], 1),
        (pairs(4), range(8), 4),
        (pairs(4), [0, 4], 1),
        (pairs(4), [0, 1, 2, 4], 3),
        (hybrid(6, 8), range(20), 14),
        (hybrid(2, 4), [0, 1, 4, 5], 3),
        (V2 | {"sys/fs/cgroup/a/b/cpu.max": "max 100000"}, range(8), 8),
        (V2 | {"sys/fs/cgroup/a/b/cpu.max": "250000 100000"}, range(8), 3),
        (V2 | {"sys/fs/cgroup/a/cpu.max": "50000 100000"}, range(8), 1),
        (V2 | {"sys/fs/cgroup/cpu.max": "200000 100000"}, range(8), 2),
        (V2 | {"sys/fs/cgroup/cpu.max": "9900000 100000"}, range(8), 8),
        (V2 | {"sys/fs/cgroup/cpu.max": "nonsense"}, range(8), 8),
        (V2 | {"sys/fs/cgroup/cpu.max": "100000 0"}, range(8), 8),
        (
            V1
            | {"sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us": "150000"}
            | {"sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us": "100000"},
            range(8),
            2,
        ),
        (
            V1
            | {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1"}
            | {"sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
            range(8),
            8,
        ),
    ],
)
def test_cores(machine, files, processors, wanted):
    assert usable_cores(machine(files, processors)) == wanted


def test_no_limit_is_none(machine):
    assert quota(machine(V2)) is None


def test_here():
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


def test_without_affinity(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert usable_cores() == (os.cpu_count() or 1)
