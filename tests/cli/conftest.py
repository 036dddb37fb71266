"""A model that says what a test wrote down, and ways to run the command line with it."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import gemstead
from gemstead.cli.main import main
from gemstead.spec.variants import VARIANTS
from gemstead.types import Done, Event, TextDelta, ToolCall, ToolCallEvent, Usage
from support.fake_hub import FakeHub, serving
from support.repositories import repositories

USAGE = Usage(prompt_tokens=40, completion_tokens=12, prefill_s=0.25, decode_s=0.5)


def says(*pieces: str, reason: str = "stop") -> list[Event]:
    """The events of an answer in these pieces."""
    return [*(TextDelta(piece) for piece in pieces), Done(reason, USAGE)]  # type: ignore[arg-type]


def calls(name: str, **arguments: Any) -> list[Event]:
    """The events of one tool call."""
    return [ToolCallEvent(ToolCall(name, arguments, "call_1")), Done("tool_calls", USAGE)]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No model of the machine that runs the tests is seen, and no network is asked."""
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("HF_HOME", str(home / "hf"))
    monkeypatch.setenv("GEMSTEAD_OFFLINE", "1")
    for name in ("GEMSTEAD_MODELS", "OLLAMA_MODELS", "HF_HUB_CACHE", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:  # noqa: ARG001
    """A hub on loopback that may be asked, with E2B in small."""
    with serving(FakeHub(repos={name: dict(files) for name, files in repositories().items()})) as fake:
        monkeypatch.setenv("HF_ENDPOINT", fake.url)
        monkeypatch.delenv("GEMSTEAD_OFFLINE")
        yield fake


@dataclass
class FakeModel:
    """Answers the n-th request with the n-th list of events; an exception in a list is raised there."""

    rounds: list[list[Any]]
    spec: Any = VARIANTS["tiny-e2b"]
    asked: list[dict[str, Any]] = field(default_factory=list)
    opened: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    is_closed: bool = False
    cancelled: int = 0
    note: str | None = None

    def chat(self, messages: Any, tools: Any = (), **options: Any) -> Iterator[Event]:
        self.asked.append({"messages": list(messages), "tools": tuple(tools), **options})
        try:
            for event in self.rounds.pop(0):
                if isinstance(event, BaseException):
                    raise event
                yield event
        except GeneratorExit:
            self.cancelled += 1
            raise

    def close(self) -> None:
        self.is_closed = True

    def __enter__(self) -> FakeModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeModel]:
    """Let gemstead.open return a model that answers with these rounds."""

    def install(*rounds: list[Any]) -> FakeModel:
        model = FakeModel(list(rounds))

        def open_fake(path: str = "pebble", **options: Any) -> FakeModel:
            model.opened.append((path, options))
            return model

        monkeypatch.setitem(vars(gemstead), "open", open_fake)  # not setattr: it would load the real one
        return model

    return install


@dataclass
class Ran:
    """What a command printed and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def gem(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run `gemstead ARGS` in this process with `stdin` piped in."""

    def run(*args: str, stdin: str | bytes = "") -> Ran:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        code = main(list(args))
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture
def script() -> Any:
    """says() and calls() for the tests."""

    class Script:
        says = staticmethod(says)
        calls = staticmethod(calls)

    return Script
