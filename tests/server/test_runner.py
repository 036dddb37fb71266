"""The engine's thread over scripted streams: one end each, bounded, and nobody left hanging."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gemstead.server.exchange import merged
from gemstead.server.refusals import Refusal, refusal_of
from gemstead.server.runner import Runner
from gemstead.types import Done, Failed, TextDelta


class Script:
    """A stream that gives one event per step, then its Done; cancelled, it ends at once."""

    def __init__(self, *texts: str) -> None:
        self.left = [*map(TextDelta, texts), Done("stop")]
        self.is_cancelled = False

    def poll(self):
        if self.is_cancelled:
            self.left = [Done("cancelled")] if self.left else []
        return [self.left.pop(0)] if self.left else []

    def cancel(self):
        self.is_cancelled = True


class Steps:
    """An engine whose steps wait to be let go."""

    has_work = True

    def __init__(self, error: Exception | None = None) -> None:
        self.go = threading.Semaphore(0)
        self.error = error
        self.parked = threading.Semaphore(0)

    def park(self, wanted):
        assert wanted()
        self.parked.release()
        raise OSError("no disk")  # which must not end the thread

    def step(self):
        self.go.acquire(timeout=0.02)
        if self.error is not None:
            raise self.error


async def all_of(job):
    return [event async for events in job.batches() for event in events]


def run(scenario, *, engine=None, **options):
    """Run an async scenario with a runner, which is stopped afterwards and must then be empty."""

    async def whole():
        runner = Runner(engine or Steps(), **{"max_requests": 4, **options})
        try:
            return await asyncio.wait_for(scenario(runner), 20)
        finally:
            assert runner.admitted == 0
            await asyncio.to_thread(runner.stop)
            assert not runner.is_ready

    return asyncio.run(whole())


def test_events_come_in_order_and_end_once():
    async def scenario(runner):
        jobs = await runner.start([lambda: Script("a", "b"), lambda: Script("c")])
        said = await asyncio.gather(*map(all_of, jobs))
        runner.leave(jobs)
        return said

    assert run(scenario) == [[TextDelta("a"), TextDelta("b"), Done("stop")], [TextDelta("c"), Done("stop")]]


def test_too_many_are_refused_and_nobody_is_begun():
    async def scenario(runner):
        jobs = await runner.start([Script, Script, Script])
        with pytest.raises(Refusal) as caught:
            await runner.start([Script, Script])
        assert (caught.value.status, "Retry-After" in caught.value.headers) == (429, True)
        more = await runner.start([Script])
        runner.leave(jobs + more)

    run(scenario)


def test_one_client_cannot_close_the_door_for_others():
    async def scenario(runner):
        held = {name: await runner.start([Script] * 4, name) for name in (b"a", b"b", b"c", b"d")}
        for name in (b"a", b"e"):  # its own are too many; all together are
            with pytest.raises(Refusal) as caught:
                await runner.start([Script], name)
            assert caught.value.status == 429
        for name, jobs in held.items():
            runner.leave(jobs, name)

    run(scenario)


def test_a_refused_beginning_gives_its_place_back():
    def broken():
        raise ValueError("no")

    first = Script()

    async def scenario(runner):
        with pytest.raises(ValueError, match="no"):
            await runner.start([lambda: first, broken])
        assert first.is_cancelled

    run(scenario)


def test_leaving_cancels_what_is_not_done():
    script = Script("a", "b", "c")

    async def scenario(runner):
        jobs = await runner.start([lambda: script])
        runner.leave(jobs)
        assert script.is_cancelled

    run(scenario)


def test_a_deadline_ends_an_answer():
    script = Script(*"a" * 10_000)

    async def scenario(runner):
        jobs = await runner.start([lambda: script])
        events = await all_of(jobs[0])
        runner.leave(jobs)
        return events

    *_, last = run(scenario, deadline_s=0.2)
    assert isinstance(last, Failed)
    assert script.is_cancelled
    assert refusal_of(last.error).status == 503


def test_a_broken_step_is_told_to_everybody_and_the_thread_lives_on():
    engine = Steps(RuntimeError("broken"))

    async def scenario(runner):
        jobs = await runner.start([Script, Script])
        said = await asyncio.gather(*map(all_of, jobs))
        runner.leave(jobs)
        assert [isinstance(events[-1], Failed) and len(events) == 1 for events in said] == [True, True]
        engine.error = None
        again = await runner.start([Script])
        assert await all_of(again[0]) == [Done("stop")]
        runner.leave(again)

    run(scenario, engine=engine)


def test_stopping_ends_everybody():
    async def scenario(runner):
        jobs = await runner.start([lambda: Script(*"a" * 10_000)])
        reading = asyncio.ensure_future(all_of(jobs[0]))
        runner.refuse_more()
        with pytest.raises(Refusal) as caught:
            await runner.start([Script])
        assert caught.value.status == 503
        runner.cancel_all()
        events = await reading
        runner.leave(jobs)
        return events

    assert run(scenario)[-1] == Done("cancelled")


def test_silence_is_told_and_streams_merge():
    async def scenario(runner):
        jobs = await runner.start([lambda: Script("a"), lambda: Script("b")])
        seen = [(i, events) async for i, events in merged(jobs, 0.005)]
        runner.leave(jobs)
        return seen

    seen = run(scenario)
    assert any(not events for _, events in seen)
    for index, text in enumerate("ab"):
        said = [e for i, events in seen for e in events if i == index]
        assert said == [TextDelta(text), Done("stop")]


def test_what_was_read_is_parked_once_nobody_asks(monkeypatch):
    monkeypatch.setattr("gemstead.server.runner.IDLE_S", 0.05)
    engine = Steps()

    async def scenario(runner):
        for _ in range(2):
            assert not engine.parked.acquire(blocking=False)  # once a pause
            jobs = await runner.start([lambda: Script("a")])
            await all_of(jobs[0])
            runner.leave(jobs)
            assert await asyncio.to_thread(engine.parked.acquire, timeout=10)

    run(scenario, engine=engine)
