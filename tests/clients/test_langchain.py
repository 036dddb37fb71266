"""langchain-openai: chat completions and responses, as LangChain users write them."""

from __future__ import annotations

import threading

import openai
import pytest

langchain_openai = pytest.importorskip("langchain_openai", reason="langchain-openai: the extra 'clients'")
from langchain_core.exceptions import ContextOverflowError  # noqa: E402
from langchain_core.messages import HumanMessage  # noqa: E402
from langchain_core.tools import tool  # noqa: E402
from pydantic import BaseModel  # noqa: E402
from tests.clients.conftest import TOO_LARGE, TOO_LONG  # noqa: E402

SUM = "What is 17% of 2400?"


class Verdict(BaseModel):
    """Whether it is so."""

    ok: bool


@tool
def calculator(expression: str) -> str:
    """Evaluate an arithmetic expression"""
    return "408" if expression else ""


@pytest.fixture(scope="module")
def chat(server):
    def make(**options):
        usual = {
            "temperature": 0,
            "max_tokens": 100,
            "api_key": server.key,
            "model": "pebble",
            "max_retries": 0,
        }
        return langchain_openai.ChatOpenAI(base_url=f"{server.url}/v1", **usual | options)

    return make


@pytest.mark.parametrize("responses", [False, True], ids=["chat", "responses"])
def test_stream_says_what_invoke_says(chat, responses):
    model = chat(use_responses_api=responses, stream_usage=True)
    whole = model.invoke("Say hello")
    parts = list(model.stream("Say hello"))
    assert "".join(part.text for part in parts) == whole.text != ""
    assert (
        sum((p.usage_metadata or {}).get("output_tokens", 0) for p in parts)
        == (whole.usage_metadata["output_tokens"])
    )


@pytest.mark.parametrize("responses", [False, True], ids=["chat", "responses"])
def test_tool_round_trip(chat, responses):
    model = chat(use_responses_api=responses).bind_tools([calculator])
    said = [HumanMessage(SUM)]
    said.append(model.invoke(said))
    (call,) = said[1].tool_calls
    said.append(calculator.invoke(call))
    assert "408" in model.invoke(said).text
    streamed = None
    for part in model.stream(said[:1]):
        streamed = part if streamed is None else streamed + part
    assert [(c["name"], c["args"]) for c in streamed.tool_calls] == [(call["name"], call["args"])]


def test_parallel_and_forced_tools(chat, eager):
    model = chat(logit_bias=eager, max_tokens=60).bind_tools([calculator], tool_choice="any")
    calls = model.invoke("What is 17% of 2400? And what is 3 + 4?").tool_calls
    assert len(calls) > 1
    assert len({call["id"] for call in calls}) == len(calls)
    one = chat().bind_tools([calculator], tool_choice="calculator", strict=True, parallel_tool_calls=False)
    assert len(one.invoke(SUM).tool_calls) == 1


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
@pytest.mark.parametrize("responses", [False, True], ids=["chat", "responses"])
def test_structured_output(chat, method, responses):
    model = chat(use_responses_api=responses).with_structured_output(Verdict, method=method)
    assert isinstance(model.invoke("Say hello"), Verdict)


def test_logprobs_stop_seed_n(chat):
    whole = chat(logprobs=True, top_logprobs=2).invoke("Say hello")
    tokens = whole.response_metadata["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == whole.text
    assert {len(token["top_logprobs"]) for token in tokens} == {2}
    word = whole.text.split()[2]
    assert chat(stop=[word]).invoke("Say hello").text == whole.text[: whole.text.index(word)]
    hot = {"temperature": 2.0, "top_p": 1.0, "extra_body": {"top_k": 0}}
    a, b, c = (chat(seed=seed, **hot).invoke("Say hello").text for seed in (5, 5, 6))
    assert a == b != c
    several = chat(n=3, seed=5, **{**hot, "temperature": 2}).generate([[HumanMessage("Say hello")]])
    assert len(several.generations[0]) == 3


def test_responses_go_on_from_each_other(chat):
    model = chat(use_responses_api=True)
    first = model.invoke("Say hello")
    again = chat(use_responses_api=True, previous_response_id=first.response_metadata["id"])
    second = again.invoke("And again")
    assert second.usage_metadata["input_tokens"] > first.usage_metadata["input_tokens"]


def test_errors(chat):
    with pytest.raises(openai.BadRequestError, match="temperature"):
        chat(temperature=-1).invoke("Say hello")
    with pytest.raises(openai.NotFoundError, match="not served"):
        chat(model="gpt-5").invoke("Say hello")
    with pytest.raises(openai.AuthenticationError):
        chat(api_key="wrong-key-0123456789").invoke("Say hello")


@pytest.mark.parametrize("responses", [False, True], ids=["chat", "responses"])
def test_what_is_too_much(chat, responses):
    with pytest.raises(openai.APIStatusError, match="larger than") as large:
        chat(use_responses_api=responses).invoke(TOO_LARGE)
    assert large.value.status_code == 413
    with pytest.raises(ContextOverflowError, match="prompt is too long"):
        chat(use_responses_api=responses).invoke(TOO_LONG)


@pytest.mark.parametrize("responses", [False, True], ids=["chat", "responses"])
def test_a_full_queue(chat, full, responses):
    with pytest.raises(openai.RateLimitError) as caught:
        chat(use_responses_api=responses).invoke("Say hello")
    assert caught.value.response.headers["retry-after"] == "1"
    threading.Timer(0.3, full).start()
    assert chat(use_responses_api=responses, max_retries=5).invoke("Say hello").text


@pytest.mark.parametrize("responses", [False, True], ids=["chat", "responses"])
def test_leaving_a_stream(chat, left, endless, responses):
    wanted = {"name": "endless", "schema": endless, "strict": True}
    model = chat(use_responses_api=responses, temperature=1, max_tokens=3000).bind(
        response_format={"type": "json_schema", "json_schema": wanted}
    )
    with left():
        parts = model.stream("Say hello")
        while not next(parts).text:
            pass
        parts.close()
