"""pydantic-ai: agents with tools and typed results, over three of its providers."""

from __future__ import annotations

import asyncio

import pytest

pydantic_ai = pytest.importorskip("pydantic_ai", reason="pydantic-ai: the extra 'clients'")
from pydantic import BaseModel  # noqa: E402
from pydantic_ai import Agent, NativeOutput, ToolOutput  # noqa: E402
from pydantic_ai.exceptions import (  # noqa: E402
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelRateLimitError,
)
from pydantic_ai.models.anthropic import AnthropicModel  # noqa: E402
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel  # noqa: E402
from pydantic_ai.providers.anthropic import AnthropicProvider  # noqa: E402
from pydantic_ai.providers.openai import OpenAIProvider  # noqa: E402
from tests.clients.conftest import TOO_LARGE, TOO_LONG  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning"
)  # about settings that a model of its table would not take
SUM = "What is 17% of 2400?"


class Verdict(BaseModel):
    """Whether it is so."""

    ok: bool


def calculator(expression: str) -> str:
    """Evaluate an arithmetic expression"""
    return "408" if expression else ""


@pytest.fixture(params=["chat", "responses", "anthropic"])
def model(request, server):
    def make(name: str = "pebble", key: str = server.key):
        if request.param == "anthropic":
            return AnthropicModel(name, provider=AnthropicProvider(base_url=server.url, api_key=key))
        kind = OpenAIChatModel if request.param == "chat" else OpenAIResponsesModel
        return kind(name, provider=OpenAIProvider(base_url=f"{server.url}/v1", api_key=key))

    make.dialect = request.param
    return make


def agent(model, **options):
    settings = {"temperature": 0, "max_tokens": 200, **options.pop("settings", {})}
    return Agent(model, model_settings=settings, retries=0, **options)


async def streamed(agent, prompt):
    async with agent.run_stream(prompt) as run:
        return [text async for text in run.stream_text()][-1]


def test_stream_says_what_run_says(model):
    whole = agent(model(), instructions="Be kind.").run_sync("Say hello")
    assert asyncio.run(streamed(agent(model(), instructions="Be kind."), "Say hello")) == whole.output != ""
    again = agent(model()).run_sync("And again", message_history=whole.all_messages())
    assert again.output


def test_tools(model):
    ran = agent(model(), tools=[calculator]).run_sync(SUM)
    assert "408" in ran.output
    assert ran.usage.tool_calls == 1
    assert "408" in asyncio.run(streamed(agent(model(), tools=[calculator]), SUM))


def test_typed_results(model):
    assert isinstance(agent(model(), output_type=ToolOutput(Verdict)).run_sync("Say hello").output, Verdict)
    if model.dialect != "anthropic":  # pydantic-ai asks for a schema only of Claude's own names
        native = agent(model(), output_type=NativeOutput(Verdict)).run_sync("Say hello")
        assert isinstance(native.output, Verdict)


def test_settings(model):
    settings = {"top_p": 0.9, "parallel_tool_calls": False, "timeout": 60}
    if model.dialect == "chat":
        settings |= {"seed": 5, "stop_sequences": ["pebble"], "openai_logprobs": True}
        settings |= {"presence_penalty": 0.1, "frequency_penalty": 0.1}
    if model.dialect == "responses":
        settings |= {"openai_logprobs": True, "openai_top_logprobs": 2, "openai_reasoning_effort": "low"}
    said = agent(model(), settings=settings).run_sync("Say hello").output
    assert said
    assert ("pebble" in said) == (model.dialect != "chat")


def test_errors(model):
    for made, status in ((model("gpt-5"), 404), (model(key="wrong-key-0123456789"), 401)):
        with pytest.raises(ModelHTTPError) as caught:
            agent(made).run_sync("Say hello")
        assert caught.value.status_code == status


def test_what_is_too_much(model):
    with pytest.raises(ModelHTTPError, match="larger than") as large:
        agent(model()).run_sync(TOO_LARGE)
    assert large.value.status_code == 413
    with pytest.raises(ModelContextWindowExceededError, match="prompt is too long"):
        agent(model()).run_sync(TOO_LONG)


def test_a_full_queue(model, full):
    with pytest.raises(ModelRateLimitError) as caught:
        agent(model()).run_sync("Say hello")
    assert caught.value.__cause__.response.headers["retry-after"] == "1"
    full()


def test_leaving_a_stream(model, left, endless):
    body = {
        "chat": {"response_format": {"type": "json_schema", "json_schema": {"name": "e", "schema": endless}}},
        "responses": {"text": {"format": {"type": "json_schema", "name": "e", "schema": endless}}},
        "anthropic": {"output_config": {"format": {"type": "json_schema", "schema": endless}}},
    }[model.dialect]

    async def leave() -> None:
        settings = {"temperature": 1, "max_tokens": 3000, "extra_body": body}
        async with agent(model(), settings=settings).run_stream("Say hello") as run:
            async for _ in run.stream_text():
                break
            await run.cancel()

    with left():
        asyncio.run(leave())
