"""`gemstead run`: what goes to which stream, and the JSON form."""

from __future__ import annotations

import io
import json
import sys

import pytest

import gemstead
from gemstead.cli.main import main
from gemstead.errors import GemsteadError, WeightsError
from gemstead.types import Cause, Done, Failed, ParseNote, TextDelta, ThoughtDelta, ToolCall, ToolCallEvent


def test_the_answer_alone_is_on_stdout(gem, fake, script):
    model = fake(script.calls("calculator", expression="17% of 2400"), script.says("17% of 2400 ", "is 408."))
    ran = gem("run", "What is 17% of 2400?")
    assert (ran.code, ran.out) == (0, "17% of 2400 is 408.\n")
    assert ran.err.splitlines() == [
        "using pebble, the small model that comes with gemstead; name another with -m MODEL",
        "→ calculator(expression: 17% of 2400) = 408",
    ]
    assert model.asked[1]["messages"][-1].content == "408"
    assert model.is_closed


def test_an_explicit_model_needs_no_notice(gem, fake, script):
    model = fake(script.says("hi"))
    ran = gem("run", "pebble", "hello", "there")
    assert (ran.out, ran.err) == ("hi\n", "")
    assert model.asked[0]["messages"][-1].content == "hello there"


def test_a_pipe_gets_the_bytes_of_the_model(gem, fake, script):
    fake(script.says("a\x1b[1mb\n"))
    assert gem("run", "-m", "pebble", "hi").out == "a\x1b[1mb\n"


@pytest.mark.parametrize(
    ("args", "stdin", "prompt"),
    [
        ([], "from a pipe\n", "from a pipe"),
        (["-"], "from a pipe", "from a pipe"),
        (["Summarise:", "-"], "line 1\nline 2\n", "Summarise: \nline 1\nline 2"),
        (["just this"], "not read", "just this"),
    ],
)
def test_where_the_prompt_comes_from(gem, fake, script, args, stdin, prompt):
    model = fake(script.says("ok"))
    assert gem("run", "-m", "pebble", *args, stdin=stdin).code == 0
    assert model.asked[0]["messages"][-1].content == prompt


@pytest.mark.parametrize("stdin", ["", "  \n"])
def test_an_empty_prompt_is_wrong_usage(gem, fake, stdin):
    model = fake()
    ran = gem("run", stdin=stdin)
    assert ran.code == 2
    assert "the prompt is empty" in ran.err
    assert model.opened == []


def test_a_pipe_that_is_no_text(gem, fake):
    fake()
    ran = gem("run", stdin=b"\xff\xfe")
    assert ran.code == 1
    assert "error: standard input is not UTF-8 text: byte 0 is 0xff" in ran.err


def test_thoughts_go_to_stderr(gem, fake):
    fake([ThoughtDelta("hm, "), ThoughtDelta("yes"), TextDelta("Yes."), Done("stop")])
    ran = gem("run", "-m", "pebble", "--thinking", "on", "sure?")
    assert (ran.out, ran.err) == ("Yes.\n", "hm, yes\n")


def test_json(gem, fake, script):
    call = ToolCallEvent(ToolCall("calculator", {"expression": "1/0"}, "call_9"))
    fake(
        [ThoughtDelta("count"), TextDelta("Let me see."), call, Done("tool_calls")],
        script.says("No such number."),
    )
    ran = gem("run", "--json", "-m", "pebble", "1/0?")
    assert ran.err == ""
    data = json.loads(ran.out)
    usage = data.pop("usage")
    assert usage["completion_tokens"] == 12
    assert data == {
        "model": "pebble",
        "text": "No such number.",
        "reasoning": "count",
        "tool_calls": [
            {
                "id": "call_9",
                "name": "calculator",
                "arguments": {"expression": "1/0"},
                "result": "error: division by zero",
                "ok": False,
            }
        ],
        "finish_reason": "stop",
        "cause": None,
    }


def test_json_of_a_failure_is_an_error(gem, fake):
    fake([TextDelta("half"), Failed(GemsteadError("the backend broke"))])
    ran = gem("run", "--json", "hi")
    assert (ran.code, ran.out) == (1, "")
    assert "error: the backend broke" in ran.err


def test_a_failure_after_some_text(gem, fake):
    fake([TextDelta("half"), Failed(GemsteadError("the backend broke"))])
    ran = gem("run", "-m", "pebble", "hi")
    assert (ran.code, ran.out, ran.err) == (1, "half\n", "error: the backend broke\n")


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([TextDelta("one two"), Done("length")], "the answer was cut off"),
        ([Done("stop")], "the model wrote no text"),
        ([Done("stop", cause=Cause("ended_at_once", "nothing"))], "the model wrote no text: nothing"),
        ([Done("length", cause=Cause("spent_thinking", "all spent"))], "the model wrote no text: all spent"),
        ([TextDelta("ha ha"), Done("length", cause=Cause("token_loop", "a loop"))], "a loop"),
        ([ParseNote("a call without its end"), TextDelta("x"), Done("stop")], "note: a call without its end"),
    ],
)
def test_odd_ends_are_said(gem, fake, events, said):
    fake(events)
    ran = gem("run", "hi")
    assert ran.code == 0
    assert said in ran.err


def test_a_word_taken_for_the_model_is_said(gem, monkeypatch, tmp_path):
    def broken(path, **_):
        raise WeightsError(f"{path} holds no model")

    monkeypatch.setitem(vars(gemstead), "open", broken)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    assert "was taken as the model" in gem("run", "docs", "please").err
    assert "was taken as the model" not in gem("run", "-m", "docs", "please").err


def test_a_terminal_without_a_prompt_is_told_what_to_write(fake, monkeypatch):
    fake()
    stdin = io.StringIO()
    stdin.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["run"]) == 2
