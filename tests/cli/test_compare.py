"""gemstead compare: the report, the picture, and the likely mistakes."""

from __future__ import annotations

import json
import math

import pytest

from gemstead import pebble
from gemstead.cli.compare import Text, conversations, verdict
from gemstead.cli.conversation import Conversation
from gemstead.errors import InputError
from gemstead.machine.compare import Comparison, Passage, Side
from gemstead.types import Message
from gemstead.weights.store import open_store
from support.vocab import small_tokenizer

TALK = [
    {"role": "user", "content": "What is 2 + 3?"},
    {"role": "assistant", "content": "2 + 3 is 5."},
    {"role": "user", "content": "And 4 + 4?"},
    {"role": "assistant", "content": "It is 8."},
]


@pytest.fixture
def smaller(gem, tmp_path):
    path = tmp_path / "q4.gguf"
    assert gem("quantize", "pebble", str(path), "--format", "q4_0").code == 0
    return str(path)


def test_text(gem, tmp_path, smaller):
    file = tmp_path / "mine.txt"
    file.write_text("The weather in Paris is mild today. " * 20)
    ran = gem("compare", "pebble", smaller, "--text", str(file), "--tokens", "60")
    assert ran.code == 0, ran.err
    assert "KL divergence over 60 tokens: mean 0." in ran.out
    last = ran.out.splitlines()[-1]
    assert last.startswith("B differs")
    assert "% of the places both would go on with the same token" in last
    assert "B is 35% smaller and writes" in last
    found = json.loads(gem("compare", "pebble", smaller, "--text", str(file), "--tokens", "60", "--json").out)
    assert len(found["kl"]) == found["tokens"] == 60
    assert 0 < found["kl_median"] <= found["kl_mean"] <= found["kl_max"]
    assert 0.5 < found["top1_agreement"] < 1
    assert found["second"]["format"] == "q4_0"


def test_chat_judges_what_the_assistant_said(gem, tmp_path, smaller):
    file = tmp_path / "talk.json"
    file.write_text(json.dumps(TALK))
    ran = gem("compare", "pebble", smaller, "--chat", str(file), "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert 8 <= found["tokens"] <= 20  # two short answers and their ends
    assert found["first"]["perplexity"] < 1000


def test_the_picture(gem, tmp_path, smaller):
    pytest.importorskip("matplotlib")
    (tmp_path / "mine.txt").write_text("What is 17% of 2400? " * 10)
    args = ["compare", "pebble", smaller, "--text", str(tmp_path / "mine.txt"), "--tokens", "40"]
    ran = gem(*args, "--plot", str(tmp_path / "p.png"))
    assert "drawn to" in ran.err
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert "does not exist; make it first" in gem(*args, "--plot", str(tmp_path / "no/p.png")).err


def test_two_vocabularies(gem, tmp_path):
    raw = pebble.path().read_bytes()
    other = tmp_path / "other.gguf"
    with open_store(pebble.path()) as store:
        tokens = store.vocabulary().tokens
        number = next(i for i, token in enumerate(tokens) if token.startswith("<unused"))
    name = tokens[number].encode()
    other.write_bytes(raw.replace(name, name.replace(b"<unused", b"<UNUSED"), 1))
    (tmp_path / "mine.txt").write_text("Hello")
    ran = gem("compare", "pebble", str(other), "--text", str(tmp_path / "mine.txt"))
    assert ran.code == 1
    assert "different vocabularies, so their expectations cannot be compared: 1 of 4,096" in ran.err


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([], 2, "give --text FILE or --chat FILE"),
        (["--text", "a", "--chat", "b"], 2, "give --text FILE or --chat FILE"),
        (["--text", "nothing.txt"], 1, "nothing.txt cannot be read"),
        (["--text", "empty.txt"], 1, "holds nothing to judge: no text"),
        (["--chat", "user.json"], 1, "holds nothing to judge: no answers"),
        (["--chat", "odd.json"], 1, "holds no conversation"),
        (["--chat", "empty.txt"], 1, "holds nothing to judge: no answers"),
    ],
)
def test_mistakes(gem, tmp_path, monkeypatch, args, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "user.json").write_text(json.dumps(TALK[:1]))
    (tmp_path / "odd.json").write_text('{"a": 1}')
    ran = gem("compare", "pebble", "pebble", *args)
    assert ran.code == code
    assert message in ran.err


def test_every_form_of_a_conversation(tmp_path):
    want = [Message.user("What is 2 + 3?"), Message.assistant("2 + 3 is 5.")]
    plain, lines, saved = tmp_path / "a.json", tmp_path / "b.jsonl", tmp_path / "c.json"
    plain.write_text(json.dumps({"messages": TALK[:2]}))
    lines.write_text(json.dumps(TALK[:2]) + "\n\n" + json.dumps({"messages": TALK[:2]}) + "\n")
    Conversation(messages=want).save(saved, "pebble")
    assert conversations(plain) == [want]
    assert conversations(lines) == [want, want]
    assert conversations(saved) == [want]
    plain.write_text("{")
    with pytest.raises(InputError, match="neither JSON nor"):
        conversations(plain)


def side(perplexity: float = 1.0, **more) -> Side:
    fields = {"name": "m", "path": "m", "format": "q4_0", "bytes": 100, "backend": "native"}
    made = Side(**(fields | more), prefill_tokens_s=10.0, decode_tokens_s=10.0, choices=[1])
    made.surprise = [math.log(perplexity)]
    return made


@pytest.mark.parametrize(
    ("divergence", "words"),
    [(0.0, "says the same as A"), (0.005, "hardly differs"), (0.1, "clearly"), (3, "strongly")],
)
def test_the_verdict_says_how_much(divergence, words):
    text = verdict(Comparison(side(), side(bytes=50), [divergence]))
    assert words in text
    assert "foresees your text as well as A. B is 50% smaller and writes 1.00 times as fast here." in text


def test_the_verdict_says_who_is_surprised():
    assert "B is 10.0% more surprised" in verdict(Comparison(side(), side(1.1), [0.1]))
    assert "B is 10.0% less surprised" in verdict(Comparison(side(), side(0.9, bytes=200), [0.1]))


def test_a_place_in_the_text():
    ids = small_tokenizer().encode("the user in the model")
    text = Text(small_tokenizer(), [Passage((2, ids[0])), Passage((2, *ids), 3)])
    assert text.place(0) == ("<bos>", ids[0])
    before, token = text.place(1)
    assert before.endswith(small_tokenizer().decode(ids[:2]))
    assert token == ids[2]
    with pytest.raises(IndexError):
        text.place(99)
