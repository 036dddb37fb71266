"""What a request may never do: open a file, open a connection, cost more than its limits."""

from __future__ import annotations

import base64
import sys

import pytest

from support.serving import end, start

MARK = "gemstead-probe"
# Says on stderr what the process opens and whom it connects to, where the mark is part of it.
WATCHED = f"""
import sys

def watch(event, args):
    files = ("open", "os.listdir", "os.scandir", "sqlite3.connect")
    if event in (*files, "socket.connect", "socket.getaddrinfo"):
        if event == "socket.connect" or {MARK!r} in repr(args):
            sys.stderr.write(f"SEEN {{event}} {{args!r}}\\n")

sys.addaudithook(watch)
from gemstead.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
HI = {"role": "user", "content": "Hi"}
PLACES = (
    f"/tmp/{MARK}",
    f"../../{MARK}.gguf",
    f"file:///tmp/{MARK}",
    f"http://127.0.0.1:9/{MARK}",
    f"hf.co/a/{MARK}",
)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    keys = tmp_path_factory.mktemp(MARK) / "keys"
    keys.write_text("file-key-0123456789\n")
    running = start("--api-key-file", str(keys), program=("-c", WATCHED))
    yield running
    assert end(running) == 0


def asked(place: str) -> list[tuple[str, dict]]:
    """Requests that hold a place wherever one could be taken for a file's or a server's."""
    image = {"type": "image_url", "image_url": {"url": place}}
    source = {"type": "image", "source": {"type": "url", "url": place}}
    tool = {"type": "function", "function": {"name": "t", "parameters": {"$ref": place}}}
    format_ = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": place}}}
    chat = {"model": "pebble", "messages": [HI], "max_tokens": 2}
    return [
        ("/v1/chat/completions", {**chat, "model": place}),
        ("/v1/chat/completions", {**chat, "messages": [{"role": "user", "content": [image]}]}),
        ("/v1/chat/completions", {**chat, "messages": [{"role": "user", "content": place}]}),
        ("/v1/chat/completions", {**chat, "tools": [tool]}),
        ("/v1/chat/completions", {**chat, "response_format": format_}),
        ("/v1/responses", {"model": "pebble", "input": "Hi", "previous_response_id": place}),
        ("/v1/messages", {**chat, "messages": [{"role": "user", "content": [source]}]}),
        ("/api/chat", {"model": "pebble", "messages": [{**HI, "images": [place]}]}),
        ("/api/show", {"model": place}),
        ("/api/generate", {"model": place, "prompt": "Hi"}),
        ("/v1/embeddings", {"model": "pebble", "input": place}),
        ("/api/pull", {"model": place}),
        ("/api/create", {"model": "x", "from": place}),
    ]


def test_no_request_opens_a_file_or_a_connection(watched):
    """The keys' file shows that the watch sees; it is read before the first request."""
    assert any("SEEN open" in line and "keys" in line for line in watched.lines)
    before = len(watched.lines)
    for place in PLACES:
        for path, body in asked(place):
            status, _ = watched.post(path, body)
            assert status < 500, (path, body)
        for path in (f"/v1/models/{place}", f"/v1/responses/{place}", f"/{place}", f"/v1/../{place}"):
            assert watched.get(path.replace("//", "/%2F"))[0] in (400, 404)
    assert watched.wait_idle()["answers"] == 0
    assert [line for line in watched.lines[before:] if line.startswith("SEEN")] == []


PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"x" * 100).decode()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/v1/chat/completions", {"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}]}),
        ("/v1/chat/completions", {"role": "user", "content": [
            {"type": "input_audio", "input_audio": {"data": PNG, "format": "wav"}}]}),
        ("/v1/messages", {"role": "user", "content": [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}]}),
        ("/api/chat", {"role": "user", "content": "?", "images": [PNG]}),
    ],
)  # fmt: skip
def test_images_and_sound_are_refused_while_models_read_text_only(server, path, message):
    status, value = server.post(path, {"model": "pebble", "messages": [message], **tokens(path)})
    assert status == 400
    assert "text only" in str(value["error"])


def tokens(path: str) -> dict:
    return {"max_tokens": 5} if path == "/v1/messages" else {}


def function(i: int, **parameters) -> dict:
    return {"type": "function", "function": {"name": f"f{i}", "parameters": {"type": "object", **parameters}}}


WIDE = {"properties": {f"p{i}": {"type": "string", "description": "d" * 200} for i in range(1200)}}
DEEP: dict = {}
for _ in range(70):
    DEEP = {"a": DEEP}


@pytest.mark.parametrize(
    ("more", "status", "said"),
    [
        ({"tools": [function(i) for i in range(129)]}, 400, "128 at most"),
        ({"tools": [function(0, **WIDE)]}, 400, "262,144 at most"),
        ({"response_format": {"type": "json_schema", "schema": WIDE}}, 400, "262,144 at most"),
        ({"messages": [HI] * 4097}, 400, "4,096 at most"),
        ({"metadata": DEEP}, 400, "64 levels"),
        ({"stop": ["a"] * 17}, 400, "up to 16"),
        ({"user": "x" * (33 << 20)}, 413, "33,554,432"),
    ],
    ids=["tools", "schema", "format", "messages", "depth", "stop", "bytes"],
)  # fmt: skip
def test_limits(server, more, status, said):
    got, value = server.post("/v1/chat/completions", {"model": "pebble", "messages": [HI], **more})
    assert (got, said in str(value["error"])) == (status, True), str(value)[:300]
    assert sys.getsizeof(str(value)) < 2000  # what was sent is not sent back
