"""OpenAI's API through the official SDK against a real server, and the shapes the SDK does not show."""

from __future__ import annotations

import json
import threading
from typing import Any

import openai
import pytest
from openai.types import completion_create_params
from openai.types.chat import completion_create_params as chat_create_params

import gemstead
from gemstead.server.openai import CHAT, COMPLETION
from gemstead.server.openai_messages import VERBOSITY

CALCULATOR = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Evaluate an arithmetic expression",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string"}},
            "required": ["expression"],
        },
    },
}
HELLO: list[Any] = [{"role": "user", "content": "Say hello"}]
SUM: list[Any] = [{"role": "user", "content": "What is 17% of 2400?"}]


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0) as client:
        yield client


def ask(client, messages=HELLO, **options):
    options = {"temperature": 0, "max_tokens": 40, **options}
    return client.chat.completions.create(model="pebble", messages=messages, **options)


def joined(stream):
    """A stream of one answer folded as a client would, and the chunks."""
    chunks = list(stream)
    text, thought, calls, finish = "", "", {}, []
    for chunk in chunks:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            thought += getattr(choice.delta, "reasoning_content", None) or ""
            finish += [choice.finish_reason] if choice.finish_reason else []
            for piece in choice.delta.tool_calls or []:
                assert isinstance(piece.index, int)
                if piece.index not in calls:
                    assert piece.id
                    assert piece.type == "function"
                    calls[piece.index] = [piece.function.name, ""]
                else:
                    assert (piece.id, piece.function.name) == (None, None)
                calls[piece.index][1] += piece.function.arguments
    assert len(finish) == 1
    return text, thought, list(calls.values()), finish[0], chunks


# ------------------------------------------------------------------ the tables


def fields_of(params: Any) -> set[str]:
    return set(params.__annotations__)


def test_every_field_of_the_package_is_in_the_table():
    base = chat_create_params.CompletionCreateParamsBase
    assert fields_of(base) - set(CHAT) == set()
    assert fields_of(completion_create_params.CompletionCreateParamsBase) - set(COMPLETION) == set()


# ------------------------------------------------------------------ chat


def test_chat_and_stream_say_the_same(client):
    whole = ask(client)
    text, _, calls, finish, chunks = joined(ask(client, stream=True, stream_options={"include_usage": True}))
    assert text == whole.choices[0].message.content != ""
    assert (calls, finish) == ([], whole.choices[0].finish_reason)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens


def test_tool_round_trip(client):
    first = ask(client, SUM, tools=[CALCULATOR])
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls"
    assert message.content is None
    (call,) = message.tool_calls
    assert call.function.name == "calculator"
    assert "expression" in json.loads(call.function.arguments)
    _, _, calls, finish, _ = joined(ask(client, SUM, tools=[CALCULATOR], stream=True))
    assert (calls, finish) == ([["calculator", call.function.arguments]], "tool_calls")
    said = [*SUM, message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "408"}]
    second = ask(client, said, tools=[CALCULATOR])
    assert "408" in second.choices[0].message.content
    assert second.usage.prompt_tokens_details.cached_tokens > 0


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "calculator"}},
               {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [CALCULATOR]}}],
    ids=["required", "named", "allowed"],
)  # fmt: skip
def test_tool_choice_forces_a_call(client, choice):
    answer = ask(client, HELLO, tools=[CALCULATOR], tool_choice=choice, max_tokens=200)
    assert {c.function.name for c in answer.choices[0].message.tool_calls} == {"calculator"}


def test_tool_choice_none_forbids_it(client):
    answer = ask(client, SUM, tools=[CALCULATOR], tool_choice="none")
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].message.content


def test_parallel_calls(client):
    asked = [{"role": "user", "content": "What is 17% of 2400? And what is 3 + 4?"}]
    schema = {"type": "object", "properties": {"n": {"enum": [1]}}, "required": ["n"]}
    tool = {"type": "function", "function": {"name": "pick", "parameters": schema}}
    one = ask(client, asked, tools=[tool], tool_choice="required", parallel_tool_calls=False)
    assert len(one.choices[0].message.tool_calls) == 1
    with gemstead.open("pebble") as model:
        opening = model.tokenizer.control.call_open
    options = {"tools": [CALCULATOR], "tool_choice": "required", "logit_bias": {str(opening): 100}}
    whole = ask(client, asked, max_tokens=60, **options).choices[0].message
    assert len(whole.tool_calls) > 1
    assert len({call.id for call in whole.tool_calls}) == len(whole.tool_calls)
    _, _, calls, _, chunks = joined(ask(client, asked, max_tokens=60, stream=True, **options))
    assert calls == [[c.function.name, c.function.arguments] for c in whole.tool_calls]
    indices = [p.index for c in chunks for x in c.choices for p in x.delta.tool_calls or []]
    assert indices == sorted(indices)


def test_json_schema_and_json_object(client):
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema, "strict": True}}
    answer = ask(client, HELLO, response_format=wanted, max_tokens=200)
    assert set(json.loads(answer.choices[0].message.content)) == {"name", "age"}
    free = ask(client, HELLO, response_format={"type": "json_object"}, max_tokens=300, temperature=1, seed=1)
    if free.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(free.choices[0].message.content), dict)


def test_logprobs(client):
    whole = ask(client, logprobs=True, top_logprobs=3)
    content = whole.choices[0].logprobs.content
    assert "".join(token.token for token in content) == whole.choices[0].message.content
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 3 for token in content)
    assert all(token.top_logprobs[0].token == token.token for token in content)  # greedy
    assert bytes(content[0].bytes).decode() == content[0].token
    streamed = [
        token
        for chunk in ask(client, logprobs=True, top_logprobs=3, stream=True)
        for choice in chunk.choices
        if choice.logprobs
        for token in choice.logprobs.content
    ]
    assert [t.token for t in streamed] == [t.token for t in content]


def test_stop_is_left_out_and_seed_repeats(client):
    whole = ask(client).choices[0].message.content
    stop = whole.split()[2]
    cut = ask(client, stop=[stop]).choices[0]
    assert cut.finish_reason == "stop"
    assert cut.message.content == whole[: whole.index(stop)]
    hot = {"temperature": 2.0, "top_p": 1.0, "extra_body": {"top_k": 0}}
    a, b, c = (ask(client, seed=seed, **hot).choices[0].message.content for seed in (5, 5, 6))
    assert a == b != c


def test_n_answers(client):
    hot = {"temperature": 6, "top_p": 1.0, "extra_body": {"top_k": 0}, "seed": 5, "n": 3}
    whole = ask(client, **hot)
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    texts = [choice.message.content for choice in whole.choices]
    assert len(set(texts)) == 3
    streamed = ["", "", ""]
    for chunk in ask(client, stream=True, **hot):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == texts
    assert whole.usage.completion_tokens > whole.usage.prompt_tokens


def test_logit_bias_and_penalties_change_the_answer(client, server):
    plain = ask(client).choices[0]
    _, value = server.post("/tokenize", {"text": plain.message.content})
    biased = ask(client, logit_bias={str(value["tokens"][0]): -100}).choices[0]
    assert not biased.message.content.startswith(plain.message.content.split()[0])
    assert ask(client, frequency_penalty=2, presence_penalty=2).choices[0].message.content


def test_thinking_is_there_under_both_names(client, server):
    whole = ask(client, SUM, reasoning_effort="high", tools=[CALCULATOR], max_tokens=200)
    message = whole.choices[0].message
    if not getattr(message, "reasoning", None):
        pytest.fail("pebble did not think")
    assert message.reasoning == message.reasoning_content
    assert whole.usage.completion_tokens_details.reasoning_tokens > 0
    _, thought, calls, _, _ = joined(
        ask(client, SUM, extra_body={"think": True}, tools=[CALCULATOR], max_tokens=200, stream=True)
    )
    assert thought == message.reasoning
    assert [c[1] for c in calls] == [c.function.arguments for c in message.tool_calls or []]
    off = ask(client, SUM, extra_body={"chat_template_kwargs": {"enable_thinking": False}})
    assert off.usage.completion_tokens_details.reasoning_tokens == 0
    for name in ("reasoning", "reasoning_content"):
        said = {
            "role": "assistant",
            "content": "",
            "tool_calls": message.model_dump()["tool_calls"],
            name: "Hm.",
        }
        call_id = said["tool_calls"][0]["id"]
        body = {
            "model": "pebble",
            "messages": [*SUM, said, {"role": "tool", "tool_call_id": call_id, "content": "1"}],
        }
        with_thought = server.post("/v1/chat/completions", {**body, "max_tokens": 1})[1]["usage"][
            "prompt_tokens"
        ]
        del said[name]
        without = server.post("/v1/chat/completions", {**body, "max_tokens": 1})[1]["usage"]["prompt_tokens"]
        assert with_thought > without


def test_an_empty_answer_says_why(server):
    body = {"model": "pebble", "messages": HELLO, "max_tokens": 0}
    choice = server.post("/v1/chat/completions", body)[1]["choices"][0]
    assert choice["message"]["content"] == ""
    assert choice["finish_reason"] == "length"
    assert choice["cause"]["code"] == "no_tokens_allowed"


# ------------------------------------------------------------------ completions, models


def test_completions(client):
    options = {"model": "pebble", "prompt": "Hello", "max_tokens": 8, "temperature": 0}
    whole = client.completions.create(**options, logprobs=2)
    assert whole.usage.completion_tokens <= 8
    assert len(whole.choices[0].logprobs.tokens) == len(whole.choices[0].logprobs.token_logprobs)
    streamed = "".join(c.choices[0].text for c in client.completions.create(**options, stream=True))
    assert streamed == whole.choices[0].text
    echoed = client.completions.create(**options, echo=True)
    assert echoed.choices[0].text == "Hello" + streamed


def test_models(client):
    assert [model.id for model in client.models.list()] == ["pebble", "gpt-4o"]
    assert client.models.retrieve("gpt-4o").id == "gpt-4o"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-5")


# ------------------------------------------------------------------ errors


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"n": 0}, "n"),
        ({"stop": [""]}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"tool_choice": "required"}, None),
        ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"logit_bias": {"9999999": 1}}, "logit_bias"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"store": True}, "store"),
        ({"audio": {"voice": "a", "format": "wav"}}, "audio"),
        ({"extra_body": {"temprature": 1}}, "temprature"),
        ({"extra_body": {"think": True}, "reasoning_effort": "none"}, "think"),
        ({"extra_body": {"options": {"num_ctx": 10**9}}}, "options.num_ctx"),
        ({"tools": [{"type": "function", "function": {"name": "a"}}] * 2}, "tools"),
        ({"tools": [{"type": "custom", "custom": {"name": "a"}}]}, None),
    ],
)  # fmt: skip
def test_bad_fields_are_named(client, options, param):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **options)
    assert caught.value.type == "invalid_request_error"
    if param is not None:
        assert caught.value.param == param
        assert param.split(".")[-1] in str(caught.value)


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "empty"),
        ([{"role": "wizard", "content": "x"}], "messages[0].role"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "user", "content": "x", "mood": "good"}], "messages[0].mood"),
        ([{"role": "user", "content": [image("http://a/b")]}], "fetches nothing"),
        ([{"role": "user", "content": [image("file:///etc/passwd")]}], "fetches nothing"),
        ([{"role": "user", "content": [image("data:x;base64,AA==")]}], "text only"),
        ([{"role": "user", "content": [image("data:x;base64,A")]}], "base64"),
        ([{"role": "tool", "content": "x", "tool_call_id": "nothing"}], "tool"),
    ],
)  # fmt: skip
def test_bad_messages_are_named(client, messages, said):
    with pytest.raises(openai.BadRequestError, match=said.replace("[", r"\[").replace("]", r"\]")):
        ask(client, messages)


def test_wrong_key_wrong_model_too_long(client, server):
    with pytest.raises(openai.AuthenticationError):
        ask(client.with_options(api_key="wrong-key-0123456789"))
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-5", messages=HELLO)
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        ask(client, [{"role": "user", "content": "hello " * 9000}])
    assert long.value.code == "context_length_exceeded"
    status, value = server.post("/v1/chat/completions", b" " * (33 << 20))
    assert (status, value["error"]["code"]) == (413, "request_too_large")


def test_full_queue_is_429_and_the_next_one_is_served(client, server):
    streams = [ask(client, n=8, stream=True, max_tokens=2000, temperature=2, stop=["\0"]) for _ in range(3)]
    status, value, headers = server.request(
        "POST", "/v1/chat/completions", {"model": "pebble", "messages": HELLO}
    )
    assert (status, value["error"]["type"]) == (429, "rate_limit_error")
    assert int(headers["retry-after"]) >= 1
    with pytest.raises(openai.RateLimitError):
        ask(client)
    for stream in streams:
        stream.close()
    server.wait_idle()
    assert ask(client).choices[0].message.content


def test_leaving_a_stream_frees_its_place(client, server):
    before = server.wait_idle()
    stream = ask(client, stream=True, max_tokens=3000, temperature=2)
    next(iter(stream))
    stream.close()
    after = server.wait_idle()
    assert after["memory"]["kv"] == before["memory"]["kv"]


def test_leaving_a_whole_answer_frees_its_place(client, server):
    server.wait_idle()
    with pytest.raises(openai.APITimeoutError):
        ask(client.with_options(timeout=0.05), max_tokens=3000, temperature=2, n=8)
    server.wait_idle()


def test_many_at_once_say_what_they_say_alone(client):
    alone = ask(client, SUM).choices[0].message.content
    said: list[str] = []

    def one(i: int) -> None:
        if i % 2:
            said.append(joined(ask(client, SUM, stream=True))[0])
        else:
            said.append(ask(client, SUM).choices[0].message.content)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == [alone] * 12


def test_a_schema_beyond_the_grammar_is_refused_only_where_strict(client):
    odd = {"type": "object", "properties": {"expression": {"type": "string", "not": {"const": ""}}}}
    tool = {"type": "function", "function": {**CALCULATOR["function"], "parameters": odd}}
    (call,) = ask(client, SUM, tools=[tool], tool_choice="required").choices[0].message.tool_calls
    assert call.function.name == "calculator"
    tool["function"]["strict"] = True
    with pytest.raises(openai.BadRequestError, match="'not'"):
        ask(client, SUM, tools=[tool])


@pytest.mark.parametrize("asked", ["low", "high", "medium", None])
@pytest.mark.parametrize(
    "system", [[], [{"role": "developer", "content": [{"type": "text", "text": "Hi."}]}]]
)
def test_verbosity_is_a_sentence_at_the_end_of_the_instructions(client, asked, system):
    told = VERBOSITY[asked or "medium"]
    content = "\n\n".join(text for text in (*(["Hi."] if system else []), told) if text)
    options = {"temperature": 0, "max_tokens": 20}
    user = {"role": "user", "content": "Say hello"}
    said = client.chat.completions.create(
        model="pebble", messages=[*system, user], verbosity=asked, **options
    )
    same = [{"role": "system", "content": content}, user] if content else [user]
    expected = client.chat.completions.create(model="pebble", messages=same, **options)
    assert said.usage.prompt_tokens == expected.usage.prompt_tokens
    assert said.choices[0].message.content == expected.choices[0].message.content
    options = {"temperature": 0, "max_output_tokens": 20, "text": {"verbosity": asked or "medium"}}
    instructions = {"instructions": "Hi."} if system else {}
    response = client.responses.create(model="pebble", input="Say hello", **instructions, **options)
    assert response.usage.input_tokens == expected.usage.prompt_tokens
