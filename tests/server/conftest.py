"""One real `gemstead serve pebble` process for all tests of a worker, with keys; more for who asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.serving import Running, server, start

__all__ = ["server"]


@pytest.fixture(autouse=True)
def small_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test process has grown to says nothing about a server: budgets made here count a fresh one."""
    monkeypatch.setattr("gemstead.server.budget.resident_bytes", lambda: 64 << 20)


@pytest.fixture
def fresh() -> Iterator[Any]:
    """Start servers of one's own; they are ended with the test."""
    started: list[Running] = []

    def begin(*args: str, keys: bool = False, models: tuple[str, ...] = ("pebble",)) -> Running:
        started.append(start(*args, keys=keys, models=models))
        return started[-1]

    yield begin
    for running in started:
        running.process.kill()
        running.process.wait()
