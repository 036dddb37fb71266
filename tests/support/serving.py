"""A real `gemstead serve pebble` process and plain HTTP to it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

KEY, ADMIN = "user-key-0123456789", "admin-key-0123456789"


@dataclass
class Running:
    """A server process: where it listens and what it has said on stderr."""

    process: subprocess.Popen[str]
    port: int
    lines: list[str] = field(default_factory=list)
    key: str | None = KEY

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def request(
        self, method: str, path: str, body: Any = None, key: str | None = "", **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON (or text) and headers; key '' is the server's own, None is none."""
        key = self.key if key == "" else key
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if key is not None:
            headers = {"Authorization": f"Bearer {key}", **headers}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            raw = response.read()
        finally:
            connection.close()
        try:
            value = json.loads(raw)
        except ValueError:
            value = raw.decode()
        return response.status, value, {k.lower(): v for k, v in response.getheaders()}

    def post(self, path: str, body: Any, **more: Any) -> tuple[int, Any]:
        return self.request("POST", path, body, **more)[:2]

    def get(self, path: str, **more: Any) -> tuple[int, Any]:
        return self.request("GET", path, **more)[:2]

    def status(self) -> dict[str, Any]:
        return self.get("/gemstead/status", key=ADMIN)[1]

    def wait_idle(self, seconds: float = 20) -> dict[str, Any]:
        """The status once nothing is under way."""
        end = time.monotonic() + seconds
        while (status := self.status())["answers"] or status["live_sequences"]:
            assert time.monotonic() < end, status
        return status

    def wait_line(self, text: str, after: int = 0, seconds: float = 60) -> str:
        """The first line on stderr that holds the text."""
        end = time.monotonic() + seconds
        while not (found := [line for line in self.lines[after:] if text in line]):
            assert time.monotonic() < end, "".join(self.lines)
            assert self.process.poll() is None, "".join(self.lines)
            time.sleep(0.02)
        return found[0]


def start(
    *args: str,
    keys: bool = True,
    models: tuple[str, ...] = ("pebble",),
    program: tuple[str, ...] = ("-m", "gemstead"),
) -> Running:
    """Start a server and wait until it answers; `program` is what Python runs."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("GEMSTEAD_")}
    if keys:
        env |= {"GEMSTEAD_API_KEY": KEY, "GEMSTEAD_ADMIN_KEY": ADMIN}
    process = subprocess.Popen(
        [sys.executable, *program, "serve", *models, "--port", "0", "--threads", "1", *args],
        env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    running = Running(process, 0, key=KEY if keys else None)
    assert process.stderr is not None
    reader = threading.Thread(target=lambda: running.lines.extend(process.stderr), daemon=True)
    reader.start()
    line = running.wait_line(" at http://")
    running.port = int(line.split(",")[0].rpartition(":")[2])
    running.wait_line("Ctrl-C")
    end = time.monotonic() + 30
    while True:
        try:
            assert running.get("/health")[0] == 200
            return running
        except OSError:
            assert time.monotonic() < end


def end(running: Running) -> int:
    if running.process.poll() is None:
        running.process.send_signal(signal.SIGTERM)
    return running.process.wait(30)


@pytest.fixture(scope="session")
def server() -> Iterator[Running]:
    """One server for all tests of a worker; a conftest that wants it imports it."""
    running = start("--alias", "gpt-4o", "--max-queue", "8")
    yield running
    assert end(running) == 0
