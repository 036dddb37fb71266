"""One exchange with a client: begin its answers, then reply whole or as a stream, and always clean up.

Whatever way it ends (done, failed, client gone, server stopping), the answers leave the runner, and a
stream has had exactly one terminal event. Knows no API: an Encoder gives the bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from collections.abc import Sequence as Listing
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias, TypedDict

from starlette.requests import Request as HttpRequest
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from gemstead.server.answers import Answer, together
from gemstead.server.refusals import Refusal, refusal_of
from gemstead.server.runner import Begin, Job
from gemstead.server.served import Served
from gemstead.server.shelf import Opened, Shelf
from gemstead.types import Done, Event, Failed, Usage

PING_S = 10.0  # proxies and clients give up on a silent connection after 30 s to 60 s


class ClientGone(Exception):  # noqa: N818  not an error
    """The client closed the connection before its answer was there."""


class Encoder(Protocol):
    """How one API writes a stream."""

    media_type: str

    def opening(self, prompt_tokens: int) -> bytes:
        """What goes out before any event; the prompt's length is all that is known by then."""

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


Prepare: TypeAlias = Callable[[Served], Listing[Begin]]


@dataclass(frozen=True)
class Desk:
    """What every API needs to serve a request. `prepare` says what to begin, once the model is open."""

    shelf: Shelf

    def keep(self, http: HttpRequest, model: str, given: Mapping[str, Any]) -> None:
        """What `keep_alive` asks of the model, where an admin asks; a user's changes nothing."""
        if "keep_alive" in given and http.state.caller.right == "admin":
            self.shelf.keep(self.shelf.place(model), given["keep_alive"])

    async def whole(self, http: HttpRequest, model: str, prepare: Prepare) -> tuple[Served, list[Answer]]:
        """The model and all answers to their ends. A failure raises; so does a client that has gone."""
        exchange = Exchange(self.shelf, http, model)
        working = asyncio.ensure_future(exchange.answers(prepare))
        leaving = asyncio.ensure_future(_gone(http))
        try:
            first: set[asyncio.Future[Any]] = {working, leaving}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise ClientGone
            served, answers = working.result()
        finally:
            leaving.cancel()
            await exchange.end(working)
        for answer in answers:
            failed = _failure(answer.end)
            if failed is not None:
                raise failed
        return served, answers

    async def streamed(
        self, http: HttpRequest, model: str, prepare: Prepare, encoder: Encoder
    ) -> StreamingResponse:
        """A response that streams the answers as `encoder` writes them.

        A refusal is a status, unless the model takes so long to open that the stream must begin before.
        """
        exchange = Exchange(self.shelf, http, model)
        exchange.record.is_streamed = True
        beginning = asyncio.ensure_future(exchange.begin(prepare))
        try:
            await asyncio.wait({beginning}, timeout=PING_S)
            if beginning.done():
                beginning.result()
        except BaseException:
            await exchange.end(beginning)
            raise
        return _Streaming(exchange, beginning, encoder)


class Exchange:
    """One request's hold on a model and its answers there, let go of by `end` however far it came."""

    def __init__(self, shelf: Shelf, http: HttpRequest, model: str) -> None:
        self._shelf, (self._place, self._adapter) = shelf, shelf.find(model)
        self._client = client_of(http)
        self._opened: Opened | None = None
        self.jobs: list[Job] = []
        self.record = record_of(http)
        self.record.model = (self._adapter or self._place.offer).name

    async def begin(self, prepare: Prepare) -> Served:
        """Wait for the model and start the answers."""
        self._opened = await self._shelf.hold(self._place)
        served = self._opened.served
        if self._adapter is not None:
            served = replace(served, adapter=self._adapter.name)
        self.jobs = await self._opened.runner.start(prepare(served), self._client)
        return served

    async def answers(self, prepare: Prepare) -> tuple[Served, list[Answer]]:
        """All answers, to their ends."""
        served = await self.begin(prepare)
        return served, list(await asyncio.gather(*(_gathered(job) for job in self.jobs)))

    async def end(self, task: asyncio.Task[Any]) -> None:
        """Stop the task that works on this, cancel what it began, and let the model rest."""
        task.cancel()
        try:
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # was told where it mattered
        finally:
            opened, self._opened = self._opened, None
            if opened is not None:
                opened.runner.leave(self.jobs, self._client)
                self._shelf.leave(self._place)
            _remember(self.record, self.jobs)


def client_of(http: HttpRequest) -> bytes:
    """Whose requests take turns with those of others: a key's, from one address."""
    address = http.client.host if http.client is not None else ""
    return salt_of(http) + address.encode()


class Whose(TypedDict):
    """What a session is told of the caller."""

    salt: bytes
    client: bytes


def whose(http: HttpRequest) -> Whose:
    """The caller as sessions know it."""
    return Whose(salt=salt_of(http), client=client_of(http))


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

    def __init__(self, exchange: Exchange, beginning: asyncio.Task[Served], encoder: Encoder) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        body = _bytes(exchange, beginning, encoder)
        super().__init__(body, media_type=encoder.media_type, headers=headers)
        self._exchange, self._beginning = exchange, beginning

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._exchange.end(self._beginning)


async def _bytes(
    exchange: Exchange, beginning: asyncio.Task[Served], encoder: Encoder
) -> AsyncIterator[bytes]:
    record = exchange.record
    try:
        while not beginning.done():  # the model is loading
            yield encoder.ping()
            await asyncio.wait({beginning}, timeout=PING_S)
        beginning.result()
        yield encoder.opening(exchange.jobs[0].stream.prompt_tokens)
        async for index, events in merged(exchange.jobs, PING_S):
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
        yield encoder.closing(together([_usage(job) for job in exchange.jobs]))
    except Exception as error:  # a refusal after a long load, or a bug of ours: the client still gets its end
        refusal = refusal_of(error)
        record.outcome = refusal.code or type(error).__name__
        yield encoder.failure(refusal)


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
        message = "the server is stopping; the answer was cut short"
        return Refusal(503, message, code="stopping", headers={"Retry-After": "5"})
    return None


def _usage(job: Job) -> Usage:
    return job.end.usage if job.end is not None else Usage()


def _remember(record: Record, jobs: list[Job]) -> None:
    if not jobs:
        return
    record.usage = together([_usage(job) for job in jobs])
    record.first_s = min((job.first_s for job in jobs if job.first_s is not None), default=None)
    if record.outcome == "-":
        ends = [job.end for job in jobs]
        record.outcome = ends[0].reason if all(ends) and ends[0] is not None else "client gone"
