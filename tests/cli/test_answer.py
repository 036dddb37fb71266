"""Playing a turn: what is kept, what is shown, stopping."""

from __future__ import annotations

import pytest

from gemstead.agent.loop import ToolResult
from gemstead.cli.answer import MAX_SHOWN, Viewer, describe, ending, one_line, speed
from gemstead.cli.screen import Screen
from gemstead.types import (
    Cause,
    Done,
    Failed,
    ParseNote,
    TextDelta,
    ThoughtDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallEvent,
    Usage,
)

CALL = ToolCall("calculator", {"expression": "6*7"}, "c1")
TURN = [
    ThoughtDelta("count"),
    TextDelta("Let me see."),
    ToolCallEvent(CALL),
    ToolResult(CALL, "42"),
    TextDelta("It is "),
    TextDelta("42."),
    Done("stop"),
]


def test_text_before_a_call_is_shown_but_is_not_the_answer(capsys):
    answer = Viewer(Screen()).play(TURN)
    assert (answer.text, answer.reasoning, answer.calls) == ("It is 42.", "count\n", [CALL])
    assert capsys.readouterr().out == "Let me see.\nIt is 42.\n"


def test_silence(capsys):
    Viewer(Screen(), silent=True).play(TURN)
    assert capsys.readouterr() == ("", "")


def test_a_call_that_is_being_written_is_no_end(capsys):
    pieces = [ToolCallDelta(0, "c1", "calculator"), ToolCallDelta(0, "c1", "calculator", '{"expression": ')]
    answer = Viewer(Screen()).play([ThoughtDelta("hm"), TextDelta("So:"), *pieces, Done("length")])
    assert (answer.text, answer.calls) == ("So:", [])
    assert answer.end == Done("length")
    assert capsys.readouterr().out == "So:\n"


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([TextDelta("a"), Done("stop")], None),
        ([Done("cancelled", cause=Cause("cancelled", "x"))], None),
        ([TextDelta("a"), Done("length")], "the answer was cut off: max_tokens or the context was reached"),
        ([TextDelta(" "), Done("stop", cause=Cause("ended_at_once", "no"))], "the model wrote no text: no"),
        ([TextDelta("a"), Done("length", cause=Cause("token_loop", "a loop"))], "a loop"),
        ([Done("tool_calls", cause=Cause("repeated_call", "again"))], "again"),
        ([Failed(ValueError())], None),
    ],
)
def test_how_it_ended(events, said):
    assert ending(Viewer(Screen(), silent=True).play(events), "max_tokens") == said


@pytest.mark.parametrize("count", range(1, len(TURN)))
def test_stop_leaves_after_any_event(capsys, count):
    seen = []

    def events():
        for event in TURN:
            seen.append(event)
            yield event

    answer = Viewer(Screen()).play(events(), lambda: len(seen) == count)
    assert len(seen) == count
    assert answer.end is None
    out, err = capsys.readouterr()
    assert all(stream == "" or stream.endswith("\n") for stream in (out, err))


def test_an_exception_ends_the_line(capsys):
    def events():
        yield TextDelta("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        Viewer(Screen()).play(events())
    assert capsys.readouterr().out == "half\n"


def test_notes_come_after_the_answer_and_once(capsys):
    note = ParseNote("a stray token")
    Viewer(Screen()).play([TextDelta("a"), note, note, TextDelta("b"), Done("stop")])
    assert capsys.readouterr() == ("ab\n", "note: a stray token\n")


def test_a_call_on_one_line():
    call = ToolCall("f", {"a": "x\ny", "b": [1, 2], "c": None})
    assert describe(ToolResult(call, "line\n line")) == "→ f(a: x y, b: [1, 2], c: None) = line line"
    assert len(one_line("x" * 1000)) == MAX_SHOWN


def test_speed():
    usage = Usage(prompt_tokens=312, completion_tokens=24, cached_tokens=100, prefill_s=0.42, decode_s=0.3)
    assert (
        speed(usage) == "24 tokens at 80.0 per second, after 312 prompt tokens (100 known already) in 0.42 s"
    )
    assert speed(Usage()) == "0 tokens, after 0 prompt tokens in 0.00 s"
