"""What the clients of other people are shown: one real `gemstead serve pebble`, with keys."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import pytest

import gemstead
from support.serving import Running, server

__all__ = ["server"]

# Beyond the limit of a body, in one message.
TOO_LARGE = "x" * (33 << 20)
TOO_LONG = "hello " * 5000  # for pebble's context

CALCULATOR: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Evaluate an arithmetic expression",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string"}},
            "required": ["expression"],
        },
    },
}


@pytest.fixture(scope="session")
def calculator() -> dict[str, Any]:
    """A tool pebble was trained to call, as OpenAI writes it."""
    return CALCULATOR


@pytest.fixture(scope="session")
def eager() -> dict[str, float]:
    """A logit_bias under which pebble opens one tool call after another."""
    with gemstead.open("pebble") as model:
        return {str(model.tokenizer.control.call_open): 100}


@pytest.fixture(scope="session")
def endless() -> dict[str, Any]:
    """A schema whose answers go on long enough to be left in the middle."""
    return {
        "type": "object",
        "properties": {"text": {"type": "string", "minLength": 3000}},
        "required": ["text"],
        "additionalProperties": False,
    }


@pytest.fixture
def full(server: Running) -> Iterator[Callable[[], None]]:
    """The server has all the answers under way that one client may have, until this is called."""
    with gemstead.open("pebble") as model:
        unending = {str(token): -100 for token in model.spec.tokens.eos}
    body = {
        "model": "pebble", "messages": [{"role": "user", "content": "Say hello"}], "n": 8, "stream": True,
        "max_tokens": 3000, "temperature": 2, "top_k": 0, "logit_bias": unending,
    }  # fmt: skip
    with ExitStack() as held:
        for _ in range(3):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            held.callback(connection.close)
            key = {"Authorization": f"Bearer {server.key}"}
            connection.request("POST", "/v1/chat/completions", json.dumps(body), key)
            response = connection.getresponse()
            held.callback(response.close)
            assert response.status == 200
        yield held.close
    server.wait_idle()


@pytest.fixture
def left(server: Running) -> Callable[[], AbstractContextManager[None]]:
    """Whoever asks inside leaves in the middle of the answer: the server notices, and is idle again."""

    @contextmanager
    def leaving() -> Iterator[None]:
        server.wait_idle()
        before = len(server.lines)
        yield
        assert "stream=true" in server.wait_line("outcome=client_gone", before)
        server.wait_idle()

    return leaving


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The one schema of all these tests: a boolean, which even pebble gets right."""
    if "schema" in metafunc.fixturenames:
        schema = {
            "type": "object",
            "properties": {"ok": {"type": "boolean"}},
            "required": ["ok"],
            "additionalProperties": False,
        }
        metafunc.parametrize("schema", [schema], ids=[""])
