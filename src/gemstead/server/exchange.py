"""One exchange with a client: begin its answers, then reply whole or as a stream, and always clean up.

Whatever way it ends (done, failed, client gone, server stopping), the answers leave the runner, and a
stream has had exactly one terminal event. Knows no API: an Encoder gives the bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from collections.abc import Sequence as Listing
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.requests import Request as HttpRequest
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from gemstead.errors import CapacityError
from gemstead.server.answers import Answer, together
from gemstead.server.refusals import Refusal, refusal_of
from gemstead.server.runner import Begin, Job, Runner
from gemstead.server.served import Served
from gemstead.types import Done, Event, Failed, Usage

PING_S = 10.0  # proxies and clients give up on a silent connection after 30 s to 60 s


class ClientGone(Exception):  # noqa: N818  not an error
    """The client closed the connection before its answer was there."""


class Encoder(Protocol):
    """How one API writes a stream."""

    media_type: str

    def opening(self) -> bytes:
        """What goes out before any event."""

    def encode(self, index: int, events: list[Event]) -> bytes:
        """Events of the answer of that index; the last may be its Done."""

    def ping(self) -> bytes:
        """A sign of life."""

    def failure(self, refusal: Refusal) -> bytes:
        """The end of a stream that broke."""

    def closing(self, usage: Usage) -> bytes:
        """The end of a stream whose answers are all done."""


@dataclass
class Record:
    """What the log and the metrics learn about one request; nothing of what was said."""

    endpoint: str = "-"
    model: str = "-"
    is_streamed: bool = False
    usage: Usage = field(default_factory=Usage)
    first_s: float | None = None
    outcome: str = "-"


@dataclass(frozen=True)
class Desk:
    """What every API needs to serve a request."""

    served: Served
    runner: Runner

    async def begin(self, http: HttpRequest, begin: Listing[Begin]) -> list[Job]:
        """Start answers; the record of the request remembers the model."""
        record_of(http).model = self.served.name
        return await self.runner.start(begin)

    async def whole(self, http: HttpRequest, begin: Listing[Begin]) -> list[Answer]:
        """All answers to their ends. A failure raises; so does a client that has gone (ClientGone)."""
        jobs = await self.begin(http, begin)
        gathering = asyncio.gather(*(_gathered(job) for job in jobs))
        leaving = asyncio.ensure_future(_gone(http))
        try:
            first: set[asyncio.Future[Any]] = {gathering, leaving}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if not gathering.done():
                raise ClientGone
            answers = gathering.result()
        finally:
            leaving.cancel()
            gathering.cancel()
            self.runner.leave(jobs)
            _remember(record_of(http), jobs)
        for answer in answers:
            failed = _failure(answer.end)
            if failed is not None:
                raise failed
        return answers

    async def streamed(self, http: HttpRequest, begin: Listing[Begin], encoder: Encoder) -> StreamingResponse:
        """A response that streams the answers as `encoder` writes them."""
        jobs = await self.begin(http, begin)
        record = record_of(http)
        record.is_streamed = True
        return _Streaming(self.runner, jobs, encoder, record)


def salt_of(http: HttpRequest) -> bytes:
    """What keeps the prompts of this caller apart from those of others."""
    salt: bytes = http.state.caller.salt
    return salt


def record_of(http: HttpRequest) -> Record:
    """The record that app.py laid into the request."""
    record = http.state.record
    assert isinstance(record, Record)
    return record


class _Streaming(StreamingResponse):
    """A stream whose answers leave the runner however it ends."""

    def __init__(self, runner: Runner, jobs: list[Job], encoder: Encoder, record: Record) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(_bytes(jobs, encoder, record), media_type=encoder.media_type, headers=headers)
        self._runner, self._jobs, self._record = runner, jobs, record

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._runner.leave(self._jobs)
            _remember(self._record, self._jobs)


async def _bytes(jobs: list[Job], encoder: Encoder, record: Record) -> AsyncIterator[bytes]:
    try:
        yield encoder.opening()
        async for index, events in merged(jobs, PING_S):
            if not events:
                yield encoder.ping()
                continue
            failed = _failure(events[-1])
            data = encoder.encode(index, events if failed is None else events[:-1])
            if data:
                yield data
            if failed is not None:
                record.outcome = failed.code or "failed"
                yield encoder.failure(failed)
                return
        yield encoder.closing(together([_usage(job) for job in jobs]))
    except Exception as error:  # a bug of ours: the client still gets its end
        record.outcome = type(error).__name__
        yield encoder.failure(refusal_of(error))


async def merged(jobs: list[Job], pause_s: float) -> AsyncIterator[tuple[int, list[Event]]]:
    """Batches of events of several jobs as they come, each with the job's index; empty: `pause_s` passed."""
    if len(jobs) == 1:
        async for events in jobs[0].batches(pause_s):
            yield 0, events
        return
    queue: asyncio.Queue[tuple[int, list[Event]]] = asyncio.Queue()

    async def pump(index: int, job: Job) -> None:
        async for events in job.batches():
            queue.put_nowait((index, events))

    tasks = [asyncio.ensure_future(pump(i, job)) for i, job in enumerate(jobs)]
    try:
        going = len(jobs)
        while going:
            try:
                index, events = await asyncio.wait_for(queue.get(), pause_s)
            except TimeoutError:
                yield 0, []
                continue
            going -= isinstance(events[-1], Done | Failed)
            yield index, events
    finally:
        for task in tasks:
            task.cancel()


async def _gathered(job: Job) -> Answer:
    answer = Answer()
    async for events in job.batches():
        answer.take(events)
    return answer


async def _gone(http: HttpRequest) -> None:
    """Return when the client has closed the connection."""
    while (await http.receive())["type"] != "http.disconnect":
        pass


def _failure(event: Any) -> Refusal | None:
    """Why an answer did not end well; None for a Done, or for an event that is no end."""
    if isinstance(event, Failed):
        return refusal_of(event.error)
    if isinstance(event, Done) and event.reason == "cancelled":
        return refusal_of(CapacityError("the server is stopping; the answer was cut short"))
    return None


def _usage(job: Job) -> Usage:
    return job.end.usage if job.end is not None else Usage()


def _remember(record: Record, jobs: list[Job]) -> None:
    record.usage = together([_usage(job) for job in jobs])
    record.first_s = min((job.first_s for job in jobs if job.first_s is not None), default=None)
    if record.outcome == "-":
        ends = [job.end for job in jobs]
        record.outcome = ends[0].reason if all(ends) and ends[0] is not None else "client gone"
