"""What the clients of other people are shown: one real `gemstead serve pebble`, with keys."""

from __future__ import annotations

from typing import Any

import pytest

import gemstead
from support.serving import server

__all__ = ["server"]

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
