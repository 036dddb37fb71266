"""The probes: a process of their own that answers with two rates, and says so when it cannot."""

import pytest

from gemstead.errors import BackendError
from gemstead.machine import probe
from gemstead.machine.probe import Prober, this_machine


def test_this_machine_is_described():
    machine = this_machine()
    assert machine.processor
    assert machine.cores >= 1
    assert str(machine).endswith(" GiB")
    assert f"{machine.cores} cores" in str(machine)


def test_a_probe_reads_both_rates():
    with Prober(threads=1, size_bytes=1) as prober:
        assert prober.size_bytes == 64 << 20  # less would be read from the processor's cache
        first, second = prober.read(), prober.read()
    for reading in (first, second):
        assert 1e7 < reading.bytes_s < 1e13
        assert 1e7 < reading.operations_s < 1e15
    assert "64 MiB, 1 thread" in prober.about["bytes_s"]


def test_int8_is_probed_where_it_is_computed_in():
    with Prober(threads=1, size_bytes=1, in_int8=True) as prober:
        assert 1e7 < prober.read().operations_s < 1e15
    assert "int8" in prober.about["operations_s"]


def test_a_probe_takes_a_part_of_what_is_left(monkeypatch):
    monkeypatch.setattr(probe, "available_bytes", lambda: 1 << 30)
    monkeypatch.setattr(probe.subprocess, "Popen", lambda *_, **__: None)
    assert Prober(2, 1 << 40).size_bytes == 1 << 27


def test_a_dead_probe_is_an_error():
    prober = Prober(1, 1)
    prober._process.kill()
    prober._process.wait()
    with pytest.raises(BackendError, match="the process that probes the machine ended"):
        prober.read()
    prober.close()


def test_closing_ends_the_process():
    prober = Prober(1, 1)
    prober.close()
    assert prober._process.poll() is not None
