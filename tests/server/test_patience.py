"""Slow clients: each is cut off, and the others are served meanwhile. Small limits, one event loop."""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from gemstead.server.body import read_object
from gemstead.server.patience import PatientProtocol
from gemstead.server.refusals import Refusal

SOON_S = 20  # until when what must happen has happened, on a busy machine too


class Hasty(PatientProtocol):
    send_s, read_s = 0.3, 0.3


class Served:
    """A server in this loop: an echo, and a stream without end that tells when it was left."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def echo(self, http: Request) -> JSONResponse:
        try:
            return JSONResponse(await read_object(http, limit_s=0.1))
        except Refusal as refusal:
            return JSONResponse(refusal.message, refusal.status, refusal.headers)

    async def flood(self, _: Request) -> StreamingResponse:
        async def chunks():
            try:
                while True:
                    yield b"x" * (1 << 20)
                    await asyncio.sleep(0)
            finally:
                self.left.set()

        return StreamingResponse(chunks())


def with_server(scenario):
    """Run a scenario with a server and a way to connect to it."""

    async def whole():
        served = Served()
        routes = [Route("/echo", served.echo, methods=["POST"]), Route("/flood", served.flood)]
        bound = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            Starlette(routes=routes), http=Hasty, ws="none", lifespan="off", log_config=None
        )
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve([bound]))

        async def connect():
            return await asyncio.open_connection("127.0.0.1", bound.getsockname()[1])

        try:
            await asyncio.wait_for(scenario(served, connect), SOON_S)
        finally:
            server.should_exit = True
            await asyncio.wait_for(running, SOON_S)

    asyncio.run(whole())


HEAD = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n"


async def answer(reader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


async def dripped(writer, data: bytes) -> None:
    """Send byte after byte until the other side closes."""
    try:
        for byte in data * 1000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.02)
    except ConnectionError:
        pass


def test_a_head_that_never_ends_is_cut_off():
    async def scenario(_, connect):
        silent, slow = await connect(), await connect()
        dripping = asyncio.create_task(dripped(slow[1], b"X"))
        good = await connect()
        good[1].write(HEAD + b"{}")
        assert b"200 OK" in await answer(good[0])
        assert await silent[0].read() == b""
        await dripping
        # After an answered request the next head has no more time than the first.
        good[1].write(b"POST /echo HT")
        assert await good[0].read() == b""

    with_server(scenario)


def test_a_body_that_never_ends_is_408_and_closed():
    async def scenario(_, connect):
        reader, writer = await connect()
        writer.write(HEAD + b"{")
        said = await answer(reader)
        assert b"408" in said
        assert b"did not come within 0.1 s" in said
        assert await reader.read() == b""

    with_server(scenario)


def test_a_body_that_nobody_waits_for_is_cut_off():
    async def scenario(_, connect):
        reader, writer = await connect()
        writer.write(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
        assert b"404" in await answer(reader)
        await dripped(writer, b"x")

    with_server(scenario)


def test_who_never_reads_is_cut_off_and_the_stream_is_left():
    async def scenario(served, connect):
        _, writer = await connect()
        writer.write(b"GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
        writer.transport.pause_reading()
        await served.left.wait()
        writer.transport.abort()

    with_server(scenario)


def test_who_reads_slowly_but_reads_is_served():
    async def scenario(served, connect):
        reader, writer = await connect()
        writer.write(b"GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for _ in range(40):
            await reader.readexactly(1 << 20)
            await asyncio.sleep(0.02)
        assert not served.left.is_set()
        writer.transport.abort()
        await served.left.wait()

    with_server(scenario)
