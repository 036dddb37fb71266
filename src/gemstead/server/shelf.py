"""The models a server offers, each opened when somebody asks and closed when nobody has for a while.

One loads at a time, never twice, and never beyond the room: idle ones are closed first, the longest unused
first of all; a busy one takes nobody new and is closed when its last answer ends. Nothing is ever closed
under a running request. Lives in the event loop; opening and closing happen in threads. Neighbours:
exchange.py holds a place for each request, budget.py says how much room there is.
"""

from __future__ import annotations

import asyncio
import gc
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gemstead.server.budget import Budget
from gemstead.server.refusals import Refusal, stopping
from gemstead.server.runner import Runner
from gemstead.server.served import AdapterOffer, Offer, Served
from gemstead.types import ThinkingChoice

WAITING = 48  # answers that may wait beside those that the engine computes at once
WAIT_FOR_ROOM_S = 300.0  # for others to end their answers, before a load is given up


@dataclass(frozen=True)
class Terms:
    """How models are kept and asked. keep_alive_s: how long without requests; infinity is for ever."""

    keep_alive_s: float = math.inf
    max_waiting: int = WAITING
    deadline_s: float | None = None
    thinking: ThinkingChoice = False


@dataclass(eq=False)
class Opened:
    """An open model and the thread that computes its answers."""

    served: Served
    runner: Runner


@dataclass(eq=False)
class Place:
    """One model's place on the shelf, open or not."""

    offer: Offer
    keep_alive_s: float
    context_tokens: int | None = None  # known when it was opened once
    opened: Opened | None = None
    users: int = 0  # requests that use the open model
    waiting: int = 0  # requests that wait for it to open
    is_leaving: bool = False  # another one needs its room: nobody new
    loading: asyncio.Task[None] | None = None
    closing: asyncio.TimerHandle | None = None
    used_s: float = 0.0
    expires_s: float | None = None  # time.time() when it will be closed, if nobody asks
    tasks: set[asyncio.Task[None]] = field(default_factory=set)  # that close it

    @property
    def state(self) -> str:
        """In one word."""
        if self.opened is not None:
            return "open"
        return "closed" if self.loading is None else "opening"

    @property
    def may_close(self) -> bool:
        """Whether nobody uses it, nor is about to."""
        return self.opened is not None and not self.users and (not self.waiting or self.is_leaving)


class Shelf:
    """All places. `hold` and `leave` go together."""

    def __init__(self, budget: Budget, terms: Terms) -> None:
        self.budget, self.terms = budget, terms
        self.places = tuple(Place(offer, terms.keep_alive_s) for offer in budget.offers)
        self.is_stopping = False
        self._turn = asyncio.Lock()  # of who opens or closes
        self._is_freed = asyncio.Event()
        self._is_ending = asyncio.Event()

    # ------------------------------------------------------------------ asking

    @property
    def names(self) -> list[tuple[str, Place]]:
        """Every name, of models, aliases and adapters, with its place."""
        return [(name, place) for place in self.places for name in place.offer.names]

    def place(self, name: str) -> Place:
        """The place of whatever answers to the name; a Refusal (404)."""
        return self.find(name)[0]

    def find(self, name: str) -> tuple[Place, AdapterOffer | None]:
        """The same, and the adapter where the name is one's. Ollama's ':latest' is no other model."""
        bare = name.removesuffix(":latest")
        for known, place in self.names:
            if known in (name, bare):
                return place, place.offer.adapter(known)
        raise Refusal(
            404,
            f"the model {name[:200]!r} is not served here; served are {', '.join(n for n, _ in self.names)}",
            param="model",
            code="model_not_found",
        )

    async def hold(self, place: Place) -> Opened:
        """The open model, which stays open until `leave`. Waits for it to load."""
        self._check_queue(place)
        place.waiting += 1
        try:
            opened = None if place.is_leaving else place.opened
            while opened is None:
                if self._is_ending.is_set():
                    raise stopping()
                await self._opening(place)
                opened = place.opened  # leaving or not: who waited for it has it
        finally:
            place.waiting -= 1
            if not place.users and not place.waiting:
                self._rest(place)
        place.users += 1
        self._stop_timer(place)
        return opened

    def leave(self, place: Place) -> None:
        """One request less uses the model."""
        place.users -= 1
        place.used_s = time.monotonic()
        if not place.users:
            self._rest(place)

    @asynccontextmanager
    async def using(self, place: Place) -> AsyncIterator[Served]:
        """The open model, for as long as the block runs."""
        opened = await self.hold(place)
        try:
            yield opened.served
        finally:
            self.leave(place)

    def keep(self, place: Place, seconds: float) -> None:
        """How long this model stays open without requests, from its last one on, until it is closed."""
        place.keep_alive_s = seconds
        if not place.users:
            self._rest(place)

    @property
    def opened(self) -> list[tuple[Place, Opened]]:
        """The models that are open."""
        return [(place, place.opened) for place in self.places if place.opened is not None]

    @property
    def is_ready(self) -> bool:
        """Whether new requests are taken."""
        return not self.is_stopping and all(opened.runner.is_ready for _, opened in self.opened)

    def _check_queue(self, place: Place) -> None:
        if self.is_stopping:
            raise stopping()
        if place.waiting > self.terms.max_waiting:
            raise Refusal(
                429,
                f"{place.waiting} requests wait for the model {place.offer.name} to open; ask again later",
                code="queue_full",
                headers={"Retry-After": "5"},
            )

    # ------------------------------------------------------------------ opening and closing

    async def _opening(self, place: Place) -> None:
        """Wait for the one load of this model, or for the end of the server."""
        if place.loading is None:
            place.loading = asyncio.ensure_future(self._load(place))
        loading, ending = place.loading, asyncio.ensure_future(self._is_ending.wait())
        try:
            await asyncio.wait({loading, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
        if loading.done():
            loading.result()

    async def _load(self, place: Place) -> None:
        try:
            async with self._turn:
                if place.opened is None:
                    await self._make_room(place)
                    place.opened = await asyncio.to_thread(self._open, place)
                    place.used_s = time.monotonic()
        finally:
            place.loading = None
        if not place.users and not place.waiting:
            self._rest(place)

    def open_now(self) -> None:
        """Open every model, before there is an event loop."""
        for place in self.places:
            place.opened = self._open(place)

    def _open(self, place: Place) -> Opened:
        model = place.offer.open(self.budget.kv_bytes(place.offer))
        try:
            _ = model.session  # the vocabulary too, so that no request waits for it in the event loop
            most = model.engine.options.max_sequences + self.terms.max_waiting
            runner = Runner(model.engine, max_requests=most, deadline_s=self.terms.deadline_s)
        except BaseException:
            model.close()
            raise
        served = Served(model, self.terms.thinking)
        place.context_tokens = served.context_tokens
        return Opened(served, runner)

    async def _make_room(self, place: Place) -> None:
        """Close what is idle until the model fits; a busy one takes nobody new until it can be closed."""
        end = time.monotonic() + WAIT_FOR_ROOM_S
        budget = self.budget
        try:
            while sum(budget.bytes_of(p.offer) for p in (place, *self._held())) > budget.room_bytes:
                by_age = sorted(self._held(), key=lambda p: p.used_s)
                idle = next((p for p in by_age if p.may_close), None)
                if idle is not None:
                    await self._close(idle)
                    continue
                by_age[0].is_leaving = True
                self._is_freed.clear()
                await asyncio.wait_for(self._is_freed.wait(), end - time.monotonic())
        except TimeoutError:
            busy = ", ".join(p.offer.name for p in self._held())
            raise Refusal(
                503,
                f"there is no memory to open {place.offer.name} while {busy} must answer; ask again later",
                code="no_capacity",
                headers={"Retry-After": "30"},
            ) from None
        finally:
            for held in self._held():
                held.is_leaving = False

    def _held(self) -> list[Place]:
        return [place for place in self.places if place.opened is not None]

    async def _close(self, place: Place) -> None:
        """Under the turn. Nobody uses the model."""
        opened, place.opened, place.is_leaving = place.opened, None, False
        self._stop_timer(place)
        assert opened is not None
        assert not place.users
        place.keep_alive_s = self.terms.keep_alive_s
        await asyncio.to_thread(_end, opened)
        del opened
        await asyncio.to_thread(gc.collect)  # the pages go with the last object that knows them

    def _rest(self, place: Place) -> None:
        """Nobody uses the model now: close it when its time is over, or let who waits for room do so."""
        self._stop_timer(place)
        self._is_freed.set()
        if place.opened is None or math.isinf(place.keep_alive_s) or self.is_stopping:
            return
        place.expires_s = time.time() + place.keep_alive_s
        loop = asyncio.get_running_loop()
        place.closing = loop.call_later(place.keep_alive_s, self._expire, place)

    def _expire(self, place: Place) -> None:
        async def close() -> None:
            async with self._turn:
                if place.may_close:
                    await self._close(place)

        task = asyncio.ensure_future(close())
        place.tasks.add(task)
        task.add_done_callback(place.tasks.discard)

    def _stop_timer(self, place: Place) -> None:
        if place.closing is not None:
            place.closing.cancel()
        place.closing = place.expires_s = None

    # ------------------------------------------------------------------ the end

    def refuse_more(self) -> None:
        """Take no more requests; those under way go on."""
        self.is_stopping = True
        self._each(Runner.refuse_more)

    def cancel_all(self) -> None:
        """End every answer under way, and every wait for a model."""
        self._each(Runner.cancel_all)
        self._is_ending.set()

    def stop(self) -> None:
        """Close everything; the event loop has ended."""
        for place, opened in self.opened:
            place.opened = None
            _end(opened)

    def _each(self, action: Callable[[Runner], None]) -> None:
        for _, opened in self.opened:
            action(opened.runner)


def _end(opened: Opened) -> None:
    """Let go of a model's thread, weights and pages."""
    opened.runner.stop()
    opened.served.model.close()
