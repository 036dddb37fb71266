"""`gemstead ps` and `gemstead stop` against a real server."""

from __future__ import annotations

import http.server
import json
import threading

import pytest

from gemstead.cli.ps import rows
from gemstead.cli.stop import stop
from support.serving import ADMIN, KEY, start


def test_rows():
    models = [
        {"name": "e2b", "aliases": ["gpt"], "state": "open", "context_tokens": 4096, "expires_s": None},
        {"name": "e4b", "aliases": [], "state": "open", "context_tokens": 2048, "expires_s": 4671.0},
        {"name": "31b", "aliases": [], "state": "closed", "context_tokens": None, "expires_s": None},
    ]
    adapters: list[list[str]] = [["mine", "hers"], [], ["his"]]
    models = [{**model, "adapters": names} for model, names in zip(models, adapters, strict=True)]
    memory = dict(
        zip(
            ["ceiling", "weights", "kv", "prefix", "responses", "working", "resident"],
            range(1, 8),
            strict=True,
        )
    )
    status = {
        "pid": 7, "models": models, "since": 1000, "answers": 3, "most_answers": 64, "live_sequences": 2,
        "waiting_sequences": 1, "generated_tokens": 1234,
        "memory": {name: size * 10**9 for name, size in memory.items()},
    }  # fmt: skip
    assert rows(status, 1000 + 3661) == [
        ("model", "e2b, gpt (adapters: mine, hers): open, 4,096 tokens of context"),
        ("model", "e4b: open, 2,048 tokens of context, closes in 10 s"),
        ("model", "31b (adapters: his): closed"),
        ("process", "7, up 1 h 01 min"),
        ("answers", "3 of 64 (2 computing, 1 waiting)"),
        ("memory", "1,000 MB at most, 7,000 MB in use"),
        (
            "",
            "2,000 MB weights, 3,000 MB keys and values (4,000 MB of them kept), 5,000 MB responses, "
            "6,000 MB set aside to work",
        ),
        ("output", "1,234 tokens so far"),
    ]


def test_a_running_server_is_shown_and_stopped(gem, monkeypatch):
    running = start()
    place = ["--port", str(running.port)]
    try:
        monkeypatch.delenv("GEMSTEAD_ADMIN_KEY", raising=False)
        monkeypatch.setenv("GEMSTEAD_API_KEY", KEY)
        refused = gem("ps", *place)
        assert refused.code == 1
        assert "admin key" in refused.err
        monkeypatch.setenv("GEMSTEAD_ADMIN_KEY", ADMIN)
        assert json.loads(gem("ps", "--json", *place).out)["models"][0]["name"] == "pebble"
        assert "pebble" in gem("ps", *place).out
        assert gem(stop.name, *place).out.endswith("is stopping\n")
        assert running.process.wait(20) == 0
    finally:
        running.process.kill()
    gone = gem("ps", *place)
    assert gone.code == 1
    assert "start one with gemstead serve" in gone.err


@pytest.mark.parametrize("command", ["ps", "stop"])
def test_something_else_listens(gem, command):

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        ran = gem(command, "--port", str(other.server_address[1]))
        other.shutdown()
    assert ran.code == 1
    assert "no gemstead server" in ran.err
