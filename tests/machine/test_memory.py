"""Amounts of memory are believable."""

import os
import subprocess
import sys
from dataclasses import replace

from gemstead.backend.base import Capabilities
from gemstead.machine import memory
from gemstead.machine.memory import (
    address_limit,
    address_room,
    anonymous_bytes,
    available_bytes,
    container_room,
    kv_ceiling,
    missing_bytes,
    peak_bytes,
    total_bytes,
)
from gemstead.spec.variants import VARIANTS


def test_amounts_are_in_order():
    assert 0 < available_bytes() <= total_bytes() < 1 << 50
    assert 1 << 20 < peak_bytes() <= total_bytes()


def test_the_peak_is_this_processs_own():
    block = bytearray(300 << 20)
    block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
    code = "from gemstead.machine.memory import peak_bytes; print(peak_bytes())"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    del block
    assert int(ran.stdout) < 200 << 20


def test_the_peak_never_falls():
    before = peak_bytes()
    block = bytearray(64 << 20)
    block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
    risen = peak_bytes()
    del block
    assert before <= risen <= peak_bytes()


def group(tmp_path, files, place="0::/box"):
    for name, text in {"proc/self/cgroup": place + "\n", **files}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_containers_limit_without_the_files_it_has_read(tmp_path):
    root = group(
        tmp_path,
        {
            "sys/fs/cgroup/box/memory.max": "1000000\n",
            "sys/fs/cgroup/box/memory.current": "700000\n",
            "sys/fs/cgroup/box/memory.stat": "anon 100000\ninactive_file 400000\nactive_file 200000\n",
        },
    )
    assert container_room(root) == 900_000


def test_the_tightest_group_counts_and_version_1_too(tmp_path):
    at = "sys/fs/cgroup/memory/"
    root = group(
        tmp_path,
        {
            f"{at}a/b/memory.limit_in_bytes": "9223372036854771712\n",
            f"{at}a/b/memory.usage_in_bytes": "5\n",
            f"{at}a/b/memory.stat": "cache 0\n",
            f"{at}a/memory.limit_in_bytes": "5000\n",
            f"{at}a/memory.usage_in_bytes": "3000\n",
            f"{at}a/memory.stat": "total_inactive_file 500\ntotal_active_file 0\n",
        },
        "4:memory:/a/b",
    )
    assert container_room(root) == 2500


def test_version_2_beside_version_1_and_where_a_group_is_slowed_down(tmp_path):
    at = "sys/fs/cgroup/unified/box/"
    root = group(
        tmp_path,
        {
            f"{at}memory.max": "9000\n",
            f"{at}memory.high": "8000\n",
            f"{at}memory.current": "3000\n",
            f"{at}memory.stat": "inactive_file 0\nactive_file 0\n",
        },
        "4:memory:/\n0::/box/inner",
    )
    assert container_room(root) == 5000


def test_what_is_held_beside_files():
    block = bytearray(64 << 20)
    block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
    assert 64 << 20 < anonymous_bytes() <= peak_bytes()
    del block


def test_no_limit(tmp_path):
    files = {"sys/fs/cgroup/box/memory.max": "max\n", "sys/fs/cgroup/box/memory.current": "5\n"}
    assert container_room(group(tmp_path, files)) is None
    assert container_room(tmp_path / "nothing") is None


def test_the_address_limit_is_seen_and_so_is_what_is_left_of_it():
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30));"
        "from gemstead.machine.memory import address_limit, address_room;"
        "assert address_limit() == 3 << 30; assert 0 < address_room() < 3 << 30"
    )
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert address_limit() is None or address_room() is not None


def test_the_ceiling_for_keys_and_values(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 10_000_000_000)
    monkeypatch.setattr(memory, "address_room", lambda: None)
    can = Capabilities("x", VARIANTS["e2b"], None, (24576, 12288), weights_bytes=4_000_000_000)
    assert kv_ceiling(can, None) == 3_000_000_000
    assert kv_ceiling(can, 4096) == 2 * 4096 * (24576 + 12288)
    assert kv_ceiling(replace(can, weights_bytes=20_000_000_000), None) == 64 << 20
    assert kv_ceiling(replace(can, free_bytes=1_000_000_000), None) == 500_000_000
    monkeypatch.setattr(memory, "address_room", lambda: 2_000_000_000)
    assert kv_ceiling(can, None) == 1_000_000_000


def test_what_weights_lack(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 1_000)
    monkeypatch.setattr(memory, "anonymous_bytes", lambda: 300)
    can = Capabilities("x", VARIANTS["e2b"], None, (24576, 12288), weights_bytes=1_500)
    assert missing_bytes(can) == 200
    assert missing_bytes(replace(can, weights_bytes=1_300)) == 0
    assert missing_bytes(replace(can, free_bytes=7)) == 0
