"""The engine's thread: steps the engine and hands each request its events, many requests at once.

A request's prompt is rendered in a worker thread, its tokens come from this one, and its events are
read in the event loop. Admits a bounded number; refuses the rest (429). Neighbours: session.py makes
the streams, the APIs read the jobs.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from collections.abc import Sequence as Listing
from typing import Protocol, TypeAlias

from gemstead.errors import CapacityError
from gemstead.server.refusals import Refusal, stopping
from gemstead.types import Done, Event, Failed, Usage


class Steps(Protocol):
    """What the thread needs of an engine."""

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""

    def step(self) -> None:
        """Advance everybody."""

    def park(self, wanted: Callable[[], bool]) -> None:
        """Put on disk what may be wanted after a restart, as long as `wanted()`."""


class Polled(Protocol):
    """What the thread needs of a session's stream."""

    @property
    def prompt_tokens(self) -> int:
        """How long the prompt is."""

    def poll(self) -> list[Event]:
        """The events that are ready."""

    def cancel(self) -> None:
        """End it; its Done follows."""


IDLE_S = 2.0  # without a request, before what was read is put on disk: the power may go
CROWD = 4  # clients who may each have all that one may have

Begin: TypeAlias = Callable[[], Polled]


class Job:
    """One answer under way. Its events end with exactly one Done or Failed."""

    def __init__(self, stream: Polled, deadline_s: float | None) -> None:
        self.stream = stream
        self.began_s = time.perf_counter()
        self.first_s: float | None = None  # when its first event came, from the beginning
        self.end: Done | Failed | None = None
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[list[Event]] = asyncio.Queue()
        self._deadline_s = deadline_s

    def deliver(self, events: list[Event]) -> None:
        """Hand over events, from the engine's thread; a loop that has gone takes none."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._events.put_nowait, events)

    async def batches(self, pause_s: float | None = None) -> AsyncIterator[list[Event]]:
        """The events as they come; an empty list whenever `pause_s` passed without any."""
        while self.end is None:
            try:
                events = await asyncio.wait_for(self._events.get(), self._patience(pause_s))
            except TimeoutError:
                if not self._is_late():
                    yield []
                    continue
                self.stream.cancel()
                message = f"the request took longer than {self._deadline_s:g} s, which this server allows"
                events = [Failed(CapacityError(message))]
            if self.first_s is None:
                self.first_s = time.perf_counter() - self.began_s
            if isinstance(events[-1], Done | Failed):
                self.end = events[-1]
            yield events

    def _patience(self, pause_s: float | None) -> float | None:
        if self._deadline_s is None:
            return pause_s
        left = max(0.0, self.began_s + self._deadline_s - time.perf_counter())
        return left if pause_s is None else min(left, pause_s)

    def _is_late(self) -> bool:
        return self._deadline_s is not None and time.perf_counter() >= self.began_s + self._deadline_s


class Runner:
    """Owns the thread. `start` begins jobs, `leave` lets go of them."""

    def __init__(self, engine: Steps, *, max_requests: int, deadline_s: float | None = None) -> None:
        self.max_requests = max_requests
        self._engine = engine
        self._deadline_s = deadline_s
        self._jobs: list[Job] = []
        self._arrived: list[Job] = []
        self._wake = threading.Condition()
        self._is_stopping = False
        self._admitted: Counter[bytes] = Counter()  # by client
        self._thread = threading.Thread(target=self._work, name="gemstead-engine", daemon=True)
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether new requests are taken."""
        return self._thread.is_alive() and not self._is_stopping

    @property
    def admitted(self) -> int:
        """Answers under way or waiting."""
        return self._admitted.total()

    async def start(self, begin: Listing[Begin], client: bytes = b"") -> list[Job]:
        """Begin one answer per callable, all or none; Refusal 429 when too many are under way.

        `max_requests` are one client's; all together may have CROWD times as many, so that nobody who
        fills his own queue closes the door for others.
        """
        if not self.is_ready:
            raise stopping()
        own, all_ = self._admitted[client], self.admitted
        if own + len(begin) > self.max_requests or all_ + len(begin) > CROWD * self.max_requests:
            raise Refusal(
                429,
                f"{own} answers of yours and {all_} in all are under way or waiting, the most here are "
                f"{self.max_requests} of one client and {CROWD * self.max_requests} in all; ask again later",
                code="queue_full",
                headers={"Retry-After": "1"},
            )
        self._admitted[client] += len(begin)
        jobs: list[Job] = []
        try:
            for one in begin:
                jobs.append(Job(await asyncio.to_thread(one), self._deadline_s))  # noqa: PERF401 (kept on error)
        except BaseException:
            for job in jobs:
                job.stream.cancel()
            self._forget(client, len(begin))
            raise
        with self._wake:
            self._arrived += jobs
            self._wake.notify()
        return jobs

    def leave(self, jobs: list[Job], client: bytes = b"") -> None:
        """The client has all it wants, or has gone: whatever is not finished is cancelled."""
        for job in jobs:
            if job.end is None:
                job.stream.cancel()
        self._forget(client, len(jobs))
        with self._wake:
            self._wake.notify()

    def _forget(self, client: bytes, count: int) -> None:
        self._admitted[client] -= count
        if not self._admitted[client]:
            del self._admitted[client]  # there is no end of addresses

    def refuse_more(self) -> None:
        """Take no more requests; those under way go on."""
        self._is_stopping = True

    def stop(self) -> None:
        """End what is left, each with its terminal event, and end the thread."""
        self._is_stopping = True
        self.cancel_all()
        self._thread.join()

    def cancel_all(self) -> None:
        """End every answer under way; each gets its Done."""
        with self._wake:
            for job in [*self._jobs, *self._arrived]:
                job.stream.cancel()
            self._wake.notify()

    def _work(self) -> None:
        is_parked = True
        while True:
            with self._wake:
                self._wake.wait_for(
                    lambda: self._jobs or self._arrived or self._is_stopping, None if is_parked else IDLE_S
                )
                self._jobs += self._arrived
                self._arrived = []
                if self._is_stopping and not self._jobs:
                    return
            is_parked = not self._jobs
            if is_parked:
                with contextlib.suppress(Exception):  # parking may only save time
                    self._engine.park(lambda: not self._arrived and not self._is_stopping)
            else:
                self._step()

    def _step(self) -> None:
        try:
            if self._engine.has_work:
                self._engine.step()
        except Exception as error:  # a bug of ours: everybody is told, and the thread lives on
            for job in self._jobs:
                job.stream.cancel()
                job.deliver([Failed(error, Usage())])
            self._jobs = []
            return
        going = []
        for job in self._jobs:
            events = job.stream.poll()
            if events:
                job.deliver(events)
            if not events or not isinstance(events[-1], Done | Failed):
                going.append(job)
        self._jobs = going
