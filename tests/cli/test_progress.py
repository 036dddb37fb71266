"""What is shown of a transfer: amounts, rate, time left."""

from __future__ import annotations

import io

import pytest

from gemstead.cli.progress import Meter, duration
from gemstead.cli.screen import Screen
from gemstead.hub.fetch import Progress


def test_the_line():
    times = iter(range(100))
    meter = Meter(Screen(io.StringIO(), io.StringIO()), lambda: float(next(times)))
    progress = Progress(1_000_000_000)
    progress.found(200_000_000)  # was here before: no transfer, no rate
    meter(progress)
    assert meter.line(progress) == "200.0 MB of 1.0 GB  20%"
    progress.arrived(10_000_000)
    meter(progress)
    assert meter.line(progress) == "210.0 MB of 1.0 GB  21%  10.0 MB/s  79 s left"
    for _ in range(30):
        meter(progress)
    assert meter.line(progress) == "210.0 MB of 1.0 GB  21%"  # silent for longer than the window
    progress.note = "trying again: x"
    assert meter.line(progress).endswith("21%  trying again: x")
    progress.note = ""
    progress.arrived(790_000_000)
    assert meter.line(progress).endswith("100%  checking")


def test_a_pipe_gets_a_line_every_tenth():
    err = io.StringIO()
    meter = Meter(Screen(io.StringIO(), err))
    progress = Progress(100)
    for _ in range(100):
        progress.arrived(1)
        meter(progress)
    assert len(err.getvalue().splitlines()) == 10


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (89, "89 s"), (120, "2 min"), (7500, "2 h 5 min")])
def test_duration(seconds, text):
    assert duration(seconds) == text
