"""The agent turn: tools run, errors become results, one terminal event, history extended once."""

from collections.abc import Iterator

from gemstead.agent.loop import ToolResult, run_turns
from gemstead.agent.tools import BUILT_IN
from gemstead.errors import BackendError
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
