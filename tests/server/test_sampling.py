"""The small converters: sampling, thinking, messages, replies, names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from gemstead.errors import (
    BackendError,
    CapacityError,
    CeilingError,
    ConfigError,
    ContextError,
    InputError,
)
from gemstead.server.answers import Answer, together, whole_arguments
from gemstead.server.anthropic_replies import MessageEncoder, message_reply
from gemstead.server.client import ask
from gemstead.server.control import status_of
from gemstead.server.metrics import Metrics
from gemstead.server.ollama_replies import LineEncoder
from gemstead.server.openai_messages import choice_of, format_of, messages_of, tools_of
from gemstead.server.openai_replies import ChatEncoder, chat_reply
from gemstead.server.refusals import Refusal, body_of, dialect_of, refusal_of
from gemstead.server.sampling import sampling_of, seeded, thinking_of
from gemstead.server.served import Served
from gemstead.server.serving import listen
from gemstead.types import (
    Cause,
    Done,
    Message,
    SamplingParams,
    TextDelta,
    ThoughtDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallEvent,
    Usage,
)


@dataclass
class Model:
    sampling: SamplingParams = field(default_factory=lambda: SamplingParams(top_k=7))


SERVED = Served(Model())  # type: ignore[arg-type]
CALL = ToolCall("look", {"at": "sky"}, "call_1")
EVENTS: list[Any] = [
    ThoughtDelta("Hm."),
    TextDelta("So"),
    TextDelta(" be it"),
    ToolCallDelta(0, "call_1", "look", '{"at":'),
    ToolCallDelta(0, "call_1", "look", ' "sky"}'),
    ToolCallEvent(CALL),
    Done("tool_calls", Usage(10, 4, 6, 2)),
]


def answer(events=EVENTS):
    made = Answer()
    made.take(events)
    return made


def test_sampling_starts_from_the_models_own():
    chosen = sampling_of({"temperature": 0.5, "seed": -1, "stop": ("x",), "logit_bias": {"5": 2}}, SERVED)
    assert chosen == SamplingParams(
        top_k=7, temperature=0.5, seed=2**64 - 1, stop=("x",), logit_bias=((5, 2.0),)
    )
    assert seeded(chosen, 2).seed == 1
    assert seeded(SamplingParams(), 2).seed is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "low"),
        ({"think": True}, True),
        ({"think": 300}, 300),
        ({"think": "max"}, "high"),
        ({"reasoning_effort": "none"}, "none"),
        ({"reasoning_effort": "xhigh"}, "high"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
        ({"chat_template_kwargs": {"thinking_budget": 50}}, 50),
        ({"chat_template_kwargs": {}}, "low"),
        ({"think": "low", "reasoning_effort": "low"}, "low"),
    ],
)
def test_thinking(given, expected):
    assert thinking_of(given, "low") == expected


@pytest.mark.parametrize("given", [{"think": 1.5}, {"think": -1}, {"think": True, "reasoning_effort": "low"}])
def test_thinking_refused(given):
    with pytest.raises(Refusal):
        thinking_of(given, False)


def test_messages_keep_what_they_say():
    said = [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "reasoning": "Hm.", "function_call": None, "annotations": [],
         "tool_calls": [{"id": "call_1", "type": "function",
                         "function": {"name": "look", "arguments": '{"at": "sky"}'}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "blue "},
    ]  # fmt: skip
    assert messages_of(said) == (
        Message("developer", "Be kind."),
        Message.user("ab"),
        Message.assistant("", reasoning="Hm.", tool_calls=(CALL,)),
        Message("tool", "blue ", tool_call_id="call_1"),
    )


def test_tools_choices_and_formats():
    tools = tools_of([{"type": "function", "function": {"name": n, "strict": True}} for n in ("a", "b")])
    assert [tool.name for tool in tools] == ["a", "b"]
    assert choice_of(None, tools) == ("auto", tools)
    assert choice_of({"type": "function", "function": {"name": "b"}}, tools) == ("b", tools)
    allowed = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "b"}}]}
    assert choice_of({"type": "allowed_tools", "allowed_tools": allowed}, tools) == ("auto", (Tool("b"),))
    assert format_of({"type": "text"}) is None
    assert format_of({"type": "json_object"}).value == {"type": "object"}
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "string"}}}
    assert format_of(schema).value == {"type": "string"}


def test_whole_and_streamed_replies_hold_the_same():
    whole = chat_reply("m", [answer()], None)["choices"][0]
    assert whole["message"]["content"] == "So be it"
    assert whole["message"]["reasoning"] == whole["message"]["reasoning_content"] == "Hm."
    assert whole["message"]["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"at": "sky"}'}
    text = b"".join(
        [(e := ChatEncoder("m", 1, True)).opening(3), e.encode(0, EVENTS), e.closing(answer().usage)]
    ).decode()
    assert text.endswith("data: [DONE]\n\n")
    assert text.count('"name":"look"') == text.count('"id":"call_1"') == 1
    message = message_reply("m", answer())
    assert [block["type"] for block in message["content"]] == ["thinking", "text", "tool_use"]
    assert message["usage"]["input_tokens"] == 6
    events = MessageEncoder("m")
    kinds = events.encode(0, EVENTS).decode() + events.closing(answer().usage).decode()
    assert kinds.count("content_block_start\n") == kinds.count("content_block_stop\n") == 3
    lines = LineEncoder("m", is_chat=True)
    (call,) = lines.whole(answer())["message"]["tool_calls"]
    assert call["function"]["arguments"] == {"at": "sky"}
    assert lines.encode(0, EVENTS).count(b"\n") == 4
    assert lines.failure(Refusal(500, "no")) == b'{"error":"no"}\n'


def test_a_call_cut_short_has_no_arguments():
    cut = answer([*EVENTS[:4], Done("length", cause=Cause("spent_without_text", "all spent"))])
    assert whole_arguments(cut.calls[0]) is None
    assert [block["type"] for block in message_reply("m", cut)["content"]] == ["thinking", "text"]
    assert chat_reply("m", [cut], None)["choices"][0]["cause"]["code"] == "spent_without_text"
    assert together([Usage(5, 1, 2), Usage(5, 1, 3)]).completion_tokens == 5


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InputError("top_p = 2 is out of range"), 400, "invalid_value"),
        (ContextError("the prompt of 9 tokens needs room"), 400, "context_length_exceeded"),
        (CeilingError("no memory for a prompt of 9 tokens"), 413, "memory_exceeded"),
        (CapacityError("no pages left"), 503, "no_capacity"),
        (BackendError("broken"), 500, "model_failed"),
        (ValueError("secret"), 500, "internal_error"),
    ],
)
def test_refusals(error, status, code):
    refusal = refusal_of(error)
    assert (refusal.status, refusal.code) == (status, code)
    assert "secret" not in str(body_of(refusal, "openai"))
    assert body_of(refusal, "anthropic")["type"] == "error"


def test_dialects():
    assert [dialect_of(p) for p in ("/v1/x", "/v1/messages", "/api/chat")] == [
        "openai",
        "anthropic",
        "ollama",
    ]


def test_a_place_can_be_taken_once():
    first = listen("127.0.0.1", 0)
    first.socket.listen()
    port = int(first.url.rpartition(":")[2])
    with first.socket, pytest.raises(ConfigError, match="--port"):
        listen("127.0.0.1", port)
    with pytest.raises(ConfigError, match="no server answers"):
        ask("GET", "/", "127.0.0.1", port, None)
    assert callable(status_of)
    assert Metrics.__doc__
