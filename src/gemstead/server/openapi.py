"""The OpenAPI document of every endpoint, from the tables by which requests are read.

Says what is taken and which statuses come back; what a field means beyond that is docs/guides/serve.md.
Neighbours: fields.py makes the schemas, app.py serves the document at /openapi.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gemstead.server import anthropic, control, embeddings, ollama, openai, responses
from gemstead.server.body import MAX_BODY_BYTES
from gemstead.server.fields import Field, schema_of
from gemstead.server.refusals import Dialect, dialect_of

PATH = "/openapi.json"
SSE, LINES, TEXT = "text/event-stream", "application/x-ndjson", "text/plain"
_REFUSALS = {
    "400": "a field is wrong, unknown or not supported; the message names it",
    "401": "no key, or one that is not known here",
    "403": "not this key, not under this host name, or not from a page of this origin",
    "404": "there is no such model or response",
    "408": "the body did not come in time",
    "413": f"the body is larger than {MAX_BODY_BYTES:,} bytes, or the prompt needs more memory than there is",
    "429": "too many answers are under way; Retry-After says when to ask again",
    "503": "the server is stopping, or has no memory left for this; see Retry-After",
}
_ERRORS: Mapping[Dialect, dict[str, Any]] = {
    "openai": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "param": {"type": ["string", "null"]},
                    "code": {"type": ["string", "null"]},
                },
            }
        },
    },
    "anthropic": {
        "type": "object",
        "required": ["type", "error"],
        "properties": {
            "type": {"const": "error"},
            "error": {
                "type": "object",
                "required": ["type", "message"],
                "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
    "ollama": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
}


@dataclass(frozen=True)
class Operation:
    """One method of one path: what it is for, the table of its body, the fields that must be there."""

    path: str
    about: str
    table: Mapping[str, Field] | None = None
    needed: tuple[str, ...] = ()
    gives: tuple[str, ...] = ("application/json",)
    method: str = "post"


_MODEL, _MESSAGES, _JSON = ("model",), ("model", "messages"), "application/json"
OPERATIONS = (
    Operation("/v1/chat/completions", "OpenAI: chat", openai.CHAT, _MESSAGES, (_JSON, SSE)),
    Operation(
        "/v1/completions", "OpenAI: go on with a text", openai.COMPLETION, ("model", "prompt"), (_JSON, SSE)
    ),
    Operation("/v1/responses", "OpenAI: respond", responses.RESPONSES, ("model", "input"), (_JSON, SSE)),
    Operation("/v1/responses/{id}", "OpenAI: a stored response", method="get"),
    Operation("/v1/responses/{id}", "OpenAI: forget a stored response", method="delete"),
    Operation("/v1/embeddings", "OpenAI: embeddings", embeddings.EMBEDDINGS, ("model", "input")),
    Operation("/v1/models", "OpenAI: the models", method="get"),
    Operation("/v1/models/{name}", "OpenAI: one model", method="get"),
    Operation(
        "/v1/messages", "Anthropic: messages", anthropic.MESSAGES, (*_MESSAGES, "max_tokens"), (_JSON, SSE)
    ),
    Operation("/v1/messages/count_tokens", "Anthropic: the tokens of a prompt", anthropic.COUNT, _MESSAGES),
    Operation("/api/chat", "Ollama: chat", ollama.CHAT, _MODEL, (LINES, _JSON)),
    Operation("/api/generate", "Ollama: answer a prompt", ollama.GENERATE, _MODEL, (LINES, _JSON)),
    Operation("/api/embed", "Ollama: embeddings", embeddings.EMBED, ("model", "input")),
    Operation("/api/embeddings", "Ollama: one embedding", embeddings.LEGACY, ("model", "prompt")),
    Operation("/api/tags", "Ollama: the models", method="get"),
    Operation("/api/ps", "Ollama: the open models", method="get"),
    Operation("/api/show", "Ollama: about a model", ollama.SHOW),
    Operation("/api/version", "Ollama: the version", method="get"),
    *(
        Operation(prefix + path, about, table, needed)
        for prefix in ("", "/v1")
        for path, about, table, needed in (
            ("/tokenize", "a text as token ids", control.TOKENIZE, ("text",)),
            ("/detokenize", "token ids as a text", control.DETOKENIZE, ("tokens",)),
        )
    ),
    Operation("/", "whether anybody is there", gives=(TEXT,), method="get"),
    Operation("/health", "whether new requests are taken", method="get"),
    Operation("/health/live", "whether the process lives", method="get"),
    Operation("/health/ready", "whether new requests are taken", method="get"),
    Operation("/metrics", "admin: Prometheus figures", gives=(TEXT,), method="get"),
    Operation("/gemstead/status", "admin: what runs", method="get"),
    Operation("/gemstead/stop", "admin: stop the server"),
    Operation(PATH, "this document", method="get"),
)


def document() -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gemstead",
            "version": metadata.version("gemstead"),
            "description": "OpenAI's, Anthropic's and Ollama's APIs over one local model.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "schemas": {f"{dialect}-error": schema for dialect, schema in _ERRORS.items()},
            "responses": {
                f"{dialect}-{status}": {"description": about, "content": _content(f"schemas/{dialect}-error")}
                for dialect in _ERRORS
                for status, about in _REFUSALS.items()
            },
        },
        "security": [{"bearer": []}, {"x-api-key": []}, {}],
    }


def _described(operation: Operation) -> dict[str, Any]:
    dialect = dialect_of(operation.path)
    refusals = {status: {"$ref": f"#/components/responses/{dialect}-{status}"} for status in _REFUSALS}
    given = {"description": "done", "content": {kind: {} for kind in operation.gives}}
    described: dict[str, Any] = {"summary": operation.about, "responses": {"200": given, **refusals}}
    if operation.path.endswith("}"):
        name = operation.path.rpartition("{")[2].rstrip("}")
        described["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        ]
    if operation.table is not None:
        schema = schema_of(operation.table, operation.needed)
        described["requestBody"] = {"required": True, "content": {_JSON: {"schema": schema}}}
    return described


def _content(place: str) -> dict[str, Any]:
    return {_JSON: {"schema": {"$ref": f"#/components/{place}"}}}


def routes() -> list[Route]:
    """The endpoint."""
    whole = document()

    async def described(_: HttpRequest) -> Response:
        return JSONResponse(whole)

    return [Route(PATH, described, methods=["GET"])]
