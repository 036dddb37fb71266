"""The Responses API's replies: the events of a stream and whole responses, built by the same hand.

Items come in the order in which the model wrote them, each closed before the next opens. Above:
responses.py.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

from gemstead.server.answers import Answer, named
from gemstead.server.openai_replies import because, chat_logprobs
from gemstead.server.refusals import Refusal
from gemstead.text.tokenizer import Tokenizer
from gemstead.types import Done, Event, TextDelta, ThoughtDelta, ToolCallDelta, Usage

_PARTS = {"message": "output_text", "reasoning": "reasoning_text"}


class ResponseEncoder:
    """One response on its way; `keep` is called with it when it is whole.

    `tokens` is set once the model is open, where log-probabilities were asked for.
    """

    media_type = "text/event-stream"

    def __init__(self, given: dict[str, Any], keep: Callable[[dict[str, Any]], None]) -> None:
        self._keep = keep
        self.tokens: Tokenizer | None = None
        self._number = -1
        self._open: tuple[str, int] | None = None  # the kind of the newest item, and which call it is
        self._end: Done | None = None
        self.response: dict[str, Any] = {
            "id": "resp_" + secrets.token_hex(16),
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "instructions": given.get("instructions"),
            "max_output_tokens": given.get("max_output_tokens"),
            "metadata": given.get("metadata", {}),
            "model": given["model"],
            "output": [],
            "parallel_tool_calls": given.get("parallel_tool_calls", True),
            "previous_response_id": given.get("previous_response_id"),
            "reasoning": given.get("reasoning", {"effort": None, "summary": None}),
            "store": given.get("store", True),
            "temperature": given.get("temperature"),
            "text": given.get("text", {"format": {"type": "text"}}),
            "tool_choice": given.get("tool_choice", "auto"),
            "tools": given.get("tools", []),
            "top_p": given.get("top_p"),
            "truncation": "disabled",
            "usage": None,
        }

    def opening(self, prompt_tokens: int) -> bytes:  # noqa: ARG002
        """The response as it begins, before any work."""
        return self._whole("response.created") + self._whole("response.in_progress")

    def encode(self, index: int, events: list[Event]) -> bytes:  # noqa: ARG002 (there is one answer)
        """Items and their pieces."""
        return b"".join(self._event(event) for event in events)

    def ping(self) -> bytes:
        """A comment, which clients skip."""
        return b": ping\n\n"

    def failure(self, refusal: Refusal) -> bytes:
        """The response with its error; nothing follows."""
        closing = self._close()
        self.response |= {
            "status": "failed",
            "error": {"code": refusal.code or "server_error", "message": refusal.message},
        }
        return closing + self._whole("response.failed")

    def closing(self, usage: Usage) -> bytes:
        """The whole response."""
        closing = self._close()
        is_cut = self._end is not None and self._end.reason == "length"
        self.response |= {
            "status": "incomplete" if is_cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "usage": usage_of(usage),
            **because(self._end.cause if self._end is not None else None),
        }
        self._keep(self.response)
        return closing + self._whole(f"response.{self.response['status']}")

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The response of an answer that was not streamed."""
        self.encode(0, answer.events)
        self.closing(answer.usage)
        return self.response

    def _event(self, event: Event) -> bytes:
        if isinstance(event, Done):
            self._end = event
        elif isinstance(event, TextDelta):
            opening, item = self._item(("message", 0), {"role": "assistant", "content": []})
            item["content"][0]["text"] += event.text
            logprobs = self._logprobs(event)
            item["content"][0]["logprobs"] += logprobs
            more = {"content_index": 0, "delta": event.text, "logprobs": logprobs}
            return opening + self._piece("response.output_text.delta", item, more)
        elif isinstance(event, ThoughtDelta):
            opening, item = self._item(("reasoning", 0), {"summary": [], "content": []})
            item["content"][0]["text"] += event.text
            more = {"content_index": 0, "delta": event.text}
            return opening + self._piece("response.reasoning_text.delta", item, more)
        elif isinstance(event, ToolCallDelta):
            fresh = {"call_id": event.id, "name": event.name, "arguments": ""}
            opening, item = self._item(("function_call", event.index), fresh)
            item["arguments"] += event.arguments_text
            more = {"delta": event.arguments_text}
            return opening + self._piece("response.function_call_arguments.delta", item, more)
        return b""

    def _logprobs(self, event: TextDelta) -> list[dict[str, Any]]:
        if self.tokens is None:
            return []
        content: list[dict[str, Any]] = chat_logprobs(list(event.logprobs), self.tokens)["content"]
        return content

    def _item(self, kind: tuple[str, int], fresh: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
        """The item of that kind, opened if it is not the newest, and what that says."""
        output: list[dict[str, Any]] = self.response["output"]
        if self._open == kind:
            return b"", output[-1]
        said = self._close()
        prefix = {"message": "msg_", "reasoning": "rs_", "function_call": "fc_"}[kind[0]]
        item = {"id": prefix + secrets.token_hex(12), "type": kind[0], "status": "in_progress", **fresh}
        output.append(item)
        self._open = kind
        said += self._send("response.output_item.added", {"output_index": len(output) - 1, "item": item})
        if kind[0] in _PARTS:
            part: dict[str, Any] = {"type": _PARTS[kind[0]], "text": ""}
            if kind[0] == "message":
                part |= {"annotations": [], "logprobs": []}
            item["content"].append(part)
            said += self._piece("response.content_part.added", item, {"content_index": 0, "part": part})
        return said, item

    def _close(self) -> bytes:
        """End the newest item."""
        if self._open is None:
            return b""
        kind, self._open = self._open[0], None
        item = self.response["output"][-1]
        item["status"] = "completed"
        said = b""
        if kind == "function_call":
            more = {"name": item["name"], "arguments": item["arguments"]}
            said = self._piece("response.function_call_arguments.done", item, more)
        else:
            part = item["content"][0]
            more = {"content_index": 0, "text": part["text"]}
            if kind == "message":
                more["logprobs"] = part["logprobs"]
            said = self._piece(f"response.{_PARTS[kind]}.done", item, more)
            said += self._piece("response.content_part.done", item, {"content_index": 0, "part": part})
        index = len(self.response["output"]) - 1
        return said + self._send("response.output_item.done", {"output_index": index, "item": item})

    def _piece(self, kind: str, item: dict[str, Any], more: dict[str, Any]) -> bytes:
        index = len(self.response["output"]) - 1
        return self._send(kind, {"item_id": item["id"], "output_index": index, **more})

    def _whole(self, kind: str) -> bytes:
        return self._send(kind, {"response": self.response})

    def _send(self, kind: str, value: dict[str, Any]) -> bytes:
        self._number += 1
        return named({"type": kind, "sequence_number": self._number, **value})


def usage_of(usage: Usage) -> dict[str, Any]:
    """Usage in this API's words."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
