"""`gemstead serve` before it listens: keys, places and names."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from gemstead.cli.options import Options
from gemstead.cli.screen import Screen
from gemstead.cli.serve import (
    ADMIN_VARIABLE,
    KEY_VARIABLE,
    access_of,
    keep_alive_of,
    named_by,
    offers_of,
    tuned_by,
    words_of,
)
from gemstead.errors import ConfigError
from gemstead.spec.variants import DRAFTERS
from gemstead.weights.model_file import write_model_folder
from gemstead.weights.store import open_store
from support.memory_store import MemoryStore

KEY = "a-key-0123456789abc"


@pytest.fixture
def access(monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.delenv(ADMIN_VARIABLE, raising=False)

    def make(host="127.0.0.1", file=None):
        return access_of({"host": host, "api_key_file": file, "hosts": ("box",), "origins": ()}, Screen())

    return make


def test_words():
    assert words_of(" a \n\n b\n") == ("a", "b")


def test_this_machine_needs_no_key(access, capsys):
    assert access().keys == ()
    assert capsys.readouterr().out == ""


def test_elsewhere_gets_a_key_on_stdout_alone(access, capsys):
    made = access("0.0.0.0")
    printed = capsys.readouterr()
    assert printed.out == made.keys[0] + "\n"
    assert made.keys[0] not in printed.err
    assert "key" in printed.err


def test_keys_of_environment_and_file(access, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    monkeypatch.setenv(ADMIN_VARIABLE, KEY + "admin")
    file = tmp_path / "keys"
    file.write_text(f"\n{KEY}2\n{KEY}3\n")
    made = access("0.0.0.0", str(file))
    assert made.keys == (KEY, KEY + "2", KEY + "3")
    assert made.admin_keys == (KEY + "admin",)
    assert capsys.readouterr().out == ""


def test_an_empty_variable_or_file_is_no_key(access, monkeypatch, tmp_path):
    (tmp_path / "keys").write_text("\n")
    with pytest.raises(ConfigError, match="holds no key"):
        access("127.0.0.1", str(tmp_path / "keys"))
    monkeypatch.setenv(KEY_VARIABLE, "")
    with pytest.raises(ConfigError, match="is empty"):
        access("127.0.0.1")


def test_each_alias_means_one_model():
    one = {"e2b": "e2b"}
    assert named_by(("gpt", "o=e2b"), one, ("e2b",)) == {"e2b": ["gpt", "o"]}
    tuned = {**one, "warm": "warm"}  # an adapter is no model: a bare alias is still the model's
    assert named_by(("gpt", "o=warm"), tuned, ("e2b",)) == {"e2b": ["gpt"], "warm": ["o"]}
    two = {"e2b": "e2b", "stone": "stone", "a/stone.gguf": "stone"}
    assert named_by(("gpt=stone", "o=a/stone.gguf"), two, ("e2b", "stone")) == {
        "e2b": [],
        "stone": ["gpt", "o"],
    }
    for aliases, names in [
        (("gpt",), two),
        (("gpt=x",), two),
        (("stone",), one | {"stone": "stone"}),
        (("=e2b",), one),
    ]:
        with pytest.raises(ConfigError, match="names none"):
            named_by(aliases, names, tuple(set(names.values())))
    for aliases in (("e2b",), ("gpt", "gpt=e2b")):
        with pytest.raises(ConfigError, match="taken already"):
            named_by(aliases, one, ("e2b",))


def test_each_adapter_tunes_one_model():
    one = {"e2b": "e2b"}
    given = ("a=./a", "b=e2b:b:c", "c=~/c")
    assert tuned_by(given, one, one) == {
        "e2b": {"a": Path("a"), "b": Path("b:c"), "c": Path.home() / "c"},
    }
    two = {"e2b": "e2b", "e2b:q4": "e2b:q4", "x/e2b.gguf": "e2b"}
    assert tuned_by(("a=e2b:q4:a", "b=x/e2b.gguf:b"), two, two) == {
        "e2b": {"b": Path("b")},
        "e2b:q4": {"a": Path("a")},
    }
    for given, said in [
        ("a=./a", r"which model it tunes; write a=MODEL:./a with one of e2b, e2b:q4"),
        ("a=e4b:a", "which model"),
        ("a", "is not NAME=FOLDER"),
        ("a=e2b:", "is not NAME=FOLDER"),
        ("=a", "is not NAME=FOLDER"),
        ("a\n=e2b:a", "is not NAME=FOLDER"),
        ("e2b=e2b:a", "e2b is taken already"),
    ]:
        with pytest.raises(ConfigError, match=said):
            tuned_by((given,), two, two)
    with pytest.raises(ConfigError, match="taken already"):
        tuned_by(("a=a", "a=b"), one, one)


def test_a_drafter_and_the_forwards_are_counted(tmp_path):
    spec = DRAFTERS["tiny-e2b"]
    arrays = {name: tensor.values for name, tensor in MemoryStore(spec).tensors.items()}
    write_model_folder(tmp_path, spec, arrays, "f32")
    with open_store(tmp_path) as drafter:
        drafter_bytes = drafter.total_bytes
    worked = [
        offers_of(("pebble",), (), (), Options(drafter=drafter, threads=1), Screen())[0].work_bytes
        for drafter in (None, "ngram", str(tmp_path))
    ]
    assert worked[0] == worked[1] > 1 << 20
    assert worked[2] - worked[0] == drafter_bytes > 0


def test_how_long_models_are_kept():
    assert keep_alive_of(None, 1) == math.inf
    assert keep_alive_of(None, 2) == 300
    assert keep_alive_of("10m", 1) == 600
    with pytest.raises(ConfigError, match="--keep-alive is 'soon'"):
        keep_alive_of("soon", 1)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--memory", "150MB"], "pebble can never be opened within 150,000,000 bytes"),
        (["pebble", "pebble"], "two models are called pebble"),
        (["--drafter", "x.gguf", "pebble", "PEBBLE"], "belongs to one model"),
    ],
)
def test_mistakes_before_it_listens(gem, args, said):
    ran = gem("serve", "--port", "0", *args)
    assert ran.code == 1
    assert said in ran.err


def test_short_keys_are_refused(access, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, "short")
    with pytest.raises(ConfigError, match="at least 16"):
        access()
