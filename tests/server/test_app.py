"""The guard and the log of a real server: what is said of requests, and how it ends."""

from __future__ import annotations

import http.client
import json
import signal
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest

ADMIN = "admin-key-0123456789"
ENDINGS = (1, 50, 106)  # tokens that end pebble's answers
HELLO = {"model": "pebble", "messages": [{"role": "user", "content": "Say hello to Xyzzyx"}]}


def test_the_log_holds_neither_keys_nor_words(server):
    before = len(server.lines)
    status, value = server.post("/v1/chat/completions", {**HELLO, "max_tokens": 5, "temperature": 0})
    assert status == 200
    server.get("/v1/Xyzzyx?key=Xyzzyx")
    server.post("/v1/chat/completions", {**HELLO, "model": "Xyzzyx"})
    line = server.wait_line("outcome=length", before)
    fields = dict(part.split("=", 1) for part in line.split())
    assert fields["output"] == "5"
    assert fields["prompt"] == str(value["usage"]["prompt_tokens"])
    server.wait_line("outcome=model_not_found", before)
    written = "".join(server.lines[before:])
    assert "Xyzzyx" not in written
    assert server.key not in written
    assert value["choices"][0]["message"]["content"] not in written


def test_paths_and_methods(server):
    assert server.get("/nothing")[0] == 404
    status, value = server.get("/api/nothing")
    assert (status, set(value), "Ollama's with /api" in value["error"]) == (404, {"error"}, True)
    assert server.get("/v1/chat/completions")[0] == 405
    assert server.get("/health")[1] == {"status": "ready"}
    assert server.get("/health/live")[1] == {"status": "live"}
    assert server.get("/v1/models/")[1] == server.get("/v1/models")[1]
    assert server.post("/v1/tokenize/", {"text": "Hello"})[0] == 200


def test_tokenize_and_back(server):
    ids = server.post("/v1/tokenize", {"text": "Hello there"})[1]["tokens"]
    assert server.post("/v1/detokenize", {"tokens": ids})[1] == {"text": "Hello there"}
    for bad in ([], ["a"], [10**9], [-1], "x", None):
        assert server.post("/v1/detokenize", {"tokens": bad})[0] == 400


def test_metrics_count(server):
    def figures():
        lines = server.get("/metrics", key=ADMIN)[1].splitlines()
        return {k: float(v) for k, v in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}

    before = figures()
    server.post("/v1/chat/completions", {**HELLO, "max_tokens": 7, "temperature": 0})
    after = figures()
    assert after["gemstead_completion_tokens_total"] - before["gemstead_completion_tokens_total"] == 7
    assert after["gemstead_time_to_first_token_seconds_count"] > before.get(
        "gemstead_time_to_first_token_seconds_count", 0
    )
    assert (
        0 < after['gemstead_kv_bytes{model="pebble"}'] <= after['gemstead_kv_ceiling_bytes{model="pebble"}']
    )


def open_stream(running):
    """A connection in the middle of a long answer."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
    body = {**HELLO, "stream": True, "temperature": 6, "top_k": 0, "top_p": 1, "max_tokens": 3000, "seed": 1}
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    response = connection.getresponse()
    for _ in range(6):
        response.readline()
    return connection, response


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_streams_cleanly_and_the_process_with_zero(fresh, number):
    running = fresh("--grace", "0.2")
    connection, response = open_stream(running)
    running.process.send_signal(number)
    last = [line for line in response.read().decode().splitlines() if line][-1]
    connection.close()
    assert last == "data: [DONE]" or json.loads(last.removeprefix("data: "))["error"]["code"] == "stopping"
    assert running.process.wait(20) == 0


def test_stop_request_ends_it(fresh):
    running = fresh()
    assert running.post("/gemstead/stop", None)[1] == {"status": "stopping"}
    assert running.process.wait(20) == 0


def test_a_second_port_for_ollama(fresh):
    running = fresh("--ollama-port", "0")
    line = running.wait_line("OLLAMA_HOST=")
    port = int(line.rpartition(":")[2])
    assert port != running.port
    assert running.get("/api/version")[1] == replace(running, port=port).get("/api/version")[1]


def test_at_sigterm_nobody_is_left_hanging(fresh):
    running = fresh("--grace", "0.5")
    long = {
        "model": "pebble",
        "messages": HELLO["messages"],
        "max_tokens": 4000,
        "temperature": 5,
        "top_k": 0,
    }
    long["logit_bias"] = {str(token): -100 for token in ENDINGS}
    seen: list[str] = []

    def whole() -> None:
        seen.append(f"whole {running.post('/v1/chat/completions', long)[0]}")

    def streamed() -> None:
        text = running.post("/v1/chat/completions", {**long, "stream": True})[1]
        last = text.rstrip().split("\n\n")[-1]
        seen.append("stream ended" if '"error"' in last or last == "data: [DONE]" else last)

    threads = [threading.Thread(target=work) for work in (whole, streamed) * 6]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 20
    while running.get("/gemstead/status")[1]["answers"] < len(threads) and time.monotonic() < end:
        time.sleep(0.01)
    running.process.terminate()
    for thread in threads:
        thread.join(30)
    assert running.process.wait(30) == 0
    assert Counter(seen) == {"whole 503": 6, "stream ended": 6}
