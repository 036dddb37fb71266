"""The application: routes of all APIs behind one guard of Host, Origin and keys, one log line each.

Serves what it is given; opens no model and reads no file. Below: openai.py, anthropic.py, ollama.py.
Above: serving.py listens, cli/serve.py starts it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gemstead.errors import GemsteadError
from gemstead.server import anthropic, control, embeddings, ollama, openai, openapi, responses
from gemstead.server.auth import Access
from gemstead.server.body import Bodies
from gemstead.server.exchange import ClientGone, Desk, Record, client_of
from gemstead.server.metrics import Metrics
from gemstead.server.refusals import Refusal, body_of, dialect_of, refusal_of
from gemstead.server.responses_store import ResponseStore

OPEN_PATHS = ("/health", "/health/live", "/health/ready")  # whoever asks whether we live needs no key
_CORS_METHODS = "GET, POST, DELETE, OPTIONS"
_CORS_HEADERS = "Authorization, Content-Type, X-Api-Key, Anthropic-Version, Anthropic-Beta"
_NO_PATH = (
    "there is no such path; OpenAI's and Anthropic's begin with /v1, Ollama's with /api; see /openapi.json"
)
_PROMPTS = {  # the field that is too long
    "/v1/chat/completions": "messages",
    "/v1/completions": "prompt",
    "/v1/responses": "input",
    "/v1/embeddings": "input",
}
GONE = 499  # nginx' word for a client that did not wait


def make_app(
    desk: Desk, store: ResponseStore, access: Access, log: Callable[[str], None], stop: Callable[[], None]
) -> ASGIApp:
    """The whole application. `log` takes one line per request, `stop` ends the server."""
    bodies = Bodies(desk.shelf.budget.bodies_bytes // 2)
    metrics = Metrics(desk, store)
    routes: list[Route] = [
        *openai.routes(desk),
        *responses.routes(desk, store),
        *anthropic.routes(desk),
        *ollama.routes(desk),
        *embeddings.routes(desk),
        *control.routes(desk, store, metrics, stop),
        *openapi.routes(),
    ]
    known = frozenset(route.path for route in routes)
    refusing = dict.fromkeys((Exception, GemsteadError, HTTPException), _refused)
    app = Starlette(
        routes=routes, exception_handlers=refusing | dict.fromkeys((ClientGone, ClientDisconnect), _gone)
    )
    return Guard(app, access, metrics, log, known, bodies)


async def _refused(http: Request, error: Exception) -> Response:
    """Any error as the client of that path reads it."""
    if isinstance(error, HTTPException):
        words = {404: _NO_PATH, 405: "this path does not take that method"}
        error = Refusal(error.status_code, words.get(error.status_code, str(error.detail)), code="wrong_path")
    refusal = refusal_of(error)
    if refusal.code == "context_length_exceeded":
        refusal.param = _PROMPTS.get(http.url.path)
    http.state.record.outcome = refusal.code or str(refusal.status)
    return JSONResponse(body_of(refusal, dialect_of(http.url.path)), refusal.status, refusal.headers)


async def _gone(http: Request, error: Exception) -> Response:  # noqa: ARG001
    """Nobody reads this; the log does."""
    http.state.record.outcome = "client gone"
    return Response(status_code=GONE)


@dataclass(frozen=True)
class Guard:
    """Every request passes here, in and out: who asks, from where, and what the log says of it."""

    app: ASGIApp
    access: Access
    metrics: Metrics
    log: Callable[[str], None]
    known_paths: frozenset[str]
    bodies: Bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["path"] != "/" and scope["path"].endswith("/"):  # a base URL that was joined carelessly
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        record = Record()
        scope.setdefault("state", {})["record"] = record
        began, status = time.perf_counter(), GONE
        headers = Headers(scope=scope)
        origin: str | None = None
        taken, client = 0, b""

        async def receiving() -> Message:
            nonlocal taken
            message = await receive()
            count = len(message.get("body", b""))
            if count:
                self.bodies.take(count, client, taken)
                taken += count
            return message

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _decorate(MutableHeaders(scope=message), origin)
            await send(message)

        try:
            origin = self._admit(scope, headers)
            client = client_of(Request(scope)) if "caller" in scope["state"] else b""
            if scope["method"] == "OPTIONS" and origin is not None:
                await Response(status_code=204)(scope, receive, sending)
            else:
                await self.app(scope, receiving, sending)
        except Exception as error:
            await self._fail(scope, receive, sending, error, record, is_begun=status != GONE)
        finally:
            self.bodies.give(taken, client)
            route = scope.get("route")
            record.endpoint = getattr(route, "path", None) or (
                scope["path"] if scope["path"] in self.known_paths else "(none)"
            )
            seconds = time.perf_counter() - began
            self.metrics.count(record, status, seconds)
            self.log(line_of(record, scope["method"], status, seconds))

    def _admit(self, scope: Scope, headers: Headers) -> str | None:
        """The origin of a page that may ask; None for anybody who is no page. A Refusal for the rest."""
        self.access.check_host(headers.get("host"))
        is_page = self.access.check_origin(headers.get("origin"), headers.get("host"))
        preflight = scope["method"] == "OPTIONS" and is_page
        if scope["path"] not in OPEN_PATHS and not preflight:
            scope["state"]["caller"] = self.access.caller_of(headers)
        return headers.get("origin") if is_page else None

    async def _fail(
        self, scope: Scope, receive: Receive, send: Send, error: Exception, record: Record, *, is_begun: bool
    ) -> None:
        refusal = refusal_of(error)
        record.outcome = refusal.code or type(error).__name__
        if not is_begun:
            body = body_of(refusal, dialect_of(scope["path"]))
            await JSONResponse(body, refusal.status, refusal.headers)(scope, receive, send)


def _decorate(headers: MutableHeaders, origin: str | None) -> None:
    headers["X-Content-Type-Options"] = "nosniff"
    if origin is not None:
        headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Allow-Methods"] = _CORS_METHODS
        headers["Access-Control-Allow-Headers"] = _CORS_HEADERS
        headers.add_vary_header("Origin")


def line_of(record: Record, method: str, status: int, seconds: float) -> str:
    """The log line of a request: what it was and cost, nothing of what was said."""
    usage = record.usage
    parts = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "method": method if method.isalpha() and len(method) < 10 else "?",
        "path": record.endpoint,
        "status": status,
        "outcome": record.outcome.replace(" ", "_"),
        "model": record.model.replace(" ", "_"),
        "stream": str(record.is_streamed).lower(),
        "prompt": usage.prompt_tokens,
        "cached": usage.cached_tokens,
        "output": usage.completion_tokens,
        "first_s": "-" if record.first_s is None else f"{record.first_s:.3f}",
        "total_s": f"{seconds:.3f}",
    }
    return " ".join(f"{name}={value}" for name, value in parts.items())
