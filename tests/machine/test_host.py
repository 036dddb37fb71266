"""The machine: this one as probed, others by name or figures, and what cannot be understood."""

from __future__ import annotations

import pytest

from gemstead.errors import ConfigError
from gemstead.machine.host import host_of, machines, this_host
from gemstead.machine.memory import total_bytes
from gemstead.machine.speed import MULTIPLY_SHARE, READ_SHARE


def test_this_machine(tmp_path):
    host = this_host(tmp_path / "not" / "there", threads=1)
    assert host.is_here
    assert host.cores == 1
    assert 0 < host.free_bytes <= host.memory_bytes == total_bytes()
    assert host.disk_bytes > 0
    assert 1e8 < host.rates.bytes_s < 1e13
    assert set(host.rates.kernels) == {"q4_0", "q4_k", "q6_k", "q8_0", "bf16"}
    assert all(kernel.operations_s > 1e8 for kernel in host.rates.kernels.values())


@pytest.mark.parametrize("name", machines())
def test_every_machine_has_its_source(name):
    host = host_of(name)
    assert len(host.source) > 30
    assert 0 < host.free_bytes < host.memory_bytes
    row = machines()[name]
    reached = host.rates.kernel("q4_0")
    assert reached.bytes_s * READ_SHARE == pytest.approx(row["decode_gb_s"] * 1e9)
    assert reached.operations_s * MULTIPLY_SHARE == pytest.approx(row["prompt_gop_s"] * 1e9)


def test_a_machine_of_figures():
    host = host_of("8GB, 4 cores, 20GB/s")
    assert (host.memory_bytes, host.cores, host.rates.bytes_s) == (8e9, 4, 20e9)
    assert host.rates.int8_s == 4 * 40e9
    assert host.disk_bytes is None
    more = host_of("8 gb ram,2 core,20 GB/s,0.5TOP/s,64 GB disk")
    assert (more.cores, more.rates.int8_s, more.disk_bytes) == (2, 5e11, 64e9)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("8GB", "does not say its bandwidth"),
        ("20GB/s", "does not say its memory"),
        ("", "does not say its memory and bandwidth"),
        ("8GB, fast, 20GB/s", "'fast' is no figure of a machine"),
        ("0GB, 20GB/s", "'0gb' is no figure"),
        ("1.2.3GB, 20GB/s", "is no figure"),
        ("pi6", "or a name: pi4"),
    ],
)
def test_what_is_no_machine(text, words):
    with pytest.raises(ConfigError, match=words):
        host_of(text)
