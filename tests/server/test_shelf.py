"""Models that open on demand and close when idle: over pretended ones, and two in a real process."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from types import SimpleNamespace

import pytest

from gemstead import pebble
from gemstead.errors import WeightsError
from gemstead.machine.memory import LEAST_KV_BYTES
from gemstead.server.auth import Caller
from gemstead.server.budget import Budget
from gemstead.server.exchange import Desk, Record
from gemstead.server.openai_replies import ChatEncoder
from gemstead.server.refusals import Refusal
from gemstead.server.served import Offer
from gemstead.server.shelf import Shelf, Terms
from gemstead.types import Done

GIB = 1 << 30


class Pretended:
    """A model that counts how often it was opened and closed; opening waits for `go`."""

    has_work = False
    max_sequence_tokens = 100
    options = SimpleNamespace(max_sequences=2)

    def __init__(self) -> None:
        self.engine = self.session = self
        self.opened = self.closed = 0
        self.go = threading.Event()
        self.go.set()
        self.fails = False
        self.kv_bytes = 0

    def open(self, kv_bytes):
        self.go.wait(20)
        if self.fails:
            raise WeightsError("a hole in the file")
        self.opened, self.kv_bytes = self.opened + 1, kv_bytes
        return self

    def step(self):
        raise AssertionError

    def close(self):
        self.closed += 1

    @property
    def is_open(self):
        return self.opened - self.closed == 1


def offers_of(**models):
    spec = SimpleNamespace(vocab_size=1000)
    return [Offer(name, model.open, spec, GIB, (name.upper(),)) for name, model in models.items()]  # type: ignore[arg-type]


def run(scenario, ceiling=100 * GIB, **terms):
    """Run a scenario over a shelf with models a and b of one GiB of weights each."""

    async def whole():
        a, b = Pretended(), Pretended()
        shelf = Shelf(Budget.of(offers_of(a=a, b=b), ceiling), Terms(**terms))
        try:
            await asyncio.wait_for(scenario(shelf, a, b), 20)
        finally:
            await asyncio.to_thread(shelf.stop)
        assert not a.is_open
        assert not b.is_open

    asyncio.run(whole())


async def until(is_so):
    while not is_so():
        await asyncio.sleep(0.005)


def test_names():
    async def scenario(shelf, *_):
        assert shelf.place("A:latest") is shelf.place("a") is shelf.places[0]
        with pytest.raises(Refusal, match="served are a, A, b, B") as caught:
            shelf.place("c")
        assert caught.value.status == 404

    run(scenario)


def test_many_wait_for_one_load_and_those_who_leave_do_no_harm():
    async def scenario(shelf, a, _):
        a.go.clear()
        waiting = [asyncio.ensure_future(shelf.hold(shelf.place("a"))) for _ in range(5)]
        await until(lambda: shelf.places[0].state == "opening")
        waiting[0].cancel()
        await asyncio.sleep(0.01)
        a.go.set()
        opened = await asyncio.gather(*waiting[1:])
        assert len(set(map(id, opened))) == a.opened == 1
        assert shelf.places[0].users == 4
        assert shelf.places[0].waiting == 0

    run(scenario)


def test_a_model_that_nobody_waited_for_is_closed_again():
    async def scenario(shelf, a, _):
        a.go.clear()
        waiting = asyncio.ensure_future(shelf.hold(shelf.place("a")))
        await until(lambda: shelf.places[0].state == "opening")
        waiting.cancel()
        await asyncio.sleep(0.01)
        a.go.set()
        await until(lambda: a.closed == 1)
        assert shelf.places[0].state == "closed"

    run(scenario, keep_alive_s=0.01)


def test_idle_for_its_time_it_closes_and_opens_again():
    async def scenario(shelf, a, _):
        place = shelf.place("a")
        async with shelf.using(place):
            await asyncio.sleep(0.1)
            assert a.is_open  # longer than its time, but in use
            assert place.expires_s is None
        assert place.expires_s is not None
        await until(lambda: a.closed == 1)
        async with shelf.using(place):
            assert a.opened == 2
            shelf.keep(place, 1000.0)
        await asyncio.sleep(0.1)
        assert a.is_open  # somebody asked for longer
        shelf.keep(place, 0.0)
        await until(lambda: a.closed == 2)

    run(scenario, keep_alive_s=0.02)


def test_the_one_unused_for_longest_makes_room():
    async def scenario(shelf, a, b):
        async with shelf.using(shelf.place("a")):
            pass
        assert a.kv_bytes > LEAST_KV_BYTES
        async with shelf.using(shelf.place("b")):
            assert (a.is_open, b.is_open) == (False, True)

    run(scenario, 2 * GIB)


def test_a_busy_one_is_waited_for_and_takes_nobody_new():
    async def scenario(shelf, a, b):
        first = await shelf.hold(shelf.place("a"))
        other = asyncio.ensure_future(shelf.hold(shelf.place("b")))
        await until(lambda: shelf.place("a").is_leaving)
        again = asyncio.ensure_future(shelf.hold(shelf.place("a")))
        await asyncio.sleep(0.02)
        assert a.is_open  # never closed under a request
        assert not again.done()
        assert first.runner.is_ready
        shelf.leave(shelf.place("a"))
        await other
        assert (a.is_open, b.is_open) == (False, True)
        shelf.leave(shelf.place("b"))
        await again
        assert (a.is_open, b.is_open) == (True, False)

    run(scenario, 2 * GIB)


def test_no_room_in_time_is_503_and_all_goes_on(monkeypatch):
    monkeypatch.setattr("gemstead.server.shelf.WAIT_FOR_ROOM_S", 0.05)

    async def scenario(shelf, a, _):
        async with shelf.using(shelf.place("a")):
            with pytest.raises(Refusal, match="while a must answer") as caught:
                await shelf.hold(shelf.place("b"))
            assert caught.value.status == 503
            async with shelf.using(shelf.place("a")):
                assert a.opened == 1

    run(scenario, 2 * GIB)


def test_a_load_that_fails_is_told_to_all_and_tried_again():
    async def scenario(shelf, a, _):
        a.fails = True
        tries = [shelf.hold(shelf.place("a")) for _ in range(3)]
        seen = await asyncio.gather(*tries, return_exceptions=True)
        assert [type(error) for error in seen] == [WeightsError] * 3
        a.fails = False
        async with shelf.using(shelf.place("a")):
            assert a.is_open

    run(scenario)


def test_too_many_waiting_are_429_and_stopping_ends_every_wait():
    async def scenario(shelf, a, _):
        a.go.clear()
        waiting = [asyncio.ensure_future(shelf.hold(shelf.place("a"))) for _ in range(3)]
        await asyncio.sleep(0.01)
        with pytest.raises(Refusal) as caught:
            await shelf.hold(shelf.place("a"))
        assert caught.value.status == 429
        shelf.refuse_more()
        shelf.cancel_all()
        seen = await asyncio.gather(*waiting, return_exceptions=True)
        assert [error.status for error in seen] == [503] * 3  # type: ignore[union-attr]
        a.go.set()
        await until(lambda: shelf.places[0].state == "open")

    run(scenario, max_waiting=2)


TALK = [{"role": "user", "content": "Say hello"}]


def test_two_models_in_a_real_process(fresh, tmp_path):
    other = tmp_path / "stone.gguf"
    shutil.copy(pebble.path(), other)
    args = ("--alias", "gpt=stone", "--alias", "small=pebble", "--keep-alive", "1h")
    running = fresh(*args, models=("pebble", str(other)))
    assert [model["state"] for model in running.status()["models"]] == ["closed", "closed"]
    assert [m["id"] for m in running.get("/v1/models")[1]["data"]] == ["pebble", "small", "stone", "gpt"]
    assert [m["name"] for m in running.get("/api/tags")[1]["models"]] == ["pebble", "small", "stone", "gpt"]
    assert running.get("/api/ps")[1] == {"models": []}
    body = {"model": "gpt", "messages": TALK, "temperature": 0, "max_tokens": 5}
    seen: list[int] = []
    threads = [
        threading.Thread(target=lambda: seen.append(running.post("/v1/chat/completions", body)[0]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [200] * 4
    ((stone),) = running.get("/api/ps")[1]["models"]
    assert stone["name"] == "stone"
    assert stone["expires_at"] < "9999"
    assert 'gemstead_model_open{model="stone"} 1.0' in running.get("/metrics")[1]
    assert 'gemstead_model_open{model="pebble"} 0.0' in running.get("/metrics")[1]
    status, value = running.post("/v1/chat/completions", {**body, "model": "llama"})
    assert status == 404
    assert "pebble, small, stone, gpt" in value["error"]["message"]


def test_two_models_of_which_one_fits(fresh, tmp_path):
    other = tmp_path / "stone.gguf"
    shutil.copy(pebble.path(), other)
    running = fresh("--memory", "260MB", models=("pebble", str(other)))
    for name in ("pebble", "stone", "pebble"):
        body = {"model": name, "messages": TALK, "max_tokens": 5, "stream": True}
        assert running.post("/v1/chat/completions", body)[1].endswith("data: [DONE]\n\n")
        models = running.status()["models"]
        assert [model["name"] for model in models if model["state"] == "open"] == [name]
        assert "gemstead_memory_ceiling_bytes 2.6e+08" in running.get("/metrics")[1]


def test_ollama_opens_and_closes(fresh):
    running = fresh("--keep-alive", "10m")
    assert running.get("/api/ps")[1] == {"models": []}
    loaded = running.post("/api/generate", {"model": "pebble"})[1]
    assert (loaded["done"], loaded["done_reason"]) == (True, "load")
    assert len(running.get("/api/ps")[1]["models"]) == 1
    closed = running.post("/api/chat", {"model": "pebble", "messages": [], "keep_alive": 0})[1]
    assert closed["done_reason"] == "unload"
    wait_closed(running)
    once = {"model": "pebble", "messages": TALK, "stream": False, "keep_alive": "0s"}
    assert running.post("/api/chat", once)[1]["done"]
    wait_closed(running)
    kept = {**once, "keep_alive": -1}
    assert running.post("/api/chat", kept)[1]["done"]
    assert running.get("/api/ps")[1]["models"][0]["expires_at"].startswith("9999")
    assert running.post("/api/chat", {**once, "keep_alive": "soon"})[0] == 400


def test_only_an_admin_decides_how_long(server):
    quick = {"model": "pebble", "messages": TALK, "stream": False, "keep_alive": 0}
    assert server.post("/api/chat", quick)[1]["done"]
    time.sleep(0.2)
    assert server.get("/api/ps")[1]["models"][0]["expires_at"].startswith("9999")
    for path, nothing in (("/api/generate", {}), ("/api/chat", {"messages": []})):
        status, said = server.post(path, {"model": "pebble", "keep_alive": 0, **nothing})
        assert (status, said["error"]) == (403, "this needs the admin key")


def wait_closed(running) -> None:
    end = time.monotonic() + 20
    while running.get("/api/ps")[1]["models"]:
        assert time.monotonic() < end


@pytest.mark.parametrize("fails", [False, True])
def test_a_stream_gets_pings_while_its_model_loads(monkeypatch, fails):
    monkeypatch.setattr("gemstead.server.exchange.PING_S", 0.02)

    async def scenario(shelf, a, _):
        a.go.clear()
        a.fails = fails
        state = SimpleNamespace(record=Record(), caller=Caller("admin"))
        http = SimpleNamespace(state=state, client=None)
        encoder = ChatEncoder("a", 1, False)
        response = await Desk(shelf).streamed(http, "a", lambda _: [Ended], encoder)  # type: ignore[arg-type]
        sent = [await anext(response.body_iterator) for _ in range(3)]
        assert sent == [encoder.ping()] * 3
        a.go.set()
        rest = [part async for part in response.body_iterator if part != encoder.ping()]
        if fails:
            assert b"a hole in the file" in rest[-1]
        else:
            assert rest[-1] == b"data: [DONE]\n\n"
        await response._exchange.end(response._beginning)  # type: ignore[attr-defined]
        assert shelf.place("a").users == 0

    run(scenario)


class Ended:
    """An answer that is over at once."""

    prompt_tokens = 1

    def poll(self):
        return [Done("stop")]

    def cancel(self):
        pass
