"""Many requests of all kinds against a real server, and what its memory does: it must not grow.

    python bench/soak.py [--requests 20000] [--laps 40] [--clients 8] [MODEL ...]

Starts `gemstead serve`, runs laps of the same mix, and prints the resident memory after each. The first laps
warm up; a line is fitted through the rest, and its slope is what the server grew per thousand requests.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

WARM = 0.4  # of the laps
TALK = "Tell me about gemstead, the weather and 17% of 2400. "
TOOL = {
    "name": "look",
    "description": "Look somewhere",
    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]},
}


@dataclass
class Server:
    """A `gemstead serve` process of one's own."""

    process: subprocess.Popen[str]
    port: int
    models: list[str]
    lines: list[str] = field(default_factory=list)

    @classmethod
    def start(cls, models: list[str], *options: str) -> Server:
        """Start it and wait until it listens."""
        command = [sys.executable, "-m", "gemstead", "serve", *models, "--port", "0", *options]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        server = cls(process, 0, [])
        for line in process.stderr:
            if match := re.match(r"(\S+) at http://.*:(\d+)", line):
                server.models.append(match[1])
                server.port = int(match[2])
            if "Ctrl-C" in line:
                break
        else:
            raise RuntimeError("the server did not start")
        threading.Thread(target=lambda: [None for _ in process.stderr or ()], daemon=True).start()
        while not server.is_ready():
            time.sleep(0.05)
        return server

    def is_ready(self) -> bool:
        """Whether it takes requests; False while it does not listen yet."""
        try:
            return self.ask("GET", "/health")[0] == 200
        except OSError:
            return False

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    @contextmanager
    def chat(self, body: Any) -> Iterator[tuple[http.client.HTTPConnection, http.client.HTTPResponse]]:
        """A chat's answer as it comes, on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body))
            yield connection, connection.getresponse()
        finally:
            connection.close()

    def memory(self) -> dict[str, int]:
        """Its memory by kind, once nothing is under way."""
        while (status := json.loads(self.ask("GET", "/gemstead/status")[1]))["answers"]:
            time.sleep(0.02)
        return dict(status["memory"])

    def end(self) -> int:
        """Stop it; its exit status."""
        self.process.terminate()
        return self.process.wait(60)


def events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any] | None]:
    """The events of a stream; None for the mark of its end."""
    for line in response:
        if line.startswith(b"data: [DONE]"):
            yield None
        elif line.startswith(b"data: {"):
            yield json.loads(line[6:])


def one(server: Server, kind: str, dice: random.Random) -> str:
    """One request of a kind; what came of it, in a word."""
    model = dice.choice(server.models)
    messages = [{"role": "user", "content": TALK * dice.randint(1, 6) + str(dice.random())}]
    sampling = {"model": model, "temperature": 1.5, "seed": dice.randrange(1 << 30)}
    chat = {**sampling, "messages": messages, "max_tokens": dice.randint(1, 24)}
    number = dice.randrange(1 << 30)
    schema = {"type": "object", "properties": {f"a{number}": {"type": "integer"}}, "required": [f"a{number}"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    bodies: dict[str, tuple[str, dict[str, Any]]] = {
        "whole": ("/v1/chat/completions", chat),
        "stream": ("/v1/chat/completions", {**chat, "stream": True}),
        "several": ("/v1/chat/completions", {**chat, "n": 3, "logprobs": True, "top_logprobs": 2}),
        "schema": ("/v1/chat/completions", {**chat, "response_format": form}),
        "tools": ("/v1/chat/completions", {**chat, "tools": [{"type": "function", "function": TOOL}]}),
        "text": ("/v1/completions", {**sampling, "prompt": TALK, "max_tokens": 8}),
        "response": ("/v1/responses", {"model": model, "input": TALK + str(number), "max_output_tokens": 8}),
        "anthropic": ("/v1/messages", {"model": model, "messages": messages, "max_tokens": 8}),
        "count": ("/v1/messages/count_tokens", {"model": model, "messages": messages}),
        "ollama": ("/api/chat", {"model": model, "messages": messages, "options": {"num_predict": 8}}),
        "wrong": ("/v1/chat/completions", {**chat, "temperature": -1}),
        "unknown": (f"/v1/{number}", {}),
        "tokens": ("/tokenize", {"model": model, "text": TALK}),
        "figures": ("/metrics", {}),
    }
    if kind == "leaves":
        return _leave(server, {**chat, "stream": True, "max_tokens": 2000})
    path, body = bodies[kind]
    status, data = server.ask(
        "GET" if kind == "figures" else "POST", path, None if kind == "figures" else body
    )
    ends = data.count(b"data: [DONE]") if kind == "stream" else 1
    return f"{status}" if ends == 1 else f"{ends} ends"


KINDS = (
    *("whole", "stream", "several", "schema", "tools", "text", "response", "anthropic", "count", "ollama"),
    *("wrong", "unknown", "tokens", "figures", "leaves"),
)


def _leave(server: Server, body: dict[str, Any]) -> str:
    """Hang up in the middle of a stream."""
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(head.encode() + data)
        raw.recv(300)
    return "left"


def lap(server: Server, requests: int, clients: int, seed: int) -> Counter[str]:
    """That many requests, every kind as often; how each ended."""
    dice = random.Random(seed)
    kinds = [KINDS[i % len(KINDS)] for i in range(requests)]
    dice.shuffle(kinds)
    pairs = [(kind, random.Random(dice.random())) for kind in kinds]
    with ThreadPoolExecutor(clients) as pool:
        return Counter(pool.map(lambda pair: f"{pair[0]} {one(server, *pair)}", pairs))


def slope(values: list[float]) -> float:
    """Of the straight line through values at 0, 1, 2, ..."""
    middle, mean = (len(values) - 1) / 2, sum(values) / len(values)
    over = sum((x - middle) * (y - mean) for x, y in enumerate(values))
    return over / sum((x - middle) ** 2 for x in range(len(values)))


def soak(server: Server, requests: int, laps: int, clients: int) -> tuple[list[float], Counter[str]]:
    """Resident megabytes after each lap, and how all requests ended."""
    seen: Counter[str] = Counter()
    sizes = []
    for number in range(laps):
        began = time.perf_counter()
        seen += lap(server, requests // laps, clients, number)
        held = {name: size / 1e6 for name, size in server.memory().items()}
        sizes.append(held["resident"])
        parts = f"prefixes {held['prefix']:.2f} of {held['kv']:.2f}, responses {held['responses']:.2f}"
        print(
            f"lap {number + 1:3}: {sizes[-1]:8.2f} MB ({parts}), {time.perf_counter() - began:.1f} s",
            flush=True,
        )
    return sizes, seen


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=["pebble"])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--laps", type=int, default=40)
    parser.add_argument("--clients", type=int, default=8)
    given = parser.parse_args()
    server = Server.start(given.models, "--context", "512")  # few pages, so that they fill while warming up
    try:
        sizes, seen = soak(server, given.requests, given.laps, given.clients)
    finally:
        status = server.end()
    steady = sizes[int(len(sizes) * WARM) :]
    each = given.requests / given.laps / 1000
    print("\n".join(f"{count:6} {kind}" for kind, count in sorted(seen.items())))
    print(f"grew {slope(steady) / each:+.3f} MB per thousand requests after warming up; exit status {status}")


if __name__ == "__main__":
    main()
