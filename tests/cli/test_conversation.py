"""A chat's memory: settings, and saving and loading."""

from __future__ import annotations

import json

import pytest

from gemstead.cli.conversation import SETTINGS, Conversation
from gemstead.errors import InputError
from gemstead.types import Message, ToolCall


def test_settings():
    talk = Conversation()
    for name, text, value in [
        ("temperature", "0.2", 0.2),
        ("top_k", "5", 5),
        ("thinking", "on", True),
        ("max_same_calls", "0", 0),
        ("tools", "OFF", False),
        ("system", "Be brief, please.", "Be brief, please."),
        ("fold", "on", True),
    ]:
        talk.set(name, text)
        assert talk.value(name) == value
    assert talk.sampling == {"temperature": 0.2, "top_k": 5}
    assert talk.offered_tools == ()
    talk.set("temperature", "default")
    talk.set("tools", "default")
    talk.set("system", "default")
    assert talk.sampling == {"top_k": 5}
    assert (talk.tools, talk.system) == (True, None)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("temprature", "1", "there is no setting 'temprature'; allowed are temperature, "),
        ("temperature", "hot", "temperature = 'hot' is not possible; allowed is a number from 0"),
        ("temperature", "-1", "out of range"),
        ("top_k", "1.5", "allowed is a whole number"),
        ("thinking", "yes", "allowed is on, off, a number of tokens, none, "),
        ("max_same_calls", "-1", "allowed is a whole number"),
        ("loop_guard", "-1", "out of range"),
    ],
)
def test_a_wrong_setting_changes_nothing(name, text, said):
    talk = Conversation()
    with pytest.raises(InputError, match=said):
        talk.set(name, text)
    assert talk == Conversation()


def full() -> Conversation:
    call = ToolCall("calculator", {"expression": "6*7"}, "call_1")
    return Conversation(
        messages=[
            Message.user("6*7?\n«ü»"),
            Message.assistant(reasoning="count", tool_calls=(call,)),
            Message.tool("42", call=call),
            Message.assistant("42."),
        ],
        sampling={"seed": 3, "temperature": 0.0},
        system="Be brief.",
        thinking=True,
        fold=True,
    )


def test_save_and_load_is_the_identity(tmp_path):
    path = tmp_path / "talk.json"
    full().save(path, "pebble")
    assert Conversation.load(path) == full()
    assert [file.name for file in tmp_path.iterdir()] == ["talk.json"]


def test_a_failed_save_keeps_the_old_file(tmp_path):
    path = tmp_path / "talk.json"
    full().save(path, "pebble")
    before = path.read_bytes()
    broken = Conversation(messages=[Message("tool", object())])  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        broken.save(path, "pebble")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(format="other"), "not a saved chat"),
        (lambda d: d.update(version=2), "has version 2; this gemstead reads 1"),
        (lambda d: d.pop("messages"), "damaged chat"),
        (lambda d: d.update(messages=5), "damaged chat"),
        (lambda d: d["messages"].append({"role": "wizard", "content": ""}), "wizard"),
        (lambda d: d["messages"].append({"role": "user", "content": 5}), "must be text"),
        (lambda d: d["messages"].append("hello"), "damaged chat"),
        (lambda d: d["settings"].update(temperature="hot"), "temperature"),
        (lambda d: d["settings"].update(magic=1), "there is no setting 'magic'"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change, said):
    path = tmp_path / "talk.json"
    full().save(path, "pebble")
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match=said):
        Conversation.load(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xff", b"[]", b"[" * 100_000])
def test_any_other_file_is_refused(tmp_path, content):
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a saved chat"):
        Conversation.load(path)


def test_every_setting_says_what_is_allowed():
    assert all(setting.allowed and setting.about for setting in SETTINGS.values())
