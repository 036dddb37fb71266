"""Anthropic's replies: the events of a streamed message and whole messages, from the same events.

Blocks come in the order in which the model wrote them; each is closed before the next opens. Above:
anthropic.py.
"""

from __future__ import annotations

import secrets
from typing import Any

from gemstead.server.answers import Answer, named, whole_arguments
from gemstead.server.refusals import Refusal, body_of
from gemstead.types import Done, Event, TextDelta, ThoughtDelta, ToolCallDelta, Usage

_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


class MessageEncoder:
    """The events of a streamed message."""

    media_type = "text/event-stream"

    def __init__(self, model: str) -> None:
        self._model = model
        self._index = -1  # of the newest block
        self._open: tuple[str, int] | None = None  # its kind, and which call it is
        self._end: Done | None = None

    def opening(self, prompt_tokens: int) -> bytes:
        """message_start, before any work: what is cached of the prompt is told at the end."""
        message = {**_head(self._model), "content": [], "stop_reason": None, "stop_sequence": None}
        usage = usage_of(Usage(prompt_tokens=prompt_tokens))
        return named({"type": "message_start", "message": {**message, "usage": usage}})

    def encode(self, index: int, events: list[Event]) -> bytes:  # noqa: ARG002 (there is one answer)
        """Block starts, deltas and stops."""
        return b"".join(self._event(event) for event in events)

    def ping(self) -> bytes:
        """The API's own sign of life."""
        return named({"type": "ping"})

    def failure(self, refusal: Refusal) -> bytes:
        """The error as an event; nothing follows."""
        return named(body_of(refusal, "anthropic"))

    def closing(self, usage: Usage) -> bytes:
        """message_delta and message_stop."""
        delta = {
            "stop_reason": _reason(self._end),
            "stop_sequence": self._end.stop_string if self._end else None,
        }
        last = named({"type": "message_delta", "delta": delta, "usage": usage_of(usage)})
        return self._close() + last + named({"type": "message_stop"})

    def _event(self, event: Event) -> bytes:
        if isinstance(event, TextDelta):
            return self._delta(("text", 0), {"type": "text_delta", "text": event.text})
        if isinstance(event, ThoughtDelta):
            return self._delta(("thinking", 0), {"type": "thinking_delta", "thinking": event.text})
        if isinstance(event, ToolCallDelta):
            block = {"type": "tool_use", "id": event.id, "name": event.name, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": event.arguments_text}
            return self._delta(("tool_use", event.index), delta, block)
        if isinstance(event, Done):
            self._end = event
        return b""

    def _delta(
        self, kind: tuple[str, int], delta: dict[str, Any], block: dict[str, Any] | None = None
    ) -> bytes:
        opening = b""
        if self._open != kind:
            opening = self._close()
            self._index, self._open = self._index + 1, kind
            opening += named(
                {
                    "type": "content_block_start",
                    "index": self._index,
                    "content_block": block or _EMPTY[kind[0]],
                }
            )
        return opening + named({"type": "content_block_delta", "index": self._index, "delta": delta})

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        return named({"type": "content_block_stop", "index": self._index})


_EMPTY: dict[str, dict[str, Any]] = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}


def message_reply(model: str, answer: Answer) -> dict[str, Any]:
    """A whole message."""
    end = answer.end if isinstance(answer.end, Done) else None
    content: list[dict[str, Any]] = []
    if answer.thought:
        content.append({"type": "thinking", "thinking": answer.thought, "signature": ""})
    if answer.text:
        content.append({"type": "text", "text": answer.text})
    for call in answer.calls:
        arguments = whole_arguments(call)
        if arguments is not None:  # one that was cut short is there as text
            content.append({"type": "tool_use", "id": call.id, "name": call.name, "input": arguments})
    return {
        **_head(model),
        "content": content,
        "stop_reason": _reason(end),
        "stop_sequence": end.stop_string if end else None,
        "usage": usage_of(answer.usage),
    }


def usage_of(usage: Usage) -> dict[str, int]:
    """Usage in Anthropic's words: what was found cached does not count as input."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }


def _head(model: str) -> dict[str, Any]:
    return {"id": "msg_" + secrets.token_hex(12), "type": "message", "role": "assistant", "model": model}


def _reason(end: Done | None) -> str:
    if end is None:
        return "end_turn"
    return "stop_sequence" if end.stop_string is not None else _REASONS.get(end.reason, "end_turn")
