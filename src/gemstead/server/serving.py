"""Listens: a port or two, one application, a calm end.

On the first signal no more requests are taken, those under way have `grace_s` to finish, and what is
left then ends with an error its client can read. Above: cli/serve.py. Below: app.py.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Listing
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn

from gemstead.errors import ConfigError
from gemstead.server.app import make_app
from gemstead.server.auth import Access
from gemstead.server.exchange import Desk
from gemstead.server.patience import PatientProtocol
from gemstead.server.responses_store import ResponseStore
from gemstead.server.shelf import Shelf

PORT = 4114  # none of the peers' defaults
GRACE_S = 10.0
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Ending:
    """How it ends, and the responses, which it closes."""

    store: ResponseStore
    grace_s: float = GRACE_S


@dataclass(frozen=True)
class Bound:
    """A place that is ours, and its address for clients."""

    socket: socket.socket
    url: str


def listen(host: str, port: int, option: str = "--port") -> Bound:
    """Take a place; ConfigError saying why not, and which option chooses another."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, proto)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cannot listen on {host} port {port}: {error}; choose another with {option}"
        ) from error
    name, number = bound.getsockname()[:2]
    return Bound(bound, f"http://[{name}]:{number}" if ":" in name else f"http://{name}:{number}")


def serve(
    shelf: Shelf, ending: Ending, access: Access, bound: Listing[Bound], log: Callable[[str], None]
) -> None:
    """Serve until a signal or a stop request; returns when everybody was answered."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    server = _Server(shelf, ending.grace_s)
    app = make_app(Desk(shelf), ending.store, access, log, server.stop_soon)
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        lifespan="off",
        http=PatientProtocol,
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=int(ending.grace_s) + 5,
        h11_max_incomplete_event_size=64 << 10,
    )
    server.begin(config)
    try:
        server.run(sockets=[one.socket for one in bound])
    finally:
        shelf.stop()
        ending.store.close()


class _Server(uvicorn.Server):
    """uvicorn's server, which first lets the models finish."""

    def __init__(self, shelf: Shelf, grace_s: float) -> None:
        self._shelf, self._grace_s = shelf, grace_s

    def begin(self, config: uvicorn.Config) -> None:
        """The configuration, which needs the application, which needs this server."""
        super().__init__(config)

    def stop_soon(self) -> None:
        """End as on a signal."""
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's would raise the signal again at the end, and nothing after it could be tidied up."""
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more, wait, then end what is left."""
        self._shelf.refuse_more()
        ending = asyncio.get_running_loop().call_later(self._grace_s, self._shelf.cancel_all)
        await super().shutdown(sockets)
        ending.cancel()
