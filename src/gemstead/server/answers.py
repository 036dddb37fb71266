"""Events gathered into one whole answer, for replies that are not streamed and for the log.

What a stream says piece by piece is what this holds at the end: both come from the same events.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from gemstead.types import (
    Done,
    Event,
    Failed,
    TextDelta,
    ThoughtDelta,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)


@dataclass
class Call:
    """A tool call as its pieces told it; `arguments` is JSON text, cut short where the output was."""

    id: str
    name: str
    arguments: str = ""


@dataclass
class Answer:
    """Text, thought, calls and the end of one request."""

    text: str = ""
    thought: str = ""
    calls: list[Call] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    end: Done | Failed | None = None
    events: list[Event] = field(default_factory=list)  # all of them, in their order

    def take(self, events: list[Event]) -> None:
        """Add what the events say."""
        self.events += events
        for event in events:
            if isinstance(event, TextDelta):
                self.text += event.text
                self.logprobs += event.logprobs
            elif isinstance(event, ThoughtDelta):
                self.thought += event.text
            elif isinstance(event, ToolCallDelta):
                if event.index == len(self.calls):
                    self.calls.append(Call(event.id, event.name))
                self.calls[event.index].arguments += event.arguments_text
            elif isinstance(event, Done | Failed):
                self.end = event

    @property
    def usage(self) -> Usage:
        """What it cost."""
        return self.end.usage if self.end is not None else Usage()


def together(usages: list[Usage]) -> Usage:
    """The usage of several answers to one prompt: the prompt counts once."""
    first = usages[0]
    return Usage(
        prompt_tokens=first.prompt_tokens,
        cached_tokens=first.cached_tokens,
        completion_tokens=sum(u.completion_tokens for u in usages),
        reasoning_tokens=sum(u.reasoning_tokens for u in usages),
        drafted_tokens=sum(u.drafted_tokens for u in usages),
        accepted_tokens=sum(u.accepted_tokens for u in usages),
        prefill_s=first.prefill_s,
        decode_s=max(u.decode_s for u in usages),
    )


def compact(value: Any) -> str:
    """JSON on one line, as all streams carry it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def sse(value: Any) -> bytes:
    """One server-sent event of JSON."""
    return f"data: {compact(value)}\n\n".encode()


def named(event: dict[str, Any]) -> bytes:
    """The same with the event's own type as its name."""
    return f"event: {event['type']}\n".encode() + sse(event)


def whole_arguments(call: Call) -> dict[str, Any] | None:
    """A call's arguments as values; None where the output ended before they did."""
    try:
        value = json.loads(call.arguments)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
