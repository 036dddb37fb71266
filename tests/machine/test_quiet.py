"""Others' share of the machine: ours is not counted, theirs is."""

import subprocess
import sys
import time

import pytest

from gemstead.machine import quiet
from gemstead.machine.quiet import Watch

BUSY = "import time\nend = time.time() + 60\nwhile time.time() < end: pass"


def spin(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@pytest.fixture
def busy():
    with subprocess.Popen([sys.executable, "-c", BUSY]) as process:
        yield process
        process.kill()


def test_shares_are_believable():
    watch = Watch()
    assert watch._now() is not None or not quiet.Path("/proc/stat").exists()
    spin(0.1)
    found = watch.others()
    assert found is None or 0 <= found <= 1


def test_ticks_of_ours_are_taken_off(monkeypatch):
    readings = iter([(1000, 100, 50), (2000, 900, 250), (2000, 120, 260)])
    monkeypatch.setattr(Watch, "_now", lambda _: next(readings))
    watch = Watch()
    assert watch.others() == pytest.approx((800 - 200) / 1000)
    assert watch.others() == 0.0


def test_our_processes_are_known(busy):
    before = quiet._ticks_of(busy.pid)
    spin(0.2)
    assert quiet._ticks_of(busy.pid) >= before >= 0


def test_where_nothing_is_told_nothing_is_said(monkeypatch):
    monkeypatch.setattr(quiet, "_ticks_of", lambda _: int("not a number"))
    assert Watch().others() is None
