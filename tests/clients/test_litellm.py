"""litellm: the same server as OpenAI's, Anthropic's and Ollama's, in litellm's own words."""

from __future__ import annotations

import os

import pytest
from tests.clients.conftest import TOO_LARGE, TOO_LONG

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # otherwise importing it asks a network
litellm = pytest.importorskip("litellm", reason="litellm: the extra 'clients'")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # its own types
HELLO = [{"role": "user", "content": "Say hello"}]
SUM = [{"role": "user", "content": "What is 17% of 2400?"}]
DIALECTS = {"openai": "/v1", "hosted_vllm": "/v1", "anthropic": "", "ollama_chat": ""}


@pytest.fixture(params=DIALECTS)
def ask(request, server):
    """litellm.completion against one of the APIs."""

    def complete(messages=HELLO, model="pebble", **options):
        options = {"temperature": 0, "max_tokens": 100, "api_key": server.key, **options}
        return litellm.completion(
            model=f"{request.param}/{model}",
            messages=messages,
            api_base=server.url + DIALECTS[request.param],
            max_retries=0,
            **options,
        )

    complete.dialect = request.param
    return complete


def folded(stream):
    return litellm.stream_chunk_builder(list(stream)).choices[0].message


def test_stream_says_what_completion_says(ask):
    whole = ask()
    assert folded(ask(stream=True)).content == whole.choices[0].message.content != ""
    assert whole.usage.completion_tokens > 0


def test_tool_round_trip(ask, calculator):
    first = ask(SUM, tools=[calculator]).choices[0]
    assert first.finish_reason == "tool_calls"
    (call,) = first.message.tool_calls
    (streamed,) = folded(ask(SUM, tools=[calculator], stream=True)).tool_calls
    assert streamed.function.name == call.function.name == "calculator"
    assert streamed.function.arguments == call.function.arguments
    said = [*SUM, first.message, {"role": "tool", "tool_call_id": call.id, "content": "408"}]
    assert "408" in ask(said, tools=[calculator]).choices[0].message.content


def test_json_schema(ask, schema):
    wanted = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema, "strict": True}}
    content = ask(response_format=wanted, max_tokens=200).choices[0].message.content
    assert set(litellm.utils.json.loads(content)) == {"ok"}


def test_stop(ask):
    text = ask().choices[0].message.content
    word = text.split()[2]
    assert ask(stop=[word]).choices[0].message.content == text[: text.index(word)]


def test_logprobs_seed_n(ask):
    if ask.dialect not in ("openai", "hosted_vllm"):
        pytest.skip(f"litellm itself refuses logprobs and n for {ask.dialect}")
    whole = ask(logprobs=True, top_logprobs=2).choices[0]
    assert "".join(token.token for token in whole.logprobs.content) == whole.message.content
    assert len(ask(n=2, seed=5).choices) == 2


def test_errors(ask):
    with pytest.raises(litellm.BadRequestError, match="temperature"):
        ask(temperature=-1)
    with pytest.raises(litellm.NotFoundError, match="not served"):
        ask(model="nobody")
    with pytest.raises(litellm.AuthenticationError):
        ask(api_key="wrong-key-0123456789")


def test_what_is_too_much(ask):
    with pytest.raises(
        (litellm.APIError, litellm.BadRequestError), match="larger than 33,554,432 bytes"
    ) as large:
        ask([{"role": "user", "content": TOO_LARGE}])
    if ask.dialect != "anthropic":  # of Anthropic's litellm makes a 400
        assert large.value.status_code == 413
    kind = litellm.BadRequestError if ask.dialect == "ollama_chat" else litellm.ContextWindowExceededError
    with pytest.raises(kind, match="prompt is too long"):
        ask([{"role": "user", "content": TOO_LONG}])


def test_a_full_queue(ask, full):
    with pytest.raises(litellm.RateLimitError, match="ask again later") as caught:
        ask()
    if ask.dialect == "openai":  # of the others litellm drops the headers
        assert caught.value.response.headers["retry-after"] == "1"
    full()


def test_leaving_a_stream(ask, left, endless):
    wanted = {"type": "json_schema", "json_schema": {"name": "endless", "schema": endless, "strict": True}}
    with left():
        stream = ask(response_format=wanted, stream=True, temperature=1, max_tokens=3000)
        while not next(stream).choices[0].delta.content:
            pass
        stream.close()


def test_responses(server):
    options = {"model": "openai/pebble", "api_base": f"{server.url}/v1", "api_key": server.key}
    whole = litellm.responses(input="Say hello", temperature=0, **options)
    kinds = [event.type for event in litellm.responses(input="Say hello", stream=True, **options)]
    assert whole.output[0].content[0].text
    assert kinds[0] == "response.created"
    assert kinds.count("response.completed") == 1
