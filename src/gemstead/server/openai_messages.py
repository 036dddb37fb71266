"""OpenAI's messages, tools and output formats as gemstead's own values; anything unknown is refused.

Text parts become text, media only as data URLs: nothing here opens a file or a connection.
Neighbours: openai.py for whole requests, responses.py shares tools and formats.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gemstead.server.fields import (
    Field,
    anything,
    flag,
    inner,
    need,
    objects,
    one_of,
    only,
    read,
    record,
    shaped,
    silent,
    text,
)
from gemstead.server.refusals import wrong
from gemstead.types import ROLES, MediaPart, Message, OutputFormat, Part, TextPart, Tool, ToolCall

MAX_MESSAGES, MAX_TOOLS, MAX_SCHEMA_BYTES, MAX_IMAGES = 4096, 128, 256 << 10, 64
CALLS_FIT = "every call fits its schema; without strict, where that can be guaranteed"

CONTENT = {"type": ["string", "array"], "items": {"type": "object"}}
CALL = {
    "id": Field(text, ""),
    "type": Field(only("function"), ""),
    "index": Field(anything, ""),
    "function": Field(record, ""),
}
MESSAGE = {
    "role": Field(one_of(*ROLES), "system, developer, user, assistant or tool"),
    "content": Field(shaped(CONTENT), "a string, a list of parts, or null beside tool calls"),
    "name": Field(text, "the name of the tool that a result is of; otherwise without effect"),
    "reasoning": Field(text, "the thought before an assistant's content"),
    "reasoning_content": Field(text, "the same under its other name"),
    "tool_calls": Field(objects(MAX_TOOLS, CALL, ("function",)), "the calls an assistant made"),
    "tool_call_id": Field(text, "which call a tool message answers"),
    "refusal": Field(text, "taken as content where there is none"),
    "annotations": Field(only([]), "empty only"),
}
FUNCTION = {
    "name": Field(text, ""),
    "description": Field(text, ""),
    "parameters": Field(record, ""),
    "strict": Field(flag, ""),
}
TOOL = {"type": Field(only("function"), ""), "function": Field(inner(FUNCTION, ("name",)), "")}
SCHEMA = {
    "name": Field(text, ""),
    "description": Field(text, ""),
    "strict": Field(flag, ""),
    "schema": Field(record, ""),
}
# What clients say to OpenAI's servers about themselves and about caches.
HINTS = {
    "safety_identifier": silent(text, "nothing is kept about users"),
    "prompt_cache_key": silent(text, "prompts that begin alike are found by themselves"),
    "prompt_cache_retention": silent(anything, "what was read is kept while there is memory"),
    "prompt_cache_options": silent(anything, "what was read is kept while there is memory"),
}
# What `verbosity` asks of the model: Gemma has no setting for it, but does as it is told.
VERBOSITY = {"low": "Answer briefly.", "medium": "", "high": "Answer at length and in detail."}
VERBOSE = f"low and high put a sentence into the system turn ({VERBOSITY['low']} {VERBOSITY['high']})"
NO_MEDIA = "this server fetches nothing, and its models are open for text only: leave it out"
_MEDIA = {"image_url": "image", "input_audio": "audio", "video_url": "video", "file": "file"}


def messages_of(listed: list[dict[str, Any]]) -> tuple[Message, ...]:
    """The conversation; a Refusal names the message and field at fault."""
    return tuple(_message(entry, f"messages[{i}].") for i, entry in enumerate(listed))


def with_verbosity(messages: Sequence[Message], word: str | None) -> tuple[Message, ...]:
    """The conversation with what `verbosity` asks for at the end of its instructions."""
    told = VERBOSITY[word or "medium"]
    if not told:
        return tuple(messages)
    first = messages[0]
    if first.role not in ("system", "developer"):
        return (Message.system(told), *messages)
    parts = first.content if isinstance(first.content, tuple) else (TextPart(str(first.content)),)
    return (replace(first, content=joined([*parts, TextPart(f"\n\n{told}")])), *messages[1:])


def _message(entry: dict[str, Any], where: str) -> Message:
    given = read({k: v for k, v in entry.items() if v is not None or k not in _NULLS}, MESSAGE, where)
    role = need(given, "role", where)
    content = given.get("content", given.get("refusal", ""))
    said = given.get("reasoning", given.get("reasoning_content"))
    calls = tuple(_call(c, f"{where}tool_calls[{i}].") for i, c in enumerate(given.get("tool_calls", ())))
    return Message(
        role,
        content if isinstance(content, str) else parts_of(content, f"{where}content"),
        reasoning=said,
        tool_calls=calls,
        tool_call_id=given.get("tool_call_id"),
        name=given.get("name"),
    )


# What the official SDKs write into a message that says nothing about them.
_NULLS = ("audio", "function_call")


def parts_of(content: Any, where: str) -> str | tuple[Part, ...]:
    """A list of parts; text alone becomes one string."""
    parts: list[Part] = []
    for i, part in enumerate(objects(1024)(content, where)):
        kind, here = part.get("type"), f"{where}[{i}]"
        if kind in ("text", "input_text", "output_text", "refusal"):
            parts.append(TextPart(text(part.get("refusal" if kind == "refusal" else "text"), f"{here}.text")))
        elif kind in _MEDIA:
            parts.append(_media(part, kind, here))
        else:
            raise wrong(here, f"{here}.type is {str(kind)[:40]!r}, allowed is text; {NO_MEDIA}")
    return joined(parts)


def joined(parts: Sequence[Part]) -> str | tuple[Part, ...]:
    """Parts as a message holds them: text alone is one string."""
    if all(isinstance(part, TextPart) for part in parts):
        return "".join(part.text for part in parts if isinstance(part, TextPart))
    return tuple(parts)


def _media(part: dict[str, Any], kind: str, where: str) -> MediaPart:
    inner = part.get(kind)
    if kind == "input_audio" and isinstance(inner, dict):
        return MediaPart("audio", decoded(text(inner.get("data"), f"{where}.data"), where))
    url = inner.get("url") if isinstance(inner, dict) else inner
    if kind not in ("image_url", "video_url") or not isinstance(url, str) or not url.startswith("data:"):
        raise wrong(where, f"{where} is no data: URL; {NO_MEDIA}")
    return MediaPart("image" if kind == "image_url" else "video", decoded(url.partition(",")[2], where))


def decoded(data: str, where: str) -> bytes:
    """The bytes of base64."""
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise wrong(where, f"{where} is not base64") from None


def _call(entry: dict[str, Any], where: str) -> ToolCall:
    given = read(entry, CALL, where)
    function = need(given, "function", where)
    name = text(function.get("name"), f"{where}function.name")
    return ToolCall(
        name, arguments_of(function.get("arguments"), f"{where}function.arguments"), given.get("id", "")
    )


def arguments_of(value: Any, where: str) -> dict[str, Any]:
    """A call's arguments from JSON text or an object."""
    if isinstance(value, str):
        try:
            value = json.loads(value or "{}")
        except (ValueError, RecursionError):
            raise wrong(where, f"{where} is not JSON") from None
    return record(value, where)


def tools_of(listed: list[dict[str, Any]]) -> tuple[Tool, ...]:
    """The functions on offer."""
    tools = []
    for i, entry in enumerate(listed):
        where = f"tools[{i}]."
        function = need(read(entry, TOOL, where), "function", where)
        tools.append(tool_of(read(function, FUNCTION, f"{where}function."), f"{where}function."))
    return unique(tools)


def tool_of(given: dict[str, Any], where: str) -> Tool:
    """One function from its checked fields."""
    name = need(given, "name", where)
    if not 0 < len(name) <= 128:
        raise wrong(f"{where}name", f"{where}name has {len(name)} characters; 1 to 128 are allowed")
    parameters = small(given.get("parameters") or {"type": "object", "properties": {}}, f"{where}parameters")
    return Tool(name, given.get("description", ""), parameters, strict=given.get("strict", False))


def unique(tools: list[Tool]) -> tuple[Tool, ...]:
    """The tools, if no two have one name."""
    names = [tool.name for tool in tools]
    for name in names:
        if names.count(name) > 1:
            raise wrong("tools", f"two tools are called {name!r}")
    return tuple(tools)


def small(schema: dict[str, Any], where: str) -> dict[str, Any]:
    """A schema within its limit."""
    size = len(json.dumps(schema))
    if size > MAX_SCHEMA_BYTES:
        raise wrong(where, f"{where} has {size:,} bytes; {MAX_SCHEMA_BYTES:,} at most")
    return schema


def choice_of(value: Any, tools: tuple[Tool, ...]) -> tuple[str, tuple[Tool, ...]]:
    """tool_choice as a word or a tool's name, and the tools that remain on offer."""
    if value is None:
        return "auto", tools
    if isinstance(value, str):
        return one_of("auto", "none", "required")(value, "tool_choice"), tools
    kind = record(value, "tool_choice").get("type")
    if kind == "function":
        function = value.get("function") or value
        name = text(function.get("name") if isinstance(function, dict) else None, "tool_choice.function.name")
        if name not in [tool.name for tool in tools] or name in ("auto", "none", "required"):
            raise wrong("tool_choice", f"tool_choice names {name[:80]!r}, which is not among tools")
        return name, tools
    if kind == "allowed_tools":
        allowed = record(value.get("allowed_tools", value), "tool_choice.allowed_tools")
        mode = one_of("auto", "required")(allowed.get("mode"), "tool_choice.allowed_tools.mode")
        names = [
            _allowed_name(x)
            for x in objects(MAX_TOOLS)(allowed.get("tools"), "tool_choice.allowed_tools.tools")
        ]
        return mode, tuple(tool for tool in tools if tool.name in names)
    raise wrong("tool_choice", "tool_choice.type must be function or allowed_tools")


def _allowed_name(entry: dict[str, Any]) -> Any:
    function = entry.get("function") or entry
    return function.get("name") if isinstance(function, dict) else None


def format_of(value: dict[str, Any] | None) -> OutputFormat | None:
    """response_format as what the answer must be."""
    if value is None:
        return None
    kind = one_of("text", "json_object", "json_schema")(value.get("type"), "response_format.type")
    if kind == "text":
        return None
    if kind == "json_object":
        return OutputFormat("json_schema", {"type": "object"})
    inner = value.get("json_schema")
    where = "response_format."
    if not isinstance(inner, dict):  # the Responses API has these fields one level up
        inner = {k: v for k, v in value.items() if k != "type"}
    else:
        where = "response_format.json_schema."
    schema = read(inner, SCHEMA, where).get("schema", {"type": "object"})
    return OutputFormat("json_schema", small(schema, f"{where}schema"))
