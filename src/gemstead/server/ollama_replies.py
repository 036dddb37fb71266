"""Ollama's replies: lines of JSON, or one object; durations in nanoseconds.

A call goes out whole, as Ollama's clients expect, in the line after its last piece. Above: ollama.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from gemstead.server.answers import Answer, compact, whole_arguments
from gemstead.server.openai_replies import chat_logprobs
from gemstead.server.refusals import Refusal, body_of
from gemstead.text.tokenizer import Tokenizer
from gemstead.types import Done, Event, TextDelta, ThoughtDelta, TokenLogprob, ToolCallEvent, Usage


class LineEncoder:
    """The lines of a streamed chat or generate.

    `tokens` is set once the model is open, where log-probabilities were asked for.
    """

    media_type = "application/x-ndjson"

    def __init__(self, model: str, *, is_chat: bool) -> None:
        self._model, self._is_chat = model, is_chat
        self.tokens: Tokenizer | None = None
        self._reason = "stop"

    def opening(self, prompt_tokens: int) -> bytes:  # noqa: ARG002
        """A line without text, so that bytes come at once."""
        return self._line({})

    def encode(self, index: int, events: list[Event]) -> bytes:  # noqa: ARG002 (there is one answer)
        """A line per event."""
        return b"".join(self._event(event) for event in events)

    def ping(self) -> bytes:
        """Ollama's stream has no comments; an empty piece of text says as much."""
        return self._line({})

    def failure(self, refusal: Refusal) -> bytes:
        """The error as the last line."""
        return _line(body_of(refusal, "ollama"))

    def closing(self, usage: Usage) -> bytes:
        """The line that is done."""
        return _line(_whole(self._model, {}, self._is_chat) | _end(self._reason, usage))

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The one object of an answer that was not streamed."""
        calls = [(call, whole_arguments(call)) for call in answer.calls]
        said: dict[str, Any] = {"text": answer.text, **self._logprobs(answer.logprobs)}
        if answer.thought:
            said["thinking"] = answer.thought
        if answer.calls:
            said["calls"] = [
                _call(call.id, call.name, values) for call, values in calls if values is not None
            ]
        reason = answer.end.reason if answer.end is not None else "stop"
        return _whole(self._model, said, self._is_chat) | _end(reason, answer.usage)

    def _event(self, event: Event) -> bytes:
        if isinstance(event, TextDelta):
            return self._line({"text": event.text, **self._logprobs(event.logprobs)})
        if isinstance(event, ThoughtDelta):
            return self._line({"thinking": event.text})
        if isinstance(event, ToolCallEvent):
            return self._line({"calls": [_call(event.call.id, event.call.name, dict(event.call.arguments))]})
        if isinstance(event, Done):
            self._reason = event.reason
        return b""

    def _line(self, said: dict[str, Any]) -> bytes:
        return _line(_whole(self._model, said, self._is_chat) | {"done": False})

    def _logprobs(self, values: Iterable[TokenLogprob]) -> dict[str, Any]:
        if self.tokens is None:
            return {}
        return {"logprobs": chat_logprobs(list(values), self.tokens)["content"]}


def idle_reply(model: str, reason: str, *, is_chat: bool) -> dict[str, Any]:
    """The answer to a request that asked nothing: the model was opened, or closed."""
    return {**_whole(model, {}, is_chat), "done": True, "done_reason": reason}


def _whole(model: str, said: dict[str, Any], is_chat: bool) -> dict[str, Any]:
    head = {"model": model, "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z")}
    thinking = {"thinking": said["thinking"]} if "thinking" in said else {}
    logprobs = {"logprobs": said["logprobs"]} if "logprobs" in said else {}
    if not is_chat:
        return {**head, "response": said.get("text", ""), **thinking, **logprobs}
    calls = {"tool_calls": said["calls"]} if said.get("calls") else {}
    message = {"role": "assistant", "content": said.get("text", ""), **thinking, **calls}
    return {**head, "message": message, **logprobs}


def _end(reason: str, usage: Usage) -> dict[str, Any]:
    return {
        "done": True,
        "done_reason": "length" if reason == "length" else "stop",
        "total_duration": int((usage.prefill_s + usage.decode_s) * 1e9),
        "load_duration": 0,
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": int(usage.prefill_s * 1e9),
        "eval_count": usage.completion_tokens,
        "eval_duration": int(usage.decode_s * 1e9),
    }


def _call(call_id: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"id": call_id, "function": {"name": name, "arguments": arguments}}


def _line(value: dict[str, Any]) -> bytes:
    return f"{compact(value)}\n".encode()
