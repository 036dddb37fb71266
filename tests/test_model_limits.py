"""Thoughts, pieces of calls and the guard of calls on pebble, a model that was trained to use them."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gemstead
from gemstead.agent.tools import BUILT_IN
from gemstead.types import Message, ThoughtDelta, Tool, ToolCallDelta, ToolCallEvent


@pytest.fixture(scope="module", params=[None, "ngram"])
def pebble(request):
    with gemstead.open("pebble", drafter=request.param) as model:
        yield model


ADDING = [Message.user("What is 17% of 2400?")]


@pytest.mark.parametrize("thinking", [False, 0, 8, 12, 40, True, "minimal", "high"])
def test_it_thinks_no_longer_than_it_may_and_still_calls(pebble, thinking):
    events = list(pebble.chat(ADDING, BUILT_IN, thinking=thinking, temperature=0, max_tokens=120))
    done, thought = events[-1], [e for e in events if isinstance(e, ThoughtDelta)]
    assert done.reason == "tool_calls"
    assert bool(thought) == (thinking not in (False, 0, 8))  # 8 hold no thought
    if isinstance(thinking, int) and not isinstance(thinking, bool):
        assert done.usage.reasoning_tokens <= max(thinking, 3)
    pieces = [e for e in events if isinstance(e, ToolCallDelta)]
    (call,) = [e.call for e in events if isinstance(e, ToolCallEvent)]
    assert call.arguments == {"expression": "17% of 2400"}
    assert json.loads("".join(e.arguments_text for e in pieces)) == call.arguments
    assert len(pieces) > 3
    assert {(e.index, e.id, e.name) for e in pieces} == {(0, call.id, "calculator")}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), thinking=st.sampled_from([False, 5, 30, True]), required=st.booleans())
def test_at_temperature_3_the_limits_hold(pebble, seed, thinking, required):
    choice = "required" if required else "auto"
    sampling = {"temperature": 3.0, "top_k": 0, "top_p": 1.0, "seed": seed, "max_tokens": 60}
    events = list(pebble.chat(ADDING, BUILT_IN, thinking=thinking, tool_choice=choice, **sampling))
    done = events[-1]
    if thinking in (5, 30) and thinking is not True:
        assert done.usage.reasoning_tokens <= thinking
    if done.reason == "length":
        assert done.usage.completion_tokens - done.usage.reasoning_tokens >= 30
    for call in (e.call for e in events if isinstance(e, ToolCallEvent)):
        text = "".join(e.arguments_text for e in events if isinstance(e, ToolCallDelta) and e.id == call.id)
        assert json.loads(text) == call.arguments


def test_ask_ends_at_the_same_call_again_and_again(monkeypatch):
    seen = []

    def again():
        seen.append(1)
        return "call again"

    nothing = {"properties": {}, "additionalProperties": False}
    tool = Tool("again", "Call again", nothing, function=again)
    with gemstead.open("pebble") as model:
        real = model.chat
        monkeypatch.setattr(model, "chat", lambda *a, **more: real(*a, tool_choice="required", **more))
        model.ask("Go", tools=[tool], max_same_calls=3, seed=0)
    assert len(seen) == 2
