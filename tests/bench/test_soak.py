"""A compressed soak: memory stays where the warm-up left it, and every request ends as it should."""

from __future__ import annotations

import pytest
import soak


def test_memory_stays_flat():
    server = soak.Server.start(["pebble"], "--context", "512", "--threads", "1")
    try:
        sizes, seen = soak.soak(server, requests=1500, laps=5, clients=6)
    finally:
        assert server.end() == 0
    ends = {"wrong": "400", "unknown": "404", "leaves": "left"}
    assert seen == {f"{kind} {ends.get(kind, '200')}": 100 for kind in soak.KINDS}
    # A vocabulary's cache of words once made it 7 MB per thousand requests.
    assert soak.slope(sizes[2:]) / 0.3 < 2


def test_the_line_through_values():
    assert soak.slope([1.0, 3.0, 5.0]) == pytest.approx(2)
    assert soak.slope([4.0, 4.0, 4.0, 4.0]) == 0
