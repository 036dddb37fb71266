"""64 clients at once: every answer ends exactly once, and no page stays behind."""

from __future__ import annotations

import load
import pytest
import soak


def test_nothing_is_lost_or_left_behind():
    server = soak.Server.start(["pebble"], "--context", "1024")
    try:
        outcomes = load.load(server, clients=64, each=3, seed=1)
        assert load.pages_held(server) == 0
    finally:
        assert server.end() == 0
    assert len(outcomes) == 192
    assert {outcome.kind for outcome in outcomes} == set(load.KINDS)
    assert load.wrong(outcomes) == []
    assert all(0 < o.first_s < 60 for o in outcomes if o.kind in ("stream", "leaves"))


def test_the_share_that_is_not_exceeded():
    assert load.percentile([float(n) for n in range(101)], 0.99) == pytest.approx(99)
    assert load.wrong([load.Outcome("stream", "200, ended 2 times"), load.Outcome("wrong", "400")]) == [
        load.Outcome("stream", "200, ended 2 times")
    ]
