"""Listens: one port, one application, a calm end.

On the first signal no more requests are taken, those under way have `grace_s` to finish, and what is
left then ends with an error its client can read. Above: cli/serve.py. Below: app.py.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from gemstead.errors import ConfigError
from gemstead.server.app import make_app
from gemstead.server.auth import Access
from gemstead.server.exchange import Desk
from gemstead.server.responses_store import ResponseStore
from gemstead.server.runner import Runner
from gemstead.server.served import Served

PORT = 4114  # none of the peers' defaults
GRACE_S = 10.0
SIGNALS = (signal.SIGINT, signal.SIGTERM)
WAITING = 48  # answers that may wait beside those that the engine computes at once


@dataclass(frozen=True)
class Place:
    """Where to listen, and how much to take on."""

    host: str = "127.0.0.1"
    port: int = PORT
    max_waiting: int = WAITING
    deadline_s: float | None = None
    grace_s: float = GRACE_S
    store: Path | None = None  # where responses are kept; None: in memory


@dataclass(frozen=True)
class Bound:
    """A place that is ours, and its address for clients."""

    socket: socket.socket
    url: str


def listen(host: str, port: int) -> Bound:
    """Take a place; ConfigError saying why not."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, proto)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cannot listen on {host} port {port}: {error}; choose another with --port"
        ) from error
    name, number = bound.getsockname()[:2]
    return Bound(bound, f"http://[{name}]:{number}" if ":" in name else f"http://{name}:{number}")


def serve(served: Served, place: Place, access: Access, bound: Bound, log: Callable[[str], None]) -> None:
    """Serve until a signal or a stop request; returns when everybody was answered."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    engine = served.model.engine
    most = engine.options.max_sequences + place.max_waiting
    runner = Runner(engine, max_requests=most, deadline_s=place.deadline_s)
    server = _Server(runner, place.grace_s)
    store = ResponseStore(place.store)
    app = make_app(Desk(served, runner), store, access, log, server.stop_soon)
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=int(place.grace_s) + 5,
        h11_max_incomplete_event_size=64 << 10,
    )
    server.begin(config)
    try:
        server.run(sockets=[bound.socket])
    finally:
        runner.stop()
        store.close()


class _Server(uvicorn.Server):
    """uvicorn's server, which first lets the runner finish."""

    def __init__(self, runner: Runner, grace_s: float) -> None:
        self._runner, self._grace_s = runner, grace_s

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
        self._runner.refuse_more()
        ending = asyncio.get_running_loop().call_later(self._grace_s, self._runner.cancel_all)
        await super().shutdown(sockets)
        ending.cancel()
