"""Bodies within limits, hostile ones included."""

from __future__ import annotations

import json
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemstead.server.body import MAX_DEPTH, Bodies, depth_of, parse_object
from gemstead.server.refusals import Refusal
from support.serving import end, start

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


def real_depth(value) -> int:
    if isinstance(value, dict):
        return 1 + max(map(real_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(real_depth, value), default=0)
    return 0


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), VALUES, max_size=4))
def test_what_json_writes_is_read_back_and_its_depth_is_right(value):
    for ascii_only in (True, False):
        body = json.dumps(value, ensure_ascii=ascii_only).encode()
        assert parse_object(body) == value
        assert depth_of(body) == real_depth(value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[1]", "list"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "nested"),
        (b"[" * 100_000, "nested"),
    ],
)
def test_bad_bodies(body, said):
    with pytest.raises(Refusal, match=said) as caught:
        parse_object(body)
    assert caught.value.status == 400


def test_a_whole_pair_of_surrogates_is_a_character():
    assert parse_object(b'{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}
    assert MAX_DEPTH == 64


@pytest.mark.parametrize("body", [b'"' + b'\\"' * 1_000_000, b'{"a' * 300_000, b'"\\' * 500_000])
def test_counting_takes_time_in_proportion(body):
    began = time.process_time()
    depth_of(body)
    assert time.process_time() - began < 5


def test_bodies_under_way_have_room_for_so_much_and_no_client_has_all_of_it():
    bodies = Bodies(1000)
    with pytest.raises(Refusal, match="larger than 500 bytes") as caught:
        bodies.take(300, b"a", before=201)
    assert caught.value.status == 413
    bodies.take(300, b"a", 0)
    bodies.take(200, b"a", 300)
    with pytest.raises(
        Refusal, match="500 bytes, 500 of them yours; the most here are 1,000, and 500"
    ) as full:
        bodies.take(1, b"a", 0)
    assert (full.value.status, full.value.headers["Retry-After"]) == (503, "1")
    bodies.take(450, b"b", 0)
    bodies.take(50, b"c", 0)
    with pytest.raises(Refusal, match="0 of them yours"):
        bodies.take(1, b"d", 0)
    bodies.give(500, b"a")
    bodies.take(1, b"d", 0)
    for count, client in ((450, b"b"), (50, b"c"), (1, b"d"), (0, b"e")):
        bodies.give(count, client)
    assert bodies.held_bytes == 0


def test_a_body_counts_until_its_answer_has_ended():
    running = start("--memory", "420MB")  # a sixteenth of it for bodies, half of that for what came
    room = 420_000_000 // 32
    body = {"model": "pebble", "messages": [{"role": "user", "content": "Say hello"}], "max_tokens": 1}
    try:
        assert running.post("/v1/chat/completions", body)[0] == 200
        before = len(running.lines)
        long = {**body, "metadata": {"x": "y" * (room // 2 - 1000)}}
        assert running.post("/v1/chat/completions", {**body, "metadata": {"x": "y" * (room // 2)}})[0] == 413
        running.wait_line("status=413", before)
        data = json.dumps(long).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        head += f"Authorization: Bearer {running.key}\r\n"
        end_s, answer = time.monotonic() + 60, (200, None)
        while answer[0] == 200:  # where the server had not read the first one yet, it refused that
            assert time.monotonic() < end_s
            held = socket.create_connection(("127.0.0.1", running.port))
            held.sendall(head.encode() + f"Content-Length: {len(data)}\r\n\r\n".encode() + data[:-10])
            time.sleep(0.5)
            answer = running.post("/v1/chat/completions", long)
        assert (answer[0], answer[1]["error"]["code"]) == (503, "bodies_full")
        held.sendall(data[-10:])
        assert held.recv(15) == b"HTTP/1.1 200 OK"
        held.close()
        running.wait_idle()
        assert running.post("/v1/chat/completions", long)[0] == 200
    finally:
        assert end(running) == 0
