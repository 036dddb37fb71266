"""OpenAI's /v1/chat/completions, /v1/completions and /v1/models: fields, requests, routes.

The tables say what is taken; nothing else is. Neighbours: openai_messages.py converts, openai_replies.py
writes, exchange.py runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gemstead.server.body import read_object
from gemstead.server.exchange import Desk, whose
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
    refused,
    shaped,
    silent,
    text,
    whole,
)
from gemstead.server.openai_messages import (
    CALLS_FIT,
    HINTS,
    MAX_MESSAGES,
    MAX_TOOLS,
    MESSAGE,
    TOOL,
    VERBOSE,
    VERBOSITY,
    choice_of,
    format_of,
    messages_of,
    tools_of,
    with_verbosity,
)
from gemstead.server.openai_replies import ChatEncoder, TextEncoder, chat_reply, text_reply
from gemstead.server.refusals import wrong
from gemstead.server.runner import Begin
from gemstead.server.sampling import (
    OPTIONS,
    SAMPLING,
    THINKING,
    check_context,
    sampling_of,
    seeded,
    thinking_of,
    with_logprobs,
)
from gemstead.server.served import AdapterOffer, Served
from gemstead.server.shelf import Place
from gemstead.text.tokenizer import Tokenizer
from gemstead.types import Request, SamplingParams

MAX_ANSWERS = 16
_TOKENS = whole(0, 2**31 - 1)

_STREAM_OPTIONS = {
    "include_usage": Field(flag, ""),
    "include_obfuscation": Field(flag, ""),
}
# What both endpoints take.
_BOTH = {
    "model": Field(text, "the served model's name or an alias of it"),
    **SAMPLING,
    "max_tokens": Field(_TOKENS, "the most tokens of the answer, thoughts included"),
    "n": Field(whole(1, MAX_ANSWERS), f"how many answers, up to {MAX_ANSWERS}"),
    "stream": Field(flag, "send the answer in pieces, as server-sent events"),
    "stream_options": Field(inner(_STREAM_OPTIONS), "include_usage: a last chunk with the usage"),
    "user": silent(text, "nothing is kept about users"),
    "options": Field(inner(OPTIONS), "num_ctx only: accepted up to the context the server was started with"),
}

CHAT = {
    "messages": Field(
        objects(MAX_MESSAGES, MESSAGE, ("role",), least=1),
        "the conversation, of text; images, sound and files are refused, and nothing is fetched",
    ),
    **_BOTH,
    "max_completion_tokens": Field(_TOKENS, "the same as max_tokens"),
    "tools": Field(
        objects(MAX_TOOLS, TOOL, ("type", "function")), f"up to {MAX_TOOLS} functions; {CALLS_FIT}"
    ),
    "tool_choice": Field(anything, "auto, none, required, one function, or allowed_tools"),
    "parallel_tool_calls": Field(flag, "false: one call at most"),
    "response_format": Field(record, "text, json_object or json_schema; the answer cannot but fit"),
    "logprobs": Field(flag, "the log-probability of each token of the visible text"),
    "top_logprobs": Field(whole(0, 20), "and of this many likeliest ones beside it"),
    **THINKING,
    "modalities": Field(only(["text"]), "text only"),
    "service_tier": Field(only("auto", "default"), "auto or default"),
    "store": Field(only(False), "false only: chat completions are not stored"),
    "verbosity": Field(one_of(*VERBOSITY), VERBOSE),
    "metadata": silent(record, "nothing is stored"),
    **HINTS,
    "prediction": silent(record, "the answer is the same without"),
    "audio": Field(refused("answers are text"), "refused"),
    "moderation": Field(refused("there is no moderation model"), "refused"),
    "web_search_options": Field(refused("this server reaches no network"), "refused"),
    "functions": Field(refused("use tools"), "refused: use tools"),
    "function_call": Field(refused("use tool_choice"), "refused: use tool_choice"),
}

COMPLETION = {
    "prompt": Field(
        shaped({"type": ["string", "array"], "items": {"type": "integer", "minimum": 0}}),
        "a string, or a list of token ids; no chat template is put around it",
    ),
    **_BOTH,
    "echo": Field(flag, "put the prompt before the answer"),
    "logprobs": Field(whole(0, 20), "log-probabilities of each token and of this many likeliest ones"),
    "best_of": Field(whole(1, 1), "1 only"),
    "suffix": Field(refused("Gemma does not fill gaps"), "refused"),
}


@dataclass(frozen=True)
class Asked:
    """What a request asks of the server, beside what it asks of the model."""

    model: str
    n: int
    is_streamed: bool
    wants_usage: bool
    has_logprobs: bool

    @classmethod
    def of(cls, given: dict[str, Any]) -> Asked:
        """From the checked fields of either endpoint."""
        model = need(given, "model")
        options = read(given.get("stream_options", {}), _STREAM_OPTIONS, "stream_options.")
        is_streamed = given.get("stream", False)
        if options and not is_streamed:
            raise wrong("stream_options", "stream_options needs stream: true")
        has_logprobs = given.get("logprobs", False) is not False  # 0 is a number of them
        return cls(model, given.get("n", 1), is_streamed, options.get("include_usage", False), has_logprobs)


def parse_chat(given: dict[str, Any], served: Served) -> Request:
    """A chat completion's checked fields as a Request. A Refusal names the field at fault."""
    check_context(given, served)
    messages = with_verbosity(messages_of(need(given, "messages")), given.get("verbosity"))
    tools = tools_of(given.get("tools", []))
    choice, tools = choice_of(given.get("tool_choice"), tools)
    return Request(
        messages=messages,
        tools=tools,
        sampling=with_logprobs(given, sampling_of(given, served)),
        thinking=thinking_of(given, served.thinking),
        tool_choice=choice,
        parallel_tool_calls=given.get("parallel_tool_calls", True),
        output=format_of(given.get("response_format")),
    )


def parse_completion(given: dict[str, Any], served: Served) -> tuple[list[int], SamplingParams, str]:
    """A completion's checked fields: the ids to go on with, how, and the text to put before the answer."""
    check_context(given, served)
    prompt = need(given, "prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str):
        ids = served.raw_ids(prompt)
    elif isinstance(prompt, list) and prompt and all(type(x) is int for x in prompt):
        ids = prompt
    else:
        raise wrong("prompt", "prompt must be a string or a list of token ids; one prompt per request")
    sampling = sampling_of({"max_tokens": 16, **given}, served)  # 16 is this endpoint's default
    if "logprobs" in given:
        if given.get("echo"):
            raise wrong(
                "echo", "echo and logprobs together are not supported: the prompt has no log-probabilities"
            )
        sampling = replace(sampling, logprobs=given["logprobs"])
    if not given.get("echo"):
        return ids, sampling, ""
    return ids, sampling, prompt if isinstance(prompt, str) else served.model.tokenizer.decode(ids)


def routes(desk: Desk) -> list[Route]:
    """The endpoints."""

    async def chat(http: HttpRequest) -> Response:
        given = read(await read_object(http), CHAT)
        asked = Asked.of(given)
        encoder = ChatEncoder(asked.model, asked.n, asked.wants_usage)

        def prepare(served: Served) -> list[Begin]:
            request = parse_chat(given, served)
            encoder.tokens = _tokens_of(served, asked)
            each = [replace(request, sampling=seeded(request.sampling, i)) for i in range(asked.n)]
            return [partial(served.stream, one, **whose(http)) for one in each]

        if asked.is_streamed:
            return await desk.streamed(http, asked.model, prepare, encoder)
        _, answers = await desk.whole(http, asked.model, prepare)
        return JSONResponse(chat_reply(asked.model, answers, encoder.tokens))

    async def complete(http: HttpRequest) -> Response:
        given = read(await read_object(http), COMPLETION)
        asked = Asked.of(given)
        encoder = TextEncoder(asked.model, asked.n, asked.wants_usage)

        def prepare(served: Served) -> list[Begin]:
            ids, sampling, echo = parse_completion(given, served)
            encoder.tokens = _tokens_of(served, asked)
            encoder.repeat(echo)
            each = [seeded(sampling, i) for i in range(asked.n)]
            return [partial(served.continuation, ids, one, **whose(http)) for one in each]

        if asked.is_streamed:
            return await desk.streamed(http, asked.model, prepare, encoder)
        _, answers = await desk.whole(http, asked.model, prepare)
        return JSONResponse(text_reply(asked.model, answers, encoder.tokens, encoder.echo))

    async def models(http: HttpRequest) -> Response:
        name = http.path_params.get("name")
        if name is not None:
            return JSONResponse(_model(name, *desk.shelf.find(name)))
        listed = [_model(name, place, place.offer.adapter(name)) for name, place in desk.shelf.names]
        return JSONResponse({"object": "list", "data": listed})

    return [
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/completions", complete, methods=["POST"]),
        Route("/v1/models", models, methods=["GET"]),
        Route("/v1/models/{name:path}", models, methods=["GET"]),
    ]


def _tokens_of(served: Served, asked: Asked) -> Tokenizer | None:
    return served.model.tokenizer if asked.has_logprobs else None


def _model(name: str, place: Place, adapter: AdapterOffer | None) -> dict[str, Any]:
    """An entry of the list, an adapter's with its model as `parent`, as vLLM has it.

    The context of a model is known when it was opened once.
    """
    return {
        "id": name,
        "object": "model",
        "created": place.offer.since,
        "owned_by": "gemstead",
        "parent": None if adapter is None else place.offer.name,
        "context_length": place.context_tokens,
    }
