"""What keeps a server in hand: health, metrics, what runs, and the way to stop it.

Only an admin may stop it or see its figures. Neighbours: cli/ps.py and cli/stop.py ask here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gemstead.engine.options import EngineOptions
from gemstead.engine.sequence import check_ids
from gemstead.server.body import read_object
from gemstead.server.exchange import Desk
from gemstead.server.fields import Field, need, read, shaped, text
from gemstead.server.metrics import Metrics, memory_of
from gemstead.server.responses_store import ResponseStore
from gemstead.server.shelf import Place

TOKENIZE = {"text": Field(text, ""), "model": Field(text, "")}
_IDS = {"type": "array", "items": {"type": "integer", "minimum": 0}}
DETOKENIZE = {"tokens": Field(shaped(_IDS), ""), "model": Field(text, "")}


def routes(desk: Desk, store: ResponseStore, metrics: Metrics, stop: Callable[[], None]) -> list[Route]:
    """The endpoints."""

    async def live(_: HttpRequest) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(_: HttpRequest) -> Response:
        if desk.shelf.is_ready:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "stopping"}, 503, {"Retry-After": "5"})

    async def figures(http: HttpRequest) -> Response:
        http.state.caller.require_admin()
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def status(http: HttpRequest) -> Response:
        http.state.caller.require_admin()
        return JSONResponse(status_of(desk, store))

    async def end(http: HttpRequest) -> Response:
        http.state.caller.require_admin()
        stop()
        return JSONResponse({"status": "stopping"})

    async def tokenize(http: HttpRequest) -> Response:
        given = read(await read_object(http), TOKENIZE)
        said = need(given, "text")
        async with desk.shelf.using(place_of(given)) as served:
            ids = await asyncio.to_thread(served.model.tokenizer.encode, said)
        return JSONResponse({"tokens": ids})

    async def detokenize(http: HttpRequest) -> Response:
        given = read(await read_object(http), DETOKENIZE)
        tokens = need(given, "tokens")
        async with desk.shelf.using(place_of(given)) as served:
            ids = check_ids(tokens, served.model.tokenizer.vocab_size)
            return JSONResponse({"text": served.model.tokenizer.decode(ids)})

    def place_of(given: dict[str, Any]) -> Place:
        """The model that is named; where there is one, it need not be."""
        if len(desk.shelf.places) == 1 and "model" not in given:
            return desk.shelf.places[0]
        return desk.shelf.place(need(given, "model"))

    async def root(_: HttpRequest) -> Response:
        return PlainTextResponse("gemstead is running")

    return [
        Route("/", root, methods=["GET"]),
        Route("/tokenize", tokenize, methods=["POST"]),
        Route("/v1/tokenize", tokenize, methods=["POST"]),
        Route("/detokenize", detokenize, methods=["POST"]),
        Route("/v1/detokenize", detokenize, methods=["POST"]),
        Route("/health", ready, methods=["GET"]),
        Route("/health/live", live, methods=["GET"]),
        Route("/health/ready", ready, methods=["GET"]),
        Route("/metrics", figures, methods=["GET"]),
        Route("/gemstead/status", status, methods=["GET"]),
        Route("/gemstead/stop", end, methods=["POST"]),
    ]


def status_of(desk: Desk, store: ResponseStore) -> dict[str, Any]:
    """What runs, and the memory it holds against its ceiling."""
    shelf = desk.shelf
    models = [_status(place) for place in shelf.places]
    return {
        "pid": os.getpid(),
        "since": min(place.offer.since for place in shelf.places),
        "models": models,
        **{name: sum(model[name] for model in models) for name in _SUMMED},
        "most_answers": shelf.terms.max_waiting + EngineOptions().max_sequences,
        "memory": memory_of(shelf, store),
    }


_SUMMED = ("answers", "live_sequences", "waiting_sequences", "generated_tokens")


def _status(place: Place) -> dict[str, Any]:
    """One model."""
    about = {
        "name": place.offer.name,
        "aliases": list(place.offer.aliases),
        "adapters": [one.name for one in place.offer.adapters],
        "state": place.state,
        "waiting": place.waiting,
        "context_tokens": place.context_tokens,
        "expires_s": place.expires_s,
    }
    if place.opened is None:
        return {**about, **dict.fromkeys(_SUMMED, 0), "weights_bytes": 0, "kv_bytes": 0}
    stats = place.opened.served.model.stats()
    return {
        **about,
        "answers": place.opened.runner.admitted,
        "live_sequences": stats.live_sequences,
        "waiting_sequences": stats.waiting_sequences,
        "generated_tokens": stats.generated_tokens,
        "weights_bytes": stats.weights_bytes,
        "kv_bytes": stats.cache_bytes,
    }
