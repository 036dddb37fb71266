"""Ollama's /api/chat, generate, tags, show, ps and version: fields, requests, routes.

Models open and close by themselves (shelf.py); what would fetch, copy or remove them is not here.
Neighbours: ollama_replies.py writes, exchange.py runs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gemstead.server.body import read_object
from gemstead.server.exchange import Desk, Whose, whose
from gemstead.server.fields import (
    Field,
    anything,
    flag,
    inner,
    need,
    number,
    objects,
    one_of,
    only,
    read,
    record,
    refused,
    seconds,
    silent,
    text,
    texts,
    whole,
)
from gemstead.server.ollama_replies import LineEncoder, idle_reply
from gemstead.server.openai_messages import (
    CALLS_FIT,
    MAX_IMAGES,
    MAX_MESSAGES,
    MAX_TOOLS,
    TOOL,
    arguments_of,
    decoded,
    small,
    tools_of,
)
from gemstead.server.runner import Begin
from gemstead.server.sampling import SAMPLING, check_num_ctx, sampling_of, think, with_logprobs
from gemstead.server.served import AdapterOffer, Offer, Served
from gemstead.server.shelf import Opened, Place
from gemstead.types import (
    ROLES,
    MediaPart,
    Message,
    OutputFormat,
    Part,
    Request,
    SamplingParams,
    TextPart,
    ToolCall,
)

_IMAGES = Field(texts(MAX_IMAGES), f"up to {MAX_IMAGES}, as base64; refused while the model reads text only")
OPTIONS = {
    **{n: SAMPLING[n] for n in ("temperature", "top_k", "top_p", "min_p", "seed", "stop")},
    "num_predict": Field(whole(-2, 2**31 - 1), "the most tokens of the answer; below 0: all the room"),
    "num_ctx": Field(whole(1, 2**31 - 1), "accepted up to the context the server was started with"),
    "repeat_penalty": Field(number(0.01, 10), "divides the scores of tokens seen before"),
    "presence_penalty": SAMPLING["presence_penalty"],
    "frequency_penalty": SAMPLING["frequency_penalty"],
    **{
        name: silent(anything, "the server's start decides how the model runs")
        for name in ("num_thread", "num_gpu", "main_gpu", "num_batch", "num_keep", "use_mmap", "use_mlock",
                     "numa", "low_vram", "f16_kv", "vocab_only", "repeat_last_n")
    },
    "typical_p": Field(only(1), "1 only: the filter is not there"),
    "tfs_z": Field(only(1), "1 only: the filter is not there"),
    "mirostat": Field(only(0), "0 only: it is not there"),
    **{name: silent(anything, "mirostat is off") for name in ("mirostat_tau", "mirostat_eta")},
    "penalize_newline": Field(only(True), "true only: a line's end is a token like the others"),
}  # fmt: skip
_MESSAGE = {
    "role": Field(one_of(*ROLES), ""),
    "content": Field(text, ""),
    "thinking": Field(text, ""),
    "images": _IMAGES,
    "tool_calls": Field(objects(MAX_TOOLS), ""),
    "tool_name": Field(text, ""),
    "tool_call_id": Field(text, ""),
}
KEEP_ALIVE = Field(seconds, "how long the model stays open after this, as 5m, 0 or -1; an admin's only")
_BOTH = {
    "model": Field(text, "the served model's name or an alias of it, with or without :latest"),
    "stream": Field(flag, "true, the default: lines of JSON as the answer comes"),
    "format": Field(anything, "json or a JSON Schema; the answer cannot but fit"),
    "options": Field(inner(OPTIONS), "see below"),
    "think": Field(anything, "true, false, a number of tokens, or an effort"),
    "keep_alive": KEEP_ALIVE,
    "logprobs": Field(flag, "the log-probability of each token of the visible text"),
    "top_logprobs": Field(whole(0, 20), "and of this many likeliest ones beside it"),
    "truncate": silent(anything, "a prompt that is too long is refused, never cut"),
    "shift": silent(anything, "the same"),
}
CHAT = {
    "messages": Field(
        objects(MAX_MESSAGES, _MESSAGE, ("role",)),
        "role, content, thinking, tool_calls, tool_name, images as base64",
    ),
    "tools": Field(
        objects(MAX_TOOLS, TOOL, ("type", "function")), f"up to {MAX_TOOLS} functions; {CALLS_FIT}"
    ),
    **_BOTH,
}
GENERATE = {
    "prompt": Field(text, "the question; without one the model is opened, or closed where keep_alive is 0"),
    "system": Field(text, "instructions before it"),
    "raw": Field(flag, "true: the prompt as it is, without the chat template"),
    "images": _IMAGES,
    **_BOTH,
    "suffix": Field(refused("Gemma does not fill gaps"), "refused"),
    "template": Field(refused("prompts follow Gemma's own template"), "refused"),
    "context": Field(refused("use /api/chat with the whole conversation"), "refused: use /api/chat"),
}
SHOW = {"model": Field(text, ""), "name": Field(text, ""), "verbose": Field(flag, "")}


def parse_chat(given: dict[str, Any], served: Served) -> Request:
    """A chat's checked fields as a Request."""
    messages = [_message(entry, f"messages[{i}].") for i, entry in enumerate(need(given, "messages"))]
    return _request(given, messages, served)


def parse_generate(given: dict[str, Any], served: Served) -> Request:
    """A generate's checked fields as a Request."""
    messages = [Message("user", _said(given["prompt"], given.get("images", ()), "images"))]
    if "system" in given:
        messages.insert(0, Message.system(given["system"]))
    return _request(given, messages, served)


def _request(given: Mapping[str, Any], messages: list[Message], served: Served) -> Request:
    sampling = with_logprobs(given, _sampling(given.get("options", {}), served))
    return Request(
        messages=tuple(messages),
        tools=tools_of(given.get("tools", [])),
        sampling=sampling,
        thinking=think(given["think"], "think") if "think" in given else served.thinking,
        output=_format(given.get("format")),
    )


def _sampling(options: dict[str, Any], served: Served) -> SamplingParams:
    given = read(options, OPTIONS, "options.")
    check_num_ctx(given, served)
    if "repeat_penalty" in given:
        given["repetition_penalty"] = given.pop("repeat_penalty")
    if given.get("num_predict", -1) >= 0:
        given["max_tokens"] = given["num_predict"]
    return sampling_of(given, served)


def _message(entry: dict[str, Any], where: str) -> Message:
    given = read(entry, _MESSAGE, where)
    role = need(given, "role", where)
    calls = []
    for i, call in enumerate(given.get("tool_calls", [])):
        here = f"{where}tool_calls[{i}].function"
        function = record(call.get("function"), here)
        name = text(function.get("name"), f"{here}.name")
        calls.append(
            ToolCall(name, arguments_of(function.get("arguments"), f"{here}.arguments"), call.get("id") or "")
        )
    return Message(
        role,
        _said(given.get("content", ""), given.get("images", ()), f"{where}images"),
        reasoning=given.get("thinking"),
        tool_calls=tuple(calls),
        tool_call_id=given.get("tool_call_id"),
        name=given.get("tool_name"),
    )


def _said(content: str, images: tuple[str, ...], where: str) -> str | tuple[Part, ...]:
    if not images:
        return content
    return (*(MediaPart("image", decoded(image, where)) for image in images), TextPart(content))


def _format(value: Any) -> OutputFormat | None:
    if value is None or value == "":
        return None
    if value == "json":
        return OutputFormat("json_schema", {"type": "object"})
    return OutputFormat("json_schema", small(record(value, "format"), "format"))


def _begin(given: dict[str, Any], served: Served, caller: Whose, *, is_chat: bool) -> Begin:
    request = (parse_chat if is_chat else parse_generate)(given, served)
    if given.get("raw"):
        return partial(served.continuation, served.raw_ids(given["prompt"]), request.sampling, **caller)
    return partial(served.stream, request, **caller)


def routes(desk: Desk) -> list[Route]:
    """The endpoints."""

    async def answer(http: HttpRequest, given: dict[str, Any], *, is_chat: bool) -> Response:
        model = need(given, "model")
        is_asking = given.get("messages" if is_chat else "prompt")
        if not is_asking and given.get("keep_alive") == 0:
            http.state.caller.require_admin()  # beside a question it is passed over; here it is all
        desk.keep(http, model, given)
        if not is_asking:
            return await opened(model, given, is_chat=is_chat)

        lines = LineEncoder(model, is_chat=is_chat)

        def prepare(served: Served) -> list[Begin]:
            lines.tokens = served.model.tokenizer if given.get("logprobs") else None
            return [_begin(given, served, whose(http), is_chat=is_chat)]

        if given.get("stream", True):
            return await desk.streamed(http, model, prepare, lines)
        _, answers = await desk.whole(http, model, prepare)
        return JSONResponse(lines.whole(answers[0]))

    async def opened(model: str, given: dict[str, Any], *, is_chat: bool) -> Response:
        """Nothing was asked: open the model, which keep_alive 0 then closes."""
        is_closing = given.get("keep_alive") == 0
        if not is_closing:
            async with desk.shelf.using(desk.shelf.place(model)):
                pass
        return JSONResponse(idle_reply(model, "unload" if is_closing else "load", is_chat=is_chat))

    async def chat(http: HttpRequest) -> Response:
        return await answer(http, read(await read_object(http), CHAT), is_chat=True)

    async def generate(http: HttpRequest) -> Response:
        return await answer(http, read(await read_object(http), GENERATE), is_chat=False)

    async def tags(_: HttpRequest) -> Response:
        return JSONResponse(
            {"models": [_entry(p.offer, name, p.offer.adapter(name)) for name, p in desk.shelf.names]}
        )

    async def running(_: HttpRequest) -> Response:
        return JSONResponse({"models": [_running(*pair) for pair in desk.shelf.opened]})

    async def show(http: HttpRequest) -> Response:
        given = read(await read_object(http), SHOW)
        return JSONResponse(_description(*desk.shelf.find(given.get("model") or need(given, "name"))))

    async def version(_: HttpRequest) -> Response:
        return JSONResponse({"version": metadata.version("gemstead")})

    return [
        Route("/api/chat", chat, methods=["POST"]),
        Route("/api/generate", generate, methods=["POST"]),
        Route("/api/tags", tags, methods=["GET"]),
        Route("/api/ps", running, methods=["GET"]),
        Route("/api/show", show, methods=["POST"]),
        Route("/api/version", version, methods=["GET"]),
    ]


def _details(offer: Offer, adapter: AdapterOffer | None) -> dict[str, Any]:
    count = offer.parameters + (0 if adapter is None else adapter.parameters)
    return {
        "parent_model": "" if adapter is None else offer.name,
        "format": offer.container,
        "family": "gemma4",
        "families": ["gemma4"],
        "parameter_size": f"{count / 1e9:.1f}B" if count >= 1e9 else f"{count / 1e6:.1f}M",
        "quantization_level": offer.format.upper(),
    }


def _entry(offer: Offer, name: str, adapter: AdapterOffer | None = None) -> dict[str, Any]:
    """A name as the list has it; an adapter is as large as it is together with its model."""
    return {
        "name": name,
        "model": name,
        "modified_at": datetime.fromtimestamp(offer.since, UTC).isoformat(),
        "size": offer.file_bytes + (0 if adapter is None else adapter.nbytes),
        "digest": (adapter or offer).digest,
        "details": _details(offer, adapter),
    }


def _running(place: Place, opened: Opened) -> dict[str, Any]:
    """An open model, and when it will be closed if nobody asks."""
    ends = "9999-12-31T00:00:00Z"
    if place.users or place.expires_s is not None:
        at = time.time() + place.keep_alive_s if place.expires_s is None else place.expires_s
        ends = ends if math.isinf(at) else datetime.fromtimestamp(at, UTC).isoformat()
    stats = opened.served.model.stats()
    more = {
        "expires_at": ends,
        "size": stats.weights_bytes + stats.cache_bytes,
        "size_vram": 0,
        "context_length": opened.served.context_tokens,
        "kv_bytes": stats.cache_bytes,
    }
    return {**_entry(place.offer, place.offer.name), **more}


def _description(place: Place, adapter: AdapterOffer | None) -> dict[str, Any]:
    spec = place.offer.spec
    return {
        "details": _details(place.offer, adapter),
        "capabilities": ["completion", "tools", "thinking"],
        "model_info": {
            "general.architecture": "gemma4",
            "gemma4.context_length": place.context_tokens or spec.max_position_embeddings,
            "gemma4.embedding_length": spec.hidden_size,
            "gemma4.block_count": len(spec.layers),
        },
        "parameters": "",
        "template": "",
        "modelfile": "",
        "license": "",
    }
