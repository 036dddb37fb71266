"""The agent turn: tools run, errors become results, one terminal event, history extended once."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemstead.agent.loop import MAX_SAME_CALLS, ToolResult, run_turns
from gemstead.agent.tools import BUILT_IN
from gemstead.errors import BackendError, GemsteadError
from gemstead.types import (
    Cause,
    Done,
    Event,
    Failed,
    Message,
    TextDelta,
    ThoughtDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallEvent,
    Usage,
)


class Script:
    """A chat function that plays prepared rounds and keeps what it was asked."""

    def __init__(self, *rounds: list[Event]) -> None:
        self.rounds = list(rounds)
        self.asked: list[list[Message]] = []

    def __call__(self, messages: list[Message]) -> Iterator[Event]:
        self.asked.append(messages)
        yield from self.rounds.pop(0)


def call(name: str, **arguments: object) -> list[Event]:
    made = ToolCall(name, arguments, id="call_1")  # type: ignore[arg-type]
    return [ToolCallEvent(made), Done("tool_calls", Usage(prompt_tokens=3, completion_tokens=2))]


def answer(text: str) -> list[Event]:
    return [TextDelta(text), Done("stop", Usage(prompt_tokens=5, completion_tokens=1))]


def test_a_call_is_run_and_its_result_told() -> None:
    script = Script([ThoughtDelta("sum"), *call("calculator", expression="2 + 2")], answer("4."))
    messages = [Message.user("2+2?")]
    events = list(run_turns(script, messages, BUILT_IN))
    assert [e.result for e in events if isinstance(e, ToolResult)] == ["4"]
    assert events[-1] == Done("stop", Usage(prompt_tokens=8, completion_tokens=3))
    assert sum(isinstance(e, Done | Failed) for e in events) == 1
    assert [m.role for m in messages] == ["user", "assistant", "tool", "assistant"]
    assert messages[1].reasoning == "sum"
    assert messages[2].content == "4"
    assert messages[2].tool_call_id == "call_1"
    assert messages[3].content == "4."
    assert [len(m) for m in script.asked] == [1, 3]


def test_errors_become_results() -> None:
    def broken() -> str:
        raise ZeroDivisionError

    tools = (*BUILT_IN, Tool("broken", function=broken), Tool("elsewhere"))
    rounds = [
        call("nothing"),
        call("calculator", expression="1/0"),
        call("calculator", expr="1"),
        call("broken"),
        call("elsewhere"),
    ]
    events = list(run_turns(Script(*rounds, answer("Sorry.")), [Message.user("x")], tools))
    results = [e for e in events if isinstance(e, ToolResult)]
    assert not any(r.ok for r in results)
    assert [str(r.result) for r in results] == [
        "error: there is no tool 'nothing'; available: calculator, convert_units, date_math, broken",
        "error: division by zero",
        "error: calculator was called with unknown expr and missing expression; its arguments are expression",
        "error: ZeroDivisionError",
        "error: there is no tool 'elsewhere'; available: calculator, convert_units, date_math, broken",
    ]
    assert events[-1].reason == "stop"  # type: ignore[union-attr]


def test_two_calls_in_one_round_keep_their_order() -> None:
    first = ToolCall("calculator", {"expression": "1 + 1"}, "a")
    second = ToolCall("calculator", {"expression": "2 + 2"}, "b")
    script = Script([ToolCallEvent(first), ToolCallEvent(second), Done("tool_calls")], answer("2 and 4."))
    messages = [Message.user("x")]
    list(run_turns(script, messages, BUILT_IN))
    assert [(m.tool_call_id, m.content) for m in messages[2:4]] == [("a", "2"), ("b", "4")]


def test_rounds_are_limited() -> None:
    script = Script(*(call("calculator", expression="1") for _ in range(3)))
    messages = [Message.user("x")]
    end = list(run_turns(script, messages, BUILT_IN, max_rounds=3))[-1]
    assert isinstance(end, Done)
    assert end.cause == Cause("too_many_rounds", "stopped after 3 rounds of tool calls")
    assert len(messages) == 7


def counting() -> tuple[Tool, list[object]]:
    """A tool with a memory of its calls."""
    seen: list[object] = []

    def note(x: object) -> str:
        seen.append(x)
        return str(len(seen))

    return Tool("note", parameters={"properties": {"x": {}, "y": {}}}, function=note), seen


@pytest.mark.parametrize("most", [1, 2, 4])
def test_the_same_call_again_and_again_ends_the_turn(most: int) -> None:
    tool, seen = counting()
    script = Script(*(call("note", x=1) for _ in range(8)))
    messages = [Message.user("x")]
    events = list(run_turns(script, messages, (tool,), max_same_calls=most))
    end = events[-1]
    assert isinstance(end, Done)
    assert end.reason == "tool_calls"
    assert end.cause is not None
    assert end.cause.code == "repeated_call"
    assert f"note was called {most} times in a row" in end.cause.message
    assert len(seen) == most - 1
    assert [e.ok for e in events if isinstance(e, ToolResult)] == [True] * (most - 1) + [False]
    assert len(script.asked) == most
    assert [m.role for m in messages[-2:]] == ["assistant", "tool"]
    assert sum(isinstance(e, Done | Failed) for e in events) == 1


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([1, True, 1.0, "1", [1], None]), min_size=1, max_size=3), max_size=7),
    st.integers(0, 4),
)
def test_only_equal_calls_in_a_row_count(rounds: list[list[object]], most: int) -> None:
    """Calls of one round and of several count alike; True is not 1. The first run of `most` ends it."""
    made = [[ToolCall("note", {"x": x}, f"{i}{k}") for k, x in enumerate(r)] for i, r in enumerate(rounds)]
    script = Script(*([*map(ToolCallEvent, calls), Done("tool_calls")] for calls in made), answer("ok"))
    tool, seen = counting()
    messages = [Message.user("x")]
    events = list(run_turns(script, messages, (tool,), max_rounds=9, max_same_calls=most))
    flat = [repr(x) for r in rounds for x in r]
    ends = [n for n in range(most, len(flat) + 1) if most and len(set(flat[n - most : n])) == 1]
    assert len(seen) == (ends[0] - 1 if ends else len(flat))
    end = events[-1]
    assert isinstance(end, Done)
    assert (end.cause is not None and end.cause.code == "repeated_call") == bool(ends)
    asked = [c.id for m in messages for c in m.tool_calls]
    assert [m.tool_call_id for m in messages if m.role == "tool"] == asked  # every call has its result


def test_the_order_of_arguments_does_not_matter_and_the_default_holds() -> None:
    tool, _ = counting()
    rounds = [call("note", **dict(pairs)) for pairs in [(("x", 1), ("y", 2)), (("y", 2), ("x", 1))] * 4]
    script = Script(*rounds)
    end = list(run_turns(script, [Message.user("x")], (tool,)))[-1]
    assert isinstance(end, Done)
    assert end.cause is not None
    assert end.cause.code == "repeated_call"
    assert len(script.asked) == MAX_SAME_CALLS


def test_pieces_of_calls_pass_through() -> None:
    made = ToolCall("note", {"x": 1}, "a")
    piece = ToolCallDelta(0, "a", "note", '{"x": 1}')
    script = Script([piece, ToolCallEvent(made), Done("tool_calls")], answer("ok"))
    tool, seen = counting()
    events = list(run_turns(script, [Message.user("x")], (tool,)))
    assert events[:2] == [piece, ToolCallEvent(made)]
    assert seen == [1]


def test_a_failure_ends_the_turn_and_leaves_the_history() -> None:
    error = BackendError("gone")
    messages = [Message.user("x")]
    events = list(run_turns(Script([TextDelta("a"), Failed(error)]), messages, BUILT_IN))
    assert [type(e) for e in events] == [TextDelta, Failed]
    assert messages == [Message.user("x")]


def test_a_cut_answer_does_not_run_its_calls() -> None:
    made = ToolCall("calculator", {"expression": "1"}, "a")
    script = Script([ToolCallEvent(made), Done("length")])
    events = list(run_turns(script, [Message.user("x")], BUILT_IN))
    assert not any(isinstance(e, ToolResult) for e in events)
    assert isinstance(events[-1], Done)
    assert events[-1].reason == "length"


def test_where_calls_alone_would_end_it_the_closing_request_answers() -> None:
    tool, _ = counting()
    rounds = call("note", x=1), call("note", x=2)
    closing, messages = Script(answer("408")), [Message.user("x")]
    events = list(run_turns(Script(*rounds), messages, (tool,), max_rounds=2, closing=closing))
    assert events[-2:] == [TextDelta("408"), Done("stop", Usage(prompt_tokens=11, completion_tokens=5))]
    assert [m.role for m in messages] == ["user", *["assistant", "tool"] * 2, "assistant"]
    assert closing.asked == [messages[:-1]]
    error = Failed(GemsteadError("no"), Usage(prompt_tokens=1))
    asked = [Message.user("x")]
    failing = run_turns(Script(*rounds), asked, (tool,), max_rounds=2, closing=Script([error]))
    assert list(failing)[-1] == Failed(error.error, Usage(prompt_tokens=7, completion_tokens=4))
    assert len(asked) == 1


def test_a_request_that_calls_the_same_again_is_closed_and_not_run() -> None:
    tool, seen = counting()
    script, closing = Script(*[call("note", x=1)] * 2), Script(answer("408"))
    messages = [Message.user("x")]
    events = list(run_turns(script, messages, (tool,), closing=closing))
    assert events[-2:] == [TextDelta("408"), Done("stop", Usage(prompt_tokens=11, completion_tokens=5))]
    assert [m.role for m in messages] == ["user", "assistant", "tool", "assistant"]
    assert len(seen) == 1
