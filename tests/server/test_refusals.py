"""Prompts that can never be answered here: what each API's own client is told, by a real server."""

from __future__ import annotations

import json
import re
import socket

import anthropic
import ollama
import openai
import pytest

from support.serving import Running, end, start

# gemstead, with so little memory for K/V that it holds less than the context.
SMALL = """
import sys
from gemstead.cli import main, serve
serve.useful_memory = lambda can, context: 1 << 20
sys.exit(main.main(sys.argv[1:]))
"""
CONTEXT = 4096  # pebble's
WORD = "hello "


@pytest.fixture(scope="module")
def small():
    running = start(program=("-c", SMALL))
    yield running
    assert end(running) == 0


def chat(running: Running, text: str, **more) -> None:
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key=running.key)
    client.chat.completions.create(model="pebble", messages=[{"role": "user", "content": text}], **more)


def streamed(running: Running, text: str) -> None:
    chat(running, text, stream=True)


def complete(running: Running, text: str) -> None:
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key=running.key)
    client.completions.create(model="pebble", prompt=text)


def respond(running: Running, text: str) -> None:
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key=running.key)
    client.responses.create(model="pebble", input=text)


def embed(running: Running, text: str) -> None:
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key=running.key)
    client.embeddings.create(model="pebble", input=["short", text])


def message(running: Running, text: str, *, is_streamed: bool = False) -> None:
    client = anthropic.Anthropic(base_url=running.url, api_key=running.key)
    asked = [{"role": "user", "content": text}]
    client.messages.create(model="pebble", max_tokens=10, messages=asked, stream=is_streamed)  # type: ignore[call-overload]


def message_streamed(running: Running, text: str) -> None:
    message(running, text, is_streamed=True)


def ollama_of(running: Running) -> ollama.Client:
    return ollama.Client(running.url, headers={"Authorization": f"Bearer {running.key}"})


def ollama_chat(running: Running, text: str) -> None:
    ollama_of(running).chat("pebble", [{"role": "user", "content": text}])


def ollama_stream(running: Running, text: str) -> None:
    list(ollama_of(running).generate("pebble", text, stream=True))


def ollama_embed(running: Running, text: str) -> None:
    ollama_of(running).embed("pebble", text)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", [{"type": "image_url", "image_url": {"url": "URL"}}]),
        ("/v1/chat/completions", [{"type": "image_url", "image_url": {"url": "DATA"}}]),
        ("/v1/chat/completions", [{"type": "video_url", "video_url": {"url": "URL"}}]),
        ("/v1/chat/completions", [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]),
        ("/v1/chat/completions", [{"type": "file", "file": {"file_data": "DATA"}}]),
        ("/v1/responses", [{"type": "input_image", "image_url": "URL"}]),
        ("/v1/responses", [{"type": "input_image", "image_url": "DATA"}]),
        ("/v1/responses", [{"type": "input_file", "file_url": "URL"}]),
        ("/v1/messages", [{"type": "image", "source": {"type": "url", "url": "URL"}}]),
        (
            "/v1/messages",
            [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}],
        ),
        ("/v1/messages", [{"type": "document", "source": {"type": "url", "url": "URL"}}]),
        ("/api/chat", ["URL"]),
        ("/api/chat", ["AAAA"]),
    ],
)
def test_media_is_refused_and_never_fetched(server, path, body):
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        url = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/a.png"
        given = json.loads(json.dumps(body).replace("URL", url).replace("DATA", "data:image/png;base64,AAAA"))
        user = {"role": "user", "content": given}
        if path == "/api/chat":
            user = {"role": "user", "content": "What is this?", "images": given}
        more = {"input": [user]} if path == "/v1/responses" else {"messages": [user]}
        more |= {"max_tokens": 5} if path == "/v1/messages" else {}
        status, answer = server.post(path, {"model": "pebble", **more})
        assert status == 400, answer
        said = answer["error"] if path == "/api/chat" else answer["error"]["message"]
        assert any(word in said for word in ("text", "base64", "'document', which"))
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


OPENAI = {chat: "messages", streamed: "messages", complete: "prompt", respond: "input", embed: "input"}
ANTHROPIC, OLLAMA = (message, message_streamed), (ollama_chat, ollama_stream, ollama_embed)
TOO_LONG = r"prompt is too long: (\d+) tokens > (\d+) maximum"


@pytest.mark.parametrize("ask", OPENAI)
def test_longer_than_the_context_as_openai_says_it(small, ask):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(small, WORD * 5000)
    error = caught.value
    assert (error.code, error.type, error.param) == (
        "context_length_exceeded",
        "invalid_request_error",
        OPENAI[ask],
    )
    assert f"maximum context length is {CONTEXT} tokens" in error.message
    assert "send less" in error.message
    assert "--" not in error.message  # no option that only who starts the server could give


@pytest.mark.parametrize("ask", ANTHROPIC)
def test_longer_than_the_context_as_anthropic_says_it(small, ask):
    with pytest.raises(anthropic.BadRequestError) as caught:
        ask(small, WORD * 5000)
    assert isinstance(caught.value.body, dict)
    told = caught.value.body["error"]
    assert told["type"] == "invalid_request_error"
    match = re.match(TOO_LONG, told["message"])
    assert match is not None
    assert int(match[1]) > int(match[2]) == CONTEXT - 1


@pytest.mark.parametrize("ask", OLLAMA)
def test_longer_than_the_context_to_ollama(small, ask):
    with pytest.raises(ollama.ResponseError, match=TOO_LONG) as caught:
        ask(small, WORD * 5000)
    assert caught.value.status_code == 400


@pytest.mark.parametrize(
    ("ask", "kind"),
    [
        *((ask, openai.APIStatusError) for ask in OPENAI),
        *((ask, anthropic.RequestTooLargeError) for ask in ANTHROPIC),
        *((ask, ollama.ResponseError) for ask in OLLAMA),
    ],
)
def test_more_than_the_memory_holds_is_413(small, ask, kind):
    text = WORD * (CONTEXT - 100)
    with pytest.raises(kind, match=r"no memory for a prompt of .* tokens: the ceiling .*send less") as caught:
        ask(small, text)
    assert caught.value.status_code == 413
    held = re.search(
        r"hold ([\d,]+) tokens of one prompt \(the context would allow ([\d,]+)\)", str(caught.value)
    )
    assert held is not None
    fits, allowed = (int(number.replace(",", "")) for number in held.groups())
    assert fits < allowed <= CONTEXT
    ask(small, WORD * (fits - 60))  # what is said to fit does


def test_codes_of_openai_and_anthropic(small):
    with pytest.raises(openai.APIStatusError) as said:
        chat(small, WORD * (CONTEXT - 100))
    assert (said.value.code, said.value.type) == ("memory_exceeded", "invalid_request_error")
    with pytest.raises(anthropic.RequestTooLargeError) as told:
        message(small, WORD * (CONTEXT - 100))
    assert isinstance(told.value.body, dict)
    assert told.value.body["error"]["type"] == "request_too_large"
    assert small.wait_idle()["answers"] == 0


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/v1/chat/completions", {"code": "request_too_large"}),
        ("/v1/embeddings", {"code": "request_too_large"}),
        ("/v1/messages", {"type": "request_too_large"}),
        ("/api/chat", {}),
    ],
)
def test_a_body_over_the_limit_is_413(server, path, error):
    status, value = server.post(path, b" " * (33 << 20))
    assert status == 413
    assert "the body is larger than" in str(value["error"])
    assert error.items() <= (value["error"].items() if isinstance(value["error"], dict) else {}.items())
