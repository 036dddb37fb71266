"""Anthropic's /v1/messages and /v1/messages/count_tokens: fields, requests, routes.

Neighbours: anthropic_replies.py writes, exchange.py runs, openai_messages.py has the checks of tools
that both share.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gemstead.server.anthropic_replies import MessageEncoder, message_reply
from gemstead.server.body import read_object
from gemstead.server.exchange import Desk, whose
from gemstead.server.fields import (
    Field,
    anything,
    check_names,
    flag,
    inner,
    need,
    objects,
    one_of,
    read,
    record,
    refused,
    shaped,
    silent,
    text,
    texts,
    whole,
)
from gemstead.server.openai_messages import (
    CALLS_FIT,
    CONTENT,
    MAX_MESSAGES,
    MAX_TOOLS,
    NO_MEDIA,
    decoded,
    joined,
    small,
    tool_of,
    unique,
)
from gemstead.server.refusals import wrong
from gemstead.server.runner import Begin
from gemstead.server.sampling import EFFORT_WORDS, MAX_STOPS, SAMPLING, effort, sampling_of
from gemstead.server.served import Served
from gemstead.types import (
    MediaPart,
    Message,
    OutputFormat,
    Part,
    Request,
    TextPart,
    ThinkingChoice,
    Tool,
    ToolCall,
)

_TOKENS = whole(1, 2**31 - 1)

_CHOICE = {
    "type": Field(one_of("auto", "any", "none", "tool"), ""),
    "name": Field(text, ""),
    "disable_parallel_tool_use": Field(flag, ""),
}
_THINKING = {
    "type": Field(one_of("enabled", "disabled", "adaptive"), ""),
    "budget_tokens": Field(_TOKENS, ""),
    "display": Field(one_of("summarized"), ""),
}
_OUTPUT = {"effort": Field(one_of(*EFFORT_WORDS), ""), "format": Field(record, "")}
_MESSAGE = {
    "role": Field(one_of("user", "assistant", "system"), ""),
    "content": Field(shaped(CONTENT), ""),
}
COUNT = {
    "model": Field(text, "the served model's name or an alias of it"),
    "messages": Field(
        objects(MAX_MESSAGES, _MESSAGE, ("role", "content"), least=1),
        "text, thinking, tool_use, tool_result; images as base64",
    ),
    "system": Field(shaped(CONTENT), "a string or a list of text blocks"),
    "tools": Field(objects(MAX_TOOLS), f"up to {MAX_TOOLS} tools of one's own; {CALLS_FIT}"),
    "tool_choice": Field(inner(_CHOICE), "auto, any, none or tool, with disable_parallel_tool_use"),
    "thinking": Field(inner(_THINKING), "enabled with budget_tokens, adaptive, or disabled"),
    "output_config": Field(inner(_OUTPUT), "effort, for adaptive thinking; format: json_schema"),
    "cache_control": silent(anything, "prompts that begin alike are found by themselves"),
    "context_management": silent(anything, "nothing is taken out of a conversation"),
    "speed": Field(one_of("standard"), "standard only"),
    "user_profile_id": silent(text, "nothing is kept about users"),
    "workspace_id": silent(text, "there are no workspaces"),
}
MESSAGES = {
    **COUNT,
    "max_tokens": Field(_TOKENS, "the most tokens of the answer, thoughts included; needed"),
    "stream": Field(flag, "send the answer in pieces, as server-sent events"),
    "stop_sequences": Field(texts(MAX_STOPS), f"up to {MAX_STOPS} strings that end the answer"),
    **{name: SAMPLING[name] for name in ("temperature", "top_p", "top_k")},
    "metadata": silent(record, "nothing is kept about users"),
    "service_tier": Field(one_of("auto", "standard_only"), "auto or standard_only"),
    "inference_geo": Field(refused("the model runs where the server runs"), "refused"),
    "container": Field(refused("there are no containers"), "refused"),
    "mcp_servers": Field(refused("this server reaches no network"), "refused"),
    "diagnostics": Field(refused("see /metrics"), "refused"),
}
_TOOL_SILENT = ("type", "cache_control", "eager_input_streaming", "defer_loading", "input_examples")


def parse(given: dict[str, Any], served: Served) -> Request:
    """Checked fields as a Request. A Refusal names the field at fault."""
    messages = [
        m for i, entry in enumerate(need(given, "messages")) for m in _messages(entry, f"messages[{i}].")
    ]
    if "system" in given:
        messages.insert(0, Message.system(_plain(given["system"], "system")))
    tools = unique([_tool(entry, f"tools[{i}].") for i, entry in enumerate(given.get("tools", []))])
    choice, is_parallel = _choice(given.get("tool_choice"), tools)
    output = read(given.get("output_config", {}), _OUTPUT, "output_config.")
    fields = {**given, **({"stop": given["stop_sequences"]} if "stop_sequences" in given else {})}
    return Request(
        messages=tuple(messages),
        tools=tools,
        sampling=sampling_of(fields, served),
        thinking=_thinking(given.get("thinking"), output.get("effort"), served.thinking),
        tool_choice=choice,
        parallel_tool_calls=is_parallel,
        output=_format(output.get("format")),
    )


def _messages(entry: dict[str, Any], where: str) -> list[Message]:
    """One message of the API as ours: results of tools stand before what else the user says."""
    given = read(entry, _MESSAGE, where)
    role, content = need(given, "role", where), need(given, "content", where)
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    results: list[Message] = []
    parts: list[Part] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    for i, block in enumerate(objects(4096)(blocks, f"{where}content")):
        here, kind = f"{where}content[{i}]", block.get("type")
        if kind == "text":
            parts.append(TextPart(text(block.get("text"), f"{here}.text")))
        elif kind == "thinking" and role == "assistant":
            thoughts.append(text(block.get("thinking"), f"{here}.thinking"))
        elif kind == "tool_use" and role == "assistant":
            name, call_id = text(block.get("name"), f"{here}.name"), text(block.get("id"), f"{here}.id")
            calls.append(ToolCall(name, record(block.get("input"), f"{here}.input"), call_id))
        elif kind == "tool_result" and role == "user":
            call_id = text(block.get("tool_use_id"), f"{here}.tool_use_id")
            results.append(
                Message("tool", _plain(block.get("content", ""), f"{here}.content"), tool_call_id=call_id)
            )
        elif kind == "image" and role == "user":
            parts.append(_image(block, here))
        else:
            raise wrong(
                here, f"{here}.type is {str(kind)[:40]!r}, which a message of the {role} cannot hold here"
            )
    said = joined(parts)
    if role == "assistant":
        return [Message(role, said, reasoning="\n".join(thoughts) or None, tool_calls=tuple(calls))]
    return results + ([Message(role, said)] if parts or not results else [])


def _plain(content: Any, where: str) -> str:
    """A string, or text blocks joined."""
    if isinstance(content, str):
        return content
    for i, block in enumerate(objects(4096)(content, where)):
        if block.get("type") != "text":
            raise wrong(
                f"{where}[{i}]",
                f"{where}[{i}].type is {str(block.get('type'))[:40]!r}; only text is possible",
            )
    return "".join(text(block.get("text"), where) for block in content)


def _image(block: dict[str, Any], where: str) -> MediaPart:
    source = record(block.get("source"), f"{where}.source")
    if source.get("type") != "base64":
        raise wrong(where, f"{where} is no base64; {NO_MEDIA}")
    return MediaPart("image", decoded(text(source.get("data"), f"{where}.source.data"), where))


def _tool(entry: dict[str, Any], where: str) -> Tool:
    if entry.get("type") not in (None, "custom"):
        raise wrong(
            f"{where}type",
            f"{where}type is {str(entry['type'])[:40]!r}; this server runs no tools of its own",
        )
    check_names(entry, ("name", "description", "input_schema", "strict", *_TOOL_SILENT), where)
    schema = record(entry.get("input_schema"), f"{where}input_schema")
    given = {
        "name": text(entry.get("name"), f"{where}name"),
        "description": text(entry.get("description") or "", f"{where}description"),
        "parameters": schema,
        "strict": flag(entry.get("strict") or False, f"{where}strict"),
    }
    return tool_of(given, where)


def _choice(value: dict[str, Any] | None, tools: tuple[Tool, ...]) -> tuple[str, bool]:
    """tool_choice as ours, and whether several calls may come."""
    if value is None:
        return "auto", True
    given = read(value, _CHOICE, "tool_choice.")
    kind, is_parallel = need(given, "type", "tool_choice."), not given.get("disable_parallel_tool_use", False)
    if kind != "tool":
        return {"any": "required"}.get(kind, kind), is_parallel
    name = need(given, "name", "tool_choice.")
    if name not in [tool.name for tool in tools]:
        raise wrong("tool_choice.name", f"tool_choice.name is {name[:80]!r}, which is not among tools")
    return name, is_parallel


def _thinking(value: dict[str, Any] | None, word: str | None, default: ThinkingChoice) -> ThinkingChoice:
    given = {"type": None} if value is None else read(value, _THINKING, "thinking.")
    kind = given.get("type")
    if kind == "enabled":
        return int(need(given, "budget_tokens", "thinking."))
    if kind == "adaptive":
        return True if word is None else effort(word)
    return False if kind == "disabled" else default


def _format(value: dict[str, Any] | None) -> OutputFormat | None:
    if value is None:
        return None
    one_of("json_schema")(value.get("type"), "output_config.format.type")
    where = "output_config.format.schema"
    return OutputFormat("json_schema", small(record(value.get("schema"), where), where))


def routes(desk: Desk) -> list[Route]:
    """The endpoints."""

    async def messages(http: HttpRequest) -> Response:
        given = read(await read_object(http), MESSAGES)
        model = need(given, "model")
        need(given, "max_tokens")

        def prepare(served: Served) -> list[Begin]:
            return [partial(served.stream, parse(given, served), **whose(http))]

        if given.get("stream"):
            return await desk.streamed(http, model, prepare, MessageEncoder(model))
        _, answers = await desk.whole(http, model, prepare)
        return JSONResponse(message_reply(model, answers[0]))

    async def count(http: HttpRequest) -> Response:
        given = read(await read_object(http), COUNT)
        async with desk.shelf.using(desk.shelf.place(need(given, "model"))) as served:
            ids, _ = await asyncio.to_thread(served.model.session.prompt_ids, parse(given, served))
        return JSONResponse({"input_tokens": len(ids)})

    return [
        Route("/v1/messages", messages, methods=["POST"]),
        Route("/v1/messages/count_tokens", count, methods=["POST"]),
    ]
