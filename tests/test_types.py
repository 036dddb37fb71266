"""The shared values check themselves."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args

import pytest

from gemstead.errors import InputError
from gemstead.types import EFFORTS, CauseCode, Failed, Message, SamplingParams, Thinking, Tool, ToolCall


def test_messages_by_role():
    call = ToolCall("f", {"x": 1}, "c1")
    assert [Message.system("a").role, Message.user("b").role, Message.assistant("c").role] == [
        "system",
        "user",
        "assistant",
    ]
    result = Message.tool({"y": 2}, call=call)
    assert (result.role, result.name, result.tool_call_id, result.content) == ("tool", "f", "c1", {"y": 2})
    assert Message.tool("text", name="g").name == "g"


def test_a_message_refuses_what_no_conversation_has():
    with pytest.raises(InputError, match="role 'wizard' is unknown; use one of system, developer"):
        Message("wizard")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a user message cannot carry tool calls"):
        Message("user", "hi", tool_calls=(ToolCall("f", {}),))


def test_values_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Message.user("hi").content = "ho"  # type: ignore[misc]


def test_the_defaults_are_the_model_cards():
    params = SamplingParams()
    assert (params.temperature, params.top_k, params.top_p) == (1.0, 64, 0.95)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", "1"),
        ("temperature", True),
        ("top_k", -1),
        ("top_k", 1.5),
        ("top_p", 1.1),
        ("min_p", -0.1),
        ("seed", -1),
        ("seed", 2**64),
        ("max_tokens", -1),
        ("logprobs", 65),
        ("repetition_penalty", 0.0),
        ("presence_penalty", 2.1),
        ("frequency_penalty", -2.1),
        ("loop_guard", -1),
        ("loop_guard", 0.5),
    ],
)
def test_a_sampling_value_out_of_range(name, value):
    with pytest.raises(InputError, match=f"{name} = .* is out of range; allowed is"):
        SamplingParams(**{name: value})


@pytest.mark.parametrize("stop", ["word", ("",), (1,)])
def test_stop_is_a_tuple_of_texts(stop):
    with pytest.raises(InputError, match="tuple of non-empty strings"):
        SamplingParams(stop=stop)


def test_tools_are_equal_by_declaration():
    assert Tool("f", function=print) == Tool("f", function=len)


def test_every_cause_and_effort_is_explained():
    page = (Path(__file__).parents[1] / "docs/guides/answers.md").read_text(encoding="utf-8")
    for word in (*get_args(CauseCode), *EFFORTS):
        assert f"\n| `{word}` |" in page, word


def test_a_failure_has_its_reason_too():
    assert Failed(ValueError("x")).reason == "error"


def test_a_thought_that_holds_no_sentence_is_none():
    assert [Thinking.of(count).budget for count in (0, 1, 11, 12, 300)] == [0, 0, 0, 12, 300]
    assert not Thinking.of(5).is_on
