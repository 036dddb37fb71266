"""Shows one turn while it happens and keeps what was said: text to stdout, thoughts and tools to stderr.

Takes the events of agent/loop.py. `run` and `chat` share it; --json uses it without showing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from gemstead.agent.loop import ToolResult, TurnEvent
from gemstead.cli.screen import Screen
from gemstead.types import (
    Done,
    Failed,
    Json,
    ParseNote,
    TextDelta,
    ThoughtDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallEvent,
    Usage,
)

MAX_SHOWN = 200  # characters of a tool's arguments or result on the screen


@dataclass
class Answer:
    """One turn: what was written since the last tool call, all thoughts, calls and their results.

    `end` stays None when the turn was stopped before it ended.
    """

    text: str = ""
    reasoning: str = ""
    results: list[ToolResult] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    end: Done | Failed | None = None

    @property
    def usage(self) -> Usage:
        """Tokens and seconds of the whole turn."""
        return self.end.usage if self.end is not None else Usage()

    def as_json(self, model: str) -> dict[str, Any]:
        """The turn as `run --json` prints it."""
        done = self.end if isinstance(self.end, Done) else None
        results = {id(result.call): result for result in self.results}
        return {
            "model": model,
            "text": self.text,
            "reasoning": self.reasoning.strip() or None,
            "tool_calls": [call_json(call, results.get(id(call))) for call in self.calls],
            "finish_reason": done.reason if done else None,
            "cause": asdict(done.cause) if done and done.cause else None,
            "usage": asdict(self.usage),
        }


def call_json(call: ToolCall, result: ToolResult | None) -> dict[str, Any]:
    """A call and what came of it."""
    entry: dict[str, Any] = {"id": call.id, "name": call.name, "arguments": dict(call.arguments)}
    if result is not None:
        entry |= {"result": result.result, "ok": result.ok}
    return entry


class Viewer:
    """Plays the events of a turn onto a screen.

    Thoughts are dim; folded, they are one moving line that ends as a count. A turn that `stop`
    answers True to is left where it is.
    """

    def __init__(self, screen: Screen, *, silent: bool = False, fold: bool = False) -> None:
        self.screen, self.silent, self.fold = screen, silent, fold
        self._thought = ""
        self._in_thought = False

    def play(self, events: Iterable[TurnEvent], stop: Callable[[], bool] = lambda: False) -> Answer:
        """Show every event, return what was said; the screen ends at the beginning of a line."""
        answer = Answer()
        self._wait("reading the prompt")
        try:
            for event in events:
                self._keep(event, answer)
                if not self.silent:
                    self._show(event)
                if stop():
                    break
        finally:
            self._end_thought()
            if not self.silent:
                self.screen.end_text()
                for note in dict.fromkeys(answer.notes):  # after the answer, not in the middle of a word
                    self.screen.status(f"note: {note}")
        return answer

    def _keep(self, event: TurnEvent, answer: Answer) -> None:
        if isinstance(event, TextDelta):
            answer.text += event.text
        elif isinstance(event, ThoughtDelta):
            answer.reasoning += event.text
        elif isinstance(event, ToolCallEvent):
            answer.calls.append(event.call)
        elif isinstance(event, ToolResult):
            answer.results.append(event)
            answer.text = ""  # what came before a call is not the answer
            answer.reasoning += "\n" if answer.reasoning and not answer.reasoning.endswith("\n") else ""
        elif isinstance(event, ParseNote):
            answer.notes.append(event.message)
        elif isinstance(event, Done | Failed):
            answer.end = event

    def _show(self, event: TurnEvent) -> None:
        if isinstance(event, ThoughtDelta):
            self._show_thought(event.text)
            return
        self._end_thought()
        if isinstance(event, TextDelta):
            self.screen.text(event.text)
        elif isinstance(event, ToolCallDelta):
            if not event.arguments_text:  # the first piece of a call that is being written
                self.screen.end_text()
                self._wait(f"writing a call of {event.name}")
        elif isinstance(event, ToolCallEvent):
            self.screen.end_text()
        elif isinstance(event, ToolResult):
            self.screen.status(describe(event))
            self._wait("reading the result")

    def _show_thought(self, text: str) -> None:
        self._in_thought = True
        self._thought += text
        if self.fold:
            self.screen.live(self._thought)
        else:
            self.screen.aside(text)

    def _end_thought(self) -> None:
        if not self._in_thought:
            return
        if self.fold:
            self.screen.erase_live()
            self.screen.status(f"▸ thought: {len(self._thought.split())} words (/thought shows it)")
        elif not self._thought.endswith("\n"):
            self.screen.aside("\n")
        self._in_thought, self._thought = False, ""

    def _wait(self, what: str) -> None:
        if not self.silent:
            self.screen.wait(what)


def ending(answer: Answer, limit: str) -> str | None:
    """What a person should know about how the answer ended; `limit` is how max_tokens is written here."""
    done = answer.end
    if not isinstance(done, Done) or done.reason == "cancelled":
        return None
    if done.cause and done.cause.code in ("token_loop", "repeated_call", "too_many_rounds"):
        return done.cause.message
    if not answer.text.strip():
        return f"the model wrote no text{': ' + done.cause.message if done.cause else ''}"
    if done.reason == "length":
        return f"the answer was cut off: {limit} or the context was reached"
    return None


def describe(result: ToolResult) -> str:
    """A tool call on one line: → calculator(expression: 17/100*2400) = 408."""
    arguments = ", ".join(f"{name}: {one_line(value)}" for name, value in result.call.arguments.items())
    return f"→ {result.call.name}({arguments}) = {one_line(result.result)}"


def one_line(value: Json) -> str:
    """A value short enough for a status line."""
    text = " ".join((value if isinstance(value, str) else repr(value)).split())
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def speed(usage: Usage) -> str:
    """What a turn cost: '24 tokens at 81.3 per second, after 312 prompt tokens in 0.42 s'."""
    text = f"{usage.completion_tokens} tokens"
    if usage.decode_s > 0:
        text += f" at {usage.completion_tokens / usage.decode_s:.1f} per second"
    prompt = f"{usage.prompt_tokens} prompt tokens"
    if usage.cached_tokens:
        prompt += f" ({usage.cached_tokens} known already)"
    return f"{text}, after {prompt} in {usage.prefill_s:.2f} s"
