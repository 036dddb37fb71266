"""OpenAI's /v1/responses: fields, items as messages, routes.

A response is stored, unless asked not to, so that `previous_response_id` can go on from it. Neighbours:
responses_replies.py writes, responses_store.py keeps.
"""

from __future__ import annotations

from asyncio import to_thread
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gemstead.server.body import read_object
from gemstead.server.exchange import Desk, salt_of, whose
from gemstead.server.fields import (
    Field,
    anything,
    check_names,
    flag,
    inner,
    need,
    objects,
    one_of,
    only,
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
    FUNCTION,
    HINTS,
    MAX_MESSAGES,
    MAX_TOOLS,
    VERBOSE,
    VERBOSITY,
    arguments_of,
    choice_of,
    format_of,
    parts_of,
    tool_of,
    unique,
    with_verbosity,
)
from gemstead.server.refusals import Refusal, wrong
from gemstead.server.responses_replies import ResponseEncoder
from gemstead.server.responses_store import ResponseStore
from gemstead.server.runner import Begin
from gemstead.server.sampling import EFFORT_WORDS, SAMPLING, effort, sampling_of
from gemstead.server.served import Served
from gemstead.types import Message, Request, Tool, ToolCall

_INCLUDED = ("message.output_text.logprobs", "reasoning.encrypted_content")

_TEXT = {"format": Field(record, ""), "verbosity": Field(one_of(*VERBOSITY), "")}
_REASONING = {
    "effort": Field(one_of(*EFFORT_WORDS), ""),
    "summary": Field(anything, ""),
    "generate_summary": Field(anything, ""),
}
_TOOL = {"type": Field(only("function"), ""), **FUNCTION}
RESPONSES = {
    "model": Field(text, "the served model's name or an alias of it"),
    "input": Field(
        shaped(CONTENT), "a string, or items: message, function_call, function_call_output, reasoning"
    ),
    "instructions": Field(text, "what stands before the conversation; not kept for the next response"),
    "previous_response_id": Field(text, "go on from a stored response"),
    "store": Field(flag, "false: do not keep this response; true is the default"),
    "stream": Field(flag, "send the answer in pieces, as server-sent events"),
    "stream_options": silent(record, "there is no obfuscation"),
    "max_output_tokens": Field(whole(0, 2**31 - 1), "the most tokens of the answer, thoughts included"),
    "temperature": SAMPLING["temperature"],
    "top_p": SAMPLING["top_p"],
    "tools": Field(objects(MAX_TOOLS, _TOOL, ("type", "name")), f"up to {MAX_TOOLS} functions; {CALLS_FIT}"),
    "tool_choice": Field(anything, "auto, none, required, one function, or allowed_tools"),
    "parallel_tool_calls": Field(flag, "false: one call at most"),
    "text": Field(
        inner(_TEXT),
        f"format: text, json_object or json_schema; the answer cannot but fit. verbosity: {VERBOSE}",
    ),
    "reasoning": Field(
        inner(_REASONING), "effort: none, minimal, low, medium or high; xhigh and max are high"
    ),
    "metadata": Field(record, "given back with the response"),
    "truncation": Field(only("disabled"), "disabled only: a conversation that is too long is refused"),
    "top_logprobs": Field(
        whole(0, 20), "this many likeliest tokens beside each, where logprobs are included"
    ),
    "include": Field(texts(len(_INCLUDED)), f"{_INCLUDED[0]}; {_INCLUDED[1]} without effect"),
    "background": Field(only(False), "false only"),
    "service_tier": Field(only("auto", "default"), "auto or default"),
    "client_metadata": silent(record, "nothing is kept about clients"),
    "user": silent(text, "nothing is kept about users"),
    **HINTS,
    "max_tool_calls": Field(refused("this server runs no tools of its own"), "refused"),
    "conversation": Field(refused("use previous_response_id"), "refused: use previous_response_id"),
    "context_management": Field(refused("nothing is taken out of a conversation"), "refused"),
    "prompt": Field(refused("there are no stored prompts"), "refused"),
    "moderation": Field(refused("there is no moderation model"), "refused"),
    "image": Field(refused("answers are text"), "refused"),
    "access_programs": Field(refused("there are none"), "refused"),
    "background_options": Field(refused("background is not supported"), "refused"),
}
_SILENT_KEYS = {"id", "status", "type"}


def items_of(given: dict[str, Any]) -> list[Any]:
    """A request's own items."""
    asked = need(given, "input")
    if isinstance(asked, str):
        return [{"role": "user", "content": asked}]
    return list(objects(MAX_MESSAGES, least=1)(asked, "input"))


def parse(given: dict[str, Any], items: list[Any], served: Served) -> Request:
    """Checked fields as a Request; `items` are the whole conversation."""
    messages = messages_of(items)
    if "instructions" in given:
        messages.insert(0, Message.system(given["instructions"]))
    tools = unique([_tool(entry, f"tools[{i}].") for i, entry in enumerate(given.get("tools", []))])
    choice, tools = choice_of(given.get("tool_choice"), tools)
    word = read(given.get("reasoning", {}), _REASONING, "reasoning.").get("effort")
    fields = {**given, **({"max_tokens": given["max_output_tokens"]} if "max_output_tokens" in given else {})}
    sampling = sampling_of(fields, served)
    for name in given.get("include", ()):
        one_of(*_INCLUDED)(name, "include")
    if _INCLUDED[0] in given.get("include", ()):
        sampling = replace(sampling, logprobs=given.get("top_logprobs", 0))
    elif given.get("top_logprobs"):
        raise wrong("top_logprobs", f"top_logprobs needs {_INCLUDED[0]} in include")
    told = read(given.get("text", {}), _TEXT, "text.")
    return Request(
        messages=with_verbosity(messages, told.get("verbosity")),
        tools=tools,
        sampling=sampling,
        thinking=served.thinking if word is None else effort(word),
        tool_choice=choice,
        parallel_tool_calls=given.get("parallel_tool_calls", True),
        output=format_of(told.get("format")),
    )


def _tool(entry: dict[str, Any], where: str) -> Tool:
    return tool_of(read(entry, _TOOL, where), where)


def messages_of(items: list[Any]) -> list[Message]:
    """Items as messages: thoughts, text and calls that follow each other are one of the assistant's."""
    messages: list[Message] = []
    for i, item in enumerate(items):
        where, kind = f"input[{i}].", item.get("type", "message")
        message = _message(item, kind, where)
        last = messages[-1] if messages else None
        if message.role == "assistant" and last is not None and last.role == "assistant":
            messages[-1] = Message.assistant(
                f"{last.content}{message.content}",
                reasoning="\n".join(filter(None, (last.reasoning, message.reasoning))) or None,
                tool_calls=(*last.tool_calls, *message.tool_calls),
            )
        else:
            messages.append(message)
    return messages


def _message(item: dict[str, Any], kind: Any, where: str) -> Message:
    if kind == "message":
        _check(item, {"role", "content", "phase"}, where)
        role = one_of("system", "developer", "user", "assistant")(item.get("role"), f"{where}role")
        content = item.get("content")
        said = content if isinstance(content, str) else parts_of(content, f"{where}content")
        return Message(role, said)
    if kind == "function_call":
        _check(item, {"call_id", "name", "arguments"}, where)
        name, call_id = text(item.get("name"), f"{where}name"), text(item.get("call_id"), f"{where}call_id")
        arguments = arguments_of(item.get("arguments"), f"{where}arguments")
        return Message.assistant(tool_calls=(ToolCall(name, arguments, call_id),))
    if kind == "function_call_output":
        _check(item, {"call_id", "output"}, where)
        output = item.get("output")
        said = output if isinstance(output, str) else parts_of(output, f"{where}output")
        return Message("tool", said, tool_call_id=text(item.get("call_id"), f"{where}call_id"))
    if kind == "reasoning":
        _check(item, {"summary", "content", "encrypted_content"}, where)
        thoughts = objects(1024)(item.get("content") or [], f"{where}content")
        return Message.assistant(reasoning="".join(text(t.get("text"), f"{where}content") for t in thoughts))
    raise wrong(
        f"{where}type",
        f"{where}type is {str(kind)[:40]!r}; "
        "allowed are message, function_call, function_call_output, reasoning",
    )


def _check(item: dict[str, Any], known: set[str], where: str) -> None:
    given = {name for name, value in item.items() if value is not None}  # the SDK's own dumps hold nulls
    check_names(given, known | _SILENT_KEYS, where)


def routes(desk: Desk, store: ResponseStore) -> list[Route]:
    """The endpoints."""

    async def respond(http: HttpRequest) -> Response:
        given, owner = read(await read_object(http), RESPONSES), salt_of(http)
        model, items, previous = need(given, "model"), items_of(given), given.get("previous_response_id")
        before = [] if previous is None else await to_thread(store.conversation, owner, previous)
        if before is None:
            raise _missing("previous_response_id")

        def keep(response: dict[str, Any]) -> None:
            if given.get("store", True):
                store.add(owner, response, [*items, *response["output"]], previous)

        encoder = ResponseEncoder(given, keep)

        def prepare(served: Served) -> list[Begin]:
            request = parse(given, [*before, *items], served)
            if request.sampling.logprobs is not None:
                encoder.tokens = served.model.tokenizer
            return [partial(served.stream, request, **whose(http))]

        if given.get("stream"):
            return await desk.streamed(http, model, prepare, encoder)
        _, answers = await desk.whole(http, model, prepare)
        return JSONResponse(encoder.whole(answers[0]))

    async def stored(http: HttpRequest) -> Response:
        response = await to_thread(store.get, salt_of(http), http.path_params["id"])
        if response is None:
            raise _missing("id")
        return JSONResponse(response)

    async def forget(http: HttpRequest) -> Response:
        if not await to_thread(store.remove, salt_of(http), http.path_params["id"]):
            raise _missing("id")
        return JSONResponse({"id": http.path_params["id"], "object": "response", "deleted": True})

    return [
        Route("/v1/responses", respond, methods=["POST"]),
        Route("/v1/responses/{id}", stored, methods=["GET"]),
        Route("/v1/responses/{id}", forget, methods=["DELETE"]),
    ]


def _missing(param: str) -> Refusal:
    return Refusal(404, f"{param} is no stored response", param=param, code="response_not_found")
