"""Anthropic's API through the official SDK against a real server."""

from __future__ import annotations

import anthropic
import pytest
from anthropic.types import message_count_tokens_params, message_create_params

from gemstead.server.anthropic import COUNT, MESSAGES

CALCULATOR = {
    "name": "calculator",
    "description": "Evaluate an arithmetic expression",
    "input_schema": {
        "type": "object",
        "properties": {"expression": {"type": "string"}},
        "required": ["expression"],
    },
}
HELLO = [{"role": "user", "content": "Say hello"}]
SUM = [{"role": "user", "content": "What is 17% of 2400?"}]


@pytest.fixture(scope="module")
def client(server):
    with anthropic.Anthropic(base_url=server.url, api_key=server.key, max_retries=0) as client:
        yield client


def ask(client, messages=HELLO, **options):
    options = {"max_tokens": 60, "extra_body": {"temperature": 0}, **options}
    return client.messages.create(model="pebble", messages=messages, **options)


def streamed(client, messages=HELLO, **options):
    options = {"max_tokens": 60, "extra_body": {"temperature": 0}, **options}
    with client.messages.stream(model="pebble", messages=messages, **options) as stream:
        kinds = [event.type for event in stream]
        return stream.get_final_message(), kinds


def test_every_field_of_the_package_is_in_the_table():
    assert set(message_create_params.MessageCreateParamsBase.__annotations__) - set(MESSAGES) == set()
    assert set(message_count_tokens_params.MessageCountTokensParams.__annotations__) - set(COUNT) == set()


def test_message_and_stream_say_the_same(client):
    whole = ask(client, system="Be kind.")
    final, kinds = streamed(client, system=[{"type": "text", "text": "Be kind."}])
    assert [b.text for b in final.content] == [b.text for b in whole.content] != []
    assert final.stop_reason == whole.stop_reason == "end_turn"
    assert final.usage.output_tokens == whole.usage.output_tokens > 0
    assert kinds[0] == "message_start"
    assert kinds.count("message_stop") == 1


def test_tool_round_trip_with_thinking(client):
    thinking = {"type": "enabled", "budget_tokens": 1024}
    first = ask(client, SUM, tools=[CALCULATOR], thinking=thinking, max_tokens=200)
    final, _ = streamed(client, SUM, tools=[CALCULATOR], thinking=thinking, max_tokens=200)
    assert first.stop_reason == final.stop_reason == "tool_use"
    assert [b.type for b in first.content] == ["thinking", "tool_use"]
    assert first.content[0].thinking == final.content[0].thinking
    call = first.content[-1]
    assert (call.name, call.input) == ("calculator", final.content[-1].input)
    said = [
        *SUM,
        {"role": "assistant", "content": [block.model_dump() for block in first.content]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "408"}]},
    ]
    second = ask(client, said, tools=[CALCULATOR], thinking=thinking, max_tokens=200)
    assert "408" in second.content[-1].text
    assert second.usage.cache_read_input_tokens > 0


def test_a_stream_begins_with_the_length_of_its_prompt(client):
    counted = client.messages.count_tokens(model="pebble", messages=SUM, tools=[CALCULATOR])
    events = ask(client, SUM, tools=[CALCULATOR], stream=True, max_tokens=5)
    first, *_, last, _ = list(events)
    assert first.message.usage.input_tokens == counted.input_tokens > 0
    assert first.message.usage.output_tokens == 0
    assert last.usage.input_tokens + last.usage.cache_read_input_tokens == counted.input_tokens


def test_stop_sequence_is_named(client):
    text = ask(client).content[0].text
    word = text.split()[2]
    cut = ask(client, stop_sequences=["\0never", word])
    assert (cut.stop_reason, cut.stop_sequence) == ("stop_sequence", word)
    assert cut.content[0].text == text[: text.index(word)]


def test_tool_choices(client):
    forced = ask(
        client, SUM, tools=[CALCULATOR], tool_choice={"type": "tool", "name": "calculator"}, max_tokens=200
    )
    assert forced.content[0].name == "calculator"
    none = ask(client, SUM, tools=[CALCULATOR], tool_choice={"type": "none"})
    assert none.content[0].type == "text"
    one = ask(
        client,
        SUM,
        tools=[CALCULATOR],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        max_tokens=200,
    )
    assert len(one.content) == 1


def test_count_tokens(client):
    counted = client.messages.count_tokens(model="pebble", messages=SUM, tools=[CALCULATOR])
    usage = ask(client, SUM, tools=[CALCULATOR], max_tokens=1).usage
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens


def test_errors_have_the_right_shape(client, server):
    with pytest.raises(anthropic.BadRequestError, match="temperature"):
        ask(client, extra_body={"temperature": -1})
    status, value = server.post("/v1/messages", {"model": "pebble", "messages": HELLO})
    assert (status, value["type"], value["error"]["type"]) == (400, "error", "invalid_request_error")
    assert "max_tokens is missing" in value["error"]["message"]
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="claude-9", messages=HELLO, max_tokens=5)
    with pytest.raises(anthropic.AuthenticationError):
        ask(client.with_options(api_key="wrong-key-0123456789"))
    with pytest.raises(anthropic.BadRequestError, match="runs no tools"):
        ask(client, tools=[{"type": "web_search_20250305", "name": "web_search"}])
