"""Several clients of a real server, and what is counted of them."""

from __future__ import annotations

import pytest
import soak

import clients


def test_a_share_of_the_events_is_that_share_of_the_tokens():
    answer = clients.Answer([1.0, 2.0, 3.0, 4.0], prompt=5, tokens=8)
    assert answer.within(1.0, 3.0) == 4
    assert answer.within(0.0, 4.0) == 8
    assert answer.within(5.0, 6.0) == 0


def test_clients_of_a_real_server():
    server = soak.Server.start(["pebble"], "--context", "512", "--threads", "1")
    try:
        whole, decoding = clients.together(server, 1, words=20, tokens=12, seed=1)
        with pytest.raises(SystemExit, match="more --tokens"):
            clients.together(server, 3, words=20, tokens=1, seed=1)
        with pytest.raises(RuntimeError, match="max_tokens"):
            clients.ask(server, words=5, tokens=-1, seed=1)
    finally:
        assert server.end() == 0
    assert 0 < whole < 1e5
    assert 0 < decoding < 1e5
