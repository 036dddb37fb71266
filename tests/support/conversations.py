"""Conversations written as Google's templates take them (OpenAI-like dicts), turned into our types."""

from __future__ import annotations

from typing import Any

from gemstead.types import Json, MediaPart, Message, Part, TextPart, Tool, ToolCall


def messages_of(rows: list[dict[str, Any]]) -> list[Message]:
    """Messages of OpenAI-like dicts; embedded `tool_responses` become tool messages."""
    found = []
    for row in rows:
        calls = tuple(
            ToolCall(c["function"]["name"], c["function"]["arguments"] or {}, c.get("id", ""))
            for c in row.get("tool_calls") or ()
        )
        found.append(
            Message(
                row["role"],
                _content(row.get("content")),
                reasoning=row.get("reasoning") or row.get("reasoning_content"),
                tool_calls=calls,
                tool_call_id=row.get("tool_call_id"),
                name=row.get("name"),
            )
        )
        for response in row.get("tool_responses") or ():
            call = next((c for c in calls if c.name == response["name"]), None)
            found.append(Message.tool(response["response"], call=call, name=response["name"]))
    return found


def tools_of(rows: list[dict[str, Any]] | None) -> list[Tool]:
    """Tools of OpenAI-like declarations."""
    functions = [row["function"] for row in rows or ()]
    return [
        Tool(f["name"], f.get("description", ""), f.get("parameters") or {}, f.get("response"))
        for f in functions
    ]


def _content(content: Json) -> Any:
    if not isinstance(content, list):
        return content
    parts: list[Part] = []
    for part in content:
        kind = str(part["type"]).removesuffix("_url").removeprefix("input_")
        parts.append(TextPart(part["text"]) if kind == "text" else MediaPart(kind))  # type: ignore[arg-type]
    return tuple(parts)
