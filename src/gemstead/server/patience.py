"""How long a connection may take: one that sends or reads too slowly is closed, and none is held for nothing.

The size of what is sent is body.py's business. Above: serving.py, which listens with this protocol.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

SEND_S = 75.0  # for a whole request, head and body; body.py says 408 a little before
READ_S = 60.0  # without reading, while more is waiting than the system's buffers hold


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, with an end to its patience."""

    send_s, read_s = SEND_S, READ_S
    _sending: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there; its first request may take so long."""
        super().connection_made(transport)
        self._watch_sending()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._sending = self._reading = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Part of a request came; the time runs on until all of it is there."""
        super().data_received(data)
        self._watch_sending()

    def pause_writing(self) -> None:
        """The client does not read what it is sent."""
        super().pause_writing()
        self._reading = self.loop.call_later(self.read_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        if self._reading is not None:
            self._reading.cancel()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing more is asked. What was sent last may still be on its way, but not for ever."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(self.read_s, self.transport.abort)

    def _watch_sending(self) -> None:
        is_sending = self.cycle is None or self.cycle.response_complete or self.cycle.more_body
        if is_sending and self._sending is None:
            self._sending = self.loop.call_later(self.send_s, self.transport.abort)
        elif not is_sending and self._sending is not None:
            self._sending.cancel()
            self._sending = None
