"""Who may ask: keys, Host and Origin, and where a server may listen without keys.

Pure functions over headers. Keys are compared as hashes, all of them, in constant time. A page in
somebody's browser is kept out twice: by Host (DNS rebinding) and by Origin.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from gemstead.errors import ConfigError
from gemstead.server.refusals import Refusal

Right: TypeAlias = Literal["user", "admin"]


@dataclass(frozen=True)
class Caller:
    """Who asks. Callers of different keys share nothing that was read of prompts: `salt` keeps them apart."""

    right: Right
    salt: bytes = b""

    def require_admin(self) -> None:
        """A Refusal (403) for a user's key."""
        if self.right != "admin":
            raise Refusal(403, "this needs the admin key", code="admin_only")


LEAST_KEY = 16  # characters: anything shorter can be guessed over a network


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def new_key() -> str:
    """A key nobody can guess."""
    return "gem-" + secrets.token_urlsafe(24)


@dataclass(frozen=True)
class Access:
    """Who may do what. Without keys everybody who reaches the server is a user and admin."""

    keys: tuple[str, ...] = ()
    admin_keys: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()  # names beside addresses and localhost under which it is asked
    origins: tuple[str, ...] = ()  # pages of other servers that may ask from a browser

    def __post_init__(self) -> None:
        for key in (*self.keys, *self.admin_keys):
            if len(key) < LEAST_KEY or not key.isascii() or not key.isprintable() or " " in key:
                raise ConfigError(
                    f"a key has {len(key)} characters or others than printable ASCII; "
                    f"use at least {LEAST_KEY}, without spaces"
                )

    def check_place(self, host: str) -> None:
        """ConfigError where anybody on the network could ask without a key."""
        if not is_loopback(host) and not self.keys:
            raise ConfigError(f"listening on {host} needs a key: everybody who reaches it could use it")

    def caller_of(self, headers: Mapping[str, str]) -> Caller:
        """Who the sender is; a Refusal (401) without a known key where keys are asked for."""
        if not self.keys and not self.admin_keys:
            return Caller("admin")
        given = _given(headers)
        digest = hashlib.sha256(given.encode()).digest()
        is_user = _is_one_of(digest, self.keys)
        is_admin = _is_one_of(digest, self.admin_keys)
        if given and is_admin:
            return Caller("admin", digest)
        if given and is_user:
            return Caller("user", digest)
        said = "the key is not known here" if given else "this server asks for a key"
        raise Refusal(
            401,
            f"{said}; send it as Authorization: Bearer KEY or as x-api-key",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def check_host(self, host: str | None) -> None:
        """Refuse a request that was sent to some other name: a page that had its own name rebound to us."""
        name = _name_of(host or "")
        if name == "localhost" or name in self.hosts or _is_address(name):
            return
        raise Refusal(
            403,
            f"the host {name!r} is not a name of this server; add it with --allow-host",
            code="wrong_host",
        )

    def check_origin(self, origin: str | None, host: str | None) -> bool:
        """Whether a page of another origin asks, and may; a Refusal where it may not."""
        if origin is None or origin in (f"http://{host}", f"https://{host}"):
            return False
        if origin in self.origins:
            return True
        raise Refusal(
            403,
            f"pages of {origin[:200]!r} may not use this server; add the origin with --allow-origin",
            code="wrong_origin",
        )


def _given(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key", "").strip()


def _is_one_of(digest: bytes, keys: Iterable[str]) -> bool:
    """Compares with every key, so that the time says nothing about which."""
    found = False
    for key in keys:
        found |= hmac.compare_digest(digest, hashlib.sha256(key.encode()).digest())
    return found


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0].lower() if host.count(":") == 1 else host.lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
