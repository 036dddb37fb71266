"""The agent turn: ask, run the tools the model called, tell it the results, until it just answers.

Takes any function from messages to events (Model.chat, an API client, a test); knows no model. A
tool that fails, is unknown or is called wrongly becomes a result the model can read, never an
exception. One terminal event ends the turn, as it ends a request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeAlias

from gemstead.errors import GemsteadError
from gemstead.types import (
    Cause,
    Done,
    Event,
    Failed,
    Json,
    Message,
    TextDelta,
    ThoughtDelta,
    Tool,
    ToolCall,
    ToolCallEvent,
    Usage,
)

# The same call, with the same arguments, this many times in a row ends a turn: a model may try again, poll
# or throw dice a few times, but seldom asks a fourth time unless it is stuck.
MAX_SAME_CALLS = 4


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gave back; `ok` is False where `result` is the text of an error."""

    call: ToolCall
    result: Json
    ok: bool = True


TurnEvent: TypeAlias = Event | ToolResult


@dataclass
class _Round:
    """What one request brought; `end` has the usage of the whole turn up to it."""

    end: Done | Failed
    text: str = ""
    thought: str = ""
    calls: tuple[ToolCall, ...] = ()

    def close(self, said: list[Message], messages: list[Message]) -> Done | Failed:
        """The end of the turn with this request: `messages` gets what was said, unless it failed."""
        if isinstance(self.end, Done):
            messages[:] = [*said, Message.assistant(self.text, reasoning=self.thought or None)]
        return self.end


def run_turns(
    chat: Callable[[list[Message]], Iterator[Event]],
    messages: list[Message],
    tools: Sequence[Tool],
    max_rounds: int = 8,
    max_same_calls: int = MAX_SAME_CALLS,
    closing: Callable[[list[Message]], Iterator[Event]] | None = None,
) -> Iterator[TurnEvent]:
    """Yield the events of a whole turn, tool results among them, then one Done or Failed.

    `messages` is the conversation so far; when the turn ends in Done it is extended in place by what
    was said and called. After `max_rounds` requests that all called tools the turn ends with a cause; so it
    does when the model makes the same call `max_same_calls` times in a row (0: however often), the last of
    which is not run. Where `closing` is given it is asked then, once, instead, and already when a request
    calls what the one before it called: it should offer no tools, and what it says is the answer.
    """
    said = list(messages)
    same = _SameCalls(max_same_calls)
    usage, called = Usage(), [("", "")]
    for _ in range(max_rounds):
        this = yield from _ask(chat, said, usage)
        end, usage = this.end, this.end.usage
        if isinstance(end, Failed) or not this.calls or end.reason not in ("tool_calls", "stop"):
            yield this.close(said, messages)
            return
        if closing is not None and called == (called := [_spelled(call) for call in this.calls]):
            break  # it goes round and round, and whoever waits wants an answer
        # Text before a call stays out of the history: the template would place it after the results.
        said.append(Message.assistant(reasoning=this.thought or None, tool_calls=this.calls))
        for call in this.calls:
            same.see(call)
            outcome = same.refusal(call) if same.cause else call_tool(call, tools)
            said.append(Message.tool(outcome.result, call=call))
            yield outcome
        if same.cause:
            break
    if closing is not None:
        this = yield from _ask(closing, said, usage)
        yield this.close(said, messages)
        return
    messages[:] = said
    too_many = Cause("too_many_rounds", f"stopped after {max_rounds} rounds of tool calls")
    yield Done("tool_calls", usage, same.cause or too_many)


@dataclass
class _SameCalls:
    """Counts equal calls in a row; `cause` is set once there were `most`, and stays."""

    most: int
    count: int = 0
    last: ToolCall | None = None
    cause: Cause | None = None

    def see(self, call: ToolCall) -> None:
        """One more call; the id is no part of what it says."""
        last = self.last
        is_same = last is not None and _spelled(last) == _spelled(call)
        self.count, self.last = self.count + 1 if is_same else 1, call
        if self.most and self.count >= self.most and self.cause is None:
            message = f"stopped: {call.name} was called {self.count} times in a row with the same arguments"
            self.cause = Cause("repeated_call", message)

    def refusal(self, call: ToolCall) -> ToolResult:
        """The result of a call that is not run: every call in the history has one."""
        return ToolResult(call, f"error: not run; the same call came {self.most} times in a row", ok=False)


def _spelled(call: ToolCall) -> tuple[str, str]:
    """A call as text, so that True is not 1 and the order of the arguments does not matter."""
    return call.name, json.dumps(dict(call.arguments), sort_keys=True)


def _ask(
    chat: Callable[[list[Message]], Iterator[Event]], said: list[Message], before: Usage
) -> Generator[Event, None, _Round]:
    """Pass on a request's events but the last; what they said, after requests that cost `before`."""
    this = _Round(Failed(GemsteadError("the request ended without a final event")))
    for event in chat(list(said)):
        if isinstance(event, Done | Failed):
            this.end = event
            break
        if isinstance(event, TextDelta):
            this.text += event.text
        elif isinstance(event, ThoughtDelta):
            this.thought += event.text
        elif isinstance(event, ToolCallEvent):
            this.calls += (event.call,)
        yield event
    this.end = replace(this.end, usage=add_usage(before, this.end.usage))
    return this


def call_tool(call: ToolCall, tools: Sequence[Tool]) -> ToolResult:
    """Run one call; anything that goes wrong becomes a result that starts with 'error: '."""
    tool = next((tool for tool in tools if tool.name == call.name), None)
    if tool is None or tool.function is None:
        known = ", ".join(t.name for t in tools if t.function) or "none"
        return ToolResult(call, f"error: there is no tool {call.name!r}; available: {known}", ok=False)
    problem = _argument_problem(call, tool)
    if problem:
        return ToolResult(call, f"error: {problem}", ok=False)
    try:
        return ToolResult(call, tool.function(**call.arguments))
    except Exception as error:  # whatever a tool raises is the model's to read, not ours to die of
        return ToolResult(call, f"error: {str(error) or type(error).__name__}", ok=False)


def _argument_problem(call: ToolCall, tool: Tool) -> str:
    """Why the arguments cannot be passed on, or ''."""
    declared = tool.parameters.get("properties", {})
    unknown = sorted(set(call.arguments) - set(declared))
    missing = [name for name in tool.parameters.get("required", ()) if name not in call.arguments]
    if not unknown and not missing:
        return ""
    found = [f"unknown {', '.join(unknown)}"] if unknown else []
    found += [f"missing {', '.join(missing)}"] if missing else []
    return f"{tool.name} was called with {' and '.join(found)}; its arguments are {', '.join(declared)}"


def add_usage(a: Usage, b: Usage) -> Usage:
    """The sum of two requests' counts and times."""
    return Usage(*(getattr(a, f.name) + getattr(b, f.name) for f in fields(Usage)))
