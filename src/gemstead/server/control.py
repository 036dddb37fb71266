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

from gemstead.engine.sequence import check_ids
from gemstead.server.body import read_object
from gemstead.server.exchange import Desk
from gemstead.server.fields import Field, anything, need, read, text
from gemstead.server.metrics import Metrics
from gemstead.server.refusals import Refusal

_TOKENIZE = {"text": Field(text, ""), "model": Field(text, "")}
_DETOKENIZE = {"tokens": Field(anything, ""), "model": Field(text, "")}


def routes(desk: Desk, metrics: Metrics, stop: Callable[[], None]) -> list[Route]:
    """The endpoints."""

    async def live(_: HttpRequest) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(_: HttpRequest) -> Response:
        if desk.runner.is_ready:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "stopping"}, 503, {"Retry-After": "5"})

    async def figures(http: HttpRequest) -> Response:
        require_admin(http)
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def status(http: HttpRequest) -> Response:
        require_admin(http)
        return JSONResponse(status_of(desk))

    async def end(http: HttpRequest) -> Response:
        require_admin(http)
        stop()
        return JSONResponse({"status": "stopping"})

    async def tokenize(http: HttpRequest) -> Response:
        given = read(await read_object(http), _TOKENIZE)
        tokenizer = desk.served.model.tokenizer
        return JSONResponse({"tokens": await asyncio.to_thread(tokenizer.encode, need(given, "text"))})

    async def detokenize(http: HttpRequest) -> Response:
        given = need(read(await read_object(http), _DETOKENIZE), "tokens")
        ids = check_ids(given, desk.served.model.tokenizer.vocab_size)
        return JSONResponse({"text": desk.served.model.tokenizer.decode(ids)})

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


def require_admin(http: HttpRequest) -> None:
    """A Refusal (403) for a user's key."""
    if http.state.caller.right != "admin":
        raise Refusal(403, "this needs the admin key", code="admin_only")


def status_of(desk: Desk) -> dict[str, Any]:
    """What runs, and the memory it holds against its ceiling."""
    stats, served = desk.served.model.stats(), desk.served
    return {
        "pid": os.getpid(),
        "model": served.name,
        "aliases": list(served.aliases),
        "since": served.since,
        "context_tokens": served.context_tokens,
        "answers": desk.runner.admitted,
        "most_answers": desk.runner.max_requests,
        "live_sequences": stats.live_sequences,
        "waiting_sequences": stats.waiting_sequences,
        "kv_bytes": stats.cache_bytes,
        "kv_ceiling_bytes": stats.memory_bytes,
        "generated_tokens": stats.generated_tokens,
    }
