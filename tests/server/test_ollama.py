"""Ollama's API through the official client against a real server."""

from __future__ import annotations

import json
import re

import ollama
import pytest

HELLO = [{"role": "user", "content": "Say hello"}]
SUM = [{"role": "user", "content": "What is 17% of 2400?"}]
COLD = {"temperature": 0, "num_predict": 60}


def calculator(expression: str) -> str:
    """Evaluate an arithmetic expression.

    Args:
        expression: what to evaluate
    """
    return expression


@pytest.fixture(scope="module")
def client(server):
    return ollama.Client(server.url, headers={"Authorization": f"Bearer {server.key}"})


def test_chat_and_stream_say_the_same(client):
    whole = client.chat("pebble", HELLO, options=COLD)
    parts = list(client.chat("pebble:latest", HELLO, options=COLD, stream=True))
    assert "".join(part.message.content for part in parts) == whole.message.content != ""
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].done_reason == whole.done_reason == "stop"
    assert parts[-1].eval_count == whole.eval_count > 0
    assert whole.total_duration > 0


def test_tools_and_thinking(client):
    whole = client.chat("pebble", SUM, tools=[calculator], think=True, options={**COLD, "num_predict": 200})
    (call,) = whole.message.tool_calls
    assert call.function.name == "calculator"
    assert whole.message.thinking
    parts = list(
        client.chat(
            "pebble", SUM, tools=[calculator], think=True, options={**COLD, "num_predict": 200}, stream=True
        )
    )
    assert [c.function for p in parts for c in p.message.tool_calls or []] == [call.function]
    assert "".join(p.message.thinking or "" for p in parts) == whole.message.thinking
    said = [*SUM, whole.message, {"role": "tool", "content": "408", "tool_name": "calculator"}]
    assert "408" in client.chat("pebble", said, tools=[calculator], options=COLD).message.content


def test_formats(client):
    schema = {
        "type": "object",
        "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 150}},
        "required": ["age"],
        "additionalProperties": False,
    }
    answer = client.chat("pebble", HELLO, format=schema, options=COLD)
    assert set(json.loads(answer.message.content)) == {"age"}


def test_generate(client):
    whole = client.generate("pebble", "Say hello", options=COLD)
    assert whole.response == client.chat("pebble", HELLO, options=COLD).message.content
    raw = client.generate("pebble", "Hello", raw=True, options={**COLD, "num_predict": 4})
    assert raw.prompt_eval_count < whole.prompt_eval_count
    parts = list(client.generate("pebble", "Say hello", options=COLD, stream=True))
    assert "".join(part.response for part in parts) == whole.response


def test_lists(client, server):
    pebble, alias = client.list().models
    assert (pebble.model, alias.model) == ("pebble", "gpt-4o")
    assert pebble.size > 5e6
    assert re.fullmatch("[0-9a-f]{40}", pebble.digest)
    assert pebble.digest == alias.digest
    about = pebble.details
    assert (about.format, about.parameter_size, about.quantization_level) == ("gguf", "6.1M", "Q8_0")
    assert client.ps().models[0].context_length == 4096
    assert "tools" in client.show("pebble").capabilities
    assert set(server.get("/api/version")[1]) == {"version"}


def test_options_that_say_off_are_taken(client):
    off = {
        "mirostat": 0,
        "mirostat_tau": 5.0,
        "mirostat_eta": 0.1,
        "typical_p": 1.0,
        "tfs_z": 1,
        "num_predict": 2,
    }
    answer = client.generate("pebble", "Hello", options=off | {"penalize_newline": True, "num_predict": 2})
    assert answer.eval_count == 2


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        ({"options": {"temperature": -1}}, 400, "options.temperature"),
        ({"options": {"mirostat": 2}}, 400, "options.mirostat"),
        ({"options": {"mirostat": False}}, 400, "options.mirostat"),
        ({"options": {"typical_p": 0.9}}, 400, "options.typical_p"),
        ({"options": {"penalize_newline": False}}, 400, "options.penalize_newline"),
        ({"options": {"num_ctx": 10**9}}, 400, "num_ctx"),
        ({"model": "llama3"}, 404, "not served"),
        ({"format": "xml"}, 400, "format"),
    ],
)
def test_errors(client, options, status, said):
    with pytest.raises(ollama.ResponseError, match=said) as caught:
        client.chat(
            **{"model": "pebble", "messages": HELLO, **options}
        ) if "format" not in options else client._request(
            ollama.ChatResponse, "POST", "/api/chat", json={"model": "pebble", "messages": HELLO, **options}
        )
    assert caught.value.status_code == status


def test_logprobs(client):
    options = {"options": COLD, "logprobs": True, "top_logprobs": 2}
    whole = client.chat("pebble", HELLO, **options)
    assert "".join(token.token for token in whole.logprobs) == whole.message.content
    assert {len(token.top_logprobs) for token in whole.logprobs} == {2}
    parts = list(client.generate("pebble", "Say hello", stream=True, **options))
    assert [t.token for part in parts for t in part.logprobs or []] == [t.token for t in whole.logprobs]


def test_images_are_refused_by_what_the_model_cannot_do(server):
    for path, body in (
        ("/api/chat", {"messages": [{**HELLO[0], "images": ["AAAA"]}]}),
        ("/api/generate", {"prompt": "What is this?", "images": ["AAAA"]}),
    ):
        status, value = server.post(path, {"model": "pebble", **body})
        assert (status, "text only" in value["error"]) == (400, True), value
        for images, said in ((["A"], "base64"), (5, "images"), (["AAAA"] * 65, "64")):
            bad = {"messages": [{**HELLO[0], "images": images}]} if "messages" in body else {"images": images}
            status, value = server.post(path, {"model": "pebble", **body, **bad})
            assert (status, said in value["error"]) == (400, True), value
