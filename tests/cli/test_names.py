"""MODEL or PROMPT: which word is which."""

from __future__ import annotations

import pytest

from gemstead.cli.names import Target, seems_a_model, split_words
from gemstead.errors import ConfigError, HubError


@pytest.mark.parametrize(
    ("words", "model", "target"),
    [
        (["What is 17% of 2400?"], None, Target("pebble", ("What is 17% of 2400?",), is_default=True)),
        (["What", "is", "it?"], None, Target("pebble", ("What", "is", "it?"), is_default=True)),
        ([], None, Target("pebble", (), is_default=True)),
        (["pebble", "hello"], None, Target("pebble", ("hello",))),
        (["pebble"], None, Target("pebble", ())),
        (["pebble", "hello"], "pebble", Target("pebble", ("pebble", "hello"))),
        (["gemma is a model?"], None, Target("pebble", ("gemma is a model?",), is_default=True)),
        (["either/or?"], None, Target("pebble", ("either/or?",), is_default=True)),
        (["note:5", "is", "it?"], None, Target("pebble", ("note:5", "is", "it?"), is_default=True)),
        (["Translate:latest", "news"], "pebble", Target("pebble", ("Translate:latest", "news"))),
        ([""], None, Target("pebble", ("",), is_default=True)),
        (["a\0b"], None, Target("pebble", ("a\0b",), is_default=True)),
        (["long " * 2000], None, Target("pebble", ("long " * 2000,), is_default=True)),
    ],
)
def test_split(words, model, target):
    assert split_words(words, model) == target


def test_an_existing_path_is_the_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "model.gguf").touch()
    assert split_words(["mine", "hi"]) == Target("mine", ("hi",))
    assert split_words(["model.gguf", "hi"]) == Target("model.gguf", ("hi",))
    assert split_words(["hi", "model.gguf"]) == Target("pebble", ("hi", "model.gguf"), is_default=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert split_words(["~/mine"]) == Target(str(tmp_path / "mine"), ())


@pytest.mark.parametrize(
    "name",
    [
        "e2b",
        "26b-a4b",
        "gemma4:e2b",
        "Gemma-4-E4B-it",
        "google/gemma-4-12b-it",
        "hf.co/a/gemma-4:Q4_0",
    ],
)
def test_a_model_that_must_be_downloaded(name):
    with pytest.raises(
        HubError, match=f"the model '{name}' is not on this machine; gemstead pull {name} fetches"
    ):
        split_words([name, "hi"])


def test_a_name_that_could_be_several():
    with pytest.raises(HubError, match="'gemma4' could be several models; say which: gemma4:e2b-it-qat, "):
        split_words(["gemma4", "hi"])


@pytest.mark.parametrize("path", ["./no.gguf", "/no/such/model", "no.gguf", "no.safetensors", "~/no-such"])
def test_a_path_that_is_not_there(path):
    with pytest.raises(ConfigError, match="there is no model"):
        split_words([path, "hi"])


def test_an_explicit_model_must_exist():
    with pytest.raises(HubError, match=r"there is no model 'hello'; known are gemma4:e2b-it-qat"):
        split_words(["hello"], "hello")


@pytest.mark.parametrize(
    "name", ["gemma4:nope", "llama3.2:3b", "gemma3:latest", "qwen3:30b-a3b", "gemma3n:e9b", "x:0.6b-q4_0"]
)
def test_the_names_of_others_are_no_prompt(name):
    with pytest.raises(HubError, match=f"there is no model '{name}'; (known are|did you mean) "):
        split_words([name, "hi"])


@pytest.mark.parametrize("word", ["pebble", "Pebble", "PEBBLE:latest"])
def test_pebble_in_any_case_and_with_its_tag(word):
    assert split_words([word, "hi"]) == Target("pebble", ("hi",))


@pytest.mark.parametrize(
    ("words", "seems"),
    [
        (("llama3", "hi"), True),
        (("qwen2.5", "hi"), True),
        (("meta-llama/Llama-3-8B", "hi"), True),
        (("peble", "hi"), True),
        (("e2", "hi"), True),
        (("e2z", "hi"), True),
        (("What", "is", "2+2?"), False),
        (("and/or", "what?"), False),
        (("llama3",), False),
        (("What is llama3?", "Say it"), False),
        (("2", "+", "2"), False),
    ],
)
def test_a_first_word_that_seems_a_model(words, seems):
    assert seems_a_model(words) is seems
