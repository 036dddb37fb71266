"""Embeddings: OpenAI's /v1/embeddings, Ollama's /api/embed and its older /api/embeddings.

The mean of the served model's final hidden states, at length 1 (session.py). Neighbours: exchange.py runs,
a few texts at a time, so that a long list waits for others as others wait for it.
"""

from __future__ import annotations

import base64
from functools import partial
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gemstead.backend.base import Floats
from gemstead.server.body import read_object
from gemstead.server.exchange import Desk, Whose, record_of, whose
from gemstead.server.fields import Field, anything, need, one_of, read, record, shaped, silent, text, whole
from gemstead.server.ollama import KEEP_ALIVE
from gemstead.server.refusals import wrong
from gemstead.server.runner import Begin
from gemstead.server.served import Served
from gemstead.session import Pooling
from gemstead.types import Usage

MAX_INPUTS = 2048
TOGETHER = 8  # texts computed at once for one request
_DIMENSIONS = Field(whole(1, 2**31 - 1), "the model's own number only: its vectors cannot be cut short")

_INPUT = {"type": ["string", "array"], "items": {"type": ["string", "array"]}, "minItems": 1}

EMBEDDINGS = {
    "input": Field(shaped(_INPUT), f"a text, a list of token ids, or a list of up to {MAX_INPUTS} of either"),
    "model": Field(text, "the served model's name or an alias of it"),
    "encoding_format": Field(
        one_of("float", "base64"), "float, the default, or base64 of little-endian float32"
    ),
    "dimensions": _DIMENSIONS,
    "user": silent(text, "nothing is kept about users"),
}
EMBED = {
    "model": Field(text, "the served model's name or an alias of it, with or without :latest"),
    "input": Field(shaped(_INPUT), f"a text, or a list of up to {MAX_INPUTS}"),
    "dimensions": _DIMENSIONS,
    "truncate": silent(anything, "a text that is too long is refused, never cut"),
    "keep_alive": KEEP_ALIVE,
    "options": silent(record, "nothing is sampled"),
}
LEGACY = {**{name: EMBED[name] for name in ("model", "keep_alive", "options")}, "prompt": Field(text, "")}


def inputs_of(value: Any) -> list[str | list[int]]:
    """One input or several as a list; a Refusal for anything else and for nothing."""
    listed = [value] if isinstance(value, str) or _is_ids(value) else value
    if not isinstance(listed, list) or not all(isinstance(x, str) or _is_ids(x) for x in listed):
        raise wrong("input", "input must be a text, a list of token ids, or a list of either")
    if not 0 < len(listed) <= MAX_INPUTS:
        raise wrong("input", f"input holds {len(listed):,} entries; give 1 to {MAX_INPUTS:,}")
    if not all(listed):
        raise wrong("input", "input holds an empty text; leave it out")
    return listed


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(x) is int for x in value)


async def vectors_of(
    desk: Desk, http: HttpRequest, given: dict[str, Any], inputs: list[str | list[int]]
) -> tuple[list[Floats], int]:
    """The vectors of all inputs, and the tokens read for them."""
    model = need(given, "model")
    width = desk.shelf.place(model).offer.spec.hidden_size
    if given.get("dimensions", width) != width:
        raise wrong(
            "dimensions",
            f"dimensions is {given['dimensions']:,}, but this model's vectors have {width:,} and were not "
            f"trained to be cut short; leave it out, or give {width}",
        )
    desk.keep(http, model, given)
    vectors: list[Floats] = []
    tokens = 0
    for start in range(0, len(inputs), TOGETHER):
        kept: list[Pooling] = []
        prepare = partial(_prepare, inputs[start : start + TOGETHER], kept, whose(http))
        _, answers = await desk.whole(http, model, prepare)
        vectors += [pooling.vector for pooling in kept]
        tokens += sum(answer.usage.prompt_tokens for answer in answers)
    record_of(http).usage = Usage(prompt_tokens=tokens)
    return vectors, tokens


def _prepare(
    inputs: list[str | list[int]], kept: list[Pooling], caller: Whose, served: Served
) -> list[Begin]:
    def begin(one: str | list[int]) -> Pooling:
        kept.append(served.embedding(one, **caller))
        return kept[-1]

    return [partial(begin, one) for one in inputs]


def routes(desk: Desk) -> list[Route]:
    """The endpoints."""

    async def embeddings(http: HttpRequest) -> Response:
        given = read(await read_object(http), EMBEDDINGS)
        vectors, tokens = await vectors_of(desk, http, given, inputs_of(need(given, "input")))
        shown = _packed if given.get("encoding_format") == "base64" else _listed
        data = [{"object": "embedding", "index": i, "embedding": shown(v)} for i, v in enumerate(vectors)]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return JSONResponse({"object": "list", "data": data, "model": given["model"], "usage": usage})

    async def embed(http: HttpRequest) -> Response:
        given = read(await read_object(http), EMBED)
        vectors, tokens = await vectors_of(desk, http, given, inputs_of(need(given, "input")))
        return JSONResponse(
            {
                "model": given["model"],
                "embeddings": [_listed(vector) for vector in vectors],
                "total_duration": 0,
                "load_duration": 0,
                "prompt_eval_count": tokens,
            }
        )

    async def legacy(http: HttpRequest) -> Response:
        given = read(await read_object(http), LEGACY)
        vectors, _ = await vectors_of(desk, http, given, inputs_of(need(given, "prompt")))
        return JSONResponse({"embedding": _listed(vectors[0])})

    return [
        Route("/v1/embeddings", embeddings, methods=["POST"]),
        Route("/api/embed", embed, methods=["POST"]),
        Route("/api/embeddings", legacy, methods=["POST"]),
    ]


def _listed(vector: Floats) -> list[float]:
    return [float(x) for x in vector]


def _packed(vector: Floats) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
