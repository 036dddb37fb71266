"""A Hugging Face hub on loopback that can misbehave in every way a real one or the line to it does.

The real huggingface_hub client talks to it. One FakeHub is one server; a test sets its faults and reads
`requests`. Contents are bytes in memory. Nothing here knows gemstead.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_LARGE = (".gguf", ".safetensors", "tokenizer.json")
_PIECE = 1 << 14


@dataclass
class FakeHub:
    """What the hub holds and how it fails. Faults hold for file transfers unless named for the listing."""

    url: str = ""
    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    commit: str = COMMIT
    token: str | None = None  # readers must show this one
    gated: bool = False
    cuts: list[int] = field(default_factory=list)  # each transfer in turn ends after so many bytes
    statuses: list[tuple[int, dict[str, str]]] = field(default_factory=list)  # each transfer in turn fails so
    listing_statuses: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    wrong: Callable[[bytes], bytes] = lambda raw: raw  # what is sent instead
    ranges: bool = True  # whether Range is honoured
    pause_s: float = 0.0  # before every piece
    stall_after: int | None = None  # then nothing more comes, and the line stays open
    redirect_to: str | None = None  # files are at this other address, as on a CDN
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    sent_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ranges_asked(self) -> list[str]:
        """The Range headers of all transfers."""
        return [headers["range"] for _, _, headers in self.requests if "range" in headers]


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, path = self.hub, self.path.split("?")[0]
        path = re.sub(r"^http://[^/]+", "", path)  # a proxy is asked for whole addresses
        with hub.lock:
            headers = {name.lower(): value for name, value in self.headers.items()}
            hub.requests.append((self.command, self.path, headers))
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path)
        if match:
            return self.listing(match[1], match[2] or "main")
        match = re.fullmatch(r"(/cdn)?/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if match and hub.redirect_to and not match[1]:
            return self.short(302, {"Location": f"{hub.redirect_to}/cdn{path}"})
        if match:
            return self.file(match[2], match[4], is_cdn=bool(match[1]))
        return self.short(404)

    def short(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def is_refused(self) -> bool:
        hub = self.hub
        if hub.gated:
            self.short(403, {"X-Error-Code": "GatedRepo"})
        elif hub.token is not None and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self.short(401, {"X-Error-Code": "RepoNotFound"} if "Authorization" not in self.headers else {})
        else:
            return False
        return True

    def listing(self, repo: str, revision: str) -> None:
        hub = self.hub
        with hub.lock:
            fault = hub.listing_statuses.pop(0) if hub.listing_statuses else None
        if fault:
            return self.short(*fault)
        if self.is_refused():
            return None
        if repo not in hub.repos:
            return self.short(401, {"X-Error-Code": "RepoNotFound"})
        if revision not in ("main", hub.commit):
            return self.short(404, {"X-Error-Code": "RevisionNotFound"})
        body = {
            "id": repo,
            "sha": hub.commit,
            "siblings": [sibling(*entry) for entry in hub.repos[repo].items()],
        }
        return self.short(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

    def file(self, repo: str, path: str, *, is_cdn: bool) -> None:
        hub = self.hub
        with hub.lock:
            fault = hub.statuses.pop(0) if hub.statuses else None
            cut = hub.cuts.pop(0) if hub.cuts and not fault else None
        if fault:
            return self.short(*fault)
        if not is_cdn and self.is_refused():
            return None
        raw = hub.repos.get(repo, {}).get(path)
        if raw is None:
            return self.short(404, {"X-Error-Code": "EntryNotFound"})
        raw, start = hub.wrong(raw), 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and hub.ranges:
            start = int(asked[1])
            if start >= len(raw):
                return self.short(416, {"Content-Range": f"bytes */{len(raw)}"})
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(raw) - start))
        known = sibling(path, hub.repos[repo][path])
        self.send_header("ETag", f'"{known["lfs"]["sha256"] if "lfs" in known else known["blobId"]}"')
        self.send_header("X-Repo-Commit", hub.commit)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(raw) - 1}/{len(raw)}")
        self.end_headers()
        return self.send(raw[start:], cut) if self.command == "GET" else None

    def send(self, raw: bytes, cut: int | None) -> None:
        hub = self.hub
        end = len(raw) if cut is None else min(cut, len(raw))
        for at in range(0, end, _PIECE):
            time.sleep(hub.pause_s)
            piece = raw[at : min(at + _PIECE, end)]
            if hub.stall_after is not None and at >= hub.stall_after:
                time.sleep(3)
                break
            self.wfile.write(piece)
            with hub.lock:
                hub.sent_bytes += len(piece)
        else:
            if end == len(raw):
                return
        self.close_connection = True
        self.wfile.flush()
        self.connection.close()


def sibling(path: str, raw: bytes) -> dict[str, Any]:
    """One file as the hub lists it: large ones with their SHA-256, small ones with git's hash."""
    git = hashlib.sha1(b"blob %d\0" % len(raw) + raw).hexdigest()
    entry: dict[str, Any] = {"rfilename": path, "size": len(raw), "blobId": git}
    if path.endswith(_LARGE):
        entry["lfs"] = {"sha256": hashlib.sha256(raw).hexdigest(), "size": len(raw), "pointerSize": 130}
    return entry


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Cut lines are what this server is for."""


@contextmanager
def serving(hub: FakeHub | None = None) -> Iterator[FakeHub]:
    """A running FakeHub; `url` is its address."""
    hub = hub or FakeHub()
    server = _Server(("127.0.0.1", 0), type("Answer", (_Answer,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
