"""The Responses API through the official SDK against a real server, and what it keeps."""

from __future__ import annotations

import json
import sqlite3

import openai
import pytest
from openai.types.responses import response_create_params

from gemstead.errors import ConfigError
from gemstead.server.responses import RESPONSES
from gemstead.server.responses_replies import ResponseEncoder
from gemstead.server.responses_store import ResponseStore
from support.serving import ADMIN, Running

CALCULATOR = {
    "type": "function",
    "name": "calculator",
    "description": "Evaluate an arithmetic expression",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"expression": {"type": "string"}},
        "required": ["expression"],
    },
}
COLD = {"model": "pebble", "temperature": 0, "max_output_tokens": 200}
SUM = "What is 17% of 2400?"


def client_of(running: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{running.url}/v1", api_key=running.key or "none", max_retries=0)


@pytest.fixture(scope="module")
def client(server):
    with client_of(server) as client:
        yield client


def test_every_field_of_the_package_is_in_the_table():
    assert set(response_create_params.ResponseCreateParamsBase.__annotations__) - set(RESPONSES) == set()


def test_response_and_stream_say_the_same(client):
    whole = client.responses.create(input="Say hello", **COLD)
    events = list(client.responses.create(input="Say hello", stream=True, **COLD))
    assert whole.status == "completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [events[0].type, events[-1].type] == ["response.created", "response.completed"]
    assert sum(event.type.startswith("response.completed") for event in events) == 1
    deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert deltas == events[-1].response.output_text == whole.output_text != ""
    assert events[-1].response.usage.output_tokens == whole.usage.output_tokens


def test_tool_round_trip_stateless_and_stateful(client):
    first = client.responses.create(
        input=SUM, tools=[CALCULATOR], reasoning={"effort": "high"}, store=False, **COLD
    )
    assert [item.type for item in first.output] == ["reasoning", "function_call"]
    call = first.output[-1]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "408"}
    items = [{"role": "user", "content": SUM}, *(item.model_dump() for item in first.output), result]
    answer = client.responses.create(input=items, tools=[CALCULATOR], **COLD)
    assert "408" in answer.output_text
    with pytest.raises(openai.NotFoundError):
        client.responses.create(input=[result], previous_response_id=first.id, **COLD)
    kept = client.responses.create(input=SUM, tools=[CALCULATOR], **COLD)
    result["call_id"] = kept.output[-1].call_id
    more = client.responses.create(input=[result], previous_response_id=kept.id, tools=[CALCULATOR], **COLD)
    assert "408" in more.output_text
    assert more.previous_response_id == kept.id
    events = list(client.responses.create(input=SUM, tools=[CALCULATOR], stream=True, **COLD))
    pieces = "".join(e.delta for e in events if e.type == "response.function_call_arguments.delta")
    assert pieces == kept.output[-1].arguments


def test_schema_and_length(client):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    shape = {
        "format": {"type": "json_schema", "name": "x", "schema": {**schema, "additionalProperties": False}}
    }
    answer = client.responses.create(input="Say hello", text=shape, **COLD)
    assert set(json.loads(answer.output_text)) == {"n"}
    cut = client.responses.create(input="Say hello", **{**COLD, "max_output_tokens": 2})
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")


def test_stored_ones_are_read_and_forgotten_by_their_owner_alone(client, server):
    made = client.responses.create(input="Say hello", metadata={"a": "b"}, **COLD)
    assert client.responses.retrieve(made.id).output_text == made.output_text
    assert client.responses.retrieve(made.id).metadata == {"a": "b"}
    assert server.get(f"/v1/responses/{made.id}", key=ADMIN)[0] == 404
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"input": []}, "input"),
        ({"input": "x", "background": True}, "background"),
        ({"input": "x", "conversation": "c"}, "conversation"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": "x", "mood": "good"}]}, "input[0].mood"),
        ({"input": "x", "tools": [{"type": "web_search"}]}, "tools[0].type"),
    ],
)
def test_bad_fields_are_named(client, options, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**COLD, **options)
    assert caught.value.param == param


def test_a_killed_server_has_kept_what_it_said(fresh, tmp_path):
    first = fresh("--store", str(tmp_path / "responses.db"))
    made = client_of(first).responses.create(input=SUM, **COLD)
    first.process.kill()
    first.process.wait()
    second = client_of(fresh("--store", str(tmp_path / "responses.db")))
    assert second.responses.retrieve(made.id).output_text == made.output_text
    more = second.responses.create(input="Thanks", previous_response_id=made.id, **COLD)
    assert more.usage.input_tokens > made.usage.input_tokens


def test_the_store_is_bounded_and_chains_need_all_their_links():
    store = ResponseStore(max_bytes=1000)
    previous = None
    for i in range(20):
        store.add(b"me", {"id": f"r{i}", "text": "x" * 100}, [{"n": i}], previous)
        previous = f"r{i}"
    assert store.get(b"me", "r19") is not None
    assert store.get(b"me", "r0") is None
    assert store.get(b"you", "r19") is None
    assert store.conversation(b"me", "r19") is None
    store.add(b"me", {"id": "a"}, [1], None)
    store.add(b"me", {"id": "b"}, [2], "a")
    assert store.conversation(b"me", "b") == [1, 2]
    assert store.remove(b"you", "a") is False
    assert store.remove(b"me", "a") is True
    store.close()
    with pytest.raises(sqlite3.ProgrammingError):
        store.get(b"me", "b")
    assert ResponseEncoder.media_type == "text/event-stream"


def test_a_long_conversation_is_there_from_its_first_word():
    store = ResponseStore()
    for turn in range(1500):
        store.add(b"a", {"id": f"r{turn}"}, [turn], None if turn == 0 else f"r{turn - 1}")
    assert store.conversation(b"a", "r1499") == list(range(1500))
    assert store.conversation(b"b", "r1499") is None
    store.remove(b"a", "r3")
    assert store.conversation(b"a", "r1499") is None
    assert store.conversation(b"a", "r2") == [0, 1, 2]


def test_logprobs(client):
    options = {**COLD, "include": ["message.output_text.logprobs"], "top_logprobs": 2}
    whole = client.responses.create(input="Say hello", **options)
    (part,) = whole.output[0].content
    assert "".join(token.token for token in part.logprobs) == part.text
    assert {len(token.top_logprobs) for token in part.logprobs} == {2}
    events = list(client.responses.create(input="Say hello", stream=True, **options))
    streamed = [t for e in events if e.type == "response.output_text.delta" for t in e.logprobs]
    assert [t.token for t in streamed] == [t.token for t in part.logprobs]
    assert events[-1].response.output[0].content[0].logprobs == part.logprobs
    for bad, said in (
        ({"top_logprobs": 2}, "include"),
        ({"include": ["file_search_call.results"]}, "include is"),
    ):
        with pytest.raises(openai.BadRequestError, match=said):
            client.responses.create(input="Say hello", **{**COLD, **bad})


def test_leaving_a_stream_frees_its_place(client, server):
    before = server.wait_idle()
    options = {"model": "pebble", "temperature": 2, "max_output_tokens": 3000}
    with client.responses.create(input="Say hello", stream=True, **options) as stream:
        next(event for event in stream if event.type == "response.output_text.delta")
    assert server.wait_idle()["memory"]["kv"] == before["memory"]["kv"]


def test_a_file_that_is_no_store_is_told(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("not a database, and long enough to be seen as none")
    with pytest.raises(ConfigError, match=r"notes\.txt: responses cannot be kept there \(file is not a"):
        ResponseStore(text)
    with pytest.raises(ConfigError, match="No such file or directory"):
        ResponseStore(tmp_path / "nowhere" / "x.db")
    assert text.read_text().startswith("not a database")
