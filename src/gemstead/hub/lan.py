"""Shares models with the machines of one room over HTTP, to those who were told the code.

Standard library only, and only on the address that was asked for. The code never travels: each request proves
that its sender knows it, and the list of models proves that the server does, so that the hashes in it can be
trusted and with them the files. Nothing but the files of the manifests is served. Neighbour: carry.py.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ipaddress
import json
import re
import secrets
import socket
import socketserver
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from gemstead.errors import HubError
from gemstead.hub.carry import LocalSource
from gemstead.hub.folders import is_offline
from gemstead.hub.manifest import VERSION, FileRecord, Manifest, parse_manifest, slug

PORT = 8745
_ALPHABET = "ABCDEFGHJKMNPQRSTVWXYZ23456789"  # without what is easily misread
_CODE_LETTERS = 10  # 49 bits, and each guess costs a scrypt
_INDEX = "/carry/1/index"
_PROOF = "X-Gemstead-Proof"
_TIMEOUT_S = 20.0
_MOST_WRONG = 200  # wrong proofs before nobody is answered any more
_MAX_INDEX_BYTES = 4 << 20


def new_code() -> str:
    """A code for one sharing, in a form that is easily read out: ABCDE-FGHJK."""
    letters = "".join(secrets.choice(_ALPHABET) for _ in range(_CODE_LETTERS))
    return f"{letters[:5]}-{letters[5:]}"


def key_of(code: str) -> bytes:
    """The key of a code, however it was typed. Slow on purpose: a recorded proof helps no guesser."""
    letters = re.sub(r"[^A-Z0-9]", "", code.upper()).encode()
    return hashlib.scrypt(letters, salt=b"gemstead carry 1", n=1 << 14, r=8, p=1, dklen=32)


def prove(key: bytes, *parts: bytes) -> str:
    """What only one who knows the key can say about these bytes."""
    joined = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return hmac.new(key, joined, "sha256").hexdigest()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind as any TCP server does: HTTPServer would ask a name server who we are."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


class Sharing:
    """A running server. `told` hears one line for each model that a machine has taken whole."""

    def __init__(
        self, source: LocalSource, address: tuple[str, int], code: str, told: Callable[[str], None]
    ) -> None:
        self.source, self.key, self.told = source, key_of(code), told
        self.manifests = {slug(manifest.name): manifest for manifest in source.manifests()}
        self.wrong = 0
        handler = type("CarryAnswer", (_Answer,), {"sharing": self})
        try:
            self._server = _Server(address, handler)
        except OSError as error:
            raise HubError(
                f"cannot share on {address[0]}:{address[1]}: {error.strerror or error}; --host is an address "
                "of this machine in the room's network (ip addr shows them), --port a free port"
            ) from error
        self.port: int = self._server.server_address[1]

    def run(self) -> None:
        """Serve until stop(), or until Ctrl-C."""
        self._server.serve_forever(0.2)

    def stop(self) -> None:
        """End run() from another thread."""
        self._server.shutdown()

    def close(self) -> None:
        """Give the address back."""
        self._server.server_close()


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "gemstead", ""
    timeout = 60
    sharing: Sharing

    def log_message(self, *_: Any) -> None:
        """Nothing is logged but what `told` hears."""

    def do_GET(self) -> None:
        """One file, or the list of models, to who proves to know the code."""
        nonce, _, proof = self.headers.get(_PROOF, "").partition(":")
        expected = prove(self.sharing.key, b"ask", self.path.encode(), nonce.encode())
        if self.sharing.wrong >= _MOST_WRONG:
            return self._short(429, b"too many wrong codes; share again with a new one")
        if not nonce or not hmac.compare_digest(proof.encode(), expected.encode()):
            self.sharing.wrong += 1
            return self._short(403, b"wrong code")
        if self.path == _INDEX:
            models = [{"gemstead_manifest": VERSION, **asdict(m)} for m in self.sharing.manifests.values()]
            body = json.dumps(models).encode()
            return self._short(200, body, prove(self.sharing.key, b"answer", nonce.encode(), body))
        match = re.fullmatch(r"/carry/1/([^/]+)/(.+)", self.path)
        manifest = self.sharing.manifests.get(urllib.parse.unquote(match[1])) if match else None
        path = urllib.parse.unquote(match[2]) if match else ""
        file = next((f for f in manifest.files if f.path == path), None) if manifest else None
        if manifest is None or file is None:
            return self._short(404, b"no such file")
        return self._file(manifest, file)

    def _file(self, manifest: Manifest, file: FileRecord) -> None:
        asked = re.fullmatch(r"bytes=(\d{1,15})-", self.headers.get("Range", ""))
        start = min(int(asked[1]), file.bytes) if asked else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(file.bytes - start))
        self.end_headers()
        left = file.bytes - start
        with suppress(HubError, OSError), self.sharing.source.read(manifest, file, start) as found:
            for piece in found:
                self.wfile.write(piece[:left])
                left -= len(piece[:left])
        if left:
            self.close_connection = True
        elif file == max(manifest.files, key=lambda f: f.bytes):
            self.sharing.told(f"{self.client_address[0]} has taken {manifest.name}")

    def _short(self, status: int, body: bytes, proof: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if proof:
            self.send_header(_PROOF, proof)
        self.end_headers()
        self.wfile.write(body)


class LanSource:
    """Models of another machine that shares them."""

    def __init__(self, url: str, code: str) -> None:
        parts = urllib.parse.urlsplit(url)
        try:
            port = PORT if parts.port is None else parts.port
        except ValueError:
            port = 0
        if parts.scheme != "http" or not parts.hostname or not port:
            raise HubError(f"{url!r} is no address of a sharing machine; write http://192.168.1.20:{PORT}")
        self._host, self._port, self._key = parts.hostname, port, key_of(code)
        if is_offline() and not _is_loopback(self._host):
            raise HubError(f"--offline (or GEMSTEAD_OFFLINE) forbids asking {self._host}; leave that out")

    def manifests(self) -> Sequence[Manifest]:
        """What the other machine shares; HubError when either side does not know the code."""
        with self._ask(_INDEX) as (nonce, response):
            body = response.read(_MAX_INDEX_BYTES)
            proof = response.getheader(_PROOF, "")
        if not hmac.compare_digest(
            proof.encode(), prove(self._key, b"answer", nonce.encode(), body).encode()
        ):
            raise HubError(f"{self._host} does not know the code: this is not the machine that shows it")
        what = f"the list of {self._host}"
        try:
            entries = json.loads(body)
            return [parse_manifest(json.dumps(entry).encode(), what) for entry in entries]
        except (ValueError, TypeError) as error:
            raise HubError(f"{what} is damaged: {error}") from error

    @contextmanager
    def read(self, manifest: Manifest, file: FileRecord, start: int) -> Iterator[Iterator[bytes]]:
        """The bytes of one file from `start` on."""
        path = f"/carry/1/{urllib.parse.quote(slug(manifest.name))}/{urllib.parse.quote(file.path)}"
        with self._ask(path, start) as (_, response):
            if start and response.status != 206:
                raise HubError(f"{self._host} cannot go on in the middle of {file.path}")
            yield iter(lambda: response.read(1 << 18), b"")

    @contextmanager
    def _ask(self, path: str, start: int = 0) -> Iterator[tuple[str, http.client.HTTPResponse]]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_S)  # never a proxy
        nonce = secrets.token_hex(16)
        headers = {_PROOF: f"{nonce}:{prove(self._key, b'ask', path.encode(), nonce.encode())}"}
        headers |= {"Range": f"bytes={start}-"} if start else {}
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            if response.status == 403:
                raise HubError(f"{self._host} does not accept this code; read it again from the other screen")
            if response.status not in (200, 206):
                said = response.read(200).decode("utf-8", "replace")
                raise HubError(f"{self._host} answered {response.status}: {said}")
            yield nonce, response
        except (OSError, http.client.HTTPException) as error:
            raise HubError(
                f"{self._host}:{self._port} cannot be reached or fell silent ({error}); are both machines in "
                "one network, and is gemstead carry --serve still running there?"
            ) from error
        finally:
            connection.close()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
