"""Many clients at once, some leaving early, some asking nonsense: everybody gets one end, nothing leaks."""

from __future__ import annotations

import json
import random
import socket
import threading
from collections import Counter

from support.serving import Running

CLIENTS = 48
TALK = [{"role": "user", "content": "What is 17% of 2400? And tell me about gemstead."}]


def client(running: Running, kind: str, seed: int) -> str:
    """One client of a kind, and what it saw."""
    body = {"model": "pebble", "messages": TALK, "max_tokens": 60, "seed": seed, "temperature": 4, "top_k": 0}
    if kind == "bad":
        return str(running.post("/v1/chat/completions", {**body, "temperature": -1})[0])
    if kind == "whole":
        status, value = running.post("/v1/chat/completions", body)
        return (
            f"{status} {len(value['choices'])} {value['choices'][0]['finish_reason'] in ('stop', 'length')}"
        )
    if kind == "leaves":
        data = json.dumps({**body, "stream": True, "max_tokens": 2000}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n"
        head += f"Authorization: Bearer {running.key}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", running.port)) as raw:
            raw.sendall(head.encode() + data)
            raw.recv(100 + 50 * (seed % 9))
        return "left"
    status, text = running.post("/v1/chat/completions", {**body, "stream": True})
    chunks = [line for line in text.split("\n\n") if line.startswith("data: ")]
    ends = sum('"finish_reason":"' in chunk for chunk in chunks)
    return f"{status} {ends} {chunks[-1]}"


def test_one_end_for_everybody_and_nothing_left(fresh):
    running = fresh("--max-queue", "60")
    kinds = ["streams", "whole", "leaves", "streams", "leaves", "bad"] * (CLIENTS // 6)
    random.Random(1).shuffle(kinds)
    seen: list[tuple[str, str]] = []

    def one(seed: int, kind: str) -> None:
        seen.append((kind, client(running, kind, seed)))

    before = running.wait_idle()
    threads = [threading.Thread(target=one, args=pair) for pair in enumerate(kinds)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    each = CLIENTS // 6
    assert Counter(seen) == {
        ("streams", "200 1 data: [DONE]"): 2 * each,
        ("whole", "200 1 True"): each,
        ("leaves", "left"): 2 * each,
        ("bad", "400"): each,
    }
    after = running.wait_idle()
    assert after["memory"]["kv"] == before["memory"]["kv"]
    assert after["waiting_sequences"] == 0
    figures = running.get("/metrics")[1]
    live = next(line for line in figures.splitlines() if line.startswith("gemstead_kv_pages_live"))
    assert live == 'gemstead_kv_pages_live{model="pebble"} 0.0'
