"""What the shared options mean."""

from __future__ import annotations

import io
from types import SimpleNamespace

import click
import pytest

from gemstead.backend import TABLE
from gemstead.cli.options import Memory, check_text, read_stdin, read_thinking
from gemstead.errors import InputError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000", 1000),
        ("6GB", 6 * 10**9),
        ("6 gb", 6 * 10**9),
        ("1.5G", 15 * 10**8),
        ("512MiB", 512 * 2**20),
        ("2k", 2000),
        (".5Ki", 512),
    ],
)
def test_memory(text, size):
    assert Memory().convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "1XB", "6 apples", "1e9", "i", "1iB"])
def test_memory_that_is_none(text):
    with pytest.raises(click.BadParameter, match="is not an amount of memory"):
        Memory().convert(text, None, None)


def test_threads_may_be_left_to_the_machine(gem, fake, script):
    model = fake(script.says("ok"))
    assert gem("run", "--threads", "auto", "hi").code == 0
    assert model.opened[0][1]["threads"] is None


def test_options_reach_the_model(gem, fake, script):
    model = fake(script.says("ok"))
    ran = gem(
        *("run", "--backend", "reference", "--threads", "3", "--memory", "1GB", "--context", "512"),
        *("--drafter", "d.gguf", "--temperature", "0.5", "--top-k", "7", "--top-p", "0.8", "--min-p", "0.1"),
        *(
            "--max-tokens",
            "20",
            "--seed",
            "9",
            "--system",
            "Be brief.",
            "--thinking",
            "on",
            "--no-tools",
            "--prefix-cache-dir",
            "kept",
            "--kv",
            "q8_0",
            "hi",
        ),
    )
    assert ran.code == 0
    assert model.opened == [
        (
            "pebble",
            {"backend": "reference", "threads": 3, "memory": 10**9, "context": 512, "drafter": "d.gguf"}
            | {"prefix_cache_dir": "kept", "kv": "q8_0", "adapters": None},
        )
    ]
    asked = model.asked[0]
    assert [message.role for message in asked["messages"]] == ["system", "user"]
    assert asked["tools"] == ()
    assert {name: asked[name] for name in ("temperature", "top_k", "top_p", "min_p")} == {
        "temperature": 0.5,
        "top_k": 7,
        "top_p": 0.8,
        "min_p": 0.1,
    }
    assert (asked["max_tokens"], asked["seed"], asked["thinking"]) == (20, 9, True)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("on", True),
        ("OFF", False),
        ("0", 0),
        ("300", 300),
        ("low", "low"),
        ("none", "none"),
        ("High", "high"),
    ],
)
def test_thinking(gem, fake, script, text, wanted):
    model = fake(script.says("ok"))
    assert gem("run", "--thinking", text, "hi").code == 0
    asked = model.asked[0]["thinking"]
    assert (asked, type(asked)) == (wanted, type(wanted))


@pytest.mark.parametrize("text", ["", "maybe", "-1", "1.5", "1e3", "²", "onn"])
def test_thinking_that_is_none(text):
    with pytest.raises(ValueError):
        read_thinking(text)


def test_guards_reach_the_turn(gem, fake, script):
    model = fake(*(script.calls("calculator", expression="1") for _ in range(3)))
    ran = gem("run", "--loop-guard", "0", "--max-same-calls", "2", "-m", "pebble", "hi")
    assert model.asked[0]["loop_guard"] == 0
    assert len(model.asked) == 2
    assert "stopped: calculator was called 2 times in a row with the same arguments" in ran.err
    model = fake(*(script.calls("calculator", expression="1") for _ in range(6)), script.says("ok"))
    assert gem("run", "--max-same-calls", "0", "-m", "pebble", "hi").out == "ok\n"


def test_what_is_not_given_is_the_models_choice(gem, fake, script):
    model = fake(script.says("ok"))
    gem("run", "hi")
    assert model.opened == [
        (
            "pebble",
            dict.fromkeys(("drafter", "threads", "memory", "context", "prefix_cache_dir", "adapters"))
            | {"backend": "auto", "kv": "f16"},
        )
    ]
    assert set(model.asked[0]) == {"messages", "tools", "thinking"}


def test_bytes_that_are_no_text():
    with pytest.raises(InputError, match="the prompt is not valid UTF-8"):
        check_text("a\udcff", "the prompt")
    stream = io.TextIOWrapper(io.BytesIO(b"ok\xff"))
    with pytest.raises(InputError, match="byte 2 is 0xff"):
        read_stdin(stream)


def test_every_backend_can_be_chosen():
    """The choices are written out, since --help must not import what computes."""
    from gemstead.cli.main import cli

    run = cli.get_command(cli.make_context("gemstead", [], resilient_parsing=True), "run")
    (option,) = (p for p in run.params if p.name == "backend")
    assert set(option.type.choices) == set(TABLE)


@pytest.mark.parametrize("command", [("run", "hi"), ("chat",)])
def test_an_adapter_is_opened_and_asked_for(gem, fake, script, command, tmp_path):
    model = fake(script.says("ok"))
    ran = gem(*command, "--adapter", str(tmp_path), stdin="hi\n/show\n")
    assert ran.code == 0
    assert (f"  with   {tmp_path}" in ran.err) == (command == ("chat",))
    assert model.opened[0][1]["adapters"] == {str(tmp_path): tmp_path}
    assert model.asked[0]["adapter"] == str(tmp_path)


def test_an_adapter_that_is_none(gem):
    ran = gem("run", "--adapter", "nowhere", "-m", "pebble", "hi")
    assert ran.code != 0
    assert "cannot open the adapter nowhere: there is no such folder; an adapter is a folder with" in ran.err


def test_standard_input_that_does_not_end_is_refused():
    class Endless(io.RawIOBase):
        def read(self, count=-1):
            assert 0 < count < 1 << 26
            return b"x" * count

    with pytest.raises(InputError, match="standard input is longer than 32 MiB"):
        read_stdin(SimpleNamespace(buffer=Endless()))
