"""The chat, driven through a pipe; test_keyboard.py drives it on a terminal."""

from __future__ import annotations

import pytest

from gemstead.errors import CapacityError
from gemstead.types import Done, Failed, TextDelta, ThoughtDelta


def test_a_conversation_remembers(gem, fake, script):
    model = fake(script.says("Hello."), script.says("You said hi."))
    ran = gem("chat", stdin="hi\nwhat did I say?\n")
    assert (ran.code, ran.out) == (0, "Hello.\nYou said hi.\n")
    said = [(message.role, message.content) for message in model.asked[1]["messages"]]
    assert said == [("user", "hi"), ("assistant", "Hello."), ("user", "what did I say?")]
    assert "/help lists the commands" in ran.err


def test_tools_are_shown_as_they_are_called(gem, fake, script):
    model = fake(script.calls("calculator", expression="6*7"), script.says("42."), script.says("Yes."))
    ran = gem("chat", "pebble", stdin="6*7?\nsure?\n")
    assert "→ calculator(expression: 6*7) = 42" in ran.err
    assert [message.role for message in model.asked[2]["messages"]] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]


def test_several_lines_between_quotes(gem, fake, script):
    model = fake(script.says("ok"), script.says("ok"), script.says("ok"))
    gem("chat", stdin='"""one\ntwo\n\nthree"""\n"""\nfour\n"""\n"""five')
    assert [asked["messages"][-1].content for asked in model.asked] == ["one\ntwo\n\nthree", "four", "five"]


def test_empty_lines_ask_nothing(gem, fake):
    model = fake()
    assert gem("chat", stdin="\n   \n").code == 0
    assert model.asked == []


def test_bye_leaves(gem, fake):
    model = fake()
    assert gem("chat", stdin="/bye\nhello\n").code == 0
    assert model.asked == []
    assert model.is_closed


def test_help_lists_the_commands(gem, fake):
    fake()
    err = gem("chat", stdin="/help\n").err
    for command in (
        "/clear",
        "/save FILE",
        "/load FILE",
        "/set NAME VALUE",
        "/show",
        "/bye",
        '"""',
        "Ctrl-C",
    ):
        assert command in err


def test_clear_forgets(gem, fake, script):
    model = fake(script.says("a"), script.says("b"))
    gem("chat", "--system", "Be brief.", stdin="one\n/clear\ntwo\n")
    assert [message.content for message in model.asked[1]["messages"]] == ["Be brief.", "two"]


def test_set_reaches_the_model(gem, fake, script):
    model = fake(script.says("a"))
    ran = gem(
        "chat", stdin="/set temperature 0\n/set thinking on\n/set tools off\n/set system Rhyme.\nhi\n/set\n"
    )
    asked = model.asked[0]
    assert (asked["temperature"], asked["thinking"], asked["tools"]) == (0.0, True, ())
    assert asked["messages"][0].content == "Rhyme."
    assert "temperature = 0.0" in ran.err
    assert "max_tokens" in ran.err


def test_save_and_load(gem, fake, script, tmp_path):
    path = tmp_path / "talk.json"
    model = fake(script.says("a"), script.says("b"))
    ran = gem("chat", stdin=f"one\n/save {path}\n/clear\n/load {path}\ntwo\n")
    assert f"saved 2 messages to {path}" in ran.err
    assert len(model.asked[1]["messages"]) == 3


def test_show(gem, fake):
    fake()
    err = gem("chat", "--seed", "5", stdin="/show\n").err
    assert "model  tiny-e2b" in err
    assert "0 messages" in err
    assert "seed = 5" in err
    assert "temperature = default" in err


def test_thoughts_fold(gem, fake):
    fake([ThoughtDelta("one two "), ThoughtDelta("three"), TextDelta("Yes."), Done("stop")])
    ran = gem("chat", stdin="/set fold on\nsure?\n/thought\n")
    assert ran.out == "Yes.\n"
    assert "▸ thought: 3 words" in ran.err
    assert ran.err.splitlines()[-1] == "one two three"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/hepl", "there is no command /hepl; /help lists them"),
        ("/save", "write /save FILE"),
        ("/load /no/such/file", "no such file"),
        ("/set temperature", "write /set temperature VALUE"),
        ("/set heat 3", "there is no setting 'heat'"),
        ("/save /no/such/folder/x", "no such file"),
    ],
)
def test_a_wrong_command_does_not_end_the_chat(gem, fake, script, line, said):
    fake(script.says("still here"))
    ran = gem("chat", stdin=f"{line}\nhi\n")
    assert (ran.code, ran.out) == (0, "still here\n")
    assert f"error: {said}" in ran.err or said in ran.err


def test_a_path_is_a_message(gem, fake, script):
    model = fake(script.says("a folder"))
    gem("chat", stdin="/usr/bin is what?\n")
    assert model.asked[0]["messages"][-1].content == "/usr/bin is what?"


def test_a_failed_turn_leaves_no_trace(gem, fake, script):
    model = fake([TextDelta("ha"), Failed(CapacityError("the context is full"))], script.says("fine"))
    ran = gem("chat", stdin="one\ntwo\n")
    assert (ran.code, ran.out) == (0, "ha\nfine\n")
    assert "error: the context is full\nhint: /clear" in ran.err
    assert [message.content for message in model.asked[1]["messages"]] == ["two"]


def test_a_bug_ends_the_chat_with_one_line(gem, fake):
    fake([TextDelta("ha"), ValueError("inner")])
    ran = gem("chat", stdin="one\ntwo\n")
    assert ran.code == 1
    assert "a bug in gemstead: ValueError: inner" in ran.err


def test_ctrl_c_ends_a_chat_from_a_pipe(gem, fake, script):
    fake([TextDelta("ha"), KeyboardInterrupt()], script.says("not reached"))
    ran = gem("chat", stdin="one\ntwo\n")
    assert (ran.code, ran.out) == (130, "ha\n")


def test_a_prompt_is_wrong_usage(gem, fake):
    fake()
    ran = gem("chat", "pebble", "hello")
    assert ran.code == 2
    assert "'hello' is not a model here" in ran.err


def test_settings_of_thought_and_guards_reach_the_model(gem, fake, script, tmp_path):
    """Set in one chat, saved, loaded in another: the same requests."""
    file = tmp_path / "talk.json"
    settings = "/set thinking 64\n/set loop_guard 0\n/set max_same_calls 2\n"
    model = fake(script.calls("calculator", expression="1"), script.calls("calculator", expression="1"))
    ran = gem("chat", stdin=f"{settings}hi\n/save {file}\n/show\n")
    assert [(a["thinking"], a["loop_guard"]) for a in model.asked] == [(64, 0)] * 2
    assert "stopped: calculator was called 2 times in a row" in ran.err
    assert "thinking = 64" in ran.err
    model = fake(script.says("ok"))
    gem("chat", stdin=f"/load {file}\nhi\n")
    assert (model.asked[0]["thinking"], model.asked[0]["loop_guard"]) == (64, 0)
    model = fake(script.says("ok"))
    gem("chat", "--thinking", "low", stdin="hi\n/set thinking maybe\n")
    assert model.asked[0]["thinking"] == "low"
