"""A request's body as a JSON object, within limits: bytes, nesting, plain JSON only.

Counts before it parses, so that no body costs more than its limit. Neighbours: app.py calls it,
fields.py reads the result.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from typing import Any

from starlette.requests import Request as HttpRequest

from gemstead.server.refusals import Refusal

MAX_BODY_BYTES = 32 << 20
MAX_DEPTH = 64
BODY_S = 60.0  # for a whole body to come
_NESTING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{\]}]', re.DOTALL)


class Bodies:
    """The bytes of the bodies of all requests under way, from their first piece to the end of the answer.

    One client may have half of `most_bytes`, so that nobody's long bodies keep out all others.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._held: Counter[bytes] = Counter()  # by client

    @property
    def held_bytes(self) -> int:
        """What they take now."""
        return self._held.total()

    def take(self, count: int, client: bytes, before: int) -> None:
        """More bytes of a body that has taken `before`; Refusal 413, or 503 where others have the room."""
        own = self.most_bytes // 2
        if before + count > own:
            raise _too_large(own)
        if self._held[client] + count > own or self.held_bytes + count > self.most_bytes:
            raise Refusal(
                503,
                f"the bodies of requests under way take {self.held_bytes:,} bytes, {self._held[client]:,} of "
                f"them yours; the most here are {self.most_bytes:,}, and {own:,} of one client: ask again "
                "later",
                code="bodies_full",
                headers={"Retry-After": "1"},
            )
        self._held[client] += count

    def give(self, count: int, client: bytes) -> None:
        """The request has ended."""
        self._held[client] -= count
        if not self._held[client]:
            del self._held[client]


async def read_object(
    request: HttpRequest, limit_bytes: int = MAX_BODY_BYTES, limit_s: float = BODY_S
) -> dict[str, Any]:
    """The body as an object; Refusal 413 and 408 beyond the limits, 400 for what is not a JSON object."""
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit_bytes:
        raise _too_large(limit_bytes)
    chunks, size = [], 0
    try:
        async with asyncio.timeout(limit_s):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit_bytes:
                    raise _too_large(limit_bytes)
                chunks.append(chunk)
    except TimeoutError:
        message = f"the body did not come within {limit_s:g} s"
        raise Refusal(408, message, code="request_timeout", headers={"Connection": "close"}) from None
    body = b"".join(chunks)
    del chunks  # so that it is there once, beside what is read from it
    return parse_object(body)


def parse_object(body: bytes) -> dict[str, Any]:
    """Bytes as a JSON object; a Refusal (400) says what is wrong with them."""
    if depth_of(body) > MAX_DEPTH:
        raise Refusal(400, f"the body is nested more than {MAX_DEPTH} levels deep", code="too_deep")
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise Refusal(400, "the body is not UTF-8", code="invalid_json") from None
    except (ValueError, RecursionError) as error:
        where = (
            f"line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
        )
        raise Refusal(400, f"the body is not JSON: {where}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise Refusal(400, f"the body is a JSON {type(value).__name__}, not an object", code="invalid_json")
    if b"\\ud" in body.lower():
        _check_pairs(value)
    return value


def _check_pairs(value: dict[str, Any]) -> None:
    """Refuse half of a surrogate pair: json lets it through, and UTF-8 cannot hold it."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Refusal(
            400, "the body holds half of a surrogate pair (\\ud800 to \\udfff)", code="invalid_json"
        ) from None


def depth_of(body: bytes) -> int:
    """How deep the brackets of a JSON text are nested, those in strings left out."""
    depth = deepest = 0
    for match in _NESTING.finditer(body):
        token = match[0]
        if token in (b"{", b"["):
            depth += 1
            deepest = max(deepest, depth)
        elif token in (b"}", b"]"):
            depth -= 1
    return deepest


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _too_large(limit_bytes: int) -> Refusal:
    return Refusal(413, f"the body is larger than {limit_bytes:,} bytes", code="request_too_large")
