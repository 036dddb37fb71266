"""Why a request is not served, and how each API says so.

A Refusal is raised anywhere between the body and the first event; `body_of` gives it the shape that
the client of that path reads. Holds no text of a request beyond names and values the caller wrote.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from gemstead.errors import CapacityError, CeilingError, ContextError, GemsteadError, InputError

Dialect: TypeAlias = Literal["openai", "anthropic", "ollama"]

_FIELD = re.compile(r"^(\w+) = ")  # "temperature = 9 is out of range": SamplingParams names the field
_OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}
_ANTHROPIC_TYPES = {**_OPENAI_TYPES, 404: "not_found_error", 413: "request_too_large"}


class Refusal(GemsteadError):  # noqa: N818  not an error of ours
    """A request that is answered with an error status; `param` names the field at fault."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})


def wrong(param: str, message: str) -> Refusal:
    """A 400 about one field."""
    return Refusal(400, message, param=param, code="invalid_value")


def stopping() -> Refusal:
    """A 503 for who asks while the server ends."""
    return Refusal(503, "the server is stopping", code="stopping", headers={"Retry-After": "5"})


def refusal_of(error: Exception) -> Refusal:
    """What an exception means to the client; a bug of ours says its type and nothing else."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, InputError):
        match = _FIELD.match(str(error))
        return Refusal(400, str(error), param=match[1] if match else None, code="invalid_value")
    if isinstance(error, ContextError):
        return Refusal(400, _shorten(error, "context"), code="context_length_exceeded")
    if isinstance(error, CeilingError):
        return Refusal(413, _shorten(error, "memory"), code="memory_exceeded")
    if isinstance(error, CapacityError):
        return Refusal(503, str(error), code="no_capacity", headers={"Retry-After": "5"})
    if isinstance(error, GemsteadError):
        return Refusal(500, str(error), code="model_failed")
    return Refusal(500, f"this is a bug in gemstead: {type(error).__name__}", code="internal_error")


def _shorten(error: CapacityError, what: str) -> str:
    """What was seen, and what the one who asks can do; only who starts the server can give it more."""
    return (
        f"{error.seen}; send less: fewer messages, or fewer and shorter tools. Who runs this server may have "
        f"started it with less {what} than is possible"
    )


def body_of(refusal: Refusal, dialect: Dialect) -> dict[str, Any]:
    """The error object of one API."""
    if dialect == "ollama":
        return {"error": refusal.message}
    fallback = "invalid_request_error" if refusal.status < 500 else "api_error"
    if dialect == "anthropic":
        kind = _ANTHROPIC_TYPES.get(refusal.status, fallback)
        return {"type": "error", "error": {"type": kind, "message": refusal.message}}
    kind = _OPENAI_TYPES.get(
        refusal.status, "invalid_request_error" if refusal.status < 500 else "server_error"
    )
    return {
        "error": {
            "message": refusal.message,
            "type": kind,
            "param": refusal.param,
            "code": refusal.code,
        }
    }


def dialect_of(path: str) -> Dialect:
    """Which API a path belongs to."""
    if path.startswith("/api/"):
        return "ollama"
    return "anthropic" if path.startswith("/v1/messages") else "openai"
